/*
 * As of a put: upload, resolve keys, commit; the uploaded shards stay valid when
 * somebody else commits meanwhile, unless the tree they follow is another now.
 */
#include "tools/direct.h"

#include <stdio.h>

#include "tools/attempt.h"
#include "tools/codes_head.h"
#include "tools/interrupt.h"
#include "tools/source_held.h"

enum { ATTEMPTS = 5, COMMITS = 50 };

/* An attempt that cannot be saved, though the next one may be. */
#define START_OVER (-ERESTART)

/* ---- shards ---------------------------------------------------------------------- */

/* As many as the newest shard has, from the first look on. */
static int find_bits(struct vf_direct *d, const struct vf_state *s)
{
	struct vf_shard_codes_head head = {0};
	int err = 0;

	if (d->bits)
		return 0;
	if (s->n_shards)
		err = vf_shard_codes_head(d->bucket, d->index,
					  &s->shards[s->n_shards - 1], &head);
	d->bits = VF_MAX(head.bits, 1u);
	return err;
}

static int upload(struct vf_direct *d, const struct vf_state *s,
		  struct vf_ingest *in, struct vf_attempt *a)
{
	int err = find_bits(d, s);

	if (err)
		return err;
	in->wish.bits = d->bits;
	/* A tree comes with a put or a compaction. */
	in->n_leaves = s->has_tree ? 0 : 1;
	a->in = in;
	a->config = s->config;
	a->ram = vf_attempt_ram(d->ram);
	a->shard_rows = vf_shard_rows_default(s->config.dim, s->config.dtype);
	a->state = vf_state_copy(s);
	return a->state ? vf_attempt_upload(a)
			: vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

/* ---- committing ------------------------------------------------------------------ */

static int check_fit(const struct vf_attempt *a, const struct vf_state *s)
{
	if (!s->configured || !vf_config_same(&a->config, &s->config))
		return START_OVER;
	if (a->follow.tree &&
	    (!s->has_tree ||
	     strcmp(s->tree.object.name, a->follow.ref.object.name) != 0))
		return START_OVER;
	for (size_t i = 0; i < a->n_shards; i++)
		if (vf_shard_head(a->shards[i].name) < s->oldest)
			return START_OVER; /* may have been collected */
	return 0;
}

static int commit_shards(struct vf_changer *ch, const struct vf_attempt *a,
			 const struct vf_kills *kills)
{
	VF_AUTO_FREE struct vf_op *ops = calloc(a->n_shards + 1, sizeof(*ops));

	if (!ops)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < a->n_shards; i++)
		ops[i] = (struct vf_op){.kind = VF_OP_ADD_SHARD,
					.add_shard = a->shards[i]};
	return vf_changer_commit(ch, ops, a->n_shards, kills);
}

/* -EEXIST: somebody else came first. */
static int try_commit(struct vf_changer *ch, const struct vf_attempt *a,
		      struct vf_changed *out)
{
	const struct vf_delete keys = {a->in->source->n_rows, a->keys.data,
				       a->keys.len};
	const struct vf_condition none = {0};
	struct vf_kills kills;
	int err = vf_changer_resolve(ch, &keys, &none, &kills);

	/* The state may have moved on while keys were looked for. */
	if (!err)
		err = check_fit(a, ch->state);
	if (!err)
		err = commit_shards(ch, a, &kills);
	out->n_killed = kills.n_rows;
	vf_kills_fini(&kills);
	return err;
}

static int commit(struct vf_changer *ch, const struct vf_attempt *a,
		  struct vf_changed *out)
{
	int err = -EEXIST;

	for (int i = 0; err == -EEXIST && i < COMMITS; i++)
		err = vf_interrupted() ? -ECANCELED : try_commit(ch, a, out);
	if (!err)
		out->head = ch->state->head;
	return err == -EEXIST
		       ? vf_fail(-EBUSY,
				 "%s: %d others committed first; try again",
				 a->in->target, COMMITS)
		       : err;
}

/* ---- both ------------------------------------------------------------------------ */

static int attempt(struct vf_direct *d, struct vf_changer *ch,
		   struct vf_ingest *in, struct vf_changed *out)
{
	struct vf_attempt a = {0};
	int err = upload(d, ch->state, in, &a);

	if (!err)
		err = commit(ch, &a, out);
	if (err && err != -EINPROGRESS)
		vf_attempt_remove(&a);
	vf_attempt_fini(&a);
	return err;
}

int vf_direct_put(struct vf_direct *d, struct vf_changer *ch,
		  const struct vf_upsert *rows, struct vf_changed *out)
{
	struct vf_ingest in = {.bucket = d->bucket,
			       .target = d->target,
			       .index = d->index,
			       .scratch = d->scratch,
			       .quiet = true,
			       .n_threads = 1};
	int err = START_OVER;

	*out = (struct vf_changed){0};
	for (int i = 0; err == START_OVER && i < ATTEMPTS; i++) {
		err = vf_source_held_open(d->target, &ch->state->config, rows,
					  &in.source);
		if (!err)
			err = attempt(d, ch, &in, out);
		vf_source_free(VF_STEAL(in.source));
	}
	return err == START_OVER
		       ? vf_fail(-EBUSY,
				 "%s: others keep changing its tree; try again",
				 d->target)
		       : err;
}
