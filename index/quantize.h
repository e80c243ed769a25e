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

#include "index/index.h"

/*
 * Code one row.
 * @r       float[padded], rotated residual to the leaf's centroid
 * @centre  float[padded], rotated centroid
 * @code    padded / 8 bytes
 */
void vf_quantize_row(enum vf_metric metric, uint32_t padded, const float *r,
		     const float *centre, uint8_t *code, struct vf_factors *f);

/* A query against one origin, 4 bits per dimension in bit planes. */
struct vf_query_code {
	uint64_t *planes; /* [4][padded / 64], caller's */
	float lo, step;	  /* dimension i is lo + step * its 4 bits */
	float sum;	  /* of all dimensions as quantised */
	float base;	  /* the query's own share of every distance */
};

/*
 * @rotated  float[padded], rotated query (unit length under cosine)
 * @origin   float[padded], rotated origin of the shard
 * @work     float[padded], scratch
 */
void vf_quantize_query(enum vf_metric metric, uint32_t padded,
		       const float *rotated, const float *origin, float *work,
		       struct vf_query_code *out);

/* The estimated distance of a row whose weighted count is @count. */
static inline float vf_estimate(const struct vf_query_code *q,
				const struct vf_factors *f, uint32_t count)
{
	float s = 2 * (q->lo * (float)f->ones + q->step * (float)count) -
		  q->sum;
	return q->base + f->add + f->mul * s;
}

#endif
