/*
 * How long a query by inner product is made.
 *
 * Its distances are as long as it is, their order is not; but codes are of
 * q - origin, which holds little of a query shorter than the origin, and bounds
 * are as wide as |q - leaf|.  So it is made long enough for both to be its own.
 * A power of two: distances are the same to the bit.
 *
 * 12 k rows of 128 dimensions and norm 12.6, flat, recall of ten by length of
 * the query: .05 .087, 1 .175, 1000 .973.
 */
#include "query/engine.h"

#include <math.h>

/* Times the longest row; and what leaves room for squares in a float. */
static const double times = 64, long_max = 0x1p60, product_max = 0x1p120;

static double length_of(const float *q, uint32_t dim)
{
	double sq = 0;

	for (uint32_t i = 0; i < dim; i++)
		sq += (double)q[i] * q[i];
	return sqrt(sq);
}

double vf_stage_reach(const struct vf_view *v)
{
	struct vf_tree_info info = {0};
	double len;

	if (v->tree)
		vf_tree_info(v->tree, &info);
	len = (double)info.norm_max;
	for (size_t i = 0; i < v->n_shards; i++)
		len = fmax(len, vf_index_reach(v->shards[i].ix));
	return len;
}

int vf_stage_scale(const struct vf_view *v, const float *q)
{
	const struct vf_index_config *c = &v->state->config;
	double len, row = v->reach, want;

	if (c->metric != VF_DOT)
		return 0;
	len = length_of(q, c->dim);
	want = fmin(times * row, fmin(long_max, product_max / row));
	return len > 0 && len < want ? (int)ceil(log2(want / len)) : 0;
}
