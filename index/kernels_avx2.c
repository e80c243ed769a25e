/*
 * AVX2 with FMA and F16C.  Popcounts by a table of nibbles in a register:
 * Mula, Kurz and Lemire, "Faster Population Counts Using AVX2 Instructions",
 * 2018, section 3.
 */
#include "index/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c,popcnt")))

/* ---- estimates -------------------------------------------------------------------------- */

AVX2 static inline __m256i popcount_bytes(__m256i v)
{
	const __m256i table = _mm256_setr_epi8(
		0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1,
		2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
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
		for (; w + 4 <= words; w += 4) {
			__m256i c = _mm256_loadu_si256(
				(const void *)(codes + w * 8));
			acc = _mm256_add_epi64(
				acc, _mm256_sad_epu8(
					     weigh(c, planes, words, w), zero));
		}
		out[r] = sum_u64(acc) + weigh_tail(codes, w, words, planes);
	}
}

/* ---- distances -------------------------------------------------------------------------- */

AVX2 static inline float sum_ps(__m256 v)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(v),
			      _mm256_extractf128_ps(v, 1));
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	s = _mm_add_ss(s, _mm_movehdup_ps(s));
	return _mm_cvtss_f32(s);
}

AVX2 static inline __m256 load8_f32(const void *x, size_t i)
{
	return _mm256_loadu_ps((const float *)x + i);
}

AVX2 static inline __m256 load8_f16(const void *x, size_t i)
{
	return _mm256_cvtph_ps(
		_mm_loadu_si128((const void *)((const char *)x + i * 2)));
}

AVX2 static inline float load1_f32(const void *x, size_t i)
{
	float v;
	memcpy(&v, (const char *)x + i * 4, 4);
	return v;
}

AVX2 static inline float load1_f16(const void *x, size_t i)
{
	uint16_t h;
	memcpy(&h, (const char *)x + i * 2, 2);
	return _cvtsh_ss(h);
}

AVX2 static inline __m256 step_dot(__m256 q, __m256 x, __m256 acc)
{
	return _mm256_fmadd_ps(q, x, acc);
}

AVX2 static inline __m256 step_l2sq(__m256 q, __m256 x, __m256 acc)
{
	__m256 d = _mm256_sub_ps(q, x);
	return _mm256_fmadd_ps(d, d, acc);
}

#define DEFINE_AVX2(op, type, term)                                            \
	AVX2 static float op##_##type##_avx2(const float *q, const void *x,    \
					     size_t n)                         \
	{                                                                      \
		__m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(),       \
			       _mm256_setzero_ps(), _mm256_setzero_ps()};      \
		float tail = 0;                                                \
		size_t i = 0;                                                  \
		for (; i + 32 <= n; i += 32)                                   \
			for (size_t j = 0; j < 4; j++)                         \
				s[j] = step_##op(                              \
					_mm256_loadu_ps(q + i + 8 * j),        \
					load8_##type(x, i + 8 * j), s[j]);     \
		for (; i + 8 <= n; i += 8)                                     \
			s[0] = step_##op(_mm256_loadu_ps(q + i),               \
					 load8_##type(x, i), s[0]);            \
		for (; i < n; i++) {                                           \
			float a = q[i], b = load1_##type(x, i);                \
			tail += term;                                          \
		}                                                              \
		s[0] = _mm256_add_ps(_mm256_add_ps(s[0], s[1]),                \
				     _mm256_add_ps(s[2], s[3]));               \
		return sum_ps(s[0]) + tail;                                    \
	}

DEFINE_AVX2(dot, f32, a *b)
DEFINE_AVX2(dot, f16, a *b)
DEFINE_AVX2(l2sq, f32, (a - b) * (a - b))
DEFINE_AVX2(l2sq, f16, (a - b) * (a - b))

/* ---- Walsh-Hadamard ----------------------------------------------------------------------- */

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

AVX2 static void wht_f32_avx2(float *x, size_t n)
{
	if (n < 8) {
		vf_kernels_named("scalar")->wht_f32(x, n);
		return;
	}
	for (size_t i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i, wht8(_mm256_loadu_ps(x + i)));
	for (size_t h = 8; h < n; h *= 2)
		for (size_t i = 0; i < n; i += 2 * h)
			for (size_t j = i; j < i + h; j += 8) {
				__m256 a = _mm256_loadu_ps(x + j);
				__m256 b = _mm256_loadu_ps(x + j + h);
				_mm256_storeu_ps(x + j, _mm256_add_ps(a, b));
				_mm256_storeu_ps(x + j + h,
						 _mm256_sub_ps(a, b));
			}
}

/* ---- halves ----------------------------------------------------------------------------- */

AVX2 static void widen_f16_avx2(const void *x, size_t n, float *out)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(out + i, load8_f16(x, i));
	for (; i < n; i++)
		out[i] = load1_f16(x, i);
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
	.dot_f32 = dot_f32_avx2,
	.dot_f16 = dot_f16_avx2,
	.l2sq_f32 = l2sq_f32_avx2,
	.l2sq_f16 = l2sq_f16_avx2,
	.wht_f32 = wht_f32_avx2,
	.widen_f16 = widen_f16_avx2,
	.narrow_f32 = narrow_f32_avx2,
};

const struct vf_kernels *vf_kernels_avx2(void)
{
	unsigned a, b, c, d; /* clang's builtin has no name for F16C */
	bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);

	return f16c && __builtin_cpu_supports("avx2") &&
			       __builtin_cpu_supports("fma")
		       ? &avx2
		       : NULL;
}
#endif
