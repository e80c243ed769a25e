/* What reading codes by leaf shares; lazy.c says what it is. */
#ifndef VF_INDEX_LAZY_IMPL_H
#define VF_INDEX_LAZY_IMPL_H

#include "index/codes_layout.h"
#include "index/index_impl.h"
#include "index/lazy.h"

#include <pthread.h>
#include <stdatomic.h>

struct vf_lazy {
	struct vf_codes_source src; /* [fixed] */
	struct vf_section_ref ref[VF_N_SECTIONS_MAX];
	uint32_t n_leaves;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	atomic_uchar *state; /* [2 * n_leaves + 1] */
	atomic_uint n_ready; /* of codes */
	atomic_size_t len;   /* bytes read and kept */
};

/* What is loaded together. */
enum vf_lazy_kind { VF_LAZY_CODES, VF_LAZY_EXTRA, VF_LAZY_HASHES };

/* Sections of a leaf that stay in the file. */
static inline bool vf_lazy_is_left(enum vf_section s)
{
	return s == VF_SEC_LINE_OFFS || s == VF_SEC_ROW_CRCS ||
	       s == VF_SEC_LINE_CRCS;
}

/* The parts of a kind, not of hashes, in the order of the file. */
static inline const enum vf_section *vf_lazy_parts(enum vf_lazy_kind k,
						   size_t *out_n)
{
	return vf_codes_parts(k == VF_LAZY_EXTRA, out_n);
}

static inline const struct vf_leaf_disk *vf_lazy_leaf(const struct vf_index *ix,
						      uint32_t i)
{
	return (const struct vf_leaf_disk *)ix->c.section[VF_SEC_LEAVES] + i;
}

/* Where the file has a leaf's part. */
struct vf_extent vf_lazy_extent(const struct vf_index *ix, uint32_t leaf,
				enum vf_section s);

/*
 * Read and check those of @mine, [n_leaves], which nobody else does.
 * Returns 0; -EBADMSG @out_reason; -ENOMEM; what readv returns.
 */
int vf_lazy_read(const struct vf_index *ix, enum vf_lazy_kind k,
		 const bool *mine, const char **out_reason);

#endif
