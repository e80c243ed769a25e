/*
 * What cluster.c (training), cluster_nodes.c, cluster_view.c and assign.c (the
 * leaf of a row) share.
 */
#ifndef VF_INDEX_CLUSTER_IMPL_H
#define VF_INDEX_CLUSTER_IMPL_H

#include "index/centroids.h"
#include "index/cluster.h"
#include "index/coarse.h"

struct vf_cluster {
	float norm_max;
	struct vf_centroids leaves, nodes;
	uint32_t *first; /* [nodes.n + 1] */
	/* What rows are compared with; made anew when centroids move. */
	float *mid;
	struct vf_coarse near_nodes, near_leaves; /* leaves by node */
	struct vf_coarse all; /* leaves in one group, unless they are many */
};

/*
 * Make ready to find the leaves of points around @mid; NULL: amid the
 * leaves.  Returns 0; -ENOMEM.
 */
int vf_cluster_prepare(struct vf_cluster *c, const float *mid);

/*
 * So many leaves are all looked at: nodes would spare some of the work and
 * miss the leaf of one row in ten.
 */
enum { VF_NEAR_DEFAULT = 16, VF_EXACT_LEAVES = 8192 };

/*
 * The leaf of each of @p's rows (their mid is the cluster's), out of those of the @n_near nearest nodes.
 * Returns 0; -ENOMEM.
 */
int vf_assign_points(const struct vf_cluster *c, const struct vf_points *p,
		     unsigned n_near, unsigned n_threads, uint32_t *out_leaf);

/* About the root: one of few leaves. */
uint32_t vf_cluster_n_nodes(uint32_t n_leaves);
/*
 * Cluster those leaves that @live names into nodes anew, and put them into
 * their order; the others are dropped.  Returns 0; -ENOMEM.
 */
int vf_cluster_raise(struct vf_cluster *c, const uint32_t *live,
		     uint32_t n_live, uint64_t seed, unsigned n_threads);
/*
 * The same, in the order of index/leaf_order.h; nodes are what then lies side
 * by side.  For up to VF_EXACT_LEAVES.
 */
int vf_cluster_line_up(struct vf_cluster *c, const uint32_t *live,
		       uint32_t n_live, unsigned n_threads);

#endif
