/*
 * Changing the rows of an index: what a commit kills is found through the
 * catalog, at the very state the commit follows; when somebody else's record
 * came first, everything is found again.
 */
#ifndef VF_STORE_CHANGE_H
#define VF_STORE_CHANGE_H

#include "store/catalog.h"

/* Caller's; fill in what is marked, zero the rest.  Threads: one at a time. */
struct vf_changer {
	struct vf_bucket *bucket;	  /* in, borrowed */
	const char *index;		  /* in, borrowed; its name */
	const char *cache_dir;		  /* in, borrowed; NULL: the default */
	vf_catalog_progress_fn *progress; /* in; may be NULL */
	void *arg;			  /* in */
	vf_line_crcs_fn *line_crcs;	  /* in; of vf_catalog_sync */
	struct vf_state *state;		  /* owned; set by load, moves on */
	struct vf_catalog *catalog;	  /* owned; opened when it is needed */
	bool fresh; /* the state is as load found it, and no change began */
};

/* The newest state.  Returns 0; -ENOENT no such index (not logged); -errno. */
VF_API int vf_changer_load(struct vf_changer *c);
VF_API void vf_changer_fini(struct vf_changer *c);

/*
 * Look-ups at the state, which may move on; free with vf_catalog_done.
 * Returns 0; those of vf_catalog_sync, logged.
 */
VF_API int vf_changer_look(struct vf_changer *c, struct vf_catalog_view **out);

/* Zero: none. */
struct vf_condition {
	bool if_absent;	 /* refuse when one of the keys is there */
	bool at_version; /* refuse unless the index is at @version */
	uint64_t version;
};

/* Kills of the rows that keys have. */
struct vf_kills {
	struct vf_op *ops; /* owned, one per place */
	size_t n_ops;
	uint64_t n_rows;
	struct vf_buf *stores; /* owned, [n_ops]: what ops point into */
};
VF_API void vf_kills_fini(struct vf_kills *k);

/*
 * Where @keys (which may come twice) are at the state, which may move on.
 * Returns 0; -EEXIST if_absent failed; -ESTALE at_version failed; those of
 * vf_catalog_sync; all logged.
 */
VF_API int vf_changer_resolve(struct vf_changer *c,
			      const struct vf_delete *keys,
			      const struct vf_condition *cond,
			      struct vf_kills *out);

/*
 * Commit @ops followed by @kills; the state moves on to the new commit, or,
 * with -EEXIST, to somebody else's: resolve again.  Otherwise as vf_commit.
 */
VF_API int vf_changer_commit(struct vf_changer *c, const struct vf_op *ops,
			     size_t n_ops, const struct vf_kills *kills);

struct vf_changed {
	uint64_t n_killed; /* rows that were there */
	uint64_t head;	   /* of the commit; 0: nothing was to be done */
};

/* Delete @keys, those that are there, in one commit.  As commit and resolve. */
VF_API int vf_changer_delete(struct vf_changer *c, const struct vf_delete *keys,
			     const struct vf_condition *cond,
			     struct vf_changed *out);

/* Put rows inline, replacing those of their keys.  Keys come once. */
VF_API int vf_changer_upsert(struct vf_changer *c, const struct vf_upsert *rows,
			     const struct vf_condition *cond,
			     struct vf_changed *out);

/* Append a key as struct vf_delete holds it.  Returns 0; -ENOMEM. */
VF_API int vf_keys_append(struct vf_buf *keys, const void *key, size_t len);

#endif
