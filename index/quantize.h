/*
 * 1-bit codes of rotated residuals and what is estimated from them.
 *
 * With r = R(x - c), s = sign(r), D the padded dimension:
 *
 *   <x - c, q - c>  ~  |r|^2 / |r|_1 * <s, R(q - c)>
 *
 * which is the estimator of Gao and Long, SIGMOD 2024, section 3.2: their
 * <o-bar, o> is |r|_1 / (|r| sqrt(D)).  The bound is their theorem 3.2.
 */
#ifndef VF_INDEX_QUANTIZE_H
#define VF_INDEX_QUANTIZE_H

#include <float.h>
#include <math.h>

#include "index/encoder.h"
#include "index/index.h"

/*
 * Factors and distances are finite: what is beyond float is the largest there
 * is, and so is a NaN (fmin(3) leaves it), which would break the order of
 * answers.
 */
static inline float vf_within_float(double v)
{
	return (float)fmax(-FLT_MAX, fmin(v, FLT_MAX));
}

/* Where a row is coded: both rotated, float[padded]; the same at one leaf. */
struct vf_place {
	const float *leaf;   /* the centroid that residuals are taken to */
	const float *origin; /* what queries are quantised against */
};

/*
 * Code one row.  Factors are finite whatever @x holds: a residual too long for
 * a float puts the row last, one of no length has mul 0.
 * @x     float[padded], rotated row (unit length under cosine)
 * @code  padded / 8 bytes
 */
void vf_quantize_row(enum vf_metric metric, uint32_t padded, const float *x,
		     const struct vf_place *at, uint8_t *code,
		     struct vf_factors *f);

/* |x - c| of a coded row, rounded up a little. */
float vf_factors_radius(enum vf_metric metric, uint32_t padded,
			const struct vf_factors *f);

/* A query against one origin, 4 bits per dimension in bit planes. */
struct vf_query_code {
	uint64_t *planes; /* [4][padded / 64], caller's */
	float lo, step;	  /* dimension i is lo + step * its 4 bits */
	/*
	 * Of all dimensions as quantised: with the exact sum the rounding of
	 * unset bits would no longer cancel, and the variance that rounding
	 * adds to <s, q> would be twice as large.
	 */
	float sum;
	float base;	/* the query's own share of every distance */
	float distance; /* |q - origin|, for bounds */
};

/*
 * @rotated  float[padded], rotated query (unit length under cosine)
 * @origin   float[padded], rotated origin of the shard
 * @work     float[padded], scratch
 */
void vf_quantize_query(enum vf_metric metric, uint32_t padded,
		       const float *rotated, const float *origin, float *work,
		       struct vf_query_code *out);

/* The code that the query would have as a row: for plain Hamming distances. */
void vf_sign_query(uint32_t padded, const float *rotated, const float *origin,
		   uint64_t *out_code);

/* The estimated distance of a row whose weighted count is @count. */
static inline float vf_estimate(const struct vf_query_code *q,
				const struct vf_factors *f, uint32_t count)
{
	float s =
		2 * (q->lo * (float)f->ones + q->step * (float)count) - q->sum;
	return q->base + f->add + f->mul * s;
}

#endif
