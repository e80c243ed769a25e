/* What the files of an open index share; index.h has its contract. */
#ifndef VF_INDEX_INDEX_IMPL_H
#define VF_INDEX_INDEX_IMPL_H

#include "index/codes.h"
#include "index/index.h"
#include "index/rotate.h"
#include "index/tree.h"

struct vf_index {
	uint8_t *bytes; /* owned */
	size_t len;
	struct vf_codes c; /* views into bytes */
	struct vf_rotation *rotation;
	const struct vf_tree *tree; /* borrowed; NULL: flat */
	vf_index_copy_fn *copy;	    /* NULL: all sections are in bytes */
};

#endif
