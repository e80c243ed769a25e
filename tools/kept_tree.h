/*
 * The tree of an index in memory, as rows follow it.  A long-lived writer reads
 * it once, however many shards it makes: of a million rows it has 17 MB.
 */
#ifndef VF_TOOLS_KEPT_TREE_H
#define VF_TOOLS_KEPT_TREE_H

#include <pthread.h>

#include "index/tree.h"
#include "store/commit.h"

/* Never changes; freed with its last reference. */
struct vf_kept_tree {
	unsigned refs; /* atomic */
	struct vf_tree_ref ref;
	struct vf_tree *tree;
	struct vf_cluster *cluster;
	uint32_t n_leaves;
};

/* Who keeps the one that was read last. */
struct vf_tree_keeper {
	pthread_mutex_t mtx;
	struct vf_kept_tree *newest; /* [mtx] or NULL */
};
void vf_tree_keeper_init(struct vf_tree_keeper *k);
void vf_tree_keeper_fini(struct vf_tree_keeper *k);

/*
 * From the bytes of its file, which @ref names; a reference.
 * Returns 0; -EBADMSG it is damaged, or of another index; -ENOMEM; logged.
 */
int vf_kept_tree_parse(const char *index, const struct vf_index_config *config,
		       const struct vf_tree_ref *ref, const void *p, size_t len,
		       struct vf_kept_tree **out);

/*
 * The tree of @s, from @k (may be NULL) or from the bucket; a reference.
 * Returns as parse; -ENOENT and others of the bucket, logged.  Threads: any.
 */
int vf_kept_tree_get(struct vf_tree_keeper *k, struct vf_bucket *b,
		     const char *index, const struct vf_index_config *config,
		     const struct vf_tree_ref *ref, struct vf_kept_tree **out);
void vf_kept_tree_put(struct vf_kept_tree *t); /* accepts NULL */

#endif
