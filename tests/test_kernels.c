/*
 * Every variant against the scalar reference: all lengths 0..257, unaligned,
 * ending at a page that may not be touched.
 */
#include "index/kernels.h"
#include "index/quantize.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <sys/mman.h>

enum { LEN_MAX = 257, GUARDED = 65536 };

static const char *const names[] = {
#if defined(__aarch64__)
	"neon",
#else
	"avx2",
	"avx512",
	"avx512vpopcntdq",
#endif
};

/* Bytes that end where reading or writing on is a fault. */
static uint8_t *guarded_end(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, GUARDED + page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + GUARDED, page, PROT_NONE))
		abort();
	return p + GUARDED;
}

static void free_guarded(uint8_t *end)
{
	munmap(end - GUARDED, GUARDED + (size_t)sysconf(_SC_PAGESIZE));
}

static void for_each_variant(void (*test)(const struct vf_kernels *k))
{
	for (size_t i = 0; i < VF_N(names); i++) {
		const struct vf_kernels *k = vf_kernels_named(names[i]);
		if (k)
			test(k);
		else
			fprintf(stderr, "skipped: this CPU has no %s\n",
				names[i]);
	}
}

static const struct vf_kernels *scalar(void)
{
	return vf_kernels_named("scalar");
}

static void fill_floats(void *p, size_t n, uint64_t *seed)
{
	for (size_t i = 0; i < n; i++) {
		float v = vf_test_normal(seed);
		memcpy((char *)p + i * sizeof(v), &v, sizeof(v));
	}
}

/* ---- counts ------------------------------------------------------------------------ */

static void compare_counts(const struct vf_kernels *k)
{
	uint8_t *code_end = guarded_end(), *plane_end = guarded_end();
	uint64_t seed = 1;

	for (uint8_t *p = code_end - GUARDED; p < code_end; p++)
		*p = (uint8_t)vf_test_rand(&seed);
	for (uint8_t *p = plane_end - GUARDED; p < plane_end; p++)
		*p = (uint8_t)vf_test_rand(&seed);
	for (size_t words = 1; words <= LEN_MAX; words++) {
		size_t n = words <= 64 ? 5 : 1;
		const uint8_t *codes = code_end - n * words * 8;
		const uint64_t *planes =
			(const void *)(plane_end - 4 * words * 8);
		uint32_t got[5], want[5];
		k->b1q4(codes, n, words, planes, got);
		scalar()->b1q4(codes, n, words, planes, want);
		CU_ASSERT(!memcmp(got, want, n * sizeof(got[0])));
		k->hamming(codes, n, words, planes, got);
		scalar()->hamming(codes, n, words, planes, want);
		CU_ASSERT(!memcmp(got, want, n * sizeof(got[0])));
		k->hamming(codes - 3, n, words, planes + 3 * words, got);
		scalar()->hamming(codes - 3, n, words, planes + 3 * words,
				  want);
		CU_ASSERT(!memcmp(got, want, n * sizeof(got[0])));
		k->b1q4(codes - 3, n, words, planes, got);
		scalar()->b1q4(codes - 3, n, words, planes, want);
		CU_ASSERT(!memcmp(got, want, n * sizeof(got[0])));
	}
	free_guarded(code_end);
	free_guarded(plane_end);
}

static void counts_of_all_ones_do_not_overflow(void)
{
	enum { WORDS = 64, ROWS = 5 };
	uint64_t planes[4 * WORDS];
	uint8_t codes[ROWS * WORDS * 8];
	uint32_t n[ROWS];

	memset(planes, 0xff, sizeof(planes));
	memset(codes, 0xff, sizeof(codes));
	scalar()->b1q4(codes, 1, WORDS, planes, n);
	CU_ASSERT_EQUAL(n[0], 15 * 64 * WORDS);
	vf_kernels()->b1q4(codes, ROWS, WORDS, planes, n);
	for (int i = 0; i < ROWS; i++)
		CU_ASSERT_EQUAL(n[i], 15 * 64 * WORDS);
}

static void compare_estimates(const struct vf_kernels *k)
{
	enum { ROWS = 64 };
	uint8_t *end = guarded_end(), *counts_end = guarded_end();
	struct vf_query_code q = {
		.lo = -.7f, .step = .1f, .sum = 3, .base = .5f};
	float got[ROWS], want[ROWS];
	uint64_t seed = 3, near;

	for (size_t n = 0; n <= ROWS; n++) {
		struct vf_factors *f =
			(void *)(end - n * sizeof(struct vf_factors));
		uint32_t *counts = (void *)(counts_end - n * sizeof(*counts));
		fill_floats(f, n * 4, &seed);
		for (size_t i = 0; i < n; i++) {
			f[i].ones = (uint32_t)(vf_test_rand(&seed) % 4097);
			counts[i] = (uint32_t)(vf_test_rand(&seed) % 61441);
		}
		if (n > 7)
			f[n - 7].add = NAN, f[n / 2].mul = INFINITY;
		near = scalar()->estimate(&q, f, counts, n, 2, want);
		CU_ASSERT_EQUAL(k->estimate(&q, f, counts, n, 2, got), near);
		CU_ASSERT(!memcmp(got, want, n * sizeof(*got)));
		for (size_t i = 0; i < n; i++)
			CU_ASSERT_EQUAL(near >> i & 1, !(want[i] > 2));
		CU_ASSERT(n == 64 || !(near >> n));
	}
	free_guarded(end);
	free_guarded(counts_end);
}

static void variants_estimate_alike(void)
{
	for_each_variant(compare_estimates);
}

static void variants_count_alike(void)
{
	for_each_variant(compare_counts);
}

/* ---- distances ------------------------------------------------------------------------ */

static void check_sums(const double *got, const double *want, size_t n,
		       size_t dim)
{
	for (size_t i = 0; i < n; i++)
		CU_ASSERT(fabs(got[i] - want[i]) <= (double)dim * 64 * 0x1p-52);
}

static void compare_distances(const struct vf_kernels *k)
{
	enum { N = 3 };
	uint8_t *q_end = guarded_end(), *x_end = guarded_end();
	double got[N], want[N], sq[N], want_sq[N];
	uint64_t seed = 2;

	for (size_t dim = 0; dim <= LEN_MAX; dim++)
		for (size_t shift = 0; shift < 2; shift++) {
			float *q = (void *)(q_end - dim * 4);
			uint8_t *x = x_end - N * dim * 4 - shift;
			fill_floats(q, dim, &seed);
			fill_floats(x, N * dim, &seed);
			k->dot_f32(q, x, N, dim, got, sq);
			scalar()->dot_f32(q, x, N, dim, want, want_sq);
			check_sums(got, want, N, dim);
			check_sums(sq, want_sq, N, dim);
			k->l2sq_f32(q, x, N, dim, got);
			scalar()->l2sq_f32(q, x, N, dim, want);
			check_sums(got, want, N, dim);

			x = x_end - N * dim * 2 - shift;
			for (size_t i = 0; i < N * dim; i++)
				vf_put_le16(x + i * 2,
					    vf_float_to_half(
						    vf_test_normal(&seed)));
			k->dot_f16(q, x, N, dim, got, sq);
			scalar()->dot_f16(q, x, N, dim, want, want_sq);
			check_sums(got, want, N, dim);
			check_sums(sq, want_sq, N, dim);
			k->l2sq_f16(q, x, N, dim, got);
			scalar()->l2sq_f16(q, x, N, dim, want);
			check_sums(got, want, N, dim);
		}
	free_guarded(q_end);
	free_guarded(x_end);
}

static void variants_measure_alike(void)
{
	for_each_variant(compare_distances);
}

/* ---- rotation and coding ------------------------------------------------------------ */

static void compare_rotation(const struct vf_kernels *k)
{
	uint8_t *a_end = guarded_end(), *b_end = guarded_end();
	uint8_t *s_end = guarded_end();
	uint64_t seed = 3;

	for (size_t n = 0; n <= LEN_MAX; n++) {
		float *a = (void *)(a_end - n * 4),
		      *b = (void *)(b_end - n * 4);
		float *s = (void *)(s_end - n * 4);
		fill_floats(a, n, &seed);
		fill_floats(s, n, &seed);
		memcpy(b, a, n * 4);
		k->flip_f32(a, s, n);
		scalar()->flip_f32(b, s, n);
		CU_ASSERT(!memcmp(a, b, n * 4));
		k->butterfly_f32(a, n / 2);
		scalar()->butterfly_f32(b, n / 2);
		CU_ASSERT(!memcmp(a, b, n * 4));
	}
	for (size_t n = 1; n <= 8192; n *= 2) {
		float *a = (void *)(a_end - n * 4),
		      *b = (void *)(b_end - n * 4);
		fill_floats(a, n, &seed);
		memcpy(b, a, n * 4);
		k->wht_f32(a, n);
		scalar()->wht_f32(b, n);
		CU_ASSERT(!memcmp(a, b, n * 4));
	}
	free_guarded(a_end);
	free_guarded(b_end);
	free_guarded(s_end);
}

static void variants_rotate_alike(void)
{
	for_each_variant(compare_rotation);
}

static void compare_codes(const struct vf_kernels *k)
{
	uint8_t *x_end = guarded_end(), *c_end = guarded_end();
	uint8_t *code_end = guarded_end();
	uint8_t want[LEN_MAX * 8];
	uint64_t seed = 4;

	for (size_t words = 0; words <= LEN_MAX - 2; words += 1 + words / 8) {
		size_t n = words * 64;
		float *x = (void *)(x_end - n * 4),
		      *c = (void *)(c_end - n * 4);
		struct vf_residual a, b;
		uint8_t *code = code_end - words * 8;
		double bound = (double)n * 32 * 0x1p-22;
		fill_floats(x, n, &seed);
		fill_floats(c, n, &seed);
		if (n)
			x[5] = c[5]; /* no residual: the bit is set */
		k->code_f32(x, c, words, code, &a);
		scalar()->code_f32(x, c, words, want, &b);
		CU_ASSERT(!memcmp(code, want, words * 8));
		CU_ASSERT(!n || (code[0] >> 5 & 1));
		CU_ASSERT_EQUAL(a.ones, b.ones);
		CU_ASSERT(fabs(a.l1 - b.l1) <= bound);
		CU_ASSERT(fabs(a.l2sq - b.l2sq) <= bound);
		CU_ASSERT(fabs(a.rc - b.rc) <= bound);
	}
	free_guarded(x_end);
	free_guarded(c_end);
	free_guarded(code_end);
}

static void variants_code_alike(void)
{
	for_each_variant(compare_codes);
}

/* ---- halves --------------------------------------------------------------------------- */

static void halves_survive_the_way_through_floats(void)
{
	for (uint32_t h = 0; h < 65536; h++) {
		float f = vf_half_to_float((uint16_t)h);
		if (isnan(f)) {
			CU_ASSERT((h & 0x7fff) > 0x7c00);
		} else if (vf_float_to_half(f) != h) {
			CU_FAIL("a half changed");
		}
	}
	CU_ASSERT_EQUAL(vf_half_to_float(0x3c00), 1);
	CU_ASSERT_EQUAL(vf_half_to_float(1), 0x1p-24f);
	CU_ASSERT_EQUAL(vf_half_to_float(0xfbff), -65504);
}

static void floats_round_to_the_nearest_even_half(void)
{
	CU_ASSERT_EQUAL(vf_float_to_half(1 + 0x1p-11f), 0x3c00);
	CU_ASSERT_EQUAL(vf_float_to_half(1 + 3 * 0x1p-11f), 0x3c02);
	CU_ASSERT_EQUAL(vf_float_to_half(1 + 0x1.002p-11f), 0x3c01);
	CU_ASSERT_EQUAL(vf_float_to_half(0x1p-25f), 0);
	CU_ASSERT_EQUAL(vf_float_to_half(0x1.8p-25f), 1);
	CU_ASSERT_EQUAL(vf_float_to_half(65519), 0x7bff);
	CU_ASSERT_EQUAL(vf_float_to_half(65520), 0x7c00);
	CU_ASSERT_EQUAL(vf_float_to_half(-INFINITY), 0xfc00);
}

static float random_float(uint64_t *seed)
{
	uint32_t bits = (uint32_t)vf_test_rand(seed);
	float f;

	if (vf_test_rand(seed) & 1) /* in and around the range of halves */
		bits = (bits & 0x807fffff) |
		       (uint32_t)(96 + vf_test_rand(seed) % 52) << 23;
	memcpy(&f, &bits, sizeof(f));
	return isnan(f) ? 0 : f;
}

static void compare_conversions(const struct vf_kernels *k)
{
	uint8_t *f_end = guarded_end(), *h_end = guarded_end();
	uint16_t want[LEN_MAX];
	float wide[LEN_MAX];
	uint64_t seed = 5;

	for (size_t n = 0; n <= LEN_MAX; n++) {
		float *f = (void *)(f_end - n * 4);
		uint8_t *h = h_end - n * 2;
		for (size_t i = 0; i < n; i++)
			f[i] = random_float(&seed);
		k->narrow_f32(f, n, h);
		scalar()->narrow_f32(f, n, want);
		CU_ASSERT(!memcmp(h, want, n * 2));
		memmove(h - 1, h, n * 2);
		k->widen_f16(h - 1, n, f);
		scalar()->widen_f16(want, n, wide);
		CU_ASSERT(!memcmp(f, wide, n * 4));
	}
	free_guarded(f_end);
	free_guarded(h_end);
}

static void variants_convert_alike(void)
{
	for_each_variant(compare_conversions);
}

static void unknown_names_have_no_table(void)
{
	CU_ASSERT_PTR_NULL(vf_kernels_named("sse9"));
	CU_ASSERT_PTR_NOT_NULL(vf_kernels());
}

static CU_TestInfo tests[] = {
	{"variants count alike", variants_count_alike},
	{"variants estimate alike", variants_estimate_alike},
	{"counts of all ones do not overflow",
	 counts_of_all_ones_do_not_overflow},
	{"variants measure alike", variants_measure_alike},
	{"variants rotate alike", variants_rotate_alike},
	{"variants code alike", variants_code_alike},
	{"halves survive the way through floats",
	 halves_survive_the_way_through_floats},
	{"floats round to the nearest even half",
	 floats_round_to_the_nearest_even_half},
	{"variants convert alike", variants_convert_alike},
	{"unknown names have no table", unknown_names_have_no_table},
	CU_TEST_INFO_NULL};
VF_SUITE("index/kernels", tests);
