/* vectool put: the rows of a .npy file into an index. */
#include <stdio.h>

#include "store/util.h"
#include "tools/put_options.h"
#include "tools/put_stream.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	const char *keys, *metadata, *on_error;
	uint64_t if_version, every_ms;
	bool if_absent;
} opt = {.if_version = UINT64_MAX};

static const struct vf_arg options[] = {
	{"", 0, VF_ARG_TABLE, (void *)vf_index_args, 0, 0},
	{"", 0, VF_ARG_TABLE, (void *)vf_shard_args, 0, 0},
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"metadata", 0, VF_ARG_STRING, &opt.metadata, 0, 0},
	{"every", 0, VF_ARG_COUNT, &opt.every_ms, 1, 3600000},
	{"on-error", 0, VF_ARG_STRING, &opt.on_error, 0, 0},
	{"if-absent", 0, VF_ARG_FLAG, &opt.if_absent, 0, 0},
	{"if-version", 0, VF_ARG_COUNT, &opt.if_version, 0, UINT64_MAX - 1},
	{0}};

static void print_summary(const struct vf_ingest_result *r, const char *target,
			  uint64_t start_ns)
{
	double s = (double)(vf_now_ns() - start_ns) / 1e9;
	char where[48] = "the log", replaced[48] = "";

	if (r->n_shards)
		snprintf(where, sizeof(where), "%zu shard%s", r->n_shards,
			 vf_plural(r->n_shards));
	if (r->n_replaced)
		snprintf(replaced, sizeof(replaced), " (%llu replaced)",
			 (unsigned long long)r->n_replaced);
	printf("%llu row%s%s in %s, %.2f s: version %llu of %s\n",
	       (unsigned long long)r->n_rows, vf_plural(r->n_rows), replaced,
	       where, s, (unsigned long long)r->head, target);
}

static int put_rows(const struct vf_args *a, const struct vf_target *t,
		    const struct vf_wish *wish)
{
	struct vf_ingest in = vf_put_ingest(a, t, wish);
	struct vf_ingest_result r = {0};
	uint64_t start = vf_now_ns();

	in.cond = (struct vf_condition){.if_absent = opt.if_absent,
					.at_version =
						opt.if_version != UINT64_MAX,
					.version = opt.if_version};
	int err = vf_source_npy_open(a->operands[1], opt.keys, opt.metadata,
				     &in.source);

	if (err)
		return err;
	err = vf_ingest_run(&in, &r);
	vf_source_free(in.source);
	if (!err && !a->common.quiet)
		print_summary(&r, t->name, start);
	return err;
}

static int put_stream(const struct vf_args *a, const struct vf_target *t)
{
	const struct vf_put_stream s = {
		.target = t,
		.cache_dir = vf_put_options.cache_dir,
		.scratch = vf_put_options.scratch,
		.every_ms = opt.every_ms,
		.if_absent = opt.if_absent,
		.skip_bad = opt.on_error && !strcmp(opt.on_error, "skip"),
		.quiet = a->common.quiet};

	return vf_put_stream_run(&s);
}

static int check_stream(bool stream)
{
	const struct vf_put_options *p = &vf_put_options;
	bool others = opt.keys || opt.metadata ||
		      opt.if_version != UINT64_MAX || p->metric || p->dtype ||
		      p->bits || p->shard_rows || p->leaves || p->compress ||
		      p->ram || p->non_filterable.n || p->seed != UINT64_MAX;

	if (opt.on_error && strcmp(opt.on_error, "stop") &&
	    strcmp(opt.on_error, "skip"))
		return vf_fail(VF_ERR_USAGE,
			       "put: --on-error \"%s\" is none of stop, skip",
			       opt.on_error);
	if (stream && others)
		return vf_fail(VF_ERR_USAGE,
			       "put: with \"-\" only --every, --on-error, "
			       "--if-absent, --cache-dir, --scratch");
	if (!stream && (opt.every_ms || opt.on_error))
		return vf_fail(VF_ERR_USAGE,
			       "put: --every and --on-error are for \"-\"");
	return 0;
}

static int run_put(const struct vf_args *a)
{
	bool stream = !strcmp(a->operands[1], "-");
	struct vf_wish wish;
	struct vf_target t;
	int err = check_stream(stream);

	if (!err)
		err = vf_put_wish("put", &wish);
	if (!err)
		err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	err = stream ? put_stream(a, &t) : put_rows(a, &t, &wish);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_put = {
	.name = "put",
	.summary = "add or replace the rows of a .npy file",
	.help = "usage: vectool put TARGET FILE.npy [OPTIONS]\n"
		"       vectool put TARGET - [OPTIONS]\n\n"
		"Adds all rows of a NumPy file (<f4, <f2 or |u1) in one "
		"commit: all of them\n"
		"appear, or, after any error, none.  Rows of keys that are "
		"there are replaced,\n"
		"vector and metadata.  Makes the index when it is absent.  A "
		"few rows (up to\n"
		"512) go into the log, more become shards.\n\n"
		"With \"-\", rows are lines of standard input, "
		"{\"key\", \"vector\", \"metadata\"},\n"
		"committed in groups (512 rows, 4 MiB or one second); a line "
		"of JSON after each\ncommit says up to where they are there to "
		"stay.  The index must be there\n(vectool create).\n\n"
		"  --every MS         with -: a row waits no longer (1000)\n"
		"  --on-error WHAT    with -: stop (default) at a bad line, or "
		"skip it\n"
		"  --keys FILE        line i is the key of row i (default: "
		"numbers that go on\n"
		"                     from the last put)\n"
		"  --metadata FILE    line i is a JSON object for row i: "
		"strings, numbers,\n"
		"                     booleans or lists of these\n"
		"  --metric M         of a new index: cosine (default), "
		"euclidean, dot\n"
		"  --dtype T          of a new index: f32, or f16, which is the "
		"default for <f2\n"
		"  --bits N           of each dimension's code, 1 (default) to 8: "
		"more of them\n"
		"                     tell near rows apart without reading "
		"their vectors\n"
		"  --shard-rows N     rows of a shard (default: 1 GiB of "
		"vectors or 262144)\n"
		"  --leaves N         of the tree of an index that has none: rows "
		"are stored by\n"
		"                     leaf, and queries look into some; default: "
		"4 times the\n"
		"                     root of the rows, none (1) below 10000\n"
		"  --ram SIZE         for sorting rows by leaf (default: 2 GiB, at "
		"most half of\n"
		"                     all); what does not fit goes through "
		"--scratch DIR\n"
		"                     (default: $TMPDIR or /var/tmp); a file "
		"that memory can\n"
		"                     hold is read twice instead, unless "
		"--scratch is given\n"
		"  --compress         store vectors as zstd too\n"
		"  --if-absent        refuse, whole, when one of the keys is "
		"there\n"
		"  --non-filterable KEY\n"
		"                     of a new index: a metadata key that filters "
		"never name; up\n"
		"                     to ten times\n"
		"  --if-version N     refuse unless the index is at version N\n"
		"  --cache-dir DIR    of the map from keys to rows "
		"(~/.cache/vecfs)\n"
		"  --seed N           of the rotation of codes of a new index "
		"(random)\n\n"
		"Examples:\n"
		"  vectool put /data/bucket/products base.npy\n"
		"  vectool put s3://bucket/prefix/products base.npy --keys "
		"ids.txt \\\n"
		"      --metadata rows.jsonl --metric dot\n",
	.min_operands = 2,
	.max_operands = 2,
	.options = options,
	.run = run_put,
};
