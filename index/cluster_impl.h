/* What cluster.c (training) and assign.c (the leaf of a row) share. */
#ifndef VF_INDEX_CLUSTER_IMPL_H
#define VF_INDEX_CLUSTER_IMPL_H

#include "index/centroids.h"
#include "index/cluster.h"

struct vf_cluster {
	float norm_max;
	struct vf_centroids leaves, nodes;
	uint32_t *first; /* [nodes.n + 1] */
};

enum { VF_NEAR_DEFAULT = 16 };

/*
 * The leaf of each of @p's rows, out of those of the @n_near nearest nodes.
 * Returns 0; -ENOMEM.
 */
int vf_assign_points(const struct vf_cluster *c, const struct vf_points *p,
		     unsigned n_near, unsigned n_threads, uint32_t *out_leaf);

#endif
