/*
 * One leaf after the other: next comes the one that the last few have most in
 * common with (Wei, Yu, Lu and Lin, SIGMOD 2016, section 4: Gorder).
 *
 * What two leaves have in common is how many queries open both, with one query
 * at each leaf, which opens that leaf and the NEAR nearest.
 *
 * Measured, 1 M generated rows of 1024 dimensions, the 103 of 4000 leaves that
 * are nearest each of 200 queries, joined over gaps of nine: 51 ranges of 230
 * leaves in the order of k-means, 45 of 180 when the next is just the nearest
 * to the last, 27 of 200 so.
 */
#include "index/leaf_order.h"
#include "index/crew.h"
#include "index/kmeans.h"
#include "index/topk.h"
#include "store/util.h"

enum {
	NEAR = 64,
	LAST = 6,	    /* leaves that the next one is chosen for */
	SCORE_LEAVES = 256, /* of one call: they stay in the cache */
};

struct ordering {
	const struct vf_centroids *l;
	const struct vf_points *p;
	uint32_t n_open;     /* leaves that a query opens */
	uint32_t *opens;     /* [n][n_open]: by the query at each leaf */
	struct vf_groups by; /* queries that open each leaf */
	int32_t *common;     /* [n]: with the last few */
	bool *placed;	     /* [n] */
};

/* ---- what queries open ------------------------------------------------------------------ */

/* Queries @first .. of one block. */
static int open_block(void *arg, size_t block)
{
	struct ordering *o = arg;
	uint32_t first = (uint32_t)(block * VF_BLOCK_ROWS), rows[VF_BLOCK_ROWS];
	uint32_t n = VF_MIN(o->l->n - first, (uint32_t)VF_BLOCK_ROWS);
	VF_AUTO_FREE float *score =
		malloc((size_t)SCORE_LEAVES * n * sizeof(*score));
	VF_AUTO_FREE struct vf_hit *hits =
		malloc((size_t)n * o->n_open * sizeof(*hits));
	struct vf_topk top[VF_BLOCK_ROWS];

	if (!score || !hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		rows[i] = first + i;
		top[i] = (struct vf_topk){.hits = hits + (size_t)i * o->n_open,
					  .k = o->n_open};
	}
	for (uint32_t j = 0; j < o->l->n; j += SCORE_LEAVES) {
		uint32_t end = VF_MIN(o->l->n, j + SCORE_LEAVES);
		vf_centroids_score(o->l, j, end, o->p, rows, n, score);
		for (uint32_t i = 0; i < n; i++)
			for (uint32_t t = j; t < end; t++)
				vf_topk_push(&top[i],
					     -score[(size_t)(t - j) * n + i],
					     t);
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t t = 0; t < o->n_open; t++)
			o->opens[(size_t)rows[i] * o->n_open + t] =
				(uint32_t)hits[(size_t)i * o->n_open + t].id;
	return 0;
}

/* by from opens: the same the other way round. */
static int turn_round(struct ordering *o)
{
	size_t n = (size_t)o->l->n * o->n_open;
	VF_AUTO_FREE uint32_t *queries = malloc(n * sizeof(*queries));

	if (!queries)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		queries[i] = (uint32_t)(i / o->n_open);
	return vf_groups_init(&o->by, o->l->n, queries, o->opens, n);
}

/* ---- one after the other ---------------------------------------------------------------- */

/* What others have in common with @leaf counts @step more. */
static void count_common(struct ordering *o, uint32_t leaf, int32_t step)
{
	for (size_t i = o->by.starts[leaf]; i < o->by.starts[leaf + 1]; i++) {
		const uint32_t *open =
			o->opens + (size_t)o->by.order[i] * o->n_open;
		for (uint32_t j = 0; j < o->n_open; j++)
			o->common[open[j]] += step;
	}
}

/* The least of those with most in common. */
static uint32_t choose_next(const struct ordering *o)
{
	uint32_t best = UINT32_MAX;

	for (uint32_t j = 0; j < o->l->n; j++)
		if (!o->placed[j] &&
		    (best == UINT32_MAX || o->common[j] > o->common[best]))
			best = j;
	return best;
}

static void place_all(struct ordering *o, uint32_t *out)
{
	for (uint32_t i = 0; i < o->l->n; i++) {
		uint32_t next = choose_next(o);
		out[i] = next;
		o->placed[next] = true;
		count_common(o, next, 1);
		if (i >= LAST)
			count_common(o, out[i - LAST], -1);
	}
}

int vf_leaves_order(const struct vf_centroids *l, const struct vf_points *p,
		    unsigned n_threads, uint32_t *out)
{
	struct ordering o = {.l = l, .p = p, .n_open = VF_MIN(l->n, NEAR + 1u)};
	VF_AUTO_FREE uint32_t *opens =
		malloc((size_t)l->n * o.n_open * sizeof(*opens));
	VF_AUTO_FREE int32_t *common = calloc(l->n, sizeof(*common));
	VF_AUTO_FREE bool *placed = calloc(l->n, sizeof(*placed));

	if (!opens || !common || !placed)
		return -ENOMEM;
	o.opens = opens;
	o.common = common;
	o.placed = placed;
	int err = vf_crew_run(n_threads,
			      (l->n + VF_BLOCK_ROWS - 1) / VF_BLOCK_ROWS,
			      open_block, &o);
	if (!err)
		err = turn_round(&o);
	if (!err)
		place_all(&o, out);
	vf_groups_fini(&o.by);
	return err;
}
