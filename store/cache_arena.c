/*
 * The memory of the blocks: an arena as large as the cache may ever be, of which
 * as many blocks are resident as it may have now.
 *
 *   n_used      blocks that are not EMPTY
 *   n_resident  blocks whose bytes take memory: those used, and free ones that
 *               were; none is taken while n_used >= n_limit, and none is freed
 *               without giving its memory back while n_resident > n_limit
 *   free list   resident ones first, so that another becomes resident only
 *               when all are used: n_resident <= n_limit but for blocks in use
 *               when the limit sank
 */
#include "store/cache_impl.h"

#include <sys/mman.h>
#include <unistd.h>

/* Blocks in one go: readers come in between. */
enum { GIVE_BACK_MAX = 32, LIST_PIECE = 4096 };
enum { TOUCH_AHEAD = 16 << 20 }; /* bytes */

int vf_cache_arena_open(struct vf_cache *c)
{
	size_t table_len = 64;

	while (table_len < c->n_blocks)
		table_len *= 2;
	c->mask = table_len - 1;
	c->table = calloc(table_len, sizeof(*c->table));
	c->blocks = calloc(c->n_blocks, sizeof(*c->blocks));
	c->arena =
		mmap(NULL, c->n_blocks * c->block_len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->arena == MAP_FAILED)
		c->arena = NULL;
	if (!c->table || !c->blocks || !c->arena)
		return -ENOMEM;
	/* Filling touches every page for the first time: 2 MiB per fault. */
	madvise(c->arena, c->n_blocks * c->block_len, MADV_HUGEPAGE);
	c->free_end = &c->free;
	for (size_t i = 0; i < c->n_blocks; i++) {
		c->blocks[i].data = c->arena + i * c->block_len;
		*c->free_end = &c->blocks[i];
		c->free_end = &c->blocks[i].hash_next;
	}
	atomic_init(&c->n_limit, c->n_blocks);
	return 0;
}

void vf_cache_arena_close(struct vf_cache *c)
{
	if (c->arena)
		munmap(c->arena, c->n_blocks * c->block_len);
	free(c->blocks);
	free(c->table);
}

struct block *vf_cache_arena_take(struct vf_cache *c)
{
	struct block *b = c->free;

	c->free = b->hash_next;
	if (!c->free)
		c->free_end = &c->free;
	c->n_resident += !b->resident;
	b->resident = true;
	return b;
}

/* The first touch of the arena clears 2 MiB at once: done ahead, while the
 * source is waited for, and not when its bytes are to be copied. */
void vf_cache_arena_touch(struct vf_cache *c, const uint8_t *data)
{
	size_t all = c->n_blocks * c->block_len;
	size_t need = (size_t)(data - c->arena) + TOUCH_AHEAD / 2;
	size_t from = atomic_load_explicit(&c->n_touched, memory_order_relaxed);
	size_t to = VF_MIN(from + TOUCH_AHEAD, all);

	/* Refused by old kernels: then each touch pays for itself. */
	if (need > from && from < all &&
	    atomic_compare_exchange_strong(&c->n_touched, &from, to))
		madvise(c->arena + from, to - from, MADV_POPULATE_WRITE);
	atomic_fetch_sub(&c->n_touching, 1); /* the last access */
}

void vf_cache_arena_stop_touching(struct vf_cache *c)
{
	atomic_store(&c->n_touched, c->n_blocks * c->block_len);
	while (atomic_load(&c->n_touching))
		usleep(50);
}

/* Memory of blocks that nobody took yet, populated ahead.  They are neighbours
 * for the most part: one call for all that follow each other. */
static void give_back_untaken(struct vf_cache *c)
{
	vf_cache_arena_stop_touching(c);
	pthread_mutex_lock(&c->mtx);
	for (size_t i = 0, end; i < c->n_blocks; i = end + 1) {
		for (end = i; end < c->n_blocks && !c->blocks[end].resident;)
			end++;
		if (end > i)
			madvise(c->blocks[i].data, (end - i) * c->block_len,
				MADV_DONTNEED);
	}
	pthread_mutex_unlock(&c->mtx);
}

static void put_last(struct vf_cache *c, struct block *b)
{
	b->hash_next = NULL;
	*c->free_end = b;
	c->free_end = &b->hash_next;
}

/* A failure keeps the bytes: they are counted, and tried again. */
static bool give_back(struct vf_cache *c, struct block *b)
{
	if (madvise(b->data, c->block_len, MADV_DONTNEED))
		return false;
	b->resident = false;
	c->n_resident--;
	return true;
}

void vf_cache_arena_put(struct vf_cache *c, struct block *b)
{
	size_t limit = atomic_load_explicit(&c->n_limit, memory_order_relaxed);

	if (c->n_resident > limit && give_back(c, b)) {
		put_last(c, b);
		return;
	}
	b->hash_next = c->free;
	if (!c->free)
		c->free_end = &b->hash_next;
	c->free = b;
}

size_t vf_cache_ahead_max(struct vf_cache *c)
{
	size_t limit = atomic_load_explicit(&c->n_limit, memory_order_relaxed);
	size_t max = VF_MIN(c->opt.ahead_len, limit * c->block_len / 4);

	return max < c->block_len ? 0 : max;
}

/* True: there may be more. */
static bool give_back_some(struct vf_cache *c)
{
	bool more = true;

	pthread_mutex_lock(&c->mtx);
	for (unsigned i = 0; more && i < GIVE_BACK_MAX; i++) {
		if (c->n_resident <= atomic_load(&c->n_limit)) {
			more = false;
		} else if (c->free && c->free->resident) {
			struct block *b = vf_cache_arena_take(c);
			vf_cache_arena_put(c, b);
			more = !b->resident;
		} else {
			more = vf_cache_evict(c);
		}
	}
	pthread_mutex_unlock(&c->mtx);
	return more;
}

void vf_cache_set_ram(struct vf_cache *c, size_t len)
{
	size_t n =
		VF_MIN(VF_MAX(len / c->block_len, (size_t)VF_CACHE_BLOCKS_MIN),
		       c->n_blocks);
	bool shrinks;

	pthread_mutex_lock(&c->mtx);
	shrinks = n < atomic_load(&c->n_limit);
	atomic_store(&c->n_limit, n);
	pthread_mutex_unlock(&c->mtx);
	/* A huge page holds what was given back of it until all is. */
	if (shrinks) {
		madvise(c->arena, c->n_blocks * c->block_len, MADV_NOHUGEPAGE);
		give_back_untaken(c);
	}
	while (give_back_some(c))
		;
}

size_t vf_cache_list(struct vf_cache *c, struct vf_cache_place *out, size_t max)
{
	size_t n = 0;

	for (size_t at = 0; at < c->n_blocks; at += LIST_PIECE) {
		size_t end = VF_MIN(at + LIST_PIECE, c->n_blocks);
		pthread_mutex_lock(&c->mtx);
		for (size_t i = at; i < end && n < max; i++) {
			const struct block *b = &c->blocks[i];
			if (b->state != VALID ||
			    b->entry.flags & VF_POLICY_SCAN)
				continue;
			memcpy(out[n].id, b->id, 16);
			out[n++].number = b->number;
		}
		pthread_mutex_unlock(&c->mtx);
	}
	return n;
}
