/*
 * The tree that a put follows: that of the index, or a new one that it trains.
 */
#ifndef VF_TOOLS_FOLLOW_H
#define VF_TOOLS_FOLLOW_H

#include "index/tree.h"
#include "tools/kept_tree.h"
#include "tools/source.h"

struct vf_follow_options {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *index;
	const struct vf_state *state; /* NULL: no such index */
	const struct vf_index_config *config;
	struct vf_source *source;
	uint64_t head;		       /* when the upload began */
	uint64_t ram;		       /* bytes, for the sample */
	uint32_t n_leaves;	       /* of a new tree; 0: by rows; 1: none */
	struct vf_tree_keeper *keeper; /* NULL: none */
	unsigned n_threads;
	bool quiet;
};

struct vf_follow {
	struct vf_kept_tree *kept;  /* NULL: none, a flat shard is best */
	const struct vf_tree *tree; /* of it, as the next two */
	const struct vf_cluster *cluster;
	uint32_t n_leaves;
	uint32_t *shares; /* [n_leaves]: rows of each in a sample */
	bool is_new;	  /* uploaded: to be set by the record, or removed */
	struct vf_tree_ref ref;
};

/*
 * Returns 0; -EINVAL, -EBADMSG and others, logged; fini is due in any case.
 */
int vf_follow_open(const struct vf_follow_options *opt, struct vf_follow *out);
void vf_follow_fini(struct vf_follow *f);

/* Delete the object of a tree that no record names. */
void vf_follow_remove(struct vf_bucket *b, const char *index,
		      const struct vf_follow *f);

#endif
