/* vectool compact: small and half-dead shards and the tail into full shards. */
#include <inttypes.h>
#include <stdio.h>

#include "store/util.h"
#include "tools/compaction.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	uint64_t shard_rows, ram;
	const char *scratch;
	bool dry_run;
} opt;

static const struct vf_arg options[] = {
	{"dry-run", 'n', VF_ARG_FLAG, &opt.dry_run, 0, 0},
	{"ram", 0, VF_ARG_SIZE, &opt.ram, 64 << 20, 0},
	{"scratch", 0, VF_ARG_STRING, &opt.scratch, 0, 0},
	{"shard-rows", 0, VF_ARG_COUNT, &opt.shard_rows, 1, VF_SHARD_ROWS_MAX},
	{0}};

static void print_summary(const struct vf_compacted *r, const char *name,
			  uint64_t start_ns)
{
	const struct vf_compact_plan *p = &r->plan;
	double s = (double)(vf_now_ns() - start_ns) / 1e9;

	if (!p->n_shards && !p->tail) {
		printf("%s: nothing to be done\n", name);
		return;
	}
	printf("%" PRIu64 " row%s of %zu shard%s", p->n_rows,
	       vf_plural(p->n_rows), p->n_shards, vf_plural(p->n_shards));
	if (r->n_tail)
		printf(" and the tail (%" PRIu64 ")", r->n_tail);
	if (opt.dry_run) {
		printf(" would be written anew%s\n",
		       p->new_tree ? ", along a new tree" : "");
		return;
	}
	printf(" into %zu shard%s%s, %.2f s: version %" PRIu64 " of %s\n",
	       r->n_written, vf_plural(r->n_written),
	       p->new_tree ? " along a new tree" : "", s, r->head, name);
}

static int run_compact(const struct vf_args *a)
{
	struct vf_compacted r = {0};
	uint64_t start = vf_now_ns();
	struct vf_target t;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	struct vf_compact c = {.bucket = t.bucket,
			       .target = t.name,
			       .index = t.index,
			       .shard_rows = opt.shard_rows,
			       .ram = opt.ram,
			       .scratch = opt.scratch,
			       .eager = true,
			       .dry_run = opt.dry_run,
			       .quiet = a->common.quiet,
			       .n_threads = (unsigned)a->common.n_threads};
	err = vf_compact_run(&c, &r);
	if (!err && !a->common.quiet)
		print_summary(&r, t.name, start);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_compact = {
	.name = "compact",
	.summary = "fold small and half-dead shards and the log's rows into "
		   "full shards",
	.help = "usage: vectool compact TARGET [OPTIONS]\n\n"
		"Writes the living rows of shards that are less than half "
		"full or half dead, and\n"
		"of the log, anew: into full shards, along the tree of the "
		"index.  An index that\n"
		"has grown to four times what its tree was made for, or that "
		"is large and has\n"
		"none, gets a new tree, and all its rows are written.  One "
		"commit does it all:\n"
		"queries and writers go on meanwhile, and what they delete or "
		"replace stays so.\n"
		"The old shards stay in the bucket until they are collected.\n\n"
		"  -n, --dry-run      say what would be done\n"
		"  --ram SIZE         for rows under way (default: 2 GiB, at "
		"most half of all);\n"
		"                     what does not fit goes through --scratch "
		"DIR\n"
		"                     (default: $TMPDIR or /var/tmp)\n"
		"  --shard-rows N     rows of a full shard (default: 1 GiB of "
		"vectors or 262144)\n\n"
		"Examples:\n"
		"  vectool compact s3://bucket/prefix/products --dry-run\n"
		"  nice vectool compact s3://bucket/prefix/products -j 1\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_compact,
};
