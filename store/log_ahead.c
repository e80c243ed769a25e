/* See log_ahead.h. */
#include "store/log_ahead.h"
#include "store/commit_impl.h"

#include <stdio.h>

enum { CHECKPOINT_MAX = 64 << 20 }; /* bytes; more waits until it is wanted */

struct vf_log_ahead {
	const char *index;
	const struct vf_listed *l;
	struct vf_log_number nothing, last; /* last: the newest checkpoint */
	struct vf_buf numbers;		    /* of the records after it */
	struct vf_log_fetch *identity, *checkpoint, *records;
};

/* ---- asking ------------------------------------------------------------------------------ */

static int find_numbers(struct vf_log_ahead *a)
{
	struct vf_buf *n = &a->numbers;
	int err = vf_log_ahead_numbers(a, "checkpoint", 0, n);

	if (!err && n->len)
		memcpy(&a->last, n->data + n->len - sizeof(a->last),
		       sizeof(a->last));
	return err ? err
		   : vf_log_ahead_numbers(a, "log", a->last.number + 1, n);
}

static int ask_all(struct vf_log_ahead *a, struct vf_bucket *b)
{
	const struct vf_log_number *records;
	int err = find_numbers(a);

	if (!err)
		err = vf_log_fetch_open(b, a->index, NULL, &a->nothing, 1,
					&a->identity);
	if (!err && a->last.size && a->last.size <= CHECKPOINT_MAX)
		err = vf_log_fetch_open(b, a->index, "checkpoint", &a->last, 1,
					&a->checkpoint);
	records = (const void *)a->numbers.data;
	if (!err && a->numbers.len)
		err = vf_log_fetch_open(b, a->index, "log", records,
					a->numbers.len / sizeof(*records),
					&a->records);
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
	a->index = index;
	a->l = l;
	err = ask_all(a, b);
	if (err)
		vf_log_ahead_free(a);
	else
		*out = a;
	return err;
}

void vf_log_ahead_free(struct vf_log_ahead *a)
{
	if (!a)
		return;
	vf_log_fetch_close(a->identity);
	vf_log_fetch_close(a->checkpoint);
	vf_log_fetch_close(a->records);
	vf_buf_fini(&a->numbers);
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

/* What is on its way, and then the caller's; NULL: nothing is. */
static struct vf_log_fetch *take(struct vf_log_ahead *a, const char *folder,
				 uint64_t number)
{
	if (!a)
		return NULL;
	if (!folder)
		return VF_STEAL(a->identity);
	return number == a->last.number ? VF_STEAL(a->checkpoint) : NULL;
}

int vf_log_ahead_get(struct vf_log_ahead *a, struct vf_bucket *b,
		     const char *index, const char *folder, uint64_t number,
		     void **out_data, size_t *out_len)
{
	const struct vf_log_number one = {.number = number};
	struct vf_log_fetch *f = take(a, folder, number);
	int err = f ? 0 : vf_log_fetch_open(b, index, folder, &one, 1, &f);

	if (!err)
		err = vf_log_fetch_next(f, out_data, out_len);
	vf_log_fetch_close(f);
	return err;
}

struct vf_log_fetch *vf_log_ahead_records(const struct vf_log_ahead *a,
					  uint64_t first)
{
	return first == a->last.number + 1 ? a->records : NULL;
}
