/*
 * Codes of several bits with AVX-512: 64 dimensions at a time as two vectors
 * of 16-bit integers.  Halves of bytes become the two by a mask and a shift;
 * bits are lane masks as they lie in memory.
 *
 * A product is at most 255 * 16383; a 32-bit lane adds 4 of them for each of
 * at most 64 words: below 2^31.
 */
#include "index/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define BW __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* The bits that make @value, of 64 dimensions. */
BW static inline void add_bits(const uint8_t *bits, int value, __m512i v[2])
{
	const __m512i bit = _mm512_set1_epi16((short)value);
	uint64_t m;

	memcpy(&m, bits, 8);
	v[0] = _mm512_mask_add_epi16(v[0], (__mmask32)m, v[0], bit);
	v[1] = _mm512_mask_add_epi16(v[1], (__mmask32)(m >> 32), v[1], bit);
}

BW static inline int64_t sum_i32(__m512i v)
{
	__m512i hi = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1));
	__m512i lo = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));

	return _mm512_reduce_add_epi64(_mm512_add_epi64(lo, hi));
}

/* @n_extra is a constant where the compiler sees one: then no branch stays. */
BW static inline int64_t dot_row(const uint8_t *code, const uint8_t *extra,
				 size_t words, uint32_t n_extra,
				 const int16_t *q)
{
	const uint8_t *planes = extra + (n_extra >= 4 ? words * 32 : 0);
	const __m512i low = _mm512_set1_epi16(15);
	__m512i acc[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
	int n_planes = n_extra % 4;

	for (size_t w = 0; w < words; w++) {
		__m512i v[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
		if (n_extra >= 4) {
			__m512i b = _mm512_cvtepu8_epi16(_mm256_loadu_si256(
				(const void *)(extra + w * 32)));
			v[0] = _mm512_and_si512(b, low);
			v[1] = _mm512_srli_epi16(b, 4);
			if (n_planes) {
				v[0] = _mm512_slli_epi16(v[0],
							 (unsigned)n_planes);
				v[1] = _mm512_slli_epi16(v[1],
							 (unsigned)n_planes);
			}
		}
		for (int p = 0; p < n_planes; p++)
			add_bits(planes + ((size_t)p * words + w) * 8, 1 << p,
				 v);
		add_bits(code + w * 8, 1 << n_extra, v);
		for (size_t j = 0; j < 2; j++)
			acc[j] = _mm512_add_epi32(
				acc[j],
				_mm512_madd_epi16(
					v[j], _mm512_loadu_si512(q + w * 64 +
								 j * 32)));
	}
	return sum_i32(_mm512_add_epi32(acc[0], acc[1]));
}

static inline void prefetch(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i += 64)
		__builtin_prefetch(p + i);
}

BW void vf_bits_i16_avx512(const struct vf_bit_rows *r, const int16_t *q,
			   int64_t *out)
{
	size_t len = r->words * 8, extra_len = len * r->n_extra;

	for (size_t k = 0; k < r->n; k++) {
		const uint8_t *code = r->codes + r->rows[k] * len;
		const uint8_t *extra = r->extra + r->rows[k] * extra_len;
		if (k + 1 < r->n) { /* rows lie anywhere */
			prefetch(r->codes + r->rows[k + 1] * len, len);
			prefetch(r->extra + r->rows[k + 1] * extra_len,
				 extra_len);
		}
		out[k] = r->n_extra == 4 ? dot_row(code, extra, r->words, 4, q)
					 : dot_row(code, extra, r->words,
						   r->n_extra, q);
	}
}

BW static inline __m512i multiply_bytes(const uint8_t *y, const int16_t *q)
{
	return _mm512_madd_epi16(
		_mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)y)),
		_mm512_loadu_si512(q));
}

BW void vf_bytes_i16_avx512(const uint8_t *bytes, size_t dim,
			    const uint32_t *rows, size_t n, const int16_t *q,
			    int64_t *out)
{
	for (size_t k = 0; k < n; k++) {
		const uint8_t *y = bytes + rows[k] * dim;
		__m512i even = _mm512_setzero_si512(), odd = even;
		if (k + 1 < n)
			prefetch(bytes + rows[k + 1] * dim, dim);
		for (size_t i = 0; i < dim; i += 64) {
			even = _mm512_add_epi32(even,
						multiply_bytes(y + i, q + i));
			odd = _mm512_add_epi32(odd, multiply_bytes(y + i + 32,
								   q + i + 32));
		}
		out[k] = sum_i32(_mm512_add_epi32(even, odd));
	}
}
#endif
