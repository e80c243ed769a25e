/*
 * Searches of an index some of whose rows died and others are inline in the
 * log: what died is never in an answer, what is inline always can be.
 */
#include "query/query.h"
#include "store/commit.h"
#include "tests/fixture.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include "store/npy.h"

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS, KILLED = 100, INLINE = 5 };

/* Rows 50..149 of the fixture's order die; five rows of 1000.. come inline. */
static struct vf_fixture *write_index(void)
{
	struct vf_fixture *f = vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_EUCLIDEAN, .dtype = VF_F32});
	VF_AUTO_BUF struct vf_buf rows = {0};
	struct vf_buf dead[VF_FIX_SHARDS] = {{0}};
	struct vf_bucket *b = open_bucket(f->root);
	struct vf_state *s = load(b, strrchr(f->path, '/') + 1), *after;
	struct vf_op ops[1 + VF_FIX_SHARDS] = {
		rows_op(DIM, 1000, INLINE, 0, &rows)};
	size_t n = 1;

	for (size_t i = 0; i < VF_FIX_SHARDS; i++) {
		uint32_t list[KILLED], m = 0;
		for (uint64_t id = 50; id < 50 + KILLED; id++) {
			uint64_t base = vf_fixture_base(i);
			if (id >= base && id < base + f->shards[i].n_rows)
				list[m++] = (uint32_t)(id - base);
		}
		if (!m)
			continue;
		ops[n].kind = VF_OP_KILL;
		ops[n].kill = (struct vf_kill){0};
		strcpy(ops[n].kill.shard, f->shards[i].name);
		vf_kill_pack(list, m, &ops[n++].kill, &dead[i]);
	}
	CU_ASSERT_EQUAL_FATAL(vf_commit(b, s, ops, n, &after), 0);
	for (size_t i = 0; i < VF_FIX_SHARDS; i++)
		vf_buf_fini(&dead[i]);
	vf_state_free(after);
	vf_state_free(s);
	vf_bucket_close(b);
	return f;
}

static bool is_dead_key(const char *key)
{
	for (size_t id = 50; id < 50 + KILLED; id++)
		if (!strcmp(key, vf_fixture_key(id)))
			return true;
	return false;
}

static void dead_rows_are_in_no_answer(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v;
	struct vf_answer *a;
	struct vf_view_info info;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	vf_view_info(v, &info);
	CU_ASSERT_EQUAL(info.n_rows, ROWS - KILLED + INLINE);
	for (int exact = 0; exact < 2; exact++) {
		struct vf_search all = {.k = ROWS, .exact = exact};
		CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[60], &all, &a), 0);
		CU_ASSERT_EQUAL(a->n_hits, ROWS - KILLED + INLINE);
		CU_ASSERT(!a->partial);
		for (size_t i = 0; i < a->n_hits; i++)
			CU_ASSERT(!is_dead_key(a->hits[i].key));
		vf_answer_free(a);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

static void inline_rows_are_found(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v;
	struct vf_answer *a;
	float q[DIM];

	for (int i = 0; i < DIM; i++)
		q[i] = 1003;
	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	for (int exact = 0; exact < 2; exact++) {
		struct vf_search s = {.k = 3, .exact = exact};
		CU_ASSERT_EQUAL_FATAL(vf_view_search(v, q, &s, &a), 0);
		CU_ASSERT_EQUAL(a->n_hits, 3);
		CU_ASSERT_STRING_EQUAL(a->hits[0].key, "k1003");
		CU_ASSERT_STRING_EQUAL(a->hits[0].metadata, "{\"n\":1003}");
		CU_ASSERT(a->hits[0].distance == 0 && a->hits[0].row == 3);
		CU_ASSERT_EQUAL(a->hits[0].shard, VF_FIX_SHARDS);
		CU_ASSERT_EQUAL(a->hits[1].distance, DIM);
		vf_answer_free(a);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

static void keys_are_looked_up_among_the_living(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v;
	float x[DIM];

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	CU_ASSERT_EQUAL(vf_view_vector(v, vf_fixture_key(49), x), 0);
	CU_ASSERT(!memcmp(x, f->x[49], sizeof(x)));
	CU_ASSERT_EQUAL(vf_view_vector(v, vf_fixture_key(50), x), -ENOENT);
	CU_ASSERT_EQUAL(vf_view_vector(v, "k1004", x), 0);
	CU_ASSERT_EQUAL(x[7], 1004);
	CU_ASSERT_EQUAL(vf_view_vector(v, "k1005", x), -ENOENT);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* Rows of the log had distances, all others numbers of bits. */
static void bits_are_not_mixed_with_distances(void)
{
	struct vf_search s = {
		.k = 3, .hamming = true, .rerank = VF_RERANK_NONE};
	struct vf_fixture *f = write_index();
	char why[VF_SEARCH_WHY_LEN];
	struct vf_answer *a;
	struct vf_view *v;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	CU_ASSERT_EQUAL(vf_view_check(v, f->x[10], &s, why), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "rows of the log"));
	CU_ASSERT_EQUAL(vf_view_search(v, f->x[10], &s, &a), -EINVAL);
	s.rerank = VF_RERANK_EXACT;
	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[10], &s, &a), 0);
	vf_answer_free(a);
	vf_view_close(v);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"dead rows are in no answer", dead_rows_are_in_no_answer},
	{"inline rows are found", inline_rows_are_found},
	{"keys are looked up among the living",
	 keys_are_looked_up_among_the_living},
	{"bits are not mixed with distances",
	 bits_are_not_mixed_with_distances},
	CU_TEST_INFO_NULL,
};
VF_SUITE("query/tail", tests);
