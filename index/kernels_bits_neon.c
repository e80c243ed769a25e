/*
 * Codes of several bits with NEON: 64 dimensions at a time as eight vectors
 * of 16-bit integers in order.
 *
 * A product is at most 255 * 16383; each of four accumulators has 32-bit lanes
 * that add 4 of them for each of at most 64 words: below 2^31.
 */
#include "index/kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

/* The bits that make @value, of 64 dimensions. */
static inline void add_bits(const uint8_t *bits, uint16_t value,
			    uint16x8_t v[8])
{
	const uint16x8_t lane = {1, 2, 4, 8, 16, 32, 64, 128};
	const uint16x8_t bit = vdupq_n_u16(value);

	for (size_t j = 0; j < 8; j++) {
		uint16x8_t set = vtstq_u16(vdupq_n_u16(bits[j]), lane);
		v[j] = vorrq_u16(v[j], vandq_u16(set, bit));
	}
}

static inline void load_halves(const uint8_t *p, int shift, uint16x8_t v[8])
{
	const int16x8_t by = vdupq_n_s16((int16_t)shift);

	for (size_t j = 0; j < 4; j++) {
		uint8x8_t b = vld1_u8(p + j * 8);
		uint8x8_t lo = vand_u8(b, vdup_n_u8(15)), hi = vshr_n_u8(b, 4);
		v[j] = vshlq_u16(vmovl_u8(lo), by);
		v[j + 4] = vshlq_u16(vmovl_u8(hi), by);
	}
}

static inline void multiply(const uint16x8_t v[8], const int16_t *q,
			    int32x4_t acc[4])
{
	for (size_t j = 0; j < 8; j++) {
		int16x8_t y = vreinterpretq_s16_u16(v[j]);
		int16x8_t x = vreinterpretq_s16_u8(
			vld1q_u8((const uint8_t *)(q + j * 8)));
		int32x4_t *a = acc + j % 2 * 2;
		a[0] = vmlal_s16(a[0], vget_low_s16(y), vget_low_s16(x));
		a[1] = vmlal_high_s16(a[1], y, x);
	}
}

static inline int64_t dot_row(const uint8_t *code, const uint8_t *extra,
			      size_t words, uint32_t n_extra, const int16_t *q)
{
	const uint8_t *planes = extra + (n_extra >= 4 ? words * 32 : 0);
	const int32x4_t zero = vdupq_n_s32(0);
	int32x4_t acc[4] = {zero, zero, zero, zero};
	int n_planes = n_extra % 4;
	int64_t sum = 0;

	for (size_t w = 0; w < words; w++, q += 64) {
		uint16x8_t v[8];
		if (n_extra >= 4)
			load_halves(extra + w * 32, n_planes, v);
		else
			for (size_t j = 0; j < 8; j++)
				v[j] = vdupq_n_u16(0);
		for (int p = 0; p < n_planes; p++)
			add_bits(planes + ((size_t)p * words + w) * 8,
				 (uint16_t)(1u << p), v);
		add_bits(code + w * 8, (uint16_t)(1u << n_extra), v);
		multiply(v, q, acc);
	}
	for (size_t j = 0; j < 4; j++)
		sum += vaddlvq_s32(acc[j]);
	return sum;
}

void vf_bits_i16_neon(const struct vf_bit_rows *r, const int16_t *q,
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

void vf_bytes_i16_neon(const uint8_t *bytes, size_t dim, const uint32_t *rows,
		       size_t n, const int16_t *q, int64_t *out)
{
	const int32x4_t zero = vdupq_n_s32(0);

	for (size_t k = 0; k < n; k++) {
		const uint8_t *y = bytes + rows[k] * dim;
		int32x4_t acc[4] = {zero, zero, zero, zero};
		int64_t sum = 0;
		for (size_t i = 0; i < dim; i += 64) {
			uint16x8_t v[8];
			for (size_t j = 0; j < 8; j++)
				v[j] = vmovl_u8(vld1_u8(y + i + j * 8));
			multiply(v, q + i, acc);
		}
		for (size_t j = 0; j < 4; j++)
			sum += vaddlvq_s32(acc[j]);
		out[k] = sum;
	}
}
#endif
