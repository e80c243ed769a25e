/*
 * Searches under a filter against every row of a small index: the same hits by
 * postings and by records, of several threads at once, and with limits.
 */
#include "query/query.h"
#include "tests/fixture.h"
#include "tests/test.h"

#include <pthread.h>
#include <stdio.h>

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS };

/* The fixture's metadata: of rows 0 and 4, 8...; 2, 6...; and the others. */
static const struct {
	const char *filter;
	unsigned of_four; /* bit i: rows i modulo 4 match */
} lines[] = {
	{"{}", 15},
	{"{\"l\":\"a\"}", 1},
	{"{\"l\":{\"$gt\":0}}", 1},
	{"{\"x\":0.1}", 4},
	{"{\"x\":{\"$exists\":false}}", 11},
	{"{\"$or\":[{\"l\":1},{\"n\":{\"$gt\":1e28}}]}", 5},
	{"{\"s\":{\"$startsWith\":\"}{ \\\"key\"}}", 1},
	{"{\"s\":{\"$ne\":\"}{ \\\"key\\\" \"},\"x\":{\"$nin\":[0.1]}}", 10},
	{"{\"l\":7}", 0},
};

static struct vf_fixture *write_index(void)
{
	return vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_EUCLIDEAN, .dtype = VF_F32, .bits = 5});
}

static struct vf_view *open_index(const struct vf_fixture *f, const char *dir)
{
	const struct vf_view_options opt = {.cache_dir = dir};
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, &opt, &v), 0);
	return v;
}

static bool matches(size_t line, uint64_t row)
{
	return lines[line].of_four >> row % 4 & 1;
}

/* Squared distances of rows that match, ascending; how many. */
static int compare_floats(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static size_t find_by_force(const struct vf_fixture *f, size_t line,
			    const float *q, float out[ROWS])
{
	size_t n = 0;

	for (size_t i = 0; i < ROWS; i++) {
		float sum = 0;
		for (int j = 0; j < DIM; j++)
			sum += (f->x[i][j] - q[j]) * (f->x[i][j] - q[j]);
		if (matches(line, i))
			out[n++] = sum;
	}
	qsort(out, n, sizeof(*out), compare_floats);
	return n;
}

static bool is_right(const struct vf_fixture *f, struct vf_view *v, size_t line,
		     const float *q, struct vf_search s)
{
	struct vf_answer *a = NULL;
	float want[ROWS];
	size_t n = find_by_force(f, line, q, want);
	bool is_sure = s.exact || s.candidates == ROWS, right;

	s.filter = lines[line].filter;
	if (vf_view_search(v, q, &s, &a))
		return false;
	right = a->n_hits == VF_MIN(n, (size_t)s.k) && !a->partial;
	for (size_t i = 0; right && i < a->n_hits; i++) {
		const struct vf_answer_hit *h = &a->hits[i];
		right = matches(line, vf_fixture_base(h->shard) + h->row) &&
			(is_sure ? h->distance == want[i]
				 : !h->exact || h->distance >= want[i]);
	}
	vf_answer_free(a);
	return right;
}

static void check_all(const struct vf_fixture *f, struct vf_view *v,
		      struct vf_search s)
{
	for (size_t i = 0; i < VF_N(lines); i++)
		for (size_t row = 0; row < ROWS; row += 37) {
			bool right = is_right(f, v, i, f->x[row], s);
			CU_ASSERT(right);
			if (!right)
				fprintf(stderr, "%s, row %zu\n",
					lines[i].filter, row);
		}
}

static void all_ways_give_the_rows_that_match(void)
{
	const struct vf_search ways[] = {
		{.k = 10},
		{.k = 150},
		{.k = 10, .candidates = ROWS},
		{.k = ROWS},
		{.k = 10, .exact = true},
		{.k = 10, .rerank = VF_RERANK_FAST},
		{.k = 10, .rerank = VF_RERANK_NONE},
		{.k = 10, .hamming = true, .candidates = 20},
		{.k = 10, .candidates = 12},
	};
	const char *const dirs[] = {vf_test_dir(), ""};
	struct vf_fixture *f = write_index();

	for (size_t d = 0; d < VF_N(dirs); d++) {
		struct vf_view *v = open_index(f, dirs[d]);
		for (size_t i = 0; i < VF_N(ways); i++)
			check_all(f, v, ways[i]);
		vf_view_close(v);
	}
	vf_fixture_free(f);
}

static void wrong_filters_are_refused(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v = open_index(f, "");
	struct vf_answer *a = NULL;

	CU_ASSERT_EQUAL(
		vf_view_search(v, f->x[0],
			       &(struct vf_search){.k = 1, .filter = "{\"a\":"},
			       &a),
		-EINVAL);
	CU_ASSERT_PTR_NULL(a);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* ---- several at once ------------------------------------------------------------------ */

/* Each query of a batch has a filter of its own, or none. */
static void a_batch_mixes_filters(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v = open_index(f, vf_test_dir());
	struct vf_query q[VF_N(lines) + 1];

	for (size_t i = 0; i <= VF_N(lines); i++)
		q[i] = (struct vf_query){.q = f->x[i], .search.k = ROWS};
	for (size_t i = 0; i < VF_N(lines); i++)
		q[i].search.filter = lines[i].filter;
	CU_ASSERT_EQUAL(vf_view_search_many(v, q, VF_N(q)), 0);
	for (size_t i = 0; i <= VF_N(lines); i++) {
		float want[ROWS];
		size_t n = i < VF_N(lines) ? find_by_force(f, i, f->x[i], want)
					   : ROWS;
		CU_ASSERT_EQUAL(q[i].answer->n_hits, n);
		vf_answer_free(q[i].answer);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

struct thread {
	const struct vf_fixture *f;
	struct vf_view *v;
	bool right;
};

static void *ask(void *arg)
{
	struct thread *t = arg;

	t->right = true;
	for (size_t i = 0; i < 40; i++)
		t->right &= is_right(t->f, t->v, i % VF_N(lines),
				     t->f->x[i * 7 % ROWS],
				     (struct vf_search){.k = 10});
	return NULL;
}

static void threads_share_sets(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v = open_index(f, vf_test_dir());
	struct thread t[3];
	pthread_t id[VF_N(t)];

	for (size_t i = 0; i < VF_N(t); i++) {
		t[i] = (struct thread){f, v, false};
		CU_ASSERT_EQUAL_FATAL(pthread_create(&id[i], NULL, ask, &t[i]),
				      0);
	}
	for (size_t i = 0; i < VF_N(t); i++) {
		pthread_join(id[i], NULL);
		CU_ASSERT(t[i].right);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

/* LMDB would not bear two of one environment in a process. */
static void two_views_share_a_catalog(void)
{
	const char *dir = vf_test_dir();
	struct vf_fixture *f = write_index();
	struct vf_view *a = open_index(f, dir), *b = open_index(f, dir);

	for (size_t i = 0; i < VF_N(lines); i++) {
		CU_ASSERT(is_right(f, a, i, f->x[3],
				   (struct vf_search){.k = 10, .exact = true}));
		CU_ASSERT(is_right(f, b, i, f->x[3],
				   (struct vf_search){.k = 10, .exact = true}));
	}
	vf_view_close(a);
	CU_ASSERT(is_right(f, b, 1, f->x[9],
			   (struct vf_search){.k = 7, .exact = true}));
	vf_view_close(b);
	vf_fixture_free(f);
}

/* More filters than are kept: the oldest are made again. */
static void sets_come_and_go(void)
{
	struct vf_fixture *f = write_index();
	struct vf_view *v = open_index(f, "");

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 40; i++) {
			struct vf_answer *a = NULL;
			char filter[64];
			snprintf(filter, sizeof(filter),
				 "{\"l\":{\"$in\":[1,%d]}}", i + 2);
			CU_ASSERT_EQUAL(
				vf_view_search(
					v, f->x[0],
					&(struct vf_search){.k = 5,
							    .filter = filter},
					&a),
				0);
			CU_ASSERT_EQUAL(a->n_hits, 5);
			vf_answer_free(a);
		}
	vf_view_close(v);
	vf_fixture_free(f);
}

struct told {
	unsigned n, n_over;
};

static void take_building(void *arg, uint64_t done, uint64_t total)
{
	struct told *t = arg;

	t->n++;
	t->n_over += !done && !total;
}

static void building_the_catalog_is_told_of_once(void)
{
	static const float q[DIM] = {1};
	struct vf_fixture *f = write_index();
	struct told told = {0};
	const struct vf_view_options opt = {.cache_dir = vf_test_dir(),
					    .building = take_building,
					    .building_arg = &told};
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, &opt, &v), 0);
	for (size_t line = 0; line < 2; line++) {
		const struct vf_search s = {.k = 1,
					    .filter = lines[line].filter};
		struct vf_answer *a;
		CU_ASSERT_EQUAL_FATAL(vf_view_search(v, q, &s, &a), 0);
		vf_answer_free(a);
		CU_ASSERT_EQUAL(told.n_over, 1);
	}
	CU_ASSERT(told.n >= told.n_over);
	vf_view_close(v);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"building the catalog is told of once",
	 building_the_catalog_is_told_of_once},
	{"all ways give the rows that match",
	 all_ways_give_the_rows_that_match},
	{"wrong filters are refused", wrong_filters_are_refused},
	{"a batch mixes filters", a_batch_mixes_filters},
	{"threads share sets", threads_share_sets},
	{"two views share a catalog", two_views_share_a_catalog},
	{"sets come and go", sets_come_and_go},
	CU_TEST_INFO_NULL,
};
VF_SUITE("query/rowset", tests);
