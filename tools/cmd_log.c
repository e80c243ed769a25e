/* vectool log: who changed what, when. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "store/log_fetch.h"
#include "tools/interrupt.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	bool json;
	uint64_t limit;
} opt = {.limit = 20};

static const struct vf_arg options[] = {
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0},
	{"limit", 'n', VF_ARG_COUNT, &opt.limit, 1, UINT64_MAX - 1},
	{0}};

struct summary {
	uint64_t configured, shards, shard_rows, inline_rows, deleted, killed,
		removed, trees, collected, dropped, restored;
};

static void sum_op(const struct vf_op *op, struct summary *s)
{
	switch (op->kind) {
	case VF_OP_CONFIGURE:
		s->configured++;
		break;
	case VF_OP_ADD_SHARD:
		s->shards++;
		s->shard_rows += op->add_shard.n_rows;
		break;
	case VF_OP_SET_TREE:
		s->trees++;
		break;
	case VF_OP_UPSERT:
		s->inline_rows += op->upsert.n_rows;
		break;
	case VF_OP_DELETE:
		s->deleted += op->delete.n_keys;
		break;
	case VF_OP_KILL:
		s->killed += op->kill.n_rows;
		break;
	case VF_OP_REMOVE_SHARD:
		s->removed++;
		break;
	case VF_OP_COLLECT:
		s->collected = op->collect_below;
		break;
	case VF_OP_DROP:
		s->dropped++;
		break;
	case VF_OP_RESTORE:
		s->restored = op->restore;
		break;
	}
}

static void format_time(int64_t time_s, char out[32])
{
	time_t t = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "?");
}

static void print_count(const char *what, uint64_t n)
{
	if (n)
		printf(" %s %" PRIu64, what, n);
}

static void print_line(const struct vf_record *r, const struct summary *s)
{
	char when[32];

	format_time(r->time_s, when);
	printf("%8" PRIu64 "  %s  ", r->number, when);
	vf_print_escaped(r->writer, strlen(r->writer));
	printf(" ");
	if (s->configured)
		printf(" configured");
	if (s->shards)
		printf(" added %" PRIu64 " row%s in %" PRIu64 " shard%s",
		       s->shard_rows, vf_plural(s->shard_rows), s->shards,
		       vf_plural(s->shards));
	print_count("inline", s->inline_rows);
	print_count("deleted", s->deleted);
	print_count("died", s->killed);
	print_count("removed shards", s->removed);
	if (s->trees)
		printf(" clustered");
	print_count("collected below", s->collected);
	if (s->dropped)
		printf(" dropped");
	print_count("restored version", s->restored);
	puts("");
}

static int print_json(const struct vf_record *r, const struct summary *s)
{
	char when[32];

	format_time(r->time_s, when);
	json_t *o = json_pack(
		"{s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, "
		"s:b, s:I}",
		"version", (json_int_t)r->number, "time", when, "writer",
		r->writer, "configured", s->configured > 0, "shards",
		(json_int_t)s->shards, "rows", (json_int_t)s->shard_rows,
		"inline", (json_int_t)s->inline_rows, "deleted",
		(json_int_t)s->deleted, "died", (json_int_t)s->killed,
		"removed_shards", (json_int_t)s->removed, "clustered",
		s->trees > 0, "collected_below", (json_int_t)s->collected,
		"dropped", s->dropped > 0, "restored", (json_int_t)s->restored);
	VF_AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!text)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	puts(text);
	return 0;
}

static int print_record(const struct vf_record *r)
{
	struct summary s = {0};

	for (size_t i = 0; i < r->n_ops; i++)
		sum_op(&r->ops[i], &s);
	if (opt.json)
		return print_json(r, &s);
	print_line(r, &s);
	return 0;
}

/* Those to be shown, the newest first. */
static int find_records(const struct vf_target *t, const struct vf_state *s,
			struct vf_buf *out)
{
	uint64_t from = VF_MAX(s->oldest, UINT64_C(1));
	int err;

	if (s->head > opt.limit)
		from = VF_MAX(from, s->head - opt.limit + 1);
	err = vf_log_numbers(t->bucket, t->index, "log", from, out);
	if (err)
		return err;
	struct vf_log_number *n = (struct vf_log_number *)out->data;
	size_t n_all = 0;
	while ((n_all + 1) * sizeof(*n) <= out->len &&
	       n[n_all].number <= s->head)
		n_all++;
	out->len = n_all * sizeof(*n);
	for (size_t i = 0; i < n_all / 2; i++) {
		struct vf_log_number first = n[i];
		n[i] = n[n_all - 1 - i];
		n[n_all - 1 - i] = first;
	}
	return 0;
}

static int say_missing(const struct vf_target *t, uint64_t number)
{
	return vf_fail(-ENOENT, "%s: record %" PRIu64 " is missing", t->name,
		       number);
}

static int print_next(const struct vf_target *t, struct vf_log_fetch *f,
		      uint64_t number)
{
	VF_AUTO_FREE void *bytes = NULL;
	struct vf_record r;
	int err = vf_log_fetch_record(f, &bytes, &r);

	if (err)
		return err == -ENOENT ? say_missing(t, number) : err;
	err = print_record(&r);
	vf_record_fini(&r);
	return err;
}

static int print_log(const struct vf_target *t, const struct vf_state *s)
{
	VF_AUTO_BUF struct vf_buf list = {0};
	const struct vf_log_number *n;
	struct vf_log_fetch *f = NULL;
	uint64_t oldest = VF_MAX(s->oldest, UINT64_C(1)), left = opt.limit;
	int err = find_records(t, s, &list);

	n = (const struct vf_log_number *)list.data;
	if (!err)
		err = vf_log_fetch_open(t->bucket, t->index, "log", n,
					list.len / sizeof(*n), &f);
	for (uint64_t i = s->head; !err && i >= oldest && left; i--, left--) {
		if (vf_interrupted())
			err = -ECANCELED;
		else if (list.len < sizeof(*n) || n->number != i)
			err = say_missing(t, i);
		else
			err = print_next(t, f, i);
		n++;
		list.len -= VF_MIN(list.len, sizeof(*n));
	}
	vf_log_fetch_close(f);
	return err;
}

static int run_log(const struct vf_args *a)
{
	struct vf_target t;
	struct vf_state *s = NULL;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err)
		err = print_log(&t, s);
	vf_state_free(s);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_log = {
	.name = "log",
	.summary = "who changed what, the newest first",
	.help = "usage: vectool log TARGET [-n N] [--json]\n\n"
		"One line per commit: version, time (by the writer's clock), "
		"writer, and what it\n"
		"did to how many rows.\n\n"
		"  -n, --limit N      so many at most (20)\n"
		"  --json             one JSON object per line\n\n"
		"Examples:\n"
		"  vectool log /data/bucket/products\n"
		"  vectool log s3://bucket/prefix/products -n 1000 --json | jq "
		".died\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_log,
};
