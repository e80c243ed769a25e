/*
 * AVX-512: tiles of four rows by six centroids, 24 sums in registers, so that
 * the multipliers and not the loads are the limit.  Six centroids of 1024
 * floats stay in the first-level cache while the rows of the block pass by.
 */
#include "index/kernels_gemm.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define BW __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))

enum { TILE_ROWS = 4, TILE_W = 6 };

/* The sums of four vectors, in order. */
BW static inline __m128 sum_four(const __m512 *v)
{
	__m256 h[4];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		h[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i]),
				     _mm512_extractf32x8_ps(v[i], 1));
	__m256 a = _mm256_hadd_ps(_mm256_hadd_ps(h[0], h[1]),
				  _mm256_hadd_ps(h[2], h[3]));
	return _mm_add_ps(_mm256_castps256_ps128(a),
			  _mm256_extractf128_ps(a, 1));
}

BW static inline void step(__m512 acc[TILE_W][TILE_ROWS], const float *const *x,
			   const float *const *w, size_t i, __mmask16 m)
{
	__m512 a = _mm512_maskz_loadu_ps(m, x[0] + i);
	__m512 b = _mm512_maskz_loadu_ps(m, x[1] + i);
	__m512 c = _mm512_maskz_loadu_ps(m, x[2] + i);
	__m512 d = _mm512_maskz_loadu_ps(m, x[3] + i);

#pragma GCC unroll 6
	for (int j = 0; j < TILE_W; j++) {
		__m512 v = _mm512_maskz_loadu_ps(m, w[j] + i);
		acc[j][0] = _mm512_fmadd_ps(a, v, acc[j][0]);
		acc[j][1] = _mm512_fmadd_ps(b, v, acc[j][1]);
		acc[j][2] = _mm512_fmadd_ps(c, v, acc[j][2]);
		acc[j][3] = _mm512_fmadd_ps(d, v, acc[j][3]);
	}
}

BW static void run_tile(const float *const *x, const float *const *w,
			const float *const *next, size_t dim, float *sums)
{
	__m512 acc[TILE_W][TILE_ROWS];
	size_t i = 0;

#pragma GCC unroll 6
	for (int j = 0; j < TILE_W; j++)
		acc[j][0] = acc[j][1] = acc[j][2] = acc[j][3] =
			_mm512_setzero_ps();
	for (; next && i + 16 <= dim; i += 16) {
		for (int r = 0; r < TILE_ROWS; r++)
			_mm_prefetch(next[r] + i, _MM_HINT_T0);
		step(acc, x, w, i, 0xffff);
	}
	for (; i + 16 <= dim; i += 16)
		step(acc, x, w, i, 0xffff);
	if (i < dim)
		step(acc, x, w, i, (__mmask16)((1u << (dim - i)) - 1));
#pragma GCC unroll 6
	for (int j = 0; j < TILE_W; j++)
		_mm_storeu_ps(sums + j * TILE_ROWS, sum_four(acc[j]));
}

static void dots_f32_avx512(const float *const *rows, size_t n_rows,
			    const float *w, size_t n_w, size_t dim, float *out)
{
	const struct vf_gemm_tile tile = {TILE_ROWS, TILE_W, run_tile};

	vf_gemm_run_tiles(&tile, rows, n_rows, w, n_w, dim, out);
}

BW static void add_f32_avx512(const float *x, double scale, size_t dim,
			      double *sum)
{
	const __m512d s = _mm512_set1_pd(scale);

	for (size_t i = 0; i < dim; i += 8) {
		size_t left = dim - i;
		__mmask8 m = left >= 8 ? 0xff : (__mmask8)((1u << left) - 1);
		__m512d v = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x + i));
		__m512d a = _mm512_maskz_loadu_pd(m, sum + i);
		/* Not fused: the scalar definition rounds the product. */
		a = _mm512_add_pd(a, _mm512_mul_pd(s, v));
		_mm512_mask_storeu_pd(sum + i, m, a);
	}
}

static const struct vf_gemm_kernels avx512 = {
	.name = "avx512",
	.dots_f32 = dots_f32_avx512,
	.add_f32 = add_f32_avx512,
};

const struct vf_gemm_kernels *vf_gemm_kernels_avx512(void)
{
	return __builtin_cpu_supports("avx512f") &&
			       __builtin_cpu_supports("avx512bw") &&
			       __builtin_cpu_supports("avx512dq") &&
			       __builtin_cpu_supports("avx512vl")
		       ? &avx512
		       : NULL;
}
#endif
