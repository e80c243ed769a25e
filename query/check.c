/*
 * What a search may ask for.
 */
#include "query/engine.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static int __attribute__((format(printf, 2, 3)))
refuse(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, VF_SEARCH_WHY_LEN, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int check_vector(const struct vf_index_config *c, const float *q,
			char *why)
{
	double sq = 0;

	for (uint32_t i = 0; i < c->dim; i++) {
		if (!isfinite(q[i]))
			return refuse(
				why, "the query's element %u is not finite", i);
		sq += (double)q[i] * q[i];
	}
	if (sq > FLT_MAX)
		return refuse(why, "the query is too long: its squared length "
				   "overflows float32");
	if (sq == 0 && c->metric == VF_COSINE)
		return refuse(why, "the query is zero, which has no cosine");
	return 0;
}

int vf_view_check(const struct vf_view *v, const float *q,
		  const struct vf_search *s, char why[VF_SEARCH_WHY_LEN])
{
	if (!s->k || s->k > VF_K_MAX)
		return refuse(why, "k is %u; it must be 1 to %d", s->k,
			      VF_K_MAX);
	if (s->rerank < VF_RERANK_EXACT || s->rerank > VF_RERANK_NONE)
		return refuse(why, "rerank is %d; it must be 0 to %d",
			      (int)s->rerank, VF_RERANK_NONE);
	if (s->exact && (s->max_gets || s->max_ms))
		return refuse(why, "exact reads every row: max-gets and max-ms "
				   "cannot be with it");
	if (s->candidates > VF_CANDIDATES_MAX)
		return refuse(why, "%u candidates; at most %d", s->candidates,
			      VF_CANDIDATES_MAX);
	/* Their distances would be of another unit than bits. */
	if (s->hamming && s->rerank == VF_RERANK_NONE && !s->exact &&
	    v->n_shards && v->state->n_tail)
		return refuse(why, "rows of the log have no codes yet: hamming "
				   "with rerank none needs vectool compact");
	return check_vector(&v->state->config, q, why);
}
