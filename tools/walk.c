#include "tools/walk.h"

#include <inttypes.h>

#include "query/shard_codes.h"
#include "store/line.h"
#include "store/npy.h"
#include "store/recordfile.h"
#include "tools/interrupt.h"
#include "tools/progress.h"

enum { WINDOW = 4 << 20 };

/* One object read from its start to its end. */
struct stream {
	struct vf_recordfile *file;
	uint64_t off;	    /* of what follows rest in the object */
	struct vf_buf rest; /* from rest.data + at on: not used yet */
	size_t at;
};

struct walk {
	struct vf_bucket *bucket;
	const struct vf_state *state;
	vf_walk_fn *fn;
	void *arg;
	struct vf_progress progress;
	uint64_t n_done;
	struct vf_buf key;
};

/* Make the next @len bytes contiguous; -EBADMSG: the object ends. */
static int need(struct stream *s, size_t len)
{
	int err = 0;

	if (s->rest.len - s->at >= len)
		return 0;
	s->rest.len -= s->at;
	if (s->rest.len)
		memmove(s->rest.data, s->rest.data + s->at, s->rest.len);
	s->at = 0;
	while (!err && s->rest.len < len) {
		const uint8_t *p;
		size_t n = 0;
		if (s->off >= vf_recordfile_len(s->file))
			return -EBADMSG;
		err = vf_recordfile_read(s->file, s->off, &p, &n);
		s->off += n;
		if (!err && vf_buf_append(&s->rest, p, n))
			err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	return err;
}

static int give_row(struct walk *w, const uint8_t *vector, const char *text,
		    size_t len)
{
	struct vf_line line;
	int err = vf_line_split(text, len, &line);

	w->key.len = 0;
	if (!err)
		err = vf_line_key(&line, &w->key);
	if (err)
		return err;
	const struct vf_walk_row row = {(const char *)w->key.data, w->key.len,
					line.metadata, line.metadata_len,
					vector};
	err = w->fn(w->arg, &row);
	vf_progress_update(&w->progress, ++w->n_done);
	return err;
}

static int walk_row(struct walk *w, const struct vf_shard_ref *ref,
		    const struct vf_index *codes, uint64_t row,
		    struct stream *vectors, struct stream *lines, bool dead)
{
	const struct vf_index_config *c = &w->state->config;
	size_t row_len = c->dim * vf_dtype_size(c->dtype);
	uint32_t len = 0, crc = 0, row_crc = 0;
	uint64_t off;

	vf_index_line(codes, row, &off, &len, &crc);
	int err = need(vectors, row_len);
	if (!err)
		err = len > VF_LINE_MAX ? -EBADMSG : need(lines, len);
	if (!err && !dead) {
		const uint8_t *x = vectors->rest.data + vectors->at;
		const uint8_t *line = lines->rest.data + lines->at;
		if (vf_index_row_crc(codes, row, &row_crc) ||
		    vf_crc32c(0, x, row_len) != row_crc ||
		    vf_crc32c(0, line, len) != crc)
			err = -EBADMSG;
		else
			err = give_row(w, x, (const char *)line, len);
	}
	vectors->at += row_len;
	lines->at += len;
	return err == -EBADMSG ? vf_fail(err,
					 "%s: row %" PRIu64 " of shard %s is "
					 "damaged",
					 w->state->name, row, ref->name)
			       : err;
}

static int open_stream(struct walk *w, const struct vf_shard_ref *ref,
		       const struct vf_object_ref *object, uint64_t off,
		       struct stream *out)
{
	struct vf_shard_ref r = *ref;

	*out = (struct stream){.off = off};
	r.records = *object; /* bytes of any object are read the same way */
	return vf_recordfile_open(w->bucket, w->state->name, &r, WINDOW,
				  &out->file);
}

static void close_stream(struct stream *s)
{
	vf_recordfile_close(s->file);
	vf_buf_fini(&s->rest);
}

static int walk_shard(struct walk *w, size_t i)
{
	const struct vf_shard_ref *ref = &w->state->shards[i];
	const struct vf_dead *dead = w->state->dead[i];
	struct stream vectors = {0}, lines = {0};
	struct vf_index *codes = NULL;

	if (vf_dead_count(dead) == ref->n_rows)
		return 0;
	int err = vf_shard_codes_open(w->bucket, w->state->name, ref, &codes);
	if (!err)
		err = open_stream(w, ref, &ref->vectors, VF_NPY_DATA_OFF,
				  &vectors);
	if (!err)
		err = open_stream(w, ref, &ref->records, 0, &lines);
	for (uint64_t row = 0; !err && row < ref->n_rows; row++)
		err = walk_row(w, ref, codes, row, &vectors, &lines,
			       vf_dead_has(dead, row));
	close_stream(&vectors);
	close_stream(&lines);
	vf_index_close(codes);
	return err;
}

static int walk_tail(struct walk *w, const struct vf_tail *t)
{
	const struct vf_inline *r = t->rows;
	int err = 0;

	for (uint64_t i = 0; !err && i < r->n_rows; i++)
		if (!vf_dead_has(t->dead, i))
			err = give_row(w, r->vectors + i * r->row_len,
				       r->lines + r->line_offs[i],
				       r->line_offs[i + 1] - r->line_offs[i]);
	return err;
}

int vf_walk(struct vf_bucket *b, const struct vf_state *s, const char *what,
	    bool quiet, vf_walk_fn *fn, void *arg)
{
	struct walk w = {.bucket = b, .state = s, .fn = fn, .arg = arg};
	int err = 0;

	vf_progress_begin(&w.progress, what ? what : "", s->n_rows,
			  s->config.dim * vf_dtype_size(s->config.dtype),
			  quiet || !what);
	for (size_t i = 0; !err && i < s->n_shards; i++)
		err = walk_shard(&w, i);
	for (size_t i = 0; !err && i < s->n_tail; i++)
		err = walk_tail(&w, &s->tail[i]);
	vf_progress_end(&w.progress);
	vf_buf_fini(&w.key);
	return err;
}
