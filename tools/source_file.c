/*
 * Rows, keys and metadata are read when a chunk is claimed, one thread at a
 * time, because files are parsed in order; checking them is parallel.
 */
#include "tools/source_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "tools/embedding.h"
#include "tools/first_pass.h"
#include "tools/interrupt.h"
#include "tools/jsonl.h"
#include "tools/progress.h"
#include "tools/scratchfile.h"

enum { CHUNK_TEXT = 4 << 20 };

struct file_source {
	struct vf_source base;
	struct vf_source_file_options opt;
	struct vf_intake in;
	struct vf_line_table keys, metadata; /* lines NULL: none */
	struct vf_embedding embedding;	     /* e NULL: rows are vectors */
	uint64_t *rows;	    /* of the file, that have words; NULL: all */
	uint64_t n_rows;    /* those */
	uint64_t n_skipped; /* others */
	uint64_t from;	    /* first row of the window */
};

static struct file_source *of(const struct vf_source *s)
{
	return (struct file_source *)s;
}

/* ---- one row ---------------------------------------------------------------------- */

static int append_line(struct vf_line_table *t, uint64_t row,
		       struct vf_buf *out)
{
	const char *line;
	size_t len;
	int err = vf_line_table_get(t, row, &line, &len);

	if (!err && vf_buf_append(out, line, len))
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return err;
}

static int read_rows(struct file_source *s, uint64_t row, size_t n, float *x)
{
	return s->embedding.e ? vf_embedding_rows(&s->embedding, row, n, x)
			      : vf_intake_rows(&s->in, row, n, x);
}

/* Files beside the file come before what it holds itself. */
static int read_text(struct file_source *s, uint64_t row, struct vf_buf *key,
		     struct vf_buf *metadata)
{
	VF_AUTO_BUF struct vf_buf unwanted = {0};
	bool ours = s->keys.lines != NULL, other = s->metadata.lines != NULL;
	row = s->rows ? s->rows[row] : row;
	int err = vf_intake_text(&s->in, row, ours ? &unwanted : key,
				 other ? &unwanted : metadata);

	if (!err && ours)
		err = append_line(&s->keys, row, key);
	if (!err && other)
		err = append_line(&s->metadata, row, metadata);
	return err;
}

int vf_source_file_row(struct vf_source *base, uint64_t row, float *x,
		       struct vf_buf *key, struct vf_buf *metadata)
{
	struct file_source *s = of(base);
	int err = x ? read_rows(s, row, 1, x) : 0;

	return err ? err : read_text(s, row, key, metadata);
}

/* ---- keys ---------------------------------------------------------------------------- */

static int read_key(struct file_source *s, uint64_t row, struct vf_buf *key,
		    struct vf_buf *metadata)
{
	key->len = metadata->len = 0;
	return read_text(s, row, key, metadata);
}

struct same_key {
	struct file_source *s;
	const struct vf_buf *key;
	struct vf_buf other, metadata;
	uint64_t row;
	int err;
};

static int compare_key(void *arg, uint64_t row)
{
	struct same_key *c = arg;

	c->row = row;
	c->err = read_key(c->s, row, &c->other, &c->metadata);
	return c->err || (c->other.len == c->key->len &&
			  !memcmp(c->other.data, c->key->data, c->key->len));
}

static int check_twice(struct file_source *s, uint64_t hash, uint64_t row,
		       const struct vf_buf *key)
{
	struct same_key c = {.s = s, .key = key};
	bool same = vf_keyset_each(&s->base.keys, hash, compare_key, &c);

	vf_buf_fini(&c.other);
	vf_buf_fini(&c.metadata);
	if (c.err || !same)
		return c.err;
	return vf_fail(-EINVAL,
		       "%s: key \"%.*s\" is of row %" PRIu64
		       " and again of row %" PRIu64,
		       s->base.name, (int)key->len, (char *)key->data, c.row,
		       row);
}

static int add_key(struct file_source *s, uint64_t row,
		   const struct vf_buf *key)
{
	const char *bad = vf_key_check((const char *)key->data, key->len);
	uint64_t hash, first;
	int err = 0;

	if (bad)
		return vf_fail(-EINVAL, "%s: the key of row %" PRIu64 " %s",
			       s->base.name, row, bad);
	hash = vf_key_hash(key->data, key->len);
	if (vf_keyset_find(&s->base.keys, hash, &first))
		err = check_twice(s, hash, row, key);
	if (err)
		return err;
	err = vf_keyset_add(&s->base.keys, hash, row, &first);
	return err ? vf_fail(err, "%s: %s", s->base.name, vf_strerror(err)) : 0;
}

static int read_keys(struct file_source *s)
{
	VF_AUTO_BUF struct vf_buf key = {0}, metadata = {0};
	struct vf_progress progress;
	int err = 0;

	vf_progress_begin(&progress, "reading keys", s->n_rows, 0,
			  s->opt.quiet);
	for (uint64_t row = 0; !err && row < s->n_rows; row++) {
		err = read_key(s, row, &key, &metadata);
		if (!err)
			err = add_key(s, row, &key);
		if (!err && vf_interrupted())
			err = vf_fail(-ECANCELED, "interrupted");
		vf_progress_update(&progress, row);
	}
	vf_progress_end(&progress);
	return err;
}

static int open_lines(struct file_source *s, const char *path,
		      struct vf_line_table *out)
{
	int fd, err;

	if (!path)
		return 0;
	err = vf_scratch_input(&path, &fd);
	if (!err)
		err = vf_line_table_open(fd, path, 0, out);
	if (!err && out->n != s->in.n_rows)
		err = vf_fail(-EINVAL,
			      "%s: has %" PRIu64 " lines for the %" PRIu64
			      " rows of %s",
			      path, out->n, s->in.n_rows, s->opt.path);
	return err;
}

/* ---- as a source ------------------------------------------------------------------------ */

static int file_sample(struct vf_source *base, size_t max, float *out,
		       size_t *out_n)
{
	struct file_source *s = of(base);
	bool texts = s->embedding.e;
	uint64_t first = texts ? s->from : 0;
	uint64_t all = texts ? base->n_rows : s->n_rows;
	size_t n = (size_t)VF_MIN(all, (uint64_t)max);
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = read_rows(
			s,
			first + (uint64_t)((double)all / (double)n * (double)i),
			1, out + i * base->dim);
	*out_n = n;
	return err;
}

static void file_rewind(struct vf_source *base)
{
}

static int claim_text(struct file_source *s, struct vf_chunk *c, size_t i,
		      struct vf_buf *metadata)
{
	size_t before = c->text.len;

	metadata->len = 0;
	int err = read_text(s, s->from + c->row + i, &c->text, metadata);
	c->keys[i] = (struct vf_span){before, c->text.len - before};
	c->bodies[i] = (struct vf_span){c->text.len, metadata->len};
	if (!err && vf_buf_append(&c->text, metadata->data, metadata->len))
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return err;
}

/* What is parsed row by row is parsed once: text right behind the vector. */
static int file_claim(struct vf_source *base, struct vf_chunk *c)
{
	struct file_source *s = of(base);
	VF_AUTO_BUF struct vf_buf metadata = {0};
	bool by_row = s->in.format->by_row && !s->embedding.e;
	uint64_t row = s->from + c->row;
	size_t i;
	int err = 0;

	c->text.len = 0;
	for (i = 0; !err && i < c->n && c->text.len < CHUNK_TEXT; i++) {
		if (by_row)
			err = vf_intake_rows(&s->in, row + i, 1,
					     c->x + i * base->dim);
		if (!err)
			err = claim_text(s, c, i, &metadata);
	}
	c->n = i;
	if (!err && !by_row)
		err = read_rows(s, row, c->n, c->x);
	return err;
}

static int fill_row(struct file_source *s, struct vf_chunk *c, size_t i,
		    struct vf_buf *compact)
{
	const char *text = (const char *)c->text.data;
	const char *key = text + c->keys[i].off;
	size_t key_len = c->keys[i].len;
	char number[24], reason[128];
	int err = 0;

	if (!s->base.has_keys) {
		key = number;
		key_len = (size_t)snprintf(number, sizeof(number), "%" PRIu64,
					   c->first_key + c->row + i);
	}
	compact->len = 0;
	if (c->bodies[i].len)
		err = vf_metadata_append(text + c->bodies[i].off,
					 c->bodies[i].len, compact, reason);
	if (err)
		return vf_chunk_fail(
			c, err, "%s: row %" PRIu64 ": the metadata %s",
			s->base.name, s->from + c->row + i,
			err == -EINVAL ? reason : vf_strerror(err));
	return vf_chunk_add_line(c, i, key, key_len,
				 compact->len ? (char *)compact->data : NULL,
				 compact->len);
}

static int file_fill(struct vf_source *base, struct vf_chunk *c)
{
	VF_AUTO_BUF struct vf_buf compact = {0};
	int err = 0;

	c->lines.len = 0;
	for (size_t i = 0; !err && i < c->n; i++)
		err = fill_row(of(base), c, i, &compact);
	return err;
}

static int file_finish(struct vf_source *base)
{
	return 0;
}

static int file_key_at(struct vf_source *base, uint64_t row, char **out_key,
		       size_t *out_len)
{
	VF_AUTO_BUF struct vf_buf key = {0}, metadata = {0};
	int err = read_key(of(base), of(base)->from + row, &key, &metadata);

	if (!err && vf_buf_append(&key, NULL, 1))
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (err)
		return err;
	*out_len = key.len - 1;
	*out_key = (char *)VF_STEAL(key.data);
	return 0;
}

static void file_free(struct vf_source *base)
{
	struct file_source *s = of(base);

	vf_line_table_close(&s->keys);
	vf_line_table_close(&s->metadata);
	vf_embedding_fini(&s->embedding);
	vf_intake_close(&s->in);
	free(s->rows);
	free(s);
}

static const struct vf_source_ops file_ops = {.sample = file_sample,
					      .rewind = file_rewind,
					      .claim = file_claim,
					      .fill = file_fill,
					      .finish = file_finish,
					      .key_at = file_key_at,
					      .free = file_free};

/* Which texts there are, before one of them costs anything. */
static int find_words(struct file_source *s)
{
	const struct vf_source_file_options *o = &s->opt;
	struct vf_first_pass p = {.e = o->embedder,
				  .name = o->path,
				  .unit = "row",
				  .skip_empty = o->skip_empty,
				  .quiet = o->quiet};

	if (o->skip_empty) {
		s->rows = malloc(s->in.n_rows * sizeof(*s->rows));
		if (!s->rows)
			return vf_fail(-ENOMEM, "%s: %s", o->path,
				       strerror(ENOMEM));
	}
	int err = vf_first_pass_file(&p, &s->in, s->rows);
	s->n_rows = p.n_taken;
	s->n_skipped = p.n_skipped;
	s->embedding.rows = s->rows;
	return err;
}

static int open_intake(struct file_source *s, int fd)
{
	const struct vf_source_file_options *o = &s->opt;
	int err;

	if (!o->embedder) {
		err = vf_intake_open(fd, o->path, o->part, &s->in);
		s->n_rows = s->in.n_rows;
		return err;
	}
	s->embedding = (struct vf_embedding){.e = o->embedder,
					     .in = &s->in,
					     .scratch = o->scratch,
					     .keep = o->keep,
					     .quiet = o->quiet,
					     .fd = -1};
	err = vf_intake_open_texts(fd, o->path, o->words, &s->in);
	return err ? err : find_words(s);
}

int vf_source_file_open(const struct vf_source_file_options *opt,
			struct vf_source **out)
{
	struct file_source *s = calloc(1, sizeof(*s));
	int fd = open(opt->path, O_RDONLY | O_CLOEXEC), err = 0;

	if (!s || fd < 0)
		err = s ? vf_fail(-errno, "%s: %s", opt->path, strerror(errno))
			: vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (err) {
		if (fd >= 0)
			close(fd);
		free(s);
		return err;
	}
	s->opt = *opt;
	if (opt->name)
		s->opt.path = opt->name;
	s->embedding.fd = -1;
	s->base = (struct vf_source){.ops = &file_ops, .name = s->opt.path};
	err = open_intake(s, fd);
	if (!err)
		err = open_lines(s, opt->keys, &s->keys);
	if (!err)
		err = open_lines(s, opt->metadata, &s->metadata);
	s->base.dim = opt->embedder ? opt->embedder->dim : s->in.dim;
	s->base.n_rows = s->n_rows;
	s->base.dtype = s->in.is_half ? VF_F16 : VF_F32;
	s->base.raw_len = 1;
	s->base.has_keys = opt->keys || s->in.has_keys;
	if (!err && s->base.has_keys)
		err = read_keys(s);
	if (err)
		vf_source_free(&s->base);
	else
		*out = &s->base;
	return err;
}

int vf_source_file_window(struct vf_source *base, uint64_t from, uint64_t n)
{
	struct file_source *s = of(base);

	s->from = from;
	base->n_rows = n;
	return s->embedding.e ? vf_embedding_window(&s->embedding, from, n) : 0;
}

uint64_t vf_source_file_rows(const struct vf_source *s)
{
	return of(s)->n_rows;
}

uint64_t vf_source_file_skipped(const struct vf_source *s)
{
	return of(s)->n_skipped;
}

bool vf_source_file_has_vector(const struct vf_source *s, uint64_t row)
{
	return !of(s)->embedding.e || vf_embedding_has(&of(s)->embedding, row);
}

const struct vf_intake *vf_source_file_intake(const struct vf_source *s)
{
	return &of(s)->in;
}

bool vf_source_file_has_metadata(const struct vf_source *s)
{
	return of(s)->metadata.lines || of(s)->in.has_metadata;
}
