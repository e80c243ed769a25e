/*
 * How blocks are filled: from the disk tier where it has them, else from the
 * source, neighbours together.  What a reader waits for starts at once;
 * read-ahead waits in a queue, a bounded number of fetches under way, so that
 * demand always finds free connections.
 */
#include "store/cache_impl.h"

enum {
	BOUNCE_MAX = 32 << 20, /* bytes besides the arena, of all fetches */
	DISK_RUN_MAX = 16,     /* blocks */
};

struct fetch {
	struct vf_cached *object; /* a reference */
	size_t n, len;		  /* blocks, bytes */
	struct block **blocks;	  /* [n] owned */
	uint8_t *bounce;	  /* [len] when blocks lie apart, else NULL */
	bool bounces;		  /* its blocks count in bounce_len */
	uint64_t start_ns;
	bool ahead;	/* counts against the limit of read-ahead */
	unsigned flags; /* for the policies */
	struct fetch *next;
};

static void free_fetch(struct fetch *f)
{
	vf_cached_put(f->object);
	free(f->bounce);
	free(f->blocks);
	free(f);
}

/* With blocks claimed; NULL without memory: they have then failed. */
static struct fetch *new_fetch(struct vf_cached *o, struct block **blocks,
			       size_t n, unsigned flags)
{
	struct vf_cache *c = o->cache;
	uint64_t off = blocks[0]->number * c->block_len;
	struct fetch *f = calloc(1, sizeof(*f));

	if (f)
		f->blocks = malloc(n * sizeof(*blocks));
	if (!f || !f->blocks) {
		struct waiter *told = NULL;
		free(f);
		for (size_t i = 0; i < n; i++)
			vf_cache_block_done(c, blocks[i], -ENOMEM, 0, &told);
		vf_cache_tell(told, -ENOMEM);
		return NULL;
	}
	memcpy(f->blocks, blocks, n * sizeof(*blocks));
	f->object = o;
	f->n = n;
	f->len = VF_MIN((uint64_t)n * c->block_len, o->size - off);
	f->flags = flags;
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return f;
}

/* ---- from the source --------------------------------------------------------------------- */

static void note_latency(struct vf_cache *c, uint64_t ns)
{
	uint64_t us = ns / 1000;
	size_t i = us ? 64u - (unsigned)__builtin_clzll(us) : 0;

	i = VF_MIN(i, (size_t)VF_LATENCY_BUCKETS - 1);
	atomic_fetch_add(&c->latency[i], 1);
}

/* Its share of what is limited is free again: who waits for that goes on. */
static void end_fetch(struct fetch *f)
{
	struct vf_cache *c = f->object->cache;
	bool pumps = f->ahead || f->bounces;

	if (pumps) {
		pthread_mutex_lock(&c->mtx);
		c->n_ahead -= f->ahead;
		c->bounce_len -= f->bounces ? f->n * c->block_len : 0;
		pthread_mutex_unlock(&c->mtx);
	}
	free_fetch(f);
	if (pumps)
		vf_cache_pump(c);
}

static void finish_fetch(void *arg, int err)
{
	struct fetch *f = arg;
	struct vf_cached *o = f->object;
	struct vf_cache *c = o->cache;
	struct waiter *told = NULL;

	note_latency(c, vf_now_ns() - f->start_ns);
	atomic_fetch_sub(&c->n_flying, 1);
	if (!err)
		atomic_fetch_add(&c->bytes_fetched, f->len);
	for (size_t i = 0; i < f->n; i++) {
		size_t at = i * c->block_len;
		struct block *b = f->blocks[i];
		if (!err && f->bounce)
			memcpy(b->data, f->bounce + at,
			       VF_MIN(c->block_len, f->len - at));
		if (!err && o->disk)
			vf_disk_write(o->disk, b->number, b->data, f->flags);
		vf_cache_block_done(c, b, err, f->flags, &told);
	}
	end_fetch(f);
	vf_cache_tell(told, err);
}

static void fetch_from_source(struct fetch *f)
{
	struct vf_cached *o = f->object;
	struct vf_cache *c = o->cache;
	uint64_t off = f->blocks[0]->number * c->block_len;
	const uint8_t *last = f->blocks[f->n - 1]->data;
	uint8_t *buf;

	f->start_ns = vf_now_ns();
	atomic_fetch_add(&c->n_flying, 1);
	if (f->bounces && !(f->bounce = malloc(f->len))) {
		finish_fetch(f, -ENOMEM);
		return;
	}
	pthread_mutex_lock(&c->mtx);
	c->stats.n_fetch++;
	c->stats.n_ahead += f->ahead;
	pthread_mutex_unlock(&c->mtx);
	buf = f->bounce ? f->bounce : f->blocks[0]->data;
	/* The answer may come at once, and the cache be closed after it. */
	atomic_fetch_add(&c->n_touching, 1);
	/* What is made from cached bytes has its tail below. */
	if (c->hedge && !f->ahead && !(o->flags & VF_CACHED_RAM_ONLY))
		vf_hedge_start(c->hedge, o, off, f->len, buf, finish_fetch, f);
	else
		o->source->start(o->source, off, f->len, buf, finish_fetch, f);
	vf_cache_arena_touch(c, last);
}

/* ---- from the disk tier ------------------------------------------------------------------ */

static void end_disk(struct fetch *f, int err)
{
	struct vf_cache *c = f->object->cache;
	struct waiter *told = NULL;

	if (!err)
		atomic_fetch_add(&c->n_disk_hit, 1);
	vf_cache_block_done(c, f->blocks[0], err, f->flags, &told);
	end_fetch(f);
	vf_cache_tell(told, err);
}

bool vf_cache_is_stopped(struct vf_cache *c)
{
	bool stopped;

	pthread_mutex_lock(&c->mtx);
	stopped = c->stopped;
	pthread_mutex_unlock(&c->mtx);
	return stopped;
}

void vf_cache_leave_disk(struct vf_cache *c)
{
	pthread_mutex_lock(&c->mtx);
	if (!--c->n_disk)
		pthread_cond_broadcast(&c->disk_idle);
	pthread_mutex_unlock(&c->mtx);
}

static void finish_disk(void *arg, int err)
{
	struct fetch *f = arg;
	struct vf_cache *c = f->object->cache;

	/* It left, or was damaged: the bucket has it, unless it is closing. */
	if (err && !vf_cache_is_stopped(c))
		fetch_from_source(f);
	else
		end_disk(f, err ? -ECANCELED : 0);
	vf_cache_leave_disk(c);
}

/* ---- runs --------------------------------------------------------------------------- */

/* Blocks claimed one after the other often lie so in the arena; then no copy
 * is needed.  How many of them do? */
static size_t lie_together(struct block *const *blocks, size_t n,
			   size_t block_len)
{
	size_t i = 1;

	while (i < n && blocks[i]->data == blocks[i - 1]->data + block_len)
		i++;
	return i;
}

/* Neighbours that are fetched at once. */
struct run {
	struct block **blocks;
	size_t n;
	bool disk;    /* they are in the disk tier */
	bool bounces; /* counted in bounce_len */
};

/*
 * All of the run is fetched at once; but only those blocks that lie together
 * when there is no room for a bounce.
 */
static void fit_bounce(struct vf_cache *c, struct run *r)
{
	size_t together = lie_together(r->blocks, r->n, c->block_len);
	size_t len = r->n * c->block_len;

	if (together == r->n)
		return;
	pthread_mutex_lock(&c->mtx);
	r->bounces = !c->bounce_len || c->bounce_len + len <= BOUNCE_MAX;
	c->bounce_len += r->bounces ? len : 0;
	pthread_mutex_unlock(&c->mtx);
	if (!r->bounces)
		r->n = together;
}

/* The first blocks that are alike: on disk, or not. */
static void find_run(const struct vf_cached *o, struct block **blocks, size_t n,
		     struct run *out)
{
	*out = (struct run){.blocks = blocks, .n = 1};
	out->disk = o->disk && vf_disk_has(o->disk, blocks[0]->number);
	while (out->n < n && !(out->disk && out->n == DISK_RUN_MAX) &&
	       (o->disk && vf_disk_has(o->disk, blocks[out->n]->number)) ==
		       out->disk)
		out->n++;
	if (!out->disk)
		fit_bounce(o->cache, out);
}

/* One request to the disk, and a fetch for each block: each can fail alone. */
static void start_disk_run(struct vf_cached *o, const struct run *r, bool ahead,
			   unsigned flags)
{
	struct vf_cache *c = o->cache;
	struct vf_disk_part parts[DISK_RUN_MAX];
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		struct fetch *f = new_fetch(o, &r->blocks[i], 1, flags);
		if (!f)
			continue;
		f->ahead = ahead;
		parts[n++] = (struct vf_disk_part){.off = f->blocks[0]->number *
							  c->block_len,
						   .len = (uint32_t)f->len,
						   .buf = f->blocks[0]->data,
						   .n_uses = 1,
						   .done = finish_disk,
						   .arg = f};
	}
	pthread_mutex_lock(&c->mtx);
	c->n_ahead += ahead ? (unsigned)n : 0;
	c->n_disk += (unsigned)n;
	pthread_mutex_unlock(&c->mtx);
	vf_disk_read_parts(o->disk, parts, n);
}

static void start_run(struct vf_cached *o, const struct run *r, bool ahead,
		      unsigned flags)
{
	struct fetch *f = new_fetch(o, r->blocks, r->n, flags);
	struct vf_cache *c = o->cache;

	pthread_mutex_lock(&c->mtx);
	if (!f && r->bounces)
		c->bounce_len -= r->n * c->block_len;
	c->n_ahead += f && ahead;
	pthread_mutex_unlock(&c->mtx);
	if (!f)
		return;
	f->ahead = ahead;
	f->bounces = r->bounces;
	fetch_from_source(f);
}

static void start_runs(struct vf_cached *o, struct block **blocks, size_t n,
		       bool ahead, unsigned flags)
{
	struct run r;

	for (size_t i = 0; i < n; i += r.n) {
		find_run(o, blocks + i, n - i, &r);
		if (r.disk)
			start_disk_run(o, &r, ahead, flags);
		else
			start_run(o, &r, ahead, flags);
	}
}

void vf_cache_fetch(struct vf_cached *o, struct block **blocks, size_t n)
{
	start_runs(o, blocks, n, false, 0);
}

/* ---- read-ahead -------------------------------------------------------------------------- */

static void give_up(struct vf_cache *c, struct fetch *f)
{
	struct waiter *told = NULL;

	for (size_t i = 0; i < f->n; i++)
		vf_cache_block_done(c, f->blocks[i], -ECANCELED, 0, &told);
	free_fetch(f);
	vf_cache_tell(told, -ECANCELED);
}

static void set_queued(struct fetch *f, struct fetch *queued)
{
	for (size_t i = 0; i < f->n; i++)
		f->blocks[i]->queued = queued;
}

void vf_cache_stop(struct vf_cache *c)
{
	struct fetch *f;

	pthread_mutex_lock(&c->mtx);
	c->stopped = true;
	f = c->ahead;
	c->ahead = NULL;
	c->ahead_end = &c->ahead;
	c->n_queued = 0;
	for (struct fetch *i = f; i; i = i->next)
		set_queued(i, NULL);
	while (c->n_disk)
		pthread_cond_wait(&c->disk_idle, &c->mtx);
	pthread_mutex_unlock(&c->mtx);
	vf_hedge_stop(c->hedge);
	while (f) {
		struct fetch *next = f->next;
		give_up(c, f);
		f = next;
	}
}

static void enqueue(struct vf_cache *c, struct fetch *f)
{
	pthread_mutex_lock(&c->mtx);
	if (c->stopped) {
		pthread_mutex_unlock(&c->mtx);
		give_up(c, f);
		return;
	}
	set_queued(f, f);
	f->next = NULL;
	*c->ahead_end = f;
	c->ahead_end = &f->next;
	c->n_queued++;
	/* A reader may have come between the claim and this. */
	for (size_t i = 0; i < f->n && f->ahead; i++)
		if (f->blocks[i]->waiters)
			vf_cache_hurry(c, f->blocks[i]);
	pthread_mutex_unlock(&c->mtx);
}

void vf_cache_hurry(struct vf_cache *c, struct block *b)
{
	struct fetch **at = &c->ahead, *f = b->queued;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (!*at)
		c->ahead_end = at;
	f->next = c->ahead;
	c->ahead = f;
	if (c->ahead_end == &c->ahead)
		c->ahead_end = &f->next;
	f->ahead = false; /* demand: no limit holds it */
}

static struct fetch *next_queued(struct vf_cache *c)
{
	struct fetch *f;

	pthread_mutex_lock(&c->mtx);
	f = c->ahead;
	/* A bounce that is over pumps too. */
	if (f && f->ahead &&
	    (c->n_ahead >= c->opt.max_ahead ||
	     (c->bounce_len && c->bounce_len + f->len > BOUNCE_MAX)))
		f = NULL;
	if (f) {
		c->ahead = f->next;
		c->n_queued--;
		if (!c->ahead)
			c->ahead_end = &c->ahead;
		set_queued(f, NULL);
	}
	pthread_mutex_unlock(&c->mtx);
	return f;
}

/*
 * What is answered at once pumps from within: it returns to the loop that is
 * under way, else the stack would grow with the queue.
 */
void vf_cache_pump(struct vf_cache *c)
{
	static _Thread_local const struct vf_cache *pumped;
	const struct vf_cache *outer = pumped;
	struct fetch *f;

	if (outer == c)
		return;
	pumped = c;
	while ((f = next_queued(c))) {
		start_runs(f->object, f->blocks, f->n, f->ahead, f->flags);
		free_fetch(f);
	}
	pumped = outer;
}

/* What nobody waits for leaves a quarter of the blocks to those who do; mtx. */
static bool is_crowded(const struct vf_cache *c)
{
	size_t limit = atomic_load_explicit(&c->n_limit, memory_order_relaxed);

	return c->n_fetching >= limit - limit / 4;
}

/* Claim up to @max missing blocks in a row; @number moves past them. */
static size_t claim_run(struct vf_cached *o, uint64_t *number, uint64_t end,
			struct block **out, size_t max)
{
	struct vf_cache *c = o->cache;
	size_t n = 0;

	pthread_mutex_lock(&c->mtx);
	while (*number < end && n < max) {
		struct block *b = vf_cache_find(c, o->id, *number);
		if (b && n)
			break;
		++*number;
		if (b)
			continue;
		b = is_crowded(c) ? NULL
				  : vf_cache_claim(c, o->id, *number - 1);
		if (!b) { /* all in use: not the time to read ahead */
			*number = end;
			break;
		}
		out[n++] = b;
	}
	pthread_mutex_unlock(&c->mtx);
	return n;
}

enum { AHEAD_RUN_MAX = 256 };

static uint64_t queue_ahead(struct vf_cached *o, uint64_t off, uint64_t len,
			    size_t fetch_len, unsigned flags)
{
	struct vf_cache *c = o->cache;
	uint64_t number = off / c->block_len, n_blocks = 0;
	uint64_t end = (off + len + c->block_len - 1) / c->block_len;
	struct block *run[AHEAD_RUN_MAX];
	size_t max = VF_MIN(VF_MAX(fetch_len / c->block_len, (size_t)1),
			    (size_t)AHEAD_RUN_MAX);

	while (number < end) {
		size_t n = claim_run(o, &number, end, run, max);
		struct fetch *f = n ? new_fetch(o, run, n, flags) : NULL;
		if (!f)
			continue;
		f->ahead = true;
		n_blocks += n;
		enqueue(c, f);
	}
	vf_cache_pump(c);
	return n_blocks;
}

/* Fetches grow with the window: sixteen of them fill it. */
void vf_cache_ahead(struct vf_cached *o, uint64_t off, uint64_t len,
		    unsigned flags)
{
	size_t fetch_len = VF_MIN(len / 16, (uint64_t)o->cache->opt.fetch_len);

	queue_ahead(o, off, len, fetch_len, flags);
}

uint64_t vf_cached_warm(struct vf_cached *o, uint64_t off, uint64_t len)
{
	if (off >= o->size)
		return 0;
	return queue_ahead(o, off, VF_MIN(len, o->size - off),
			   o->cache->opt.fetch_len, 0);
}

/* Queued read-ahead of the range goes first now; returns how many fetches. */
static unsigned hurry_queued(struct vf_cached *o, uint64_t number, uint64_t end,
			     unsigned max)
{
	struct vf_cache *c = o->cache;
	unsigned n = 0;

	pthread_mutex_lock(&c->mtx);
	for (; number < end && n < max; number++) {
		struct block *b = vf_cache_find(c, o->id, number);
		if (!b || !b->queued || !b->queued->ahead)
			continue;
		vf_cache_hurry(c, b);
		n++;
	}
	pthread_mutex_unlock(&c->mtx);
	return n;
}

unsigned vf_cached_want(struct vf_cached *o, uint64_t off, uint64_t len,
			unsigned max_fetches)
{
	struct vf_cache *c = o->cache;
	uint64_t number = off / c->block_len, end;
	struct block *run[AHEAD_RUN_MAX];
	size_t max =
		VF_MIN(c->opt.fetch_len / c->block_len, (size_t)AHEAD_RUN_MAX);
	unsigned n_fetches;

	if (off >= o->size)
		return 0;
	end = (off + VF_MIN(len, o->size - off) + c->block_len - 1) /
	      c->block_len;
	n_fetches = hurry_queued(o, number, end, max_fetches);
	if (n_fetches)
		vf_cache_pump(c);
	while (number < end && n_fetches < max_fetches) {
		size_t n = claim_run(o, &number, end, run, max);
		if (n) {
			vf_cache_fetch(o, run, n);
			n_fetches++;
		}
	}
	return n_fetches;
}
