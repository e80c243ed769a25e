/*
 * What the parts of the cache share: cache.c has the blocks and their readers,
 * cache_fetch.c fills them, cache_arena.c has their memory.
 *
 * state       who may touch the block's bytes
 * EMPTY       nobody; on the free list
 * FETCHING    the fetch; readers queue as waiters
 * VALID       readers, each with a reference; replaced only without any
 *
 * One mutex guards table, lists and states; it is never held over a copy, a
 * fetch or a callback.
 */
#ifndef VF_STORE_CACHE_IMPL_H
#define VF_STORE_CACHE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/cache.h"
#include "store/hedge.h"
#include "store/policy.h"
#include "store/readahead.h"
#include "store/tier_disk.h"
#include "store/util.h"

enum state { EMPTY, FETCHING, VALID };

enum { VF_CACHE_SEEN = 8192 };

/* A vf_cached_read under way; n_left counts its pieces and its own set-up. */
struct read {
	atomic_uint n_left;
	atomic_int err;
	vf_fetch_fn *done;
	void *arg;
};

/* One reader's wish for a part of one block. */
struct waiter {
	struct read *read;
	uint32_t off, len; /* in the block */
	uint8_t *dst;
	struct waiter *next;
};

struct fetch;

struct block {			      /* all [mtx] but where marked */
	struct vf_policy_entry entry; /* first: the policy hands it out */
	uint8_t id[16];
	uint64_t number;
	uint8_t *data; /* [fixed] block_len bytes of the arena */
	enum state state;
	bool resident;		 /* its bytes take memory */
	atomic_uint refs;	 /* readers that copy; raised under mtx only */
	struct block *hash_next; /* table chain, or free list */
	struct waiter *waiters;
	struct fetch *queued; /* the read-ahead that waits for its turn */
};

struct vf_cache {
	struct vf_cache_options opt; /* [fixed], defaults filled in */
	pthread_mutex_t mtx;
	size_t block_len, n_blocks;	  /* [fixed] */
	uint8_t *arena;			  /* [fixed] */
	atomic_size_t n_touched;	  /* bytes of it, from its start */
	atomic_uint n_touching;		  /* threads that will, or do */
	struct block *blocks;		  /* [fixed] array */
	struct block **table;		  /* [mtx] */
	size_t mask;			  /* [fixed] table size - 1 */
	struct block *free, **free_end;	  /* [mtx] the resident ones first */
	atomic_size_t n_limit;		  /* blocks; written under mtx */
	size_t n_resident;		  /* [mtx] blocks */
	struct vf_policy *policy;	  /* [mtx] */
	size_t n_used;			  /* [mtx] */
	size_t n_fetching;		  /* [mtx] of these: FETCHING */
	size_t bounce_len;		  /* [mtx] bytes of all bounces */
	struct fetch *ahead, **ahead_end; /* [mtx] queued read-ahead */
	unsigned n_ahead;		  /* [mtx] read-ahead under way */
	size_t n_queued;		  /* [mtx] fetches in that queue */
	bool stopped;			  /* [mtx] no more read-ahead */
	unsigned n_disk;		  /* [mtx] disk reads under way */
	uint32_t seen[VF_CACHE_SEEN];	  /* [mtx] blocks read by the page */
	pthread_cond_t disk_idle;	  /* n_disk is 0 */
	struct vf_hedge *hedge;		  /* [fixed] or NULL */
	struct vf_cache_stats stats;	  /* [mtx] counters only */
	atomic_uint_fast64_t n_flying, bytes_asked, bytes_fetched, n_disk_hit;
	atomic_uint_fast64_t latency[VF_LATENCY_BUCKETS];
};

struct vf_cached {
	struct vf_cache *cache;	   /* [fixed] borrowed */
	struct vf_source *source;  /* [fixed] owned */
	struct vf_disk_file *disk; /* [fixed] reference, or NULL */
	uint8_t id[16];		   /* [fixed] */
	uint64_t size;		   /* [fixed] */
	unsigned flags;		   /* [fixed] VF_CACHED_... */
	atomic_uint refs;
	pthread_mutex_t ahead_mtx;
	struct vf_readahead ahead; /* [ahead_mtx] */
};

/* ---- cache.c ---------------------------------------------------------------------- */

/* One piece of a read is there (or failed); the last one calls done. */
void vf_cache_piece_done(struct read *r, int err);
/*
 * A block's bytes are there (or not): copy them to its waiters and put these
 * at the front of @told, to be told when nothing of the cache is touched any
 * more: the last one told may close it.  @flags for the policy.
 */
void vf_cache_block_done(struct vf_cache *c, struct block *b, int err,
			 unsigned flags, struct waiter **told);
void vf_cache_tell(struct waiter *told, int err);
struct block *vf_cache_find(struct vf_cache *c, const uint8_t id[16],
			    uint64_t number); /* caller holds mtx */
/* A block in state FETCHING for this place, or NULL: caller holds mtx. */
struct block *vf_cache_claim(struct vf_cache *c, const uint8_t id[16],
			     uint64_t number);

/* The policy's choice goes to the free list; false: none can.  Holds mtx. */
bool vf_cache_evict(struct vf_cache *c);

/* Back to the free list; the policy has let go of it.  mtx. */
void vf_cache_drop_block(struct vf_cache *c, struct block *b);
/* Only VALID blocks are in the policy's hands.  acquire: pairs with the release
 * of a reader's reference, so that his copy is over.  mtx. */
bool vf_cache_may_leave(void *arg, const struct vf_policy_entry *e);

/* ---- cache_arena.c: caller holds mtx where not said otherwise ---------------------- */

enum { VF_CACHE_BLOCKS_MIN = 16 };

/* Returns 0; -ENOMEM.  No other thread is there yet. */
int vf_cache_arena_open(struct vf_cache *c);
void vf_cache_arena_close(struct vf_cache *c);
/* From the free list, which is not empty, and back to it. */
struct block *vf_cache_arena_take(struct vf_cache *c);
void vf_cache_arena_put(struct vf_cache *c, struct block *b);
/* A fetch into @data is under way; the caller has counted in n_touching before
 * it began, and that ends here.  Without mtx. */
void vf_cache_arena_touch(struct vf_cache *c, const uint8_t *data);
/* Waits for those who do; nobody does any more.  Without mtx. */
void vf_cache_arena_stop_touching(struct vf_cache *c);
/* Largest read-ahead at the present size.  No lock needed. */
size_t vf_cache_ahead_max(struct vf_cache *c);

/* ---- cache_fetch.c ----------------------------------------------------------------- */

/* Fill claimed neighbouring blocks now. */
void vf_cache_fetch(struct vf_cached *o, struct block **blocks, size_t n);
/* A reader waits for a block of a queued read-ahead: it goes first. */
void vf_cache_hurry(struct vf_cache *c, struct block *b); /* holds mtx */
/* Start queued read-ahead as far as the limit allows. */
void vf_cache_pump(struct vf_cache *c);
/* Claim what is missing of the range and queue it. */
void vf_cache_ahead(struct vf_cached *o, uint64_t off, uint64_t len,
		    unsigned flags);
bool vf_cache_is_stopped(struct vf_cache *c);
/* Last of a disk read, counted in n_disk: vf_cache_stop waits for it. */
void vf_cache_leave_disk(struct vf_cache *c);

/* ---- cache_bypass.c ---------------------------------------------------------------- */

/* Straight into @dst, past the cache. */
void vf_cache_bypass(struct vf_cached *o, uint64_t off, size_t len,
		     uint8_t *dst, struct read *r);

/* ---- cache_page.c --------------------------------------------------------------- */

/*
 * A few bytes of a block that only the disk has, and that nobody wanted of
 * late: its pages alone are read, past the RAM tier.  False: not so; then the
 * caller goes on.  One piece of @r.
 */
bool vf_cache_read_page(struct vf_cached *o, uint64_t off, size_t len,
			uint8_t *dst, struct read *r);
/* cache.c: the part of one block, by way of the RAM tier; a piece of @r. */
void vf_cache_read_block(struct vf_cached *o, uint64_t off, size_t len,
			 uint8_t *dst, struct read *r);

#endif
