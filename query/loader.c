/*
 * Codes that no query has asked for yet, read beside the queries of a process
 * that goes on: one piece at a time, so that there is never more than a request
 * or two ahead of what a query waits for.
 */
#include "query/engine.h"
#include "store/thread.h"

#include <pthread.h>
#include <sched.h>

enum { PIECE_LEN = 1 << 20 };

struct vf_loader {
	struct vf_view *v;
	pthread_t thread;
	atomic_bool stops;
};

/* False: that was the last. */
static bool load_piece(struct vf_loader *l, const struct vf_shard *s,
		       uint64_t row, uint64_t n)
{
	const char *why;
	int err;

	if (atomic_load_explicit(&l->stops, memory_order_relaxed))
		return false;
	err = vf_index_load_rows(s->ix, row, n, &why);
	if (err && why)
		vf_fail(err, "%s: %s", s->codes.path, why);
	return !err;
}

static void *load(void *arg)
{
	struct vf_loader *l = arg;
	const struct sched_param none = {0};

	pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
	for (size_t i = 0; i < l->v->n_shards; i++) {
		const struct vf_shard *s = &l->v->shards[i];
		uint64_t n = VF_MAX(s->n_rows * PIECE_LEN /
					    VF_MAX(s->codes.len, (uint64_t)1),
				    (uint64_t)1);
		if (s->is_mapped || s->codes.fd < 0)
			continue; /* does not fit, or is there */
		vf_index_expect_all(s->ix);
		for (uint64_t row = 0; row < s->n_rows; row += n)
			if (!load_piece(l, s, row, n))
				return NULL;
		if (vf_stage_hashes(s))
			return NULL;
	}
	return NULL;
}

int vf_view_load_start(struct vf_view *v)
{
	if (v->loader)
		return 0;
	v->loader = calloc(1, sizeof(*v->loader));
	if (!v->loader)
		return -ENOMEM;
	v->loader->v = v;
	if (vf_thread_start(&v->loader->thread, load, v->loader)) {
		free(VF_STEAL(v->loader));
		return -EAGAIN;
	}
	return 0;
}

void vf_view_load_stop(struct vf_view *v)
{
	if (!v->loader)
		return;
	atomic_store_explicit(&v->loader->stops, true, memory_order_relaxed);
	pthread_join(v->loader->thread, NULL);
	free(VF_STEAL(v->loader));
}
