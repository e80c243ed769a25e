/*
 * The stored vector of a key: its hash finds rows in the codes of shards, and
 * the record line of each says whether it is the one.
 */
#include "query/engine.h"

struct lookup {
	struct vf_view *v;
	const struct vf_shard *s;
	const char *key;
	float *out;
};

/* 1: found and read; 0: another key of the same hash. */
static int try_row(void *arg, uint64_t row)
{
	struct lookup *l = arg;
	VF_AUTO_FREE char *key = NULL, *metadata = NULL;
	VF_AUTO_FREE void *bytes = malloc(l->v->row_len);
	int err = bytes ? 0 : -ENOMEM;

	if (!err && vf_dead_has(l->v->state->dead[l->s - l->v->shards], row))
		return 0;
	if (!err)
		err = vf_stage_row(l->s, row);
	if (!err)
		err = vf_view_record(l->v, l->s->base + row, &key, &metadata);

	if (err || strcmp(key, l->key))
		return err;
	err = vf_shard_row(l->v, l->s, row, bytes);
	if (err)
		return err;
	vf_widen(l->v->state->config.dtype, bytes, l->v->state->config.dim,
		 l->out);
	return 1;
}

int vf_view_vector(struct vf_view *v, const char *key, float *out)
{
	struct lookup l = {.v = v, .key = key, .out = out};
	uint64_t hash = vf_key_hash(key, strlen(key));

	for (size_t i = 0; i < v->n_shards; i++) {
		l.s = &v->shards[i];
		int rc = vf_stage_hashes(l.s);
		if (rc)
			return rc;
		rc = vf_index_find_hash(l.s->ix, hash, try_row, &l);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	return vf_tail_vector(v, key, out);
}
