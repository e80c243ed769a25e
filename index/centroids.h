/*
 * One level of a clustering: centroids, and which is nearest to a point.
 *
 * A point is a row times its scale (1 / length under cosine) with one more
 * coordinate, extra, that completes its norm under dot (Bachrach et al., RecSys
 * 2014: rows of equal completed norm have their inner products in the order of
 * their distances).  Nearest is the largest of
 *
 *   <p, w> - b    euclidean, dot: w = (c - m) / u, b = <c - m, c + m> / 2u
 *                 cosine:         w = c / |c|,     b = 0
 *
 * with m a point amid the centroids, so that a common offset of all rows does
 * not eat the digits, and u about the largest |c - m|, so that nothing
 * overflows.  c stays the plain mean, the point that residuals are taken from.
 */
#ifndef VF_INDEX_CENTROIDS_H
#define VF_INDEX_CENTROIDS_H

#include "store/vecfs.h"

struct vf_points {
	const float *x; /* [n][dim], borrowed */
	size_t n;
	uint32_t dim;
	enum vf_metric metric;
	float norm_max; /* dot: rows are completed to this norm */
	float *scale;	/* [n], owned; NULL: 1 */
	float *extra;	/* [n], owned; NULL: 0 */
	/*
	 * The same in bytes: dimension i of a row, scaled, is about
	 * mid[i] + step * (q[i] - VF_BYTE_ZERO), index/kernels_i8.h.
	 */
	float *mid;   /* [dim], owned */
	uint8_t *q;   /* [n][q_len], owned */
	size_t q_len; /* a multiple of 4, at least dim */
	float *step;  /* [n], owned */
	float *len;   /* [n], owned: of the scaled row less mid */
};

/*
 * Find scale, extra and bytes of every row.
 * @mid  a point amid the rows (unit ones under cosine), copied; NULL: the
 *       mean of some of them
 * Returns 0; -ENOMEM, and fini is still due.
 */
int vf_points_init(struct vf_points *p, enum vf_metric metric, uint32_t dim,
		   float norm_max, const float *x, size_t n, const float *mid,
		   unsigned n_threads);
void vf_points_fini(struct vf_points *p);
/* Length of the longest row. */
float vf_rows_norm_max(const float *x, size_t n, uint32_t dim);

struct vf_centroids {
	uint32_t n, dim;
	enum vf_metric metric;
	float *c; /* [n][dim] */
	float *e; /* [n], mean of extra */
	float *w, *we, *b;
};

/* Zero centroids.  Returns 0; -ENOMEM, and fini is still due. */
int vf_centroids_init(struct vf_centroids *l, enum vf_metric metric, uint32_t n,
		      uint32_t dim);
void vf_centroids_fini(struct vf_centroids *l);

/* Find w and b of all centroids anew.  Returns 0; -ENOMEM. */
int vf_centroids_derive(struct vf_centroids *l);

/* Rows that a block of vf_centroids_score holds. */
enum { VF_BLOCK_ROWS = 64 };

/*
 * Scores of @n <= VF_BLOCK_ROWS rows with centroids @first..@last - 1:
 * out[(j - first) * n + i].  The same bits whatever else is in the block.
 */
void vf_centroids_score(const struct vf_centroids *l, uint32_t first,
			uint32_t last, const struct vf_points *p,
			const uint32_t *rows, size_t n, float *out);

#endif
