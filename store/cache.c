/*
 * Blocks, their table and their readers.  How they are filled is in
 * cache_fetch.c; states and locking in cache_impl.h.
 */
#include "store/cache_impl.h"

enum {
	BLOCK_DEFAULT = 64 << 10,
	BLOCK_MIN = 4 << 10,
	BLOCK_MAX = 1 << 20,
	FETCH_DEFAULT = 4 << 20,
	AHEAD_DEFAULT = 64 << 20,
	AHEAD_FETCHES_DEFAULT = 48,
	RUN_MAX = 256, /* blocks of one fetch on demand */
};

/* ---- open and close -------------------------------------------------------------------- */

static int fill_defaults(struct vf_cache_options *o)
{
	if (!o->block_len)
		o->block_len = BLOCK_DEFAULT;
	if (o->block_len < BLOCK_MIN || o->block_len > BLOCK_MAX ||
	    o->block_len & (o->block_len - 1))
		return -EINVAL;
	o->ram_len = VF_MAX(o->ram_len, VF_CACHE_BLOCKS_MIN * o->block_len);
	if (!o->fetch_len)
		o->fetch_len = FETCH_DEFAULT;
	o->fetch_len = VF_MIN(VF_MAX(o->fetch_len, o->block_len),
			      RUN_MAX * o->block_len);
	if (!o->ahead_len)
		o->ahead_len = AHEAD_DEFAULT;
	o->ahead_len = VF_MIN(o->ahead_len, o->ram_len / 4);
	if (o->ahead_len < o->block_len)
		o->ahead_len = 0;
	if (!o->max_ahead)
		o->max_ahead = AHEAD_FETCHES_DEFAULT;
	return 0;
}

int vf_cache_open(const struct vf_cache_options *opt, struct vf_cache **out)
{
	struct vf_cache *c = calloc(1, sizeof(*c));
	int err;

	*out = NULL;
	if (!c)
		return -ENOMEM;
	c->opt = *opt;
	pthread_mutex_init(&c->mtx, NULL);
	pthread_cond_init(&c->disk_idle, NULL);
	c->ahead_end = &c->ahead;
	err = fill_defaults(&c->opt);
	c->block_len = c->opt.block_len;
	c->n_blocks = c->block_len ? c->opt.ram_len / c->block_len : 0;
	if (!err)
		err = vf_policy_open(opt->policy, c->n_blocks, opt->ttl_s,
				     &c->policy);
	if (!err)
		err = vf_cache_arena_open(c);
	if (!err && c->opt.hedge)
		err = vf_hedge_open(c->opt.hedge, &c->hedge);
	if (err) {
		vf_cache_close(c);
		return err;
	}
	*out = c;
	return 0;
}

void vf_cache_close(struct vf_cache *c)
{
	if (!c)
		return;
	vf_cache_stop(c);
	vf_cache_arena_stop_touching(c);
	vf_hedge_close(c->hedge);
	vf_cache_arena_close(c);
	vf_policy_close(c->policy);
	pthread_cond_destroy(&c->disk_idle);
	pthread_mutex_destroy(&c->mtx);
	free(c);
}

int vf_cached_open(struct vf_cache *c, const uint8_t id[16], uint64_t size,
		   const char *label, unsigned flags, struct vf_source *source,
		   struct vf_cached **out)
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
	o->flags = flags;
	memcpy(o->id, id, sizeof(o->id));
	atomic_init(&o->refs, 1);
	pthread_mutex_init(&o->ahead_mtx, NULL);
	/* Without its disk file an object is only cached in RAM. */
	if (c->opt.disk && !(flags & VF_CACHED_RAM_ONLY) &&
	    vf_disk_file_get(c->opt.disk, id, size, label, &o->disk))
		o->disk = NULL;
	return 0;
}

void vf_cached_put(struct vf_cached *o)
{
	/* acq_rel: the last one sees what all others did to the source */
	if (!o ||
	    atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) > 1)
		return;
	o->source->free(o->source);
	if (o->disk)
		vf_disk_file_put(o->disk);
	pthread_mutex_destroy(&o->ahead_mtx);
	free(o);
}

void vf_cache_stats(struct vf_cache *c, struct vf_cache_stats *out)
{
	pthread_mutex_lock(&c->mtx);
	*out = c->stats;
	out->used_len = c->n_used * c->block_len;
	out->n_queued = c->n_queued;
	pthread_mutex_unlock(&c->mtx);
	out->n_disk_hit = atomic_load(&c->n_disk_hit);
	out->bytes_asked = atomic_load(&c->bytes_asked);
	out->bytes_fetched = atomic_load(&c->bytes_fetched);
	out->n_flying = atomic_load(&c->n_flying);
	for (size_t i = 0; i < VF_LATENCY_BUCKETS; i++)
		out->latency[i] = atomic_load(&c->latency[i]);
	out->ram_len = atomic_load(&c->n_limit) * c->block_len;
	out->block_len = c->block_len;
	out->policy = vf_policy_name(c->policy);
	if (c->hedge)
		vf_hedge_stats(c->hedge, &out->n_hedge, &out->n_hedge_won);
}

/* ---- the table: caller holds mtx ---------------------------------------------------- */

static uint64_t hash_place(const uint8_t id[16], uint64_t number)
{
	uint64_t h = (vf_le64(id) ^ number) * 0x9e3779b97f4a7c15;

	return h ^ h >> 32;
}

struct block *vf_cache_find(struct vf_cache *c, const uint8_t id[16],
			    uint64_t number)
{
	struct block *b = c->table[hash_place(id, number) & c->mask];

	while (b && (b->number != number || memcmp(b->id, id, 16)))
		b = b->hash_next;
	return b;
}

void vf_cache_drop_block(struct vf_cache *c, struct block *b)
{
	struct block **at = &c->table[hash_place(b->id, b->number) & c->mask];

	while (*at != b)
		at = &(*at)->hash_next;
	*at = b->hash_next;
	b->state = EMPTY;
	c->n_used--;
	vf_cache_arena_put(c, b);
}

static uint32_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint32_t)t.tv_sec;
}

bool vf_cache_may_leave(void *arg, const struct vf_policy_entry *e)
{
	const struct block *b = (const struct block *)e;

	return !atomic_load_explicit(&b->refs, memory_order_acquire);
}

bool vf_cache_evict(struct vf_cache *c)
{
	struct block *b = (struct block *)vf_policy_victim(
		c->policy, vf_cache_may_leave, NULL, now_s());

	if (!b)
		return false;
	vf_cache_drop_block(c, b);
	c->stats.n_evict++;
	return true;
}

struct block *vf_cache_claim(struct vf_cache *c, const uint8_t id[16],
			     uint64_t number)
{
	struct block *b, **chain;

	while (!c->free ||
	       c->n_used >=
		       atomic_load_explicit(&c->n_limit, memory_order_relaxed))
		if (!vf_cache_evict(c))
			return NULL;
	b = vf_cache_arena_take(c);
	memcpy(b->id, id, 16);
	b->number = number;
	b->state = FETCHING;
	b->waiters = NULL;
	b->queued = NULL;
	chain = &c->table[hash_place(id, number) & c->mask];
	b->hash_next = *chain;
	*chain = b;
	c->n_used++;
	c->n_fetching++;
	return b;
}

/* ---- completion -------------------------------------------------------------------------- */

void vf_cache_piece_done(struct read *r, int err)
{
	if (err)
		atomic_store_explicit(&r->err, err, memory_order_relaxed);
	/* acq_rel: the one that calls done sees every copy and err */
	if (atomic_fetch_sub_explicit(&r->n_left, 1, memory_order_acq_rel) > 1)
		return;
	r->done(r->arg, atomic_load_explicit(&r->err, memory_order_relaxed));
	free(r);
}

/* release: the copy is over before the block can be replaced */
static void unref(struct block *b)
{
	atomic_fetch_sub_explicit(&b->refs, 1, memory_order_release);
}

void vf_cache_block_done(struct vf_cache *c, struct block *b, int err,
			 unsigned flags, struct waiter **told)
{
	struct waiter *w;

	pthread_mutex_lock(&c->mtx);
	w = b->waiters;
	b->waiters = NULL;
	c->n_fetching--;
	if (err) {
		vf_cache_drop_block(c, b);
	} else {
		b->state = VALID;
		/* Who waited for it asked for it: no scan's block any more. */
		vf_policy_insert(c->policy, &b->entry,
				 hash_place(b->id, b->number), w ? 0 : flags,
				 now_s());
		/* keeps the bytes while waiters copy */
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
		if (c->n_used > atomic_load(&c->n_limit)) /* it sank */
			vf_cache_evict(c);
	}
	pthread_mutex_unlock(&c->mtx);
	while (w) {
		struct waiter *next = w->next;
		if (!err)
			memcpy(w->dst, b->data + w->off, w->len);
		w->next = *told;
		*told = w;
		w = next;
	}
	if (!err)
		unref(b);
}

void vf_cache_tell(struct waiter *told, int err)
{
	while (told) {
		struct waiter *next = told->next;
		vf_cache_piece_done(told->read, err);
		free(told);
		told = next;
	}
}

/* ---- reading ----------------------------------------------------------------------------- */

static void note_reading(struct vf_cached *o, uint64_t off, size_t len)
{
	uint64_t ahead_off, ahead_len;
	bool ahead;

	if (o->flags & VF_CACHED_NO_AHEAD)
		return;
	pthread_mutex_lock(&o->ahead_mtx);
	ahead = vf_readahead_note(&o->ahead, off, len, o->size,
				  vf_cache_ahead_max(o->cache), &ahead_off,
				  &ahead_len);
	pthread_mutex_unlock(&o->ahead_mtx);
	if (ahead)
		vf_cache_ahead(o, ahead_off, ahead_len, VF_POLICY_SCAN);
}

/* All blocks of the range, each with a reference; false when one is not VALID. */
static bool take_hits(struct vf_cached *o, uint64_t first, size_t n, void **out)
{
	struct vf_cache *c = o->cache;
	size_t got = 0;

	pthread_mutex_lock(&c->mtx);
	for (; got < n; got++) {
		struct block *b = vf_cache_find(c, o->id, first + got);
		if (!b || b->state != VALID)
			break;
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
		out[got] = b;
	}
	for (size_t i = 0; got == n && i < n; i++)
		vf_policy_hit(c->policy, &((struct block *)out[i])->entry, 1);
	if (got == n)
		c->stats.n_hit += n;
	pthread_mutex_unlock(&c->mtx);
	for (size_t i = 0; got < n && i < got; i++)
		unref(out[i]);
	return got == n;
}

bool vf_cached_hold(struct vf_cached *o, uint64_t off, size_t len,
		    struct vf_hold *out)
{
	size_t block_len = o->cache->block_len, at = off % block_len;
	size_t n = (at + len + block_len - 1) / block_len;

	assert(off <= o->size && len <= o->size - off);
	if (n > VF_HOLD_MAX || !take_hits(o, off / block_len, n, out->blocks))
		return false;
	note_reading(o, off, len);
	atomic_fetch_add_explicit(&o->cache->bytes_asked, len,
				  memory_order_relaxed);
	out->n = (int)n;
	for (size_t i = 0; i < n; i++) {
		const struct block *b = out->blocks[i];
		out->iov[i].iov_base = b->data + at;
		out->iov[i].iov_len = VF_MIN(len, block_len - at);
		len -= out->iov[i].iov_len;
		at = 0;
	}
	return true;
}

void vf_cached_release(struct vf_hold *h)
{
	for (int i = 0; i < h->n; i++)
		unref(h->blocks[i]);
}

static bool read_hits(struct vf_cached *o, uint64_t off, size_t len,
		      uint8_t *dst)
{
	struct vf_hold h;

	if (!vf_cached_hold(o, off, len, &h))
		return false;
	for (int i = 0; i < h.n; i++) {
		memcpy(dst, h.iov[i].iov_base, h.iov[i].iov_len);
		dst += h.iov[i].iov_len;
	}
	vf_cached_release(&h);
	return true;
}

enum found { HIT, WAIT, CLAIMED, NONE_FREE };

static enum found look_up(struct vf_cached *o, uint64_t number,
			  struct waiter *w, struct block **out)
{
	struct vf_cache *c = o->cache;
	enum found found;
	struct block *b;

	pthread_mutex_lock(&c->mtx);
	b = vf_cache_find(c, o->id, number);
	if (b && b->state == VALID) {
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
		vf_policy_hit(c->policy, &b->entry, 1);
		c->stats.n_hit++;
		found = HIT;
	} else {
		c->stats.n_miss++;
		found = b ? WAIT : CLAIMED;
		c->stats.n_wait += b != NULL;
		if (!b)
			b = vf_cache_claim(c, o->id, number);
		if (b) {
			w->next = b->waiters;
			b->waiters = w;
			c->stats.n_fill += found == CLAIMED;
			if (b->queued)
				vf_cache_hurry(c, b);
		} else {
			c->stats.n_bypass++;
			found = NONE_FREE;
		}
	}
	pthread_mutex_unlock(&c->mtx);
	*out = b;
	return found;
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
		vf_cache_piece_done(r, -ENOMEM);
		return false;
	}
	*w = (struct waiter){r, in, (uint32_t)len, dst, NULL};
	switch (look_up(o, off / c->block_len, w, out)) {
	case HIT:
		free(w);
		memcpy(dst, (*out)->data + in, len);
		unref(*out);
		vf_cache_piece_done(r, 0);
		return false;
	case WAIT:
		return false;
	case CLAIMED:
		return true;
	case NONE_FREE:
		free(w);
		vf_cache_bypass(o, off, len, dst, r);
		return false;
	}
	return false;
}

void vf_cache_read_block(struct vf_cached *o, uint64_t off, size_t len,
			 uint8_t *dst, struct read *r)
{
	struct block *b;

	if (read_block(o, off, len, dst, r, &b))
		vf_cache_fetch(o, &b, 1);
}

static void read_blocks(struct vf_cached *o, uint64_t off, size_t len,
			uint8_t *dst, struct read *r)
{
	struct vf_cache *c = o->cache;
	size_t max_run = c->opt.fetch_len / c->block_len, n_run = 0;
	struct block *run[RUN_MAX], *b;

	while (len) {
		size_t n = VF_MIN((uint64_t)len,
				  c->block_len - off % c->block_len);
		bool claimed = !vf_cache_read_page(o, off, n, dst, r) &&
			       read_block(o, off, n, dst, r, &b);
		if (n_run && (!claimed || n_run == max_run)) {
			vf_cache_fetch(o, run, n_run);
			n_run = 0;
		}
		if (claimed)
			run[n_run++] = b;
		off += n;
		dst += n;
		len -= n;
	}
	if (n_run)
		vf_cache_fetch(o, run, n_run);
}

void vf_cached_read(struct vf_cached *o, uint64_t off, size_t len, void *buf,
		    vf_fetch_fn *done, void *arg)
{
	struct read *r;

	assert(off <= o->size && len <= o->size - off);
	if (read_hits(o, off, len, buf)) {
		done(arg, 0);
	} else if (!(r = malloc(sizeof(*r)))) {
		done(arg, -ENOMEM);
	} else {
		*r = (struct read){.done = done, .arg = arg};
		atomic_fetch_add_explicit(&o->cache->bytes_asked, len,
					  memory_order_relaxed);
		atomic_init(&r->n_left, 1);
		/* keeps the object if done lets go of the caller's */
		atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
		read_blocks(o, off, len, buf, r);
		vf_cache_piece_done(r, 0);
		note_reading(o, off, len);
		vf_cache_pump(o->cache);
		vf_cached_put(o);
	}
}
