/*
 * The tree of an index: its leaves, the nodes above them, and which leaves a
 * query looks into.  All shards of an index that follow it share it.
 *
 * Stored as INDEX/tree/<id>.vit, little-endian:
 *
 *   off  len
 *     0    8  magic "VFTREE01"
 *     8    4  version, 1           12  4  zero
 *    16    8  length of the file
 *    24   16  id, random; its hex digits are the name
 *    40    4  dimension            44  4  metric
 *    48    4  leaves               52  4  nodes
 *    56    4  norm that rows are completed to under dot, else 0
 *    60    4  CRC32C of the file, this field zero
 *    64       float[leaves][dim], float[leaves] extra coordinates,
 *             float[nodes][dim], float[nodes] likewise,
 *             uint32_t[nodes + 1] first leaf of each node
 */
#ifndef VF_INDEX_TREE_H
#define VF_INDEX_TREE_H

#include "index/cluster.h"
#include "index/index.h"

enum { VF_TREE_HEADER_LEN = 64, VF_TREE_LEAVES_MAX = 1 << 20 };

/* Append the file of @v.  Returns 0; -ENOMEM. */
int vf_tree_encode(const struct vf_cluster_view *v, const uint8_t id[16],
		   struct vf_buf *out);

/* What a file says; views into its bytes. */
struct vf_tree_file {
	uint8_t id[16];
	struct vf_cluster_view view;
};

/*
 * Check every byte of @p (4-byte aligned).
 * Returns 0; -EBADMSG; -ENOTSUP newer; @out_reason constant.  Threads: any.
 */
int vf_tree_validate(const void *p, size_t len, struct vf_tree_file *out,
		     const char **out_reason);

struct vf_tree;	      /* ready to be searched; immutable */
struct vf_fine_query; /* index/refine.h */
struct vf_fine_leaf;

/* Copies what it needs of @f.  Returns 0; -ENOMEM. */
int vf_tree_new(const struct vf_tree_file *f, uint64_t rotation_seed,
		struct vf_tree **out);
/*
 * Let go of what only an encoder needs, three quarters of all: vf_tree_leaf
 * may no longer be called.  Before others know @t.
 */
void vf_tree_trim(struct vf_tree *t);
void vf_tree_free(struct vf_tree *t); /* accepts NULL */

struct vf_tree_info {
	uint8_t id[16];
	uint32_t dim, n_leaves, n_nodes;
	enum vf_metric metric;
	uint64_t rotation_seed;
	size_t ram_len;
};
void vf_tree_info(const struct vf_tree *t, struct vf_tree_info *out);

/*
 * Rows of @leaf, of one shard, lie up to @radius from its centroid; the largest
 * counts.  Threads: any.
 */
void vf_tree_learn(struct vf_tree *t, uint32_t leaf, float radius);

/* Rotated, float[padded]; valid until free, or trim. */
const float *vf_tree_origin(const struct vf_tree *t);
const float *vf_tree_leaf(const struct vf_tree *t, uint32_t leaf);

/*
 * What a query has of its own at one leaf, by all bits of its code.
 * @q  against the tree's origin
 */
void vf_tree_measure(const struct vf_tree *t, const struct vf_fine_query *q,
		     uint32_t leaf, struct vf_fine_leaf *out);

/*
 * The @n leaves that hold most of what is near @q, nearest first: found by
 * 1 bit of their centroids, measured by all.
 *
 * @out  [VF_MIN(n, leaves)], which is how many there are
 * Returns 0; -EINVAL another dimension; -ENOMEM.  Threads: any, with scratch
 * of its own.
 */
int vf_tree_choose(const struct vf_tree *t, const float *q,
		   struct vf_scan_scratch *scratch, uint32_t n,
		   struct vf_probe *out);

#endif
