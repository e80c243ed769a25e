/*
 * What a put is to be is settled at the newest state, and what every writer does
 * for those after it is done; then comes the attempt, and the next one when what
 * was uploaded does not fit any more.
 */
#include "tools/attempt.h"
#include "tools/compaction.h"

enum { ATTEMPTS = 5 };

/* Rows that go into a record, VF_INLINE_LEN too. */
enum { INLINE_ROWS = 512 };

/* Rows that are there for each of a put that has its tree made anew. */
enum { OUTGROWN_BY = 64 };

/*
 * A few rows go into the record, as long as there are not too many of those:
 * every query scores the tail row by row.
 */
static bool fits_inline(const struct vf_attempt *a)
{
	uint64_t rows = a->in->source->n_rows;
	uint64_t len = rows * a->config.dim * vf_dtype_size(a->config.dtype);

	if (a->configures || a->in->shard_rows || a->in->wish.bits > 1 ||
	    a->in->n_leaves > 1 || rows > INLINE_ROWS || len > VF_INLINE_LEN)
		return false;
	return !vf_tail_is_long(a->state);
}

/*
 * What a writer does for all that come after it; not when a version was asked
 * for: ours would be another.
 */
static int tend(struct vf_attempt *a, enum vf_tending what)
{
	const struct vf_ingest *in = a->in;
	struct vf_tender t = {.bucket = in->bucket,
			      .target = in->target,
			      .index = in->index,
			      .shard_rows = in->shard_rows,
			      .ram = in->ram,
			      .scratch = in->scratch,
			      .n_threads = in->n_threads,
			      .quiet = in->quiet};

	return a->state && !in->cond.at_version ? vf_tend(&t, what, &a->state)
						: 0;
}

/* Of those that add to them. */
static int tend_shards(struct vf_attempt *a)
{
	int err = 0;

	/* One who says how many leaves a tree has makes it. */
	if (!a->state || !a->state->configured || a->in->n_leaves)
		return 0;
	if (a->in->source->n_rows >= a->state->n_rows / OUTGROWN_BY)
		err = tend(a, VF_TEND_TREE);
	return err || fits_inline(a) ? err : tend(a, VF_TEND_SHARDS);
}

static int prepare(struct vf_attempt *a)
{
	const struct vf_ingest *in = a->in;
	int err = vf_index_find(in->bucket, in->index, &a->state);

	if (!err)
		err = tend(a, VF_TEND_TAIL);
	if (!err)
		err = vf_config_settle(in->target, a->state, &in->wish,
				       in->source, &a->config);
	if (!err)
		err = tend_shards(a);
	if (err)
		return err;
	a->configures = !a->state || !a->state->configured;
	if (in->embedder_data && !a->configures)
		return vf_fail(-EEXIST,
			       "%s: somebody else created it meanwhile; import "
			       "again, with its embedder",
			       in->target);
	a->first_key = a->state ? a->state->next_key : 0;
	a->shard_rows = in->shard_rows ? in->shard_rows
				       : vf_shard_rows_default(a->config.dim,
							       a->config.dtype);
	a->ram = vf_attempt_ram(in->ram);
	uint64_t head = a->state ? a->state->head : 0;
	if (in->cond.at_version && in->cond.version != head)
		return vf_fail(-ESTALE, "%s: is at version %llu, not %llu",
			       in->target, (unsigned long long)head,
			       (unsigned long long)in->cond.version);
	return 0;
}

static int run_attempt(const struct vf_ingest *in, struct vf_ingest_result *out)
{
	struct vf_attempt a = {.in = in};
	int err = prepare(&a);

	if (!err)
		err = fits_inline(&a) ? vf_attempt_carry(&a)
				      : vf_attempt_upload(&a);
	if (!err)
		err = vf_attempt_commit(&a, &out->n_replaced);
	if (!err)
		out->head = a.state->head;
	if (err && err != -EINPROGRESS)
		vf_attempt_remove(&a);
	*out = (struct vf_ingest_result){.n_rows = in->source->n_rows,
					 .head = out->head,
					 .n_replaced = out->n_replaced,
					 .n_shards = a.n_shards,
					 .n_leaves = a.follow.n_leaves,
					 .created = a.configures};
	vf_attempt_fini(&a);
	return err;
}

int vf_ingest_run(const struct vf_ingest *in, struct vf_ingest_result *out)
{
	int err = VF_START_OVER;

	for (int i = 0; err == VF_START_OVER && i < ATTEMPTS; i++) {
		if (i)
			vf_log(VF_WARN,
			       "%s: somebody else wrote to it meanwhile; "
			       "starting over",
			       in->target);
		err = run_attempt(in, out);
	}
	if (err == VF_START_OVER)
		err = vf_fail(-EBUSY,
			      "%s: others keep writing to it; try again",
			      in->target);
	if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted; %s is as it was", in->target);
	return err;
}
