/*
 * Codes of several bits against a query of 15 bits, scalar: the definition.
 */
#include "index/kernels.h"
#include "store/util.h"

/* Dimension @i of one row, without its topmost bit. */
static uint32_t extra_bits(const uint8_t *extra, size_t words, uint32_t n_extra,
			   size_t i)
{
	uint32_t n_planes = n_extra % 4, v = 0;

	if (n_extra >= 4) {
		uint32_t byte = extra[i / 64 * 32 + i % 32];
		v = (i & 32 ? byte >> 4 : byte & 15) << n_planes;
		extra += words * 32;
	}
	for (uint32_t p = 0; p < n_planes; p++, extra += words * 8)
		v |= (extra[i / 8] >> (i % 8) & 1u) << p;
	return v;
}

void vf_bits_i16_scalar(const struct vf_bit_rows *r, const int16_t *q,
			int64_t *out)
{
	size_t code_len = r->words * 8;

	for (size_t k = 0; k < r->n; k++) {
		const uint8_t *code = r->codes + r->rows[k] * code_len;
		const uint8_t *extra =
			r->extra + r->rows[k] * code_len * r->n_extra;
		int64_t sum = 0;
		for (size_t i = 0; i < r->words * 64; i++) {
			uint32_t y = (code[i / 8] >> (i % 8) & 1u)
				     << r->n_extra;
			y |= extra_bits(extra, r->words, r->n_extra, i);
			sum += (int64_t)y * q[i];
		}
		out[k] = sum;
	}
}

void vf_bytes_i16_scalar(const uint8_t *bytes, size_t dim, const uint32_t *rows,
			 size_t n, const int16_t *q, int64_t *out)
{
	for (size_t k = 0; k < n; k++) {
		const uint8_t *y = bytes + rows[k] * dim;
		int64_t sum = 0;
		for (size_t i = 0; i < dim; i++)
			sum += y[i] * q[i];
		out[k] = sum;
	}
}
