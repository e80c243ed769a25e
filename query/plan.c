/*
 * Which leaves of the tree a query looks into.
 */
#include "query/engine.h"

#include <math.h>

/*
 * Measured, recall of ten with 256 leaves: .9505 of 100 k generated rows of
 * 1024 dimensions (1264 leaves; made to be hard), .97 to 1 of real sets.
 * Leaves grow with the root of the rows, and so does what is scanned.  What
 * takes about a millisecond to scan is scanned in any case.
 */
enum { PROBES_DEFAULT = 256, ROWS_DEFAULT = 32768 };

/* So few rows of a filter are all scanned; more begin with their leaves. */
enum { SCAN_ALL_MAX = 10000, WIDER = 4 };

static uint32_t default_probes(const struct vf_view *v, uint32_t n_leaves)
{
	double share = ROWS_DEFAULT / ((double)v->state->n_rows + 1);

	if (share >= 1)
		return n_leaves;
	return VF_MAX((uint32_t)(share * n_leaves), (uint32_t)PROBES_DEFAULT);
}

/*
 * The nearest of one row in n are as far as n times as many of all, and in more
 * leaves; only rows of the set are scanned there.  Measured, 1 M generated rows
 * of 64 dimensions, recall of ten (.91 of all) and time over that of all:
 *
 *   leaves, times     1 row in 2     1 row in 10
 *   root of n         .93  x 1.2     .96  x 1.8
 *   n                 .95  x 1.5     more than 2 times
 *
 * So the root, but for small n, where more costs little.
 */
static uint32_t filtered_probes(const struct vf_view *v, uint32_t n,
				const struct vf_rowset *set)
{
	double of = (double)(v->tail_base + 1) / (double)set->n_shard_rows;
	double times = VF_MIN(of, VF_MAX(2, sqrt(of)));

	return n * times < VF_PROBES_ALL ? (uint32_t)(n * times)
					 : VF_PROBES_ALL;
}

static int choose_leaves(struct vf_view *v, const float *q, struct vf_plan *p)
{
	free(p->probes);
	p->probes = malloc(p->n * sizeof(*p->probes));
	if (!p->probes)
		return -ENOMEM;
	return vf_tree_choose(v->tree, q, p->scratch, p->n, p->probes);
}

int vf_stage_plan(struct vf_view *v, const float *q, const struct vf_search *s,
		  const struct vf_rowset *set, struct vf_plan *out)
{
	struct vf_tree_info info;
	int err;

	*out = (struct vf_plan){.all = true};
	err = vf_scan_scratch_new(v->state->config.dim, &out->scratch);
	if (err || !v->tree)
		return err;
	vf_tree_info(v->tree, &info);
	out->n = s->probes ? s->probes : default_probes(v, info.n_leaves);
	if (set && !s->probes && set->n_shard_rows)
		out->n = filtered_probes(v, out->n, set);
	out->all = out->n >= info.n_leaves || s->hamming ||
		   (set && set->n_shard_rows <= SCAN_ALL_MAX);
	if (out->all) {
		out->n = info.n_leaves;
		return 0;
	}
	return choose_leaves(v, q, out);
}

int vf_plan_widen(struct vf_view *v, const float *q, struct vf_plan *p)
{
	struct vf_tree_info info;

	vf_tree_info(v->tree, &info);
	p->all = p->n > info.n_leaves / WIDER;
	p->n = p->all ? info.n_leaves : p->n * WIDER;
	return p->all ? 0 : choose_leaves(v, q, p);
}

/* All leaves as probes, so that some can be left. */
int vf_plan_spell_out(struct vf_view *v, const float *q, struct vf_plan *p)
{
	if (!p->all)
		return 0;
	p->all = false;
	return choose_leaves(v, q, p);
}

void vf_plan_fini(struct vf_plan *p)
{
	vf_scan_scratch_free(p->scratch);
	free(p->probes);
	*p = (struct vf_plan){0};
}
