/*
 * vectool ls: the indexes of a bucket, or the keys of an index; what is there
 * decides which.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "store/recordfile.h"
#include "store/util.h"
#include "tools/jsonl.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { WINDOW = 4 << 20 };

static struct {
	bool json;
	uint64_t n_max;
} opt = {.n_max = UINT64_MAX};

static const struct vf_arg options[] = {
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0},
	{"limit", 'n', VF_ARG_COUNT, &opt.n_max, 0, 0},
	{0}};

/* ---- keys of an index ------------------------------------------------------------ */

static int print_line(const char *place, const char *line, size_t len)
{
	VF_AUTO_FREE char *key = NULL;
	size_t key_len;

	if (opt.json) {
		fwrite(line, 1, len, stdout);
		putchar('\n');
		return 0;
	}
	if (vf_record_line_key(line, len, &key, &key_len))
		return vf_fail(-EBADMSG, "%s: a damaged record line", place);
	vf_print_escaped(key, key_len);
	putchar('\n');
	return 0;
}

/* Print whole lines of @text that live and drop them from it. */
static int print_lines(const struct vf_shard_ref *ref,
		       const struct vf_dead *dead, struct vf_buf *text,
		       uint64_t *row, uint64_t *left)
{
	const char *at = (const char *)text->data, *end = at + text->len;
	const char *newline;
	int err = 0;

	while (!err && *left && *row < ref->n_rows &&
	       (newline = memchr(at, '\n', (size_t)(end - at)))) {
		if (!vf_dead_has(dead, (*row)++)) {
			err = print_line(ref->name, at, (size_t)(newline - at));
			--*left;
		}
		at = newline + 1;
	}
	text->len = (size_t)(end - at);
	memmove(text->data, at, text->len);
	return err;
}

static int list_shard(const struct vf_target *t, const struct vf_shard_ref *ref,
		      const struct vf_dead *dead, uint64_t *left)
{
	VF_AUTO_BUF struct vf_buf text = {0};
	struct vf_recordfile *f;
	uint64_t off = 0, row = 0;
	int err = vf_recordfile_open(t->bucket, t->index, ref, WINDOW, &f);

	if (err)
		return err;
	while (!err && *left && off < vf_recordfile_len(f)) {
		const uint8_t *p;
		size_t n;
		err = vf_recordfile_read(f, off, &p, &n);
		if (!err && vf_buf_append(&text, p, n))
			err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		off += n;
		if (!err)
			err = print_lines(ref, dead, &text, &row, left);
		if (!err && vf_interrupted())
			err = -ECANCELED;
		if (ferror(stdout)) /* nobody reads any more: head(1) */
			*left = 0;
	}
	vf_recordfile_close(f);
	return err;
}

static int list_tail(const struct vf_tail *t, uint64_t *left)
{
	const struct vf_inline *r = t->rows;
	int err = 0;

	for (uint64_t i = 0; !err && *left && i < r->n_rows; i++) {
		if (vf_dead_has(t->dead, i))
			continue;
		/* Without the newline. */
		err = print_line("the log", r->lines + r->line_offs[i],
				 r->line_offs[i + 1] - r->line_offs[i] - 1);
		--*left;
	}
	return err;
}

static int list_keys(const struct vf_target *t, const struct vf_state *s)
{
	uint64_t left = opt.n_max;
	int err = 0;

	for (size_t i = 0; !err && left && i < s->n_shards; i++)
		err = list_shard(t, &s->shards[i], s->dead[i], &left);
	for (size_t i = 0; !err && left && i < s->n_tail; i++)
		err = list_tail(&s->tail[i], &left);
	return err;
}

/* ---- indexes of a bucket ----------------------------------------------------------- */

struct listing {
	struct vf_bucket *bucket;
	uint64_t n;
};

static void print_index(const struct vf_state *s, bool first)
{
	const struct vf_index_config *c = &s->config;
	const char *metric = s->configured ? vf_metric_name(c->metric) : "-";
	const char *dtype = s->configured ? vf_dtype_name(c->dtype) : "-";

	if (opt.json) {
		printf("{\"index\":\"%s\",\"rows\":%" PRIu64
		       ",\"dim\":%u,\"metric\":\"%s\",\"dtype\":\"%s\","
		       "\"shards\":%zu,\"version\":%" PRIu64 "}\n",
		       s->name, s->n_rows, c->dim, metric, dtype, s->n_shards,
		       s->head);
		return;
	}
	if (first)
		printf("%-24s %12s %6s %-10s %-5s %7s\n", "index", "rows",
		       "dim", "metric", "type", "shards");
	printf("%-24s %12" PRIu64 " %6u %-10s %-5s %7zu\n", s->name, s->n_rows,
	       c->dim, metric, dtype, s->n_shards);
}

static int list_index(void *arg, const char *name)
{
	struct listing *l = arg;
	struct vf_state *s;
	int err;

	if (l->n == opt.n_max)
		return 0;
	err = vf_state_load(l->bucket, name, &s);
	if (err == -ENOENT)
		return vf_fail(err, "%s: was removed meanwhile", name);
	if (err)
		return err;
	print_index(s, !l->n++);
	vf_state_free(s);
	return vf_interrupted() ? -ECANCELED : 0;
}

/* The bucket that @name names itself, in a URL's form. */
static int bucket_url(const char *name, char **out)
{
	VF_AUTO_FREE char *inside = NULL, *index = NULL;

	if (asprintf(&inside, "%s/x", name) < 0)
		return -ENOMEM;
	return vf_target_split(inside, out, &index);
}

static int list_bucket(const char *url, const struct vf_args *a)
{
	struct listing l = {0};
	int err = vf_bucket_open(url, &a->common.bucket, &l.bucket);

	if (err)
		return err;
	err = vf_index_list(l.bucket, list_index, &l);
	vf_bucket_close(l.bucket);
	return err;
}

/* ---- which of the two ---------------------------------------------------------------- */

/* Whether the last part of @url could name an index in what is before it. */
static bool may_be_index(const char *url)
{
	const char *path = strstr(url, "://") + 3;
	const char *slash = strrchr(path, '/');

	return slash && vf_index_name_ok(slash + 1) &&
	       (slash > path || !strncmp(url, "file://", 7));
}

/* Lists the keys when @url is an index. */
static int try_index(const char *url, const struct vf_args *a, bool *out_is)
{
	struct vf_target t;
	struct vf_state *s;
	int err = vf_target_open(url, &a->common, &t);

	*out_is = false;
	if (err)
		return err;
	err = vf_state_load(t.bucket, t.index, &s);
	if (!err) {
		*out_is = true;
		err = list_keys(&t, s);
		vf_state_free(s);
	} else if (err == -ENOENT) {
		err = 0;
	}
	vf_target_close(&t);
	return err;
}

static int run_ls(const struct vf_args *a)
{
	VF_AUTO_FREE char *url = NULL;
	bool is_index = false;
	int err = bucket_url(a->operands[0], &url);

	if (err)
		return err;
	if (may_be_index(url))
		err = try_index(url, a, &is_index);
	if (!err && !is_index)
		err = list_bucket(url, a);
	return err;
}

const struct vf_verb vf_verb_ls = {
	.name = "ls",
	.summary = "list the indexes of a bucket or the keys of an index",
	.help = "usage: vectool ls BUCKET [--json]\n"
		"       vectool ls TARGET [-n N] [--json]\n\n"
		"Of a bucket: its indexes with rows, dimension and metric.  Of "
		"an index: its keys,\n"
		"one per line, in the order of its shards.\n\n"
		"  -n, --limit N      at most N lines\n"
		"  --json             one JSON object per line; of an index, "
		"its records\n\n"
		"Examples:\n"
		"  vectool ls s3://bucket/prefix\n"
		"  vectool ls -n 10 s3://bucket/prefix/products\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_ls,
};
