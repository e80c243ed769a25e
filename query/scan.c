/*
 * The first stage: every shard's codes, in RAM, into one heap of candidates.
 */
#include "query/engine.h"

int vf_stage_scan(struct vf_view *v, const float *q, struct vf_topk *top)
{
	struct vf_scan_scratch *scratch;
	int err = vf_scan_scratch_new(v->state->config.dim, &scratch);

	for (size_t i = 0; !err && i < v->n_shards; i++)
		err = vf_index_scan(v->shards[i].ix, q, scratch,
				    v->shards[i].base, top);
	vf_scan_scratch_free(scratch);
	return err;
}
