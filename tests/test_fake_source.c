/*
 * What suites of the cache share; itself no suite.
 */
#include "tests/fake_source.h"

#include <stdio.h>

struct fake {
	struct vf_source base;
	struct fake_server *server;
	uint8_t id;
	atomic_uint *n_freed;
};

struct fake_job {
	struct fake *source;
	uint64_t off;
	size_t len;
	uint8_t *buf;
	vf_fetch_fn *done;
	void *arg;
	bool held;
};

bool fake_is_right(uint8_t id, uint64_t off, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (b[i] != fake_byte(id, off + i))
			return false;
	return true;
}

/* ---- the server -------------------------------------------------------------------- */

static void answer(const struct fake_job *j, bool fail)
{
	for (size_t i = 0; !fail && i < j->len; i++)
		j->buf[i] = fake_byte(j->source->id, j->off + i);
	j->done(j->arg, fail ? -EREMOTEIO : 0);
}

/* Any job that is not held; caller holds mtx. */
static bool take_job(struct fake_server *s, struct fake_job *out)
{
	unsigned first;

	if (!s->n_jobs || (s->paused && !s->stop))
		return false;
	first = (unsigned)(vf_test_rand(&s->seed) % s->n_jobs);
	for (unsigned i = 0; i < s->n_jobs; i++) {
		unsigned at = (first + i) % s->n_jobs;
		if (s->jobs[at].held)
			continue;
		*out = s->jobs[at];
		s->jobs[at] = s->jobs[--s->n_jobs];
		return true;
	}
	return false;
}

static bool draw_failure(struct fake_server *s)
{
	return vf_test_rand(&s->seed) % 100 < s->fail_percent;
}

static void *serve(void *arg)
{
	struct fake_server *s = arg;
	struct fake_job j;

	pthread_mutex_lock(&s->mtx);
	for (;;) {
		bool taken = take_job(s, &j);
		if (!taken && s->stop)
			break;
		if (!taken) {
			pthread_cond_wait(&s->more, &s->mtx);
			continue;
		}
		bool fail = draw_failure(s);
		unsigned us = 0;
		if (s->max_delay_us)
			us = (unsigned)(vf_test_rand(&s->seed) %
					s->max_delay_us);
		pthread_mutex_unlock(&s->mtx);
		if (us)
			usleep(us);
		answer(&j, fail);
		pthread_mutex_lock(&s->mtx);
	}
	pthread_mutex_unlock(&s->mtx);
	return NULL;
}

struct fake_server *fake_server_new(uint64_t seed)
{
	struct fake_server *s = calloc(1, sizeof(*s));

	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->more, NULL);
	s->jobs = calloc(FAKE_JOBS_MAX, sizeof(*s->jobs));
	s->seed = seed;
	for (size_t i = 0; i < VF_N(s->thread); i++)
		pthread_create(&s->thread[i], NULL, serve, s);
	return s;
}

void fake_server_free(struct fake_server *s)
{
	fake_server_hold(s, 0);
	pthread_mutex_lock(&s->mtx);
	s->stop = true;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->mtx);
	for (size_t i = 0; i < VF_N(s->thread); i++)
		pthread_join(s->thread[i], NULL);
	pthread_cond_destroy(&s->more);
	pthread_mutex_destroy(&s->mtx);
	free(s->jobs);
	free(s);
}

void fake_server_pause(struct fake_server *s, bool paused)
{
	pthread_mutex_lock(&s->mtx);
	s->paused = paused;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->mtx);
}

void fake_server_hold(struct fake_server *s, unsigned n)
{
	pthread_mutex_lock(&s->mtx);
	s->n_hold = n;
	for (unsigned i = 0; !n && i < s->n_jobs; i++)
		s->jobs[i].held = false;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->mtx);
}

void fake_server_at_once(struct fake_server *s, bool at_once)
{
	pthread_mutex_lock(&s->mtx);
	s->at_once = at_once;
	pthread_mutex_unlock(&s->mtx);
}

void fake_server_fail(struct fake_server *s, unsigned percent)
{
	pthread_mutex_lock(&s->mtx);
	s->fail_percent = percent;
	pthread_mutex_unlock(&s->mtx);
}

unsigned fake_server_started(struct fake_server *s)
{
	pthread_mutex_lock(&s->mtx);
	unsigned n = s->n_started;
	pthread_mutex_unlock(&s->mtx);
	return n;
}

uint64_t fake_server_off(struct fake_server *s, unsigned i)
{
	pthread_mutex_lock(&s->mtx);
	uint64_t off = i < s->n_started ? s->log[i].off : UINT64_MAX;
	pthread_mutex_unlock(&s->mtx);
	return off;
}

bool fake_server_wait(struct fake_server *s, unsigned n)
{
	for (unsigned i = 0; i < 20000; i++) {
		if (fake_server_started(s) >= n)
			return true;
		usleep(500);
	}
	return false;
}

/* ---- its objects ---------------------------------------------------------------------- */

static void fake_start(struct vf_source *base, uint64_t off, size_t len,
		       void *buf, vf_fetch_fn *done, void *arg)
{
	struct fake *f = (struct fake *)base;
	struct fake_server *s = f->server;
	struct fake_job j = {f, off, len, buf, done, arg, false};

	pthread_mutex_lock(&s->mtx);
	if (s->n_started < VF_N(s->log)) {
		s->log[s->n_started].off = off;
		s->log[s->n_started].len = len;
	}
	s->n_started++;
	if (s->at_once) {
		bool fail = draw_failure(s);
		pthread_mutex_unlock(&s->mtx);
		answer(&j, fail);
		return;
	}
	assert(s->n_jobs < FAKE_JOBS_MAX);
	if (s->n_hold) {
		s->n_hold--;
		j.held = true;
	}
	s->jobs[s->n_jobs++] = j;
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

struct vf_cached *fake_object_as(struct vf_cache *c, struct fake_server *s,
				 uint8_t id, uint64_t size, unsigned flags,
				 atomic_uint *n_freed)
{
	struct fake *f = calloc(1, sizeof(*f));
	struct vf_cached *o = NULL;
	uint8_t full_id[16] = {[0] = 1, [15] = id};

	*f = (struct fake){{fake_start, fake_free}, s, id, n_freed};
	CU_ASSERT_EQUAL_FATAL(
		vf_cached_open(c, full_id, size, "x", flags, &f->base, &o), 0);
	return o;
}

/* ---- reads --------------------------------------------------------------------------------- */

void fake_done(void *arg, int err)
{
	struct fake_wait *w = arg;

	pthread_mutex_lock(&w->mtx);
	w->n_done++;
	if (err)
		w->err = err;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

int fake_wait_for(struct fake_wait *w, unsigned n)
{
	pthread_mutex_lock(&w->mtx);
	while (w->n_done < n)
		pthread_cond_wait(&w->cond, &w->mtx);
	int err = w->err;
	pthread_mutex_unlock(&w->mtx);
	return err;
}

int fake_read(struct vf_cached *o, uint8_t id, uint64_t off, size_t len)
{
	VF_AUTO_FREE uint8_t *buf = malloc(len + !len);
	struct fake_wait w = FAKE_WAIT;

	vf_cached_read(o, off, len, buf, fake_done, &w);
	int err = fake_wait_for(&w, 1);
	if (!err && !fake_is_right(id, off, buf, len))
		CU_FAIL("wrong bytes");
	return err;
}

struct vf_cache_stats fake_stats(struct vf_cache *c)
{
	struct vf_cache_stats s;

	vf_cache_stats(c, &s);
	CU_ASSERT(s.used_len <= s.ram_len);
	CU_ASSERT_EQUAL(s.n_miss, s.n_wait + s.n_fill + s.n_bypass + s.n_page);
	return s;
}

/* ---- many readers at random ------------------------------------------------------------------ */

static const uint64_t fake_sizes[FAKE_OBJECTS] = {
	0, 1, FAKE_BLOCK, 30 * FAKE_BLOCK + 5, 100 * FAKE_BLOCK};

struct reader {
	const struct fake_storm *storm;
	uint64_t seed;
	unsigned n_failed, n_wrong;
};

static void read_once(struct reader *r, uint8_t *buf)
{
	const struct fake_storm *t = r->storm;
	unsigned k = (unsigned)(vf_test_rand(&r->seed) % FAKE_OBJECTS);
	uint64_t off = vf_test_rand(&r->seed) % (fake_sizes[k] + 1);
	bool large = vf_test_rand(&r->seed) % 16 == 0;
	size_t len = vf_test_rand(&r->seed) %
		     ((large ? 40 : 3) * (size_t)FAKE_BLOCK);
	struct fake_wait w = FAKE_WAIT;

	len = VF_MIN((uint64_t)len, fake_sizes[k] - off);
	if (vf_test_rand(&r->seed) % 100 < t->drop_percent)
		vf_cached_drop(t->o[k], off, len);
	memset(buf, 0, len);
	vf_cached_read(t->o[k], off, len, buf, fake_done, &w);
	if (fake_wait_for(&w, 1))
		r->n_failed++;
	else if (!fake_is_right((uint8_t)k, off, buf, len))
		r->n_wrong++;
}

static void *read_at_random(void *arg)
{
	struct reader *r = arg;
	uint8_t *buf = malloc((size_t)40 * FAKE_BLOCK);

	for (unsigned i = 0; i < r->storm->n_reads; i++)
		read_once(r, buf);
	free(buf);
	return NULL;
}

void fake_storm_run(struct fake_storm *t, struct fake_server *s)
{
	struct reader r[FAKE_READERS_MAX];
	pthread_t threads[FAKE_READERS_MAX];

	assert(t->n_readers <= FAKE_READERS_MAX);
	for (unsigned i = 0; i < FAKE_OBJECTS; i++)
		t->o[i] = fake_object(t->c, s, (uint8_t)i, fake_sizes[i], NULL);
	for (unsigned i = 0; i < t->n_readers; i++) {
		r[i] = (struct reader){t, t->seed + i, 0, 0};
		pthread_create(&threads[i], NULL, read_at_random, &r[i]);
	}
	for (unsigned i = 0; i < t->n_readers; i++) {
		pthread_join(threads[i], NULL);
		t->n_failed += r[i].n_failed;
		t->n_wrong += r[i].n_wrong;
	}
	CU_ASSERT_EQUAL(t->n_wrong, 0);
	if (t->n_wrong)
		fprintf(stderr, "VF_TEST_SEED=%llu\n",
			(unsigned long long)t->seed);
	if (!t->resized)
		fake_stats(t->c);
}

void fake_storm_end(struct fake_storm *t)
{
	for (unsigned i = 0; i < FAKE_OBJECTS; i++) {
		CU_ASSERT_EQUAL(
			fake_read(t->o[i], (uint8_t)i, 0, fake_sizes[i]), 0);
		vf_cached_put(t->o[i]);
	}
}

uint64_t fake_seed(uint64_t usual)
{
	const char *given = getenv("VF_TEST_SEED");

	return given ? strtoull(given, NULL, 0) : usual;
}
