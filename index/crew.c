/*
 * A worker is in one list or in none, all [park.mtx]:
 *
 *   hired    of a crew: asked to come, has not begun; the crew may do without
 *   at work  in no list; the crew waits for it
 *   idle     waits to be hired, and leaves after IDLE_SECONDS
 *
 * next    [atomic] the first item that nobody has taken
 * failed  [park.mtx] the lowest item that failed, and err of it
 */
#include "index/crew.h"
#include "store/thread.h"
#include "store/util.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { THREADS_MAX = 256, IDLE_SECONDS = 10 };

/* What a thread takes over from the one that makes it. */
struct sched {
	int policy, nice;
};

struct worker {
	pthread_cond_t wake;
	struct crew *crew; /* NULL: nobody's */
	struct worker *next, **at;
	struct sched sched; /* [fixed] */
};

struct crew {
	vf_crew_fn *fn;
	void *arg;
	size_t n; /* [fixed] */
	atomic_size_t next;
	size_t failed;
	int err;
	struct worker *hired;
	unsigned n_at_work;
	pthread_cond_t done; /* n_at_work is 0 */
};

static struct {
	pthread_mutex_t mtx;
	struct worker *idle;
} park = {.mtx = PTHREAD_MUTEX_INITIALIZER};

/* ---- lists ------------------------------------------------------------------------------- */

static void enlist(struct worker *w, struct worker **list)
{
	w->next = *list;
	w->at = list;
	if (w->next)
		w->next->at = &w->next;
	*list = w;
}

static void unlist(struct worker *w)
{
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
}

/* ---- work -------------------------------------------------------------------------------- */

static void note_failure(struct crew *c, size_t item, int err)
{
	pthread_mutex_lock(&park.mtx);
	if (!c->err || item < c->failed) {
		c->err = err;
		c->failed = item;
	}
	pthread_mutex_unlock(&park.mtx);
	atomic_store_explicit(&c->next, c->n, memory_order_relaxed);
}

/* Relaxed suffices: results are published by park.mtx when a worker is done. */
static void work(struct crew *c)
{
	for (;;) {
		size_t item =
			atomic_load_explicit(&c->next, memory_order_relaxed);
		do
			if (item >= c->n)
				return;
		while (!atomic_compare_exchange_weak_explicit(
			&c->next, &item, item + 1, memory_order_relaxed,
			memory_order_relaxed));
		int err = c->fn(c->arg, item);
		if (err)
			note_failure(c, item, err);
	}
}

/* Under park.mtx, idle: until hired, or false when the time is up. */
static bool wait_for_hire(struct worker *w)
{
	uint64_t until = vf_now_ns() + IDLE_SECONDS * UINT64_C(1000000000);
	int err = 0;

	while (!w->crew && !err)
		err = vf_cond_wait(&w->wake, &park.mtx, until);
	return w->crew;
}

static void free_worker(struct worker *w)
{
	pthread_cond_destroy(&w->wake);
	free(w);
}

static void *live(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&park.mtx);
	while (wait_for_hire(w)) {
		struct crew *c = w->crew;
		unlist(w);
		c->n_at_work++;
		pthread_mutex_unlock(&park.mtx);
		work(c);
		pthread_mutex_lock(&park.mtx);
		w->crew = NULL;
		enlist(w, &park.idle);
		if (!--c->n_at_work)
			pthread_cond_signal(&c->done);
	}
	unlist(w);
	pthread_mutex_unlock(&park.mtx);
	free_worker(w);
	return NULL;
}

/* ---- hiring ------------------------------------------------------------------------------ */

/* Under park.mtx: one more thread, hired by @c.  Returns 0 or -errno. */
static int make_worker(struct crew *c, struct sched sched)
{
	struct worker *w = calloc(1, sizeof(*w));
	pthread_t thread;

	if (!w)
		return -ENOMEM;
	w->sched = sched;
	w->crew = c;
	vf_cond_init(&w->wake);
	enlist(w, &c->hired);
	int err = vf_thread_start(&thread, live, w);
	if (err) {
		unlist(w);
		free_worker(w);
	} else {
		pthread_detach(thread);
	}
	return err;
}

static struct worker *find_idle(struct sched s)
{
	struct worker *w = park.idle;

	while (w && (w->sched.policy != s.policy || w->sched.nice != s.nice))
		w = w->next;
	return w;
}

static void hire(struct crew *c, size_t n)
{
	struct sched sched = {sched_getscheduler(0),
			      getpriority(PRIO_PROCESS, 0)};
	int err = 0;

	pthread_mutex_lock(&park.mtx);
	for (size_t i = 0; i < n && !err; i++) {
		struct worker *w = find_idle(sched);
		if (!w) {
			err = make_worker(c, sched);
			continue;
		}
		unlist(w);
		enlist(w, &c->hired);
		w->crew = c;
		pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&park.mtx);
}

/* Nothing is left to take: who has not begun need not, others are awaited. */
static void dismiss(struct crew *c)
{
	struct worker *w;

	pthread_mutex_lock(&park.mtx);
	while ((w = c->hired)) {
		unlist(w);
		w->crew = NULL;
		enlist(w, &park.idle);
	}
	while (c->n_at_work)
		pthread_cond_wait(&c->done, &park.mtx);
	pthread_mutex_unlock(&park.mtx);
}

/* ---- fork -------------------------------------------------------------------------------- */

static void lock_park(void)
{
	pthread_mutex_lock(&park.mtx);
}

static void unlock_park(void)
{
	pthread_mutex_unlock(&park.mtx);
}

/* The child has one thread: what the others left is nobody's. */
static void forget_workers(void)
{
	park.idle = NULL;
	pthread_mutex_init(&park.mtx, NULL);
}

static void mind_forks(void)
{
	pthread_atfork(lock_park, unlock_park, forget_workers);
}

int vf_crew_run(unsigned n_threads, size_t n, vf_crew_fn *fn, void *arg)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t want = VF_MIN(n_threads, (unsigned)THREADS_MAX);
	struct crew c = {.fn = fn, .arg = arg, .n = n};

	want = VF_MIN(want, n);
	if (want <= 1) {
		work(&c);
		return c.err;
	}
	pthread_once(&once, mind_forks);
	vf_cond_init(&c.done);
	hire(&c, want - 1);
	work(&c);
	dismiss(&c);
	pthread_cond_destroy(&c.done);
	return c.err;
}
