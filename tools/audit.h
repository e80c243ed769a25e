/*
 * Does a bucket hold of an index what its log says?  Each thing that is wrong
 * is one finding, named by its object.
 */
#ifndef VF_TOOLS_AUDIT_H
#define VF_TOOLS_AUDIT_H

#include "store/commit.h"

struct vf_audit {
	struct vf_bucket *bucket; /* in, borrowed, as all below */
	const char *index;
	const char *cache_dir; /* of the catalog; NULL: default */
	bool deep;	       /* read vectors, records and the catalog too */
	bool quiet;
	/* A finding, whole; called in order. */
	void (*found)(void *arg, const char *what);
	void *arg;
	/* Out. */
	struct vf_state
		*state; /* the newest that can be read, or NULL: owned */
	uint64_t n_found;
	uint64_t n_objects, n_bytes; /* named by the newest version */
	uint64_t n_records, n_checkpoints;
	uint64_t n_other, other_bytes; /* of older versions, or of no one */
	uint64_t n_rows;	       /* deep: living rows read */
	uint64_t sum; /* deep: of keys, metadata and vectors; whatever place
			 and order they have, the same */
	bool catalog_wrong;
	/* Findings that can be mended: shards, of @state, of which only the
	 * codes are damaged; the tree. */
	const char **lost_codes; /* [n_lost_codes], owned */
	size_t n_lost_codes;
	bool lost_tree;
};

/*
 * Returns 0 whatever was found; -ENOENT no such index (logged); -ECANCELED;
 * -EACCES, -EREMOTEIO and others that keep us from looking.
 */
int vf_audit_run(struct vf_audit *a);
void vf_audit_fini(struct vf_audit *a);

#endif
