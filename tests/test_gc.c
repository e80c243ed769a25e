/*
 * What gc leaves is enough for every version that is kept, and for the gc after
 * it.
 */
#include "store/checkpoint.h"
#include "store/gc.h"
#include "store/log_fetch.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

/* Rows of one length: whose numbers have seven digits. */
static uint64_t add_rows(struct vf_bucket *b, struct vf_state **s, uint32_t n)
{
	VF_AUTO_BUF struct vf_buf store = {0};
	uint32_t first = 1000000 + 10000 * (uint32_t)(*s)->head;

	CU_ASSERT_EQUAL(commit_one(b, s, rows_op(16, first, n, 0, &store)), 0);
	return (*s)->head;
}

static void kill_rows(struct vf_bucket *b, struct vf_state **s, uint64_t record,
		      uint32_t n)
{
	VF_AUTO_BUF struct vf_buf kills = {0};
	struct vf_op op = {.kind = VF_OP_KILL, .kill.record = record};
	VF_AUTO_FREE uint32_t *rows = malloc(n * sizeof(*rows));

	for (uint32_t i = 0; i < n; i++)
		rows[i] = i;
	CU_ASSERT_EQUAL(vf_kill_pack(rows, n, &op.kill, &kills), 0);
	CU_ASSERT_EQUAL(commit_one(b, s, op), 0);
}

/* All but the newest version is given up. */
static void collect(struct vf_bucket *b, struct vf_state **s)
{
	struct vf_gc_sweep g = {.bucket = b, .index = "i"};
	struct vf_gc_counts n;

	CU_ASSERT_EQUAL(vf_gc_begin(b, s, (*s)->head), 0);
	g.below = (*s)->oldest;
	CU_ASSERT_EQUAL(vf_gc_sweep(&g, &n), 0);
}

static bool names_only(const struct vf_state *s, uint64_t record)
{
	VF_AUTO_BUF struct vf_buf bytes = {0}, names = {0};
	const struct vf_log_number *n;

	CU_ASSERT_EQUAL(vf_checkpoint_encode(s, &bytes), 0);
	CU_ASSERT_EQUAL(vf_checkpoint_names(bytes.data, bytes.len, &names), 0);
	n = (const struct vf_log_number *)names.data;
	return n && names.len == sizeof(*n) && n->number == record;
}

/*
 * An index could not be read after the second of two gcs.  A checkpoint carries
 * the rows of small records while there is room; which of them it names instead
 * is another question once an earlier one died.  The first gc had deleted a
 * record because its checkpoint carried the rows; that of the second named it.
 */
static void a_record_carried_once_may_be_named_later(void)
{
	enum { N = 2000 };
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 0), *again;
	uint64_t first = add_rows(b, &s, N);

	for (int i = 0; i < 37; i++)
		add_rows(b, &s, N);
	uint64_t wide = add_rows(b, &s, 2400), narrow = add_rows(b, &s, 1600);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	CU_ASSERT(names_only(s, wide));
	collect(b, &s);
	kill_rows(b, &s, first, N);
	CU_ASSERT(names_only(s, narrow));
	collect(b, &s);
	again = load(b, "i");
	CU_ASSERT(same_state(s, again));
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static CU_TestInfo tests[] = {
	{"a record carried once may be named later",
	 a_record_carried_once_may_be_named_later},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/gc", tests);
