/*
 * Coding a row to B bits: the best factor t is searched, then r is rounded.
 *
 *   e      level of a dimension, 0..top, top = 2^(B-1) - 1: min(floor(t|r|), top)
 *   s      sign(r) * (2 e + 1)
 *   y      top + 1 + e where r >= 0, else top - e; so s = 2 y - (2^B - 1)
 *   extra  y without its topmost bit
 */
#include "index/refine.h"

#include <float.h>
#include <math.h>

#define WINDOW 1.4f /* the last factor of a sweep to the first */

enum { BINS = 64, QUERY_MAX = 16383 };

/*
 * The sweep over the values of t at which some dimension steps up one level
 * (paper, section 3.2.2), in bins of the range that is worth looking at
 * instead of sorted: that is linear in their number and the best bin's end is
 * as good as the best value (tests compare them).
 */
struct sweep {
	double dot[BINS + 1];  /* [0]: <s, |r|> at the first; then changes */
	uint64_t sq[BINS + 1]; /* of |s|^2 likewise */
};

/*
 * Steps of the uniform quantiser with the least error for a normal variable:
 * Max, "Quantizing for Minimum Distortion", 1960, table II, and the same
 * computation for 64 levels and more.  A rotated residual is nearly normal.
 */
static const float normal_step[VF_BITS_MAX + 1] = {0,	    1.596f,  0.9957f,
						   0.5860f, 0.3352f, 0.1881f,
						   0.1041f, 0.0569f, 0.0308f};

/* As the library's fminf, which is a call where NaN has to be minded. */
static inline float lesser(float a, float b)
{
	return a < b ? a : b;
}

static void sweep_dimension(struct sweep *w, float a, float top, float lo,
			    float bins)
{
	float inverse = bins / a, base = lo * bins;
	uint32_t e = (uint32_t)lesser(a * lo, top);
	uint32_t last = (uint32_t)lesser(a * lo * WINDOW, top);

	w->dot[0] += (double)(2 * e + 1) * a;
	w->sq[0] += (uint64_t)(2 * e + 1) * (2 * e + 1);
	while (e++ < last) {
		uint32_t bin = 1 + (uint32_t)lesser((float)e * inverse - base,
						    BINS - 1);
		w->dot[bin] += 2 * a;
		w->sq[bin] += 8 * (uint64_t)e;
	}
}

/* The best bin's end for factors from @lo to @lo * WINDOW. */
static uint32_t best_bin(const float *a, uint32_t n, float top, float lo,
			 double *out_cos2)
{
	float bins = BINS / (lo * (WINDOW - 1));
	struct sweep w = {0};
	uint32_t best = 0;
	double dot = 0;
	uint64_t sq = 0;

	*out_cos2 = 0;
	for (uint32_t i = 0; i < n; i++)
		sweep_dimension(&w, a[i], top, lo, bins);
	for (uint32_t b = 0; b <= BINS; b++) {
		dot += w.dot[b];
		sq += w.sq[b];
		if (dot * dot > *out_cos2 * (double)sq) {
			*out_cos2 = dot * dot / (double)sq;
			best = b;
		}
	}
	return best;
}

/*
 * That of the normal law, or, with many levels, that which just clips no
 * dimension: the best one of nearly all rows lies around it.
 */
static float likely_factor(const float *a, uint32_t n, uint32_t bits,
			   double l2sq)
{
	float mid = (float)(sqrt(n / l2sq) / normal_step[bits]);
	float top = (float)((1u << (bits - 1)) - 1), most = 0, t;

	for (uint32_t i = 0; i < n; i++)
		most = a[i] > most ? a[i] : most;
	t = (top + 1) / most;
	return t > mid ? t : mid;
}

/*
 * The factor with the smallest angle between s and r; the window moves where
 * it is not around the likely one.  (A sweep over a sample of the dimensions
 * is no good: it fits the sample, and the error of 8 bits is a half larger.)
 */
static float best_factor(const float *a, uint32_t n, uint32_t bits, double l2sq)
{
	float top = (float)((1u << (bits - 1)) - 1), lo, t;
	double best = -1, cos2;

	lo = t = 0.85f * likely_factor(a, n, bits, l2sq);
	for (int moves = 0; moves < 6; moves++) {
		uint32_t bin = best_bin(a, n, top, lo, &cos2);
		if (cos2 <= best)
			break;
		best = cos2;
		t = lo + (float)bin * lo * (WINDOW - 1) / BINS;
		if (bin && bin < BINS)
			break;
		lo = bin ? lo * WINDOW : lo / WINDOW;
	}
	return t;
}

static void pack_extra(const uint8_t *v, uint32_t padded, uint32_t n_extra,
		       uint8_t *out)
{
	uint32_t n_planes = n_extra % 4;

	if (n_extra >= 4)
		for (uint32_t i = 0; i < padded; i += 64)
			for (uint32_t j = 0; j < 32; j++)
				*out++ = (uint8_t)(v[i + j] >> n_planes |
						   v[i + 32 + j] >>
							   n_planes << 4);
	for (uint32_t p = 0; p < n_planes; p++)
		for (uint32_t i = 0; i < padded; i += 8) {
			uint32_t byte = 0;
			for (uint32_t j = 0; j < 8; j++)
				byte |= (v[i + j] >> p & 1u) << j;
			*out++ = (uint8_t)byte;
		}
}

/* What the factors are made of. */
struct fit {
	double l2sq;  /* |r|^2 */
	double rc;    /* <r, c> */
	double dot;   /* <s, r> */
	double sq;    /* |s|^2 */
	double shift; /* <s, leaf - origin>: queries lack it */
};

static void set_factors(const struct vf_grid *g, const struct fit *t,
			struct vf_extra_factors *f)
{
	double scale = g->metric == VF_EUCLIDEAN ? 2 : 1;
	double gain = t->l2sq / t->dot, cos2 = t->dot / t->sq / gain;

	f->mul = vf_within_float(-scale * gain);
	f->add = vf_within_float(f->add + scale * gain * t->shift);
	f->err = vf_within_float(scale * sqrt(t->l2sq * fmax(0, 1 - cos2) /
					      (cos2 * (g->padded - 1))));
}

/* Levels at factor @t, as the bits to store; sums of s into @fit. */
static void round_row(const struct vf_grid *g, const float *r, float t,
		      const struct vf_place *at, uint8_t *v, struct fit *fit)
{
	uint32_t top = (1u << (g->bits - 1)) - 1;
	bool apart = at->leaf != at->origin;

	for (uint32_t i = 0; i < g->padded; i++) {
		float a = fabsf(r[i]);
		uint32_t e = (uint32_t)lesser(a * t, (float)top);
		double s = 2 * e + 1;
		v[i] = (uint8_t)(r[i] >= 0 ? e : top - e);
		fit->dot += s * a;
		fit->sq += s * s;
		if (apart)
			fit->shift += (r[i] >= 0 ? s : -s) *
				      ((double)at->leaf[i] - at->origin[i]);
	}
}

void vf_refine_row(const struct vf_grid *g, const float *x,
		   const struct vf_place *at, uint8_t *extra,
		   struct vf_extra_factors *f)
{
	double scale = g->metric == VF_EUCLIDEAN ? 2 : 1;
	float r[VF_DIM_MAX], a[VF_DIM_MAX];
	uint8_t v[VF_DIM_MAX] = {0};
	struct fit fit = {0};

	*f = (struct vf_extra_factors){0};
	for (uint32_t i = 0; i < g->padded; i++) {
		r[i] = x[i] - at->leaf[i];
		a[i] = fabsf(r[i]);
		fit.l2sq += (double)r[i] * r[i];
		fit.rc += (double)r[i] * at->leaf[i];
	}
	if (!isfinite(fit.l2sq) || !isfinite(fit.rc)) {
		f->add = FLT_MAX; /* farther than float can say */
	} else {
		f->add = vf_within_float(
			g->metric == VF_DOT ? -fit.rc : scale / 2 * fit.l2sq);
		/* The row is about the centroid: no estimate. */
		f->err = vf_within_float(scale * sqrt(fit.l2sq));
		if (fit.l2sq >= 1e-30) {
			float t = (g->is_quick ? likely_factor : best_factor)(
				a, g->padded, g->bits, fit.l2sq);
			round_row(g, r, t, at, v, &fit);
			set_factors(g, &fit, f);
		}
	}
	pack_extra(v, g->padded, g->bits - 1, extra);
	f->crc = vf_crc32c(0, extra, vf_extra_len(g->bits, g->padded));
}

/* ---- queries ----------------------------------------------------------------------------- */

void vf_fine_query_make(const float *rotated, const float *origin,
			uint32_t padded, struct vf_fine_query *out)
{
	float most = 0;

	out->sq = out->len = 0;
	for (uint32_t i = 0; i < padded; i++) {
		float v = rotated[i] - origin[i];
		most = fabsf(v) > most ? fabsf(v) : most;
		out->sq += (double)v * v;
		out->len += (double)rotated[i] * rotated[i];
	}
	out->step = isfinite(most) ? most / (double)QUERY_MAX : 0;
	float inverse = out->step > FLT_MIN ? (float)(1 / out->step) : 0;
	out->sum = 0;
	for (uint32_t i = 0; i < padded; i++) {
		float v = (rotated[i] - origin[i]) * inverse;
		if (!(fabsf(v) <= QUERY_MAX)) /* rounding, or a NaN */
			v = v < 0 ? -QUERY_MAX : QUERY_MAX;
		out->q[i] = (int16_t)lrintf(v);
		out->sum += out->q[i];
	}
}

void vf_fine_leaf_make(enum vf_metric metric, const float *rotated,
		       const float *leaf, uint32_t padded,
		       struct vf_fine_leaf *out)
{
	double l2 = 0, qc = 0;

	for (uint32_t i = 0; i < padded; i++) {
		float v = rotated[i] - leaf[i];
		l2 += (double)v * v;
		qc += (double)rotated[i] * leaf[i];
	}
	out->err = 0;
	out->distance = sqrt(l2);
	out->base = metric == VF_DOT	     ? -qc
		    : metric == VF_EUCLIDEAN ? l2
					     : l2 / 2;
}
