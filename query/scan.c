/*
 * The stages that need nothing but codes in RAM: 1-bit codes of the leaves
 * that the plan names, or of all, into one heap of candidates, and candidates again by all bits.
 */
#include "query/engine.h"

static int scan_shard(const struct vf_shard *s, const float *q,
		      const struct vf_plan *plan, bool hamming,
		      struct vf_topk *top, uint64_t *out_rows)
{
	*out_rows = s->n_rows;
	if (hamming)
		return vf_index_scan_hamming(s->ix, q, plan->scratch, s->base,
					     top);
	if (plan->all || !vf_index_has_tree(s->ix))
		return vf_index_scan(s->ix, q, plan->scratch, s->base, top);
	return vf_index_scan_probes(s->ix, q, plan->scratch, s->base,
				    plan->probes, plan->n, top, out_rows);
}

int vf_stage_scan(struct vf_view *v, const float *q, const struct vf_plan *plan,
		  bool hamming, struct vf_topk *top, struct vf_cost *cost)
{
	uint64_t rows = 0;
	int err = 0;

	for (size_t i = 0; !err && i < v->n_shards; i++) {
		vf_view_skip(v, i, top);
		err = scan_shard(&v->shards[i], q, plan, hamming, top, &rows);
		cost->scanned += rows;
	}
	cost->leaves = plan->n;
	return err;
}

int vf_stage_refine(struct vf_view *v, const float *q,
		    const struct vf_plan *plan,
		    const struct vf_topk *candidates, struct vf_topk *best)
{
	const struct vf_hit *hit = candidates->hits;
	uint32_t left = candidates->n;
	VF_AUTO_FREE struct vf_refined *r = malloc((left + 1) * sizeof(*r));
	int err = r ? 0 : -ENOMEM;

	/* Those of one shard, and in it of one leaf, come together. */
	qsort(candidates->hits, left, sizeof(*hit), vf_hit_compare_ids);
	while (!err && left) {
		const struct vf_shard *s = vf_view_shard(v, hit->id);
		uint32_t n = 0;
		for (; n < left && hit[n].id - s->base < s->n_rows; n++)
			r[n].row = (uint32_t)(hit[n].id - s->base);
		err = vf_index_refine(s->ix, q, plan->scratch, r, n);
		for (uint32_t i = 0; !err && i < n; i++)
			vf_topk_push(best, r[i].dist, hit[i].id);
		hit += n;
		left -= n;
	}
	return err;
}
