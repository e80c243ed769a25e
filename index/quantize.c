#include "index/quantize.h"
#include "index/kernels.h"

#include <float.h>
#include <math.h>

/*
 * <s, leaf - origin>, which a query quantised against the origin lacks.  Eight
 * sums, one for each bit of a byte: such loops become vectors.
 */
static double code_dot_shift(const uint8_t *code, const struct vf_place *at,
			     uint32_t padded)
{
	float sum[8] = {0}, all = 0;

	if (at->leaf == at->origin)
		return 0;
	for (uint32_t i = 0; i < padded; i += 8) {
		const float *c = at->leaf + i, *o = at->origin + i;
		uint32_t bits = code[i / 8];
		for (uint32_t j = 0; j < 8; j++) {
			float d = c[j] - o[j];
			sum[j] += bits & 1u << j ? d : -d;
		}
	}
	for (uint32_t j = 0; j < 8; j++)
		all += sum[j];
	return all;
}

void vf_quantize_row(enum vf_metric metric, uint32_t padded, const float *x,
		     const struct vf_place *at, uint8_t *code,
		     struct vf_factors *f)
{
	double scale = metric == VF_EUCLIDEAN ? 2 : 1, shift, gain, cos2;
	struct vf_residual r;

	vf_kernels()->code_f32(x, at->leaf, padded / 64, code, &r);
	*f = (struct vf_factors){.ones = r.ones};
	if (!isfinite(r.l2sq) || !isfinite(r.rc)) {
		f->add = FLT_MAX; /* farther than float can say */
		return;
	}
	f->add = vf_within_float(metric == VF_DOT ? -r.rc : scale / 2 * r.l2sq);
	f->err = vf_within_float(scale * sqrt(r.l2sq));
	if (r.l1 < 1e-30 || r.l2sq < 1e-30)
		return; /* the row is about the centroid: no estimate */
	gain = r.l2sq / r.l1;
	cos2 = r.l1 * r.l1 / (r.l2sq * padded);
	shift = code_dot_shift(code, at, padded);
	f->mul = vf_within_float(-scale * gain);
	f->add = vf_within_float(f->add + scale * gain * shift);
	f->err = vf_within_float(scale * sqrt(r.l2sq * fmax(0, 1 - cos2) /
					      (cos2 * (padded - 1))));
}

/*
 * With gain = |r|^2 / |r|_1 and cos2 as above, (err / scale)^2 * (padded - 1)
 * is gain^2 * padded - |r|^2: so the factors still know |r|.
 */
float vf_factors_radius(enum vf_metric metric, uint32_t padded,
			const struct vf_factors *f)
{
	double scale = metric == VF_EUCLIDEAN ? 2 : 1;
	double gain = f->mul / scale, err = f->err / scale;
	double sq = gain * gain * padded - err * err * (padded - 1);

	return vf_within_float(sqrt(fmax(0, sq)) * (1 + 1e-4));
}

/* Bit 0 of each of eight bytes. */
static uint64_t low_bits(uint64_t bytes)
{
	return (bytes & UINT64_C(0x0101010101010101)) *
		       UINT64_C(0x0102040810204080) >>
	       56;
}

/* Bit j of each dimension's 4 bits goes to plane j. */
static double spread_planes(const float *q, uint32_t n, float lo, float step,
			    uint64_t *planes)
{
	float inverse = step > FLT_MIN ? 1 / step : 0;
	uint32_t words = n / 64, total = 0;

	for (uint32_t w = 0; w < words; w++, q += 64) {
		uint64_t p[4] = {0};
		uint8_t u[64];
		for (uint32_t j = 0; j < 64; j++) {
			float v = (q[j] - lo) * inverse + 0.5f;
			v = v > 0 ? v : 0; /* a NaN too */
			u[j] = (uint8_t)(int)(v < 15 ? v : 15);
		}
		for (uint32_t j = 0; j < 64; j++)
			total += u[j];
		for (uint32_t j = 0; j < 64; j += 8) {
			uint64_t v = vf_le64(u + j);
			for (uint32_t b = 0; b < 4; b++)
				p[b] |= low_bits(v >> b) << j;
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
		lo = v < lo ? v : lo;
		hi = v > hi ? v : hi;
		l2 += (double)v * v;
		qc += (double)rotated[i] * origin[i];
	}
	out->lo = lo;
	out->step = (hi - lo) / 15;
	out->sum =
		(float)spread_planes(work, padded, lo, out->step, out->planes);
	out->distance = (float)sqrt(l2);
	out->base = (float)(metric == VF_DOT	     ? -qc
			    : metric == VF_EUCLIDEAN ? l2
						     : l2 / 2);
}

void vf_sign_query(uint32_t padded, const float *rotated, const float *origin,
		   uint64_t *out_code)
{
	struct vf_residual r;

	vf_kernels()->code_f32(rotated, origin, padded / 64,
			       (uint8_t *)out_code, &r);
}
