/*
 * Small reads of the disk tier.  A fault wants 4 KiB, and random ones want no
 * more of that block: fetching all of it into RAM costs the disk three times
 * as long and drives out blocks that are hot.  Who comes back to a block soon
 * gets it into RAM.
 *
 * seen   a table of hashes, the newest of each slot: blocks read by the page
 */
#include "store/cache_impl.h"

enum { PAGE_READ_MAX = 16 << 10 };

struct page {
	struct vf_cached *object; /* a reference */
	struct read *read;
	uint64_t off;
	size_t len;
	uint8_t *dst;
};

/* True once; soon after, false.  mtx. */
static bool is_new(struct vf_cache *c, const struct vf_cached *o,
		   uint64_t number)
{
	uint64_t h = (vf_le64(o->id) ^ number) * 0x9e3779b97f4a7c15;
	uint32_t *slot = &c->seen[h >> 40 & (VF_CACHE_SEEN - 1)];
	uint32_t tag = (uint32_t)h | 1;

	if (*slot == tag) {
		*slot = 0;
		return false;
	}
	*slot = tag;
	return true;
}

/* Under c->mtx so that vf_cache_stop either waits for it or is seen. */
static bool begin_page(struct vf_cached *o, uint64_t number)
{
	struct vf_cache *c = o->cache;
	bool begin;

	pthread_mutex_lock(&c->mtx);
	begin = !c->stopped && !vf_cache_find(c, o->id, number) &&
		is_new(c, o, number);
	if (begin) {
		c->stats.n_miss++;
		c->stats.n_page++;
		c->n_disk++;
	}
	pthread_mutex_unlock(&c->mtx);
	return begin;
}

static void finish_page(void *arg, int err)
{
	struct page *p = arg;
	struct vf_cached *o = p->object;
	struct vf_cache *c = o->cache;
	bool stopped = err && vf_cache_is_stopped(c);

	if (!err)
		atomic_fetch_add(&c->n_disk_hit, 1);
	else if (!stopped) /* it left, or was damaged: the bucket has it */
		vf_cache_read_block(o, p->off, p->len, p->dst, p->read);
	vf_cache_piece_done(p->read, stopped ? -ECANCELED : 0);
	vf_cached_put(o);
	free(p);
	vf_cache_leave_disk(c); /* last: vf_cache_stop waits for it */
}

bool vf_cache_read_page(struct vf_cached *o, uint64_t off, size_t len,
			uint8_t *dst, struct read *r)
{
	size_t max = VF_MIN((size_t)PAGE_READ_MAX, o->cache->block_len / 2);
	uint64_t number = off / o->cache->block_len;
	struct page *p = NULL;

	if (!o->disk || len > max || !vf_disk_has(o->disk, number) ||
	    !(p = malloc(sizeof(*p))) || !begin_page(o, number)) {
		free(p);
		return false;
	}
	*p = (struct page){o, r, off, len, dst};
	atomic_fetch_add_explicit(&r->n_left, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	vf_disk_read_part(o->disk,
			  &(struct vf_disk_part){off, (uint32_t)len, dst, 1,
						 finish_page, p});
	return true;
}
