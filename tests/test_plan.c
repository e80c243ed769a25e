/*
 * Which leaves a query under a filter looks into, of an index that says it has
 * a million rows.
 */
#include "query/engine.h"
#include "tests/test.h"

#include <math.h>

enum { DIM = 16, N = 4000, LEAVES = 1000, ROWS = 1000000, SEED = 5 };

struct lab {
	struct vf_state state;
	struct vf_view view;
	struct vf_rowset half;
	struct vf_plan plan;
	float q[DIM];
	uint32_t seen[LEAVES]; /* how often each was named */
};

static void make_tree(enum vf_metric metric, struct vf_tree **out)
{
	static const uint8_t id[16] = {1};
	struct vf_cluster_options o = {
		.dim = DIM, .metric = metric, .n_leaves = LEAVES, .seed = 1};
	VF_AUTO_FREE float *x = malloc(N * DIM * sizeof(*x));
	VF_AUTO_BUF struct vf_buf file = {0};
	struct vf_cluster_view view;
	struct vf_cluster *c;
	struct vf_tree_file f;
	uint64_t seed = 3;
	const char *why;

	for (size_t i = 0; i < N * DIM; i++)
		x[i] = vf_test_normal(&seed);
	CU_ASSERT_EQUAL_FATAL(vf_cluster_train(&o, x, N, &c), 0);
	vf_cluster_view(c, &view);
	CU_ASSERT_EQUAL_FATAL(vf_tree_encode(&view, id, SEED, &file), 0);
	CU_ASSERT_EQUAL_FATAL(vf_tree_validate(file.data, file.len, &f, &why),
			      0);
	CU_ASSERT_EQUAL_FATAL(vf_tree_new(&f, SEED, out), 0);
	vf_cluster_free(c);
}

static void note(struct lab *l)
{
	for (uint32_t i = 0; i < l->plan.n; i++)
		l->seen[l->plan.probes[i].leaf]++;
}

static void open_lab(struct lab *l, enum vf_metric metric)
{
	const struct vf_search s = {.k = 10};
	uint64_t seed = 9;

	*l = (struct lab){.state = {.n_rows = ROWS,
				    .config = {.dim = DIM, .metric = metric}},
			  .view = {.tail_base = ROWS},
			  .half = {.n_rows = ROWS / 2,
				   .n_shard_rows = ROWS / 2}};
	l->view.state = &l->state;
	make_tree(metric, &l->view.tree);
	for (size_t i = 0; i < DIM; i++)
		l->q[i] = vf_test_normal(&seed);
	CU_ASSERT_EQUAL_FATAL(
		vf_stage_plan(&l->view, l->q, &s, &l->half, &l->plan), 0);
	note(l);
}

static void close_lab(struct lab *l)
{
	vf_plan_fini(&l->plan);
	vf_tree_free(l->view.tree);
}

static bool is_open(const struct lab *l, float dist)
{
	return vf_plan_is_open(&l->view, &l->plan, &l->half, dist);
}

static void widen(struct lab *l)
{
	CU_ASSERT_EQUAL_FATAL(vf_plan_widen(&l->view, l->q, false, &l->plan),
			      0);
	note(l);
}

/* Every query had as many leaves as the hardest: those that need few waited,
 * and those that need most had too few. */
static void a_query_goes_on_as_long_as_leaves_are_near(void)
{
	struct lab l;

	open_lab(&l, VF_EUCLIDEAN);
	CU_ASSERT(!l.plan.all && l.plan.n < LEAVES / 4);
	float far = l.plan.probes[l.plan.n - 1].distance;
	CU_ASSERT(!is_open(&l, far * far / 4));
	CU_ASSERT(is_open(&l, far * far * .95f));
	for (uint32_t n = l.plan.n, most = LEAVES / 2; n < most; n += l.plan.n)
		widen(&l);
	CU_ASSERT(!is_open(&l, far * far * 100));
	CU_ASSERT(is_open(&l, INFINITY)); /* too few rows yet */
	widen(&l);
	CU_ASSERT(!is_open(&l, INFINITY));
	for (uint32_t i = 0; i < LEAVES; i++)
		CU_ASSERT_EQUAL(l.seen[i], 1);
	close_lab(&l);
}

static void fewer_rows_of_a_set_open_fewer_leaves(void)
{
	struct lab l;

	open_lab(&l, VF_EUCLIDEAN);
	float far = l.plan.probes[l.plan.n - 1].distance;
	CU_ASSERT(is_open(&l, far * far * .9f));
	l.half.n_shard_rows = ROWS / 50;
	CU_ASSERT(!is_open(&l, far * far * .9f));
	close_lab(&l);
}

static void cosines_are_half_of_squares(void)
{
	struct lab l;

	open_lab(&l, VF_COSINE);
	float far = l.plan.probes[l.plan.n - 1].distance;
	CU_ASSERT(is_open(&l, far * far * .95f / 2));
	CU_ASSERT(!is_open(&l, far * far * .8f / 2));
	close_lab(&l);
}

static void inner_products_have_their_leaves_at_once(void)
{
	struct lab euclidean, dot;

	open_lab(&euclidean, VF_EUCLIDEAN);
	open_lab(&dot, VF_DOT);
	CU_ASSERT(!is_open(&dot, 1e9f));
	CU_ASSERT(is_open(&dot, INFINITY));
	CU_ASSERT(dot.plan.n >= euclidean.plan.n);
	close_lab(&euclidean);
	close_lab(&dot);
}

static bool is_flat(const struct lab *l, float dist)
{
	return vf_plan_is_flat(&l->view, &l->plan, dist);
}

/*
 * Without a filter a query had its leaves and no others, however little their
 * order said: recall was .13 of a million normal rows.
 */
static void a_query_of_flat_rows_has_most_leaves_at_once(void)
{
	struct lab l;

	open_lab(&l, VF_EUCLIDEAN);
	float far = l.plan.probes[l.plan.n - 1].distance;
	CU_ASSERT(!is_flat(&l, far * far * 1.1f));
	CU_ASSERT(!is_flat(&l, INFINITY));
	CU_ASSERT(is_flat(&l, far * far * 1.2f));
	uint32_t n = l.plan.n;
	CU_ASSERT_EQUAL_FATAL(vf_plan_widen(&l.view, l.q, true, &l.plan), 0);
	note(&l);
	CU_ASSERT(n + l.plan.n >= LEAVES / 2);
	CU_ASSERT(!is_flat(&l, far * far * 100));
	for (uint32_t i = 0; i < LEAVES; i++)
		CU_ASSERT(l.seen[i] <= 1);
	close_lab(&l);
}

static void cosines_are_flat_at_half_of_squares(void)
{
	struct lab l;

	open_lab(&l, VF_COSINE);
	float far = l.plan.probes[l.plan.n - 1].distance;
	CU_ASSERT(!is_flat(&l, far * far * 1.1f / 2));
	CU_ASSERT(is_flat(&l, far * far * 1.2f / 2));
	close_lab(&l);
	open_lab(&l, VF_DOT);
	CU_ASSERT(!is_flat(&l, 1e9f));
	close_lab(&l);
}

static void leaves_are_repeated_as_they_were_scanned(void)
{
	uint32_t seen[LEAVES];
	struct lab l;

	open_lab(&l, VF_EUCLIDEAN);
	uint32_t n = l.plan.n;
	CU_ASSERT_EQUAL(vf_plan_repeat(&l.plan), 0);
	CU_ASSERT_EQUAL(l.plan.n, n);
	widen(&l);
	widen(&l);
	memcpy(seen, l.seen, sizeof(seen));
	CU_ASSERT_EQUAL(vf_plan_repeat(&l.plan), 0);
	note(&l);
	for (uint32_t i = 0; i < LEAVES; i++)
		CU_ASSERT_EQUAL(l.seen[i], 2 * seen[i]);
	close_lab(&l);
}

static CU_TestInfo tests[] = {{"a query of flat rows has most leaves at once",
			       a_query_of_flat_rows_has_most_leaves_at_once},
			      {"cosines are flat at half of squares",
			       cosines_are_flat_at_half_of_squares},
			      {"leaves are repeated as they were scanned",
			       leaves_are_repeated_as_they_were_scanned},
			      {"a query goes on as long as leaves are near",
			       a_query_goes_on_as_long_as_leaves_are_near},
			      {"fewer rows of a set open fewer leaves",
			       fewer_rows_of_a_set_open_fewer_leaves},
			      {"cosines are half of squares",
			       cosines_are_half_of_squares},
			      {"inner products have their leaves at once",
			       inner_products_have_their_leaves_at_once},
			      CU_TEST_INFO_NULL};

VF_SUITE("query/plan", tests);
