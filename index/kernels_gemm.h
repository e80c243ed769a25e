/*
 * The inner loops of clustering: a block of rows against a block of centroids.
 *
 * In single precision, because only the order of near and far is asked.  The
 * table is that of vf_kernels(); the scalar functions in kernels_gemm.c are
 * the definition.  A product is one sum that depends on its row and its
 * centroid alone, never on the shape of the block, so that results are the
 * same for any division of the work; variants add in another order, so that n
 * products of magnitude m may differ by n * m * 2^-23.
 *
 * Pointers have the alignment of a float; nothing beyond the last element is
 * read or written.  Threads: any.
 */
#ifndef VF_INDEX_KERNELS_GEMM_H
#define VF_INDEX_KERNELS_GEMM_H

#include <stddef.h>

struct vf_gemm_kernels {
	const char *name; /* "scalar", "avx2", "avx512" */

	/*
	 * <rows[i], w_j> to out[j * n_rows + i], so that one centroid's
	 * products lie together.
	 * @rows  n_rows pointers to float[dim]
	 * @w     float[n_w][dim]
	 */
	void (*dots_f32)(const float *const *rows, size_t n_rows,
			 const float *w, size_t n_w, size_t dim, float *out);

	/* sum[i] += scale * x[i], in double: the same bits in all variants. */
	void (*add_f32)(const float *x, double scale, size_t dim, double *sum);
};

/* The table in use; valid for ever. */
const struct vf_gemm_kernels *vf_gemm_kernels(void);

/* A table by name for tests and benches; NULL when this CPU lacks it. */
const struct vf_gemm_kernels *vf_gemm_kernels_named(const char *name);

/*
 * Private to the folder.  A tile of an instruction set: @run leaves the product
 * of centroid j and row r in sums[j * rows + r].
 * @next  rows that the next tile reads, or NULL when they are near already
 */
struct vf_gemm_tile {
	size_t rows, w; /* at most VF_TILE_ROWS and VF_TILE_W */
	void (*run)(const float *const *x, const float *const *w,
		    const float *const *next, size_t dim, float *sums);
};
enum { VF_TILE_ROWS = 4, VF_TILE_W = 6 };

/* dots_f32 by tiles. */
void vf_gemm_run_tiles(const struct vf_gemm_tile *t, const float *const *rows,
		       size_t n_rows, const float *w, size_t n_w, size_t dim,
		       float *out);

/* Variants, NULL where not compiled or supported. */
const struct vf_gemm_kernels *vf_gemm_kernels_avx2(void);
const struct vf_gemm_kernels *vf_gemm_kernels_avx512(void);

#endif
