/*
 * See log_fetch.h.
 *
 *   0 <= n_taken <= n_started <= n; slot i % WINDOW is of object i
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"

#include <pthread.h>
#include <stdio.h>

enum {
	WINDOW = 64,	       /* requests: the records after a checkpoint */
	WINDOW_LEN = 64 << 20, /* bytes of buffers, or one object */
	/* Of a size that nobody told: most records have fewer bytes, memory is
	 * taken as they come, and to ask for more costs nothing. */
	SIZE_UNKNOWN = 9 << 20,
};
static_assert(WINDOW >= (int)VF_CHECKPOINT_EVERY, "one round");

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
	const char *index, *folder;	  /* [fixed] borrowed */
	size_t max;			  /* [fixed] bytes of an object */
	const struct vf_log_number *list; /* [fixed] borrowed */
	size_t n;			  /* [fixed] */
	size_t n_started, n_taken, len;	  /* of the one thread that takes */
	struct slot slots[WINDOW];
	pthread_mutex_t mtx;
	pthread_cond_t more;
};

/* ---- names -------------------------------------------------------------------------------- */

struct numbers {
	size_t dir_len;
	struct vf_buf *out;
};

static int note_number(void *arg, const struct vf_list_entry *e)
{
	struct numbers *n = arg;
	struct vf_log_number number = {.size = e->object.size};

	return vf_log_number_parse(e->key + n->dir_len, &number.number)
		       ? vf_buf_append(n->out, &number, sizeof(number))
		       : 0;
}

int vf_log_numbers(struct vf_bucket *b, const char *index, const char *folder,
		   uint64_t from, struct vf_buf *out)
{
	char prefix[VF_LOG_KEY_LEN], after[VF_LOG_KEY_LEN];
	struct numbers n = {.out = out};

	n.dir_len = (size_t)snprintf(prefix, sizeof(prefix), "%s/%s/", index,
				     folder);
	out->len = 0;
	vf_log_key(index, folder, from ? from - 1 : 0, after);
	return vf_bucket_list(b, prefix, false, from ? after : NULL,
			      note_number, &n);
}

static size_t max_len(const char *folder)
{
	if (!folder)
		return VF_IDENTITY_MAX;
	return !strcmp(folder, "checkpoint") ? (size_t)VF_CHECKPOINT_MAX
					     : (size_t)VF_RECORD_MAX;
}

static void make_key(const struct vf_log_fetch *f, size_t i,
		     char out[VF_LOG_KEY_LEN])
{
	vf_log_key(f->index, f->folder, f->list[i].number, out);
}

/* ---- on their way -------------------------------------------------------------------------- */

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
		size_t cap = VF_MIN(e->size ? e->size : SIZE_UNKNOWN,
				    (uint64_t)f->max);
		struct slot *s = &f->slots[f->n_started % WINDOW];
		char key[VF_LOG_KEY_LEN];
		if (!may_start(f, cap))
			break;
		*s = (struct slot){.f = f, .buf = malloc(cap + 1), .cap = cap};
		if (!s->buf)
			return -ENOMEM;
		make_key(f, f->n_started++, key);
		f->len += cap;
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
		      const char *folder, const struct vf_log_number *list,
		      size_t n, struct vf_log_fetch **out)
{
	struct vf_log_fetch *f = calloc(1, sizeof(*f));

	*out = f;
	if (!f)
		return -ENOMEM;
	f->b = b;
	f->index = index;
	f->folder = folder;
	f->max = max_len(folder);
	f->list = list;
	f->n = n;
	pthread_mutex_init(&f->mtx, NULL);
	pthread_cond_init(&f->more, NULL);
	int err = start_some(f);
	if (err)
		vf_log_fetch_close(VF_STEAL(*out));
	return err;
}

/* ---- taken --------------------------------------------------------------------------------- */

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
	make_key(f, f->n_taken++, key);
	if (s->err)
		return s->err;
	if (s->size != s->len) /* longer than was thought */
		return vf_bucket_get_all(f->b, key, f->max, out_bytes, out_len);
	uint8_t *fit = s->len < s->cap ? realloc(p, s->len + 1) : NULL;
	if (fit)
		p = fit;
	p[s->len] = '\0';
	*out_len = s->len;
	*out_bytes = VF_STEAL(p);
	return 0;
}

int vf_log_fetch_record(struct vf_log_fetch *f, void **out_bytes,
			struct vf_record *out)
{
	char key[VF_LOG_KEY_LEN];
	size_t len;

	make_key(f, f->n_taken, key);
	int err = vf_log_fetch_next(f, out_bytes, &len);
	if (!err)
		err = vf_log_record_parse(f->b, key, *out_bytes, len, out);
	if (err)
		free(VF_STEAL(*out_bytes));
	return err;
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
