/*
 * Checkpoints: a state comes back from one as from the log, readers begin at
 * the newest sound one, and what lies behind a boundary means nothing.
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include <xxhash.h>

static void count_line(void *arg, enum vf_level level, const char *line)
{
	if (arg)
		++*(int *)arg;
}

/* Rows in shards and in records, some dead; one record too large to carry. */
static void change(struct vf_bucket *b, struct vf_state **s, uint32_t i)
{
	VF_AUTO_BUF struct vf_buf store = {0}, kills = {0};
	uint32_t dead[2] = {i % 3, 3 + i % 2};
	struct vf_op op =
		rows_op(16, 1000 * i, i % 16 == 9 ? 4000 : 5, 0, &store);

	CU_ASSERT_EQUAL(commit_one(b, s, op), 0);
	if (i % 4 == 1)
		CU_ASSERT_EQUAL(
			commit_one(b, s, shard_op((*s)->head, 100, 7 * i)), 0);
	op = (struct vf_op){.kind = VF_OP_KILL};
	if (i % 4 == 1)
		strcpy(op.kill.shard, (*s)->shards[(*s)->n_shards - 1].name);
	else
		op.kill.record = (*s)->tail[(*s)->n_tail - 1].record;
	CU_ASSERT_EQUAL(vf_kill_pack(dead, 2, &op.kill, &kills), 0);
	CU_ASSERT_EQUAL(commit_one(b, s, op), 0);
}

static struct vf_state *make_long(struct vf_bucket *b, uint64_t head)
{
	struct vf_state *s = make_index(b, 2);

	for (uint32_t i = 0; s->head < head; i++)
		change(b, &s, i);
	return s;
}

/* Two states are one when their checkpoints are. */
static bool same(const struct vf_state *a, const struct vf_state *b)
{
	VF_AUTO_BUF struct vf_buf x = {0}, y = {0};

	CU_ASSERT_EQUAL(vf_checkpoint_encode(a, &x), 0);
	CU_ASSERT_EQUAL(vf_checkpoint_encode(b, &y), 0);
	return same_state(a, b) && x.len == y.len &&
	       !memcmp(x.data, y.data, x.len);
}

static uint64_t count_gets(struct vf_bucket *b)
{
	struct vf_bucket_stats st;

	vf_bucket_stats(b, &st);
	return st.n_get;
}

static void remove_key(struct vf_bucket *b, const char *folder, uint64_t n)
{
	char key[VF_LOG_KEY_LEN];

	vf_log_key("i", folder, n, key);
	CU_ASSERT_EQUAL(vf_bucket_delete(b, key), 0);
}

static void damage(struct vf_bucket *b, uint64_t n)
{
	char key[VF_LOG_KEY_LEN];

	vf_log_key("i", "checkpoint", n, key);
	put(b, key, "VFCHECKP, and then nothing of the kind");
}

/* ---- bytes ----------------------------------------------------------------------- */

static void a_state_comes_back(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_long(b, 60), *again = load(b, "i"), *back;
	VF_AUTO_BUF struct vf_buf bytes = {0};
	const char *why;

	CU_ASSERT(same(s, again));
	CU_ASSERT_EQUAL(vf_checkpoint_encode(s, &bytes), 0);
	vf_state_free(again);
	/* A record is named that nobody gives us. */
	CU_ASSERT_EQUAL(vf_checkpoint_parse(bytes.data, bytes.len, "i", s->uuid,
					    NULL, NULL, &back, &why),
			-EBADMSG);
	CU_ASSERT_EQUAL(vf_log_checkpoint(b, s), 0);
	uint64_t before = count_gets(b);
	again = load(b, "i");
	CU_ASSERT(same(s, again));
	CU_ASSERT_EQUAL(again->checkpoint, s->head);
	/* Identity, checkpoint, two large records in two requests each. */
	CU_ASSERT(count_gets(b) - before <= 6);
	for (size_t i = 0; i < s->n_tail; i++)
		CU_ASSERT_EQUAL(s->tail[i].checksum, again->tail[i].checksum);
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void a_dropped_index_comes_back(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 2), *again;

	CU_ASSERT_EQUAL(commit_one(b, &s, (struct vf_op){.kind = VF_OP_DROP}),
			0);
	CU_ASSERT_EQUAL(vf_log_checkpoint(b, s), 0);
	again = load(b, "i");
	CU_ASSERT(same(s, again) && again->dropped && !again->configured);
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void every_flipped_byte_is_refused(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 2), *back = NULL;
	VF_AUTO_BUF struct vf_buf bytes = {0}, store = {0};
	const char *why;

	CU_ASSERT_EQUAL(commit_one(b, &s, rows_op(16, 1, 3, 0, &store)), 0);
	CU_ASSERT_EQUAL(vf_checkpoint_encode(s, &bytes), 0);
	for (size_t i = 0; i < bytes.len; i++) {
		bytes.data[i] ^= 4;
		int err = vf_checkpoint_parse(bytes.data, bytes.len, "i",
					      s->uuid, NULL, NULL, &back, &why);
		CU_ASSERT(err == -EBADMSG || (err == -ENOTSUP && i / 4 == 2));
		CU_ASSERT(why && !back);
		bytes.data[i] ^= 4;
	}
	for (size_t len = 0; len < bytes.len; len += 7)
		CU_ASSERT_EQUAL(vf_checkpoint_parse(bytes.data, len, "i",
						    s->uuid, NULL, NULL, &back,
						    &why),
				-EBADMSG);
	CU_ASSERT_EQUAL(vf_checkpoint_parse(bytes.data, bytes.len, "i",
					    (uint8_t[16]){1}, NULL, NULL, &back,
					    &why),
			-EBADMSG);
	vf_state_free(s);
	vf_bucket_close(b);
}

/* ---- reading -------------------------------------------------------------------------- */

static void a_long_log_opens_with_few_requests(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 1), *again;

	while (s->head < 1000)
		CU_ASSERT_EQUAL(
			commit_one(b, &s,
				   (struct vf_op){.kind = VF_OP_COLLECT,
						  .collect_below = s->head}),
			0);
	uint64_t before = count_gets(b);
	again = load(b, "i");
	CU_ASSERT(same(s, again));
	CU_ASSERT_EQUAL(again->checkpoint, 960);
	CU_ASSERT_EQUAL(count_gets(b) - before, 2 + 40);
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void a_damaged_one_gives_way_to_an_older_one(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_long(b, 140), *again;
	int lines = 0;

	vf_log_set(count_line, &lines, VF_WARN);
	damage(b, 128);
	again = load(b, "i");
	CU_ASSERT(same(s, again) && again->checkpoint == 64);
	CU_ASSERT_EQUAL(lines, 1);
	vf_state_free(again);
	damage(b, 64);
	again = load(b, "i");
	CU_ASSERT(same(s, again) && again->checkpoint == 0);
	CU_ASSERT_EQUAL(lines, 3);
	vf_test_log_reset();
	/* Who finds one missing writes one with the next commit. */
	CU_ASSERT_EQUAL(commit_one(b, &again, shard_op(again->head, 5, 0)), 0);
	CU_ASSERT_EQUAL(again->checkpoint, again->head);
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void an_old_commit_is_read_from_an_older_one(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_long(b, 140), *old;

	CU_ASSERT_EQUAL(vf_state_load_at(b, "i", 100, &old), 0);
	CU_ASSERT_EQUAL(old->head, 100);
	CU_ASSERT_EQUAL(old->checkpoint, 64);
	vf_state_free(old);
	vf_state_free(s);
	vf_bucket_close(b);
}

/* ---- behind a boundary ------------------------------------------------------------------ */

/* What gc does, without waiting: only @below and what follows it is left. */
static struct vf_state *collect(struct vf_bucket *b, uint64_t below)
{
	struct vf_state *s = load(b, "i");
	char key[VF_LOG_KEY_LEN];

	CU_ASSERT_EQUAL(commit_one(b, &s,
				   (struct vf_op){.kind = VF_OP_COLLECT,
						  .collect_below = below}),
			0);
	vf_log_key("i", "boundary", below, key);
	put(b, key, "");
	for (uint64_t n = 1; n < below; n++)
		remove_key(b, "log", n);
	return s;
}

static void a_reader_that_fell_behind_begins_again(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *old = make_index(b, 3), *s = load(b, "i"), *next;

	while (s->head < 140)
		CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	vf_state_free(s);
	s = collect(b, 128);
	CU_ASSERT_EQUAL(vf_state_refresh(b, old, &next), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(next);
	CU_ASSERT(same(s, next));
	vf_state_free(next);
	CU_ASSERT_EQUAL(vf_state_load_at(b, "i", 100, &next), -ERANGE);
	CU_ASSERT_EQUAL(vf_state_load_at(b, "i", 130, &next), 0);
	vf_state_free(next);
	vf_state_free(s);
	vf_state_free(old);
	vf_bucket_close(b);
}

static void a_writer_that_slept_is_refused(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *old = make_index(b, 3), *s = load(b, "i"), *next;

	while (s->head < 70)
		CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	vf_state_free(s);
	s = collect(b, 64);
	old->checked_ms = 0; /* long ago */
	CU_ASSERT_EQUAL(commit_one(b, &old, shard_op(old->head, 6, 0)),
			-EEXIST);
	/* A request of before, which arrives now: created, and void. */
	old->checked_ms = vf_boot_ms();
	CU_ASSERT_EQUAL(commit_one(b, &old, shard_op(old->head, 6, 0)), 0);
	CU_ASSERT_EQUAL(vf_state_refresh(b, old, &next), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(next);
	CU_ASSERT(same(s, next));
	vf_state_free(next);
	next = load(b, "i");
	CU_ASSERT(same(s, next));
	/* Uploaded before what is kept: upload again. */
	CU_ASSERT_EQUAL(commit_one(b, &next, shard_op(63, 6, 0)), -EBADMSG);
	CU_ASSERT_EQUAL(commit_one(b, &next, shard_op(64, 6, 0)), 0);
	vf_state_free(next);
	vf_state_free(s);
	vf_state_free(old);
	vf_bucket_close(b);
}

static CU_TestInfo tests[] = {
	{"a state comes back", a_state_comes_back},
	{"a dropped index comes back", a_dropped_index_comes_back},
	{"every flipped byte is refused", every_flipped_byte_is_refused},
	{"a long log opens with few requests",
	 a_long_log_opens_with_few_requests},
	{"a damaged one gives way to an older one",
	 a_damaged_one_gives_way_to_an_older_one},
	{"an old commit is read from an older one",
	 an_old_commit_is_read_from_an_older_one},
	{"a reader that fell behind begins again",
	 a_reader_that_fell_behind_begins_again},
	{"a writer that slept is refused", a_writer_that_slept_is_refused},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/checkpoint", tests);
