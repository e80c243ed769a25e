/*
 * next    [atomic] the first item that nobody has taken
 * failed  [mtx] the lowest item that failed, and err of it
 */
#include "index/crew.h"
#include "store/util.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS_MAX = 256 };

struct crew {
	vf_crew_fn *fn;
	void *arg;
	size_t n; /* [fixed] */
	atomic_size_t next;
	pthread_mutex_t mtx;
	size_t failed;
	int err;
};

static void note_failure(struct crew *c, size_t item, int err)
{
	pthread_mutex_lock(&c->mtx);
	if (!c->err || item < c->failed) {
		c->err = err;
		c->failed = item;
	}
	pthread_mutex_unlock(&c->mtx);
	atomic_store_explicit(&c->next, c->n, memory_order_relaxed);
}

/* Relaxed suffices: results are published by joining the threads. */
static void *work(void *arg)
{
	struct crew *c = arg;

	for (;;) {
		size_t item =
			atomic_load_explicit(&c->next, memory_order_relaxed);
		do
			if (item >= c->n)
				return NULL;
		while (!atomic_compare_exchange_weak_explicit(
			&c->next, &item, item + 1, memory_order_relaxed,
			memory_order_relaxed));
		int err = c->fn(c->arg, item);
		if (err)
			note_failure(c, item, err);
	}
}

int vf_crew_run(unsigned n_threads, size_t n, vf_crew_fn *fn, void *arg)
{
	struct crew c = {.fn = fn, .arg = arg, .n = n};
	pthread_t threads[THREADS_MAX];
	size_t n_started = 0, want = VF_MIN(n_threads, (unsigned)THREADS_MAX);

	pthread_mutex_init(&c.mtx, NULL);
	want = VF_MIN(want, n);
	while (n_started + 1 < want &&
	       !pthread_create(&threads[n_started], NULL, work, &c))
		n_started++;
	work(&c);
	while (n_started)
		pthread_join(threads[--n_started], NULL);
	pthread_mutex_destroy(&c.mtx);
	return c.err;
}
