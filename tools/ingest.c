/*
 * One attempt: upload, resolve keys against the state, commit.  When somebody
 * else commits meanwhile, keys are resolved again and the uploaded shards stay
 * valid: only automatic keys, or an index that somebody else created meanwhile,
 * make us start over.
 */
#include "tools/ingest.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "store/change.h"
#include "tools/carried.h"
#include "tools/pipeline.h"
#include "tools/progress.h"
#include "tools/verb.h"
#include "tools/writer.h"

enum { ATTEMPTS = 5, COMMITS = 20, SAMPLE_ROWS = 4096 };

/* Bounds of rows that go into a record, and of all such rows together. */
enum {
	INLINE_ROWS = 512,
	INLINE_LEN = 4 << 20,
	TAIL_LEN = 8 << 20,
	TAIL_RECORDS = 256,
};

/* An attempt that cannot be saved, though the next one may be. */
#define START_OVER (-ERESTART)

struct attempt {
	const struct vf_ingest *in;
	struct vf_state *state;	    /* NULL: no such index */
	struct vf_catalog *catalog; /* NULL until keys are looked for */
	struct vf_buf keys;	    /* of all rows, when they have any */
	struct vf_carried carried;  /* rows that go into the record itself */
	struct vf_index_config config;
	bool configures; /* our record is to say what it is */
	bool identified; /* we asked for an identity and got @uuid */
	uint8_t uuid[16];
	uint64_t first_key, shard_rows;
	struct vf_encoder *encoder;
	struct vf_shard_ref *shards; /* [n_shards] */
	size_t n_shards, n_begun;
	struct vf_writer *writer; /* of shard n_begun - 1 */
	pthread_t finisher;	  /* finishes the shard before */
	bool finishing;
	struct vf_writer *finished;
	int finish_err; /* the finisher's until it is joined */
	struct vf_progress progress;
};

/* ---- the encoder ------------------------------------------------------------------ */

static void add_row(double *mean, const float *x, uint32_t dim, bool unit)
{
	double sum = 0, scale = 1;

	for (uint32_t j = 0; unit && j < dim; j++)
		sum += (double)x[j] * x[j];
	if (unit)
		scale = sum > 0 ? 1 / sqrt(sum) : 0;
	for (uint32_t j = 0; j < dim; j++)
		mean[j] += x[j] * scale;
}

/* Bad rows may be among the sample: they are refused later, by number. */
static int make_encoder(struct attempt *a)
{
	uint32_t dim = a->config.dim;
	struct vf_source *source = a->in->source;
	VF_AUTO_FREE float *rows =
		malloc((size_t)SAMPLE_ROWS * dim * sizeof(float));
	VF_AUTO_FREE double *mean = calloc(dim, sizeof(double));
	struct vf_code_params params = {.dim = dim,
					.metric = a->config.metric,
					.rotation_seed =
						a->config.rotation_seed,
					.bits = a->in->wish.bits};
	size_t n;

	if (!rows || !mean)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = source->ops->sample(source, SAMPLE_ROWS, rows, &n);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++)
		add_row(mean, rows + i * dim, dim,
			a->config.metric == VF_COSINE);
	for (uint32_t j = 0; j < dim; j++) {
		float m = (float)(mean[j] / (double)n);
		rows[j] = isfinite(m) ? m : 0;
	}
	err = vf_encoder_new(&params, rows, &a->encoder);
	return err ? vf_fail(err, "%s: %s", a->in->target, vf_strerror(err))
		   : 0;
}

/* ---- uploading ---------------------------------------------------------------------- */

static void *run_finisher(void *arg)
{
	struct attempt *a = arg;

	a->finish_err = vf_writer_finish(a->finished);
	vf_writer_free(a->finished);
	return NULL;
}

static int join_finisher(struct attempt *a)
{
	if (!a->finishing)
		return 0;
	pthread_join(a->finisher, NULL);
	a->finishing = false;
	return a->finish_err;
}

/* The end of a shard (sync, last requests) overlaps with the next one. */
static int end_shard(struct attempt *a)
{
	int err = join_finisher(a);

	if (err || !a->writer)
		return err;
	a->finished = VF_STEAL(a->writer);
	a->finishing = !pthread_create(&a->finisher, NULL, run_finisher, a);
	if (!a->finishing) {
		run_finisher(a);
		return a->finish_err;
	}
	return 0;
}

static int begin_shard(struct attempt *a)
{
	struct vf_writer_options opt = {.bucket = a->in->bucket,
					.index = a->in->index,
					.encoder = a->encoder,
					.dtype = a->config.dtype,
					.dim = a->config.dim,
					.compress = a->in->compress};
	uint64_t first = a->n_begun * a->shard_rows;
	struct vf_shard_ref *ref = &a->shards[a->n_begun++];

	vf_shard_name(a->state ? a->state->head : 0, ref->name);
	ref->n_rows = VF_MIN(a->shard_rows, a->in->source->n_rows - first);
	if (!a->in->source->has_keys)
		ref->next_key = a->first_key + first + ref->n_rows;
	return vf_writer_open(&opt, ref, &a->writer);
}

static int take_chunk(void *arg, const struct vf_chunk *c)
{
	struct attempt *a = arg;
	int err = 0;

	if (c->row % a->shard_rows == 0) {
		err = end_shard(a);
		if (!err)
			err = begin_shard(a);
	}
	if (!err)
		err = vf_writer_add(a->writer, c);
	vf_progress_update(&a->progress, c->row + c->n);
	return err;
}

static struct vf_buf *keys_wanted(struct attempt *a)
{
	a->keys.len = 0;
	return a->in->source->has_keys ? &a->keys : NULL;
}

static int upload(struct attempt *a)
{
	const struct vf_ingest *in = a->in;
	struct vf_pipeline_options opt = {.source = in->source,
					  .encoder = a->encoder,
					  .metric = a->config.metric,
					  .dtype = a->config.dtype,
					  .shard_rows = a->shard_rows,
					  .first_key = a->first_key,
					  .keys = keys_wanted(a),
					  .n_threads = in->n_threads,
					  .consume = take_chunk,
					  .arg = a};

	vf_progress_begin(&a->progress, "put", in->source->n_rows,
			  a->config.dim * vf_dtype_size(a->config.dtype),
			  in->quiet);
	int err = vf_pipeline_run(&opt);
	if (!err)
		err = end_shard(a);
	vf_writer_free(VF_STEAL(a->writer));
	int join_err = join_finisher(a);
	vf_progress_end(&a->progress);
	return err ? err : join_err;
}

/* ---- committing ------------------------------------------------------------------------ */

/* "<index>/embed/<nonce>.vfe" */
static char *embed_key(const struct attempt *a)
{
	char *key;

	return asprintf(&key, "%s/embed/%s", a->in->index,
			a->config.embedder_data.name) < 0
		       ? NULL
		       : key;
}

static int upload_embedder(struct attempt *a)
{
	struct vf_object_ref *ref = &a->config.embedder_data;
	uint8_t nonce[16];
	char hex[33];

	if (!a->configures || !a->in->embedder_data)
		return 0;
	vf_random(nonce, sizeof(nonce));
	vf_hex(nonce, sizeof(nonce), hex);
	snprintf(ref->name, sizeof(ref->name), "%s.vfe", hex);
	VF_AUTO_FREE char *key = embed_key(a);
	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return vf_object_write(a->in->bucket, key, a->in->embedder_data->data,
			       a->in->embedder_data->len, ref);
}

static int create_identity(struct attempt *a)
{
	int err = vf_index_create(a->in->bucket, a->in->index, a->uuid);

	a->identified = !err;
	if (!err)
		err = vf_state_load(a->in->bucket, a->in->index, &a->state);
	if (err == -ENOENT)
		vf_log(VF_ERROR, "%s: was removed meanwhile", a->in->target);
	return err;
}

static void show_reading(void *arg, uint64_t done, uint64_t total)
{
	struct attempt *a = arg;

	a->progress.n_total = total;
	vf_progress_update(&a->progress, done);
}

/* Lends what is ours; the caller takes back what moved. */
static struct vf_changer begin_change(struct attempt *a)
{
	return (struct vf_changer){.bucket = a->in->bucket,
				   .index = a->in->index,
				   .cache_dir = a->in->cache_dir,
				   .progress = show_reading,
				   .arg = a,
				   .state = a->state,
				   .catalog = a->catalog};
}

static int commit_once(struct attempt *a, const struct vf_kills *kills)
{
	size_t n = a->n_shards + a->configures + 1, at = 0;
	VF_AUTO_FREE struct vf_op *ops = calloc(n, sizeof(*ops));

	if (!ops)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (a->configures)
		ops[at++] = (struct vf_op){.kind = VF_OP_CONFIGURE,
					   .configure = a->config};
	if (a->carried.n_rows)
		ops[at++] = vf_carried_op(&a->carried);
	for (size_t i = 0; i < a->n_shards; i++)
		ops[at++] = (struct vf_op){.kind = VF_OP_ADD_SHARD,
					   .add_shard = a->shards[i]};
	struct vf_changer ch = begin_change(a);
	int err = vf_changer_commit(&ch, ops, at, kills);
	a->state = ch.state;
	if (err == -EFBIG)
		vf_log(VF_ERROR,
		       "%s: %zu shards and what they replace are too much for "
		       "one record; use a larger --shard-rows",
		       a->in->target, a->n_shards);
	return err;
}

static bool same_config(const struct vf_index_config *a,
			const struct vf_index_config *b)
{
	return a->dim == b->dim && a->metric == b->metric &&
	       a->dtype == b->dtype && a->rotation_seed == b->rotation_seed;
}

/* Somebody else's records came first: does what we made still fit? */
static int check_fit(struct attempt *a)
{
	if (a->configures && a->state->configured)
		return START_OVER;
	if (!a->configures && !same_config(&a->config, &a->state->config))
		return START_OVER; /* dropped, made again */
	if (!a->in->source->has_keys && a->state->next_key != a->first_key)
		return START_OVER;
	return 0;
}

/* Keys somebody chose may be numbers that our counter comes to. */
static bool has_chosen_keys(const struct vf_state *s)
{
	for (size_t i = 0; i < s->n_shards; i++)
		if (!s->shards[i].next_key)
			return true;
	for (size_t i = 0; i < s->n_tail; i++)
		if (!s->tail[i].rows->next_key)
			return true;
	return false;
}

static int number_keys(struct attempt *a)
{
	char number[24];

	for (uint64_t i = 0; i < a->in->source->n_rows; i++) {
		int n = snprintf(number, sizeof(number), "%" PRIu64,
				 a->first_key + i);
		if (vf_keys_append(&a->keys, number, (size_t)n))
			return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	}
	return 0;
}

/* The rows ours replace, at the state as it is now. */
static int resolve(struct attempt *a, struct vf_kills *out)
{
	bool chosen = a->in->source->has_keys;
	struct vf_condition cond = a->in->cond;
	int err = 0;

	*out = (struct vf_kills){0};
	if (!chosen) {
		cond.if_absent = true; /* nobody asked to replace these */
		chosen = has_chosen_keys(a->state);
		if (chosen && !a->keys.len)
			err = number_keys(a);
	}
	struct vf_delete keys = {.keys = a->keys.data};
	if (chosen) {
		keys.n_keys = a->in->source->n_rows;
		keys.len = a->keys.len;
	}
	struct vf_changer ch = begin_change(a);
	if (!err)
		err = vf_changer_resolve(&ch, &keys, &cond, out);
	a->state = ch.state;
	a->catalog = ch.catalog;
	return err;
}

/* One round: from looking for keys to the record.  -EAGAIN: another one. */
static int try_commit(struct attempt *a, uint64_t *out_replaced)
{
	struct vf_kills kills;
	int err = check_fit(a);

	if (err)
		return err;
	uint64_t head = a->state->head;
	err = resolve(a, &kills);
	/* It may have moved on meanwhile. */
	if (!err && a->state->head != head)
		err = check_fit(a);
	if (!err) {
		*out_replaced = kills.n_rows;
		err = commit_once(a, &kills);
		if (err == -EEXIST)
			err = -EAGAIN;
	}
	vf_kills_fini(&kills);
	return err;
}

static int commit(struct attempt *a, struct vf_ingest_result *out)
{
	int err = -EAGAIN;

	if (vf_interrupted())
		return -ECANCELED;
	if (!a->state) {
		err = create_identity(a);
		if (err)
			return err;
		err = -EAGAIN;
	}
	for (int i = 0; err == -EAGAIN && i < COMMITS; i++)
		err = try_commit(a, &out->n_replaced);
	if (!err)
		out->head = a->state->head;
	return err == -EAGAIN
		       ? vf_fail(-EREMOTEIO,
				 "%s: %d others committed first; try again",
				 a->in->target, COMMITS)
		       : err;
}

/* ---- the whole ----------------------------------------------------------------------------- */

/*
 * The identity goes too when we made it and it still has no record.  A writer
 * that found it in between would then have its record below no identity: so
 * the log is looked at last.
 */
static void remove_identity(struct attempt *a)
{
	struct vf_state *s = NULL;
	char key[128];

	if (!a->identified || vf_state_load(a->in->bucket, a->in->index, &s))
		return;
	snprintf(key, sizeof(key), "_vecfs/indexes/%s", a->in->index);
	if (!s->head && !memcmp(s->uuid, a->uuid, sizeof(s->uuid)))
		vf_bucket_delete(a->in->bucket, key);
	vf_state_free(s);
}

static void remove_uploads(struct attempt *a, bool was_there)
{
	for (size_t i = 0; i < a->n_begun; i++)
		vf_writer_remove(a->in->bucket, a->in->index, &a->shards[i]);
	if (a->configures && a->config.embedder_data.name[0]) {
		VF_AUTO_FREE char *key = embed_key(a);
		if (key)
			vf_bucket_delete(a->in->bucket, key);
	}
	if (!was_there)
		remove_identity(a);
}

static int prepare(struct attempt *a)
{
	const struct vf_ingest *in = a->in;
	int err = vf_index_find(in->bucket, in->index, &a->state);

	if (!err)
		err = vf_config_settle(in->target, a->state, &in->wish,
				       in->source, &a->config);
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
	a->n_shards = (in->source->n_rows + a->shard_rows - 1) / a->shard_rows;
	a->shards = calloc(a->n_shards, sizeof(*a->shards));
	if (!a->shards)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (a->state && in->cond.at_version &&
	    in->cond.version != a->state->head)
		return vf_fail(-ESTALE, "%s: is at version %llu, not %llu",
			       in->target, (unsigned long long)a->state->head,
			       (unsigned long long)in->cond.version);
	return make_encoder(a);
}

/*
 * A few rows go into the record, as long as there are not too many of those:
 * every query scores the tail row by row.
 */
static bool fits_inline(const struct attempt *a)
{
	uint64_t rows = a->in->source->n_rows;
	uint64_t len = rows * a->config.dim * vf_dtype_size(a->config.dtype);
	struct vf_state_counts n;

	if (a->configures || a->in->shard_rows || a->in->wish.bits > 1 ||
	    rows > INLINE_ROWS || len > INLINE_LEN)
		return false;
	vf_state_count(a->state, &n);
	return n.tail_len + len <= TAIL_LEN && a->state->n_tail < TAIL_RECORDS;
}

/* Shards after all, when metadata makes the rows too long. */
static int carry(struct attempt *a)
{
	const struct vf_ingest *in = a->in;
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
			2 * INLINE_LEN);
	int err = vf_pipeline_run(&opt);
	if (err == -EFBIG) {
		vf_carried_fini(&a->carried);
		return upload(a);
	}
	a->n_shards = 0;
	if (!in->source->has_keys)
		a->carried.next_key = a->first_key + in->source->n_rows;
	return err;
}

static int run_attempt(const struct vf_ingest *in, struct vf_ingest_result *out)
{
	struct attempt a = {.in = in};
	int err = prepare(&a);
	bool was_there = a.state != NULL;

	if (!err)
		err = fits_inline(&a) ? carry(&a) : upload(&a);
	if (!err)
		err = upload_embedder(&a);
	if (!err)
		err = commit(&a, out);
	if (err && err != -EINPROGRESS)
		remove_uploads(&a, was_there);
	*out = (struct vf_ingest_result){.n_rows = in->source->n_rows,
					 .head = out->head,
					 .n_replaced = out->n_replaced,
					 .n_shards = a.n_shards,
					 .created = a.configures};
	vf_encoder_free(a.encoder);
	vf_state_free(a.state);
	vf_catalog_close(a.catalog);
	vf_buf_fini(&a.keys);
	vf_carried_fini(&a.carried);
	free(a.shards);
	return err;
}

int vf_ingest_run(const struct vf_ingest *in, struct vf_ingest_result *out)
{
	int err = START_OVER;

	for (int i = 0; err == START_OVER && i < ATTEMPTS; i++) {
		if (i)
			vf_log(VF_WARN,
			       "%s: somebody else wrote to it meanwhile; "
			       "starting over",
			       in->target);
		err = run_attempt(in, out);
	}
	if (err == START_OVER)
		err = vf_fail(-EREMOTEIO,
			      "%s: others keep writing to it; try again",
			      in->target);
	if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted; %s is as it was", in->target);
	return err;
}
