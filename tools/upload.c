/*
 * The rows of one put on their way into the bucket.
 */
#include <math.h>
#include <stdio.h>

#include "index/amid.h"
#include "index/kernels.h"
#include "store/thread.h"
#include "tools/attempt.h"
#include "tools/pipeline.h"
#include "tools/scratchfile.h"

enum { SAMPLE_ROWS = 4096 };

/* ---- the encoder ------------------------------------------------------------------ */

/* The point that codes of a flat index are made against; 0 of no rows. */
static int find_centre(const float *rows, size_t n, uint32_t dim, bool unit,
		       float *out)
{
	VF_AUTO_FREE float *scale = malloc((n + 1) * sizeof(*scale));
	const struct vf_amid_rows r = {
		.x = rows, .n = n, .dim = dim, .scale = unit ? scale : NULL};
	double dot, sq;

	if (!scale)
		return -ENOMEM;
	for (size_t i = 0; unit && i < n; i++) {
		vf_kernels()->dot_f32(rows + i * dim, rows + i * dim, 1, dim,
				      &dot, &sq);
		scale[i] = sq > 0 ? (float)(1 / sqrt(sq)) : 0;
	}
	return vf_amid_find_f32(&r, out);
}

/* Bad rows may be among the sample: they are refused later, by number. */
static int make_flat_encoder(struct vf_attempt *a,
			     struct vf_code_params *params)
{
	uint32_t dim = a->config.dim;
	struct vf_source *source = a->in->source;
	VF_AUTO_FREE float *rows =
		malloc((size_t)SAMPLE_ROWS * dim * sizeof(float));
	VF_AUTO_FREE float *centre = malloc(dim * sizeof(*centre));
	size_t n;

	if (!rows || !centre)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = source->ops->sample(source, SAMPLE_ROWS, rows, &n);
	if (err)
		return err;
	err = find_centre(rows, n, dim, a->config.metric == VF_COSINE, centre);
	if (!err)
		err = vf_encoder_new(params, centre, &a->encoder);
	return err ? vf_fail(err, "%s: %s", a->in->target, vf_strerror(err))
		   : 0;
}

static int make_encoder(struct vf_attempt *a)
{
	struct vf_code_params params = {.dim = a->config.dim,
					.metric = a->config.metric,
					.rotation_seed =
						a->config.rotation_seed,
					.bits = a->in->wish.bits};
	int err;

	if (!a->follow.tree)
		return make_flat_encoder(a, &params);
	err = vf_encoder_new_tree(&params, a->follow.tree, &a->encoder);
	return err ? vf_fail(err, "%s: %s", a->in->target, vf_strerror(err))
		   : 0;
}

/* The tree to follow, which memory bounds. */
static int find_tree(struct vf_attempt *a)
{
	const struct vf_ingest *in = a->in;
	/* Rows that move bring a tree only when that is what they are for. */
	bool none = a->moves && !a->new_tree && !a->state->has_tree;
	uint32_t n_leaves = none ? 1 : in->n_leaves;
	struct vf_follow_options opt = {.bucket = in->bucket,
					.index = in->index,
					.state = a->new_tree ? NULL : a->state,
					.config = &a->config,
					.source = in->source,
					.head = a->state ? a->state->head : 0,
					.ram = a->ram,
					.n_leaves = n_leaves,
					.keeper = in->keeper,
					.n_threads = in->n_threads,
					.quiet = in->quiet};

	return vf_follow_open(&opt, &a->follow);
}

/* ---- uploading ---------------------------------------------------------------------- */

static void *run_finisher(void *arg)
{
	struct vf_attempt *a = arg;

	a->finish_err = vf_writer_finish(a->finished);
	vf_writer_free(a->finished);
	return NULL;
}

static int join_finisher(struct vf_attempt *a)
{
	if (!a->finishing)
		return 0;
	pthread_join(a->finisher, NULL);
	a->finishing = false;
	return a->finish_err;
}

/* The end of a shard (sync, last requests) overlaps with the next one. */
static int end_shard(struct vf_attempt *a)
{
	int err = join_finisher(a);

	if (err || !a->writer)
		return err;
	a->finished = VF_STEAL(a->writer);
	a->finishing = !vf_thread_start(&a->finisher, run_finisher, a);
	if (!a->finishing) {
		run_finisher(a);
		return a->finish_err;
	}
	return 0;
}

static int begin_shard(struct vf_attempt *a)
{
	struct vf_writer_options opt = {.bucket = a->in->bucket,
					.index = a->in->index,
					.encoder = a->encoder,
					.dtype = a->config.dtype,
					.dim = a->config.dim,
					.compress = a->in->compress};
	size_t i = a->n_begun++;
	struct vf_shard_ref *ref = &a->shards[i];

	vf_shard_name(a->state ? a->state->head : 0, ref->name);
	ref->n_rows = a->starts[i + 1] - a->starts[i];
	/* Sorted rows: any of the keys may be in any of the shards. */
	if (a->moves)
		ref->next_key = a->moved_next_key;
	else if (!a->in->source->has_keys)
		ref->next_key = a->first_key +
				a->starts[a->sorter ? a->n_shards : i + 1];
	return vf_writer_open(&opt, ref, &a->writer);
}

static int note_numbers(struct vf_attempt *a, const struct vf_chunk *c)
{
	int err = 0;

	for (size_t i = 0; !err && a->moves && i < c->n; i++) {
		uint32_t n = c->from ? c->from[i] : (uint32_t)(c->row + i);
		err = vf_buf_append(&a->from, &n, sizeof(n));
	}
	return err ? vf_fail(err, "%s", vf_strerror(err)) : 0;
}

static int take_chunk(void *arg, const struct vf_chunk *c)
{
	struct vf_attempt *a = arg;
	int err = 0;

	if (c->row == a->starts[a->n_begun]) {
		err = end_shard(a);
		if (!err)
			err = begin_shard(a);
	}
	if (!err)
		err = vf_writer_add(a->writer, c);
	if (!err)
		err = note_numbers(a, c);
	vf_progress_update(&a->progress, c->row + c->n);
	return err;
}

static struct vf_buf *keys_wanted(struct vf_attempt *a)
{
	a->keys.len = 0;
	return a->in->source->has_keys && !a->moves ? &a->keys : NULL;
}

static int sort_chunk(void *arg, const struct vf_chunk *c)
{
	struct vf_attempt *a = arg;

	vf_progress_update(&a->progress, c->row + c->n);
	return vf_sorter_add(a->sorter, c);
}

/* Room for @max shards and where they begin. */
static int alloc_shards(struct vf_attempt *a, size_t max)
{
	a->shards = calloc(max, sizeof(*a->shards));
	a->starts = calloc(max + 1, sizeof(*a->starts));
	return a->shards && a->starts
		       ? 0
		       : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

static void cut(struct vf_attempt *a, uint64_t row)
{
	if (row > a->starts[a->n_shards])
		a->starts[++a->n_shards] = row;
}

/*
 * Shards of whole leaves, as many as go in; a leaf is only cut when it is
 * larger than a shard.  Two neighbours hold more than one shard may.
 */
static int cut_at_leaves(struct vf_attempt *a)
{
	const uint64_t *counts = vf_sorter_counts(a->sorter);
	uint64_t rows = a->in->source->n_rows, max = a->shard_rows, at = 0;
	int err = alloc_shards(a, (size_t)(2 * (rows / max) + 2));

	if (err)
		return err;
	for (uint32_t i = 0; i < a->follow.n_leaves; i++) {
		if (at + counts[i] - a->starts[a->n_shards] > max)
			cut(a, at);
		at += counts[i];
		while (at - a->starts[a->n_shards] > max)
			cut(a, a->starts[a->n_shards] + max);
	}
	cut(a, at);
	return 0;
}

static int cut_evenly(struct vf_attempt *a)
{
	uint64_t rows = a->in->source->n_rows;
	int err = alloc_shards(
		a, (size_t)((rows + a->shard_rows - 1) / a->shard_rows));

	for (uint64_t at = a->shard_rows; !err && at < rows;
	     at += a->shard_rows)
		cut(a, at);
	if (!err)
		cut(a, rows);
	return err;
}

/*
 * Whether vectors are better taken from their source again than written to
 * scratch and read: they come in any order, so only what memory can hold, and
 * not when the user has named a folder for what is sorted.
 */
static bool may_take(const struct vf_attempt *a)
{
	const struct vf_source *s = a->in->source;

	return s->ops->take && !a->in->scratch && s->dtype == a->config.dtype &&
	       vf_scratch_is_spared(s->n_rows * s->raw_len);
}

static int open_sorter(struct vf_attempt *a)
{
	const struct vf_sorter_options opt = {
		.n_leaves = a->follow.n_leaves,
		.shares = a->follow.shares,
		.n_rows = a->in->source->n_rows,
		.dim = a->config.dim,
		.dtype = a->config.dtype,
		.source = may_take(a) ? a->in->source : NULL,
		.code_len = vf_encoder_code_len(a->encoder),
		.extra_len = vf_encoder_extra_len(a->encoder),
		.ram = a->ram,
		.scratch = a->in->scratch};

	return vf_sorter_new(&opt, &a->sorter);
}

static int run_pipeline(struct vf_attempt *a, vf_consume_fn *consume)
{
	const struct vf_ingest *in = a->in;
	struct vf_pipeline_options opt = {
		.source = in->source,
		.encoder = a->encoder,
		.cluster = a->follow.cluster,
		.metric = a->config.metric,
		.dtype = a->config.dtype,
		.shard_rows = a->sorter ? in->source->n_rows : a->shard_rows,
		.first_key = a->first_key,
		.keys = keys_wanted(a),
		.n_threads = in->n_threads,
		.consume = consume,
		.arg = a};

	return vf_pipeline_run(&opt);
}

static void begin_progress(struct vf_attempt *a, const char *what)
{
	vf_progress_begin(&a->progress, what, a->in->source->n_rows,
			  a->config.dim * vf_dtype_size(a->config.dtype),
			  a->in->quiet);
}

/* Rows by leaf: all of them are read before the first is written. */
static int sort_rows(struct vf_attempt *a)
{
	int err = open_sorter(a);

	if (err)
		return err;
	begin_progress(a, "sorting");
	err = run_pipeline(a, sort_chunk);
	vf_progress_end(&a->progress);
	return err ? err : cut_at_leaves(a);
}

static int write_shards(struct vf_attempt *a)
{
	int err = a->follow.tree ? sort_rows(a) : cut_evenly(a);

	if (err)
		return err;
	begin_progress(a, a->moves ? "writing" : "put");
	err = a->sorter ? vf_sorter_run(a->sorter, a->starts + 1, a->n_shards,
					take_chunk, a)
			: run_pipeline(a, take_chunk);
	if (!err)
		err = end_shard(a);
	vf_writer_free(VF_STEAL(a->writer));
	int join_err = join_finisher(a);
	vf_progress_end(&a->progress);
	return err ? err : join_err;
}

int vf_attempt_upload(struct vf_attempt *a)
{
	int err = find_tree(a);

	if (!err)
		err = make_encoder(a);
	return err ? err : write_shards(a);
}

int vf_attempt_carry(struct vf_attempt *a)
{
	const struct vf_ingest *in = a->in;
	int err = make_encoder(a);

	if (err)
		return err;
	struct vf_pipeline_options opt = {.source = in->source,
					  .encoder = a->encoder,
					  .metric = a->config.metric,
					  .dtype = a->config.dtype,
					  .shard_rows = a->shard_rows,
					  .first_key = a->first_key,
					  .keys = keys_wanted(a),
					  .n_threads = 1,
					  .consume = vf_carried_add,
					  .arg = &a->carried};

	vf_carried_init(&a->carried,
			a->config.dim * vf_dtype_size(a->config.dtype),
			2 * VF_INLINE_LEN);
	err = vf_pipeline_run(&opt);
	if (err == -EFBIG) {
		vf_carried_fini(&a->carried);
		return write_shards(a);
	}
	a->n_shards = 0;
	if (!in->source->has_keys)
		a->carried.next_key = a->first_key + in->source->n_rows;
	return err;
}
