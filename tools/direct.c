/* A put of rows that are held, at the state that a long-lived writer keeps. */
#include "tools/direct.h"

#include "tools/attempt.h"
#include "tools/codes_head.h"
#include "tools/source_held.h"

enum { ATTEMPTS = 5 };

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

/* The attempt has state and catalog of @ch meanwhile. */
static int attempt(struct vf_direct *d, struct vf_changer *ch,
		   struct vf_ingest *in, struct vf_changed *out)
{
	const struct vf_index_config *c = &ch->state->config;
	struct vf_attempt a = {.in = in,
			       .config = *c,
			       .ram = vf_attempt_ram(d->ram),
			       .shard_rows =
				       vf_shard_rows_default(c->dim, c->dtype),
			       .state = VF_STEAL(ch->state),
			       .catalog = VF_STEAL(ch->catalog)};
	int err = find_bits(d, a.state);

	in->wish.bits = d->bits;
	/* A tree comes with a put or a compaction. */
	in->n_leaves = a.state->has_tree ? 0 : 1;
	if (!err)
		err = vf_attempt_upload(&a);
	if (!err)
		err = vf_attempt_commit(&a, &out->n_killed);
	if (!err)
		out->head = a.state->head;
	if (err && err != -EINPROGRESS)
		vf_attempt_remove(&a);
	ch->state = VF_STEAL(a.state);
	ch->catalog = VF_STEAL(a.catalog);
	vf_attempt_fini(&a);
	return err;
}

int vf_direct_put(struct vf_direct *d, struct vf_changer *ch,
		  const struct vf_upsert *rows, struct vf_changed *out)
{
	struct vf_ingest in = {.bucket = d->bucket,
			       .target = d->target,
			       .index = d->index,
			       .cache_dir = ch->cache_dir,
			       .scratch = d->scratch,
			       .keeper = d->keeper,
			       .quiet = true,
			       .n_threads = 1};
	int err = VF_START_OVER;

	*out = (struct vf_changed){0};
	for (int i = 0; err == VF_START_OVER && i < ATTEMPTS; i++) {
		err = vf_source_held_open(d->target, &ch->state->config, rows,
					  &in.source);
		if (!err)
			err = attempt(d, ch, &in, out);
		vf_source_free(VF_STEAL(in.source));
	}
	return err == VF_START_OVER
		       ? vf_fail(-EBUSY,
				 "%s: others keep changing its tree; try again",
				 d->target)
		       : err;
}
