/*
 * The block cache against known bytes, while a source delays and fails.
 * VF_TEST_SEED=N repeats a run whose seed was printed.
 */
#include "store/cache.h"
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { BLOCK = 4096, BLOCKS_MIN = 16, JOBS_MAX = 4096 };

/* What object @id holds at @off. */
static uint8_t byte_at(uint8_t id, uint64_t off)
{
	return (uint8_t)((off * 0x9e3779b97f4a7c15 + id) >> 32);
}

/* Exact numbers of fetches are asserted: no read-ahead, the simplest policy. */
static int open_cache(size_t ram_len, size_t block_len, struct vf_cache **out)
{
	return vf_cache_open(&(struct vf_cache_options){.ram_len = ram_len,
							.block_len = block_len,
							.policy = "lru",
							.ahead_len = 1},
			     out);
}

/* ---- a source that answers from threads of its own ---------------------------- */

struct job {
	struct fake *source;
	uint64_t off;
	size_t len;
	uint8_t *buf;
	vf_fetch_fn *done;
	void *arg;
};

struct server {
	pthread_mutex_t mtx;
	pthread_cond_t more;
	struct job jobs[JOBS_MAX]; /* [mtx] and all below */
	unsigned n_jobs, n_started, max_delay_us, fail_percent;
	bool paused, stop;
	uint64_t seed;
	pthread_t thread[2];
};

struct fake {
	struct vf_source base;
	struct server *server;
	uint8_t id;
	atomic_uint *n_freed;
};

static void answer(const struct job *j, bool fail)
{
	for (size_t i = 0; !fail && i < j->len; i++)
		j->buf[i] = byte_at(j->source->id, j->off + i);
	j->done(j->arg, fail ? -EREMOTEIO : 0);
}

static void *serve(void *arg)
{
	struct server *s = arg;

	pthread_mutex_lock(&s->mtx);
	for (;;) {
		while (!s->stop && (s->paused || !s->n_jobs))
			pthread_cond_wait(&s->more, &s->mtx);
		if (s->stop && !s->n_jobs)
			break;
		size_t i = vf_test_rand(&s->seed) % s->n_jobs;
		struct job j = s->jobs[i];
		s->jobs[i] = s->jobs[--s->n_jobs];
		bool fail = vf_test_rand(&s->seed) % 100 < s->fail_percent;
		unsigned us = s->max_delay_us
				      ? (unsigned)(vf_test_rand(&s->seed) %
						   s->max_delay_us)
				      : 0;
		pthread_mutex_unlock(&s->mtx);
		if (us)
			usleep(us);
		answer(&j, fail);
		pthread_mutex_lock(&s->mtx);
	}
	pthread_mutex_unlock(&s->mtx);
	return NULL;
}

static struct server *new_server(uint64_t seed)
{
	struct server *s = calloc(1, sizeof(*s));

	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->more, NULL);
	s->seed = seed;
	for (size_t i = 0; i < VF_N(s->thread); i++)
		pthread_create(&s->thread[i], NULL, serve, s);
	return s;
}

static void free_server(struct server *s)
{
	pthread_mutex_lock(&s->mtx);
	s->stop = true;
	s->paused = false;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->mtx);
	for (size_t i = 0; i < VF_N(s->thread); i++)
		pthread_join(s->thread[i], NULL);
	pthread_cond_destroy(&s->more);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}

static void pause_server(struct server *s, bool paused)
{
	pthread_mutex_lock(&s->mtx);
	s->paused = paused;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->mtx);
}

static unsigned n_started(struct server *s)
{
	pthread_mutex_lock(&s->mtx);
	unsigned n = s->n_started;
	pthread_mutex_unlock(&s->mtx);
	return n;
}

static void fake_start(struct vf_source *base, uint64_t off, size_t len,
		       void *buf, vf_fetch_fn *done, void *arg)
{
	struct fake *f = (struct fake *)base;
	struct server *s = f->server;

	pthread_mutex_lock(&s->mtx);
	assert(s->n_jobs < JOBS_MAX);
	s->jobs[s->n_jobs++] = (struct job){f, off, len, buf, done, arg};
	s->n_started++;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->mtx);
}

static void fake_free(struct vf_source *base)
{
	struct fake *f = (struct fake *)base;

	if (f->n_freed)
		atomic_fetch_add(f->n_freed, 1);
	free(f);
}

static struct vf_cached *open_object(struct vf_cache *c, struct server *s,
				     uint8_t id, uint64_t size,
				     atomic_uint *n_freed)
{
	struct fake *f = calloc(1, sizeof(*f));
	struct vf_cached *o = NULL;
	uint8_t full_id[16] = {[0] = 1, [15] = id};

	*f = (struct fake){{fake_start, fake_free}, s, id, n_freed};
	CU_ASSERT_EQUAL_FATAL(
		vf_cached_open(c, full_id, size, "x", 0, &f->base, &o), 0);
	return o;
}

/* ---- a read that can be waited for ---------------------------------------------- */

struct wait {
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	unsigned n_done; /* [mtx] */
	int err;
};

#define WAIT                                                                   \
	((struct wait){.mtx = PTHREAD_MUTEX_INITIALIZER,                       \
		       .cond = PTHREAD_COND_INITIALIZER})

static void note_done(void *arg, int err)
{
	struct wait *w = arg;

	pthread_mutex_lock(&w->mtx);
	w->n_done++;
	if (err)
		w->err = err;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

static int wait_for(struct wait *w, unsigned n)
{
	pthread_mutex_lock(&w->mtx);
	while (w->n_done < n)
		pthread_cond_wait(&w->cond, &w->mtx);
	int err = w->err;
	pthread_mutex_unlock(&w->mtx);
	return err;
}

static bool is_right(uint8_t id, uint64_t off, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (b[i] != byte_at(id, off + i))
			return false;
	return true;
}

/* Read, wait and compare; the error or 0. */
static int read_now(struct vf_cached *o, uint8_t id, uint64_t off, size_t len)
{
	VF_AUTO_FREE uint8_t *buf = malloc(len + !len);
	struct wait w = WAIT;

	vf_cached_read(o, off, len, buf, note_done, &w);
	int err = wait_for(&w, 1);
	if (!err && !is_right(id, off, buf, len))
		CU_FAIL("wrong bytes");
	return err;
}

static int read_block(struct vf_cached *o, unsigned number)
{
	return read_now(o, 1, (uint64_t)number * BLOCK, BLOCK);
}

static struct vf_cache_stats stats_of(struct vf_cache *c)
{
	struct vf_cache_stats s;

	vf_cache_stats(c, &s);
	CU_ASSERT(s.used_len <= s.ram_len);
	CU_ASSERT_EQUAL(s.n_miss, s.n_wait + s.n_fill + s.n_bypass);
	return s;
}

/* Sixteen blocks, one object "1" of @n_blocks, a server. */
struct rig {
	struct server *s;
	struct vf_cache *c;
	struct vf_cached *o;
};

static void open_rig(struct rig *r, unsigned n_blocks)
{
	r->s = new_server(1);
	CU_ASSERT_EQUAL_FATAL(open_cache(BLOCKS_MIN * BLOCK, BLOCK, &r->c), 0);
	r->o = open_object(r->c, r->s, 1, (uint64_t)n_blocks * BLOCK, NULL);
}

static void close_rig(struct rig *r)
{
	vf_cached_put(r->o);
	free_server(r->s);
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
	CU_ASSERT_EQUAL(read_now(r.o, 1, 100, 200), 0);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 0, BLOCK), 0);
	CU_ASSERT_EQUAL(read_now(r.o, 1, BLOCK - 1, 1), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 1);
	struct vf_cache_stats s = stats_of(r.c);
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
	struct vf_cached *o = open_object(r.c, r.s, 9, SIZE, NULL);
	for (size_t i = 0; i < VF_N(offs); i++)
		for (size_t k = 0; k < VF_N(offs); k++) {
			size_t len = VF_MIN(offs[k], SIZE - offs[i]);
			CU_ASSERT_EQUAL(read_now(o, 9, offs[i], len), 0);
		}
	vf_cached_put(o);
	close_rig(&r);
}

static void neighbouring_misses_are_one_fetch(void)
{
	struct rig r;

	open_rig(&r, 8);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 10, 8 * BLOCK - 20), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 1);
	CU_ASSERT_EQUAL(stats_of(r.c).n_fill, 8);
	close_rig(&r);
	open_rig(&r, 8);
	CU_ASSERT_EQUAL(read_block(r.o, 3), 0);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 0, 8 * BLOCK), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 3); /* 3; 0..2; 4..7 */
	CU_ASSERT_EQUAL(stats_of(r.c).n_fill, 8);
	close_rig(&r);
}

static void many_readers_of_a_block_share_one_fetch(void)
{
	enum { READERS = 8 };
	uint8_t buf[READERS][BLOCK];
	struct wait w = WAIT;
	struct rig r;

	open_rig(&r, 8);
	pause_server(r.s, true);
	for (unsigned i = 0; i < READERS; i++)
		vf_cached_read(r.o, 2 * BLOCK + i, BLOCK - i, buf[i], note_done,
			       &w);
	CU_ASSERT_EQUAL(n_started(r.s), 1);
	pause_server(r.s, false);
	CU_ASSERT_EQUAL(wait_for(&w, READERS), 0);
	for (unsigned i = 0; i < READERS; i++)
		CU_ASSERT(is_right(1, 2 * BLOCK + i, buf[i], BLOCK - i));
	struct vf_cache_stats s = stats_of(r.c);
	CU_ASSERT(s.n_fetch == 1 && s.n_wait == READERS - 1);
	close_rig(&r);
}

static void set_failures(struct server *s, unsigned percent)
{
	pthread_mutex_lock(&s->mtx);
	s->fail_percent = percent;
	pthread_mutex_unlock(&s->mtx);
}

static void failures_are_told_and_not_kept(void)
{
	struct rig r;

	open_rig(&r, 8);
	set_failures(r.s, 100);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 0, 3 * BLOCK), -EREMOTEIO);
	CU_ASSERT_EQUAL(read_block(r.o, 0), -EREMOTEIO);
	CU_ASSERT_EQUAL(stats_of(r.c).used_len, 0);
	set_failures(r.s, 0);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 0, 3 * BLOCK), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 3);
	close_rig(&r);
}

static void the_least_recent_block_leaves_first(void)
{
	struct rig r;

	open_rig(&r, 64);
	for (unsigned i = 0; i < BLOCKS_MIN; i++)
		CU_ASSERT_EQUAL(read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(stats_of(r.c).n_evict, 0);
	CU_ASSERT_EQUAL(read_block(r.o, 0), 0); /* now 1 is the oldest */
	CU_ASSERT_EQUAL(read_block(r.o, 40), 0);
	CU_ASSERT_EQUAL(stats_of(r.c).n_evict, 1);
	unsigned before = n_started(r.s);
	CU_ASSERT_EQUAL(read_block(r.o, 0), 0);
	for (unsigned i = 2; i < BLOCKS_MIN; i++)
		CU_ASSERT_EQUAL(read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(n_started(r.s), before);
	CU_ASSERT_EQUAL(read_block(r.o, 1), 0);
	CU_ASSERT_EQUAL(n_started(r.s), before + 1);
	CU_ASSERT_EQUAL(read_block(r.o, 0), 0); /* 40 left, not 0 */
	CU_ASSERT_EQUAL(n_started(r.s), before + 1);
	close_rig(&r);
}

static void reads_larger_than_the_cache_complete(void)
{
	struct rig r;

	open_rig(&r, 1000);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 0, 1000 * BLOCK), 0);
	CU_ASSERT_EQUAL(read_now(r.o, 1, 77, 500 * BLOCK), 0);
	CU_ASSERT(stats_of(r.c).n_bypass > 0);
	CU_ASSERT_EQUAL(read_block(r.o, 999), 0);
	close_rig(&r);
}

static void with_all_blocks_under_way_reads_go_past(void)
{
	uint8_t buf[BLOCKS_MIN + 2][BLOCK];
	struct wait w = WAIT;
	struct rig r;

	open_rig(&r, 64);
	pause_server(r.s, true);
	for (unsigned i = 0; i < BLOCKS_MIN + 2; i++)
		vf_cached_read(r.o, 3ull * i * BLOCK, BLOCK, buf[i], note_done,
			       &w);
	struct vf_cache_stats s = stats_of(r.c);
	CU_ASSERT(s.n_bypass == 2 && s.n_evict == 0);
	pause_server(r.s, false);
	CU_ASSERT_EQUAL(wait_for(&w, BLOCKS_MIN + 2), 0);
	for (unsigned i = 0; i < BLOCKS_MIN + 2; i++)
		CU_ASSERT(is_right(1, 3ull * i * BLOCK, buf[i], BLOCK));
	CU_ASSERT_EQUAL(stats_of(r.c).used_len, BLOCKS_MIN * BLOCK);
	close_rig(&r);
}

static void an_object_opened_again_finds_its_blocks(void)
{
	atomic_uint n_freed = 0;
	struct rig r;

	open_rig(&r, 8);
	CU_ASSERT_EQUAL(read_block(r.o, 5), 0);
	struct vf_cached *again = open_object(r.c, r.s, 1, 8 * BLOCK, &n_freed);
	struct vf_cached *other = open_object(r.c, r.s, 2, 8 * BLOCK, &n_freed);
	CU_ASSERT_EQUAL(read_block(again, 5), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 1);
	CU_ASSERT_EQUAL(read_now(other, 2, 5 * BLOCK, BLOCK), 0);
	CU_ASSERT_EQUAL(n_started(r.s), 2);
	vf_cached_put(again);
	vf_cached_put(other);
	close_rig(&r);
	CU_ASSERT_EQUAL(n_freed, 2);
}

static void an_object_put_while_fetching_lives_until_done(void)
{
	atomic_uint n_freed = 0;
	uint8_t buf[BLOCK];
	struct wait w = WAIT;
	struct rig r;

	open_rig(&r, 8);
	struct vf_cached *o = open_object(r.c, r.s, 3, 8 * BLOCK, &n_freed);
	pause_server(r.s, true);
	vf_cached_read(o, 0, BLOCK, buf, note_done, &w);
	vf_cached_put(o);
	CU_ASSERT_EQUAL(n_freed, 0);
	pause_server(r.s, false);
	CU_ASSERT_EQUAL(wait_for(&w, 1), 0);
	CU_ASSERT(is_right(3, 0, buf, BLOCK));
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
		struct server *s = new_server((uint64_t)i);
		struct vf_cache *c;
		CU_ASSERT_EQUAL_FATAL(open_cache(BLOCKS_MIN * BLOCK, BLOCK, &c),
				      0);
		struct vf_cached *o = open_object(c, s, 1, 20 * BLOCK, NULL);
		CU_ASSERT_EQUAL(read_now(o, 1, 0, 20 * BLOCK), 0);
		vf_cached_put(o);
		vf_cache_close(c);
		free_server(s);
	}
}

/* ---- everything at once --------------------------------------------------------------- */

enum { OBJECTS = 5, READERS = 4, READS = 1500 };

struct reader {
	struct vf_cached *const *o;
	const uint64_t *size;
	uint64_t seed;
	unsigned n_failed, n_wrong;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc(40 * BLOCK);

	for (int i = 0; i < READS; i++) {
		unsigned k = (unsigned)(vf_test_rand(&r->seed) % OBJECTS);
		uint64_t off = vf_test_rand(&r->seed) % (r->size[k] + 1);
		bool large = vf_test_rand(&r->seed) % 16 == 0;
		size_t len = vf_test_rand(&r->seed) %
			     (large ? 40 * BLOCK : 3 * BLOCK);
		struct wait w = WAIT;
		len = VF_MIN((uint64_t)len, r->size[k] - off);
		memset(buf, 0, len);
		vf_cached_read(r->o[k], off, len, buf, note_done, &w);
		if (wait_for(&w, 1))
			r->n_failed++;
		else if (!is_right((uint8_t)k, off, buf, len))
			r->n_wrong++;
	}
	free(buf);
	return NULL;
}

static void run_random(uint64_t seed, size_t ram_len, unsigned fail_percent)
{
	static const uint64_t size[OBJECTS] = {0, 1, BLOCK, 30 * BLOCK + 5,
					       100 * BLOCK};
	struct server *s = new_server(seed);
	struct vf_cached *o[OBJECTS];
	struct reader r[READERS];
	pthread_t t[READERS];
	struct vf_cache *c;
	unsigned n_failed = 0, n_wrong = 0;

	s->max_delay_us = 60;
	s->fail_percent = fail_percent;
	CU_ASSERT_EQUAL_FATAL(open_cache(ram_len, BLOCK, &c), 0);
	for (unsigned i = 0; i < OBJECTS; i++)
		o[i] = open_object(c, s, (uint8_t)i, size[i], NULL);
	for (unsigned i = 0; i < READERS; i++) {
		r[i] = (struct reader){o, size, seed + i, 0, 0};
		pthread_create(&t[i], NULL, read_at_random, &r[i]);
	}
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(t[i], NULL);
		n_failed += r[i].n_failed;
		n_wrong += r[i].n_wrong;
	}
	CU_ASSERT_EQUAL(n_wrong, 0);
	CU_ASSERT(fail_percent ? n_failed > 0 : n_failed == 0);
	if (n_wrong)
		fprintf(stderr, "VF_TEST_SEED=%llu\n",
			(unsigned long long)seed);
	stats_of(c);
	s->fail_percent = 0; /* nothing is under way */
	for (unsigned i = 0; i < OBJECTS; i++) {
		CU_ASSERT_EQUAL(read_now(o[i], (uint8_t)i, 0, size[i]), 0);
		vf_cached_put(o[i]);
	}
	free_server(s);
	vf_cache_close(c);
}

static void random_reads_give_the_known_bytes(void)
{
	const char *given = getenv("VF_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 20240;

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
