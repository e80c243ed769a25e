/* One window of a shard's records in memory at a time. */
#include "tools/each_record.h"

#include "store/recordfile.h"
#include "tools/verb.h"

enum { WINDOW = 4 << 20 };

struct walk {
	const struct vf_target *t;
	const struct vf_state *s;
	vf_records_fn *fn;
	void *arg;
};

/* Visit whole lines of @text that live and drop them from it. */
static int visit_lines(const struct walk *w, size_t at, struct vf_buf *text,
		       uint64_t *row)
{
	const struct vf_shard_ref *ref = &w->s->shards[at];
	const char *s = (const char *)text->data, *end = s + text->len;
	const char *newline;
	int rc = 0;

	while (!rc && *row < ref->n_rows &&
	       (newline = memchr(s, '\n', (size_t)(end - s)))) {
		if (!vf_dead_has(w->s->dead[at], (*row)++))
			rc = w->fn(w->arg, ref->name, s,
				   (size_t)(newline - s) + 1);
		s = newline + 1;
	}
	text->len = (size_t)(end - s);
	memmove(text->data, s, text->len);
	return rc;
}

static int visit_shard(const struct walk *w, size_t at)
{
	VF_AUTO_BUF struct vf_buf text = {0};
	struct vf_recordfile *f;
	uint64_t off = 0, row = 0;
	int rc = vf_recordfile_open(w->t->bucket, w->t->index,
				    &w->s->shards[at], WINDOW, &f);

	if (rc)
		return rc;
	while (!rc && off < vf_recordfile_len(f)) {
		const uint8_t *p;
		size_t n;
		rc = vf_recordfile_read(f, off, &p, &n);
		if (!rc && vf_buf_append(&text, p, n))
			rc = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		off += n;
		if (!rc)
			rc = visit_lines(w, at, &text, &row);
		if (!rc && vf_interrupted())
			rc = -ECANCELED;
	}
	vf_recordfile_close(f);
	return rc;
}

static int visit_tail(const struct walk *w, const struct vf_tail *t)
{
	const struct vf_inline *r = t->rows;
	int rc = 0;

	for (uint64_t i = 0; !rc && i < r->n_rows; i++)
		if (!vf_dead_has(t->dead, i))
			rc = w->fn(w->arg, "the log",
				   r->lines + r->line_offs[i],
				   r->line_offs[i + 1] - r->line_offs[i]);
	return rc;
}

int vf_records_each(const struct vf_target *t, const struct vf_state *s,
		    vf_records_fn *fn, void *arg)
{
	const struct walk w = {t, s, fn, arg};
	int rc = 0;

	for (size_t i = 0; !rc && i < s->n_shards; i++)
		rc = visit_shard(&w, i);
	for (size_t i = 0; !rc && i < s->n_tail; i++)
		rc = visit_tail(&w, &s->tail[i]);
	return rc;
}
