/*
 * What was uploaded becomes one record, or goes away.  When somebody else
 * commits first, keys are resolved again and the uploaded shards stay valid, as
 * long as they fit what is there then.
 */
#include "tools/attempt.h"

#include <inttypes.h>
#include <stdio.h>

#include "query/shard_codes.h"
#include "store/change.h"
#include "tools/interrupt.h"
#include "tools/writer.h"

enum { COMMITS = 50 };

/* ---- before the record --------------------------------------------------------- */

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

/* ---- does it fit? ----------------------------------------------------------------- */

bool vf_config_same(const struct vf_index_config *a,
		    const struct vf_index_config *b)
{
	return a->dim == b->dim && a->metric == b->metric &&
	       a->dtype == b->dtype && a->rotation_seed == b->rotation_seed;
}

/* It is the index that the upload was for. */
static bool fits_config(const struct vf_attempt *a, const struct vf_state *s)
{
	if (a->configures)
		return !s->configured;
	return s->configured && vf_config_same(&a->config, &s->config);
}

/* The tree that our shards follow is still its tree. */
static bool fits_tree(const struct vf_attempt *a, const struct vf_state *s)
{
	if (!a->follow.tree)
		return true;
	if (a->follow.is_new)
		return !s->has_tree;
	return s->has_tree &&
	       !strcmp(s->tree.object.name, a->follow.ref.object.name);
}

/* Its objects are of before what is kept: gc deletes those nobody names. */
static bool was_collected(const struct vf_attempt *a, const struct vf_state *s)
{
	const char *data = a->config.embedder_data.name;

	for (size_t i = 0; i < a->n_shards; i++)
		if (vf_shard_head(a->shards[i].name) < s->oldest)
			return true;
	if (a->follow.is_new &&
	    vf_object_head(a->follow.ref.object.name) < s->oldest)
		return true;
	return a->configures && data[0] && vf_object_head(data) < s->oldest;
}

bool vf_attempt_fits(const struct vf_attempt *a, const struct vf_state *s)
{
	if (!fits_config(a, s) || was_collected(a, s))
		return false;
	if (a->moves) /* its tree is another matter, its keys are none */
		return true;
	return fits_tree(a, s) &&
	       (a->in->source->has_keys || s->next_key == a->first_key);
}

/* ---- keys ---------------------------------------------------------------------------- */

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

/*
 * One round: from looking for keys to the record.  -EAGAIN: another one;
 * -EEXIST is of a key that is not to be there.
 */
static int try_commit(struct vf_attempt *a, uint64_t *out_replaced)
{
	struct vf_kills kills;
	int err = resolve(a, &kills);

	/* The state may have moved on while keys were looked for. */
	if (!err && !vf_attempt_fits(a, a->state))
		err = VF_START_OVER;
	if (!err) {
		*out_replaced = kills.n_rows;
		err = commit_once(a, &kills);
		if (err == -EEXIST)
			err = -EAGAIN;
	}
	vf_kills_fini(&kills);
	return err;
}

int vf_attempt_commit(struct vf_attempt *a, uint64_t *out_replaced)
{
	int err = vf_interrupted() ? -ECANCELED : upload_embedder(a);

	if (!err && !a->state)
		err = create_identity(a);
	if (err)
		return err;
	err = -EAGAIN;
	for (int i = 0; err == -EAGAIN && i < COMMITS; i++) {
		err = vf_interrupted() ? -ECANCELED : 0;
		/* Before keys are looked for, which may take long. */
		if (!err && !vf_attempt_fits(a, a->state))
			err = VF_START_OVER;
		if (!err)
			err = try_commit(a, out_replaced);
	}
	return err == -EAGAIN
		       ? vf_fail(-EBUSY,
				 "%s: %d others committed first; try again",
				 a->in->target, COMMITS)
		       : err;
}

/* ---- its end --------------------------------------------------------------------------- */

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
