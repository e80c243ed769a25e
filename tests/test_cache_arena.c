/* The size of the RAM tier changes under its readers: memory really goes back. */
#include "store/cache_impl.h"
#include "tests/fake_source.h"

#include <sys/mman.h>

enum { BLOCK = FAKE_BLOCK, MIN = FAKE_BLOCKS_MIN, MAX = 256 };

static struct vf_cache *open_cache(const char *policy)
{
	struct vf_cache *c = NULL;

	CU_ASSERT_EQUAL_FATAL(
		vf_cache_open(&(struct vf_cache_options){.ram_len = MAX * BLOCK,
							 .block_len = BLOCK,
							 .policy = policy,
							 .ahead_len = 1},
			      &c),
		0);
	return c;
}

/* Pages of the arena that take memory. */
static size_t count_resident(struct vf_cache *c)
{
	unsigned char in[MAX];
	size_t n = 0;

	CU_ASSERT_EQUAL(mincore(c->arena, (size_t)MAX * BLOCK, in), 0);
	for (size_t i = 0; i < MAX; i++)
		n += in[i] & 1;
	return n;
}

static void read_blocks(struct vf_cached *o, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		CU_ASSERT_EQUAL(fake_read_block(o, i), 0);
}

static void what_is_too_much_leaves_at_once(void)
{
	struct fake_server *s = fake_server_new(1);
	struct vf_cache *c = open_cache("lru");
	struct vf_cached *o = fake_object(c, s, 1, 1000 * BLOCK, NULL);
	struct vf_cache_stats t;

	/* as after a first shrinking: no huge pages in what is counted */
	madvise(c->arena, (size_t)MAX * BLOCK, MADV_NOHUGEPAGE);
	read_blocks(o, 0, MAX);
	CU_ASSERT_EQUAL(count_resident(c), MAX);
	vf_cache_set_ram(c, 40 * BLOCK);
	t = fake_stats(c);
	CU_ASSERT_EQUAL(t.used_len, 40 * BLOCK);
	CU_ASSERT_EQUAL(t.ram_len, 40 * BLOCK);
	CU_ASSERT_EQUAL(t.n_evict, MAX - 40);
	CU_ASSERT_EQUAL(count_resident(c), 40);
	read_blocks(o, MAX - 40, 40); /* the youngest stayed */
	CU_ASSERT_EQUAL(fake_stats(c).n_fetch, MAX);
	read_blocks(o, 500, 200);
	CU_ASSERT_EQUAL(count_resident(c), 40);
	CU_ASSERT_EQUAL(fake_stats(c).used_len, 40 * BLOCK);
	vf_cache_set_ram(c, 0);
	CU_ASSERT_EQUAL(count_resident(c), MIN);
	CU_ASSERT_EQUAL(fake_stats(c).ram_len, MIN * BLOCK);
	vf_cached_put(o);
	fake_server_free(s);
	vf_cache_close(c);
}

static void it_grows_again_to_what_was_asked(void)
{
	struct fake_server *s = fake_server_new(1);
	struct vf_cache *c = open_cache(NULL);
	struct vf_cached *o = fake_object(c, s, 1, 1000 * BLOCK, NULL);

	vf_cache_set_ram(c, 20 * BLOCK);
	read_blocks(o, 0, 100);
	CU_ASSERT_EQUAL(count_resident(c), 20);
	vf_cache_set_ram(c, 60 * BLOCK);
	read_blocks(o, 100, 100);
	CU_ASSERT_EQUAL(count_resident(c), 60);
	vf_cache_set_ram(c, SIZE_MAX);
	CU_ASSERT_EQUAL(fake_stats(c).ram_len, MAX * BLOCK);
	read_blocks(o, 200, MAX);
	CU_ASSERT_EQUAL(fake_stats(c).used_len, MAX * BLOCK);
	CU_ASSERT_EQUAL(count_resident(c), MAX);
	vf_cached_drop(o, 0, 1000 * BLOCK);
	CU_ASSERT_EQUAL(count_resident(c), MAX); /* free, to be used again */
	vf_cache_set_ram(c, 30 * BLOCK);
	CU_ASSERT_EQUAL(count_resident(c), 30);
	CU_ASSERT_EQUAL(fake_stats(c).used_len, 0);
	vf_cached_put(o);
	fake_server_free(s);
	vf_cache_close(c);
}

static void what_is_in_use_follows_when_that_is_over(void)
{
	struct fake_server *s = fake_server_new(1);
	struct vf_cache *c = open_cache("lru");
	struct vf_cached *o = fake_object(c, s, 1, 1000 * BLOCK, NULL);
	static uint8_t bytes[64 * BLOCK], more[BLOCK];
	struct fake_wait w = FAKE_WAIT, x = FAKE_WAIT;
	struct vf_cache_stats t;
	struct vf_hold hold;

	madvise(c->arena, (size_t)MAX * BLOCK, MADV_NOHUGEPAGE);
	read_blocks(o, 100, 8);
	CU_ASSERT(vf_cached_hold(o, 100 * BLOCK, 8 * BLOCK, &hold));
	fake_server_pause(s, true);
	vf_cached_read(o, 0, sizeof(bytes), bytes, fake_done, &w);
	vf_cache_set_ram(c, MIN * BLOCK);
	vf_cache_stats(c, &t);
	CU_ASSERT_EQUAL(t.used_len, 72 * BLOCK);
	vf_cached_read(o, 900 * BLOCK, BLOCK, more, fake_done, &x);
	vf_cache_stats(c, &t);
	CU_ASSERT_EQUAL(t.n_bypass, 1);
	fake_server_pause(s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT_EQUAL(fake_wait_for(&x, 1), 0);
	CU_ASSERT(fake_is_right(1, 0, bytes, sizeof(bytes)));
	CU_ASSERT(fake_is_right(1, 900 * BLOCK, more, BLOCK));
	for (int i = 0; i < hold.n; i++)
		CU_ASSERT(fake_is_right(1, (100 + (unsigned)i) * BLOCK,
					hold.iov[i].iov_base, BLOCK));
	vf_cached_release(&hold);
	read_blocks(o, 500, 2);
	CU_ASSERT_EQUAL(fake_stats(c).used_len, MIN * BLOCK);
	CU_ASSERT_EQUAL(count_resident(c), MIN);
	vf_cached_put(o);
	fake_server_free(s);
	vf_cache_close(c);
}

/* ---- under sixteen readers ------------------------------------------------------------- */

struct resizer {
	struct vf_cache *c;
	atomic_bool stop;
};

static void *resize(void *arg)
{
	struct resizer *r = arg;
	uint64_t seed = 5;

	while (!atomic_load(&r->stop)) {
		vf_cache_set_ram(r->c, vf_test_rand(&seed) % MAX * BLOCK);
		usleep(500);
	}
	return NULL;
}

static void readers_get_right_bytes_while_it_changes(void)
{
	struct fake_server *s = fake_server_new(fake_seed(3));
	struct fake_storm t = {.seed = fake_seed(3),
			       .n_readers = 16,
			       .n_reads = 300,
			       .drop_percent = 5,
			       .resized = true};
	struct resizer r = {.c = open_cache(NULL)};
	pthread_t thread;

	t.c = r.c;
	pthread_create(&thread, NULL, resize, &r);
	fake_storm_run(&t, s);
	atomic_store(&r.stop, true);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(t.n_wrong, 0);
	CU_ASSERT_EQUAL(t.n_failed, 0);
	vf_cache_set_ram(r.c, 50 * BLOCK);
	CU_ASSERT(fake_stats(r.c).used_len <= 50 * BLOCK);
	CU_ASSERT(count_resident(r.c) <= 50);
	CU_ASSERT(r.c->n_resident <= 50);
	fake_storm_end(&t);
	fake_server_free(s);
	vf_cache_close(r.c);
}

static CU_TestInfo tests[] = {
	{"what is too much leaves at once, its memory too",
	 what_is_too_much_leaves_at_once},
	{"it grows again to what was asked, and no farther",
	 it_grows_again_to_what_was_asked},
	{"what is in use follows when that is over",
	 what_is_in_use_follows_when_that_is_over},
	{"readers get right bytes while it changes",
	 readers_get_right_bytes_while_it_changes},
	CU_TEST_INFO_NULL};

VF_SUITE("store/cache_arena", tests);
