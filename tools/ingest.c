/*
 * One attempt: upload, resolve keys against the state, commit.  When somebody
 * else commits meanwhile, keys are resolved again and the uploaded shards stay
 * valid: only automatic keys, or an index that somebody else created meanwhile,
 * make us start over.
 */
#include "tools/attempt.h"

#include <inttypes.h>
#include <stdio.h>

#include "query/shard_codes.h"
#include "store/change.h"
#include "tools/compaction.h"
#include "tools/interrupt.h"
#include "tools/writer.h"

enum { ATTEMPTS = 5, COMMITS = 20 };

/* Rows that go into a record, VF_INLINE_LEN too. */
enum { INLINE_ROWS = 512 };

/* An attempt that cannot be saved, though the next one may be. */
#define START_OVER (-ERESTART)

/* ---- committing ------------------------------------------------------------------------ */

/* "<index>/embed/<head>-<nonce>.vfe" */
static char *embed_key(const struct vf_attempt *a)
{
	char *key;

	return asprintf(&key, "%s/embed/%s", a->in->index,
			a->config.embedder_data.name) < 0
		       ? NULL
		       : key;
}

static int upload_embedder(struct vf_attempt *a)
{
	struct vf_object_ref *ref = &a->config.embedder_data;

	if (!a->configures || !a->in->embedder_data)
		return 0;
	vf_shard_name(a->state ? a->state->head : 0, ref->name);
	strcat(ref->name, ".vfe");
	VF_AUTO_FREE char *key = embed_key(a);
	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return vf_object_write(a->in->bucket, key, a->in->embedder_data->data,
			       a->in->embedder_data->len, ref);
}

static int create_identity(struct vf_attempt *a)
{
	uint8_t uuid[16];
	int err = vf_index_create(a->in->bucket, a->in->index, uuid);

	if (!err)
		err = vf_state_load(a->in->bucket, a->in->index, &a->state);
	if (err == -ENOENT)
		vf_log(VF_ERROR, "%s: was removed meanwhile", a->in->target);
	return err;
}

/* Lends what is ours; the caller takes back what moved. */
static struct vf_changer begin_change(struct vf_attempt *a)
{
	return (struct vf_changer){.bucket = a->in->bucket,
				   .index = a->in->index,
				   .cache_dir = a->in->cache_dir,
				   .line_crcs = vf_shard_line_crcs,
				   .progress = vf_progress_reading,
				   .arg = &a->progress,
				   .state = a->state,
				   .catalog = a->catalog};
}

static int commit_once(struct vf_attempt *a, const struct vf_kills *kills)
{
	size_t n = a->n_shards + a->configures + a->follow.is_new + 1, at = 0;
	VF_AUTO_FREE struct vf_op *ops = calloc(n, sizeof(*ops));

	if (!ops)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (a->configures)
		ops[at++] = (struct vf_op){.kind = VF_OP_CONFIGURE,
					   .configure = a->config};
	if (a->carried.n_rows)
		ops[at++] = vf_carried_op(&a->carried);
	if (a->follow.is_new)
		ops[at++] = (struct vf_op){.kind = VF_OP_SET_TREE,
					   .set_tree = a->follow.ref};
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

/* Is the tree that our shards follow still the one of the state? */
static bool fits_tree(const struct vf_attempt *a)
{
	const struct vf_state *s = a->state;

	if (!a->follow.tree)
		return true;
	if (a->follow.is_new)
		return !s->has_tree;
	return s->has_tree &&
	       !strcmp(s->tree.object.name, a->follow.ref.object.name);
}

bool vf_config_same(const struct vf_index_config *a,
		    const struct vf_index_config *b)
{
	return a->dim == b->dim && a->metric == b->metric &&
	       a->dtype == b->dtype && a->rotation_seed == b->rotation_seed;
}

/* Somebody else's records came first: does what we made still fit? */
static int check_fit(struct vf_attempt *a)
{
	if ((a->configures && a->state->configured) || !fits_tree(a))
		return START_OVER;
	if (!a->configures && !vf_config_same(&a->config, &a->state->config))
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

static int number_keys(struct vf_attempt *a)
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
static int resolve(struct vf_attempt *a, struct vf_kills *out)
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
	vf_progress_begin(&a->progress, "reading keys", 0, 0, a->in->quiet);
	if (!err)
		err = vf_changer_resolve(&ch, &keys, &cond, out);
	vf_progress_end(&a->progress);
	a->state = ch.state;
	a->catalog = ch.catalog;
	return err;
}

/* One round: from looking for keys to the record.  -EAGAIN: another one. */
static int try_commit(struct vf_attempt *a, uint64_t *out_replaced)
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

static int commit(struct vf_attempt *a, struct vf_ingest_result *out)
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
 * An identity stays, even without a record: somebody else may have found it and
 * be about to commit, and a log below no identity is lost.
 */
void vf_attempt_remove(struct vf_attempt *a)
{
	for (size_t i = 0; i < a->n_begun; i++)
		vf_writer_remove(a->in->bucket, a->in->index, &a->shards[i]);
	vf_follow_remove(a->in->bucket, a->in->index, &a->follow);
	if (a->configures && a->config.embedder_data.name[0]) {
		VF_AUTO_FREE char *key = embed_key(a);
		if (key)
			vf_bucket_delete(a->in->bucket, key);
	}
}

uint64_t vf_attempt_ram(uint64_t want)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	uint64_t half = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2;

	return want ? want : VF_MIN(half, UINT64_C(2) << 30);
}

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

void vf_attempt_fini(struct vf_attempt *a)
{
	vf_sorter_free(a->sorter);
	vf_encoder_free(a->encoder);
	vf_follow_fini(&a->follow);
	vf_state_free(a->state);
	vf_catalog_close(a->catalog);
	vf_buf_fini(&a->keys);
	vf_buf_fini(&a->from);
	vf_carried_fini(&a->carried);
	free(a->shards);
	free(a->starts);
}

static int run_attempt(const struct vf_ingest *in, struct vf_ingest_result *out)
{
	struct vf_attempt a = {.in = in};
	int err = prepare(&a);

	if (!err)
		err = fits_inline(&a) ? vf_attempt_carry(&a)
				      : vf_attempt_upload(&a);
	if (!err)
		err = upload_embedder(&a);
	if (!err)
		err = commit(&a, out);
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
