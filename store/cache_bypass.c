/*
 * Reads past the cache: when every block of the arena is in use, a reader
 * gets his bytes from the disk tier or the source without one.
 */
#include "store/cache_impl.h"

struct bypass {
	struct vf_cached *object; /* a reference */
	struct read *read;
	uint64_t off;
	size_t len;
	uint8_t *dst;
	uint8_t *whole; /* owned: the block, when it comes from the disk */
};

static void end_bypass(struct bypass *b, int err)
{
	struct read *r = b->read;

	vf_cached_put(b->object);
	free(b->whole);
	free(b);
	vf_cache_piece_done(r, err);
}

static void finish_bypass(void *arg, int err)
{
	struct bypass *b = arg;

	if (!err)
		atomic_fetch_add(&b->object->cache->bytes_fetched, b->len);
	end_bypass(b, err);
}

static void bypass_to_source(struct bypass *b)
{
	struct vf_source *s = b->object->source;

	s->start(s, b->off, b->len, b->dst, finish_bypass, b);
}

static void finish_disk_bypass(void *arg, int err)
{
	struct bypass *b = arg;
	struct vf_cache *c = b->object->cache;

	if (!err) {
		memcpy(b->dst, b->whole + b->off % c->block_len, b->len);
		atomic_fetch_add(&c->n_disk_hit, 1);
		end_bypass(b, 0);
	} else if (vf_cache_is_stopped(c)) {
		end_bypass(b, -ECANCELED);
	} else {
		bypass_to_source(b);
	}
	vf_cache_leave_disk(c);
}

void vf_cache_bypass(struct vf_cached *o, uint64_t off, size_t len,
		     uint8_t *dst, struct read *r)
{
	struct bypass *b = malloc(sizeof(*b));
	struct vf_cache *c = o->cache;
	uint64_t number = off / c->block_len;

	if (!b) {
		vf_cache_piece_done(r, -ENOMEM);
		return;
	}
	*b = (struct bypass){o, r, off, len, dst, NULL};
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	if (o->disk && vf_disk_has(o->disk, number))
		b->whole = malloc(c->block_len);
	if (!b->whole) {
		bypass_to_source(b);
		return;
	}
	pthread_mutex_lock(&c->mtx);
	c->n_disk++;
	pthread_mutex_unlock(&c->mtx);
	vf_disk_read(o->disk, number, b->whole, 1, finish_disk_bypass, b);
}
