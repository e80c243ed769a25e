/*
 * Codes of B bits per dimension, 2 to 8, and what is estimated from them.
 *
 * With r = R(x - c), a row's code y has B bits per dimension and stands for
 * the odd integers s = 2 y - (2^B - 1); the topmost bit of y is the sign of r,
 * which is the 1-bit code, and the B - 1 bits below it are kept apart ("extra
 * bits").  Then, as with one bit,
 *
 *   <x - c, q - c>  ~  |r|^2 / <s, r> * <s, R(q - c)>
 *
 * where s is the point of the grid with the smallest angle to r that rounding
 * t * r finds for any t.  Source: Gao et al., "Practical and Asymptotically
 * Optimal Quantization of High-Dimensional Vectors in Euclidean Space for
 * Approximate Nearest Neighbor Search", SIGMOD 2025, sections 3.2 and 3.3; the
 * bound is that of Gao and Long, SIGMOD 2024, theorem 3.2, with the angle
 * between s and r in place of the 1-bit one.
 *
 * The query keeps 15 bits per dimension: its own rounding is below a hundredth
 * of an 8-bit code's error, and sums of integers are the same on every CPU.
 *
 * Extra bits of one row, E = B - 1 of them per dimension, (padded / 8) * E
 * bytes, dimensions in order:
 *   E >= 4  the four high ones: of each 64 dimensions 32 bytes, dimension i in
 *           the low half of byte i, dimension 32 + i in its high half
 *   E % 4   the others, one bit plane each from the lowest, as the 1-bit code
 */
#ifndef VF_INDEX_REFINE_H
#define VF_INDEX_REFINE_H

#include "index/kernels.h"
#include "index/quantize.h"

enum { VF_BITS_MAX = 8 };

/* How an index codes its rows. */
struct vf_grid {
	enum vf_metric metric;
	uint32_t padded;
	uint32_t bits; /* 1..VF_BITS_MAX in all */
	/*
	 * By a likely factor, not the best: a quarter of the time, and the
	 * error of 8 bits is a fiftieth larger.
	 */
	bool is_quick;
};

/* Bytes of the extra bits of one row. */
static inline size_t vf_extra_len(uint32_t bits, uint32_t padded)
{
	return (size_t)(bits - 1) * (padded / 8);
}

/*
 * The extra bits of a row and their factors, finite whatever @x holds.
 * @x      float[padded], rotated row, as for vf_quantize_row
 * @extra  vf_extra_len bytes
 */
void vf_refine_row(const struct vf_grid *g, const float *x,
		   const struct vf_place *at, uint8_t *extra,
		   struct vf_extra_factors *f);

/* A query against one origin; 15 bits per dimension. */
struct vf_fine_query {
	int16_t *q; /* [padded], caller's: dimension i is step * q[i] */
	double step;
	int64_t sum; /* of q */
	double sq;   /* |q - origin|^2 */
	double len;  /* |q|^2 */
};

/*
 * @rotated  float[padded], rotated query (unit length under cosine)
 * @origin   float[padded], rotated origin of the shard
 */
void vf_fine_query_make(const float *rotated, const float *origin,
			uint32_t padded, struct vf_fine_query *out);

/* What a query has of its own at one leaf. */
struct vf_fine_leaf {
	double base;	 /* its share of every distance */
	double distance; /* |q - c|, for bounds */
	double err;	 /* times eps: how far base may be off */
};
void vf_fine_leaf_make(enum vf_metric metric, const float *rotated,
		       const float *leaf, uint32_t padded,
		       struct vf_fine_leaf *out);

/*
 * The estimated distance of a row, given <y, q> from the kernel.
 * A 1-bit row's factors have the same meaning.
 */
static inline double vf_fine_estimate(const struct vf_fine_query *q,
				      const struct vf_fine_leaf *leaf,
				      const struct vf_extra_factors *f,
				      uint32_t bits, int64_t dot)
{
	int64_t s = 2 * dot - ((1 << bits) - 1) * q->sum;

	return leaf->base + (double)f->add + f->mul * (q->step * (double)s);
}

#endif
