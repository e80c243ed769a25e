/*
 * One thread waits for the end of one operation of another.  In the waiting
 * one's stack: it must not leave before vf_waiter_wait has returned.
 */
#ifndef VF_STORE_WAITER_H
#define VF_STORE_WAITER_H

#include <pthread.h>
#include <stdbool.h>

struct vf_waiter {
	pthread_mutex_t mtx;
	pthread_cond_t woken;
	bool is_done; /* [mtx] */
	int err;      /* [mtx] */
};

#define VF_WAITER                                                              \
	((struct vf_waiter){.mtx = PTHREAD_MUTEX_INITIALIZER,                  \
			    .woken = PTHREAD_COND_INITIALIZER})

/* Once; nothing of the waiting one may be touched afterwards. */
static inline void vf_waiter_wake(struct vf_waiter *w, int err)
{
	pthread_mutex_lock(&w->mtx);
	w->err = err;
	w->is_done = true;
	pthread_cond_signal(&w->woken);
	pthread_mutex_unlock(&w->mtx);
}

/* Once.  Returns what it was woken with. */
static inline int vf_waiter_wait(struct vf_waiter *w)
{
	pthread_mutex_lock(&w->mtx);
	while (!w->is_done)
		pthread_cond_wait(&w->woken, &w->mtx);
	pthread_mutex_unlock(&w->mtx);
	pthread_cond_destroy(&w->woken);
	pthread_mutex_destroy(&w->mtx);
	return w->err;
}

#endif
