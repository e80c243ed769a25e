/*
 * Kernels of bytes: variants against the definition, for every remainder of
 * rows, panels and dimensions, on arrays exactly as long as they need be.
 */
#include "index/kernels_i8.h"
#include "store/util.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

enum { ROWS_MAX = 27, PANELS_MAX = 3 };

static int8_t *random_bytes(size_t n, uint64_t *seed)
{
	int8_t *p = malloc(n + 1);

	for (size_t i = 0; p && i < n; i++)
		p[i] = (int8_t)vf_splitmix64(seed);
	return p;
}

static void compare_dots(vf_dots_i8_fn *fn, size_t n_rows, size_t n_panels,
			 size_t n_quads, uint64_t *seed)
{
	VF_AUTO_FREE int8_t *x = random_bytes(n_rows * n_quads * 4, seed);
	VF_AUTO_FREE int8_t *w =
		random_bytes(n_panels * n_quads * 4 * VF_PANEL, seed);
	size_t stride = n_panels * VF_PANEL;
	VF_AUTO_FREE int32_t *got = malloc(n_rows * stride * sizeof(*got));
	VF_AUTO_FREE int32_t *want = malloc(n_rows * stride * sizeof(*want));
	const uint8_t *rows[ROWS_MAX];

	for (size_t i = 0; i < n_rows; i++)
		rows[i] = (uint8_t *)x + i * n_quads * 4;
	fn(rows, n_rows, w, n_panels, n_quads, got, stride);
	vf_dots_i8_named("scalar")(rows, n_rows, w, n_panels, n_quads, want,
				   stride);
	CU_ASSERT(!memcmp(got, want, n_rows * stride * sizeof(*got)));
}

static void dots_agree(void)
{
	static const char *const names[] = {"avx2", "vnni"};
	uint64_t seed = 1;

	for (size_t k = 0; k < VF_N(names); k++) {
		vf_dots_i8_fn *fn = vf_dots_i8_named(names[k]);
		if (!fn) {
			fprintf(stderr, "skipped: this CPU has no %s\n",
				names[k]);
			continue;
		}
		for (size_t rows = 1; rows <= ROWS_MAX; rows++)
			for (size_t panels = 1; panels <= PANELS_MAX; panels++)
				compare_dots(fn, rows, panels, rows, &seed);
		compare_dots(fn, 13, 2, 1024, &seed);
	}
	CU_ASSERT_PTR_NULL(vf_dots_i8_named("abacus"));
}

/* The largest sums there are do not overflow. */
static void longest_rows_fit(void)
{
	enum { QUADS = 1024 };
	static uint8_t x[4 * QUADS];
	static int8_t w[QUADS * 4 * VF_PANEL];
	const uint8_t *rows[1] = {x};
	int32_t sums[VF_PANEL];

	memset(x, 255, sizeof(x));
	memset(w, -128, sizeof(w));
	vf_dots_i8()(rows, 1, w, 1, QUADS, sums, VF_PANEL);
	CU_ASSERT_EQUAL(sums[7], 255 * -128 * 4 * QUADS);
}

static void rounding_agrees(void)
{
	vf_round_i8_fn *fn = vf_round_i8_named("avx2");
	uint64_t seed = 2;

	for (size_t dim = 1; fn && dim <= 65; dim++) {
		VF_AUTO_FREE float *x = malloc(dim * sizeof(*x));
		VF_AUTO_FREE float *mid = malloc(dim * sizeof(*mid));
		size_t len = vf_round_up(dim, 4);
		VF_AUTO_FREE uint8_t *got = malloc(len), *want = malloc(len);
		for (size_t i = 0; i < dim; i++) {
			x[i] = vf_test_normal(&seed);
			mid[i] = vf_test_normal(&seed);
		}
		struct vf_rounded a = fn(x, .7f, mid, dim, got);
		struct vf_rounded b =
			vf_round_i8_named("scalar")(x, .7f, mid, dim, want);
		CU_ASSERT(!memcmp(got, want, len));
		CU_ASSERT_EQUAL(a.step, b.step);
		CU_ASSERT(fabsf(a.len - b.len) <= 1e-5f * b.len);
	}
	CU_ASSERT_PTR_NULL(vf_round_i8_named("abacus"));
}

static void bytes_stand_for_rows(void)
{
	float x[50], mid[50];
	uint8_t q[52];
	uint64_t seed = 3;

	for (int i = 0; i < 50; i++) {
		x[i] = vf_test_normal(&seed);
		mid[i] = vf_test_normal(&seed);
	}
	struct vf_rounded r = vf_round_i8()(x, 2, mid, 50, q);
	for (int i = 0; i < 50; i++)
		CU_ASSERT(fabsf(2 * x[i] - mid[i] -
				r.step * (float)(q[i] - VF_BYTE_ZERO)) <=
			  .501f * r.step);
	CU_ASSERT(q[50] == VF_BYTE_ZERO && q[51] == VF_BYTE_ZERO);
}

/* Equal rows, the smallest and the largest numbers: bytes of some kind. */
static void odd_rows_are_rounded(void)
{
	const float all[] = {0, 1e-42f, 3e38f, -3e38f};

	for (size_t k = 0; k < VF_N(all); k++) {
		float x[17], mid[17];
		uint8_t q[20];
		for (int i = 0; i < 17; i++) {
			x[i] = i % 2 ? all[k] : 0;
			mid[i] = i % 2 ? -all[k] : 0;
		}
		struct vf_rounded r = vf_round_i8()(x, 1, mid, 17, q);
		CU_ASSERT(!isnan(r.step));
		CU_ASSERT(q[0] == VF_BYTE_ZERO || !isfinite(r.step));
	}
}

static void keeping_agrees(void)
{
	enum { N = PANELS_MAX * VF_PANEL };
	vf_keep_i8_fn *fn = vf_keep_i8_named("vnni");
	uint64_t seed = 4;
	int32_t sums[N], bias[N];
	float mul[N], add[N], we[N];
	struct vf_panels p = {bias, mul, add, we, PANELS_MAX, 100};

	for (int round = 0; fn && round < 20; round++) {
		struct vf_places got, want;
		for (int i = 0; i < N; i++) {
			sums[i] = (int32_t)(vf_splitmix64(&seed) % 20000);
			bias[i] = 10000;
			mul[i] = fabsf(vf_test_normal(&seed));
			add[i] = i % 5 ? vf_test_normal(&seed) : -INFINITY;
			we[i] = vf_test_normal(&seed);
		}
		for (int i = 0; i < VF_PANEL; i++)
			got.score[i] = -INFINITY, got.id[i] = 0;
		want = got;
		fn(&p, sums, .01f, .3f, &got);
		vf_keep_i8_named("scalar")(&p, sums, .01f, .3f, &want);
		CU_ASSERT(!memcmp(&got, &want, sizeof(got)));
	}
	CU_ASSERT_PTR_NULL(vf_keep_i8_named("abacus"));
}

static CU_TestInfo tests[] = {
	{"products agree with the definition", dots_agree},
	{"the longest rows fit", longest_rows_fit},
	{"rounding agrees with the definition", rounding_agrees},
	{"bytes stand for rows", bytes_stand_for_rows},
	{"odd rows are rounded", odd_rows_are_rounded},
	{"keeping the best agrees with the definition", keeping_agrees},
	CU_TEST_INFO_NULL,
};

VF_SUITE("index/kernels_i8", tests);
