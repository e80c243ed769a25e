/* vectool verify: is the index in the bucket what its log says? */
#include <inttypes.h>
#include <stdio.h>

#include "query/shard_codes.h"
#include "store/change.h"
#include "store/util.h"
#include "tools/audit.h"
#include "tools/compaction.h"
#include "tools/mounted.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	const char *cache_dir;
	bool deep, repair;
} opt;

static const struct vf_arg options[] = {
	{"deep", 0, VF_ARG_FLAG, &opt.deep, 0, 0},
	{"repair", 0, VF_ARG_FLAG, &opt.repair, 0, 0},
	{"cache-dir", 0, VF_ARG_STRING, &opt.cache_dir, 0, 0},
	{0}};

static void print_finding(void *arg, const char *what)
{
	vf_print_escaped(what, strlen(what));
	putchar('\n');
	fflush(stdout);
}

static void print_summary(const struct vf_audit *a, const char *target)
{
	char size[24], other[24];

	printf("%s: ", target);
	if (a->state)
		printf("version %" PRIu64 ", %" PRIu64 " row%s in %zu "
		       "shard%s; ",
		       a->state->head, a->state->n_rows,
		       vf_plural(a->state->n_rows), a->state->n_shards,
		       vf_plural(a->state->n_shards));
	printf("%" PRIu64 " record%s, %" PRIu64 " checkpoint%s, %" PRIu64
	       " object%s (%s)",
	       a->n_records, vf_plural(a->n_records), a->n_checkpoints,
	       vf_plural(a->n_checkpoints), a->n_objects,
	       vf_plural(a->n_objects), vf_format_size(a->n_bytes, size));
	if (a->n_other)
		printf("; %" PRIu64 " object%s of older versions or of none "
		       "(%s)",
		       a->n_other, vf_plural(a->n_other),
		       vf_format_size(a->other_bytes, other));
	if (a->n_rows)
		printf("; %" PRIu64 " row%s read, sum %016" PRIx64, a->n_rows,
		       vf_plural(a->n_rows), a->sum);
	if (a->n_found)
		printf(": %" PRIu64 " finding%s\n", a->n_found,
		       vf_plural(a->n_found));
	else
		puts(opt.deep ? ": all is well"
			      : ": no finding (--deep reads vectors and "
				"records too)");
}

/* The catalog is a cache: forgotten, and built again from the bucket. */
static int rebuild_catalog(const struct vf_target *t)
{
	struct vf_changer ch = {.bucket = t->bucket,
				.index = t->index,
				.cache_dir = opt.cache_dir,
				.line_crcs = vf_shard_line_crcs};
	struct vf_catalog_view *v = NULL;
	int err = vf_changer_load(&ch);

	if (!err)
		err = vf_changer_look(&ch, &v);
	vf_catalog_done(VF_STEAL(v));
	if (!err)
		err = vf_catalog_reset(ch.catalog);
	if (!err)
		err = vf_changer_look(&ch, &v);
	vf_catalog_done(v);
	vf_changer_fini(&ch);
	return err;
}

/* Codes are made again of vectors and records, which are whole. */
static int rebuild_codes(const struct vf_args *args, const struct vf_target *t,
			 struct vf_audit *a)
{
	struct vf_compact c = {.bucket = t->bucket,
			       .target = t->name,
			       .index = t->index,
			       .quiet = args->common.quiet,
			       .n_threads = (unsigned)args->common.n_threads,
			       .repair = true,
			       .lost_tree = a->lost_tree,
			       .lost_codes = a->lost_codes,
			       .n_lost_codes = a->n_lost_codes};
	struct vf_compacted r = {0};
	int err = vf_compact_run(&c, &r);

	if (err)
		return err;
	printf("%s%zu shard%s written again as %zu: version %" PRIu64 "\n",
	       a->lost_tree ? "a new tree; " : "", r.plan.n_shards,
	       vf_plural(r.plan.n_shards), r.n_written, r.head);
	a->n_found -= a->n_lost_codes + a->lost_tree;
	return 0;
}

static int repair(const struct vf_args *args, const struct vf_target *t,
		  struct vf_audit *a)
{
	int err = 0;

	if (a->n_lost_codes || a->lost_tree)
		err = rebuild_codes(args, t, a);
	if (err)
		return err;
	err = rebuild_catalog(t);
	if (!err) {
		puts("the catalog of this machine was built again");
		a->n_found -= a->catalog_wrong;
	} else if (!a->n_found) {
		return err;
	}
	/* It is made of records, of which some may be what is damaged. */
	if (a->n_found)
		printf("%" PRIu64 " finding%s cannot be repaired: put those "
		       "rows again, or copy the object from a backup\n",
		       a->n_found, vf_plural(a->n_found));
	return 0;
}

static int verify(const struct vf_args *args, const struct vf_target *t)
{
	struct vf_audit a = {.bucket = t->bucket,
			     .index = t->index,
			     .cache_dir = opt.cache_dir,
			     .deep = opt.deep,
			     .quiet = args->common.quiet,
			     .found = print_finding};
	int err = vf_audit_run(&a);

	if (!err && !args->common.quiet)
		print_summary(&a, t->name);
	if (!err && opt.repair && a.state && a.state->configured)
		err = repair(args, t, &a);
	if (!err && a.n_found)
		err = -EBADMSG;
	vf_audit_fini(&a);
	return err;
}

/* A mount is read-only, and knows what it is a mount of. */
static int refuse_mounted(const struct vf_target *t)
{
	const char *dir = vf_bucket_dir(t->bucket);
	VF_AUTO_FREE char *path = NULL;
	char url[VF_MOUNTED_TEXT];

	if (!dir)
		return 0;
	if (asprintf(&path, "%s/%s", dir, t->index) < 0) {
		path = NULL;
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	}
	if (vf_mounted_get(path, "url", url))
		return 0;
	return vf_fail(VF_ERR_USAGE,
		       "%s: --repair writes to the bucket, and a mount is "
		       "read-only: vectool verify --repair %s",
		       t->name, url);
}

static int run_verify(const struct vf_args *a)
{
	struct vf_target t;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	if (opt.repair)
		err = refuse_mounted(&t);
	if (!err)
		err = verify(a, &t);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_verify = {
	.name = "verify",
	.summary = "compare what is in the bucket with its checksums",
	.help = "usage: vectool verify TARGET [OPTIONS]\n\n"
		"Reads the log, its checkpoints, the tree and all codes, and "
		"compares names, sizes\n"
		"and checksums of every object of the newest version.  Each "
		"finding is a line on\n"
		"standard output, \"OBJECT: what is wrong\"; the exit status "
		"is 1 when there is one.\n\n"
		"  --deep             read vectors, records and the catalog "
		"too: every row and record\n"
		"                     line against its checksum, no key twice, "
		"as many rows as the\n"
		"                     log says; prints a sum of all rows that "
		"compaction keeps\n"
		"  --repair           build again what can be made of the rest: "
		"codes (as new shards, of\n"
		"                     vectors and records that are whole), the "
		"tree (then all shards),\n"
		"                     the catalog of this machine; no object of "
		"the bucket is changed\n"
		"  --cache-dir DIR    of the map from keys to rows "
		"(~/.cache/vecfs)\n\n"
		"Of a path in a mount, what the mount gives is compared, of "
		"which some may be cached;\n"
		"--repair needs the bucket.\n\n"
		"Of a shard whose vectors or records are damaged: an older "
		"version may not need it\n"
		"(see: vectool log, vectool help restore), or put its rows "
		"again; the other shards\n"
		"are not touched by it.\n\n"
		"Examples:\n"
		"  vectool verify /data/bucket/products\n"
		"  vectool verify s3://bucket/prefix/products --deep -q\n"
		"  vectool verify /data/bucket/products --repair\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_verify,
};
