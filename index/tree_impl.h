/*
 * What tree.c (memory) and choose.c (which leaves) share.
 */
#ifndef VF_INDEX_TREE_IMPL_H
#define VF_INDEX_TREE_IMPL_H

#include <stdatomic.h>

#include "index/refine.h"
#include "index/tree.h"

struct vf_tree {
	struct vf_tree_info info;
	uint32_t padded;
	struct vf_rotation *rotation;
	float *origin;	 /* [padded]: mean of the leaves */
	float *leaves;	 /* [n_leaves][padded]; NULL: trimmed */
	float *leaf_sq;	 /* [n_leaves]: |c|^2 */
	float *half_inv; /* [n_leaves]: .5 / |c|, 0 of no length */
	float *extra_sq; /* [n_leaves]: of the completing coordinate */
	/*
	 * [atomic][n_leaves]: largest |x - c| of the rows of shards seen so
	 * far; has_radius once there was one.  Relaxed: an older value only
	 * ranks a leaf as it was ranked before.
	 */
	_Atomic(float) *radius;
	atomic_bool has_radius;
	uint8_t *codes; /* [n_leaves][padded / 8] */
	struct vf_factors *factors;
	struct vf_extra_factors *extra_factors;
	uint8_t *bytes; /* [n_leaves][padded]: codes of VF_BITS_MAX bits */
	/* As in the file, for who makes one; NULL: read from it, or trimmed. */
	uint8_t *extra; /* [n_leaves][(VF_BITS_MAX - 1) * padded / 8] */
};

#endif
