#include "index/quantize.h"

#include <math.h>

/* Set bits where @r is not negative; @r is a whole number of words long. */
static uint32_t pack_signs(const float *r, uint32_t n, uint8_t *code)
{
	uint32_t ones = 0;

	for (uint32_t w = 0; w < n / 64; w++) {
		uint64_t bits = 0;
		for (uint32_t j = 0; j < 64; j++)
			bits |= (uint64_t)(r[w * 64 + j] >= 0) << j;
		vf_put_le64(code + (size_t)w * 8, bits);
		ones += (uint32_t)__builtin_popcountll(bits);
	}
	return ones;
}

void vf_quantize_row(enum vf_metric metric, uint32_t padded, const float *r,
		     const float *centre, uint8_t *code, struct vf_factors *f)
{
	double l1 = 0, l2 = 0, rc = 0;

	for (uint32_t i = 0; i < padded; i += 64) {
		float a = 0, b = 0, c = 0; /* short sums keep float exact enough */
		for (uint32_t j = i; j < i + 64; j++) {
			a += fabsf(r[j]);
			b += r[j] * r[j];
			c += r[j] * centre[j];
		}
		l1 += a;
		l2 += b;
		rc += c;
	}
	*f = (struct vf_factors){.ones = pack_signs(r, padded, code)};
	double gain = l1 > 1e-30 ? l2 / l1 : 0;
	double cos2 = l2 > 1e-30 ? l1 * l1 / (l2 * padded) : 1;
	double spread = sqrt(l2 * fmax(0, 1 - cos2) / (cos2 * (padded - 1)));
	double twice = metric == VF_EUCLIDEAN ? 2 : 1;

	f->mul = (float)(-twice * gain);
	f->err = (float)(twice * spread);
	f->add = (float)(metric == VF_DOT ? -rc : l2 * twice / 2);
}

/* Bit j of each dimension's 4 bits goes to plane j. */
static double spread_planes(const float *q, uint32_t n, float lo, float step,
			    uint64_t *planes)
{
	float inverse = step > 0 ? 1 / step : 0;
	uint64_t total = 0;
	uint32_t words = n / 64;

	for (uint32_t w = 0; w < words; w++) {
		uint64_t p[4] = {0};
		for (uint32_t j = 0; j < 64; j++) {
			float v = (q[w * 64 + j] - lo) * inverse + 0.5f;
			uint64_t u = v >= 15 ? 15 : (uint64_t)v;
			total += u;
			for (int b = 0; b < 4; b++)
				p[b] |= (u >> b & 1) << j;
		}
		for (uint32_t b = 0; b < 4; b++)
			planes[b * words + w] = p[b];
	}
	return (double)lo * n + (double)step * (double)total;
}

void vf_quantize_query(enum vf_metric metric, uint32_t padded,
		       const float *rotated, const float *origin, float *work,
		       struct vf_query_code *out)
{
	float lo = INFINITY, hi = -INFINITY;
	double l2 = 0, qc = 0;

	for (uint32_t i = 0; i < padded; i++) {
		float v = rotated[i] - origin[i];
		work[i] = v;
		lo = fminf(lo, v);
		hi = fmaxf(hi, v);
		l2 += (double)v * v;
		qc += (double)rotated[i] * origin[i];
	}
	out->lo = lo;
	out->step = (hi - lo) / 15;
	out->sum = (float)spread_planes(work, padded, lo, out->step,
					out->planes);
	out->base = (float)(metric == VF_DOT	     ? -qc
			    : metric == VF_EUCLIDEAN ? l2
						     : l2 / 2);
}
