/*
 * Two files, both without what is dead:
 *
 *   vectors   [n_rows][raw_len] as stored
 *   lines     record lines, one behind the other
 *
 * In memory, per row: its number in its place, the length of its line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "query/shard_codes.h"
#include "store/line.h"
#include "store/npy.h"
#include "store/recordfile.h"
#include "tools/interrupt.h"
#include "tools/objectsum.h"
#include "tools/progress.h"
#include "tools/rows.h"
#include "tools/scratchfile.h"
#include "tools/stored.h"

enum {
	WINDOW = 8 << 20, /* bytes of one request */
	GATHER = 4 << 20,
	CHUNK_TEXT = 4 << 20,
	LINE_GUESS = 256,
};

/* A file that is appended to, then read. */
struct spool {
	int fd;
	uint64_t len; /* of the file */
	struct vf_buf buf;
};

struct stored {
	struct vf_source base;
	struct vf_stored_options opt; /* while it is being made */
	struct spool vectors, lines;
	struct vf_stored_place *places;
	size_t n_places;
	uint32_t *rows;		     /* [n_rows] in their places */
	uint32_t *line_lens;	     /* [n_rows] */
	uint64_t n_lines, lines_off; /* being made; being claimed */
	struct vf_stored_traits traits;
	struct vf_progress progress;
};

static struct stored *of(const struct vf_source *s)
{
	return (struct stored *)s;
}

/* ---- files ---------------------------------------------------------------------- */

static int open_spool(const struct stored *s, uint64_t guess, struct spool *f)
{
	if (guess > s->opt.ram / 4)
		return vf_scratch_open(s->opt.scratch, &f->fd);
	f->fd = memfd_create("vectool", MFD_CLOEXEC);
	return f->fd < 0 ? vf_fail(-errno, "%s: %s", s->base.name,
				   strerror(errno))
			 : 0;
}

static int flush_spool(const struct stored *s, struct spool *f)
{
	int err = vf_pwrite_all(f->fd, f->buf.data, f->buf.len, f->len);

	if (err)
		return vf_fail(err, "%s: scratch file: %s",
			       vf_scratch_dir(s->opt.scratch), strerror(-err));
	f->len += f->buf.len;
	f->buf.len = 0;
	return 0;
}

static int write_spool(const struct stored *s, struct spool *f, const void *p,
		       size_t len)
{
	if (vf_buf_append(&f->buf, p, len))
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return f->buf.len >= GATHER ? flush_spool(s, f) : 0;
}

/* ---- reading a shard --------------------------------------------------------------- */

/* One of a shard's two objects, cut into its rows. */
struct walk {
	struct stored *s;
	const struct vf_shard_ref *ref;
	const struct vf_dead *dead;
	const struct vf_index *codes; /* NULL: the objects were checked whole */
	struct vf_recordfile *file;
	uint64_t off; /* of what follows rest */
	struct vf_buf rest;
};

static int damaged(const struct walk *w, const char *what, uint64_t row)
{
	return vf_fail(-EBADMSG, "%s: %s %" PRIu64 " of shard %s is damaged",
		       w->s->base.name, what, row, w->ref->name);
}

/* The next @len bytes at *at of rest; reads on as needed. */
static int need(struct walk *w, size_t *at, size_t len)
{
	int err = 0;

	if (w->rest.len - *at >= len)
		return 0;
	w->rest.len -= *at;
	if (w->rest.len)
		memmove(w->rest.data, w->rest.data + *at, w->rest.len);
	*at = 0;
	while (!err && w->rest.len < len) {
		const uint8_t *p;
		size_t n = 0;
		if (w->off >= vf_recordfile_len(w->file))
			return -EBADMSG;
		err = vf_recordfile_read(w->file, w->off, &p, &n);
		w->off += n;
		if (!err && vf_buf_append(&w->rest, p, n))
			err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	return err;
}

static int take_vectors(struct walk *w)
{
	struct stored *s = w->s;
	size_t at = 0, len = s->base.raw_len;
	int err = 0;

	w->off = VF_NPY_DATA_OFF;
	for (uint64_t row = 0; !err && row < w->ref->n_rows; row++, at += len) {
		err = need(w, &at, len);
		if (err == -EBADMSG)
			return damaged(w, "row", row);
		if (err || vf_dead_has(w->dead, row))
			continue;
		const uint8_t *x = w->rest.data + at;
		uint32_t crc;
		if (w->codes && (vf_index_row_crc(w->codes, row, &crc) ||
				 vf_crc32c(0, x, len) != crc))
			return damaged(w, "row", row);
		err = write_spool(s, &s->vectors, x, len);
		s->rows[s->base.n_rows++] = (uint32_t)row;
		vf_progress_update(&s->progress, s->base.n_rows);
	}
	return err;
}

/* The line at *at of rest, its length and what its bytes add up to. */
static int find_line(struct walk *w, uint64_t row, size_t *at, uint32_t *len,
		     uint32_t *crc)
{
	uint64_t off;
	size_t n = 0;
	int err = 0;

	if (w->codes) {
		vf_index_line(w->codes, row, &off, len, crc);
		return *len > VF_LINE_MAX ? -EBADMSG : need(w, at, *len);
	}
	for (const uint8_t *end = NULL; !err && !end;) {
		n = w->rest.len - *at;
		end = n ? memchr(w->rest.data + *at, '\n', n) : NULL;
		if (end)
			n = (size_t)(end - (w->rest.data + *at)) + 1;
		else
			err = n > VF_LINE_MAX ? -EBADMSG : need(w, at, n + 1);
	}
	*len = (uint32_t)n;
	if (!err)
		*crc = vf_crc32c(0, w->rest.data + *at, n);
	return err;
}

static int take_lines(struct walk *w)
{
	struct stored *s = w->s;
	size_t at = 0;
	uint32_t len = 0, crc = 0;
	int err = 0;

	w->off = 0;
	for (uint64_t row = 0; !err && row < w->ref->n_rows; row++, at += len) {
		err = find_line(w, row, &at, &len, &crc);
		if (err == -EBADMSG)
			return damaged(w, "the record line of row", row);
		if (err || vf_dead_has(w->dead, row))
			continue;
		const uint8_t *line = w->rest.data + at;
		if (vf_crc32c(0, line, len) != crc)
			return damaged(w, "the record line of row", row);
		err = write_spool(s, &s->lines, line, len);
		s->line_lens[s->n_lines++] = len;
	}
	return err;
}

static int walk_object(struct walk *w, const struct vf_object_ref *object,
		       int (*take)(struct walk *w))
{
	struct vf_shard_ref r = *w->ref;
	int err;

	r.records = *object; /* bytes of any object are read the same way */
	err = vf_recordfile_open(w->s->opt.bucket, w->s->opt.state->name, &r,
				 WINDOW, &w->file);
	if (!err)
		err = take(w);
	vf_recordfile_close(VF_STEAL(w->file));
	w->rest.len = 0;
	return err;
}

static struct vf_stored_place *add_place(struct stored *s, uint64_t n_rows,
					 const struct vf_dead *dead)
{
	struct vf_stored_place *p = &s->places[s->n_places++];

	p->first = s->base.n_rows;
	p->n = n_rows - vf_dead_count(dead);
	p->n_rows = n_rows;
	return p;
}

/* Automatic keys stay so when all of them are. */
static void note_keys(struct stored *s, uint64_t next_key, bool first)
{
	bool none = !first && !s->traits.next_key;

	s->traits.next_key =
		!next_key || none ? 0 : VF_MAX(s->traits.next_key, next_key);
}

/* What no code vouches for row by row is compared as a whole. */
static int verify_object(const struct walk *w, const struct vf_object_ref *ref)
{
	struct vf_bucket *b = w->s->opt.bucket;
	VF_AUTO_FREE char *key =
		vf_shard_key(w->s->opt.state->name, w->ref->name, ref->name);

	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = vf_object_verify(b, key, ref);
	return err == -EBADMSG || err == -ENOENT
		       ? vf_fail(err, "%s: %s", key,
				 err == -ENOENT ? "is not there" : "damaged")
		       : err;
}

static int open_codes(struct walk *w, struct vf_index **codes)
{
	struct vf_index_info info;
	int err = vf_shard_codes_open(w->s->opt.bucket, w->s->opt.state->name,
				      w->ref, codes);

	if (err)
		return err;
	vf_index_info(*codes, &info);
	w->s->traits.bits = VF_MAX(w->s->traits.bits, info.bits);
	w->codes = *codes;
	return 0;
}

static int take_shard(struct stored *s, size_t i)
{
	const struct vf_state *st = s->opt.state;
	const struct vf_shard_ref *ref = &st->shards[i];
	struct walk w = {.s = s, .ref = ref, .dead = st->dead[i]};
	bool codeless = s->opt.codeless && s->opt.codeless[i];
	struct vf_index *codes = NULL;

	note_keys(s, ref->next_key, !s->n_places);
	strcpy(add_place(s, ref->n_rows, w.dead)->shard, ref->name);
	s->traits.compress |= ref->vectors.zstd;
	if (vf_dead_count(w.dead) == ref->n_rows)
		return 0;
	int err = codeless ? verify_object(&w, &ref->vectors)
			   : open_codes(&w, &codes);
	if (!err && codeless)
		err = verify_object(&w, &ref->records);
	if (!err)
		err = walk_object(&w, &ref->vectors, take_vectors);
	if (!err)
		err = walk_object(&w, &ref->records, take_lines);
	vf_buf_fini(&w.rest);
	vf_index_close(codes);
	return err;
}

static int take_tail(struct stored *s, const struct vf_tail *t)
{
	const struct vf_inline *r = t->rows;
	int err = 0;

	note_keys(s, r->next_key, !s->n_places);
	add_place(s, r->n_rows, t->dead)->record = t->record;
	for (uint64_t i = 0; !err && i < r->n_rows; i++) {
		uint32_t len = r->line_offs[i + 1] - r->line_offs[i];
		if (vf_dead_has(t->dead, i))
			continue;
		err = write_spool(s, &s->vectors, r->vectors + i * r->row_len,
				  r->row_len);
		if (!err)
			err = write_spool(s, &s->lines,
					  r->lines + r->line_offs[i], len);
		s->rows[s->base.n_rows++] = (uint32_t)i;
		s->line_lens[s->n_lines++] = len;
	}
	return err;
}

/* ---- making ------------------------------------------------------------------------- */

static uint64_t count_rows(const struct stored *s)
{
	const struct vf_state *st = s->opt.state;
	uint64_t n = 0;

	for (size_t i = 0; i < st->n_shards; i++)
		if (s->opt.take[i])
			n += st->shards[i].n_rows - vf_dead_count(st->dead[i]);
	for (size_t i = 0; s->opt.tail && i < st->n_tail; i++)
		n += st->tail[i].rows->n_rows - vf_dead_count(st->tail[i].dead);
	return n;
}

static int alloc_stored(struct stored *s, uint64_t n)
{
	const struct vf_state *st = s->opt.state;

	if (n >= UINT32_MAX)
		return vf_fail(-EFBIG, "%s: %" PRIu64 " rows at once",
			       s->base.name, n);
	s->places = calloc(st->n_shards + st->n_tail + 1, sizeof(*s->places));
	s->rows = malloc((n + 1) * sizeof(*s->rows));
	s->line_lens = malloc((n + 1) * sizeof(*s->line_lens));
	if (!s->places || !s->rows || !s->line_lens)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = open_spool(s, n * s->base.raw_len, &s->vectors);
	return err ? err : open_spool(s, n * LINE_GUESS, &s->lines);
}

static int take_all(struct stored *s)
{
	const struct vf_state *st = s->opt.state;
	uint64_t n = count_rows(s);
	int err = alloc_stored(s, n);

	vf_progress_begin(&s->progress, "reading", n, s->base.raw_len,
			  s->opt.quiet);
	for (size_t i = 0; !err && i < st->n_shards; i++)
		if (s->opt.take[i])
			err = take_shard(s, i);
	for (size_t i = 0; !err && s->opt.tail && i < st->n_tail; i++)
		err = take_tail(s, &st->tail[i]);
	if (!err)
		err = flush_spool(s, &s->vectors);
	if (!err)
		err = flush_spool(s, &s->lines);
	vf_progress_end(&s->progress);
	vf_buf_fini(&s->vectors.buf);
	vf_buf_fini(&s->lines.buf);
	return err;
}

/* ---- as a source ---------------------------------------------------------------------- */

static int read_rows(struct stored *s, uint64_t row, size_t n, void *to)
{
	return vf_pread_all(s->vectors.fd, to, n * s->base.raw_len,
			    row * s->base.raw_len);
}

static int stored_sample(struct vf_source *base, size_t max, float *out,
			 size_t *out_n)
{
	struct stored *s = of(base);
	size_t n = (size_t)VF_MIN(base->n_rows, (uint64_t)max);
	VF_AUTO_FREE uint8_t *raw = malloc(base->raw_len);

	if (!raw)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < n; i++) {
		uint64_t row = (uint64_t)((double)base->n_rows / (double)n *
					  (double)i);
		int err = read_rows(s, row, 1, raw);
		if (err)
			return vf_fail(err, "scratch file: %s",
				       vf_strerror(err));
		vf_rows_to_f32(base->dtype, raw, base->dim,
			       out + i * base->dim);
	}
	*out_n = n;
	return 0;
}

static void stored_rewind(struct vf_source *base)
{
	of(base)->lines_off = 0;
}

static int stored_claim(struct vf_source *base, struct vf_chunk *c)
{
	struct stored *s = of(base);
	size_t n = 0, len = 0;

	while (n < c->n && len < CHUNK_TEXT) {
		size_t line_len = s->line_lens[c->row + n];
		c->bodies[n++] = (struct vf_span){len, line_len};
		len += line_len;
	}
	c->n = n;
	c->text.len = 0;
	if (vf_buf_reserve(&c->text, len))
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = vf_pread_all(s->lines.fd, c->text.data, len, s->lines_off);
	if (err)
		return vf_fail(err, "scratch file: %s", vf_strerror(err));
	c->text.len = len;
	s->lines_off += len;
	return 0;
}

static int stored_fill(struct vf_source *base, struct vf_chunk *c)
{
	void *to = base->dtype == VF_F32 ? (void *)c->x : c->raw;
	VF_AUTO_BUF struct vf_buf key = {0};
	int err = read_rows(of(base), c->row, c->n, to);

	if (err)
		return vf_chunk_fail(c, err, "scratch file: %s",
				     vf_strerror(err));
	if (to != c->x)
		vf_rows_to_f32(base->dtype, to, c->n * base->dim, c->x);
	/* Lines stay as they are. */
	for (size_t i = 0; !err && i < c->n; i++)
		err = vf_chunk_describe_line(
			c, i, (char *)c->text.data + c->bodies[i].off,
			c->bodies[i].len, &key);
	c->lines.len = 0;
	if (!err)
		err = vf_buf_append(&c->lines, c->text.data, c->text.len);
	return err ? vf_chunk_fail(c, err, "%s: a record line: %s", base->name,
				   vf_strerror(err))
		   : 0;
}

static int stored_finish(struct vf_source *base)
{
	return 0;
}

/* Nobody asks: keys of an index come once. */
static int stored_key_at(struct vf_source *base, uint64_t row, char **out_key,
			 size_t *out_len)
{
	return -ENOTSUP;
}

static void stored_free(struct vf_source *base)
{
	struct stored *s = of(base);

	if (s->vectors.fd >= 0)
		close(s->vectors.fd);
	if (s->lines.fd >= 0)
		close(s->lines.fd);
	free(s->places);
	free(s->rows);
	free(s->line_lens);
	free(s);
}

static const struct vf_source_ops stored_ops = {.sample = stored_sample,
						.rewind = stored_rewind,
						.claim = stored_claim,
						.fill = stored_fill,
						.finish = stored_finish,
						.key_at = stored_key_at,
						.free = stored_free};

int vf_stored_open(const struct vf_stored_options *opt, struct vf_source **out)
{
	const struct vf_index_config *c = &opt->state->config;
	struct stored *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (!s)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	s->opt = *opt;
	s->vectors.fd = s->lines.fd = -1;
	s->base =
		(struct vf_source){.ops = &stored_ops,
				   .name = opt->name,
				   .dim = c->dim,
				   .dtype = c->dtype,
				   .raw_len = c->dim * vf_dtype_size(c->dtype),
				   .has_keys = true};
	int err = take_all(s);
	if (err)
		vf_source_free(&s->base);
	else
		*out = &s->base;
	return err;
}

const struct vf_stored_place *vf_stored_places(const struct vf_source *s,
					       size_t *out_n)
{
	*out_n = of(s)->n_places;
	return of(s)->places;
}

uint32_t vf_stored_row(const struct vf_source *s, uint64_t row)
{
	return of(s)->rows[row];
}

void vf_stored_traits(const struct vf_source *s, struct vf_stored_traits *out)
{
	*out = of(s)->traits;
}
