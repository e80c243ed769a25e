/*
 * The stages that need nothing but codes in RAM: every shard's 1-bit codes into
 * one heap of candidates, and candidates again by all bits.
 */
#include "query/engine.h"

int vf_stage_scan(struct vf_view *v, const float *q, bool hamming,
		  struct vf_topk *top)
{
	struct vf_scan_scratch *scratch;
	int err = vf_scan_scratch_new(v->state->config.dim, &scratch);

	for (size_t i = 0; !err && i < v->n_shards; i++) {
		vf_view_skip(v, i, top);
		err = (hamming ? vf_index_scan_hamming : vf_index_scan)(
			v->shards[i].ix, q, scratch, v->shards[i].base, top);
	}
	vf_scan_scratch_free(scratch);
	return err;
}

int vf_stage_refine(struct vf_view *v, const float *q,
		    const struct vf_topk *candidates, struct vf_topk *best)
{
	const struct vf_hit *hit = candidates->hits;
	uint32_t left = candidates->n;
	VF_AUTO_FREE struct vf_refined *r = malloc((left + 1) * sizeof(*r));
	struct vf_scan_scratch *scratch = NULL;
	int err = r ? vf_scan_scratch_new(v->state->config.dim, &scratch)
		    : -ENOMEM;

	/* Those of one shard, and in it of one leaf, come together. */
	qsort(candidates->hits, left, sizeof(*hit), vf_hit_compare_ids);
	while (!err && left) {
		const struct vf_shard *s = vf_view_shard(v, hit->id);
		uint32_t n = 0;
		for (; n < left && hit[n].id - s->base < s->n_rows; n++)
			r[n].row = (uint32_t)(hit[n].id - s->base);
		err = vf_index_refine(s->ix, q, scratch, r, n);
		for (uint32_t i = 0; !err && i < n; i++)
			vf_topk_push(best, r[i].dist, hit[i].id);
		hit += n;
		left -= n;
	}
	vf_scan_scratch_free(scratch);
	return err;
}
