/*
 * Slot number i % n_slots is filled when i was taken and before it was given,
 * full until it is emptied: n_emptied <= n_given <= n_emptied + n_slots.
 */
#include "tools/relay.h"

#include <pthread.h>

#include "store/thread.h"
#include "store/util.h"

struct vf_relay {
	size_t n_slots; /* [fixed], as the next two */
	vf_relay_fn *empty;
	void *arg;
	pthread_t thread;
	bool has_thread; /* [fixed] */
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	size_t n_given, n_emptied; /* [mtx] */
	int err;		   /* [mtx] */
	bool ends;		   /* [mtx] nothing more is given */
};

static void *run_emptier(void *arg)
{
	struct vf_relay *r = arg;

	pthread_mutex_lock(&r->mtx);
	for (;;) {
		while (r->n_emptied == r->n_given && !r->ends)
			pthread_cond_wait(&r->changed, &r->mtx);
		if (r->n_emptied == r->n_given)
			break;
		size_t slot = r->n_emptied % r->n_slots;
		int err = r->err;
		pthread_mutex_unlock(&r->mtx);
		if (!err)
			err = r->empty(r->arg, slot);
		pthread_mutex_lock(&r->mtx);
		r->err = err;
		r->n_emptied++;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->mtx);
	return NULL;
}

int vf_relay_open(size_t n_slots, vf_relay_fn *empty, void *arg,
		  struct vf_relay **out)
{
	struct vf_relay *r = *out = calloc(1, sizeof(*r));

	if (!r)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	r->n_slots = n_slots;
	r->empty = empty;
	r->arg = arg;
	pthread_mutex_init(&r->mtx, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->has_thread = !vf_thread_start(&r->thread, run_emptier, r);
	return 0;
}

int vf_relay_take(struct vf_relay *r, size_t *out_slot)
{
	pthread_mutex_lock(&r->mtx);
	while (!r->err && r->n_given - r->n_emptied == r->n_slots)
		pthread_cond_wait(&r->changed, &r->mtx);
	int err = r->err;
	*out_slot = r->n_given % r->n_slots;
	pthread_mutex_unlock(&r->mtx);
	return err;
}

void vf_relay_give(struct vf_relay *r)
{
	pthread_mutex_lock(&r->mtx);
	size_t slot = r->n_given++ % r->n_slots;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mtx);
	if (r->has_thread)
		return;
	if (!r->err)
		r->err = r->empty(r->arg, slot);
	r->n_emptied++;
}

int vf_relay_close(struct vf_relay *r)
{
	if (!r)
		return 0;
	pthread_mutex_lock(&r->mtx);
	r->ends = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mtx);
	if (r->has_thread)
		pthread_join(r->thread, NULL);
	int err = r->err;
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mtx);
	free(r);
	return err;
}
