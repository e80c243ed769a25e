/*
 * Answers kept for repeated queries, and queries that are asked together.
 */
#include "query/query.h"
#include "query/results.h"
#include "tests/fixture.h"
#include "tests/test.h"

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS };

static struct vf_fixture *make_fixture(void)
{
	return vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_COSINE, .dtype = VF_F32, .bits = 5});
}

static struct vf_view *open_keeping(const struct vf_fixture *f, size_t len)
{
	struct vf_view_options opt = {.results_len = len};
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, &opt, &v), 0);
	return v;
}

/* Ask, and tell whether the answer was one kept. */
static bool is_repeated(struct vf_view *v, const float *q, struct vf_search s)
{
	struct vf_answer *a;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, q, &s, &a), 0);
	CU_ASSERT_EQUAL(a->n_hits, s.k);
	bool repeated = a->cost.is_repeated;
	vf_answer_free(a);
	return repeated;
}

static void the_same_query_is_answered_from_memory(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *v = open_keeping(f, 1 << 20);
	struct vf_search s = {.k = 4};
	struct vf_answer *a, *b;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[1], &s, &a), 0);
	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[1], &s, &b), 0);
	CU_ASSERT(!a->cost.is_repeated && b->cost.is_repeated);
	CU_ASSERT_EQUAL(b->cost.rows_read, 0);
	CU_ASSERT_EQUAL_FATAL(b->n_hits, a->n_hits);
	for (size_t i = 0; i < a->n_hits; i++) {
		CU_ASSERT_STRING_EQUAL(a->hits[i].key, b->hits[i].key);
		CU_ASSERT_STRING_EQUAL(a->hits[i].metadata,
				       b->hits[i].metadata);
		CU_ASSERT_EQUAL(a->hits[i].distance, b->hits[i].distance);
	}
	vf_answer_free(a);
	vf_answer_free(b);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void other_knobs_are_another_query(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *v = open_keeping(f, 1 << 20);
	const struct vf_search other[] = {{.k = 5},
					  {.k = 4, .candidates = 9},
					  {.k = 4, .exact = true},
					  {.k = 4, .rerank = VF_RERANK_FAST},
					  {.k = 4, .hamming = true},
					  {.k = 4, .no_metadata = true},
					  {.k = 4, .probes = 3}};

	CU_ASSERT(!is_repeated(v, f->x[1], (struct vf_search){.k = 4}));
	for (size_t i = 0; i < VF_N(other); i++)
		CU_ASSERT(!is_repeated(v, f->x[1], other[i]));
	CU_ASSERT(!is_repeated(v, f->x[2], (struct vf_search){.k = 4}));
	CU_ASSERT(is_repeated(v, f->x[1], (struct vf_search){.k = 4}));
	/* Limits that cut nothing give the same answer. */
	CU_ASSERT(is_repeated(v, f->x[1],
			      (struct vf_search){.k = 4, .max_gets = 3}));
	vf_view_close(v);
	vf_fixture_free(f);
}

static void the_longest_unused_go_first(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *v = open_keeping(f, 3000); /* three answers or so */
	struct vf_search s = {.k = 10};

	is_repeated(v, f->x[0], s);
	for (size_t i = 1; i < 40; i++) {
		is_repeated(v, f->x[i * 5], s);
		CU_ASSERT(is_repeated(v, f->x[0], s));
	}
	CU_ASSERT(!is_repeated(v, f->x[5], s));
	vf_view_close(v);
	v = open_keeping(f, 200); /* none fits */
	CU_ASSERT(!is_repeated(v, f->x[0], s));
	CU_ASSERT(!is_repeated(v, f->x[0], s));
	vf_view_close(v);
	vf_fixture_free(f);
}

/* ---- together ------------------------------------------------------------------------- */

static void check_same(const struct vf_answer *a, const struct vf_answer *b)
{
	CU_ASSERT_EQUAL_FATAL(a->n_hits, b->n_hits);
	for (size_t i = 0; i < a->n_hits; i++) {
		CU_ASSERT_STRING_EQUAL(a->hits[i].key, b->hits[i].key);
		CU_ASSERT_EQUAL(a->hits[i].distance, b->hits[i].distance);
	}
	CU_ASSERT_EQUAL(a->cost.rows_read, b->cost.rows_read);
	CU_ASSERT_EQUAL(a->cost.scanned, b->cost.scanned);
}

static void queries_together_have_the_answers_of_each_alone(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *v = open_keeping(f, 0);
	struct vf_query q[8] = {{.search = {.k = 3}},
				{.search = {.k = 10, .candidates = 50}},
				{.search = {.k = 10, .exact = true}},
				{.search = {.k = 0}},
				{.search = {.k = 7, .hamming = true}},
				{.search = {.k = 2, .rerank = VF_RERANK_FAST}},
				{.search = {.k = 2, .rerank = VF_RERANK_NONE}},
				{.search = {.k = ROWS}}};

	for (size_t i = 0; i < VF_N(q); i++)
		q[i].q = f->x[i * 31];
	CU_ASSERT_EQUAL(vf_view_search_many(v, q, VF_N(q)), -EINVAL);
	for (size_t i = 0; i < VF_N(q); i++) {
		struct vf_answer *alone;
		CU_ASSERT_EQUAL(q[i].err, q[i].search.k ? 0 : -EINVAL);
		if (!q[i].answer)
			continue;
		CU_ASSERT_EQUAL_FATAL(
			vf_view_search(v, q[i].q, &q[i].search, &alone), 0);
		check_same(q[i].answer, alone);
		vf_answer_free(alone);
		vf_answer_free(q[i].answer);
	}
	CU_ASSERT_EQUAL(vf_view_search_many(v, NULL, 0), 0);
	vf_view_close(v);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"the same query is answered from memory",
	 the_same_query_is_answered_from_memory},
	{"other knobs are another query", other_knobs_are_another_query},
	{"the longest unused go first", the_longest_unused_go_first},
	{"queries together have the answers of each alone",
	 queries_together_have_the_answers_of_each_alone},
	CU_TEST_INFO_NULL};
VF_SUITE("query/results", tests);
