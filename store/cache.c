/*
 * state       who may touch the block's bytes
 * EMPTY       nobody; on the free list
 * FETCHING    the source; readers queue as waiters
 * VALID       readers, each with a reference; evicted only without any
 *
 * One mutex guards table, lists and states; it is never held over a copy, a
 * fetch or a callback.
 */
#include "store/cache.h"
#include "store/util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum {
	BLOCK_DEFAULT = 64 << 10,
	BLOCKS_MIN = 16,
	RUN_MAX = 1 << 20, /* bytes of neighbouring misses in one fetch */
};

enum state { EMPTY, FETCHING, VALID };

/* One reader's wish for a part of one block. */
struct waiter {
	struct read *read;
	uint32_t off, len; /* in the block */
	uint8_t *dst;
	struct waiter *next;
};

struct block { /* all [mtx] but data */
	uint8_t id[16];
	uint64_t number;
	uint8_t *data; /* [fixed] block_len bytes of the arena */
	enum state state;
	uint32_t refs;		 /* readers that copy right now */
	struct block *hash_next; /* table chain, or free list */
	struct block *newer, *older;
	struct waiter *waiters;
};

struct vf_cache {
	pthread_mutex_t mtx;
	size_t block_len;	     /* [fixed] */
	size_t n_blocks;	     /* [fixed] */
	uint8_t *arena;		     /* [fixed] */
	struct block *blocks;	     /* [fixed] array */
	struct block **table;	     /* [mtx] */
	size_t mask;		     /* [fixed] table size - 1 */
	struct block *free;	     /* [mtx] */
	struct block lru;	     /* [mtx] ring: .older is the newest */
	size_t n_used;		     /* [mtx] */
	struct vf_cache_stats stats; /* [mtx] counters only */
};

struct vf_cached {
	struct vf_cache *cache;	  /* [fixed] borrowed */
	struct vf_source *source; /* [fixed] owned */
	uint8_t id[16];		  /* [fixed] */
	uint64_t size;		  /* [fixed] */
	atomic_uint refs;
};

/* A vf_cached_read under way; n_left counts its pieces and its own set-up. */
struct read {
	atomic_uint n_left;
	atomic_int err;
	vf_fetch_fn *done;
	void *arg;
};

/* A fetch of neighbouring blocks. */
struct fetch {
	struct vf_cached *object; /* a reference */
	uint64_t first;		  /* block number */
	size_t n, len;		  /* blocks, bytes */
	struct block **blocks;	  /* [n] */
	uint8_t *bounce;	  /* [len] when n > 1, else NULL */
};

/* ---- open and close -------------------------------------------------------------------- */

int vf_cache_open(size_t ram_len, size_t block_len, struct vf_cache **out)
{
	struct vf_cache *c = calloc(1, sizeof(*c));
	size_t table_len = 64;

	*out = NULL;
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->mtx, NULL);
	c->block_len = block_len ? block_len : BLOCK_DEFAULT;
	c->n_blocks = VF_MAX(ram_len / c->block_len, (size_t)BLOCKS_MIN);
	while (table_len < c->n_blocks)
		table_len *= 2;
	c->mask = table_len - 1;
	c->table = calloc(table_len, sizeof(*c->table));
	c->blocks = calloc(c->n_blocks, sizeof(*c->blocks));
	c->arena =
		mmap(NULL, c->n_blocks * c->block_len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	c->lru.newer = c->lru.older = &c->lru;
	if (c->arena == MAP_FAILED)
		c->arena = NULL;
	if (!c->table || !c->blocks || !c->arena) {
		vf_cache_close(c);
		return -ENOMEM;
	}
	for (size_t i = c->n_blocks; i-- > 0;) {
		c->blocks[i].data = c->arena + i * c->block_len;
		c->blocks[i].hash_next = c->free;
		c->free = &c->blocks[i];
	}
	*out = c;
	return 0;
}

void vf_cache_close(struct vf_cache *c)
{
	if (!c)
		return;
	if (c->arena)
		munmap(c->arena, c->n_blocks * c->block_len);
	free(c->blocks);
	free(c->table);
	pthread_mutex_destroy(&c->mtx);
	free(c);
}

int vf_cached_open(struct vf_cache *c, const uint8_t id[16], uint64_t size,
		   struct vf_source *source, struct vf_cached **out)
{
	struct vf_cached *o = calloc(1, sizeof(*o));

	*out = o;
	if (!o) {
		source->free(source);
		return -ENOMEM;
	}
	o->cache = c;
	o->source = source;
	o->size = size;
	memcpy(o->id, id, sizeof(o->id));
	atomic_init(&o->refs, 1);
	return 0;
}

void vf_cached_put(struct vf_cached *o)
{
	/* acq_rel: the last one sees what all others did to the source */
	if (!o ||
	    atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1)
		return;
	o->source->free(o->source);
	free(o);
}

void vf_cache_stats(struct vf_cache *c, struct vf_cache_stats *out)
{
	pthread_mutex_lock(&c->mtx);
	*out = c->stats;
	out->used_len = c->n_used * c->block_len;
	pthread_mutex_unlock(&c->mtx);
	out->ram_len = c->n_blocks * c->block_len;
	out->block_len = c->block_len;
}

/* ---- table and list: caller holds mtx ---------------------------------------------------- */

static struct block **chain_of(struct vf_cache *c, const uint8_t id[16],
			       uint64_t number)
{
	uint64_t h = (vf_le64(id) + number) * 0x9e3779b97f4a7c15;
	return &c->table[(h >> 20) & c->mask];
}

static struct block *find_block(struct vf_cache *c, const uint8_t id[16],
				uint64_t number)
{
	struct block *b = *chain_of(c, id, number);

	while (b && (b->number != number || memcmp(b->id, id, 16)))
		b = b->hash_next;
	return b;
}

static void unlink_lru(struct block *b)
{
	b->newer->older = b->older;
	b->older->newer = b->newer;
}

static void make_newest(struct vf_cache *c, struct block *b)
{
	b->older = c->lru.older;
	b->newer = &c->lru;
	b->older->newer = b;
	c->lru.older = b;
}

static void drop_block(struct vf_cache *c, struct block *b)
{
	struct block **at = chain_of(c, b->id, b->number);

	while (*at != b)
		at = &(*at)->hash_next;
	*at = b->hash_next;
	unlink_lru(b);
	b->state = EMPTY;
	b->hash_next = c->free;
	c->free = b;
	c->n_used--;
}

/* The least recent block that nobody uses; NULL when all are in use. */
static struct block *evictable(struct vf_cache *c)
{
	for (struct block *b = c->lru.newer; b != &c->lru; b = b->newer)
		if (b->state == VALID && !b->refs)
			return b;
	return NULL;
}

/* A block in state FETCHING for this place, or NULL when none is free. */
static struct block *claim_block(struct vf_cache *c, const uint8_t id[16],
				 uint64_t number)
{
	struct block *b, **chain;

	if (!c->free) {
		b = evictable(c);
		if (!b)
			return NULL;
		drop_block(c, b);
		c->stats.n_evict++;
	}
	b = c->free;
	c->free = b->hash_next;
	memcpy(b->id, id, 16);
	b->number = number;
	b->state = FETCHING;
	b->refs = 0;
	b->waiters = NULL;
	chain = chain_of(c, id, number);
	b->hash_next = *chain;
	*chain = b;
	make_newest(c, b);
	c->n_used++;
	return b;
}

/* ---- completion -------------------------------------------------------------------------- */

static void finish_piece(struct read *r, int err)
{
	if (err)
		atomic_store_explicit(&r->err, err, memory_order_relaxed);
	/* acq_rel: the one that calls done sees every copy and err */
	if (atomic_fetch_sub_explicit(&r->n_left, 1, memory_order_acq_rel) > 1)
		return;
	r->done(r->arg, atomic_load_explicit(&r->err, memory_order_relaxed));
	free(r);
}

/* Readers are told last: the cache may be closed as soon as all of them are. */
static void finish_block(struct vf_cache *c, struct block *b, int err)
{
	struct waiter *w;

	pthread_mutex_lock(&c->mtx);
	w = b->waiters;
	b->waiters = NULL;
	if (err) {
		drop_block(c, b);
	} else {
		b->state = VALID;
		b->refs++; /* keeps the bytes while waiters copy */
	}
	pthread_mutex_unlock(&c->mtx);
	if (!err) {
		for (struct waiter *at = w; at; at = at->next)
			memcpy(at->dst, b->data + at->off, at->len);
		pthread_mutex_lock(&c->mtx);
		b->refs--;
		pthread_mutex_unlock(&c->mtx);
	}
	while (w) {
		struct waiter *next = w->next;
		finish_piece(w->read, err);
		free(w);
		w = next;
	}
}

static void finish_fetch(void *arg, int err)
{
	struct fetch *f = arg;
	struct vf_cache *c = f->object->cache;

	for (size_t i = 0; i < f->n; i++) {
		size_t at = i * c->block_len;
		if (!err && f->bounce)
			memcpy(f->blocks[i]->data, f->bounce + at,
			       VF_MIN(c->block_len, f->len - at));
		finish_block(c, f->blocks[i], err);
	}
	vf_cached_put(f->object);
	free(f->bounce);
	free(f->blocks);
	free(f);
}

/* ---- reading ----------------------------------------------------------------------------- */

static void start_fetch(struct vf_cached *o, struct block **blocks, size_t n)
{
	struct vf_cache *c = o->cache;
	struct fetch *f = calloc(1, sizeof(*f));
	uint64_t off = blocks[0]->number * c->block_len;
	size_t len = VF_MIN((uint64_t)n * c->block_len, o->size - off);

	if (f) {
		f->blocks = malloc(n * sizeof(*blocks));
		f->bounce = n > 1 ? malloc(len) : NULL;
	}
	if (!f || !f->blocks || (n > 1 && !f->bounce)) {
		for (size_t i = 0; i < n; i++)
			finish_block(c, blocks[i], -ENOMEM);
		if (f) {
			free(f->blocks);
			free(f->bounce);
		}
		free(f);
		return;
	}
	memcpy(f->blocks, blocks, n * sizeof(*blocks));
	f->object = o;
	f->first = blocks[0]->number;
	f->n = n;
	f->len = len;
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	o->source->start(o->source, off, len,
			 f->bounce ? f->bounce : blocks[0]->data, finish_fetch,
			 f);
}

struct bypass {
	struct vf_cached *object;
	struct read *read;
};

static void finish_bypass(void *arg, int err)
{
	struct bypass *b = arg;

	finish_piece(b->read, err);
	vf_cached_put(b->object);
	free(b);
}

/* Every block is in use: read past the cache rather than wait for one. */
static void read_past(struct vf_cached *o, uint64_t off, size_t len,
		      uint8_t *dst, struct read *r)
{
	struct bypass *b = malloc(sizeof(*b));

	if (!b) {
		finish_piece(r, -ENOMEM);
		return;
	}
	*b = (struct bypass){o, r};
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	o->source->start(o->source, off, len, dst, finish_bypass, b);
}

enum found { HIT, WAIT, CLAIMED, NONE_FREE };

static enum found look_up(struct vf_cached *o, uint64_t number,
			  struct waiter *w, struct block **out)
{
	struct vf_cache *c = o->cache;
	enum found found;
	struct block *b;

	pthread_mutex_lock(&c->mtx);
	b = find_block(c, o->id, number);
	if (b && b->state == VALID) {
		b->refs++;
		unlink_lru(b);
		make_newest(c, b);
		c->stats.n_hit++;
		found = HIT;
	} else {
		c->stats.n_miss++;
		found = b ? WAIT : CLAIMED;
		c->stats.n_wait += b != NULL;
		if (!b)
			b = claim_block(c, o->id, number);
		if (b) {
			w->next = b->waiters;
			b->waiters = w;
			c->stats.n_fetch += found == CLAIMED;
		} else {
			c->stats.n_bypass++;
			found = NONE_FREE;
		}
	}
	pthread_mutex_unlock(&c->mtx);
	*out = b;
	return found;
}

static void release(struct vf_cache *c, struct block *b)
{
	pthread_mutex_lock(&c->mtx);
	b->refs--;
	pthread_mutex_unlock(&c->mtx);
}

/* The part of one block that the read wants; true when it was claimed. */
static bool read_block(struct vf_cached *o, uint64_t off, size_t len,
		       uint8_t *dst, struct read *r, struct block **out)
{
	struct vf_cache *c = o->cache;
	struct waiter *w = malloc(sizeof(*w));
	uint32_t in = (uint32_t)(off % c->block_len);

	atomic_fetch_add_explicit(&r->n_left, 1, memory_order_relaxed);
	if (!w) {
		finish_piece(r, -ENOMEM);
		return false;
	}
	*w = (struct waiter){r, in, (uint32_t)len, dst, NULL};
	switch (look_up(o, off / c->block_len, w, out)) {
	case HIT:
		free(w);
		memcpy(dst, (*out)->data + in, len);
		release(c, *out);
		finish_piece(r, 0);
		return false;
	case WAIT:
		return false;
	case CLAIMED:
		return true;
	case NONE_FREE:
		free(w);
		read_past(o, off, len, dst, r);
		return false;
	}
	return false;
}

void vf_cached_read(struct vf_cached *o, uint64_t off, size_t len, void *buf,
		    vf_fetch_fn *done, void *arg)
{
	struct vf_cache *c = o->cache;
	size_t max_run = VF_MAX(RUN_MAX / c->block_len, (size_t)1), n_run = 0;
	struct block *run[RUN_MAX / 4096], *b;
	struct read *r = malloc(sizeof(*r));
	uint8_t *dst = buf;

	assert(off <= o->size && len <= o->size - off);
	max_run = VF_MIN(max_run, VF_N(run));
	if (!r) {
		done(arg, -ENOMEM);
		return;
	}
	*r = (struct read){.done = done, .arg = arg};
	atomic_init(&r->n_left, 1);
	while (len) {
		size_t n = VF_MIN((uint64_t)len,
				  c->block_len - off % c->block_len);
		bool claimed = read_block(o, off, n, dst, r, &b);
		if (n_run && (!claimed || n_run == max_run)) {
			start_fetch(o, run, n_run);
			n_run = 0;
		}
		if (claimed)
			run[n_run++] = b;
		off += n;
		dst += n;
		len -= n;
	}
	if (n_run)
		start_fetch(o, run, n_run);
	finish_piece(r, 0);
}
