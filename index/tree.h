/*
 * The tree of an index: its leaves, the nodes above them, and which leaves a
 * query looks into.  All shards of an index that follow it share it.
 *
 * Stored as INDEX/tree/<id>.vit, version 2, little-endian:
 *
 *   off  len
 *     0    8  magic "VFTREE01"
 *     8    4  version, 2           12  4  zero
 *    16    8  length of the file
 *    24   16  id, random; its hex digits are the name
 *    40    4  dimension            44  4  metric
 *    48    4  leaves               52  4  nodes
 *    56    4  norm that rows are completed to under dot, else 0
 *    60    4  CRC32C up to the floats, this field zero
 *    64    8  rotation seed        72  8  where the floats begin
 *    80    4  CRC32C of the floats 84 44  zero
 *   128       what a search needs: float[padded] origin, float[leaves] squared
 *             lengths, float[leaves] squared extra coordinates, struct
 *             vf_factors[leaves], struct vf_extra_factors[leaves],
 *             uint8_t[leaves][padded / 8] codes, uint8_t[leaves][7 * padded /
 *             8] their other bits
 *             the floats: float[leaves][dim], float[leaves] extra coordinates,
 *             float[nodes][dim], float[nodes] likewise,
 *             uint32_t[nodes + 1] first leaf of each node
 *
 * Version 1 has the floats at 64, nothing before them, and at 60 the CRC32C of
 * all.
 */
#ifndef VF_INDEX_TREE_H
#define VF_INDEX_TREE_H

#include "index/cluster.h"
#include "index/encoder.h"
#include "index/index.h"
#include "store/util.h"

enum { VF_TREE_HEADER_LEN = 128, VF_TREE_LEAVES_MAX = 1 << 20 };

/* Leaves as they are searched, in rotated space; sizes as in the file. */
struct vf_tree_codes {
	uint64_t rotation_seed;
	const float *origin;
	const float *leaf_sq, *extra_sq;
	const struct vf_factors *factors;
	const struct vf_extra_factors *extra_factors;
	const uint8_t *codes, *extra;
};

/*
 * Append the file of @v.
 * @rotation_seed  of the index: its codes are of that
 * Returns 0; -ENOMEM.
 */
int vf_tree_encode(const struct vf_cluster_view *v, const uint8_t id[16],
		   uint64_t rotation_seed, struct vf_buf *out);

/* What a file says; views into its bytes. */
struct vf_tree_file {
	uint8_t id[16];
	struct vf_cluster_view view; /* no leaves: read up to the floats */
	struct vf_tree_codes codes;  /* no origin: of version 1 */
};

/*
 * Check every byte of @p (4-byte aligned).
 * Returns 0; -EBADMSG; -ENOTSUP newer; @out_reason constant.  Threads: any.
 */
int vf_tree_validate(const void *p, size_t len, struct vf_tree_file *out,
		     const char **out_reason);
/*
 * The same of the first @len bytes of @file_len, vf_tree_head_len suffice; the
 * floats are neither looked at nor set.
 * Returns as validate; -ENOENT it is of version 1, and has to be read whole.
 */
int vf_tree_validate_head(const void *p, size_t len, uint64_t file_len,
			  struct vf_tree_file *out, const char **out_reason);
/* Bytes from the beginning that a search needs. */
uint64_t vf_tree_head_len(uint32_t dim, uint64_t n_leaves);

struct vf_tree;	      /* ready to be searched; immutable */
struct vf_fine_query; /* index/refine.h */
struct vf_fine_leaf;

/*
 * Copies what it needs of @f; codes it has of this seed are taken as they are.
 * Returns 0; -EINVAL neither those nor floats; -ENOMEM.
 */
int vf_tree_new(const struct vf_tree_file *f, uint64_t rotation_seed,
		struct vf_tree **out);
/*
 * Let go of what only an encoder needs, three quarters of all: vf_tree_leaf
 * may no longer be called, as of a tree that was read without its floats.
 * Before others know @t.
 */
void vf_tree_trim(struct vf_tree *t);
void vf_tree_free(struct vf_tree *t); /* accepts NULL */

struct vf_tree_info {
	uint8_t id[16];
	uint32_t dim, n_leaves, n_nodes;
	enum vf_metric metric;
	uint64_t rotation_seed;
	size_t ram_len;
	float norm_max; /* that rows are completed to under dot, else 0 */
};
void vf_tree_info(const struct vf_tree *t, struct vf_tree_info *out);
/*
 * Views that last until free, or trim.  A tree that took its codes from a file
 * has no extra: NULL.
 */
void vf_tree_codes(const struct vf_tree *t, struct vf_tree_codes *out);

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
