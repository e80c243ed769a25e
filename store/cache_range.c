/*
 * What is asked of a range of an object other than its bytes: count it as used,
 * drop it, tell where it is; and the file of one that is whole on disk.
 */
#include "store/cache_impl.h"

#include <sched.h>

static uint64_t end_block(const struct vf_cached *o, uint64_t off, uint64_t len)
{
	uint64_t end = off + VF_MIN(len, o->size - VF_MIN(off, o->size));

	return (end + o->cache->block_len - 1) / o->cache->block_len;
}

/* A range may be millions of blocks: readers pass in between.  mtx. */
static void let_others(struct vf_cache *c, uint64_t number)
{
	if (number % 1024)
		return;
	pthread_mutex_unlock(&c->mtx);
	sched_yield();
	pthread_mutex_lock(&c->mtx);
}

void vf_cached_touch(struct vf_cached *o, uint64_t off, uint64_t len)
{
	struct vf_cache *c = o->cache;
	uint64_t first = off / c->block_len, end = end_block(o, off, len);

	pthread_mutex_lock(&c->mtx);
	for (uint64_t i = first; i < end; i++) {
		let_others(c, i);
		struct block *b = vf_cache_find(c, o->id, i);
		if (b && b->state == VALID)
			vf_policy_hit(c->policy, &b->entry, 1);
	}
	pthread_mutex_unlock(&c->mtx);
	if (o->disk && end > first)
		vf_disk_touch(o->disk, first, end - first);
}

void vf_cached_drop(struct vf_cached *o, uint64_t off, uint64_t len)
{
	struct vf_cache *c = o->cache;
	uint64_t first = off / c->block_len, end = end_block(o, off, len);

	pthread_mutex_lock(&c->mtx);
	for (uint64_t i = first; i < end; i++) {
		let_others(c, i);
		struct block *b = vf_cache_find(c, o->id, i);
		if (!b || b->state != VALID ||
		    !vf_cache_may_leave(NULL, &b->entry))
			continue;
		vf_policy_remove(c->policy, &b->entry);
		vf_cache_drop_block(c, b);
	}
	pthread_mutex_unlock(&c->mtx);
	if (o->disk && end > first)
		vf_disk_drop(o->disk, first, end - first);
}

bool vf_cached_is_whole(struct vf_cached *o)
{
	struct vf_disk_file_info info = {0};

	if (o->disk)
		vf_disk_file_info(o->disk, &info);
	return info.n_blocks && info.n_valid == info.n_blocks;
}

int vf_cached_file_hold(struct vf_cached *o, int *out_fd)
{
	*out_fd = -1;
	return o->disk ? vf_disk_file_hold(o->disk, out_fd) : -ENOENT;
}

void vf_cached_file_unhold(struct vf_cached *o)
{
	vf_disk_file_unhold(o->disk);
}

void vf_cached_info(struct vf_cached *o, uint64_t off, uint64_t len,
		    struct vf_cached_info *out)
{
	struct vf_cache *c = o->cache;
	uint64_t first = off / c->block_len, end = end_block(o, off, len);
	struct vf_disk_file_info disk = {0};

	*out = (struct vf_cached_info){.n_blocks =
					       end > first ? end - first : 0};
	pthread_mutex_lock(&c->mtx);
	for (uint64_t i = first; i < end; i++) {
		let_others(c, i);
		struct block *b = vf_cache_find(c, o->id, i);
		out->n_ram += b && b->state == VALID;
	}
	pthread_mutex_unlock(&c->mtx);
	for (uint64_t i = first; o->disk && i < end; i++)
		out->n_disk += vf_disk_has(o->disk, i);
	if (o->disk)
		vf_disk_file_info(o->disk, &disk);
	out->n_pinned = disk.n_pinned;
}
