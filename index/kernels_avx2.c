/*
 * AVX2 with FMA and F16C.  Popcounts by a table of nibbles in a register:
 * Mula, Kurz and Lemire, "Faster Population Counts Using AVX2 Instructions",
 * 2018, section 3.
 */
#include "index/kernels.h"
#include "index/kernels_wht.h"
#include "index/quantize.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c,popcnt")))

/* ---- estimates -------------------------------------------------------------------------- */

AVX2 static inline __m256i popcount_bytes(__m256i v)
{
	const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2,
					       3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2,
					       2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
	const __m256i low = _mm256_set1_epi8(15);
	__m256i lo = _mm256_and_si256(v, low);
	__m256i hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);

	return _mm256_add_epi8(_mm256_shuffle_epi8(table, lo),
			       _mm256_shuffle_epi8(table, hi));
}

/* Weighted counts of 32 bytes: at most 8 * 15 = 120 each, so bytes hold it. */
AVX2 static inline __m256i weigh(__m256i c, const uint64_t *planes,
				 size_t words, size_t w)
{
	__m256i sum = _mm256_setzero_si256();

	for (int j = 3; j >= 0; j--) {
		__m256i p = _mm256_loadu_si256(
			(const void *)(planes + (size_t)j * words + w));
		sum = _mm256_add_epi8(_mm256_add_epi8(sum, sum),
				      popcount_bytes(_mm256_and_si256(c, p)));
	}
	return sum;
}

AVX2 static inline uint32_t sum_u64(__m256i v)
{
	__m128i s = _mm_add_epi64(_mm256_castsi256_si128(v),
				  _mm256_extracti128_si256(v, 1));
	return (uint32_t)(_mm_cvtsi128_si64(s) + _mm_extract_epi64(s, 1));
}

AVX2 static uint32_t weigh_tail(const uint8_t *code, size_t w, size_t words,
				const uint64_t *planes)
{
	uint32_t sum = 0;

	for (; w < words; w++) {
		uint64_t c;
		memcpy(&c, code + w * 8, 8);
		for (size_t j = 0; j < 4; j++)
			sum += (uint32_t)_mm_popcnt_u64(c &
							planes[j * words + w])
			       << j;
	}
	return sum;
}

AVX2 static void b1q4_avx2(const uint8_t *codes, size_t n, size_t words,
			   const uint64_t *planes, uint32_t *out)
{
	const __m256i zero = _mm256_setzero_si256();

	for (size_t r = 0; r < n; r++, codes += words * 8) {
		__m256i acc = zero;
		size_t w = 0;
		vf_kernel_ahead(codes, words * 8);
		for (; w + 4 <= words; w += 4) {
			__m256i c = _mm256_loadu_si256(
				(const void *)(codes + w * 8));
			acc = _mm256_add_epi64(
				acc, _mm256_sad_epu8(weigh(c, planes, words, w),
						     zero));
		}
		out[r] = sum_u64(acc) + weigh_tail(codes, w, words, planes);
	}
}

/* One POPCNT a cycle is faster than memory: vectors would gain nothing. */
AVX2 static void hamming_popcnt(const uint8_t *codes, size_t n, size_t words,
				const uint64_t *q, uint32_t *out)
{
	for (size_t r = 0; r < n; r++, codes += words * 8) {
		uint64_t sum = 0;
		for (size_t w = 0; w < words; w++) {
			uint64_t c;
			memcpy(&c, codes + w * 8, 8);
			sum += (uint64_t)_mm_popcnt_u64(c ^ q[w]);
		}
		out[r] = (uint32_t)sum;
	}
}

/*
 * Eight rows at a time, in the order 0 2 4 6 1 3 5 7, in which unpacking leaves
 * them.
 */
AVX2 static uint64_t estimate_avx2(const struct vf_query_code *q,
				   const struct vf_factors *f,
				   const uint32_t *counts, size_t n,
				   float limit, float *out)
{
	const __m256i apart = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
	const __m256i back = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
	const __m256 lo = _mm256_set1_ps(q->lo), step = _mm256_set1_ps(q->step);
	uint64_t near = 0;
	size_t r = 0;

	for (; r + 8 <= n; r += 8) {
		const float *p = (const float *)(f + r);
		__m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + 8);
		__m256 c = _mm256_loadu_ps(p + 16), d = _mm256_loadu_ps(p + 24);
		__m256d ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
		__m256d cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
		__m256 add = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
		__m256 mul = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
		ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
		cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
		__m256 ones = _mm256_cvtepi32_ps(
			_mm256_castpd_si256(_mm256_unpackhi_pd(ab, cd)));
		__m256 count = _mm256_cvtepi32_ps(_mm256_permutevar8x32_epi32(
			_mm256_loadu_si256((const void *)(counts + r)), apart));
		__m256 s = _mm256_add_ps(_mm256_mul_ps(lo, ones),
					 _mm256_mul_ps(step, count));
		s = _mm256_sub_ps(_mm256_add_ps(s, s), _mm256_set1_ps(q->sum));
		s = _mm256_add_ps(_mm256_add_ps(_mm256_set1_ps(q->base), add),
				  _mm256_mul_ps(mul, s));
		s = _mm256_permutevar8x32_ps(s, back);
		_mm256_storeu_ps(out + r, s);
		s = _mm256_cmp_ps(s, _mm256_set1_ps(limit), _CMP_NGT_UQ);
		near |= (uint64_t)(uint32_t)_mm256_movemask_ps(s) << r;
	}
	if (r < n)
		near |= vf_estimate_scalar(q, f + r, counts + r, n - r, limit,
					   out + r)
			<< r;
	return near;
}

/* ---- distances -------------------------------------------------------------------------- */

AVX2 static inline double sum_pd(__m256d v)
{
	__m128d s = _mm_add_pd(_mm256_castpd256_pd128(v),
			       _mm256_extractf128_pd(v, 1));
	return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

AVX2 static inline __m256d load4_f32(const void *x, size_t i)
{
	return _mm256_cvtps_pd(_mm_loadu_ps((const float *)x + i));
}

AVX2 static inline __m256d load4_f16(const void *x, size_t i)
{
	return _mm256_cvtps_pd(_mm_cvtph_ps(
		_mm_loadl_epi64((const void *)((const char *)x + i * 2))));
}

AVX2 static inline double load1_f32(const void *x, size_t i)
{
	float v;
	memcpy(&v, (const char *)x + i * 4, 4);
	return v;
}

AVX2 static inline double load1_f16(const void *x, size_t i)
{
	uint16_t h;
	memcpy(&h, (const char *)x + i * 2, 2);
	return _cvtsh_ss(h);
}

#define DEFINE_DOT(type, size)                                                 \
	AVX2 static void dot_##type##_avx2(const float *q, const void *rows,   \
					   size_t n, size_t dim,               \
					   double *out_dot, double *out_sq)    \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			__m256d s[2] = {_mm256_setzero_pd(),                   \
					_mm256_setzero_pd()};                  \
			__m256d t[2] = {s[0], s[0]};                           \
			double tail = 0, tail_sq = 0;                          \
			size_t i = 0;                                          \
			for (; i + 8 <= dim; i += 8)                           \
				for (size_t j = 0; j < 2; j++) {               \
					__m256d x =                            \
						load4_##type(row, i + 4 * j);  \
					s[j] = _mm256_fmadd_pd(                \
						load4_f32(q, i + 4 * j), x,    \
						s[j]);                         \
					t[j] = _mm256_fmadd_pd(x, x, t[j]);    \
				}                                              \
			for (; i < dim; i++) {                                 \
				double x = load1_##type(row, i);               \
				tail += q[i] * x;                              \
				tail_sq += x * x;                              \
			}                                                      \
			out_dot[r] = sum_pd(_mm256_add_pd(s[0], s[1])) + tail; \
			out_sq[r] =                                            \
				sum_pd(_mm256_add_pd(t[0], t[1])) + tail_sq;   \
		}                                                              \
	}

#define DEFINE_L2SQ(type, size)                                                \
	AVX2 static void l2sq_##type##_avx2(const float *q, const void *rows,  \
					    size_t n, size_t dim, double *out) \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			__m256d s[2] = {_mm256_setzero_pd(),                   \
					_mm256_setzero_pd()};                  \
			double tail = 0;                                       \
			size_t i = 0;                                          \
			for (; i + 8 <= dim; i += 8)                           \
				for (size_t j = 0; j < 2; j++) {               \
					__m256d d = _mm256_sub_pd(             \
						load4_f32(q, i + 4 * j),       \
						load4_##type(row, i + 4 * j)); \
					s[j] = _mm256_fmadd_pd(d, d, s[j]);    \
				}                                              \
			for (; i < dim; i++) {                                 \
				double d = q[i] - load1_##type(row, i);        \
				tail += d * d;                                 \
			}                                                      \
			out[r] = sum_pd(_mm256_add_pd(s[0], s[1])) + tail;     \
		}                                                              \
	}

DEFINE_DOT(f32, 4)
DEFINE_DOT(f16, 2)
DEFINE_L2SQ(f32, 4)
DEFINE_L2SQ(f16, 2)

/* ---- rotation ----------------------------------------------------------------------------- */

/* The stages of distance 1, 2 and 4 inside eight floats. */
AVX2 static inline __m256 wht8(__m256 v)
{
	const __m256 s1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1);
	const __m256 s2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
	const __m256 s4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);

	v = _mm256_fmadd_ps(v, s1, _mm256_permute_ps(v, 0xb1));
	v = _mm256_fmadd_ps(v, s2, _mm256_permute_ps(v, 0x4e));
	return _mm256_fmadd_ps(v, s4, _mm256_permute2f128_ps(v, v, 1));
}

VF_DEFINE_WHT(AVX2, avx2, __m256, _mm256_loadu_ps, _mm256_storeu_ps, wht8)

AVX2 static void flip_f32_avx2(float *x, const float *s, size_t n)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i),
						      _mm256_loadu_ps(s + i)));
	for (; i < n; i++)
		x[i] *= s[i];
}

AVX2 static void butterfly_f32_avx2(float *x, size_t half)
{
	const float scale = 0x1.6a09e6p-1f;
	const __m256 scales = _mm256_set1_ps(scale);
	size_t i = 0;

	for (; i + 8 <= half; i += 8) {
		__m256 a = _mm256_loadu_ps(x + i);
		__m256 b = _mm256_loadu_ps(x + i + half);
		_mm256_storeu_ps(x + i,
				 _mm256_mul_ps(_mm256_add_ps(a, b), scales));
		_mm256_storeu_ps(x + i + half,
				 _mm256_mul_ps(_mm256_sub_ps(a, b), scales));
	}
	for (; i < half; i++) {
		float a = x[i], b = x[i + half];
		x[i] = (a + b) * scale;
		x[i + half] = (a - b) * scale;
	}
}

/* ---- coding ------------------------------------------------------------------------------- */

AVX2 static inline double sum_ps(__m256 v)
{
	__m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
	__m256d hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));

	return sum_pd(_mm256_add_pd(lo, hi));
}

AVX2 static void code_f32_avx2(const float *x, const float *c, size_t words,
			       uint8_t *code, struct vf_residual *out)
{
	const __m256 zero = _mm256_setzero_ps(), minus = _mm256_set1_ps(-0.0f);
	__m256 l1 = zero, l2sq = zero, rc = zero;
	uint32_t ones = 0;

	for (size_t w = 0; w < words; w++) {
		uint64_t bits = 0;
		for (size_t i = 0; i < 64; i += 8, x += 8, c += 8) {
			__m256 centre = _mm256_loadu_ps(c);
			__m256 r = _mm256_sub_ps(_mm256_loadu_ps(x), centre);
			__m256 ge = _mm256_cmp_ps(r, zero, _CMP_GE_OQ);
			bits |= (uint64_t)(uint32_t)_mm256_movemask_ps(ge) << i;
			l1 = _mm256_add_ps(l1, _mm256_andnot_ps(minus, r));
			l2sq = _mm256_fmadd_ps(r, r, l2sq);
			rc = _mm256_fmadd_ps(r, centre, rc);
		}
		memcpy(code + w * 8, &bits, 8);
		ones += (uint32_t)_mm_popcnt_u64(bits);
	}
	*out = (struct vf_residual){sum_ps(l1), sum_ps(l2sq), sum_ps(rc), ones};
}

/* ---- halves ----------------------------------------------------------------------------- */

AVX2 static void widen_f16_avx2(const void *x, size_t n, float *out)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(
			out + i,
			_mm256_cvtph_ps(_mm_loadu_si128(
				(const void *)((const char *)x + i * 2))));
	for (; i < n; i++)
		out[i] = (float)load1_f16(x, i);
}

AVX2 static void narrow_f32_avx2(const float *x, size_t n, void *out)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm_storeu_si128((void *)((char *)out + i * 2),
				 _mm256_cvtps_ph(_mm256_loadu_ps(x + i),
						 _MM_FROUND_TO_NEAREST_INT));
	for (; i < n; i++) {
		uint16_t h = vf_float_to_half(x[i]);
		memcpy((char *)out + i * 2, &h, 2);
	}
}

static const struct vf_kernels avx2 = {
	.name = "avx2",
	.b1q4 = b1q4_avx2,
	.hamming = hamming_popcnt,
	.estimate = estimate_avx2,
	.bits_i16 = vf_bits_i16_avx2,
	.bytes_i16 = vf_bytes_i16_avx2,
	.dot_f32 = dot_f32_avx2,
	.dot_f16 = dot_f16_avx2,
	.l2sq_f32 = l2sq_f32_avx2,
	.l2sq_f16 = l2sq_f16_avx2,
	.wht_f32 = wht_f32_avx2,
	.flip_f32 = flip_f32_avx2,
	.butterfly_f32 = butterfly_f32_avx2,
	.code_f32 = code_f32_avx2,
	.widen_f16 = widen_f16_avx2,
	.narrow_f32 = narrow_f32_avx2,
};

const struct vf_kernels *vf_kernels_avx2(void)
{
	unsigned a, b, c, d; /* clang's builtin has no name for F16C */
	bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);

	return f16c && __builtin_cpu_supports("avx2") &&
			       __builtin_cpu_supports("fma") &&
			       __builtin_cpu_supports("popcnt")
		       ? &avx2
		       : NULL;
}
#endif
