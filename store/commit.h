/*
 * Reading the log of an index into a state, and adding to that log.  A state is
 * immutable: refresh gives a new one, so that a query can hold one commit for
 * its whole life.
 */
#ifndef VF_STORE_COMMIT_H
#define VF_STORE_COMMIT_H

#include "store/bucket.h"
#include "store/state.h"

/*
 * Read the log of index @name, from its newest checkpoint, up to its end.
 * Returns 0; -ENOENT no such index (not logged); -EBADMSG; -ENOTSUP;
 * -EACCES; -EREMOTEIO.  Threads: any.  Blocks.
 */
VF_API int vf_state_load(struct vf_bucket *b, const char *name,
			 struct vf_state **out);

/*
 * The same of an index that was listed just now (listed.h), in one round of
 * requests.
 */
struct vf_listed;
int vf_state_load_listed(struct vf_bucket *b, const char *name,
			 const struct vf_listed *l, struct vf_state **out);

/*
 * The same as of commit @at, 1 or more.
 * Returns also -ERANGE no such commit, or it was collected (logged).
 */
VF_API int vf_state_load_at(struct vf_bucket *b, const char *name, uint64_t at,
			    struct vf_state **out);

/*
 * Apply records after @s; where they were collected, load.  *out_state is a new
 * state, or NULL when there is nothing new.  Returns as load.
 */
VF_API int vf_state_refresh(struct vf_bucket *b, const struct vf_state *s,
			    struct vf_state **out_state);

/*
 * Create _vecfs/indexes/@name when absent, in a bucket that is proved to create
 * only then; gives the UUID that is there.
 */
VF_API int vf_index_create(struct vf_bucket *b, const char *name,
			   uint8_t out_uuid[16]);

/*
 * Append one record with @ops on top of @s and settle its outcome by reading
 * back when the answer is unclear (DESIGN.md, "Commit", step 3).
 *
 * Returns 0 and the state after it; -EEXIST somebody else took the number:
 * refresh, resolve again and call again; -EINPROGRESS the outcome cannot be
 * learned (logged with the nonce); -EACCES; -EREMOTEIO surely not written.
 * Every VF_CHECKPOINT_EVERY-th record, and one that folds a long tail, is
 * followed by its checkpoint.
 */
VF_API int vf_commit(struct vf_bucket *b, const struct vf_state *s,
		     const struct vf_op *ops, size_t n_ops,
		     struct vf_state **out_state);

/*
 * Record @number of index @name, which holds views into *out_bytes: fini the
 * record, then free() the bytes.
 * Returns 0; -ENOENT (not logged); -EBADMSG; -ENOTSUP; -EREMOTEIO.
 */
VF_API int vf_record_load(struct vf_bucket *b, const char *name,
			  uint64_t number, void **out_bytes,
			  struct vf_record *out);

/* "<index>/shard/<shard>/<object>": caller's to free(); NULL without memory. */
VF_API char *vf_shard_key(const char *index, const char *shard,
			  const char *object);

/* "<index>/tree/<object>": likewise. */
VF_API char *vf_tree_key(const char *index, const struct vf_tree_ref *ref);

/* A shard name for an upload that begins at @head. */
VF_API void vf_shard_name(uint64_t head, char out[VF_SHARD_NAME_LEN + 1]);

/* Call @fn with the name of each index of the bucket, in byte order. */
VF_API int vf_index_list(struct vf_bucket *b,
			 int (*fn)(void *arg, const char *name), void *arg);

#endif
