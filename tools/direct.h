/*
 * Many rows at once from a long-lived writer: they become shards directly, which
 * costs less than a record that is folded soon.
 */
#ifndef VF_TOOLS_DIRECT_H
#define VF_TOOLS_DIRECT_H

#include "store/change.h"

struct vf_tree_keeper;

/* The caller's, kept from put to put. */
struct vf_direct {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *target;	  /* for messages */
	const char *index;
	const char *scratch;	       /* folder; NULL: default */
	uint64_t ram;		       /* bytes; 0: default */
	struct vf_tree_keeper *keeper; /* NULL: none */
	uint32_t bits; /* of codes; 0: found at the first put, and kept */
};

/*
 * Upload @rows, whose keys come once, and commit them at the state of @ch, which
 * moves on.
 *
 * Returns 0; -EINPROGRESS; -ECANCELED after a signal; those of uploads and of
 * vf_changer_commit; logged.  But for -EINPROGRESS nothing of it is there
 * then.  Threads: one at a time.
 */
int vf_direct_put(struct vf_direct *d, struct vf_changer *ch,
		  const struct vf_upsert *rows, struct vf_changed *out);

#endif
