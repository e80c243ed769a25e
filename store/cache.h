/*
 * The block cache: blocks of one size in an arena of a fixed size, filled by
 * one fetch per block however many readers wait, replaced by least recent use.
 *
 *   EMPTY -> FETCHING -> VALID -> EMPTY
 *
 * An object is whatever its source can fetch: a stored object, or the
 * decompressed view of one.  Blocks are kept by the object's 128-bit identity,
 * so that an object closed and opened again finds its blocks.
 */
#ifndef VF_STORE_CACHE_H
#define VF_STORE_CACHE_H

#include "store/vecfs.h"

struct vf_cache;  /* the arena and its blocks */
struct vf_cached; /* an object open in the cache */

typedef void vf_fetch_fn(void *arg, int err);

/*
 * Where blocks come from.  start fills @len bytes of @buf, which lie inside
 * the object, and calls @done exactly once, before it returns or from any
 * thread: 0 or a negative errno.  It must not wait for the network.
 */
struct vf_source {
	void (*start)(struct vf_source *s, uint64_t off, size_t len, void *buf,
		      vf_fetch_fn *done, void *arg);
	void (*free)(struct vf_source *s);
};

/*
 * @ram_len    bytes of the arena, rounded to whole blocks, at least 16
 * @block_len  0: 64 KiB
 * Returns 0; -ENOMEM.
 */
VF_API int vf_cache_open(size_t ram_len, size_t block_len,
			 struct vf_cache **out);
/* No read may be under way.  Accepts NULL. */
VF_API void vf_cache_close(struct vf_cache *c);

/*
 * @id      the object's identity: equal for equal bytes, for ever
 * @source  taken over; freed with the last reference
 * Returns 0; -ENOMEM (the source is then freed too).  Threads: any.
 */
VF_API int vf_cached_open(struct vf_cache *c, const uint8_t id[16],
			  uint64_t size, struct vf_source *source,
			  struct vf_cached **out);
/* Fetches under way hold references of their own.  Accepts NULL. */
VF_API void vf_cached_put(struct vf_cached *o);

/*
 * Copy [off, off + len), which lies inside the object, into @buf, then call
 * @done once: before this returns when all is there, else from the thread that
 * completes the last fetch.  Failures are not kept.
 * Threads: any; none waits.
 */
VF_API void vf_cached_read(struct vf_cached *o, uint64_t off, size_t len,
			   void *buf, vf_fetch_fn *done, void *arg);

struct vf_cache_stats {
	uint64_t n_hit, n_miss;	    /* blocks asked for */
	uint64_t n_wait;	    /* of the misses: found a fetch under way */
	uint64_t n_fetch;	    /* sent to a source */
	uint64_t n_evict, n_bypass; /* bypass: no block was free */
	uint64_t ram_len, used_len, block_len; /* bytes */
};
VF_API void vf_cache_stats(struct vf_cache *c, struct vf_cache_stats *out);

#endif
