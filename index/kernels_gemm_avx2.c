/*
 * AVX2 with FMA: tiles of three rows by four centroids, twelve sums of the
 * sixteen registers.
 */
#include "index/kernels_gemm.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma")))

enum { TILE_ROWS = 3, TILE_W = 4 };

/* The sums of four vectors, in order. */
AVX2 static inline __m128 sum_four(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 s = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));

	return _mm_add_ps(_mm256_castps256_ps128(s),
			  _mm256_extractf128_ps(s, 1));
}

/* What is left of fewer than eight floats, zeros after it. */
AVX2 static inline __m256 load_tail(const float *x, size_t n)
{
	float v[8] = {0};

	memcpy(v, x, n * sizeof(float));
	return _mm256_loadu_ps(v);
}

AVX2 static void run_tile(const float *const *x, const float *const *w,
			  const float *const *next, size_t dim, float *sums)
{
	(void)next; /* the CPU's own guess does as well */
	__m256 acc[TILE_W * TILE_ROWS];
	size_t i = 0;

#pragma GCC unroll 12
	for (int j = 0; j < TILE_W * TILE_ROWS; j++)
		acc[j] = _mm256_setzero_ps();
	for (; i + 8 <= dim; i += 8) {
		__m256 a = _mm256_loadu_ps(x[0] + i);
		__m256 b = _mm256_loadu_ps(x[1] + i);
		__m256 c = _mm256_loadu_ps(x[2] + i);
#pragma GCC unroll 4
		for (int j = 0; j < TILE_W; j++) {
			__m256 v = _mm256_loadu_ps(w[j] + i);
			acc[3 * j] = _mm256_fmadd_ps(a, v, acc[3 * j]);
			acc[3 * j + 1] = _mm256_fmadd_ps(b, v, acc[3 * j + 1]);
			acc[3 * j + 2] = _mm256_fmadd_ps(c, v, acc[3 * j + 2]);
		}
	}
	if (i < dim)
#pragma GCC unroll 12
		for (int j = 0; j < TILE_W * TILE_ROWS; j++)
			acc[j] = _mm256_fmadd_ps(
				load_tail(x[j % TILE_ROWS] + i, dim - i),
				load_tail(w[j / TILE_ROWS] + i, dim - i),
				acc[j]);
#pragma GCC unroll 3
	for (int j = 0; j < TILE_W * TILE_ROWS; j += 4)
		_mm_storeu_ps(sums + j, sum_four(acc[j], acc[j + 1], acc[j + 2],
						 acc[j + 3]));
}

static void dots_f32_avx2(const float *const *rows, size_t n_rows,
			  const float *w, size_t n_w, size_t dim, float *out)
{
	const struct vf_gemm_tile tile = {TILE_ROWS, TILE_W, run_tile};

	vf_gemm_run_tiles(&tile, rows, n_rows, w, n_w, dim, out);
}

AVX2 static void add_f32_avx2(const float *x, double scale, size_t dim,
			      double *sum)
{
	const __m256d s = _mm256_set1_pd(scale);
	size_t i = 0;

	/* Not fused: the scalar definition rounds the product. */
	for (; i + 4 <= dim; i += 4) {
		__m256d v = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
		__m256d a = _mm256_loadu_pd(sum + i);
		a = _mm256_add_pd(a, _mm256_mul_pd(s, v));
		_mm256_storeu_pd(sum + i, a);
	}
	for (; i < dim; i++) {
		double v = scale * x[i];
		sum[i] += v;
	}
}

static const struct vf_gemm_kernels avx2 = {
	.name = "avx2",
	.dots_f32 = dots_f32_avx2,
	.add_f32 = add_f32_avx2,
};

const struct vf_gemm_kernels *vf_gemm_kernels_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
		       ? &avx2
		       : NULL;
}
#endif
