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
	struct vf_lazy *lazy;	    /* NULL: all bytes are there */
};

/* The shard's leaf that is @id of the tree; n_leaves when it has none. */
uint32_t vf_index_tree_leaf(const struct vf_index *ix, uint32_t id);
/* The leaf of @row. */
uint32_t vf_index_row_leaf(const struct vf_index *ix, uint64_t row);

/* Extra bits of @leaf can be used. */
bool vf_lazy_has_extra(const struct vf_index *ix, uint32_t leaf);
/* A few bytes of a section that stays in the file; as the source's peek. */
int vf_lazy_peek(const struct vf_lazy *z, enum vf_section section, uint64_t off,
		 size_t len, void *out);
/* Bytes read so far. */
size_t vf_lazy_len(const struct vf_lazy *z);
/* With the bytes of @ix, which is being closed. */
void vf_lazy_free(struct vf_index *ix);

#endif
