/*
 * A group is handed over when it is large, when its first row has waited long
 * enough, before a key comes a second time, and at the end; the next is read
 * while it is committed.
 */
#include "tools/put_stream.h"

#include <inttypes.h>
#include <stdio.h>

#include "index/index.h"
#include "tools/feed.h"
#include "tools/interrupt.h"
#include "tools/jsonl.h"
#include "tools/keyset.h"
#include "tools/rows.h"

enum {
	GROUP_ROWS = 512,
	GROUP_LEN = 4 << 20, /* bytes of vectors and lines */
	LINE_MAX_LEN = 16 << 20,
	READ_LEN = 1 << 20,
	EVERY_MS = 1000,
};

struct stream {
	const struct vf_put_stream *o;
	struct vf_feed *feed;
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype;
	size_t row_len;
	struct vf_buf input; /* what is read and no whole line yet */
	float *x;	     /* [dim] */
	uint16_t *half;	     /* [dim] */
	struct vf_group group;
	uint64_t begun_ns;
	struct vf_keyset keys;	  /* of the group */
	uint64_t line, n_skipped; /* lines read, passed over */
	/* of the last commit: the feed's until it is closed */
	uint64_t acknowledged;
};

/* ---- committing ------------------------------------------------------------------ */

static void say_ack(void *arg, const struct vf_feed_ack *a)
{
	struct stream *s = arg;

	s->acknowledged = a->tag;
	if (!s->o->quiet)
		printf("{\"line\":%" PRIu64 ",\"rows\":%" PRIu64
		       ",\"replaced\":%" PRIu64 ",\"version\":%" PRIu64 "}\n",
		       a->tag, a->n_rows, a->n_replaced, a->head);
	fflush(stdout);
}

/* @line: the last one whose row is in the group */
static int end_group(struct stream *s, uint64_t line)
{
	if (!s->group.n_rows)
		return 0;
	s->group.tag = line;
	vf_keyset_fini(&s->keys);
	return vf_feed_put(s->feed, &s->group);
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
	struct vf_group *g = &s->group;
	size_t before = g->lines.len;
	uint8_t len[4];
	uint64_t same, hash = vf_key_hash(t->key, t->key_len);
	int err = vf_record_line_append(t->key, t->key_len,
					metadata->len ? (char *)metadata->data
						      : NULL,
					metadata->len, &g->lines);

	vf_put_le32(len, (uint32_t)(g->lines.len - before));
	if (!err)
		err = vf_buf_append(&g->vectors, row, s->row_len);
	if (!err)
		err = vf_buf_append(&g->line_lens, len, sizeof(len));
	if (!err)
		err = vf_buf_append(&g->hashes, &hash, sizeof(hash));
	if (!err)
		err = vf_keyset_add(&s->keys, hash, g->n_rows, &same);
	if (err)
		return vf_fail(err, "%s", vf_strerror(err));
	if (!g->n_rows++)
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
		err = end_group(s, s->line - 1);
	if (!err)
		err = append_row(s, t, metadata);
	if (!err && (s->group.n_rows == GROUP_ROWS ||
		     s->group.vectors.len + s->group.lines.len >= GROUP_LEN))
		err = end_group(s, s->line);
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
	int err = end_group(s, s->line - 1);
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

	if (!s->group.n_rows)
		return -1;
	return waited >= every ? 0 : (int)(every - waited);
}

/*
 * *out_end: there is no more, or nobody would take it.  Nothing is read when the
 * group is due.
 */
static int read_some(struct stream *s, bool *out_end)
{
	int ms = wait_ms(s);
	int ready =
		vf_interrupt_wait(STDIN_FILENO, vf_feed_failed_fd(s->feed), ms);

	*out_end = ready == 2;
	if (*out_end || ready == -ECANCELED)
		return *out_end ? 0 : ready;
	if (ready < 0)
		return vf_fail(ready, "standard input: %s", strerror(-ready));
	if (!ready || !ms)
		return end_group(s, s->line);
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
	return err ? err : end_group(s, s->line);
}

static int open_feed(struct stream *s, struct vf_state **state)
{
	const struct vf_put_stream *o = s->o;
	const struct vf_feed_options opt = {.bucket = o->target->bucket,
					    .target = o->target->name,
					    .index = o->target->index,
					    .cache_dir = o->cache_dir,
					    .scratch = o->scratch,
					    .if_absent = o->if_absent,
					    .ack = say_ack,
					    .arg = s};

	return vf_feed_open(&opt, state, &s->feed);
}

static int open_stream(struct stream *s)
{
	struct vf_state *state = NULL;
	const struct vf_target *t = s->o->target;
	int err = vf_state_load(t->bucket, t->index, &state);

	if (err == -ENOENT || (!err && !state->configured)) {
		vf_state_free(state);
		return vf_fail(-ENOENT,
			       "%s: there is no index; make it: vectool "
			       "create %s --dim N",
			       t->name, t->name);
	}
	if (err)
		return err;
	const struct vf_index_config *c = &state->config;
	s->dim = c->dim;
	s->metric = c->metric;
	s->dtype = c->dtype;
	s->row_len = c->dim * vf_dtype_size(c->dtype);
	s->x = malloc((s->dim + 1) * sizeof(*s->x));
	s->half = malloc((s->dim + 1) * sizeof(*s->half));
	if (!s->x || !s->half)
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	else
		err = open_feed(s, &state);
	vf_state_free(state);
	return err;
}

/* What was handed over is waited for, but after a signal. */
static int close_stream(struct stream *s, int err)
{
	uint64_t unknown = 0;
	int put_err = vf_feed_close(s->feed, err == -ECANCELED, &unknown);

	if (put_err == -EINPROGRESS)
		vf_log(VF_ERROR,
		       "%s: whether lines %" PRIu64 " to %" PRIu64
		       " are there is unknown",
		       s->o->target->name, s->acknowledged + 1, unknown);
	return put_err ? put_err : err;
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
	struct stream s = {.o = o};
	int err = open_stream(&s);

	if (!err) {
		err = close_stream(&s, run(&s));
		say_end(&s, err);
	}
	vf_group_fini(&s.group);
	vf_keyset_fini(&s.keys);
	vf_buf_fini(&s.input);
	free(s.x);
	free(s.half);
	return err;
}
