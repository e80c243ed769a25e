/*
 * Codes of several bits with AVX2: 64 dimensions at a time as four vectors of
 * 16-bit integers, 0..15, 16..31, 32..47, 48..63.
 *
 * A product is at most 255 * 16383; a 32-bit lane adds 8 of them for each of
 * at most 64 words: 2138964480, below 2^31.
 */
#include "index/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

/* The bits that make @value, of 64 dimensions. */
AVX2 static inline void add_bits(const uint8_t *bits, int value, __m256i v[4])
{
	const __m256i lane =
		_mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024,
				  2048, 4096, 8192, 16384, -32768);
	const __m256i bit = _mm256_set1_epi16((short)value);

	for (size_t j = 0; j < 4; j++) {
		short m;
		memcpy(&m, bits + j * 2, 2);
		__m256i set = _mm256_and_si256(_mm256_set1_epi16(m), lane);
		set = _mm256_cmpeq_epi16(set, lane);
		v[j] = _mm256_or_si256(v[j], _mm256_and_si256(set, bit));
	}
}

AVX2 static inline void load_halves(const uint8_t *p, int shift, __m256i v[4])
{
	const __m256i low = _mm256_set1_epi16(15);

	for (size_t j = 0; j < 2; j++) {
		__m256i b = _mm256_cvtepu8_epi16(
			_mm_loadu_si128((const void *)(p + j * 16)));
		v[j] = _mm256_slli_epi16(_mm256_and_si256(b, low), shift);
		v[j + 2] = _mm256_slli_epi16(_mm256_srli_epi16(b, 4), shift);
	}
}

AVX2 static inline int64_t sum_i32(__m256i v)
{
	__m256i s = _mm256_add_epi64(
		_mm256_cvtepi32_epi64(_mm256_castsi256_si128(v)),
		_mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1)));
	__m128i t = _mm_add_epi64(_mm256_castsi256_si128(s),
				  _mm256_extracti128_si256(s, 1));

	return _mm_cvtsi128_si64(t) + _mm_extract_epi64(t, 1);
}

AVX2 static inline int64_t dot_row(const uint8_t *code, const uint8_t *extra,
				   size_t words, uint32_t n_extra,
				   const int16_t *q)
{
	const uint8_t *planes = extra + (n_extra >= 4 ? words * 32 : 0);
	__m256i acc = _mm256_setzero_si256();
	int n_planes = n_extra % 4;

	for (size_t w = 0; w < words; w++, q += 64) {
		__m256i v[4];
		if (n_extra >= 4)
			load_halves(extra + w * 32, n_planes, v);
		else
			memset(v, 0, sizeof(v));
		for (int p = 0; p < n_planes; p++)
			add_bits(planes + ((size_t)p * words + w) * 8, 1 << p,
				 v);
		add_bits(code + w * 8, 1 << n_extra, v);
		for (size_t j = 0; j < 4; j++)
			acc = _mm256_add_epi32(
				acc,
				_mm256_madd_epi16(
					v[j],
					_mm256_loadu_si256(
						(const void *)(q + j * 16))));
	}
	return sum_i32(acc);
}

AVX2 void vf_bits_i16_avx2(const struct vf_bit_rows *r, const int16_t *q,
			   int64_t *out)
{
	size_t len = r->words * 8, extra_len = len * r->n_extra;

	for (size_t k = 0; k < r->n; k++) {
		const uint8_t *code = r->codes + r->rows[k] * len;
		const uint8_t *extra = r->extra + r->rows[k] * extra_len;
		out[k] = r->n_extra == 4 ? dot_row(code, extra, r->words, 4, q)
					 : dot_row(code, extra, r->words,
						   r->n_extra, q);
	}
}

AVX2 static inline __m256i multiply_bytes(const uint8_t *y, const int16_t *q)
{
	return _mm256_madd_epi16(
		_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)y)),
		_mm256_loadu_si256((const void *)q));
}

AVX2 void vf_bytes_i16_avx2(const uint8_t *bytes, size_t dim,
			    const uint32_t *rows, size_t n, const int16_t *q,
			    int64_t *out)
{
	for (size_t k = 0; k < n; k++) {
		const uint8_t *y = bytes + rows[k] * dim;
		__m256i even = _mm256_setzero_si256(), odd = even;
		for (size_t i = 0; i < dim; i += 32) {
			even = _mm256_add_epi32(even,
						multiply_bytes(y + i, q + i));
			odd = _mm256_add_epi32(odd, multiply_bytes(y + i + 16,
								   q + i + 16));
		}
		out[k] = sum_i32(_mm256_add_epi32(even, odd));
	}
}
#endif
