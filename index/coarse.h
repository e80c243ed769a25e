/*
 * Which of many centroids is nearest, by bytes: points and centroids are
 * rounded to 8 bits around a point amid them, and only where that leaves two
 * within its error are they compared exactly.
 *
 * A quarter of the bytes and of the instructions of floats: at 1024 dimensions
 * the error is some .0003 of the lengths, far below what leaves differ by.
 */
#ifndef VF_INDEX_COARSE_H
#define VF_INDEX_COARSE_H

#include "index/centroids.h"
#include "index/kernels_i8.h"

/*
 * Centroids of one level in groups, each in panels of its own.  A slot is a
 * place in a panel; those beyond a group's end score -infinity.
 */
struct vf_coarse {
	const struct vf_centroids *l; /* borrowed: for what is exact */
	uint32_t n_groups, n_quads;
	uint32_t *panel; /* [n_groups + 1] first panel of each */
	uint32_t *first; /* [n_groups + 1] first centroid of each */
	int8_t *q;	 /* [panels][n_quads][16][4] */
	/*
	 * Score of slot s with a row: step of the row * mul[s] *
	 * (sum - bias[s]) + add[s] + extra of the row * we[s].
	 */
	float *mul, *add, *we; /* [panels * 16] */
	int32_t *bias;
	float *step, *len; /* of each centroid: for its error */
};

/*
 * From what vf_centroids_derive found.
 * @first  [n_groups + 1] centroids of each group; NULL: one of all
 * @mid    that of the points that will be asked for
 * Returns 0; -ENOMEM, and fini is still due.
 */
int vf_coarse_init(struct vf_coarse *c, const struct vf_centroids *l,
		   const uint32_t *first, uint32_t n_groups, const float *mid);
void vf_coarse_fini(struct vf_coarse *c);

/* Nothing looked at yet. */
void vf_coarse_begin(struct vf_places *b);

enum { VF_COARSE_ROWS = 48 }; /* rows of one call; a multiple of tiles */

/* Improve best[i] of @n <= VF_COARSE_ROWS rows by the centroids of a group. */
void vf_coarse_search(const struct vf_coarse *c, uint32_t group,
		      const struct vf_points *p, const uint32_t *rows, size_t n,
		      struct vf_places *const *best);

/* The nearest of what has been looked at. */
uint32_t vf_coarse_nearest(const struct vf_coarse *c, const struct vf_points *p,
			   uint32_t row, const struct vf_places *best);

/*
 * Scores of @n <= VF_COARSE_ROWS rows with the 16 centroids of one panel.
 * @out  [n][16]
 */
void vf_coarse_scores(const struct vf_coarse *c, uint32_t panel,
		      const struct vf_points *p, const uint32_t *rows, size_t n,
		      float (*out)[VF_PANEL]);

#endif
