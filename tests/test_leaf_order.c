/*
 * The order of leaves: leaves along a ring, handed over in another order.
 */
#include "index/leaf_order.h"
#include "store/util.h"
#include "tests/test.h"

#include <math.h>
#include <string.h>

/* In steps of STEP, which has no divisor in common with N. */
enum { N = 600, DIM = 4, STEP = 77, OPEN = 40 };

static void place_leaves(float *x)
{
	for (uint32_t i = 0; i < N; i++) {
		double t = 2 * 3.14159265358979 * (i * STEP % N) / N;
		float row[DIM] = {(float)cos(t), (float)sin(t), .1f, 0};
		memcpy(x + (size_t)i * DIM, row, sizeof(row));
	}
}

static void order(enum vf_metric metric, unsigned n_threads, uint32_t *out)
{
	VF_AUTO_FREE float *x = malloc((size_t)N * DIM * sizeof(*x));
	struct vf_centroids l = {0};
	struct vf_points p = {0};

	place_leaves(x);
	CU_ASSERT_EQUAL_FATAL(vf_points_init(&p, metric, DIM, 2, x, N, NULL, 1),
			      0);
	CU_ASSERT_EQUAL_FATAL(vf_centroids_init(&l, metric, N, DIM), 0);
	memcpy(l.c, x, (size_t)N * DIM * sizeof(*x));
	for (uint32_t i = 0; p.extra && i < N; i++)
		l.e[i] = p.extra[i];
	CU_ASSERT_EQUAL_FATAL(vf_centroids_derive(&l), 0);
	CU_ASSERT_EQUAL(vf_leaves_order(&l, &p, n_threads, out), 0);
	vf_centroids_fini(&l);
	vf_points_fini(&p);
}

/* Where @order has OPEN leaves that lie side by side on the ring, in runs. */
static unsigned count_runs(const uint32_t *order, uint32_t from)
{
	bool was = false;
	unsigned n = 0;

	for (uint32_t i = 0; i < N; i++) {
		uint32_t at = order[i] * STEP % N;
		bool is = (at + N - from) % N < OPEN;
		n += is && !was;
		was = is;
	}
	return n;
}

static void what_is_opened_together_lies_together(void)
{
	static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN,
						 VF_DOT};
	uint32_t got[N], as_given[N];

	for (uint32_t i = 0; i < N; i++)
		as_given[i] = i;
	for (size_t m = 0; m < VF_N(metrics); m++) {
		bool seen[N] = {0};
		unsigned runs = 0, before = 0;
		order(metrics[m], 2, got);
		for (uint32_t i = 0; i < N; i++) {
			CU_ASSERT_FATAL(got[i] < N && !seen[got[i]]);
			seen[got[i]] = true;
		}
		for (uint32_t from = 0; from < N; from++) {
			runs += count_runs(got, from);
			before += count_runs(as_given, from);
		}
		CU_ASSERT(before > 30 * N);
		CU_ASSERT(runs < 4 * N);
	}
}

static void any_number_of_threads_gives_the_same(void)
{
	uint32_t a[N], b[N];

	order(VF_EUCLIDEAN, 1, a);
	order(VF_EUCLIDEAN, 3, b);
	CU_ASSERT(!memcmp(a, b, sizeof(a)));
}

static CU_TestInfo tests[] = {
	{"what is opened together lies together",
	 what_is_opened_together_lies_together},
	{"any number of threads gives the same",
	 any_number_of_threads_gives_the_same},
	CU_TEST_INFO_NULL,
};
VF_SUITE("index/leaf_order", tests);
