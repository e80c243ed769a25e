/* What the files of an open index share; index.h has its contract. */
#ifndef VF_INDEX_INDEX_IMPL_H
#define VF_INDEX_INDEX_IMPL_H

#include "index/codes.h"
#include "index/index.h"
#include "index/quantize.h"
#include "index/rotate.h"
#include "index/tree.h"

struct vf_index {
	uint8_t *bytes; /* owned */
	size_t len;
	struct vf_codes c; /* views into bytes */
	struct vf_rotation *rotation;
	const struct vf_tree *tree; /* borrowed; NULL: flat */
	/* Of sections that are mapped; NULL: all are in bytes. */
	int (*copy)(void *dst, const void *src, size_t len);
	void (*want)(const void *p, size_t len);
	struct vf_lazy *lazy; /* NULL: all bytes are there */
};

/* The shard's leaf that is @id of the tree; n_leaves when it has none. */
uint32_t vf_index_tree_leaf(const struct vf_index *ix, uint32_t id);
/* The leaf of @row, the last that begins there or before. */
uint32_t vf_index_row_leaf(const struct vf_index *ix, uint64_t row);

/*
 * Rows [@row, @row + @n) of a large section, of @each bytes: where they are in
 * memory, or copied to @room.  NULL: a mapped shard cannot be read.
 */
const void *vf_index_rows(const struct vf_index *ix, enum vf_section section,
			  uint64_t row, size_t n, size_t each, void *room);
/* That rows of a mapped shard will be asked for. */
void vf_index_want(const struct vf_index *ix, enum vf_section section,
		   uint64_t row, size_t n, size_t each);

/* Codes side by side, at most 64. */
struct vf_code_block {
	const uint8_t *codes;
	const struct vf_factors *factors;
	const uint64_t *ids; /* [n]; NULL: first, first + 1 ... */
	uint64_t first;
	size_t n;
};

/* Push those whose estimates are near enough to @top. */
void vf_index_push_near(const struct vf_index *ix,
			const struct vf_code_block *b,
			const struct vf_query_code *qc, struct vf_topk *top);

/*
 * Estimate rows [@row, @end) of one leaf that @top does not skip (sparse.c).
 * Returns 0; -EREMOTEIO a mapped shard cannot be read.
 */
int vf_index_scan_wanted(const struct vf_index *ix, uint64_t row, uint64_t end,
			 const struct vf_query_code *qc, uint64_t base,
			 struct vf_topk *top);

/* Extra bits of @leaf can be used. */
bool vf_lazy_has_extra(const struct vf_index *ix, uint32_t leaf);
/*
 * @len bytes from @row on, of its leaf, of a section that stays in the file; as
 * the source's peek.
 */
int vf_lazy_peek(const struct vf_index *ix, enum vf_section section,
		 uint64_t row, size_t len, void *out);
/* Bytes read so far. */
size_t vf_lazy_len(const struct vf_lazy *z);
/* With the bytes of @ix, which is being closed. */
void vf_lazy_free(struct vf_index *ix);

#endif
