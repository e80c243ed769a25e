/*
 * AVX-512.  Two tables that differ in counting bits: with BW alone by a table
 * of nibbles as in kernels_avx2.c, with VPOPCNTDQ by the instruction.  Tails
 * are masked loads, so nothing beyond the last element is touched.
 */
#include "index/kernels.h"
#include "index/kernels_wht.h"
#include "index/quantize.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define BW                                                                     \
	__attribute__((                                                        \
		target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,popcnt")))
#define POPCNT                                                                 \
	__attribute__((target(                                                 \
		"avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,fma,f16c,popcnt")))

/* ---- estimates -------------------------------------------------------------------------- */

BW static inline __m512i popcount_bytes(__m512i v)
{
	const __m512i table = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
	const __m512i low = _mm512_set1_epi8(15);
	__m512i lo = _mm512_and_si512(v, low);
	__m512i hi = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);

	return _mm512_add_epi8(_mm512_shuffle_epi8(table, lo),
			       _mm512_shuffle_epi8(table, hi));
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

/* Differing bits: of one plane, whose words are @q. */
BW static inline __m512i differ_bw(__m512i c, const uint64_t *q, size_t words,
				   size_t w, __mmask8 m)
{
	__m512i d = _mm512_xor_si512(c, _mm512_maskz_loadu_epi64(m, q + w));

	return _mm512_sad_epu8(popcount_bytes(d), _mm512_setzero_si512());
}

POPCNT static inline __m512i differ_popcnt(__m512i c, const uint64_t *q,
					   size_t words, size_t w, __mmask8 m)
{
	return _mm512_popcnt_epi64(
		_mm512_xor_si512(c, _mm512_maskz_loadu_epi64(m, q + w)));
}

#define DEFINE_COUNT(target, name, count)                                      \
	target static void name(const uint8_t *codes, size_t n, size_t words,  \
				const uint64_t *planes, uint32_t *out)         \
	{                                                                      \
		for (size_t r = 0; r < n; r++, codes += words * 8) {           \
			__m512i acc = _mm512_setzero_si512();                  \
			vf_kernel_ahead(codes, words * 8);                     \
			for (size_t w = 0; w < words; w += 8) {                \
				size_t left = words - w;                       \
				__mmask8 m =                                   \
					left >= 8 ? 0xff                       \
						  : (__mmask8)((1u << left) -  \
							       1);             \
				__m512i c = _mm512_maskz_loadu_epi64(          \
					m, codes + w * 8);                     \
				acc = _mm512_add_epi64(                        \
					acc, count(c, planes, words, w, m));   \
			}                                                      \
			out[r] = (uint32_t)_mm512_reduce_add_epi64(acc);       \
		}                                                              \
	}

/*
 * Without the instruction, weights of dimensions instead of counts of bits: a
 * code is the mask under which bytes of 0 to 15 are added, so that four planes
 * cost one addition.  A byte holds the sum of WORDS_BYTE of them, at most 240.
 */
enum { WORDS_BYTE = 16 };

BW static inline __m512i weights_of_word(const uint64_t *planes, size_t words)
{
	__m512i q = _mm512_maskz_set1_epi8(planes[0], 1);

	q = _mm512_mask_add_epi8(q, planes[words], q, _mm512_set1_epi8(2));
	q = _mm512_mask_add_epi8(q, planes[2 * words], q, _mm512_set1_epi8(4));
	return _mm512_mask_add_epi8(q, planes[3 * words], q,
				    _mm512_set1_epi8(8));
}

/* In place: of the intrinsic compilers make a copy and an addition to it. */
BW static inline __m512i add_word(__m512i sum, const uint8_t *code,
				  const __m512i *q, size_t w)
{
	__mmask64 m;

	memcpy(&m, code + w * 8, sizeof(m));
	__asm__("vpaddb %2, %0, %0 %{%1%}" : "+v"(sum) : "Yk"(m), "v"(q[w]));
	return sum;
}

/* Of @n words; two sums, since each addition waits for the one before. */
BW static inline uint32_t add_weights(const uint8_t *code, const __m512i *q,
				      size_t n)
{
	__m512i zero = _mm512_setzero_si512(), even = zero, odd = zero;
	size_t w = 0;

	for (; w + 2 <= n; w += 2) {
		even = add_word(even, code, q, w);
		odd = add_word(odd, code, q, w + 1);
	}
	if (w < n)
		even = add_word(even, code, q, w);
	even = _mm512_sad_epu8(_mm512_add_epi8(even, odd), zero);
	return (uint32_t)_mm512_reduce_add_epi64(even);
}

/*
 * The same of WORDS_BYTE words: no loop, @q is in registers.  The sum of the
 * row is left in eight parts, each below 2^16.
 */
BW static inline __m512i add_all_weights(const uint8_t *code, const __m512i *q)
{
	__m512i zero = _mm512_setzero_si512(), even = zero, odd = zero;

	vf_kernel_ahead(code, WORDS_BYTE * 8);
#define ADD(w)                                                                 \
	even = add_word(even, code, q, w);                                     \
	odd = add_word(odd, code, q, (w) + 1)
	ADD(0);
	ADD(2);
	ADD(4);
	ADD(6);
	ADD(8);
	ADD(10);
	ADD(12);
	ADD(14);
#undef ADD
	return _mm512_sad_epu8(_mm512_add_epi8(even, odd), zero);
}

/*
 * Four rows at once: parts of two rows share each word of 64 bits, so that
 * one reduction serves all; masks and shuffles go through the same port.
 */
BW static inline __m128i add_four(const uint8_t *code, size_t len,
				  const __m512i *q)
{
	__m512i a = add_all_weights(code, q);
	__m512i b = add_all_weights(code + len, q);
	__m512i c = add_all_weights(code + 2 * len, q);
	__m512i d = add_all_weights(code + 3 * len, q);
	__m512i ab = _mm512_or_si512(a, _mm512_slli_epi64(b, 32));
	__m512i cd = _mm512_or_si512(c, _mm512_slli_epi64(d, 32));
	__m512i sum = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd),
				       _mm512_unpackhi_epi64(ab, cd));
	__m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum),
					_mm512_extracti64x4_epi64(sum, 1));

	return _mm_add_epi32(_mm256_castsi256_si128(half),
			     _mm256_extracti128_si256(half, 1));
}

BW static inline void add_rows(const uint8_t *code, size_t n, size_t len,
			       const __m512i *q, uint32_t *out)
{
	size_t r = 0;

	for (; r + 4 <= n; r += 4, code += 4 * len) {
		__m128i *o = (__m128i *)(out + r);
		_mm_storeu_si128(o, _mm_add_epi32(_mm_loadu_si128(o),
						  add_four(code, len, q)));
	}
	for (; r < n; r++, code += len)
		out[r] += (uint32_t)_mm512_reduce_add_epi64(
			add_all_weights(code, q));
}

BW static void b1q4_bw(const uint8_t *codes, size_t n, size_t words,
		       const uint64_t *planes, uint32_t *out)
{
	__m512i q[WORDS_BYTE];

	memset(out, 0, n * sizeof(*out));
	for (size_t from = 0; from < words; from += WORDS_BYTE) {
		size_t left = words - from, len = words * 8;
		const uint8_t *code = codes + from * 8;
		for (size_t w = 0; w < WORDS_BYTE && w < left; w++)
			q[w] = weights_of_word(planes + from + w, words);
		if (left >= WORDS_BYTE)
			add_rows(code, n, len, q, out);
		for (size_t r = 0; left < WORDS_BYTE && r < n; r++, code += len)
			out[r] += add_weights(code, q, left);
	}
}

DEFINE_COUNT(POPCNT, b1q4_popcnt, weigh_popcnt)
DEFINE_COUNT(BW, hamming_bw, differ_bw)
DEFINE_COUNT(POPCNT, hamming_popcnt, differ_popcnt)

/* Word @at of each of four rows of 16 bytes from @a, then from @b. */
BW static inline __m512i word_of_rows(__m512i a, __m512i b, int at)
{
	const __m512i eight = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1,
						5, 9, 13, 17, 21, 25, 29);

	return _mm512_permutex2var_epi32(
		a, _mm512_add_epi32(eight, _mm512_set1_epi32(at)), b);
}

/* Factors of sixteen rows, each kind on its own; ones as floats. */
struct columns {
	__m512 add, mul, ones;
};

BW static inline struct columns load_columns(const struct vf_factors *f,
					     size_t n)
{
	__m512i v[4], lo, hi;

	for (size_t i = 0; i < 4; i++)
		v[i] = _mm512_maskz_loadu_epi32(
			n >= 4 * i + 4 ? 0xffff
			: n > 4 * i ? (__mmask16)((1u << 4 * (n - 4 * i)) - 1)
				    : 0,
			(const char *)f + 64 * i);
	lo = word_of_rows(v[0], v[1], 0); /* eight times add, then mul */
	hi = word_of_rows(v[2], v[3], 0);
	__m512i add = _mm512_shuffle_i32x4(lo, hi, 0x44);
	__m512i mul = _mm512_shuffle_i32x4(lo, hi, 0xee);
	lo = word_of_rows(v[0], v[1], 2); /* err, then ones */
	hi = word_of_rows(v[2], v[3], 2);
	return (struct columns){
		_mm512_castsi512_ps(add), _mm512_castsi512_ps(mul),
		_mm512_cvtepu32_ps(_mm512_shuffle_i32x4(lo, hi, 0xee))};
}

BW static uint64_t estimate_avx512(const struct vf_query_code *q,
				   const struct vf_factors *f,
				   const uint32_t *counts, size_t n,
				   float limit, float *out)
{
	const __m512 lo = _mm512_set1_ps(q->lo), step = _mm512_set1_ps(q->step);
	const __m512 sum = _mm512_set1_ps(q->sum);
	const __m512 base = _mm512_set1_ps(q->base);
	uint64_t near = 0;

	for (size_t r = 0; r < n; r += 16) {
		__mmask16 m =
			n - r >= 16 ? 0xffff : (__mmask16)((1u << (n - r)) - 1);
		struct columns c = load_columns(f + r, n - r);
		__m512 count = _mm512_cvtepu32_ps(
			_mm512_maskz_loadu_epi32(m, counts + r));
		__m512 s = _mm512_add_ps(_mm512_mul_ps(lo, c.ones),
					 _mm512_mul_ps(step, count));
		s = _mm512_sub_ps(_mm512_add_ps(s, s), sum);
		__m512 d = _mm512_add_ps(_mm512_add_ps(base, c.add),
					 _mm512_mul_ps(c.mul, s));
		_mm512_mask_storeu_ps(out + r, m, d);
		near |= (uint64_t)_mm512_mask_cmp_ps_mask(
				m, d, _mm512_set1_ps(limit), _CMP_NGT_UQ)
			<< r;
	}
	return near;
}

/* ---- distances -------------------------------------------------------------------------- */

BW static inline __mmask16 first(size_t n)
{
	return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

BW static inline __mmask8 first8(size_t n)
{
	return n >= 8 ? 0xff : (__mmask8)((1u << n) - 1);
}

BW static inline __m512d load_f32(const void *x, size_t i, __mmask8 m)
{
	return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, (const float *)x + i));
}

BW static inline __m512d load_f16(const void *x, size_t i, __mmask8 m)
{
	return _mm512_cvtps_pd(_mm256_cvtph_ps(
		_mm_maskz_loadu_epi16(m, (const char *)x + i * 2)));
}

#define DEFINE_DOT(type, size)                                                 \
	BW static void dot_##type##_avx512(const float *q, const void *rows,   \
					   size_t n, size_t dim,               \
					   double *out_dot, double *out_sq)    \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			__m512d s = _mm512_setzero_pd(), t = s, u = s, v = s;  \
			size_t i = 0;                                          \
			for (; i + 16 <= dim; i += 16) {                       \
				__m512d x = load_##type(row, i, 0xff);         \
				__m512d y = load_##type(row, i + 8, 0xff);     \
				s = _mm512_fmadd_pd(load_f32(q, i, 0xff), x,   \
						    s);                        \
				u = _mm512_fmadd_pd(load_f32(q, i + 8, 0xff),  \
						    y, u);                     \
				t = _mm512_fmadd_pd(x, x, t);                  \
				v = _mm512_fmadd_pd(y, y, v);                  \
			}                                                      \
			for (; i < dim; i += 8) {                              \
				__mmask8 m = first8(dim - i);                  \
				__m512d x = load_##type(row, i, m);            \
				s = _mm512_fmadd_pd(load_f32(q, i, m), x, s);  \
				t = _mm512_fmadd_pd(x, x, t);                  \
			}                                                      \
			out_dot[r] =                                           \
				_mm512_reduce_add_pd(_mm512_add_pd(s, u));     \
			out_sq[r] = _mm512_reduce_add_pd(_mm512_add_pd(t, v)); \
		}                                                              \
	}

#define DEFINE_L2SQ(type, size)                                                \
	BW static void l2sq_##type##_avx512(const float *q, const void *rows,  \
					    size_t n, size_t dim, double *out) \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			__m512d s = _mm512_setzero_pd(), u = s;                \
			size_t i = 0;                                          \
			for (; i + 16 <= dim; i += 16) {                       \
				__m512d d = _mm512_sub_pd(                     \
					load_f32(q, i, 0xff),                  \
					load_##type(row, i, 0xff));            \
				__m512d e = _mm512_sub_pd(                     \
					load_f32(q, i + 8, 0xff),              \
					load_##type(row, i + 8, 0xff));        \
				s = _mm512_fmadd_pd(d, d, s);                  \
				u = _mm512_fmadd_pd(e, e, u);                  \
			}                                                      \
			for (; i < dim; i += 8) {                              \
				__mmask8 m = first8(dim - i);                  \
				__m512d d =                                    \
					_mm512_sub_pd(load_f32(q, i, m),       \
						      load_##type(row, i, m)); \
				s = _mm512_fmadd_pd(d, d, s);                  \
			}                                                      \
			out[r] = _mm512_reduce_add_pd(_mm512_add_pd(s, u));    \
		}                                                              \
	}

DEFINE_DOT(f32, 4)
DEFINE_DOT(f16, 2)
DEFINE_L2SQ(f32, 4)
DEFINE_L2SQ(f16, 2)

/* ---- rotation ----------------------------------------------------------------------------- */

/* The stages of distance 1, 2, 4 and 8 inside sixteen floats. */
BW static inline __m512 wht16(__m512 v)
{
	const __m512 one = _mm512_set1_ps(1), minus = _mm512_set1_ps(-1);

	v = _mm512_fmadd_ps(v, _mm512_mask_mov_ps(one, 0xaaaa, minus),
			    _mm512_permute_ps(v, 0xb1));
	v = _mm512_fmadd_ps(v, _mm512_mask_mov_ps(one, 0xcccc, minus),
			    _mm512_permute_ps(v, 0x4e));
	v = _mm512_fmadd_ps(v, _mm512_mask_mov_ps(one, 0xf0f0, minus),
			    _mm512_shuffle_f32x4(v, v, 0xb1));
	return _mm512_fmadd_ps(v, _mm512_mask_mov_ps(one, 0xff00, minus),
			       _mm512_shuffle_f32x4(v, v, 0x4e));
}

VF_DEFINE_WHT(BW, avx512, __m512, _mm512_loadu_ps, _mm512_storeu_ps, wht16)

BW static void flip_f32_avx512(float *x, const float *s, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = first(n - i);
		__m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i),
					 _mm512_maskz_loadu_ps(m, s + i));
		_mm512_mask_storeu_ps(x + i, m, v);
	}
}

BW static void butterfly_f32_avx512(float *x, size_t half)
{
	const __m512 scale = _mm512_set1_ps(0x1.6a09e6p-1f);

	for (size_t i = 0; i < half; i += 16) {
		__mmask16 m = first(half - i);
		__m512 a = _mm512_maskz_loadu_ps(m, x + i);
		__m512 b = _mm512_maskz_loadu_ps(m, x + i + half);
		_mm512_mask_storeu_ps(
			x + i, m, _mm512_mul_ps(_mm512_add_ps(a, b), scale));
		_mm512_mask_storeu_ps(x + i + half, m,
				      _mm512_mul_ps(_mm512_sub_ps(a, b),
						    scale));
	}
}

/* ---- coding ------------------------------------------------------------------------------- */

BW static inline double sum_ps(__m512 v)
{
	__m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
	__m512d hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));

	return _mm512_reduce_add_pd(_mm512_add_pd(lo, hi));
}

BW static void code_f32_avx512(const float *x, const float *c, size_t words,
			       uint8_t *code, struct vf_residual *out)
{
	const __m512 zero = _mm512_setzero_ps();
	__m512 l1 = zero, l2sq = zero, rc = zero;
	uint32_t ones = 0;

	for (size_t w = 0; w < words; w++) {
		uint64_t bits = 0;
		for (size_t i = 0; i < 64; i += 16, x += 16, c += 16) {
			__m512 centre = _mm512_loadu_ps(c);
			__m512 r = _mm512_sub_ps(_mm512_loadu_ps(x), centre);
			bits |= (uint64_t)_mm512_cmp_ps_mask(r, zero,
							     _CMP_GE_OQ)
				<< i;
			l1 = _mm512_add_ps(l1, _mm512_abs_ps(r));
			l2sq = _mm512_fmadd_ps(r, r, l2sq);
			rc = _mm512_fmadd_ps(r, centre, rc);
		}
		memcpy(code + w * 8, &bits, 8);
		ones += (uint32_t)_mm_popcnt_u64(bits);
	}
	*out = (struct vf_residual){sum_ps(l1), sum_ps(l2sq), sum_ps(rc), ones};
}

/* ---- halves ----------------------------------------------------------------------------- */

BW static void widen_f16_avx512(const void *x, size_t n, float *out)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = first(n - i);
		_mm512_mask_storeu_ps(out + i, m,
				      _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(
					      m, (const char *)x + i * 2)));
	}
}

BW static void narrow_f32_avx512(const float *x, size_t n, void *out)
{
	for (size_t i = 0; i < n; i += 16) {
		__mmask16 m = first(n - i);
		__m256i h = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, x + i),
					    _MM_FROUND_TO_NEAREST_INT);
		_mm256_mask_storeu_epi16((char *)out + i * 2, m, h);
	}
}

/* ---- tables ----------------------------------------------------------------------------- */

#define TABLE(variant, count, differ)                                          \
	{                                                                      \
		.name = variant, .b1q4 = count, .hamming = differ,             \
		.estimate = estimate_avx512, .bits_i16 = vf_bits_i16_avx512,   \
		.bytes_i16 = vf_bytes_i16_avx512, .dot_f32 = dot_f32_avx512,   \
		.dot_f16 = dot_f16_avx512, .l2sq_f32 = l2sq_f32_avx512,        \
		.l2sq_f16 = l2sq_f16_avx512, .wht_f32 = wht_f32_avx512,        \
		.flip_f32 = flip_f32_avx512,                                   \
		.butterfly_f32 = butterfly_f32_avx512,                         \
		.code_f32 = code_f32_avx512, .widen_f16 = widen_f16_avx512,    \
		.narrow_f32 = narrow_f32_avx512                                \
	}

static const struct vf_kernels with_bw = TABLE("avx512", b1q4_bw, hamming_bw);
static const struct vf_kernels with_popcnt =
	TABLE("avx512vpopcntdq", b1q4_popcnt, hamming_popcnt);

/* vf_kernels_avx2 has asked for FMA, F16C and POPCNT. */
const struct vf_kernels *vf_kernels_avx512(void)
{
	return vf_kernels_avx2() && __builtin_cpu_supports("avx512f") &&
			       __builtin_cpu_supports("avx512bw") &&
			       __builtin_cpu_supports("avx512dq") &&
			       __builtin_cpu_supports("avx512vl")
		       ? &with_bw
		       : NULL;
}

const struct vf_kernels *vf_kernels_avx512vpopcntdq(void)
{
	return vf_kernels_avx512() && __builtin_cpu_supports("avx512vpopcntdq")
		       ? &with_popcnt
		       : NULL;
}
#endif
