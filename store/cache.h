/*
 * The block cache: blocks of one size in an arena of a fixed size, in front of
 * an optional disk tier and the bucket; filled by one fetch per block however
 * many readers wait, replaced by a policy.
 *
 *   EMPTY -> FETCHING -> VALID -> EMPTY
 *
 * An object is whatever its source can fetch: a stored object, or the
 * decompressed view of one.  Blocks are kept by the object's 128-bit identity,
 * so that an object closed and opened again finds its blocks.
 */
#ifndef VF_STORE_CACHE_H
#define VF_STORE_CACHE_H

#include <sys/uio.h>

#include "store/vecfs.h"

struct vf_cache;  /* the arena and its blocks */
struct vf_cached; /* an object open in the cache */
struct vf_disk;	  /* tier_disk.h */

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

/* Zero means default. */
struct vf_cache_options {
	size_t ram_len;	      /* bytes, at most; at least 16 blocks */
	size_t block_len;     /* 64 KiB; a power of two, 4 KiB to 1 MiB */
	const char *policy;   /* policy.h */
	uint32_t ttl_s;	      /* 0: blocks do not age */
	size_t fetch_len;     /* largest fetch of neighbouring misses: 4 MiB */
	size_t ahead_len;     /* largest read-ahead: 64 MiB, ram_len / 4;
				less than a block: none */
	unsigned max_ahead;   /* read-ahead fetches under way at once: 48 */
	struct vf_disk *disk; /* borrowed; NULL: none */
	unsigned hedge;	      /* hedge.h: percentile, 1 to 99; 0: none */
	void *reserved[4];
};

/* Returns 0; -EINVAL no such policy, a bad size or percentile; -ENOMEM. */
VF_API int vf_cache_open(const struct vf_cache_options *opt,
			 struct vf_cache **out);
/* Begin no more read-ahead and forget what is queued; wait for the disk tier:
 * before the sources' bucket closes.  Not from a callback. */
VF_API void vf_cache_stop(struct vf_cache *c);
/* No read may be under way.  Accepts NULL. */
VF_API void vf_cache_close(struct vf_cache *c);

/*
 * How many bytes of blocks may be in RAM from now on: between 16 blocks and the
 * options' ram_len; what is more leaves, the policy's choice first, and its
 * memory goes back to the system.  Blocks that are being read or fetched just
 * then follow when that is over; none is added before.  Threads: any.
 */
VF_API void vf_cache_set_ram(struct vf_cache *c, size_t len);

enum {
	VF_CACHED_RAM_ONLY = 1, /* can be made again from what is cached */
	VF_CACHED_NO_AHEAD = 2, /* the reader sees to that himself */
};

/*
 * @id      the object's identity: equal for equal bytes, for ever
 * @label   what the disk tier calls it; copied
 * @source  taken over; freed with the last reference
 * Returns 0; -ENOMEM (the source is then freed too).  Threads: any.
 */
VF_API int vf_cached_open(struct vf_cache *c, const uint8_t id[16],
			  uint64_t size, const char *label, unsigned flags,
			  struct vf_source *source, struct vf_cached **out);
/* Fetches under way hold references of their own.  Accepts NULL. */
VF_API void vf_cached_put(struct vf_cached *o);

/*
 * Copy [off, off + len), which lies inside the object, into @buf, then call
 * @done once: before this returns when all is there, else from the thread that
 * completes the last fetch.  Failures are not kept.  No allocation when all is
 * in RAM.
 * Threads: any; none waits.
 */
VF_API void vf_cached_read(struct vf_cached *o, uint64_t off, size_t len,
			   void *buf, vf_fetch_fn *done, void *arg);

/*
 * The same without a copy, when all is in RAM: pieces of blocks, held until
 * release.  False: not all is there, or too long; nothing is held.
 */
enum { VF_HOLD_MAX = 32 }; /* blocks */
struct vf_hold {
	struct iovec iov[VF_HOLD_MAX];
	void *blocks[VF_HOLD_MAX];
	int n;
};
VF_API bool vf_cached_hold(struct vf_cached *o, uint64_t off, size_t len,
			   struct vf_hold *out);
VF_API void vf_cached_release(struct vf_hold *h);

/*
 * Begin to fetch what of the range is in no tier's RAM, as if a reader waited:
 * at once, before all read-ahead.  At most @max_fetches; returns how many.
 */
VF_API unsigned vf_cached_want(struct vf_cached *o, uint64_t off, uint64_t len,
			       unsigned max_fetches);
/*
 * Queue what of the range is not in RAM as read-ahead: after all that somebody
 * waits for.  Returns how many blocks.
 */
VF_API uint64_t vf_cached_warm(struct vf_cached *o, uint64_t off, uint64_t len);
/* Count uses that did not come through vf_cached_read. */
VF_API void vf_cached_touch(struct vf_cached *o, uint64_t off, uint64_t len);
/* Is all of it in the disk tier?  Only a hint: it may leave. */
VF_API bool vf_cached_is_whole(struct vf_cached *o);
/*
 * Hand out its file in the disk tier: vf_disk_file_hold.  Uses of it are not
 * seen here.  Also -ENOENT: it has none.  May block on the local disk.
 */
VF_API int vf_cached_file_hold(struct vf_cached *o, int *out_fd);
VF_API void vf_cached_file_unhold(struct vf_cached *o);
/* Drop what is in RAM, not being read and not pinned. */
VF_API void vf_cached_drop(struct vf_cached *o, uint64_t off, uint64_t len);

struct vf_cached_info {
	uint64_t n_blocks, n_ram, n_disk, n_pinned;
};
/* How much of the range is where; blocks, those of the ends counted whole. */
VF_API void vf_cached_info(struct vf_cached *o, uint64_t off, uint64_t len,
			   struct vf_cached_info *out);

enum { VF_LATENCY_BUCKETS = 24 }; /* bucket i: below 2^i microseconds */

struct vf_cache_stats {
	uint64_t n_hit, n_miss;	    /* blocks asked for */
	uint64_t n_wait;	    /* of the misses: found a fetch under way */
	uint64_t n_disk_hit;	    /* of the misses: came from the disk tier */
	uint64_t n_fill;	    /* of the misses: began to be filled */
	uint64_t n_fetch;	    /* sent to a source: neighbours are one */
	uint64_t n_ahead;	    /* of these: read-ahead */
	uint64_t n_hedge;	    /* besides: sent a second time, late */
	uint64_t n_hedge_won;	    /* of these: answered first */
	uint64_t n_evict, n_bypass; /* bypass: no block was free */
	uint64_t n_page; /* of the misses: read by the page, past RAM */
	uint64_t bytes_asked, bytes_fetched;   /* by readers; from sources */
	uint64_t n_flying;		       /* fetches under way */
	uint64_t n_queued;		       /* read-ahead waiting */
	uint64_t ram_len, used_len, block_len; /* bytes */
	uint64_t latency[VF_LATENCY_BUCKETS];  /* fetches from sources */
	const char *policy;
};
VF_API void vf_cache_stats(struct vf_cache *c, struct vf_cache_stats *out);

/* What is in RAM now, but for what only a scan asked for; at most @max, returns
 * how many. */
struct vf_cache_place {
	uint8_t id[16];	 /* of the object */
	uint64_t number; /* of the block */
};
VF_API size_t vf_cache_list(struct vf_cache *c, struct vf_cache_place *out,
			    size_t max);

#endif
