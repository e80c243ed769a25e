/*
 * The block cache against known bytes, while a source delays and fails.
 * VF_TEST_SEED=N repeats a run whose seed was printed.
 */
#include "tests/fake_source.h"

enum { BLOCK = FAKE_BLOCK, BLOCKS_MIN = FAKE_BLOCKS_MIN };

/* Exact numbers of fetches are asserted: no read-ahead, the simplest policy. */
static int open_cache(size_t ram_len, size_t block_len, struct vf_cache **out)
{
	return vf_cache_open(&(struct vf_cache_options){.ram_len = ram_len,
							.block_len = block_len,
							.policy = "lru",
							.ahead_len = 1},
			     out);
}

/* Sixteen blocks, one object "1" of @n_blocks, a server. */
struct rig {
	struct fake_server *s;
	struct vf_cache *c;
	struct vf_cached *o;
};

static void open_rig(struct rig *r, unsigned n_blocks)
{
	r->s = fake_server_new(1);
	CU_ASSERT_EQUAL_FATAL(open_cache(BLOCKS_MIN * BLOCK, BLOCK, &r->c), 0);
	r->o = fake_object(r->c, r->s, 1, (uint64_t)n_blocks * BLOCK, NULL);
}

static void close_rig(struct rig *r)
{
	vf_cached_put(r->o);
	fake_server_free(r->s);
	vf_cache_close(r->c);
}

/* ---- one thing at a time ------------------------------------------------------------ */

static void sizes_are_rounded_to_blocks(void)
{
	struct vf_cache_stats s;
	struct vf_cache *c;

	CU_ASSERT_EQUAL_FATAL(open_cache(0, 0, &c), 0);
	vf_cache_stats(c, &s);
	CU_ASSERT_EQUAL(s.block_len, 64 << 10);
	CU_ASSERT_EQUAL(s.ram_len, BLOCKS_MIN * s.block_len);
	CU_ASSERT_EQUAL(s.used_len, 0);
	vf_cache_close(c);
	vf_cache_close(NULL);
	vf_cached_put(NULL);
}

static void what_was_read_is_not_fetched_again(void)
{
	struct rig r;

	open_rig(&r, 8);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 100, 200), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, BLOCK), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, BLOCK - 1, 1), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 1);
	struct vf_cache_stats s = fake_stats(r.c);
	CU_ASSERT(s.n_fetch == 1 && s.n_hit == 2 && s.used_len == BLOCK);
	close_rig(&r);
}

static void reads_of_any_place_are_right(void)
{
	enum { SIZE = 5 * BLOCK + 17 };
	static const uint64_t offs[] = {0,
					1,
					BLOCK - 1,
					BLOCK,
					BLOCK + 1,
					3 * BLOCK,
					5 * BLOCK,
					SIZE - 1,
					SIZE,
					5 * BLOCK - 1,
					2 * BLOCK + 7};
	struct rig r;

	open_rig(&r, 1);
	struct vf_cached *o = fake_object(r.c, r.s, 9, SIZE, NULL);
	for (size_t i = 0; i < VF_N(offs); i++)
		for (size_t k = 0; k < VF_N(offs); k++) {
			size_t len = VF_MIN(offs[k], SIZE - offs[i]);
			CU_ASSERT_EQUAL(fake_read(o, 9, offs[i], len), 0);
		}
	vf_cached_put(o);
	close_rig(&r);
}

static void neighbouring_misses_are_one_fetch(void)
{
	struct rig r;

	open_rig(&r, 8);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 10, 8 * BLOCK - 20), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 1);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_fill, 8);
	close_rig(&r);
	open_rig(&r, 8);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 3), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 8 * BLOCK), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 3); /* 3; 0..2; 4..7 */
	CU_ASSERT_EQUAL(fake_stats(r.c).n_fill, 8);
	close_rig(&r);
}

static void many_readers_of_a_block_share_one_fetch(void)
{
	enum { READERS = 8 };
	uint8_t buf[READERS][BLOCK];
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, 8);
	fake_server_pause(r.s, true);
	for (unsigned i = 0; i < READERS; i++)
		vf_cached_read(r.o, 2 * BLOCK + i, BLOCK - i, buf[i], fake_done,
			       &w);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 1);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, READERS), 0);
	for (unsigned i = 0; i < READERS; i++)
		CU_ASSERT(fake_is_right(1, 2 * BLOCK + i, buf[i], BLOCK - i));
	struct vf_cache_stats s = fake_stats(r.c);
	CU_ASSERT(s.n_fetch == 1 && s.n_wait == READERS - 1);
	close_rig(&r);
}

static void failures_are_told_and_not_kept(void)
{
	struct rig r;

	open_rig(&r, 8);
	fake_server_fail(r.s, 100);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 3 * BLOCK), -EREMOTEIO);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), -EREMOTEIO);
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, 0);
	fake_server_fail(r.s, 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 3 * BLOCK), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 3);
	close_rig(&r);
}

static void the_least_recent_block_leaves_first(void)
{
	struct rig r;

	open_rig(&r, 64);
	for (unsigned i = 0; i < BLOCKS_MIN; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_evict, 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), 0); /* now 1 is the oldest */
	CU_ASSERT_EQUAL(fake_read_block(r.o, 40), 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_evict, 1);
	unsigned before = fake_server_started(r.s);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), 0);
	for (unsigned i = 2; i < BLOCKS_MIN; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 1), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 1);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), 0); /* 40 left, not 0 */
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 1);
	close_rig(&r);
}

static void reads_larger_than_the_cache_complete(void)
{
	struct rig r;

	open_rig(&r, 1000);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 1000 * BLOCK), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 77, 500 * BLOCK), 0);
	CU_ASSERT(fake_stats(r.c).n_bypass > 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 999), 0);
	close_rig(&r);
}

static void with_all_blocks_under_way_reads_go_past(void)
{
	uint8_t buf[BLOCKS_MIN + 2][BLOCK];
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, 64);
	fake_server_pause(r.s, true);
	for (unsigned i = 0; i < BLOCKS_MIN + 2; i++)
		vf_cached_read(r.o, 3ull * i * BLOCK, BLOCK, buf[i], fake_done,
			       &w);
	struct vf_cache_stats s = fake_stats(r.c);
	CU_ASSERT(s.n_bypass == 2 && s.n_evict == 0);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, BLOCKS_MIN + 2), 0);
	for (unsigned i = 0; i < BLOCKS_MIN + 2; i++)
		CU_ASSERT(fake_is_right(1, 3ull * i * BLOCK, buf[i], BLOCK));
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, BLOCKS_MIN * BLOCK);
	close_rig(&r);
}

static void an_object_opened_again_finds_its_blocks(void)
{
	atomic_uint n_freed = 0;
	struct rig r;

	open_rig(&r, 8);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 5), 0);
	struct vf_cached *again = fake_object(r.c, r.s, 1, 8 * BLOCK, &n_freed);
	struct vf_cached *other = fake_object(r.c, r.s, 2, 8 * BLOCK, &n_freed);
	CU_ASSERT_EQUAL(fake_read_block(again, 5), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 1);
	CU_ASSERT_EQUAL(fake_read(other, 2, 5 * BLOCK, BLOCK), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 2);
	vf_cached_put(again);
	vf_cached_put(other);
	close_rig(&r);
	CU_ASSERT_EQUAL(n_freed, 2);
}

static void an_object_put_while_fetching_lives_until_done(void)
{
	atomic_uint n_freed = 0;
	uint8_t buf[BLOCK];
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, 8);
	struct vf_cached *o = fake_object(r.c, r.s, 3, 8 * BLOCK, &n_freed);
	fake_server_pause(r.s, true);
	vf_cached_read(o, 0, BLOCK, buf, fake_done, &w);
	vf_cached_put(o);
	CU_ASSERT_EQUAL(n_freed, 0);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT(fake_is_right(3, 0, buf, BLOCK));
	close_rig(&r);
	CU_ASSERT_EQUAL(n_freed, 1);
}

/*
 * Symptom: a lock used after it was destroyed.  Cause: the completing thread
 * touched the block once more after it had told the last reader.
 */
static void the_cache_may_close_once_all_readers_are_told(void)
{
	for (int i = 0; i < 300; i++) {
		struct fake_server *s = fake_server_new((uint64_t)i);
		struct vf_cache *c;
		CU_ASSERT_EQUAL_FATAL(open_cache(BLOCKS_MIN * BLOCK, BLOCK, &c),
				      0);
		struct vf_cached *o = fake_object(c, s, 1, 20 * BLOCK, NULL);
		CU_ASSERT_EQUAL(fake_read(o, 1, 0, 20 * BLOCK), 0);
		vf_cached_put(o);
		vf_cache_close(c);
		fake_server_free(s);
	}
}

/* ---- everything at once --------------------------------------------------------------- */

static void run_random(uint64_t seed, size_t ram_len, unsigned fail_percent)
{
	struct fake_server *s = fake_server_new(seed);
	struct fake_storm t = {.seed = seed, .n_readers = 4, .n_reads = 1500};

	s->max_delay_us = 60;
	s->fail_percent = fail_percent;
	CU_ASSERT_EQUAL_FATAL(open_cache(ram_len, BLOCK, &t.c), 0);
	fake_storm_run(&t, s);
	CU_ASSERT(fail_percent ? t.n_failed > 0 : t.n_failed == 0);
	fake_server_fail(s, 0);
	fake_storm_end(&t);
	fake_server_free(s);
	vf_cache_close(t.c);
}

static void random_reads_give_the_known_bytes(void)
{
	uint64_t seed = fake_seed(20240);

	run_random(seed, BLOCKS_MIN * BLOCK, 0);
	run_random(seed + 1, BLOCKS_MIN * BLOCK, 5);
	run_random(seed + 2, 100 * BLOCK, 5);
	run_random(seed + 3, 1000 * BLOCK, 0);
}

static CU_TestInfo tests[] = {
	{"sizes are rounded to blocks", sizes_are_rounded_to_blocks},
	{"what was read is not fetched again",
	 what_was_read_is_not_fetched_again},
	{"reads of any place are right", reads_of_any_place_are_right},
	{"neighbouring misses are one fetch",
	 neighbouring_misses_are_one_fetch},
	{"many readers of a block share one fetch",
	 many_readers_of_a_block_share_one_fetch},
	{"failures are told and not kept", failures_are_told_and_not_kept},
	{"the least recent block leaves first",
	 the_least_recent_block_leaves_first},
	{"reads larger than the cache complete",
	 reads_larger_than_the_cache_complete},
	{"with all blocks under way reads go past",
	 with_all_blocks_under_way_reads_go_past},
	{"an object opened again finds its blocks",
	 an_object_opened_again_finds_its_blocks},
	{"an object put while fetching lives until done",
	 an_object_put_while_fetching_lives_until_done},
	{"the cache may close once all readers are told",
	 the_cache_may_close_once_all_readers_are_told},
	{"random reads give the known bytes",
	 random_reads_give_the_known_bytes},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/cache", tests);
