/*
 * vectool stat: what an index is, from its log and the directories of
 * its leaves; what a mount has cached
 * of a path in it.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "store/util.h"
#include "tools/ingest.h"
#include "tools/leaves.h"
#include "tools/mounted.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	bool json;
} opt;

static const struct vf_arg options[] = {
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0}, {0}};

struct totals {
	uint64_t stored, plain; /* bytes of all objects of all shards */
	struct vf_state_counts counts;
	double fill;		 /* live rows / rows of as many full shards */
	double row_stored;	 /* bytes per row */
	struct vf_leaves leaves; /* n_leaves 0: no tree */
};

static void add_object(struct totals *t, const struct vf_object_ref *o)
{
	t->stored += o->stored_len;
	t->plain += o->len;
}

static void sum_shards(const struct vf_state *s, struct totals *t)
{
	*t = (struct totals){0};
	vf_state_count(s, &t->counts);
	for (size_t i = 0; i < s->n_shards; i++) {
		add_object(t, &s->shards[i].vectors);
		add_object(t, &s->shards[i].records);
		add_object(t, &s->shards[i].codes);
	}
	uint64_t live = t->counts.shard_rows - t->counts.shard_dead;
	if (!live)
		return;
	t->row_stored = (double)t->stored / (double)live;
	t->fill =
		(double)live /
		((double)s->n_shards *
		 (double)vf_shard_rows_default(s->config.dim, s->config.dtype));
}

static void format_uuid(const uint8_t u[16], char out[33])
{
	vf_hex(u, 16, out);
}

/* ---- JSON --------------------------------------------------------------------- */

static json_t *object_json(const struct vf_object_ref *o)
{
	return json_pack("{s:s, s:I, s:I}", "name", o->name, "stored",
			 (json_int_t)o->stored_len, "bytes",
			 (json_int_t)o->len);
}

static json_t *shards_json(const struct vf_state *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->n_shards; i++) {
		const struct vf_shard_ref *r = &s->shards[i];
		json_array_append_new(
			list,
			json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "name",
				  r->name, "rows", (json_int_t)r->n_rows,
				  "dead", (json_int_t)vf_dead_count(s->dead[i]),
				  "vectors", object_json(&r->vectors),
				  "records", object_json(&r->records), "codes",
				  object_json(&r->codes)));
	}
	return list;
}

static json_t *leaves_json(const struct vf_leaves *l)
{
	if (!l->n_leaves)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}",
			 "leaves", (json_int_t)l->n_leaves, "used",
			 (json_int_t)l->n_used, "flat_rows",
			 (json_int_t)l->flat_rows, "min", (json_int_t)l->min,
			 "median", (json_int_t)l->median, "p99",
			 (json_int_t)l->p99, "max", (json_int_t)l->max, "mean",
			 l->mean, "balance", l->balance);
}

static int print_json(const struct vf_target *t, const struct vf_state *s,
		      const struct totals *sum)
{
	const struct vf_index_config *c = &s->config;
	char uuid[33];

	format_uuid(s->uuid, uuid);
	json_t *o = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, "
		"s:s?, s:o, s:o}",
		"index", t->index, "bucket", t->url, "uuid", uuid, "version",
		(json_int_t)s->head, "dim", (json_int_t)c->dim, "metric",
		s->configured ? vf_metric_name(c->metric) : "", "dtype",
		s->configured ? vf_dtype_name(c->dtype) : "", "rows",
		(json_int_t)s->n_rows, "dead_rows",
		(json_int_t)sum->counts.shard_dead, "tail_rows",
		(json_int_t)sum->counts.tail_rows, "stored",
		(json_int_t)sum->stored, "bytes", (json_int_t)sum->plain,
		"fill", sum->fill, "bytes_per_row", sum->row_stored, "embedder",
		c->embedder[0] ? c->embedder : NULL, "tree",
		leaves_json(&sum->leaves), "shards", shards_json(s));
	VF_AUTO_FREE char *text =
		o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;

	json_decref(o);
	if (!text)
		return vf_fail(-ENOMEM, "%s: %s", t->name, strerror(ENOMEM));
	puts(text);
	return 0;
}

/* ---- text ---------------------------------------------------------------------- */

enum { BAR_LEN = 20 };

/* Rows of a full shard: '#' that live, 'x' that died. */
static void draw_fill(const struct vf_state *s, size_t i, char out[BAR_LEN + 1])
{
	double cap =
		(double)vf_shard_rows_default(s->config.dim, s->config.dtype);
	double rows = (double)s->shards[i].n_rows / cap;
	double dead = (double)vf_dead_count(s->dead[i]) / cap;
	size_t end = (size_t)(VF_MIN(rows, 1.) * BAR_LEN + .5);
	size_t live = (size_t)(VF_MIN(rows - dead, 1.) * BAR_LEN + .5);

	memset(out, '.', BAR_LEN);
	memset(out, 'x', VF_MAX(end, live));
	memset(out, '#', live);
	out[BAR_LEN] = '\0';
}

static void print_shard(const struct vf_state *s, size_t i)
{
	const struct vf_shard_ref *r = &s->shards[i];
	char a[24], b[24], c[24], d[24], e[24], fill[BAR_LEN + 1];

	draw_fill(s, i, fill);
	printf("%5zu %10" PRIu64 " %8" PRIu64
	       " [%s]  %10s %10s  %10s %10s  %10s  %s\n",
	       i, r->n_rows, vf_dead_count(s->dead[i]), fill,
	       vf_format_size(r->vectors.stored_len, a),
	       vf_format_size(r->vectors.len, b),
	       vf_format_size(r->records.stored_len, c),
	       vf_format_size(r->records.len, d),
	       vf_format_size(r->codes.stored_len, e), r->name);
}

static void print_leaves(const struct vf_state *s, const struct vf_leaves *l)
{
	if (!l->n_leaves) {
		puts("tree       none: queries scan all codes");
		return;
	}
	printf("tree       %" PRIu64 " leaves, %" PRIu64 " with rows, %s\n"
	       "leaf rows  %" PRIu64 " to %" PRIu64 ", median %" PRIu64
	       ", mean %.0f, 99%% below %" PRIu64 ", balance %.2f\n",
	       l->n_leaves, l->n_used, s->tree.object.name, l->min, l->max,
	       l->median, l->mean, l->p99, l->balance);
	if (l->flat_rows)
		printf("flat       %" PRIu64 " rows in no leaf\n",
		       l->flat_rows);
}

static void print_text(const struct vf_target *t, const struct vf_state *s,
		       const struct totals *sum)
{
	const struct vf_index_config *c = &s->config;
	char uuid[33], a[24], b[24];

	format_uuid(s->uuid, uuid);
	printf("index      %s\nbucket     %s\nuuid       %s\n"
	       "version    %" PRIu64 "\n",
	       t->index, t->url, uuid, s->head);
	if (!s->configured) {
		puts(s->head ? "dropped (vectool restore brings it back, until "
			       "vectool gc)"
			     : "not configured yet: no record has been "
			       "written");
		return;
	}
	printf("dimension  %u\nmetric     %s\ntype       %s\n"
	       "embedder   %s\nrows       %" PRIu64 "\n",
	       c->dim, vf_metric_name(c->metric), vf_dtype_name(c->dtype),
	       c->embedder[0] ? c->embedder : "none", s->n_rows);
	printf("stored     %s (%s decompressed), %.1f bytes per row\n"
	       "shards     %zu, %.0f%% full\n",
	       vf_format_size(sum->stored, a), vf_format_size(sum->plain, b),
	       sum->row_stored, s->n_shards, 100 * sum->fill);
	printf("dead rows  %" PRIu64 "\ntail       %" PRIu64
	       " row%s in %zu record%s, %s\n",
	       sum->counts.shard_dead, sum->counts.tail_rows,
	       vf_plural(sum->counts.tail_rows), s->n_tail,
	       vf_plural(s->n_tail), vf_format_size(sum->counts.tail_len, a));
	print_leaves(s, &sum->leaves);
	if (s->n_shards)
		printf("%5s %10s %8s %-22s  %10s %10s  %10s %10s  %10s  %s\n",
		       "shard", "rows", "dead", "fill: # alive, x dead",
		       "vectors", "(plain)", "records", "(plain)", "codes",
		       "name");
	for (size_t i = 0; i < s->n_shards; i++)
		print_shard(s, i);
}

/* ---- a path in a mount ------------------------------------------------------------ */

static void print_share(const char *what, uint64_t part, uint64_t of)
{
	char a[24], b[24];

	printf("%-10s %s of %s (%.0f%%)\n", what, vf_format_size(part, a),
	       vf_format_size(of, b),
	       of ? 100. * (double)part / (double)of : 100.);
}

static int print_shares_json(const char *path, const struct vf_cached_shares *s,
			     const char *pin)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:s?}", "path", path,
			      "bytes", (json_int_t)s->size, "ram",
			      (json_int_t)s->ram, "disk", (json_int_t)s->disk,
			      "pinned", (json_int_t)s->pinned, "pin", pin);
	VF_AUTO_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!text)
		return vf_fail(-EINVAL, "stat: %s: not UTF-8", path);
	puts(text);
	return 0;
}

/* What of it the mount has in which tier. */
static int print_shares(const char *path, bool json)
{
	char pin[VF_MOUNTED_TEXT];
	struct vf_cached_shares s;
	bool is_pinned = !vf_mounted_get(path, "pin", pin);
	int err = vf_mounted_shares(path, &s);

	if (err == -ENODATA)
		return vf_fail(err, "stat: %s: made up by the mount", path);
	if (err)
		return vf_fail(err, "stat: %s: %s", path, strerror(-err));
	if (json)
		return print_shares_json(path, &s, is_pinned ? pin : NULL);
	print_share("in RAM", s.ram, s.size);
	print_share("on disk", s.disk, s.size);
	print_share("pinned", s.pinned, s.size);
	if (is_pinned)
		printf("pin        %s\n", strcmp(pin, "1") ? pin : "all");
	return 0;
}

static int run_stat_index(const struct vf_args *a)
{
	struct vf_target t;
	struct vf_state *s = NULL;
	struct totals sum;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err) {
		sum_shards(s, &sum);
		if (s->has_tree)
			err = vf_leaves_count(t.bucket, s, &sum.leaves);
	}
	if (!err) {
		if (opt.json)
			err = print_json(&t, s, &sum);
		else
			print_text(&t, s, &sum);
	}
	vf_state_free(s);
	vf_target_close(&t);
	return err;
}

static int run_stat(const struct vf_args *a)
{
	const char *path = a->operands[0];
	char head[VF_MOUNTED_TEXT];
	VF_AUTO_FREE char *root = NULL;
	bool mounted = !vf_mounted_root(path, &root);
	int err = 0;

	if (mounted && vf_mounted_get(path, "head", head))
		return print_shares(path, opt.json);
	err = run_stat_index(a);
	return !err && mounted && !opt.json ? print_shares(path, false) : err;
}

const struct vf_verb vf_verb_stat = {
	.name = "stat",
	.summary = "say what an index is and what it takes",
	.help = "usage: vectool stat TARGET | PATH [--json]\n\n"
		"Version (commit number), UUID, dimension, metric, element "
		"type, rows, and the\n"
		"shards with their sizes, stored and decompressed; of an index "
		"with a tree, how\nmany rows its leaves have (balance: mean size of a row's leaf by "
		"mean size; 1 is\nbest).  Of a PATH in a mount, a file or folder, what is "
		"cached and pinned.\n\n"
		"Examples:\n"
		"  vectool stat s3://bucket/prefix/products\n"
		"  vectool stat --json /data/bucket/products | jq .rows\n"
		"  vectool stat /mnt/v/products/shard\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_stat,
};
