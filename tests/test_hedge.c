/* Fetches sent a second time: when, how often, and whose bytes count. */
#include "store/hedge.h"
#include "tests/fake_source.h"

enum { BLOCK = FAKE_BLOCK, N = 4096, WARM = 200 /* fetches: enough samples */ };

struct rig {
	struct fake_server *s;
	struct vf_cache *c;
	struct vf_cached *o;
	unsigned n_next; /* block not read before */
};

static void open_rig(struct rig *r, unsigned flags)
{
	struct vf_cache_options opt = {.ram_len = FAKE_BLOCKS_MIN * BLOCK,
				       .block_len = BLOCK,
				       .policy = "lru",
				       .ahead_len = 1,
				       .hedge = 99};

	*r = (struct rig){.s = fake_server_new(1)};
	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &r->c), 0);
	r->o = fake_object_as(r->c, r->s, 1, (uint64_t)N * BLOCK, flags, NULL);
}

static void close_rig(struct rig *r)
{
	vf_cached_put(r->o);
	vf_cache_stop(r->c);
	fake_server_free(r->s);
	vf_cache_close(r->c);
}

static void warm(struct rig *r)
{
	for (unsigned i = 0; i < WARM; i++)
		CU_ASSERT_EQUAL(fake_read_block(r->o, r->n_next++), 0);
}

static void a_late_fetch_is_sent_again(void)
{
	struct vf_cache_stats s;
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	unsigned before = fake_server_started(r.s);
	s = fake_stats(r.c);
	uint64_t n = s.n_hedge, won = s.n_hedge_won;
	fake_server_hold(r.s, 1);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 1000), 0); /* by the second */
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 2);
	CU_ASSERT_EQUAL(fake_server_off(r.s, before), 1000 * BLOCK);
	CU_ASSERT_EQUAL(fake_server_off(r.s, before + 1), 1000 * BLOCK);
	s = fake_stats(r.c);
	CU_ASSERT(s.n_hedge == n + 1 && s.n_hedge_won == won + 1);
	CU_ASSERT_EQUAL(s.n_flying, 0);
	close_rig(&r);
}

static void the_loser_writes_to_nobodys_block(void)
{
	struct vf_hold h;
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	fake_server_hold(r.s, 1);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 1000), 0);
	/* its block goes to others, all of the arena is used anew */
	for (unsigned i = 2000; i < 2000 + 2 * FAKE_BLOCKS_MIN; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	fake_server_hold(r.s, 0);
	usleep(20000);
	for (unsigned i = 2000 + FAKE_BLOCKS_MIN;
	     i < 2000 + 2 * FAKE_BLOCKS_MIN; i++) {
		CU_ASSERT_FATAL(
			vf_cached_hold(r.o, (uint64_t)i * BLOCK, BLOCK, &h));
		CU_ASSERT(fake_is_right(1, (uint64_t)i * BLOCK,
					h.iov[0].iov_base, BLOCK));
		vf_cached_release(&h);
	}
	close_rig(&r);
}

static void the_loser_may_come_after_the_object_was_put(void)
{
	atomic_uint n_freed = 0;
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	struct vf_cached *o = fake_object(r.c, r.s, 2, 9 * BLOCK, &n_freed);
	fake_server_hold(r.s, 1);
	CU_ASSERT_EQUAL(fake_read(o, 2, 0, 9 * BLOCK), 0);
	vf_cached_put(o);
	usleep(5000);
	CU_ASSERT_EQUAL(n_freed, 0);
	fake_server_hold(r.s, 0);
	close_rig(&r);
	CU_ASSERT_EQUAL(n_freed, 1);
}

static void few_samples_mean_no_second_request(void)
{
	struct rig r;

	open_rig(&r, 0);
	for (unsigned i = 0; i < 60; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	uint8_t buf[BLOCK];
	struct fake_wait w = FAKE_WAIT;
	fake_server_hold(r.s, 1);
	vf_cached_read(r.o, 1000 * BLOCK, BLOCK, buf, fake_done, &w);
	usleep(50000);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 61);
	fake_server_hold(r.s, 0);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT(fake_is_right(1, 1000 * BLOCK, buf, BLOCK));
	CU_ASSERT_EQUAL(fake_stats(r.c).n_hedge, 0);
	close_rig(&r);
}

static void at_most_one_in_twenty(void)
{
	enum { READS = 200 };
	uint8_t *buf = malloc((size_t)READS * BLOCK);
	struct fake_wait w = FAKE_WAIT;
	struct vf_cache_stats s;
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	fake_server_pause(r.s, true);
	/* past a small cache most go: only those of blocks are sent again */
	for (unsigned i = 0; i < READS; i++)
		vf_cached_read(r.o, (1000 + 2ull * i) * BLOCK, BLOCK,
			       buf + (size_t)i * BLOCK, fake_done, &w);
	for (unsigned i = 0; i < 10000 && !fake_stats(r.c).n_hedge; i++)
		usleep(1000);
	usleep(20000);
	s = fake_stats(r.c);
	CU_ASSERT(s.n_hedge >= 1 && s.n_hedge <= s.n_fetch / 20);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, READS), 0);
	for (unsigned i = 0; i < READS; i++)
		CU_ASSERT(fake_is_right(1, (1000 + 2ull * i) * BLOCK,
					buf + (size_t)i * BLOCK, BLOCK));
	free(buf);
	close_rig(&r);
}

static void an_error_waits_for_the_other_answer(void)
{
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	/* the first is held, the second fails, then the first answers */
	uint8_t buf[BLOCK];
	struct fake_wait w = FAKE_WAIT;
	unsigned before = fake_server_started(r.s);
	fake_server_hold(r.s, 1);
	fake_server_fail(r.s, 100);
	vf_cached_read(r.o, 1000 * BLOCK, BLOCK, buf, fake_done, &w);
	CU_ASSERT(fake_server_wait(r.s, before + 2));
	usleep(5000);
	pthread_mutex_lock(&w.mtx);
	CU_ASSERT_EQUAL(w.n_done, 0);
	pthread_mutex_unlock(&w.mtx);
	fake_server_fail(r.s, 0);
	fake_server_hold(r.s, 0);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT(fake_is_right(1, 1000 * BLOCK, buf, BLOCK));
	/* both fail: told once, nothing kept */
	fake_server_fail(r.s, 100);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 1100), -EREMOTEIO);
	fake_server_fail(r.s, 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 1100), 0);
	close_rig(&r);
}

static void what_is_made_from_cached_bytes_is_not(void)
{
	struct rig r;

	open_rig(&r, VF_CACHED_RAM_ONLY);
	warm(&r);
	fake_server_pause(r.s, true);
	uint8_t buf[BLOCK];
	struct fake_wait w = FAKE_WAIT;
	vf_cached_read(r.o, 1000 * BLOCK, BLOCK, buf, fake_done, &w);
	usleep(30000);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_hedge, 0);
	close_rig(&r);
}

static void stopped_no_second_request_is_sent(void)
{
	struct rig r;

	open_rig(&r, 0);
	warm(&r);
	uint8_t buf[BLOCK];
	struct fake_wait w = FAKE_WAIT;
	uint64_t n = fake_stats(r.c).n_hedge;
	fake_server_pause(r.s, true);
	vf_cached_read(r.o, 1000 * BLOCK, BLOCK, buf, fake_done, &w);
	vf_cache_stop(r.c);
	usleep(30000);
	CU_ASSERT(fake_stats(r.c).n_hedge <= n + 1);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	close_rig(&r);
}

static void percentiles_that_are_none_are_refused(void)
{
	struct vf_hedge *h;
	struct vf_cache *c;

	CU_ASSERT_EQUAL(vf_hedge_open(0, &h), -EINVAL);
	CU_ASSERT_EQUAL(vf_hedge_open(100, &h), -EINVAL);
	CU_ASSERT_EQUAL(vf_cache_open(&(struct vf_cache_options){.hedge = 100},
				      &c),
			-EINVAL);
	vf_hedge_stop(NULL);
	vf_hedge_close(NULL);
}

static void random_reads_give_the_known_bytes(void)
{
	struct fake_storm t = {
		.seed = fake_seed(99), .n_readers = 16, .n_reads = 200};
	struct fake_server *s = fake_server_new(t.seed);
	struct vf_cache_options opt = {
		.ram_len = 40 * BLOCK, .block_len = BLOCK, .hedge = 50};

	s->max_delay_us = 2000;
	s->fail_percent = 5;
	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &t.c), 0);
	fake_storm_run(&t, s);
	CU_ASSERT(fake_stats(t.c).n_hedge > 0);
	fake_server_fail(s, 0);
	fake_storm_end(&t);
	vf_cache_stop(t.c);
	fake_server_free(s);
	vf_cache_close(t.c);
}

static CU_TestInfo tests[] = {
	{"a late fetch is sent again", a_late_fetch_is_sent_again},
	{"the loser writes to nobody's block",
	 the_loser_writes_to_nobodys_block},
	{"the loser may come after the object was put",
	 the_loser_may_come_after_the_object_was_put},
	{"few samples mean no second request",
	 few_samples_mean_no_second_request},
	{"at most one in twenty", at_most_one_in_twenty},
	{"an error waits for the other answer",
	 an_error_waits_for_the_other_answer},
	{"what is made from cached bytes is not",
	 what_is_made_from_cached_bytes_is_not},
	{"stopped, no second request is sent",
	 stopped_no_second_request_is_sent},
	{"percentiles that are none are refused",
	 percentiles_that_are_none_are_refused},
	{"random reads give the known bytes",
	 random_reads_give_the_known_bytes},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/hedge", tests);
