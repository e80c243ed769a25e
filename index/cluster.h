/*
 * The clustering of an index: leaves, nodes above them, the leaf of a row.
 *
 * Trained on a sample: nodes first, each node's rows into its share of leaves,
 * then rounds over all leaves.  Children of a node are consecutive leaves.
 *
 * Distances between rows and centroids:
 *
 *   cosine      rows are scaled to unit length; a leaf's centroid is their
 *               mean and is not; the leaf of a row is the one whose centroid
 *               has the least angle to it
 *   euclidean   as they are
 *   dot         rows get one more coordinate that makes all as long as the
 *               longest of the sample, so that long rows do not hide; leaves
 *               keep its mean apart (extra)
 *
 * Rows hold no NaN and no infinity, and under cosine none is zero.
 */
#ifndef VF_INDEX_CLUSTER_H
#define VF_INDEX_CLUSTER_H

#include "store/vecfs.h"

struct vf_cluster;

struct vf_cluster_options {
	uint32_t dim;
	enum vf_metric metric;
	uint32_t n_leaves; /* 0: vf_cluster_n_leaves of the sample */
	uint64_t seed;
	unsigned n_threads; /* 0: 1 */
	unsigned n_rounds;  /* k-means rounds inside a node; 0: few */
	/* Nodes that a row's leaf is sought in; 0: all, 16 of many leaves. */
	unsigned n_near;
	uint32_t reserved[4];
};

/* About 4 * sqrt(@n_rows), 1 where a flat scan costs no more. */
uint32_t vf_cluster_n_leaves(uint64_t n_rows);

/*
 * @sample  float[n][dim], rows of the index as put, in any order; 64 a leaf
 *          are enough, more than 256 only cost time
 * The same result for any number of threads and the same seed and CPU.  There
 * may be fewer leaves than asked for, never more than rows nor than rows that
 * differ; and a few more, where some would be far too large.
 * Returns 0; -EINVAL; -ENOMEM.  Threads: any.
 */
int vf_cluster_train(const struct vf_cluster_options *o, const float *sample,
		     size_t n, struct vf_cluster **out);
void vf_cluster_free(struct vf_cluster *c); /* accepts NULL */

/* What a clustering is: to be stored, and to be made from again. */
struct vf_cluster_view {
	uint32_t dim;
	enum vf_metric metric;
	uint32_t n_leaves, n_nodes;
	float norm_max;		 /* dot: what rows are completed to */
	const float *leaves;	 /* [n_leaves][dim] */
	const float *leaf_extra; /* dot: [n_leaves]; others: zeros or NULL */
	const float *nodes;	 /* [n_nodes][dim] */
	const float *node_extra;
	const uint32_t *first; /* [n_nodes + 1]: leaves of each node */
};

/* Views that last until free. */
void vf_cluster_view(const struct vf_cluster *c, struct vf_cluster_view *out);

/*
 * From a view, which is copied.  Its numbers must be finite.
 * Returns 0; -EINVAL when it is none; -ENOMEM.
 */
int vf_cluster_new(const struct vf_cluster_view *v, struct vf_cluster **out);

struct vf_cluster_assign {
	unsigned n_threads; /* 0: 1 */
	unsigned n_near;    /* nodes looked into; 0: all, 16 of many leaves */
	uint32_t reserved[4];
};

/*
 * The leaf of each row.
 *
 * @x          float[n][dim] as put
 * @out_leaf   [n]
 * @out_sq     [n] or NULL: squared distance of the row (of the unit row under
 *             cosine) to the leaf's centroid, without completion: the length
 *             of the residual that codes are made of
 * Returns 0; -ENOMEM.  Threads: any.
 */
int vf_cluster_assign(const struct vf_cluster *c,
		      const struct vf_cluster_assign *o, const float *x,
		      size_t n, uint32_t *out_leaf, float *out_sq);

#endif
