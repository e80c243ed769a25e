/*
 * Coding rows to several bits against a search of every factor, and the
 * estimator against what its paper promises.
 */
#include "index/refine.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>

enum { N = 320, PAIRS = 2500 };

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};
static const uint32_t some_bits[] = {2, 5};

/* ---- coding ------------------------------------------------------------------------- */

/* A code as the numbers it stands for, through the definition of the kernel. */
static void decode(const uint8_t *code, const uint8_t *extra, uint32_t n,
		   uint32_t bits, int *out_s)
{
	static int16_t q[VF_DIM_MAX];
	const struct vf_bit_rows r = {code, extra,  &(uint32_t){0},
				      1,    n / 64, bits - 1};

	for (uint32_t i = 0; i < n; i++) {
		int64_t y;
		q[i] = 1;
		vf_bits_i16_scalar(&r, q, &y);
		out_s[i] = 2 * (int)y - ((1 << bits) - 1);
		q[i] = 0;
	}
}

static double cosine2(const float *r, const int *s, uint32_t n)
{
	double dot = 0, rr = 0, ss = 0;

	for (uint32_t i = 0; i < n; i++) {
		dot += (double)r[i] * s[i];
		rr += (double)r[i] * r[i];
		ss += (double)s[i] * s[i];
	}
	return dot * dot / (rr * ss);
}

/* The best of 4000 factors, each tried. */
static double best_cosine2(const float *r, uint32_t n, uint32_t bits)
{
	int top = (1 << (bits - 1)) - 1, s[N];
	double best = 0, sq = 0;

	for (uint32_t i = 0; i < n; i++)
		sq += (double)r[i] * r[i];
	for (int k = 1; k <= 4000; k++) {
		double t = 4e-4 * k * (1 << bits) / sqrt(sq / n);
		for (uint32_t i = 0; i < n; i++) {
			int e = (int)fmin(fabs(r[i] * t), top);
			s[i] = r[i] >= 0 ? 2 * e + 1 : -2 * e - 1;
		}
		best = fmax(best, cosine2(r, s, n));
	}
	return best;
}

static void the_angle_is_the_smallest_that_any_factor_gives(void)
{
	static const float zero[N];
	const struct vf_place at = {zero, zero};
	uint8_t code[N / 8], extra[N];
	uint64_t seed = 3;
	float r[N];
	int s[N];

	for (uint32_t bits = 2; bits <= VF_BITS_MAX; bits++)
		for (int heavy = 0; heavy < 2; heavy++) {
			struct vf_grid g = {VF_EUCLIDEAN, N, bits, false};
			struct vf_factors f;
			struct vf_extra_factors x;
			for (int i = 0; i < N; i++) {
				r[i] = vf_test_normal(&seed);
				r[i] *= heavy ? fabsf(r[i]) : 1;
			}
			vf_quantize_row(g.metric, N, r, &at, code, &f);
			vf_refine_row(&g, r, &at, extra, &x);
			decode(code, extra, N, bits, s);
			double miss = 1 - cosine2(r, s, N);
			double least = 1 - best_cosine2(r, N, bits);
			CU_ASSERT(miss < least * 1.1);
			g.is_quick = true;
			vf_refine_row(&g, r, &at, extra, &x);
			decode(code, extra, N, bits, s);
			miss = 1 - cosine2(r, s, N);
			/* Of many levels the likely factor is good enough. */
			CU_ASSERT(bits < VF_BITS_MAX || heavy ||
				  miss < least * 1.2);
			for (int i = 0; i < N; i++)
				CU_ASSERT((s[i] > 0) == (r[i] >= 0));
			CU_ASSERT_EQUAL(x.crc,
					vf_crc32c(0, extra,
						  vf_extra_len(bits, N)));
		}
}

static bool are_finite(const struct vf_extra_factors *f)
{
	return isfinite(f->add) && isfinite(f->mul) && isfinite(f->err) &&
	       f->err >= 0;
}

static void factors_are_finite_whatever_the_row_holds(void)
{
	static const float bad[] = {NAN,      INFINITY, -INFINITY, FLT_MAX,
				    -FLT_MAX, FLT_MIN,	0x1p-149f, 1e-14f};
	static const float zero[N];
	const struct vf_place at = {zero, zero};
	struct vf_extra_factors f;
	uint8_t extra[N];
	float x[N];

	for (size_t i = 0; i < VF_N(bad); i++)
		for (size_t m = 0; m < VF_N(metrics); m++)
			for (int all = 0; all < 2; all++) {
				struct vf_grid g = {metrics[m], N, 8, false};
				memset(x, 0, sizeof(x));
				for (int j = 0; j < (all ? N : 1); j++)
					x[j] = bad[i];
				vf_refine_row(&g, x, &at, extra, &f);
				CU_ASSERT(are_finite(&f));
			}
}

/* ---- the estimator ------------------------------------------------------------------- */

struct pair {
	float x[N], q[N], leaf[N], origin[N];
};

/* @own  what q does not share with x: 0.3 neighbours, large: strangers */
static void make_pair(float own, uint64_t *seed, struct pair *p)
{
	for (int i = 0; i < N; i++) {
		p->x[i] = vf_test_normal(seed);
		p->q[i] = p->x[i] + own * vf_test_normal(seed);
	}
}

static void make_centres(bool apart, uint64_t *seed, struct pair *p)
{
	for (int i = 0; i < N; i++) {
		p->leaf[i] = 0.3f * vf_test_normal(seed);
		p->origin[i] = apart ? 0.3f * vf_test_normal(seed) : p->leaf[i];
	}
}

/* Cosine as the estimator has it: of vectors taken to be of unit length. */
static double true_distance(enum vf_metric metric, const struct pair *p)
{
	double l2 = 0, dot = 0;

	for (int i = 0; i < N; i++) {
		l2 += ((double)p->x[i] - p->q[i]) * ((double)p->x[i] - p->q[i]);
		dot += (double)p->x[i] * p->q[i];
	}
	return metric == VF_EUCLIDEAN ? l2 : metric == VF_DOT ? -dot : l2 / 2;
}

/* What is measured. */
struct trial {
	struct vf_grid grid;
	float own;  /* as make_pair's */
	bool apart; /* the leaf is not the origin */
	float gain; /* 1: the estimator as it is */
};

/* Error of the estimate in units of the bound for eps 1. */
static double error_of_pair(const struct trial *t, const struct pair *p)
{
	const struct vf_place at = {t->apart ? p->leaf : p->origin, p->origin};
	uint8_t code[N / 8], extra[N];
	const struct vf_bit_rows r = {code, extra,  &(uint32_t){0},
				      1,    N / 64, t->grid.bits - 1};
	struct vf_factors one;
	struct vf_extra_factors f;
	struct vf_fine_leaf leaf;
	int16_t fine[N];
	struct vf_fine_query q = {.q = fine};
	int64_t dot;

	vf_quantize_row(t->grid.metric, N, p->x, &at, code, &one);
	vf_refine_row(&t->grid, p->x, &at, extra, &f);
	vf_fine_query_make(p->q, p->origin, N, &q);
	vf_fine_leaf_make(t->grid.metric, p->q, at.leaf, N, &leaf);
	f.mul *= t->gain;
	vf_kernels()->bits_i16(&r, fine, &dot);
	double d = vf_fine_estimate(&q, &leaf, &f, t->grid.bits, dot);
	return (d - true_distance(t->grid.metric, p)) / (f.err * leaf.distance);
}

struct errors {
	double mean, deviation;
	double outside; /* share beyond eps 1.9 */
};

static struct errors measure(const struct trial *t)
{
	static struct pair p;
	double sum = 0, sq = 0, out = 0;
	uint64_t seed = 19;

	for (int i = 0; i < PAIRS; i++) {
		if (i % 100 == 0)
			make_centres(t->apart, &seed, &p);
		make_pair(t->own, &seed, &p);
		double e = error_of_pair(t, &p);
		sum += e;
		sq += e * e;
		out += fabs(e) > 1.9;
	}
	return (struct errors){sum / PAIRS, sqrt(sq / PAIRS), out / PAIRS};
}

/* Five standard errors of the mean. */
static bool is_unbiased(const struct errors *e)
{
	return fabs(e->mean) < 5 * e->deviation / sqrt(PAIRS);
}

static void estimates_of_neighbours_are_unbiased(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++)
		for (size_t b = 0; b < VF_N(some_bits); b++) {
			struct trial t = {{metrics[m], N, some_bits[b], false},
					  0.3f,
					  false,
					  1};
			struct errors e = measure(&t);
			CU_ASSERT(is_unbiased(&e));
			CU_ASSERT(e.outside < 0.01);
		}
}

/* As with one bit: sharp for strangers, whose normal law has 5.7 % outside. */
static void the_bound_holds_for_94_percent_of_strangers(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++)
		for (size_t b = 0; b < VF_N(some_bits); b++) {
			struct trial t = {{metrics[m], N, some_bits[b], false},
					  10,
					  false,
					  1};
			struct errors e = measure(&t);
			CU_ASSERT(is_unbiased(&e));
			CU_ASSERT(e.outside > 0.04 && e.outside < 0.07);
			CU_ASSERT(e.deviation > 0.95 && e.deviation < 1.05);
		}
}

/* A grid point instead of r itself (no gain), and small slips. */
static void a_wrong_estimator_is_found_out(void)
{
	static const float gains[] = {0.997f, 1.003f, 1.1f};

	for (size_t i = 0; i < VF_N(gains); i++) {
		struct trial t = {
			{VF_EUCLIDEAN, N, 5, false}, 0.3f, false, gains[i]};
		struct errors e = measure(&t);
		CU_ASSERT_FALSE(is_unbiased(&e));
		CU_ASSERT(i < 2 || e.outside > 0.5);
	}
}

static void leaves_apart_from_the_origin_are_estimated_too(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct trial t = {{metrics[m], N, 5, false}, 0.3f, true, 1};
		struct errors e = measure(&t);
		CU_ASSERT(is_unbiased(&e));
		CU_ASSERT(e.outside < 0.01);
	}
}

/* Each bit halves the error, nearly (paper, theorem 3.2). */
static void bounds_shrink_with_bits(void)
{
	static const float zero[N];
	const struct vf_place at = {zero, zero};
	uint8_t code[N / 8], extra[N];
	struct vf_extra_factors f;
	struct vf_factors one;
	uint64_t seed = 5;
	float x[N];

	for (int i = 0; i < N; i++)
		x[i] = vf_test_normal(&seed);
	vf_quantize_row(VF_DOT, N, x, &at, code, &one);
	float last = one.err;
	for (uint32_t bits = 2; bits <= VF_BITS_MAX; bits++) {
		struct vf_grid g = {VF_DOT, N, bits, false};
		vf_refine_row(&g, x, &at, extra, &f);
		CU_ASSERT(f.err < 0.62f * last);
		last = f.err;
	}
	CU_ASSERT(last < one.err / 60);
}

static CU_TestInfo tests[] = {
	{"the angle is the smallest that any factor gives",
	 the_angle_is_the_smallest_that_any_factor_gives},
	{"factors are finite whatever the row holds",
	 factors_are_finite_whatever_the_row_holds},
	{"estimates of neighbours are unbiased",
	 estimates_of_neighbours_are_unbiased},
	{"the bound of eps 1.9 holds for 94 % of strangers",
	 the_bound_holds_for_94_percent_of_strangers},
	{"a wrong estimator is found out", a_wrong_estimator_is_found_out},
	{"leaves apart from the origin are estimated too",
	 leaves_apart_from_the_origin_are_estimated_too},
	{"bounds shrink with bits", bounds_shrink_with_bits},
	CU_TEST_INFO_NULL};
VF_SUITE("index/refine", tests);
