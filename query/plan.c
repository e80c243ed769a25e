/*
 * Which leaves of the tree a query looks into.
 */
#include "query/engine.h"

#include <math.h>

/*
 * By default so many of every hundred leaves that ten nearest neighbours are
 * found to .95 on the sets that were measured; fewer of more, since leaves
 * grow with the root of the rows.
 */
enum { PROBES_MIN = 64 };

static uint32_t default_probes(uint32_t n_leaves)
{
	double n = PROBES_MIN + 4 * sqrt((double)n_leaves);

	return VF_MIN(n_leaves, (uint32_t)n);
}

int vf_stage_plan(struct vf_view *v, const float *q, const struct vf_search *s,
		  struct vf_plan *out)
{
	struct vf_tree_info info;
	int err;

	*out = (struct vf_plan){.all = true};
	err = vf_scan_scratch_new(v->state->config.dim, &out->scratch);
	if (err || !v->tree)
		return err;
	vf_tree_info(v->tree, &info);
	out->n = s->probes ? s->probes : default_probes(info.n_leaves);
	out->all = out->n >= info.n_leaves || s->hamming;
	if (out->all) {
		out->n = info.n_leaves;
		return 0;
	}
	out->probes = malloc(out->n * sizeof(*out->probes));
	if (!out->probes)
		return -ENOMEM;
	return vf_tree_choose(v->tree, q, out->scratch, out->n, out->probes);
}

void vf_plan_fini(struct vf_plan *p)
{
	vf_scan_scratch_free(p->scratch);
	free(p->probes);
	*p = (struct vf_plan){0};
}
