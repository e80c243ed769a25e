/*
 * AVX-512.  Two tables that differ in counting bits: with BW alone by a table
 * of nibbles as in kernels_avx2.c, with VPOPCNTDQ by the instruction.  Tails
 * are masked loads, so nothing beyond the last element is touched.
 */
#include "index/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define BW	__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#define POPCNT                                                                 \
	__attribute__((target(                                                 \
		"avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,fma")))

/* ---- estimates -------------------------------------------------------------------------- */

BW static inline __m512i popcount_bytes(__m512i v)
{
	const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(
		0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
	const __m512i low = _mm512_set1_epi8(15);
	__m512i lo = _mm512_and_si512(v, low);
	__m512i hi = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);

	return _mm512_add_epi8(_mm512_shuffle_epi8(table, lo),
			       _mm512_shuffle_epi8(table, hi));
}

/* Bytes of at most 8 * 15 = 120, summed to 64-bit lanes. */
BW static inline __m512i weigh_bw(__m512i c, const uint64_t *planes,
				  size_t words, size_t w, __mmask8 m)
{
	__m512i sum = _mm512_setzero_si512();

	for (int j = 3; j >= 0; j--) {
		__m512i p = _mm512_maskz_loadu_epi64(
			m, planes + (size_t)j * words + w);
		sum = _mm512_add_epi8(_mm512_add_epi8(sum, sum),
				      popcount_bytes(_mm512_and_si512(c, p)));
	}
	return _mm512_sad_epu8(sum, _mm512_setzero_si512());
}

POPCNT static inline __m512i weigh_popcnt(__m512i c, const uint64_t *planes,
					  size_t words, size_t w, __mmask8 m)
{
	__m512i sum = _mm512_setzero_si512();

	for (int j = 3; j >= 0; j--) {
		__m512i p = _mm512_maskz_loadu_epi64(
			m, planes + (size_t)j * words + w);
		sum = _mm512_add_epi64(
			_mm512_add_epi64(sum, sum),
			_mm512_popcnt_epi64(_mm512_and_si512(c, p)));
	}
	return sum;
}

#define DEFINE_B1Q4(target, name, weigh)                                       \
	target static void name(const uint8_t *codes, size_t n, size_t words,  \
				const uint64_t *planes, uint32_t *out)         \
	{                                                                      \
		for (size_t r = 0; r < n; r++, codes += words * 8) {           \
			__m512i acc = _mm512_setzero_si512();                  \
			for (size_t w = 0; w < words; w += 8) {                \
				size_t left = words - w;                       \
				__mmask8 m = left >= 8                         \
						     ? 0xff                    \
						     : (__mmask8)((1u << left) - \
								  1);          \
				__m512i c = _mm512_maskz_loadu_epi64(          \
					m, codes + w * 8);                     \
				acc = _mm512_add_epi64(                        \
					acc, weigh(c, planes, words, w, m));   \
			}                                                      \
			out[r] = (uint32_t)_mm512_reduce_add_epi64(acc);       \
		}                                                              \
	}

DEFINE_B1Q4(BW, b1q4_bw, weigh_bw)
DEFINE_B1Q4(POPCNT, b1q4_popcnt, weigh_popcnt)

/* ---- distances -------------------------------------------------------------------------- */

BW static inline __mmask16 first(size_t n)
{
	return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

BW static inline __m512 load_f32(const void *x, size_t i, __mmask16 m)
{
	return _mm512_maskz_loadu_ps(m, (const float *)x + i);
}

BW static inline __m512 load_f16(const void *x, size_t i, __mmask16 m)
{
	return _mm512_cvtph_ps(
		_mm256_maskz_loadu_epi16(m, (const char *)x + i * 2));
}

BW static inline __m512 step_dot(__m512 q, __m512 x, __m512 acc)
{
	return _mm512_fmadd_ps(q, x, acc);
}

BW static inline __m512 step_l2sq(__m512 q, __m512 x, __m512 acc)
{
	__m512 d = _mm512_sub_ps(q, x);
	return _mm512_fmadd_ps(d, d, acc);
}

#define DEFINE_512(op, type)                                                   \
	BW static float op##_##type##_avx512(const float *q, const void *x,    \
					     size_t n)                         \
	{                                                                      \
		__m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(),       \
			       _mm512_setzero_ps(), _mm512_setzero_ps()};      \
		size_t i = 0;                                                  \
		for (; i + 64 <= n; i += 64)                                   \
			for (size_t j = 0; j < 4; j++)                         \
				s[j] = step_##op(                              \
					_mm512_loadu_ps(q + i + 16 * j),       \
					load_##type(x, i + 16 * j, 0xffff),    \
					s[j]);                                 \
		for (; i < n; i += 16) {                                       \
			__mmask16 m = first(n - i);                            \
			s[0] = step_##op(_mm512_maskz_loadu_ps(m, q + i),      \
					 load_##type(x, i, m), s[0]);          \
		}                                                              \
		return _mm512_reduce_add_ps(                                   \
			_mm512_add_ps(_mm512_add_ps(s[0], s[1]),               \
				      _mm512_add_ps(s[2], s[3])));             \
	}

DEFINE_512(dot, f32)
DEFINE_512(dot, f16)
DEFINE_512(l2sq, f32)
DEFINE_512(l2sq, f16)

/* ---- Walsh-Hadamard ----------------------------------------------------------------------- */

/* The stages of distance 1, 2, 4 and 8 inside sixteen floats. */
BW static inline __m512 wht16(__m512 v)
{
	const __m512 one = _mm512_set1_ps(1);
	const __m512 s1 = _mm512_mask_sub_ps(one, 0xaaaa, _mm512_setzero_ps(),
					     one);
	const __m512 s2 = _mm512_mask_sub_ps(one, 0xcccc, _mm512_setzero_ps(),
					     one);
	const __m512 s4 = _mm512_mask_sub_ps(one, 0xf0f0, _mm512_setzero_ps(),
					     one);
	const __m512 s8 = _mm512_mask_sub_ps(one, 0xff00, _mm512_setzero_ps(),
					     one);

	v = _mm512_fmadd_ps(v, s1, _mm512_permute_ps(v, 0xb1));
	v = _mm512_fmadd_ps(v, s2, _mm512_permute_ps(v, 0x4e));
	v = _mm512_fmadd_ps(v, s4, _mm512_shuffle_f32x4(v, v, 0xb1));
	return _mm512_fmadd_ps(v, s8, _mm512_shuffle_f32x4(v, v, 0x4e));
}

BW static void wht_f32_avx512(float *x, size_t n)
{
	if (n < 16) {
		vf_kernels_named("scalar")->wht_f32(x, n);
		return;
	}
	for (size_t i = 0; i < n; i += 16)
		_mm512_storeu_ps(x + i, wht16(_mm512_loadu_ps(x + i)));
	for (size_t h = 16; h < n; h *= 2)
		for (size_t i = 0; i < n; i += 2 * h)
			for (size_t j = i; j < i + h; j += 16) {
				__m512 a = _mm512_loadu_ps(x + j);
				__m512 b = _mm512_loadu_ps(x + j + h);
				_mm512_storeu_ps(x + j, _mm512_add_ps(a, b));
				_mm512_storeu_ps(x + j + h,
						 _mm512_sub_ps(a, b));
			}
}

/* ---- halves ----------------------------------------------------------------------------- */

BW static void widen_f16_avx512(const void *x, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = first(n - i);
		_mm512_mask_storeu_ps(out + i, m, load_f16(x, i, m));
	}
}

BW static void narrow_f32_avx512(const float *x, size_t n, void *out)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = first(n - i);
		__m256i h = _mm512_cvtps_ph(load_f32(x, i, m),
					    _MM_FROUND_TO_NEAREST_INT);
		_mm256_mask_storeu_epi16((char *)out + i * 2, m, h);
	}
}

/* ---- tables ----------------------------------------------------------------------------- */

#define TABLE(variant, count)                                                  \
	{                                                                      \
		.name = variant, .b1q4 = count, .dot_f32 = dot_f32_avx512,     \
		.dot_f16 = dot_f16_avx512, .l2sq_f32 = l2sq_f32_avx512,        \
		.l2sq_f16 = l2sq_f16_avx512, .wht_f32 = wht_f32_avx512,        \
		.widen_f16 = widen_f16_avx512, .narrow_f32 = narrow_f32_avx512 \
	}

static const struct vf_kernels with_bw = TABLE("avx512", b1q4_bw);
static const struct vf_kernels with_popcnt =
	TABLE("avx512vpopcntdq", b1q4_popcnt);

const struct vf_kernels *vf_kernels_avx512(void)
{
	return __builtin_cpu_supports("avx512f") &&
			       __builtin_cpu_supports("avx512bw") &&
			       __builtin_cpu_supports("avx512dq") &&
			       __builtin_cpu_supports("avx512vl") &&
			       __builtin_cpu_supports("fma")
		       ? &with_bw
		       : NULL;
}

const struct vf_kernels *vf_kernels_avx512vpopcntdq(void)
{
	return vf_kernels_avx512() &&
			       __builtin_cpu_supports("avx512vpopcntdq")
		       ? &with_popcnt
		       : NULL;
}
#endif
