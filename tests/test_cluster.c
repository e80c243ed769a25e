/*
 * The clustering: kernels against their definition, the same result for any
 * number of threads, balance, quality beside flat k-means, and bad input.
 */
#include "index/cluster.h"
#include "index/kernels_gemm.h"
#include "index/kmeans.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

/* ---- kernels ---------------------------------------------------------------------- */

enum { ROWS = 7, CENTROIDS = 9 };

static void compare_dots(const struct vf_gemm_kernels *k, size_t dim,
			 uint64_t *seed)
{
	/* Exactly as long as they are, for AddressSanitizer to watch. */
	VF_AUTO_FREE float *x = malloc(ROWS * dim * sizeof(*x));
	VF_AUTO_FREE float *w = malloc(CENTROIDS * dim * sizeof(*w));
	float got[ROWS * CENTROIDS], want[ROWS * CENTROIDS];
	const float *rows[ROWS];

	for (size_t i = 0; i < ROWS * dim; i++)
		x[i] = vf_test_normal(seed);
	for (size_t i = 0; i < CENTROIDS * dim; i++)
		w[i] = vf_test_normal(seed);
	for (size_t i = 0; i < ROWS; i++)
		rows[i] = x + i * dim;
	k->dots_f32(rows, ROWS, w, CENTROIDS, dim, got);
	vf_gemm_kernels_named("scalar")->dots_f32(rows, ROWS, w, CENTROIDS, dim,
						  want);
	float most = (float)dim * 20 * 0x1p-23f;
	for (size_t i = 0; i < ROWS * CENTROIDS; i++)
		CU_ASSERT(fabsf(got[i] - want[i]) <= most);
	/* One row alone: the same bits. */
	k->dots_f32(rows + 4, 1, w, 3, dim, want);
	for (size_t j = 0; j < 3; j++)
		CU_ASSERT(!memcmp(&want[j], &got[j * ROWS + 4], sizeof(float)));
}

static void compare_sums(const struct vf_gemm_kernels *k, size_t dim,
			 uint64_t *seed)
{
	VF_AUTO_FREE float *x = malloc(dim * sizeof(*x));
	VF_AUTO_FREE double *a = calloc(dim, sizeof(*a));
	VF_AUTO_FREE double *b = calloc(dim, sizeof(*b));

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < dim; i++)
			x[i] = vf_test_normal(seed);
		k->add_f32(x, 0.3, dim, a);
		vf_gemm_kernels_named("scalar")->add_f32(x, 0.3, dim, b);
	}
	CU_ASSERT(!memcmp(a, b, dim * sizeof(*a)));
}

static void variants_agree_with_the_definition(void)
{
	static const char *const names[] = {"avx2", "avx512"};
	uint64_t seed = 1;

	for (size_t v = 0; v < VF_N(names); v++) {
		const struct vf_gemm_kernels *k =
			vf_gemm_kernels_named(names[v]);
		if (!k)
			fprintf(stderr, "skipped: this CPU has no %s\n",
				names[v]);
		for (size_t dim = 1; k && dim <= 257; dim++) {
			compare_dots(k, dim, &seed);
			compare_sums(k, dim, &seed);
		}
	}
	CU_ASSERT_PTR_NOT_NULL(vf_gemm_kernels());
	CU_ASSERT_PTR_NULL(vf_gemm_kernels_named("abacus"));
}

/* ---- sets ------------------------------------------------------------------------- */

/*
 * Rows around centres around centres, with lengths that differ, so that no two
 * metrics agree on all of it.
 */
static float *make_rows(size_t n, uint32_t dim, uint64_t seed)
{
	enum { FEW = 24, MANY = 300 };
	VF_AUTO_FREE float *few = malloc(FEW * dim * sizeof(float));
	VF_AUTO_FREE float *many = malloc(MANY * dim * sizeof(float));
	float *x = malloc(n * dim * sizeof(*x));

	for (size_t i = 0; i < FEW * dim; i++)
		few[i] = 0.3f + vf_test_normal(&seed);
	for (size_t i = 0; i < MANY; i++)
		for (uint32_t j = 0; j < dim; j++)
			many[i * dim + j] = few[i % FEW * dim + j] +
					    0.6f * vf_test_normal(&seed);
	for (size_t i = 0; i < n; i++) {
		const float *c = many + vf_test_rand(&seed) % MANY * dim;
		float len = 0.5f + (float)(vf_test_rand(&seed) % 1000) / 1000;
		for (uint32_t j = 0; j < dim; j++)
			x[i * dim + j] =
				len * (c[j] + 0.45f * vf_test_normal(&seed));
	}
	return x;
}

static unsigned train_near; /* nodes that training looks into; 0: all */

static struct vf_cluster *train(enum vf_metric metric, uint32_t dim,
				const float *x, size_t n, uint32_t n_leaves,
				unsigned n_threads)
{
	struct vf_cluster_options o = {.dim = dim,
				       .metric = metric,
				       .n_leaves = n_leaves,
				       .seed = 7,
				       .n_threads = n_threads,
				       .n_near = train_near};
	struct vf_cluster *c;

	CU_ASSERT_EQUAL_FATAL(vf_cluster_train(&o, x, n, &c), 0);
	return c;
}

static uint32_t *assign(const struct vf_cluster *c, const float *x, size_t n,
			unsigned n_threads, unsigned n_near, float *out_sq)
{
	struct vf_cluster_assign o = {.n_threads = n_threads, .n_near = n_near};
	uint32_t *leaf = malloc(n * sizeof(*leaf));

	CU_ASSERT_EQUAL_FATAL(vf_cluster_assign(c, &o, x, n, leaf, out_sq), 0);
	return leaf;
}

/* ---- determinism ------------------------------------------------------------------ */

static void check_same(const struct vf_cluster *a, const struct vf_cluster *b)
{
	struct vf_cluster_view v, w;

	vf_cluster_view(a, &v);
	vf_cluster_view(b, &w);
	CU_ASSERT_EQUAL_FATAL(v.n_leaves, w.n_leaves);
	CU_ASSERT_EQUAL_FATAL(v.n_nodes, w.n_nodes);
	CU_ASSERT(!memcmp(v.leaves, w.leaves,
			  (size_t)v.n_leaves * v.dim * sizeof(float)));
	CU_ASSERT(!memcmp(v.nodes, w.nodes,
			  (size_t)v.n_nodes * v.dim * sizeof(float)));
	CU_ASSERT(
		!memcmp(v.first, w.first, (v.n_nodes + 1) * sizeof(*v.first)));
}

static void any_number_of_threads_gives_the_same(void)
{
	enum { N = 6000, DIM = 24, LEAVES = 150 };
	VF_AUTO_FREE float *x = make_rows(N, DIM, 3);

	for (size_t m = 0; m < 2 * VF_N(metrics); m++) {
		enum vf_metric metric = metrics[m / 2];
		train_near = m % 2 ? 4 : 0;
		struct vf_cluster *a = train(metric, DIM, x, N, LEAVES, 1);
		struct vf_cluster *b = train(metric, DIM, x, N, LEAVES, 5);
		check_same(a, b);
		VF_AUTO_FREE uint32_t *la =
			assign(a, x, N, 1, train_near, NULL);
		VF_AUTO_FREE uint32_t *lb =
			assign(b, x, N, 3, train_near, NULL);
		CU_ASSERT(!memcmp(la, lb, N * sizeof(*la)));
		vf_cluster_free(a);
		vf_cluster_free(b);
	}
	train_near = 0;
}

static void a_clustering_comes_back_from_its_view(void)
{
	enum { N = 3000, DIM = 10, LEAVES = 100 };
	VF_AUTO_FREE float *x = make_rows(N, DIM, 5);
	struct vf_cluster *b;
	struct vf_cluster_view v;

	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct vf_cluster *a = train(metrics[m], DIM, x, N, LEAVES, 2);
		vf_cluster_view(a, &v);
		CU_ASSERT_EQUAL_FATAL(vf_cluster_new(&v, &b), 0);
		check_same(a, b);
		VF_AUTO_FREE uint32_t *la = assign(a, x, N, 1, 0, NULL);
		VF_AUTO_FREE uint32_t *lb = assign(b, x, N, 1, 0, NULL);
		CU_ASSERT(!memcmp(la, lb, N * sizeof(*la)));
		vf_cluster_free(b);
		v.n_nodes = v.n_leaves + 1;
		CU_ASSERT_EQUAL(vf_cluster_new(&v, &b), -EINVAL);
		vf_cluster_free(a);
	}
}

/* ---- quality ---------------------------------------------------------------------- */

enum { TOP = 10, QUERIES = 60 };

static double distance(enum vf_metric m, const float *q, const float *x,
		       uint32_t dim)
{
	double dot = 0, qq = 0, xx = 0;

	for (uint32_t i = 0; i < dim; i++) {
		dot += (double)q[i] * x[i];
		qq += (double)q[i] * q[i];
		xx += (double)x[i] * x[i];
	}
	return m == VF_DOT	? -dot
	       : m == VF_COSINE ? -dot / sqrt(xx)
				: qq + xx - 2 * dot;
}

struct near {
	double d;
	uint32_t id;
};

static int compare_near(const void *a, const void *b)
{
	const struct near *x = a, *y = b;

	return x->d < y->d ? -1 : x->d > y->d;
}

/* Leaves by their distance until @budget rows; the true ten among them. */
static unsigned probe(enum vf_metric m, const float *q, const float *leaves,
		      uint32_t n_leaves, uint32_t dim, const uint32_t *leaf,
		      size_t n, const struct near *truth, size_t budget)
{
	VF_AUTO_FREE struct near *order = malloc(n_leaves * sizeof(*order));
	VF_AUTO_FREE size_t *sizes = calloc(n_leaves, sizeof(*sizes));
	unsigned held = 0;
	size_t seen = 0;

	for (size_t i = 0; i < n; i++)
		sizes[leaf[i]]++;
	for (uint32_t j = 0; j < n_leaves; j++)
		order[j] = (struct near){
			distance(m, q, leaves + (size_t)j * dim, dim), j};
	qsort(order, n_leaves, sizeof(*order), compare_near);
	for (uint32_t j = 0; j < n_leaves && seen < budget; j++) {
		seen += sizes[order[j].id];
		for (int t = 0; t < TOP; t++)
			held += leaf[truth[t].id] == order[j].id;
	}
	return held;
}

struct contest {
	enum vf_metric metric;
	uint32_t dim, n_leaves;
	size_t n;
	float *x;
	const float *leaves[2]; /* ours, flat */
	uint32_t *leaf[2];
	unsigned held[2];
};

static void run_queries(struct contest *c)
{
	VF_AUTO_FREE struct near *all = malloc(c->n * sizeof(*all));
	VF_AUTO_FREE float *q = make_rows(QUERIES, c->dim, 11);
	uint64_t seed = 13;

	for (size_t i = 0; i < QUERIES; i++) {
		/* Beside a row: as near as neighbours are to each other. */
		const float *near = c->x + vf_test_rand(&seed) % c->n * c->dim;
		float *v = q + i * c->dim;
		for (uint32_t j = 0; j < c->dim; j++)
			v[j] = near[j] + 0.3f * vf_test_normal(&seed);
		for (size_t r = 0; r < c->n; r++)
			all[r] = (struct near){distance(c->metric, v,
							c->x + r * c->dim,
							c->dim),
					       (uint32_t)r};
		qsort(all, c->n, sizeof(*all), compare_near);
		for (int k = 0; k < 2; k++)
			c->held[k] +=
				probe(c->metric, v, c->leaves[k], c->n_leaves,
				      c->dim, c->leaf[k], c->n, all, c->n / 12);
	}
}

static void run_flat(struct contest *c, struct vf_centroids *l)
{
	struct vf_points p;
	VF_AUTO_FREE uint32_t *rows = malloc(c->n * sizeof(*rows));
	struct vf_kmeans_options o = {c->n_leaves, 10, 2, 1};

	for (size_t i = 0; i < c->n; i++)
		rows[i] = (uint32_t)i;
	CU_ASSERT_EQUAL_FATAL(
		vf_points_init(&p, c->metric, c->dim,
			       vf_rows_norm_max(c->x, c->n, c->dim), c->x, c->n,
			       NULL, 1),
		0);
	CU_ASSERT_EQUAL_FATAL(
		vf_centroids_init(l, c->metric, c->n_leaves, c->dim), 0);
	CU_ASSERT_EQUAL_FATAL(vf_kmeans_run(&o, &p, rows, c->n, l, c->leaf[1]),
			      0);
	vf_points_fini(&p);
	c->leaves[1] = l->c;
}

static void leaves_hold_what_flat_k_means_holds(void)
{
	enum { N = 8000, DIM = 48, LEAVES = 160 };

	for (size_t m = 0; m < 2 * VF_N(metrics); m++) {
		train_near = m % 2 ? 8 : 0;
		struct contest c = {.metric = metrics[m / 2],
				    .dim = DIM,
				    .n = N,
				    .x = make_rows(N, DIM, 9)};
		struct vf_centroids flat;
		struct vf_cluster_view v;
		struct vf_cluster *t = train(c.metric, DIM, c.x, N, LEAVES, 2);
		vf_cluster_view(t, &v);
		c.leaves[0] = v.leaves;
		c.n_leaves = v.n_leaves;
		c.leaf[0] = assign(t, c.x, N, 2, 0, NULL);
		c.leaf[1] = malloc(N * sizeof(uint32_t));
		run_flat(&c, &flat);
		run_queries(&c);
		CU_ASSERT(c.held[0] + QUERIES * TOP / 50 >= c.held[1]);
		/* And most of them at all: a twelfth of the rows was seen. */
		CU_ASSERT(c.held[0] > QUERIES * TOP * 8 / 10);
		if (c.held[0] + QUERIES * TOP / 50 < c.held[1] ||
		    c.held[0] <= QUERIES * TOP * 8 / 10)
			fprintf(stderr, "metric %d: tree %u, flat %u of %d\n",
				(int)c.metric, c.held[0], c.held[1],
				QUERIES * TOP);
		vf_centroids_fini(&flat);
		vf_cluster_free(t);
		free(c.leaf[0]);
		free(c.leaf[1]);
		free(c.x);
	}
	train_near = 0;
}

/* The leaf that is nearest to @x, in double. */
static uint32_t find_leaf(const struct vf_cluster_view *v, const float *x)
{
	double least = INFINITY;
	uint32_t best = 0;

	for (uint32_t j = 0; j < v->n_leaves; j++) {
		double d = 0;
		for (uint32_t i = 0; i < v->dim; i++) {
			double e = x[i] - v->leaves[(size_t)j * v->dim + i];
			d += e * e;
		}
		if (d < least) {
			least = d;
			best = j;
		}
	}
	return best;
}

/* Bytes choose, and floats where bytes leave it open. */
static void rows_get_their_nearest_leaf(void)
{
	enum { N = 3000, DIM = 32, LEAVES = 200 };
	VF_AUTO_FREE float *x = make_rows(N, DIM, 22);
	struct vf_cluster *c = train(VF_EUCLIDEAN, DIM, x, N, LEAVES, 2);
	VF_AUTO_FREE uint32_t *leaf = assign(c, x, N, 2, 0, NULL);
	struct vf_cluster_view v;
	size_t same = 0;

	vf_cluster_view(c, &v);
	for (size_t i = 0; i < N; i++)
		same += leaf[i] == find_leaf(&v, x + i * DIM);
	CU_ASSERT(same >= N * 999 / 1000);
	vf_cluster_free(c);
}

/*
 * One row in a wrong unit made the bytes of all others the same: they fell into
 * a few leaves, any of them.
 */
static void a_far_row_moves_no_other(void)
{
	enum { N = 3000, DIM = 32, LEAVES = 200 };
	static const enum vf_metric of[] = {VF_EUCLIDEAN, VF_DOT};
	VF_AUTO_FREE float *x = make_rows(N, DIM, 22);
	struct vf_cluster_view v;

	for (uint32_t j = 0; j < DIM; j++)
		x[7 * DIM + j] *= 1e6f;
	for (size_t m = 0; m < VF_N(of); m++) {
		struct vf_cluster *c = train(of[m], DIM, x, N, LEAVES, 2);
		VF_AUTO_FREE uint32_t *leaf = assign(c, x, N, 2, 0, NULL);
		vf_cluster_view(c, &v);
		VF_AUTO_FREE bool *used = calloc(v.n_leaves, sizeof(*used));
		size_t same = 0, n_used = 0;
		for (size_t i = 0; i < N; i++) {
			same += leaf[i] == find_leaf(&v, x + i * DIM);
			n_used += !used[leaf[i]];
			used[leaf[i]] = true;
		}
		CU_ASSERT(same >= N * 99 / 100);
		CU_ASSERT(n_used >= LEAVES * 3 / 4);
		vf_cluster_free(c);
	}
}

static void near_nodes_give_the_exact_leaf_of_most_rows(void)
{
	enum { N = 8000, DIM = 32, LEAVES = 200 };
	VF_AUTO_FREE float *x = make_rows(N, DIM, 21);
	VF_AUTO_FREE float *sq = malloc(N * sizeof(*sq));
	struct vf_cluster *c = train(VF_EUCLIDEAN, DIM, x, N, LEAVES, 2);
	VF_AUTO_FREE uint32_t *near = assign(c, x, N, 2, 12, sq);
	VF_AUTO_FREE uint32_t *all = assign(c, x, N, 2, UINT32_MAX, NULL);
	struct vf_cluster_view v;
	size_t same = 0, most = 0;

	vf_cluster_view(c, &v);
	VF_AUTO_FREE size_t *sizes = calloc(v.n_leaves, sizeof(*sizes));
	for (size_t i = 0; i < N; i++) {
		const float *leaf = v.leaves + (size_t)near[i] * DIM;
		double d = 0;
		for (uint32_t j = 0; j < DIM; j++)
			d += (double)(x[i * DIM + j] - leaf[j]) *
			     (x[i * DIM + j] - leaf[j]);
		CU_ASSERT(fabs(d - (double)sq[i]) <= 1e-4 * (d + 1));
		same += near[i] == all[i];
		most = VF_MAX(most, ++sizes[near[i]]);
	}
	CU_ASSERT(same > N * 95 / 100);
	CU_ASSERT(most <= 7 * N / v.n_leaves);
	vf_cluster_free(c);
}

/* ---- bad input -------------------------------------------------------------------- */

static void check_odd(enum vf_metric metric, const float *x, size_t n,
		      uint32_t dim, uint32_t n_leaves)
{
	struct vf_cluster *c = train(metric, dim, x, n, n_leaves, 2);
	VF_AUTO_FREE float *sq = malloc(n * sizeof(*sq));
	VF_AUTO_FREE uint32_t *leaf = assign(c, x, n, 2, 0, sq);
	struct vf_cluster_view v;

	vf_cluster_view(c, &v);
	CU_ASSERT(v.n_leaves >= 1 && v.n_leaves <= n);
	for (size_t i = 0; i < (size_t)v.n_leaves * dim; i++)
		CU_ASSERT(isfinite(v.leaves[i]));
	for (size_t i = 0; i < n; i++)
		CU_ASSERT(leaf[i] < v.n_leaves && !isnan(sq[i]) && sq[i] >= 0);
	vf_cluster_free(c);
}

static void odd_rows_are_clustered(void)
{
	enum { N = 600, DIM = 12 };
	VF_AUTO_FREE float *x = make_rows(N, DIM, 31);
	VF_AUTO_FREE float *same = malloc(N * DIM * sizeof(*same));
	VF_AUTO_FREE float *tiny = malloc(N * DIM * sizeof(*tiny));
	VF_AUTO_FREE float *wide = make_rows(20, VF_DIM_MAX, 33);

	for (size_t i = 0; i < N * DIM; i++) {
		same[i] = (float)(i % DIM) - 3;
		tiny[i] = x[i] * 1e-19f;
	}
	for (size_t m = 0; m < VF_N(metrics); m++) {
		check_odd(metrics[m], same, N, DIM, 90);
		check_odd(metrics[m], tiny, N, DIM, 90);
		check_odd(metrics[m], x, 1, DIM, 90);
		check_odd(metrics[m], x, 50, DIM, 90);
		check_odd(metrics[m], x, N, 2, 70);
		check_odd(metrics[m], wide, 20, VF_DIM_MAX, 4);
		x[DIM] = 1e15f; /* far from all others */
		check_odd(metrics[m], x, N, DIM, 90);
		x[DIM] = 1;
	}
	if (metrics[1] == VF_EUCLIDEAN) { /* may be zero there */
		memset(tiny, 0, N * DIM * sizeof(*tiny));
		tiny[5] = 1e-42f;
		check_odd(VF_EUCLIDEAN, tiny, N, DIM, 90);
		check_odd(VF_DOT, tiny, N, DIM, 90);
	}
}

static void wrong_options_are_refused(void)
{
	struct vf_cluster_options o = {.dim = 4, .metric = VF_DOT};
	float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct vf_cluster *c;

	CU_ASSERT_EQUAL(vf_cluster_train(&o, x, 0, &c), -EINVAL);
	o.dim = VF_DIM_MAX + 1;
	CU_ASSERT_EQUAL(vf_cluster_train(&o, x, 2, &c), -EINVAL);
	o = (struct vf_cluster_options){.dim = 4, .metric = 9};
	CU_ASSERT_EQUAL(vf_cluster_train(&o, x, 2, &c), -EINVAL);
	vf_cluster_free(NULL);
}

static void leaves_grow_with_the_root_of_rows(void)
{
	CU_ASSERT_EQUAL(vf_cluster_n_leaves(1), 1);
	CU_ASSERT_EQUAL(vf_cluster_n_leaves(1000), 1);
	CU_ASSERT_EQUAL(vf_cluster_n_leaves(100000), 1264);
	CU_ASSERT_EQUAL(vf_cluster_n_leaves(1000000), 4000);
}

static CU_TestInfo tests[] = {
	{"variants agree with the definition",
	 variants_agree_with_the_definition},
	{"any number of threads gives the same",
	 any_number_of_threads_gives_the_same},
	{"a clustering comes back from its view",
	 a_clustering_comes_back_from_its_view},
	{"leaves hold what flat k-means holds",
	 leaves_hold_what_flat_k_means_holds},
	{"rows get their nearest leaf", rows_get_their_nearest_leaf},
	{"a far row moves no other", a_far_row_moves_no_other},
	{"near nodes give the exact leaf of most rows",
	 near_nodes_give_the_exact_leaf_of_most_rows},
	{"odd rows are clustered", odd_rows_are_clustered},
	{"wrong options are refused", wrong_options_are_refused},
	{"leaves grow with the root of rows",
	 leaves_grow_with_the_root_of_rows},
	CU_TEST_INFO_NULL,
};

VF_SUITE("index/cluster", tests);
