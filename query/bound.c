/*
 * Which candidates stay open: all whose lower bounds are not above the k-th
 * smallest upper bounds, of their 1-bit estimates and of those by all bits.
 *
 * A candidate comes with its 1-bit estimate.  The nearest few bound the k-th
 * distance; then come the others, as long as their 1-bit bounds reach that.
 *
 * Source of the bound: Gao and Long, SIGMOD 2024, theorem 3.2.
 */
#include "query/engine.h"

#include <math.h>

/*
 * Errors in units of their standard deviation.
 *
 * What the 1-bit bound lets through is what can be an answer: it decides alone,
 * so that the same query has the same answer whether other bits, or some of the
 * rows, are at hand or not.  How often it fails counts less than how often that
 * loses a neighbour, and what a wider one costs in rows.  All else only spares
 * reads of rows that are surely no answer.
 *
 * Recall of ten and mean rows read, 100 queries each, cosine; bounds of three
 * deviations besides:
 *
 *                        generated,  minilm  ada002  glove
 *                   20 k rows of 1024   -384   -1536    -50
 *   1.2   recall              .994     .994    .994   .997
 *         rows, 1 bit         20       48      21     39
 *         rows, 5 bits        11.3     13.2    11.1   12.6
 *   0.8   recall              .980     .968    .984   .985
 *         rows, 1 bit         16       28      16     25
 *         rows, 5 bits        11.1     12.5    10.8   12.2
 */
static const float eps_of_scan = 1.2f, eps_sure = 3;
/*
 * Under a filter, whose recall is to be higher: 1 M generated rows, half of
 * them, 1400 leaves: .971 by 1.2, .975 by 1.5, for .1 more rows read by 5 bits.
 */
static const float eps_of_filtered = 1.5f;
/*
 * Where 1-bit bounds exclude next to none of those kept, the list was cut at
 * near rows, and the second, longer one holds very many about as near: 1.2
 * loses more of them, and rows that other bits exclude cost little.  Normal
 * rows, 20 k of 256 and all leaves of 100 k, cosine, 100 queries each:
 *
 *                          1.2       1.3       1.4       1.5
 *   20 k, recall     .947 .938 .968 .957 .979 .973 .986 .983
 *         rows, 1 bit      663       859      1100      1389
 *         rows, 5 bits      28        29        29        30
 *   100 k, recall    .928 .912 .953 .937 .965 .960 .970 .970
 */
static const float eps_of_flat = 1.4f;

enum { FIRST_MIN = 64, FIRST_PER_K = 4 };

/*
 * Less than one in so many of a list is excluded by 1 bit: rows are flat.
 */
enum { FLAT_SHARE = 16 };

int vf_open_compare(const void *a, const void *b)
{
	const struct vf_open_row *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

int vf_stage_open(const struct vf_topk *candidates, struct vf_open *out)
{
	out->rows = calloc(candidates->n + 1, sizeof(*out->rows));
	if (!out->rows)
		return -ENOMEM;
	out->n = candidates->n;
	for (uint32_t i = 0; i < out->n; i++)
		out->rows[i] =
			(struct vf_open_row){.id = candidates->hits[i].id,
					     .dist = candidates->hits[i].dist,
					     .least = -INFINITY};
	qsort(out->rows, out->n, sizeof(*out->rows), vf_open_compare);
	return 0;
}

struct bounding {
	struct vf_view *v;
	const float *q;
	struct vf_scan_scratch *scratch;
	struct vf_refined *refined; /* scratch, one per candidate */
	struct vf_topk upper;	    /* the k smallest upper bounds */
	struct vf_topk reach;	    /* the same by 1 bit */
	float eps;		    /* of the 1-bit bound */
	float scan_err;		    /* largest of the 1-bit estimates seen */
	uint32_t n_refined;
};

/* Estimate @n hits again; appends them to @out. */
static int refine_hits(struct bounding *b, struct vf_hit *hit, uint32_t n_hits,
		       struct vf_open *out)
{
	int err = 0;

	/* Those of one shard, and in it of one leaf, come together. */
	qsort(hit, n_hits, sizeof(*hit), vf_hit_compare_ids);
	while (!err && n_hits) {
		const struct vf_shard *s = vf_view_shard(b->v, hit->id);
		struct vf_refined *r = b->refined;
		uint32_t n = 0;
		for (; n < n_hits && hit[n].id - s->base < s->n_rows; n++)
			r[n].row = (uint32_t)(hit[n].id - s->base);
		err = vf_stage_extra(s, r, n, true);
		if (err)
			return err;
		err = vf_index_refine(s->ix, b->q, b->scratch, r, n);
		if (err == -EREMOTEIO)
			vf_fail(err, "%s: its codes cannot be read",
				s->codes.path);
		for (uint32_t i = 0; !err && i < n; i++) {
			float bound = r[i].err * eps_sure;
			float scan_bound = r[i].scan_err * b->eps;
			b->scan_err = fmaxf(b->scan_err, r[i].scan_err);
			vf_topk_push(&b->reach, hit[i].dist + scan_bound,
				     hit[i].id);
			out->rows[out->n++] = (struct vf_open_row){
				.id = hit[i].id,
				.dist = r[i].dist,
				.least = r[i].dist - bound,
				.scan_least = hit[i].dist - scan_bound};
		}
		hit += n;
		n_hits -= n;
	}
	return err;
}

/* How many of the hits, ascending, can be as near as the k-th upper bound. */
static uint32_t count_near(const struct bounding *b, const struct vf_hit *hit,
			   uint32_t n)
{
	float reach = vf_topk_limit(&b->reach) + b->eps * b->scan_err;
	uint32_t i = 0;

	while (i < n && hit[i].dist <= reach)
		i++;
	return i;
}

/*
 * What 1-bit bounds let through, and of that what the others do: each time the
 * k of the smallest upper bounds stay.
 */
static void close_candidates(struct bounding *b, struct vf_open *o)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < o->n; i++)
		if (o->rows[i].scan_least <= vf_topk_limit(&b->reach))
			o->rows[n++] = o->rows[i];
	o->is_flat |= o->was_cut && o->n - n < o->n / FLAT_SHARE;
	o->n = n;
	for (uint32_t i = 0; i < o->n; i++)
		vf_topk_push(&b->upper, vf_open_most(&o->rows[i]),
			     o->rows[i].id);
	n = 0;
	for (uint32_t i = 0; i < o->n; i++)
		if (o->rows[i].least <= vf_topk_limit(&b->upper))
			o->rows[n++] = o->rows[i];
	o->n = n;
}

static int bound_candidates(struct bounding *b, struct vf_topk *c,
			    struct vf_open *out)
{
	uint32_t first, more;
	int err;

	vf_topk_sort(c);
	first = VF_MIN(c->n,
		       VF_MAX((uint32_t)FIRST_MIN, FIRST_PER_K * b->upper.k));
	err = refine_hits(b, c->hits, first, out);
	if (err)
		return err;
	more = count_near(b, c->hits + first, c->n - first);
	out->was_cut = c->n == c->k && first + more == c->n;
	err = refine_hits(b, c->hits + first, more, out);
	if (err)
		return err;
	b->n_refined = out->n;
	close_candidates(b, out);
	qsort(out->rows, out->n, sizeof(*out->rows), vf_open_compare);
	return 0;
}

static float eps_of(const struct vf_topk *best, const struct vf_open *o)
{
	float eps = best->skips ? eps_of_filtered : eps_of_scan;

	return o->is_flat ? fmaxf(eps, eps_of_flat) : eps;
}

int vf_stage_bound(struct vf_view *v, const float *q,
		   const struct vf_plan *plan, struct vf_topk *candidates,
		   const struct vf_topk *best, struct vf_open *out,
		   struct vf_cost *cost)
{
	uint32_t n = candidates->n + 1;
	VF_AUTO_FREE struct vf_refined *refined = malloc(n * sizeof(*refined));
	VF_AUTO_FREE struct vf_hit *upper =
		malloc((best->k + 1) * sizeof(*upper));
	VF_AUTO_FREE struct vf_hit *reach =
		malloc((best->k + 1) * sizeof(*reach));
	struct bounding b = {.v = v,
			     .q = q,
			     .scratch = plan->scratch,
			     .refined = refined,
			     .eps = eps_of(best, out),
			     .upper = {.hits = upper, .k = best->k},
			     .reach = {.hits = reach, .k = best->k}};

	free(out->rows);
	out->n = 0;
	out->rows = calloc(n, sizeof(*out->rows));
	if (!refined || !upper || !reach || !out->rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < best->n; i++) {
		vf_topk_push(&b.upper, best->hits[i].dist, best->hits[i].id);
		vf_topk_push(&b.reach, best->hits[i].dist, best->hits[i].id);
	}
	int err = bound_candidates(&b, candidates, out);
	cost->refined = b.n_refined;
	return err;
}
