/*
 * Records one after the other, a window of them on its way: reading a log waits
 * for the bucket about once, not once per record.
 *
 *   0 <= n_taken <= n_started <= n; slot i % WINDOW is of record i
 */
#include "store/commit_impl.h"

#include <pthread.h>

enum {
	WINDOW = 32,		/* requests */
	WINDOW_LEN = 32 << 20,	/* bytes of buffers, or one record */
	SIZE_UNKNOWN = 1 << 20, /* to begin with */
};

struct slot {
	struct vf_log_fetch *f;
	uint8_t *buf; /* owned */
	size_t cap;
	bool done; /* [mtx], and what follows */
	int err;
	size_t len;
	uint64_t size; /* of the object */
};

struct vf_log_fetch {
	struct vf_bucket *b;		  /* [fixed] borrowed */
	const char *index;		  /* [fixed] borrowed */
	const struct vf_log_number *list; /* [fixed] borrowed */
	size_t n;			  /* [fixed] */
	size_t n_started, n_taken, len;	  /* of the one thread that takes */
	struct slot slots[WINDOW];
	pthread_mutex_t mtx;
	pthread_cond_t more;
};

static void end_get(void *arg, int err, size_t len, const struct vf_object *o)
{
	struct slot *s = arg;

	pthread_mutex_lock(&s->f->mtx);
	s->err = err;
	s->len = len;
	s->size = o ? o->size : 0;
	s->done = true;
	pthread_cond_signal(&s->f->more);
	pthread_mutex_unlock(&s->f->mtx);
}

static bool may_start(const struct vf_log_fetch *f, size_t cap)
{
	size_t n = f->n_started - f->n_taken;

	return !n || (n < WINDOW && f->len + cap <= WINDOW_LEN);
}

static int start_some(struct vf_log_fetch *f)
{
	while (f->n_started < f->n) {
		const struct vf_log_number *e = &f->list[f->n_started];
		size_t cap = e->size ? VF_MIN(e->size, (uint64_t)VF_RECORD_MAX)
				     : SIZE_UNKNOWN;
		struct slot *s = &f->slots[f->n_started % WINDOW];
		char key[VF_LOG_KEY_LEN];
		if (!may_start(f, cap))
			break;
		*s = (struct slot){.f = f, .buf = malloc(cap + 1), .cap = cap};
		if (!s->buf)
			return -ENOMEM;
		f->len += cap;
		f->n_started++;
		vf_log_key(f->index, "log", e->number, key);
		vf_bucket_get_start(f->b, &(struct vf_get){.key = key,
							   .len = cap,
							   .buf = s->buf,
							   .done = end_get,
							   .arg = s});
	}
	return 0;
}

static void wait_slot(struct slot *s)
{
	pthread_mutex_lock(&s->f->mtx);
	while (!s->done)
		pthread_cond_wait(&s->f->more, &s->f->mtx);
	pthread_mutex_unlock(&s->f->mtx);
}

int vf_log_fetch_open(struct vf_bucket *b, const char *index,
		      const struct vf_log_number *list, size_t n,
		      struct vf_log_fetch **out)
{
	struct vf_log_fetch *f = calloc(1, sizeof(*f));

	*out = f;
	if (!f)
		return -ENOMEM;
	f->b = b;
	f->index = index;
	f->list = list;
	f->n = n;
	pthread_mutex_init(&f->mtx, NULL);
	pthread_cond_init(&f->more, NULL);
	return 0;
}

int vf_log_fetch_next(struct vf_log_fetch *f, void **out_bytes, size_t *out_len)
{
	char key[VF_LOG_KEY_LEN];
	int err = start_some(f);

	*out_bytes = NULL;
	if (err)
		return err;
	assert(f->n_taken < f->n);
	struct slot *s = &f->slots[f->n_taken % WINDOW];
	VF_AUTO_FREE uint8_t *p = NULL;
	wait_slot(s);
	p = VF_STEAL(s->buf);
	f->len -= s->cap;
	vf_log_key(f->index, "log", f->list[f->n_taken++].number, key);
	if (s->err)
		return s->err;
	if (s->size != s->len) /* longer than was thought */
		return vf_bucket_get_all(f->b, key, VF_RECORD_MAX, out_bytes,
					 out_len);
	p[s->len] = '\0';
	*out_len = s->len;
	*out_bytes = VF_STEAL(p);
	return 0;
}

void vf_log_fetch_close(struct vf_log_fetch *f)
{
	if (!f)
		return;
	for (; f->n_taken < f->n_started; f->n_taken++) {
		struct slot *s = &f->slots[f->n_taken % WINDOW];
		wait_slot(s);
		free(s->buf);
	}
	pthread_cond_destroy(&f->more);
	pthread_mutex_destroy(&f->mtx);
	free(f);
}
