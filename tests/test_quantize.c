/*
 * The estimator against what its paper promises, on pairs whose true distance
 * is known: no bias, and errors inside the bound as often as eps says.
 */
#include "index/kernels.h"
#include "index/quantize.h"
#include "index/refine.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>

enum { PADDED_MAX = 1024, PAIRS = 4000, WORDS_MAX = PADDED_MAX / 64 };

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

struct pair {
	float x[PADDED_MAX], q[PADDED_MAX];
	float leaf[PADDED_MAX], origin[PADDED_MAX];
};

static void scale_to_unit(float *x, uint32_t n)
{
	double sq = 0;

	for (uint32_t i = 0; i < n; i++)
		sq += (double)x[i] * x[i];
	for (uint32_t i = 0; i < n; i++)
		x[i] = (float)(x[i] / sqrt(sq));
}

/* @own  what q does not share with x: 0.3 neighbours, large: strangers */
static void make_pair(enum vf_metric metric, uint32_t n, float own,
		      uint64_t *seed, struct pair *p)
{
	for (uint32_t i = 0; i < n; i++) {
		p->x[i] = vf_test_normal(seed);
		p->q[i] = p->x[i] + own * vf_test_normal(seed);
	}
	if (metric == VF_COSINE) {
		scale_to_unit(p->x, n);
		scale_to_unit(p->q, n);
	}
}

/* Points close to where the rows are, given their scale. */
static void make_centres(enum vf_metric metric, uint32_t n, bool apart,
			 uint64_t *seed, struct pair *p)
{
	float scale = metric == VF_COSINE ? 0.3f / sqrtf((float)n) : 0.3f;

	for (uint32_t i = 0; i < n; i++) {
		p->leaf[i] = scale * vf_test_normal(seed);
		p->origin[i] =
			apart ? scale * vf_test_normal(seed) : p->leaf[i];
	}
}

static double dot(const float *a, const float *b, uint32_t n)
{
	double s = 0;

	for (uint32_t i = 0; i < n; i++)
		s += (double)a[i] * b[i];
	return s;
}

static double l2sq(const float *a, const float *b, uint32_t n)
{
	double s = 0;

	for (uint32_t i = 0; i < n; i++)
		s += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
	return s;
}

static double true_distance(enum vf_metric metric, uint32_t n,
			    const struct pair *p)
{
	if (metric == VF_EUCLIDEAN)
		return l2sq(p->x, p->q, n);
	return (metric == VF_COSINE) - dot(p->x, p->q, n);
}

/*
 * vf_query_code.base is made for the origin; for a leaf elsewhere the query's
 * own share differs by this much.
 */
static double base_shift(enum vf_metric metric, uint32_t n,
			 const struct pair *p)
{
	if (metric == VF_DOT)
		return dot(p->q, p->origin, n) - dot(p->q, p->leaf, n);
	return (l2sq(p->q, p->leaf, n) - l2sq(p->q, p->origin, n)) /
	       (metric == VF_COSINE ? 2 : 1);
}

/* Counted with the definition of the kernel. */
static uint32_t count(const uint8_t *code, const uint64_t *planes, uint32_t n)
{
	uint32_t out;

	vf_kernels_named("scalar")->b1q4(code, 1, n / 64, planes, &out);
	return out;
}

/* Error of the estimate in units of the bound for eps 1. */
static double error_of_pair(enum vf_metric metric, uint32_t n,
			    const struct pair *p, float gain)
{
	uint64_t planes[4 * WORDS_MAX];
	uint8_t code[PADDED_MAX / 8];
	float work[PADDED_MAX];
	struct vf_query_code q = {.planes = planes};
	const struct vf_place at = {
		memcmp(p->leaf, p->origin, n * sizeof(float)) ? p->leaf
							      : p->origin,
		p->origin};
	struct vf_factors f;

	vf_quantize_row(metric, n, p->x, &at, code, &f);
	vf_quantize_query(metric, n, p->q, p->origin, work, &q);
	f.mul *= gain;
	double d = vf_estimate(&q, &f, count(code, planes, n)) +
		   base_shift(metric, n, p) - true_distance(metric, n, p);
	return d / (f.err * sqrt(l2sq(p->q, p->leaf, n)));
}

/* What is measured. */
struct trial {
	enum vf_metric metric;
	uint32_t n;
	float own;  /* as make_pair's */
	bool apart; /* the leaf is not the origin */
	float gain; /* 1: the estimator as it is */
};

struct errors {
	double mean, deviation;
	double outside; /* share beyond eps 1.9 */
};

static struct errors measure(const struct trial *t)
{
	static struct pair p;
	double sum = 0, sq = 0, out = 0;
	uint64_t seed = 19 + t->n;

	for (int i = 0; i < PAIRS; i++) {
		if (i % 100 == 0)
			make_centres(t->metric, t->n, t->apart, &seed, &p);
		make_pair(t->metric, t->n, t->own, &seed, &p);
		double e = error_of_pair(t->metric, t->n, &p, t->gain);
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

/* A bias grows with what x and q share. */
static void estimates_of_neighbours_are_unbiased(void)
{
	for (size_t i = 0; i < VF_N(metrics); i++)
		for (uint32_t n = 256; n <= 320; n += 64) {
			struct trial t = {metrics[i], n, 0.3f, false, 1};
			struct errors e = measure(&t);
			CU_ASSERT(is_unbiased(&e));
		}
}

/*
 * The bound takes all of q to be orthogonal to x, as a stranger's is nearly:
 * there it is sharp.  The normal law has 5.7 % beyond 1.9; the rounding of the
 * query adds a little, what strangers share takes a little.
 */
static void the_bound_holds_for_94_percent_of_strangers(void)
{
	for (size_t i = 0; i < VF_N(metrics); i++) {
		struct trial t = {metrics[i], 256, 10, false, 1};
		struct errors e = measure(&t);
		CU_ASSERT(is_unbiased(&e));
		CU_ASSERT(e.outside > 0.045 && e.outside < 0.07);
		CU_ASSERT(e.deviation > 0.95 && e.deviation < 1.05);
	}
	struct trial t = {VF_COSINE, 1024, 10, false, 1};
	struct errors e = measure(&t);
	CU_ASSERT(e.outside > 0.045 && e.outside < 0.07);
}

static void the_bound_holds_for_all_but_few_neighbours(void)
{
	for (size_t i = 0; i < VF_N(metrics); i++) {
		struct trial t = {metrics[i], 256, 0.3f, false, 1};
		struct errors e = measure(&t);
		CU_ASSERT(e.outside < 0.01);
	}
}

/* What makes the tests above worth something. */
static void a_wrong_estimator_is_found_out(void)
{
	/* First |r|_1 / D, as plain Hamming has it: it forgets <o-bar, o>. */
	static const float gains[] = {0.64f, 0.97f, 1.03f};

	for (size_t i = 0; i < VF_N(gains); i++) {
		struct trial t = {VF_COSINE, 256, 0.3f, false, gains[i]};
		struct errors e = measure(&t);
		CU_ASSERT_FALSE(is_unbiased(&e));
		CU_ASSERT(i || e.outside > 0.5);
	}
}

/* One query for all leaves: what it lacks is in the row's own factor. */
static void leaves_apart_from_the_origin_are_estimated_too(void)
{
	for (size_t i = 0; i < VF_N(metrics); i++) {
		struct trial t = {metrics[i], 256, 0.3f, true, 1};
		struct errors e = measure(&t);
		CU_ASSERT(is_unbiased(&e));
		CU_ASSERT(e.outside < 0.01);
	}
}

/* ---- the query's planes ------------------------------------------------------------ */

static uint32_t level(const uint64_t *planes, uint32_t words, uint32_t i)
{
	uint32_t u = 0;

	for (uint32_t b = 0; b < 4; b++)
		u |= (uint32_t)(planes[b * words + i / 64] >> (i % 64) & 1)
		     << b;
	return u;
}

static void planes_hold_each_dimension_within_half_a_step(void)
{
	static float q[PADDED_MAX], origin[PADDED_MAX], work[PADDED_MAX];
	uint64_t planes[4 * WORDS_MAX], seed = 23;
	struct vf_query_code c = {.planes = planes};

	for (uint32_t n = 256; n <= PADDED_MAX; n += 192) {
		double sum = 0;
		for (uint32_t i = 0; i < n; i++) {
			q[i] = vf_test_normal(&seed);
			origin[i] = vf_test_normal(&seed);
		}
		vf_quantize_query(VF_EUCLIDEAN, n, q, origin, work, &c);
		for (uint32_t i = 0; i < n; i++) {
			float v =
				c.lo + c.step * (float)level(planes, n / 64, i);
			CU_ASSERT(fabsf(v - (q[i] - origin[i])) <=
				  c.step * 0.501f);
			sum += v;
		}
		CU_ASSERT(fabs(sum - c.sum) < 1e-3 * n * c.step);
		CU_ASSERT(fabs(c.distance - sqrt(l2sq(q, origin, n))) < 1e-3);
	}
}

static void counts_equal_the_plain_integer_sum(void)
{
	static float q[PADDED_MAX], origin[PADDED_MAX], work[PADDED_MAX];
	uint64_t planes[4 * WORDS_MAX], seed = 29;
	uint8_t code[PADDED_MAX / 8];
	struct vf_query_code c = {.planes = planes};

	for (uint32_t n = 256; n <= PADDED_MAX; n += 64) {
		uint32_t want = 0, got;
		for (uint32_t i = 0; i < n; i++)
			q[i] = vf_test_normal(&seed);
		for (uint32_t i = 0; i < n / 8; i++)
			code[i] = (uint8_t)vf_test_rand(&seed);
		vf_quantize_query(VF_DOT, n, q, origin, work, &c);
		for (uint32_t i = 0; i < n; i++)
			if (code[i / 8] >> (i % 8) & 1)
				want += level(planes, n / 64, i);
		CU_ASSERT_EQUAL(count(code, planes, n), want);
		vf_kernels()->b1q4(code, 1, n / 64, planes, &got);
		CU_ASSERT_EQUAL(got, want);
	}
}

static void a_query_at_the_origin_has_no_step(void)
{
	float q[256], work[256];
	uint64_t planes[16];
	struct vf_query_code c = {.planes = planes};

	for (int i = 0; i < 256; i++)
		q[i] = (float)i;
	vf_quantize_query(VF_EUCLIDEAN, 256, q, q, work, &c);
	CU_ASSERT(c.lo == 0 && c.step == 0 && c.sum == 0);
	CU_ASSERT(c.base == 0 && c.distance == 0);
}

/* ---- rows at the edges --------------------------------------------------------------- */

static bool are_finite(const struct vf_factors *f)
{
	return isfinite(f->add) && isfinite(f->mul) && isfinite(f->err) &&
	       f->err >= 0;
}

static void factors_are_finite_whatever_the_row_holds(void)
{
	static const float bad[] = {NAN,      INFINITY, -INFINITY, FLT_MAX,
				    -FLT_MAX, FLT_MIN,	0x1p-149f};
	float x[256], zero[256] = {0};
	const struct vf_place at = {zero, zero};
	struct vf_factors f;
	uint8_t code[32];

	for (size_t i = 0; i < VF_N(bad); i++)
		for (size_t m = 0; m < VF_N(metrics); m++)
			for (int all = 0; all < 2; all++) {
				memset(x, 0, sizeof(x));
				for (int j = 0; j < (all ? 256 : 1); j++)
					x[j] = bad[i];
				vf_quantize_row(metrics[m], 256, x, &at, code,
						&f);
				CU_ASSERT(are_finite(&f));
			}
}

/* Its bound was 0, which closed all rows of tiny elements but some. */
static void a_row_near_the_centroid_has_a_bound(void)
{
	float x[256], zero[256] = {0}, length = 16e-18f;
	const struct vf_place at = {zero, zero};
	const struct vf_grid g = {.metric = VF_DOT, .padded = 256, .bits = 5};
	struct vf_extra_factors fine;
	struct vf_factors f;
	uint8_t code[32], extra[4 * 32];

	for (int i = 0; i < 256; i++)
		x[i] = i % 2 ? 1e-18f : -1e-18f;
	vf_quantize_row(VF_DOT, 256, x, &at, code, &f);
	CU_ASSERT_DOUBLE_EQUAL(f.err, length, length / 1e5f);
	vf_refine_row(&g, x, &at, extra, &fine);
	CU_ASSERT_DOUBLE_EQUAL(fine.err, length, length / 1e5f);
}

static void a_row_at_the_centroid_is_estimated_exactly(void)
{
	float x[256];
	const struct vf_place at = {x, x};
	struct vf_factors f;
	uint8_t code[32];
	uint64_t seed = 31;

	for (int i = 0; i < 256; i++)
		x[i] = vf_test_normal(&seed);
	vf_quantize_row(VF_EUCLIDEAN, 256, x, &at, code, &f);
	CU_ASSERT(f.add == 0 && f.mul == 0 && f.err == 0);
	CU_ASSERT_EQUAL(f.ones, 256);
}

static void factors_know_the_length_of_the_residual(void)
{
	static struct pair p;
	uint8_t code[PADDED_MAX / 8];
	struct vf_factors f;
	uint64_t seed = 37;

	for (size_t m = 0; m < VF_N(metrics); m++)
		for (uint32_t n = 256; n <= PADDED_MAX; n += 128) {
			make_centres(metrics[m], n, false, &seed, &p);
			make_pair(metrics[m], n, 0.3f, &seed, &p);
			const struct vf_place at = {p.leaf, p.leaf};
			vf_quantize_row(metrics[m], n, p.x, &at, code, &f);
			double want = sqrt(l2sq(p.x, p.leaf, n));
			float got = vf_factors_radius(metrics[m], n, &f);
			CU_ASSERT(got >= want && got < want * 1.001);
		}
}

static CU_TestInfo tests[] = {
	{"a row near the centroid has a bound",
	 a_row_near_the_centroid_has_a_bound},
	{"estimates of neighbours are unbiased",
	 estimates_of_neighbours_are_unbiased},
	{"the bound of eps 1.9 holds for 94 % of strangers",
	 the_bound_holds_for_94_percent_of_strangers},
	{"the bound holds for all but few neighbours",
	 the_bound_holds_for_all_but_few_neighbours},
	{"a wrong estimator is found out", a_wrong_estimator_is_found_out},
	{"leaves apart from the origin are estimated too",
	 leaves_apart_from_the_origin_are_estimated_too},
	{"planes hold each dimension within half a step",
	 planes_hold_each_dimension_within_half_a_step},
	{"counts equal the plain integer sum",
	 counts_equal_the_plain_integer_sum},
	{"a query at the origin has no step",
	 a_query_at_the_origin_has_no_step},
	{"factors are finite whatever the row holds",
	 factors_are_finite_whatever_the_row_holds},
	{"a row at the centroid is estimated exactly",
	 a_row_at_the_centroid_is_estimated_exactly},
	{"factors know the length of the residual",
	 factors_know_the_length_of_the_residual},
	CU_TEST_INFO_NULL};
VF_SUITE("index/quantize", tests);
