/* vectool gc: delete what no version that is kept needs. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "store/gc.h"
#include "store/util.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/target.h"
#include "tools/verb.h"

static struct {
	uint64_t keep, wait_s;
	const char *older_than;
	bool dry_run;
} opt = {.wait_s = VF_GC_WAIT_S};

static const struct vf_arg options[] = {
	{"keep", 0, VF_ARG_COUNT, &opt.keep, 1, INT64_MAX},
	{"older-than", 0, VF_ARG_STRING, &opt.older_than, 0, 0},
	{"wait", 0, VF_ARG_COUNT, &opt.wait_s, 0, 86400},
	{"dry-run", 0, VF_ARG_FLAG, &opt.dry_run, 0, 0},
	{0}};

enum { KEEP = 64 }; /* versions, unless told otherwise */

static struct vf_progress progress;

/* ---- which versions -------------------------------------------------------------------- */

/* "90s", "30m", "12h", "7d".  Returns 0; VF_ERR_USAGE, logged. */
static int parse_age(const char *s, int64_t *out_s)
{
	static const struct {
		char letter;
		int64_t s;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char *end;
	unsigned long long n = strtoull(s, &end, 10);

	for (size_t i = 0; i < VF_N(units); i++)
		if (*s >= '0' && *s <= '9' && n < 1000000 &&
		    end[0] == units[i].letter && !end[1]) {
			*out_s = (int64_t)n * units[i].s;
			return 0;
		}
	return vf_fail(VF_ERR_USAGE,
		       "--older-than: %s is no age such as 90s, 30m, 12h, 7d",
		       s);
}

static int record_time(const struct vf_target *t, uint64_t n, int64_t *out_s)
{
	VF_AUTO_FREE void *bytes = NULL;
	struct vf_record r;
	int err = vf_record_load(t->bucket, t->index, n, &bytes, &r);

	if (err == -ENOENT)
		return vf_fail(-EBADMSG, "%s: record %" PRIu64 " is missing",
			       t->name, n);
	if (err)
		return err;
	*out_s = r.time_s;
	vf_record_fini(&r);
	return 0;
}

/*
 * The version that was the newest @age_s ago, by the clocks of the writers,
 * taken to go forward: bisected, for a log may be long.
 */
static int find_old(const struct vf_target *t, const struct vf_state *s,
		    int64_t age_s, uint64_t *out)
{
	uint64_t low = s->oldest ? s->oldest : 1, high = s->head;
	int64_t limit = (int64_t)time(NULL) - age_s, at = 0;
	int err = 0;

	while (!err && low < high) {
		uint64_t mid = high - (high - low) / 2;
		err = record_time(t, mid, &at);
		if (at > limit)
			high = mid - 1;
		else
			low = mid;
	}
	*out = low;
	return err;
}

/* The oldest version to keep. */
static int choose(const struct vf_target *t, const struct vf_state *s,
		  uint64_t *out)
{
	uint64_t keep = opt.keep ? opt.keep : opt.older_than ? 1 : KEEP;
	uint64_t by_age = UINT64_MAX;
	int64_t age_s = 0;
	int err = opt.older_than ? parse_age(opt.older_than, &age_s) : 0;

	if (!err && opt.older_than && s->head)
		err = find_old(t, s, age_s, &by_age);
	*out = s->head > keep ? s->head - keep + 1 : 1;
	*out = VF_MAX(VF_MIN(*out, by_age), s->oldest);
	return err;
}

/* ---- the steps ----------------------------------------------------------------------------- */

static int show_swept(void *arg, const struct vf_gc_counts *sum)
{
	vf_progress_update(&progress, sum->n_objects);
	return vf_interrupted() ? -ECANCELED : 0;
}

/* Requests of before the boundary, and readers of older versions, end. */
static int wait_out(bool quiet)
{
	vf_progress_begin(&progress,
			  "waiting for requests that may be on their way",
			  opt.wait_s, 0, quiet);
	progress.unit = "s";
	for (uint64_t s = 0; s < opt.wait_s && !vf_interrupted(); s++) {
		vf_progress_update(&progress, s);
		sleep(1);
	}
	vf_progress_end(&progress);
	if (!vf_interrupted())
		return 0;
	return vf_fail(-ECANCELED, "interrupted; nothing was deleted yet: run "
				   "vectool gc again");
}

static int sweep(const struct vf_target *t, uint64_t below, bool quiet,
		 struct vf_gc_counts *sum)
{
	struct vf_gc_sweep g = {.bucket = t->bucket,
				.index = t->index,
				.below = below,
				.dry_run = opt.dry_run,
				.progress = show_swept};

	vf_progress_begin(&progress, opt.dry_run ? "looking" : "deleting", 0, 0,
			  quiet);
	progress.unit = "objects";
	int err = vf_gc_sweep(&g, sum);
	vf_progress_end(&progress);
	return err;
}

static void print_sum(const struct vf_target *t, uint64_t below,
		      const struct vf_gc_counts *n)
{
	char size[24];

	printf("%" PRIu64 " object%s (%" PRIu64 " shard%s, %" PRIu64
	       " record%s), %s, %s: versions below %" PRIu64 " of %s are %s\n",
	       n->n_objects, vf_plural(n->n_objects), n->n_shards,
	       vf_plural(n->n_shards), n->n_records, vf_plural(n->n_records),
	       vf_format_size(n->bytes, size),
	       opt.dry_run ? "would be deleted" : "deleted", below, t->name,
	       opt.dry_run ? "not needed" : "gone");
}

static int collect(const struct vf_target *t, struct vf_state **s, bool quiet)
{
	struct vf_gc_counts sum;
	uint64_t below;
	int err = choose(t, *s, &below);

	if (err)
		return err;
	if (!(*s)->head || (below == 1 && !(*s)->oldest)) {
		if (!quiet)
			printf("every version of %s is kept\n", t->name);
		return 0;
	}
	if (!opt.dry_run) {
		err = vf_gc_begin(t->bucket, s, below);
		if (!err)
			err = wait_out(quiet);
		below = (*s)->oldest;
	}
	if (!err)
		err = sweep(t, below, quiet, &sum);
	if (!err && !quiet)
		print_sum(t, below, &sum);
	return err;
}

static int run_gc(const struct vf_args *a)
{
	struct vf_state *s = NULL;
	struct vf_target t;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err)
		err = collect(&t, &s, a->common.quiet);
	vf_state_free(s);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_gc = {
	.name = "gc",
	.summary = "delete what only old versions need",
	.help = "usage: vectool gc TARGET [OPTIONS]\n\n"
		"Gives up versions and deletes what only they, or uploads that "
		"were given up,\n"
		"have in the bucket.  A commit and a boundary say so first; "
		"then requests that\n"
		"may still be on their way, and readers of those versions, are "
		"waited for.\n"
		"Stopped at any moment, the next run goes on.\n\n"
		"  --keep N           the newest N versions stay (64)\n"
		"  --older-than AGE   versions that were not the newest any "
		"more AGE ago go: 90s,\n"
		"                     30m, 12h, 7d, by the clocks of the "
		"writers\n"
		"  --wait SECONDS     before deleting (960); less only when "
		"nobody else is at\n"
		"                     this index\n"
		"  --dry-run          say what would be deleted\n\n"
		"Examples:\n"
		"  vectool gc /data/bucket/products --dry-run\n"
		"  vectool gc s3://bucket/prefix/products --older-than 7d\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_gc,
};
