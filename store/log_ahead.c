/* See log_ahead.h. */
#include "store/log_ahead.h"
#include "store/commit_impl.h"

#include <pthread.h>
#include <stdio.h>

enum {
	PIECES_MAX = 256,
	BYTES_MAX = 64 << 20, /* more waits until it is wanted */
	IDENTITY_MAX = 4096,
};

struct piece {
	struct vf_log_ahead *a;
	char key[VF_LOG_KEY_LEN];
	uint8_t *bytes; /* [len + 1], owned */
	size_t len, cap;
	uint64_t size; /* of the object */
	bool done;     /* [mtx], as are those above until it is */
	int err;
};

struct vf_log_ahead {
	struct vf_bucket *b;
	const char *index;
	const struct vf_listed *l;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	size_t n;
	struct piece pieces[PIECES_MAX];
};

/* ---- asking ------------------------------------------------------------------------------ */

static void end_piece(void *arg, int err, size_t len,
		      const struct vf_object *object)
{
	struct piece *p = arg;
	struct vf_log_ahead *a = p->a;

	pthread_mutex_lock(&a->mtx);
	p->err = err;
	p->len = len;
	p->size = err ? 0 : object->size;
	p->done = true;
	pthread_cond_broadcast(&a->cond);
	pthread_mutex_unlock(&a->mtx);
}

static void ask(struct vf_log_ahead *a, const char *key, size_t cap)
{
	struct piece *p = &a->pieces[a->n];

	if (a->n == PIECES_MAX || strlen(key) >= sizeof(p->key))
		return;
	*p = (struct piece){.a = a, .bytes = malloc(cap + 1), .cap = cap};
	if (!p->bytes)
		return;
	strcpy(p->key, key);
	a->n++;
	vf_bucket_get_start(a->b, &(struct vf_get){.key = p->key,
						   .len = cap,
						   .buf = p->bytes,
						   .done = end_piece,
						   .arg = p});
}

static void ask_number(struct vf_log_ahead *a, const char *folder,
		       const struct vf_log_number *n, size_t *left)
{
	char key[VF_LOG_KEY_LEN];

	if (!n->size || n->size > *left)
		return;
	*left -= n->size;
	vf_log_key(a->index, folder, n->number, key);
	ask(a, key, n->size);
}

static int ask_all(struct vf_log_ahead *a)
{
	VF_AUTO_BUF struct vf_buf numbers = {0};
	size_t left = BYTES_MAX;
	const struct vf_log_number *n;
	char key[VF_LOG_KEY_LEN];
	int err = vf_log_ahead_numbers(a, "checkpoint", 0, &numbers);

	if (err)
		return err;
	snprintf(key, sizeof(key), "_vecfs/indexes/%s", a->index);
	ask(a, key, IDENTITY_MAX);
	uint64_t from = 1;
	if (numbers.len) {
		n = (const void *)(numbers.data + numbers.len - sizeof(*n));
		from = n->number + 1;
		ask_number(a, "checkpoint", n, &left);
	}
	err = vf_log_ahead_numbers(a, "log", from, &numbers);
	for (size_t i = 0; !err && i < numbers.len; i += sizeof(*n))
		ask_number(a, "log", (const void *)(numbers.data + i), &left);
	return err;
}

static bool covers_log(const struct vf_listed *l, const char *index)
{
	char prefix[VF_LOG_KEY_LEN];

	snprintf(prefix, sizeof(prefix), "%s/log/", index);
	return vf_listed_covers(l, prefix);
}

int vf_log_ahead_new(struct vf_bucket *b, const char *index,
		     const struct vf_listed *l, struct vf_log_ahead **out)
{
	struct vf_log_ahead *a;
	int err;

	*out = NULL;
	if (!covers_log(l, index))
		return -ENOENT;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->b = b;
	a->index = index;
	a->l = l;
	pthread_mutex_init(&a->mtx, NULL);
	pthread_cond_init(&a->cond, NULL);
	err = ask_all(a);
	if (err)
		vf_log_ahead_free(a);
	else
		*out = a;
	return err;
}

static void await_piece(struct vf_log_ahead *a, const struct piece *p)
{
	pthread_mutex_lock(&a->mtx);
	while (!p->done)
		pthread_cond_wait(&a->cond, &a->mtx);
	pthread_mutex_unlock(&a->mtx);
}

void vf_log_ahead_free(struct vf_log_ahead *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n; i++) {
		await_piece(a, &a->pieces[i]);
		free(a->pieces[i].bytes);
	}
	pthread_mutex_destroy(&a->mtx);
	pthread_cond_destroy(&a->cond);
	free(a);
}

/* ---- answering --------------------------------------------------------------------------- */

uint64_t vf_log_ahead_ms(const struct vf_log_ahead *a)
{
	return a->l->seen_ms;
}

int vf_log_ahead_numbers(const struct vf_log_ahead *a, const char *folder,
			 uint64_t from, struct vf_buf *out)
{
	char prefix[VF_LOG_KEY_LEN];
	size_t len = (size_t)snprintf(prefix, sizeof(prefix), "%s/%s/",
				      a->index, folder);
	int err = 0;

	out->len = 0;
	for (size_t i = vf_listed_lower(a->l, prefix);
	     !err && i < vf_listed_count(a->l); i++) {
		const struct vf_listed_entry *e = vf_listed_at(a->l, i);
		struct vf_log_number n = {.size = e->object.size};
		if (strncmp(e->key, prefix, len))
			break;
		if (vf_log_number_parse(e->key + len, &n.number) &&
		    n.number >= from)
			err = vf_buf_append(out, &n, sizeof(n));
	}
	return err;
}

int vf_log_ahead_get(struct vf_log_ahead *a, struct vf_bucket *b,
		     const char *key, size_t max, void **out_data,
		     size_t *out_len)
{
	for (size_t i = 0; a && i < a->n; i++) {
		struct piece *p = &a->pieces[i];
		if (strcmp(p->key, key))
			continue;
		await_piece(a, p);
		/* What is not whole, or was taken, is asked for anew. */
		if (p->err == -ENOENT)
			return p->err;
		if (p->err || !p->bytes || p->size != p->len || p->len > max)
			break;
		p->bytes[p->len] = '\0';
		*out_data = VF_STEAL(p->bytes);
		*out_len = p->len;
		return 0;
	}
	return vf_bucket_get_all(b, key, max, out_data, out_len);
}
