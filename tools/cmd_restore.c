/* vectool restore and vectool drop: an earlier version again, or nothing. */
#include <inttypes.h>
#include <stdio.h>

#include "store/restore.h"
#include "store/util.h"
#include "tools/target.h"
#include "tools/verb.h"

enum { ROUNDS = 50 }; /* lost to other writers before we give up */

static struct {
	uint64_t at;
} opt;

static const struct vf_arg restore_options[] = {
	{"at", 0, VF_ARG_COUNT, &opt.at, 1, INT64_MAX}, {0}};
static const struct vf_arg drop_options[] = {{0}};

/* Commit @ops on *s, which moves on; with -EEXIST to somebody else's. */
static int commit(struct vf_bucket *b, struct vf_state **s,
		  const struct vf_op *ops, size_t n_ops)
{
	struct vf_state *next;
	int err = vf_commit(b, *s, ops, n_ops, &next), refused = err;

	if (err == -EEXIST)
		err = vf_state_refresh(b, *s, &next);
	if (!err && next) {
		vf_state_free(*s);
		*s = next;
	}
	return err ? err : refused;
}

/* ---- restore ------------------------------------------------------------------------- */

static int restore_once(const struct vf_target *t, struct vf_state **s,
			const struct vf_state *then, bool *out_changed)
{
	struct vf_restore plan;
	int err;

	*out_changed = false;
	if (then->head < (*s)->oldest)
		return vf_fail(-ERANGE,
			       "%s: version %" PRIu64
			       " was collected; the oldest that is kept is "
			       "%" PRIu64,
			       t->name, then->head, (*s)->oldest);
	err = vf_restore_plan(*s, then, &plan);
	if (err)
		vf_log(VF_ERROR, "%s: %s", t->name, vf_strerror(err));
	*out_changed = !err && plan.n_ops;
	if (*out_changed)
		err = commit(t->bucket, s, plan.ops, plan.n_ops);
	vf_restore_fini(&plan);
	return err;
}

static int restore(const struct vf_target *t, struct vf_state **s,
		   bool *out_changed)
{
	struct vf_state *then = NULL;
	int err = vf_state_load_at(t->bucket, t->index, opt.at, &then);

	if (err)
		return err;
	err = -EEXIST;
	for (int i = 0; err == -EEXIST && i < ROUNDS; i++)
		err = restore_once(t, s, then, out_changed);
	vf_state_free(then);
	return err;
}

static int run_restore(const struct vf_args *a)
{
	struct vf_state *s = NULL;
	struct vf_target t;
	bool changed = false;

	if (!opt.at)
		return vf_fail(VF_ERR_USAGE, "restore: --at N is needed (see: "
					     "vectool log)");
	int err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err)
		err = restore(&t, &s, &changed);
	if (err == -EEXIST)
		vf_fail(-EBUSY, "%s: others keep committing; try again",
			t.name);
	if (!err && !a->common.quiet)
		printf("%s %s version %" PRIu64 ": version %" PRIu64
		       ", %" PRIu64 " rows\n",
		       t.name, changed ? "is again as at" : "is as at", opt.at,
		       s->head, s->n_rows);
	vf_state_free(s);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_restore = {
	.name = "restore",
	.summary = "make an index what it was at an earlier version",
	.help = "usage: vectool restore TARGET --at N\n\n"
		"Adds one commit after which the index is what it was at "
		"version N; what came\n"
		"between stays in the log, and can be restored too.  Rows that "
		"were in no shard\n"
		"then have to fit into one record (16 MiB).  Versions that "
		"vectool gc collected\n"
		"are gone.\n\n"
		"  --at N             the version (see: vectool log TARGET)\n\n"
		"Examples:\n"
		"  vectool log /data/bucket/products\n"
		"  vectool restore /data/bucket/products --at 41\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = restore_options,
	.run = run_restore,
};

/* ---- drop -------------------------------------------------------------------------------- */

static int run_drop(const struct vf_args *a)
{
	struct vf_op drop = {.kind = VF_OP_DROP};
	struct vf_state *s = NULL;
	struct vf_target t;
	uint64_t before = 0, n_rows = 0;
	int err = vf_target_open(a->operands[0], &a->common, &t);

	if (err)
		return err;
	err = vf_target_state(&t, &s);
	if (!err)
		err = -EEXIST;
	for (int i = 0; err == -EEXIST && i < ROUNDS; i++) {
		before = s->head;
		n_rows = s->n_rows;
		err = s->configured ? commit(t.bucket, &s, &drop, 1)
				    : vf_fail(-ENOENT,
					      "%s: there is nothing "
					      "to drop",
					      t.name);
	}
	if (err == -EEXIST)
		vf_fail(-EBUSY, "%s: others keep committing; try again",
			t.name);
	if (!err && !a->common.quiet)
		printf("%" PRIu64 " rows dropped: version %" PRIu64
		       " of %s\nto have them back: vectool restore %s --at "
		       "%" PRIu64 "\n",
		       n_rows, s->head, t.name, t.name, before);
	vf_state_free(s);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_drop = {
	.name = "drop",
	.summary = "drop an index; can be undone until gc",
	.help = "usage: vectool drop TARGET\n\n"
		"Adds one commit after which the index has no rows and no "
		"configuration: the\n"
		"next put or create says anew what it is.  Nothing is deleted: "
		"vectool restore\n"
		"brings it back, until vectool gc has collected its "
		"versions.\n\n"
		"Examples:\n"
		"  vectool drop /data/bucket/products\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = drop_options,
	.run = run_drop,
};
