/*
 * Rows of bytes against sixteen centroids of bytes at a time: what clustering
 * spends its time on.  Sums of integers are the same on every CPU and for any
 * division of the work.
 */
#ifndef VF_INDEX_KERNELS_I8_H
#define VF_INDEX_KERNELS_I8_H

#include <stddef.h>
#include <stdint.h>

enum { VF_PANEL = 16 }; /* centroids of a panel */

/*
 * out[i * stride + 16 p + j] = sum over d of rows[i][d] * centroid j of
 * panel p, d = 0..4 * n_quads - 1; n_quads <= 1024, so that nothing overflows.
 *
 * @panels  int8_t[n_panels][n_quads][16][4]
 * @stride  at least 16 * n_panels
 * Threads: any.
 */
typedef void vf_dots_i8_fn(const uint8_t *const *rows, size_t n_rows,
			   const int8_t *panels, size_t n_panels,
			   size_t n_quads, int32_t *out, size_t stride);

/* The one of this CPU, within what vf_kernels() may use. */
vf_dots_i8_fn *vf_dots_i8(void);

/* "scalar", "avx2", "vnni"; NULL when this CPU lacks it. */
vf_dots_i8_fn *vf_dots_i8_named(const char *name);

/*
 * What sums of a row say of sixteen centroids each: score = (sum - bias) *
 * (mul * step) + add + extra * we.
 */
struct vf_panels {
	const int32_t *bias;
	const float *mul, *add, *we; /* [n_panels][16] */
	size_t n_panels;
	uint32_t first; /* number of the first centroid */
};

/* The best of each place of a panel: its score and the centroid's number. */
struct vf_places {
	float score[VF_PANEL];
	uint32_t id[VF_PANEL];
};

/*
 * Improve @best by @sums, as vf_dots_i8 leaves them, of one row; the first of
 * equals stays.  The same bits in all variants.  Threads: any.
 */
typedef void vf_keep_i8_fn(const struct vf_panels *p, const int32_t *sums,
			   float step, float extra, struct vf_places *best);
vf_keep_i8_fn *vf_keep_i8(void);
vf_keep_i8_fn *vf_keep_i8_named(const char *name); /* "scalar", "vnni" */

enum { VF_BYTE_ZERO = 128 }; /* what stands for 0 in bytes of rows */

struct vf_rounded {
	float step, len; /* len: of what was rounded */
};

/*
 * Bytes of scale * x - mid: dimension i is about step * (q[i] -
 * VF_BYTE_ZERO).  A row beyond float's range ends up somewhere far.
 *
 * @q  [dim rounded up to 4], the last ones VF_BYTE_ZERO
 * Threads: any.
 */
typedef struct vf_rounded vf_round_i8_fn(const float *x, float scale,
					 const float *mid, size_t dim,
					 uint8_t *q);
vf_round_i8_fn *vf_round_i8(void);
vf_round_i8_fn *vf_round_i8_named(const char *name); /* "scalar", "avx2" */

#endif
