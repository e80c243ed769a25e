/*
 * A group is committed when it is large, when its first row has waited long
 * enough, before a key comes a second time, and at the end.
 */
#include "tools/put_stream.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "index/index.h"
#include "store/change.h"
#include "tools/compaction.h"
#include "tools/jsonl.h"
#include "tools/keyset.h"
#include "tools/rows.h"
#include "tools/verb.h"

enum {
	GROUP_ROWS = 512,
	GROUP_LEN = 4 << 20, /* bytes of vectors and lines */
	LINE_MAX_LEN = 16 << 20,
	READ_LEN = 1 << 20,
	EVERY_MS = 1000,
};

struct stream {
	const struct vf_put_stream *o;
	struct vf_changer ch;
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype;
	size_t row_len;
	struct vf_buf input; /* what is read and no whole line yet */
	float *x;	     /* [dim] */
	uint16_t *half;	     /* [dim] */
	/* the group */
	uint64_t n_rows, begun_ns;
	struct vf_buf vectors, line_lens, lines;
	struct vf_keyset keys; /* hashes */
	/* lines: read; of the last commit; passed over */
	uint64_t line, acknowledged, n_skipped;
};

/* ---- committing ------------------------------------------------------------------ */

static void begin_group(struct stream *s)
{
	s->n_rows = 0;
	s->vectors.len = s->line_lens.len = s->lines.len = 0;
	vf_keyset_fini(&s->keys);
}

static int fold_tail(struct stream *s)
{
	const struct vf_target *t = s->o->target;
	struct vf_fold f = {.bucket = t->bucket,
			    .target = t->name,
			    .index = t->index,
			    .scratch = s->o->scratch,
			    .n_threads = s->o->n_threads,
			    .quiet = true};

	return vf_tail_fold(&f, &s->ch.state);
}

/* @line: the last one whose row is among them */
static int commit_group(struct stream *s, uint64_t line)
{
	const struct vf_condition cond = {.if_absent = s->o->if_absent};
	struct vf_upsert rows = {.n_rows = s->n_rows,
				 .row_len = s->row_len,
				 .vectors = s->vectors.data,
				 .line_lens = s->line_lens.data,
				 .lines = (const char *)s->lines.data,
				 .lines_len = s->lines.len};
	struct vf_changed done;

	if (!s->n_rows)
		return 0;
	int err = fold_tail(s);
	if (!err)
		err = vf_changer_upsert(&s->ch, &rows, &cond, &done);
	if (err == -EINPROGRESS)
		vf_log(VF_ERROR,
		       "%s: whether lines %" PRIu64 " to %" PRIu64
		       " are there is unknown",
		       s->o->target->name, s->acknowledged + 1, line);
	if (err)
		return err;
	s->acknowledged = line;
	if (!s->o->quiet)
		printf("{\"line\":%" PRIu64 ",\"rows\":%" PRIu64
		       ",\"replaced\":%" PRIu64 ",\"version\":%" PRIu64 "}\n",
		       line, s->n_rows, done.n_killed, done.head);
	fflush(stdout);
	begin_group(s);
	return 0;
}

/* ---- one line -------------------------------------------------------------------- */

static const char *check_row(struct stream *s)
{
	const char *why;

	if (vf_rows_check(s->x, 1, s->dim, s->metric, &why) != 1)
		return why;
	if (s->dtype != VF_F16)
		return NULL;
	vf_rows_to_f16(s->x, s->dim, s->half);
	if (vf_rows_check_f16(s->x, s->half, 1, s->dim, &why) != 1)
		return why;
	vf_rows_to_f32(VF_F16, s->half, s->dim, s->x);
	return vf_rows_check(s->x, 1, s->dim, s->metric, &why) == 1 ? NULL
								    : why;
}

/* Appended whole or, after an error, in no way that a commit would see. */
static int append_row(struct stream *s, const struct vf_text_line *t,
		      const struct vf_buf *metadata)
{
	const void *row = s->dtype == VF_F16 ? (void *)s->half : (void *)s->x;
	size_t before = s->lines.len;
	uint8_t len[4];
	uint64_t same, hash = vf_key_hash(t->key, t->key_len);
	int err = vf_record_line_append(t->key, t->key_len,
					metadata->len ? (char *)metadata->data
						      : NULL,
					metadata->len, &s->lines);

	vf_put_le32(len, (uint32_t)(s->lines.len - before));
	if (!err)
		err = vf_buf_append(&s->vectors, row, s->row_len);
	if (!err)
		err = vf_buf_append(&s->line_lens, len, sizeof(len));
	if (!err)
		err = vf_keyset_add(&s->keys, hash, s->n_rows, &same);
	if (err)
		return vf_fail(err, "%s", vf_strerror(err));
	if (!s->n_rows++)
		s->begun_ns = vf_now_ns();
	return 0;
}

/* A row of a key that is in the group already goes into the next one. */
static int take_row(struct stream *s, const struct vf_text_line *t,
		    const struct vf_buf *metadata)
{
	uint64_t same;
	int err = 0;

	if (vf_keyset_find(&s->keys, vf_key_hash(t->key, t->key_len), &same))
		err = commit_group(s, s->line - 1);
	if (!err)
		err = append_row(s, t, metadata);
	if (!err && (s->n_rows == GROUP_ROWS ||
		     s->vectors.len + s->lines.len >= GROUP_LEN))
		err = commit_group(s, s->line);
	return err;
}

/* Not logged when it is -EINVAL; then @reason follows "line 17 ". */
static int parse_row(struct stream *s, const char *line, size_t len,
		     struct vf_text_line *t, struct vf_buf *metadata,
		     char reason[160])
{
	char why[128];
	const char *bad;
	int err = vf_row_line_parse(line, len, s->dim, s->x, t, why);

	if (err) {
		snprintf(reason, 160, "%s", why);
		return err;
	}
	bad = vf_key_check(t->key, t->key_len);
	if (bad) {
		snprintf(reason, 160, "has a key that %s", bad);
		return -EINVAL;
	}
	if (t->metadata)
		err = vf_metadata_append(t->metadata, t->metadata_len, metadata,
					 why);
	if (err) {
		snprintf(reason, 160, "has metadata that %s", why);
		return err;
	}
	bad = check_row(s);
	if (bad)
		snprintf(reason, 160, "has a vector that %s", bad);
	return bad ? -EINVAL : 0;
}

static int refuse_line(struct stream *s, const char *reason)
{
	vf_log(s->o->skip_bad ? VF_WARN : VF_ERROR,
	       "standard input: line %" PRIu64 " %s", s->line, reason);
	if (s->o->skip_bad) {
		s->n_skipped++;
		return 0;
	}
	int err = commit_group(s, s->line - 1);
	return err ? err : -EINVAL;
}

static int take_line(struct stream *s, const char *line, size_t len)
{
	VF_AUTO_BUF struct vf_buf metadata = {0};
	struct vf_text_line t = {0};
	char reason[160];

	s->line++;
	int err = parse_row(s, line, len, &t, &metadata, reason);
	if (!err)
		err = take_row(s, &t, &metadata);
	else if (err == -EINVAL)
		err = refuse_line(s, reason);
	else
		vf_log(VF_ERROR, "standard input: %s", vf_strerror(err));
	vf_text_line_fini(&t);
	return err;
}

/* ---- the stream --------------------------------------------------------------------- */

/* Whole lines of the input; at the @end the last needs no newline. */
static int take_lines(struct stream *s, bool end)
{
	const char *at = (const char *)s->input.data, *newline;
	size_t left = s->input.len;
	int err = 0;

	while (!err && left && (newline = memchr(at, '\n', left))) {
		err = take_line(s, at, (size_t)(newline - at));
		left -= (size_t)(newline - at) + 1;
		at = newline + 1;
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	if (!err && end && left)
		err = take_line(s, at, left);
	if (!err && left > LINE_MAX_LEN)
		err = vf_fail(-EINVAL,
			      "standard input: line %" PRIu64
			      " is longer than 16 MiB",
			      s->line + 1);
	if (left)
		memmove(s->input.data, at, left);
	s->input.len = left;
	return err;
}

/* Milliseconds until the group has to go; -1: there is none. */
static int wait_ms(const struct stream *s)
{
	uint64_t every = s->o->every_ms ? s->o->every_ms : EVERY_MS;
	uint64_t waited = (vf_now_ns() - s->begun_ns) / 1000000;

	if (!s->n_rows)
		return -1;
	return waited >= every ? 0 : (int)(every - waited);
}

/* *out_end: there is no more.  Nothing is read when the group is due. */
static int read_some(struct stream *s, bool *out_end)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	int ms = wait_ms(s), n = ms ? poll(&p, 1, ms) : 0;

	*out_end = false;
	if (vf_interrupted())
		return -ECANCELED;
	if (n <= 0)
		return n < 0 && errno != EINTR
			       ? vf_fail(-errno, "standard input: %s",
					 strerror(errno))
			       : commit_group(s, s->line);
	if (vf_buf_reserve(&s->input, READ_LEN))
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	ssize_t got =
		read(STDIN_FILENO, s->input.data + s->input.len, READ_LEN);
	if (got < 0)
		return vf_fail(-errno, "standard input: %s", strerror(errno));
	s->input.len += (size_t)got;
	*out_end = !got;
	return 0;
}

static int run(struct stream *s)
{
	bool end = false;
	int err = 0;

	while (!err && !end) {
		err = read_some(s, &end);
		if (!err)
			err = take_lines(s, end);
	}
	return err ? err : commit_group(s, s->line);
}

static int open_stream(struct stream *s)
{
	int err = vf_target_state(s->o->target, &s->ch.state);

	if (err)
		return err;
	const struct vf_index_config *c = &s->ch.state->config;
	if (!s->ch.state->configured)
		return vf_fail(-ENOENT, "%s: create it first",
			       s->o->target->name);
	s->dim = c->dim;
	s->metric = c->metric;
	s->dtype = c->dtype;
	s->row_len = c->dim * vf_dtype_size(c->dtype);
	s->x = malloc(c->dim * sizeof(*s->x));
	s->half = malloc(c->dim * sizeof(*s->half));
	return s->x && s->half ? 0 : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

static void say_end(const struct stream *s, int err)
{
	if (err)
		vf_log(err == -ECANCELED ? VF_ERROR : VF_WARN,
		       "%s%s: committed up to line %" PRIu64,
		       err == -ECANCELED ? "interrupted; " : "",
		       s->o->target->name, s->acknowledged);
	else if (s->n_skipped)
		vf_log(VF_WARN,
		       "%s: %" PRIu64 " of %" PRIu64 " lines were passed over",
		       s->o->target->name, s->n_skipped, s->line);
}

int vf_put_stream_run(const struct vf_put_stream *o)
{
	struct stream s = {.o = o,
			   .ch = {.bucket = o->target->bucket,
				  .index = o->target->index,
				  .cache_dir = o->cache_dir}};
	int err = open_stream(&s);

	if (!err) {
		err = run(&s);
		say_end(&s, err);
	}
	begin_group(&s);
	vf_buf_fini(&s.input);
	vf_buf_fini(&s.vectors);
	vf_buf_fini(&s.line_lens);
	vf_buf_fini(&s.lines);
	free(s.x);
	free(s.half);
	vf_changer_fini(&s.ch);
	return err;
}
