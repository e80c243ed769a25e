/*
 * Rows made from texts.  The first pass parses every line, learns and notes
 * where the rows are; the second, chunk by chunk, embeds.
 *
 *   offs[row]   byte of the file where the row's line begins
 */
#include <inttypes.h>
#include <stdio.h>

#include "tools/first_pass.h"
#include "tools/jsonl.h"
#include "tools/lines.h"
#include "tools/source.h"
#include "tools/verb.h"

enum { TEXT_LINE_MAX = 16 << 20, CHUNK_TEXT = 4 << 20 };

struct texts_source {
	struct vf_source base;
	struct vf_embedder *e;
	struct vf_lines *lines;
	uint64_t *offs;
	size_t offs_cap;
};

static struct texts_source *of(struct vf_source *s)
{
	return (struct texts_source *)s;
}

static int parse_line(struct texts_source *s, const char *line, size_t len,
		      struct vf_text_line *out)
{
	char reason[128];
	int err = vf_text_line_parse(line, len, out, reason);

	if (err == -EINVAL)
		return vf_fail(err, "%s: line %" PRIu64 " %s", s->base.name,
			       vf_lines_number(s->lines), reason);
	return err ? vf_fail(err, "%s: %s", s->base.name, vf_strerror(err)) : 0;
}

/* The line that begins at byte @off; the reader then stands behind it. */
static int read_row(struct texts_source *s, uint64_t row,
		    struct vf_text_line *out)
{
	const char *line;
	size_t len;

	vf_lines_seek(s->lines, s->offs[row], row + 1);
	int err = vf_lines_next(s->lines, &line, &len);
	if (!err && !line)
		err = vf_fail(-EINVAL, "%s: it changed meanwhile",
			      s->base.name);
	return err ? err : parse_line(s, line, len, out);
}

/* ---- the first pass -------------------------------------------------------------- */

struct same_key {
	struct texts_source *s;
	const struct vf_text_line *t;
	int err;
};

static int compare_key(void *arg, uint64_t row)
{
	struct same_key *c = arg;
	struct vf_text_line other;

	c->err = read_row(c->s, row, &other);
	if (c->err)
		return 1;
	bool same = other.key_len == c->t->key_len &&
		    !memcmp(other.key, c->t->key, other.key_len);
	vf_text_line_fini(&other);
	return same;
}

static int check_twice(struct texts_source *s, const struct vf_text_line *t,
		       uint64_t hash)
{
	struct same_key c = {.s = s, .t = t};
	uint64_t number = vf_lines_number(s->lines);

	if (!vf_keyset_each(&s->base.keys, hash, compare_key, &c))
		return 0;
	if (c.err)
		return c.err;
	return vf_fail(-EINVAL,
		       "%s: the key \"%s\" of line %" PRIu64
		       " was on an earlier line",
		       s->base.name, t->key, number);
}

static int note_row(struct texts_source *s, const struct vf_text_line *t,
		    uint64_t off)
{
	uint64_t hash = vf_key_hash(t->key, t->key_len), first;
	int err = 0;

	if (s->base.n_rows == s->offs_cap) {
		size_t cap = s->offs_cap ? 2 * s->offs_cap : 4096;
		uint64_t *p = realloc(s->offs, cap * sizeof(*p));
		if (!p)
			return vf_fail(-ENOMEM, "%s: %s", s->base.name,
				       strerror(ENOMEM));
		s->offs = p;
		s->offs_cap = cap;
	}
	if (vf_keyset_find(&s->base.keys, hash, &first)) {
		uint64_t number = vf_lines_number(s->lines);
		err = check_twice(s, t, hash);
		if (err)
			return err;
		/* Comparing moved the reader: back to behind this line. */
		const char *line;
		size_t len;
		vf_lines_seek(s->lines, off, number);
		err = vf_lines_next(s->lines, &line, &len);
		if (err)
			return err;
	}
	err = vf_keyset_add(&s->base.keys, hash, s->base.n_rows, &first);
	if (err)
		return vf_fail(err, "%s: %s", s->base.name, vf_strerror(err));
	s->offs[s->base.n_rows++] = off;
	return 0;
}

static int take_line(struct texts_source *s, struct vf_first_pass *p,
		     const struct vf_text_line *t, uint64_t off)
{
	const struct vf_embed_text text = {t->text, t->text_len};
	const char *bad = vf_key_check(t->key, t->key_len);
	uint64_t number = vf_lines_number(s->lines);
	bool taken;

	if (bad)
		return vf_fail(-EINVAL, "%s: the key of line %" PRIu64 " %s",
			       s->base.name, number, bad);
	int err = vf_first_pass_take(p, &text, t->key, number, &taken);
	return err || !taken ? err : note_row(s, t, off);
}

static int read_all(struct texts_source *s, struct vf_first_pass *p)
{
	struct vf_text_line t;
	const char *line;
	size_t len;
	int err;

	vf_first_pass_begin(p, 0);
	for (;;) {
		err = vf_lines_next(s->lines, &line, &len);
		if (err || !line)
			break;
		err = parse_line(s, line, len, &t);
		if (err)
			break;
		err = take_line(s, p, &t, vf_lines_off(s->lines));
		vf_text_line_fini(&t);
		if (err)
			break;
	}
	vf_first_pass_end(p);
	if (!err && !s->base.n_rows)
		err = vf_fail(-EINVAL, "%s: holds no texts", s->base.name);
	return err;
}

/* ---- the second pass -------------------------------------------------------------- */

static int texts_sample(struct vf_source *base, size_t max, float *out,
			size_t *out_n)
{
	struct texts_source *s = of(base);
	size_t n = (size_t)VF_MIN(base->n_rows, (uint64_t)max);
	struct vf_text_line t;

	for (size_t i = 0; i < n; i++) {
		uint64_t row = (uint64_t)((double)base->n_rows / (double)n *
					  (double)i);
		int err = read_row(s, row, &t);
		if (err)
			return err;
		err = vf_embedder_embed(s->e, t.text, t.text_len,
					out + i * base->dim);
		if (err)
			vf_log(VF_ERROR, "%s: the text of key \"%s\": %s",
			       base->name, t.key,
			       err == -EINVAL ? "holds no word"
					      : vf_strerror(err));
		vf_text_line_fini(&t);
		if (err)
			return err;
	}
	*out_n = n;
	return 0;
}

static void texts_rewind(struct vf_source *base)
{
	vf_lines_seek(of(base)->lines, 0, 1);
}

static int texts_claim(struct vf_source *base, struct vf_chunk *c)
{
	struct texts_source *s = of(base);
	const char *line;
	size_t i = 0, len;

	c->text.len = 0;
	while (i < c->n && c->text.len < CHUNK_TEXT) {
		int err = vf_lines_next(s->lines, &line, &len);
		if (!err && !line)
			err = vf_fail(-EINVAL, "%s: it changed meanwhile",
				      base->name);
		if (err)
			return err;
		if (vf_lines_off(s->lines) != s->offs[c->row + i])
			continue; /* skipped in the first pass */
		c->bodies[i] = (struct vf_span){.off = c->text.len, .len = len};
		c->numbers[i] = vf_lines_number(s->lines);
		err = vf_buf_append(&c->text, line, len);
		if (err)
			return vf_fail(err, "%s: %s", base->name,
				       vf_strerror(err));
		i++;
	}
	c->n = i;
	return 0;
}

static int fill_row(struct texts_source *s, struct vf_chunk *c, size_t i,
		    const struct vf_text_line *t, struct vf_buf *compact)
{
	const char *name = s->base.name, *metadata = NULL;
	char reason[128];
	int err = vf_embedder_embed(s->e, t->text, t->text_len,
				    c->x + i * s->base.dim);

	if (err)
		return vf_chunk_fail(
			c, err,
			"%s: the text of key \"%s\", line %" PRIu64 ": %s",
			name, t->key, c->numbers[i],
			err == -EINVAL ? "holds no word" : vf_strerror(err));
	compact->len = 0;
	if (t->metadata) {
		err = vf_metadata_append(t->metadata, t->metadata_len, compact,
					 reason);
		if (err)
			return vf_chunk_fail(
				c, err,
				"%s: the metadata of key \"%s\", line %" PRIu64
				", %s",
				name, t->key, c->numbers[i],
				err == -EINVAL ? reason : vf_strerror(err));
		metadata = (const char *)compact->data;
	}
	return vf_chunk_add_line(c, i, t->key, t->key_len, metadata,
				 compact->len);
}

static int texts_fill(struct vf_source *base, struct vf_chunk *c)
{
	VF_AUTO_BUF struct vf_buf compact = {0};
	struct vf_text_line t;
	char reason[128];
	int err = 0;

	c->lines.len = 0;
	for (size_t i = 0; !err && i < c->n; i++) {
		const char *line =
			(const char *)c->text.data + c->bodies[i].off;
		err = vf_text_line_parse(line, c->bodies[i].len, &t, reason);
		if (err)
			return vf_chunk_fail(c, err, "%s: line %" PRIu64 " %s",
					     base->name, c->numbers[i],
					     err == -EINVAL ? reason
							    : vf_strerror(err));
		err = fill_row(of(base), c, i, &t, &compact);
		vf_text_line_fini(&t);
	}
	return err;
}

static int texts_finish(struct vf_source *base)
{
	return 0;
}

static int texts_key_at(struct vf_source *base, uint64_t row, char **out_key,
			size_t *out_len)
{
	struct vf_text_line t;
	int err = read_row(of(base), row, &t);

	if (err)
		return err;
	*out_key = VF_STEAL(t.key);
	*out_len = t.key_len;
	vf_text_line_fini(&t);
	return 0;
}

static void texts_free(struct vf_source *base)
{
	struct texts_source *s = of(base);

	vf_lines_close(s->lines);
	free(s->offs);
	free(s);
}

static const struct vf_source_ops texts_ops = {.sample = texts_sample,
					       .rewind = texts_rewind,
					       .claim = texts_claim,
					       .fill = texts_fill,
					       .finish = texts_finish,
					       .key_at = texts_key_at,
					       .free = texts_free};

int vf_source_texts_open(const struct vf_source_texts_options *opt,
			 struct vf_source **out, uint64_t *out_skipped)
{
	struct texts_source *s = calloc(1, sizeof(*s));
	int err;

	*out_skipped = 0;
	if (!s) {
		close(opt->fd);
		return vf_fail(-ENOMEM, "%s: %s", opt->name, strerror(ENOMEM));
	}
	*s = (struct texts_source){.base = {.ops = &texts_ops,
					    .name = opt->name,
					    .dim = opt->e->dim,
					    .dtype = VF_F32,
					    .has_keys = true},
				   .e = opt->e};
	struct vf_first_pass p = {.e = opt->e,
				  .learning = opt->learn ? opt->e : NULL,
				  .name = opt->name,
				  .unit = "line",
				  .skip_empty = opt->skip_empty,
				  .quiet = opt->quiet};
	err = vf_lines_open_fd(opt->fd, opt->name, TEXT_LINE_MAX, &s->lines);
	if (!err)
		err = read_all(s, &p);
	*out_skipped = p.n_skipped;
	if (err) {
		vf_source_free(&s->base);
		return err;
	}
	*out = &s->base;
	return 0;
}
