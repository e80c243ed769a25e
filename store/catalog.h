/*
 * Where the row of each key is: an LMDB environment on local disk, per user and
 * index, shared by the processes of a machine.  A cache of the bucket and never
 * the truth: values carry checksums, and what is lost, damaged or unlike the
 * log is built again.
 *
 *   DIR/catalog-<uuid>/   0700, ours
 *       data.mdb lock.mdb LMDB's
 *       sync              flock: one process at a time changes it
 */
#ifndef VF_STORE_CATALOG_H
#define VF_STORE_CATALOG_H

#include "store/commit.h"
#include "store/filter.h"

struct vf_catalog;	/* an open environment; Threads: one at a time */
struct vf_catalog_view; /* looks at one commit; short-lived */

/*
 * @dir  folder of caches, made when absent; NULL: $XDG_CACHE_HOME/vecfs, else
 *       ~/.cache/vecfs
 * Returns 0; -EACCES a folder that is not ours alone; -errno; logged.
 * At most one of an index open in a process.
 */
VF_API int vf_catalog_open(const char *dir, const uint8_t uuid[16],
			   struct vf_catalog **out);
VF_API void vf_catalog_close(struct vf_catalog *c); /* accepts NULL */

/* @done of @total rows were read; both may be 0.  Not 0: sync returns that. */
typedef int vf_catalog_progress_fn(void *arg, uint64_t done, uint64_t total);

/*
 * CRC32C of each record line of a shard, [n_rows], the caller's to free():
 * codes.vix has them, which is read in higher layers.
 * Returns 0; -errno, logged.
 */
typedef int vf_line_crcs_fn(struct vf_bucket *b, const char *index,
			    const struct vf_shard_ref *r, uint32_t **out);

struct vf_catalog_sync {
	struct vf_bucket *bucket;	  /* borrowed */
	const struct vf_state *state;	  /* borrowed */
	vf_catalog_progress_fn *progress; /* may be NULL */
	void *arg;
	vf_line_crcs_fn *line_crcs; /* NULL: plain records are refused */
	bool newest; /* the log ends at @state: what knows more is wrong */
};

/*
 * Make the catalog say what @state says: reads the records of shards it does
 * not know, forgets what died.  Waits for another process that does the same.
 *
 * Returns 0; -EAGAIN it is ahead already: refresh the state; -EBADMSG and
 * -EREMOTEIO the bucket's; -EINVAL plain records and no line_crcs; -ENOSPC;
 * -EIO; logged.  What progress returned: the catalog is as before, or between
 * two commits and gone on with next time.
 */
VF_API int vf_catalog_sync(struct vf_catalog *c,
			   const struct vf_catalog_sync *s);

/* Forget everything: the next sync begins from nothing.  0; -EIO, logged. */
VF_API int vf_catalog_reset(struct vf_catalog *c);

/*
 * Look at the commit @s, which outlives the view.
 * Returns 0; -EAGAIN the catalog is at another commit: sync; -EUCLEAN damaged:
 * reset and sync; -ENOMEM; -EIO.
 */
VF_API int vf_catalog_look(struct vf_catalog *c, const struct vf_state *s,
			   struct vf_catalog_view **out);
VF_API void vf_catalog_done(struct vf_catalog_view *v); /* accepts NULL */

/* A row of the state: shards[at], or tail[at]. */
struct vf_place {
	bool tail;
	uint32_t row;
	size_t at;
};

/*
 * Where the living row of @key is.
 * Returns 0; -ENOENT no such key; -EUCLEAN damaged; -EIO.  Not logged.
 */
VF_API int vf_catalog_find(struct vf_catalog_view *v, const void *key,
			   size_t len, struct vf_place *out);
/* Append the metadata object of a row that find gave; returns as find. */
VF_API int vf_catalog_metadata(struct vf_catalog_view *v,
			       const struct vf_place *p, struct vf_buf *out);

/*
 * The rows of shard @at of @s that match, dead ones among them: bit i%64 of
 * bits[i/64], caller's, a bit for each row.  Needs the shard, not the commit.
 * Returns 0; -ENOENT the shard is not here, or was read when rows were dead
 * that live in @s; -EUCLEAN damaged: reset and sync; -ENOMEM; -EIO.
 */
VF_API int vf_catalog_select(struct vf_catalog *c, const struct vf_state *s,
			     size_t at, const struct vf_filter *f,
			     uint64_t *bits);

#endif
