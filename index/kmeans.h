/*
 * Balanced k-means of a set of points: Lloyd's rounds, and between them large
 * clusters are split at the cost of the smallest.
 *
 * All is drawn from the seed, and every sum has one order, so that results are
 * the same for any number of threads.
 */
#ifndef VF_INDEX_KMEANS_H
#define VF_INDEX_KMEANS_H

#include "index/centroids.h"

/* Rows by cluster: those of j are order[starts[j]..starts[j + 1] - 1]. */
struct vf_groups {
	uint32_t k;
	size_t *starts;	 /* [k + 1] */
	uint32_t *order; /* [n] row numbers */
};

/*
 * Group @rows[i] by @ids[i] < @k, keeping their order.
 * Returns 0; -ENOMEM, and fini is still due.
 */
int vf_groups_init(struct vf_groups *g, uint32_t k, const uint32_t *rows,
		   const uint32_t *ids, size_t n);
void vf_groups_fini(struct vf_groups *g);

/* Move each centroid to the mean of its rows; without rows it stays. */
int vf_kmeans_update(struct vf_centroids *l, const struct vf_points *p,
		     const struct vf_groups *g, unsigned n_threads);

/*
 * Take centroids of fewer than a quarter of the mean number of rows away from
 * where they are and split the largest clusters with them.
 * Their w is not derived.  Returns 0; -ENOMEM.
 */
int vf_kmeans_balance(struct vf_centroids *l, const struct vf_points *p,
		      const struct vf_groups *g, uint64_t seed);

struct vf_kmeans_options {
	uint32_t k; /* at most n */
	unsigned n_rounds;
	unsigned n_threads;
	uint64_t seed;
};

/*
 * Cluster @rows of @p into @out, which has k centroids of zero.  A centroid
 * may end without rows when rows are equal.
 * @out_ids  [n], the cluster of each row by the centroids before the last mean
 * Returns 0; -ENOMEM.
 */
int vf_kmeans_run(const struct vf_kmeans_options *o, const struct vf_points *p,
		  const uint32_t *rows, size_t n, struct vf_centroids *out,
		  uint32_t *out_ids);

/* The nearest of all centroids for each row. */
int vf_kmeans_assign(const struct vf_centroids *l, const struct vf_points *p,
		     const uint32_t *rows, size_t n, unsigned n_threads,
		     uint32_t *out_ids);

/* @n distinct of @rows, in random order, into the front of @rows. */
void vf_rows_draw(uint32_t *rows, size_t n_rows, size_t n, uint64_t *seed);

#endif
