/*
 * Which leaves of the tree a query looks into.
 */
#include "query/engine.h"

#include <math.h>

/*
 * About as many rows are scanned whatever the index has, in leaves nearest
 * first: the more leaves there are, the better the nearest of them fit a query,
 * so that of large indexes fewer rows do.  Measured, recall of ten, generated
 * rows of 1024 dimensions (made to be hard; 400 queries, 200 of the million),
 * by rows scanned (some columns lie between two numbers of leaves that were
 * measured):
 *
 *   rows of the index (leaves)   16 k   20 k   26 k   31 k   41 k   51 k   63 k
 *     100 000 (1264)                    .943          .953   .961   .969   .975
 *     200 000 (1788)                                  .952   .957   .961   .965
 *   1 000 000 (4000)            .952   .955   .957   .960   .963   .965   .970
 *
 * Where leaves are large there are some in any case.  Inner products need twice
 * as many: 199 k rows of glove-50, 200 of them read, .967 with 256 leaves and
 * .990 with 588, where cosine has .993 and .999.
 */
enum {
	PROBES_MIN = 96,
	ROWS_DEFAULT = 40960,
	ROWS_LEAST = 24576,
	INDEX_LARGE = 250000, /* from here on as the cube root of its rows */
};

/*
 * So few rows of a filter are all scanned; more begin with their leaves.  What
 * is promised is 10 000; a hundredth of a million rows is seldom so exact, and
 * 10 119 of them had recall .957 by leaves, 1.000 of the 9 990 that were all
 * scanned (30 queries).
 */
enum { SCAN_ALL_MAX = 12500, ROWS_FILTERED = 45000 };

/* Then so many times as many leaves, up to those of so many rows. */
enum { WIDER = 3, ROWS_WIDEST = 500000 };

/*
 * Where rows have no structure the order of leaves says little, and leaves that
 * are a share of all have hardly more than that share of the nearest.  It shows
 * in the tenth nearest so far: in squares it is farther by so much than the
 * centroid of the last leaf.  Then as many leaves as there may be follow at
 * once.  Measured along default leaves, 100 to 1000 queries; of half of them
 * less, of all but one in a hundred, the most:
 *
 *   glove 199 k rows of 50, sift 66 k of 128      .54  .68  .72;  .30  .49  .54
 *   generated, 100 k rows of 128, of 384          .80  .97  .99;  .86 1.09 1.11
 *   generated, 100 k rows of 1024, 1 M            .89 1.11 1.17;  .74  .98  .99
 *   the same 100 k, 400 leaves in place of 1264   .92 1.16 1.23
 *   normal, 100 k rows of 64, of 128              .90  .93  .94; 1.16 1.19 1.21
 *   normal, 100 k rows of 256, of 768             1.35 1.37 1.38; 1.62 1.63 1.63
 *   normal, 1 M rows of 256                       1.39 1.42 1.42
 *
 * Recall of ten of those, 5 bits, without it (the longer list of search.c
 * alone), and with it; rows in thousands.  Of 100 rows of 128, .82 .98, of 256
 * .71 .96, of 768 .64 .95; of 1000 rows of 256 .13 .76.
 */
static const double flat_from = 1.12;

/* Leaves of about @rows of the @all rows that a tree has. */
static uint32_t leaves_of(double rows, double all, uint32_t n_leaves)
{
	return rows >= all ? n_leaves : (uint32_t)(rows / all * n_leaves);
}

static uint32_t default_probes(const struct vf_view *v, uint32_t n_leaves)
{
	double all = (double)v->state->n_rows + 1;
	double rows = ROWS_DEFAULT * cbrt(fmin(1, INDEX_LARGE / all));
	uint32_t n;

	rows = fmax(rows, ROWS_LEAST);
	rows *= v->state->config.metric == VF_DOT ? 2 : 1;
	n = leaves_of(rows, all, n_leaves);

	return VF_MAX(n, (uint32_t)PROBES_MIN);
}

/*
 * The nearest of one row in n are as far as n times as many of all, and in more
 * leaves; only rows of the set are scanned there.  To begin with, leaves of so
 * many rows, whatever the index has, times the root of n.
 *
 * Most queries need no more, and a few need half of all leaves: those whose k
 * nearest so far are about as far as the centroids of the leaves looked into
 * last.  In squares, the k-th distance is compared with a share of the leaf's,
 * which grows by near_step with each tenth of the rows that match, as what can
 * be missed becomes less.  Measured, 1 M generated rows of 1024 dimensions, 4000
 * leaves, 200 queries, recall of ten and median (mean) time over that without a
 * filter:
 *
 *                                  1 row in 2           1 row in 10
 *   512, 1138 leaves, always        .963 x 2.0           .971 x 2.3
 *   1024, 1400, always              .976 x 2.8           .973 x 2.6
 *   as many as each needs           .979 x 1.3 (2.2)     .976 x 1.4 (2.2)
 *
 * Inner products say nothing of the kind: they have their leaves at once.
 */
static const double near_base = .84, near_step = .08;

static uint32_t filtered_probes(const struct vf_view *v, uint32_t n_leaves,
				const struct vf_rowset *set)
{
	double rows = (double)v->tail_base + 1;
	double of = rows / (double)set->n_shard_rows;
	double begin = (v->state->config.metric == VF_DOT ? 2 : 1) *
		       (double)ROWS_FILTERED;
	uint32_t n = leaves_of(begin * sqrt(of), rows, n_leaves);

	return VF_MAX(n, default_probes(v, n_leaves));
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
		out->n = filtered_probes(v, info.n_leaves, set);
	out->all = out->n >= info.n_leaves || s->hamming ||
		   (set && set->n_shard_rows <= SCAN_ALL_MAX);
	if (out->all) {
		out->n = info.n_leaves;
		return 0;
	}
	return choose_leaves(v, q, out);
}

/* Of unit vectors, 1 - cos is half of the squared distance. */
static double square_of(const struct vf_view *v, float dist)
{
	return v->state->config.metric == VF_COSINE ? 2 * (double)dist
						    : (double)dist;
}

/* How far leaves are looked into, given what was found nearer than @dist. */
static float reach_of(const struct vf_view *v, const struct vf_rowset *set,
		      float dist)
{
	double of = (double)(v->tail_base + 1) / (double)set->n_shard_rows;

	return (float)sqrt(square_of(v, dist) /
			   (near_base + near_step * log10(of)));
}

static uint32_t widest(const struct vf_view *v)
{
	struct vf_tree_info info;

	vf_tree_info(v->tree, &info);
	return leaves_of(ROWS_WIDEST, (double)v->tail_base, info.n_leaves);
}

bool vf_plan_is_open(const struct vf_view *v, const struct vf_plan *p,
		     const struct vf_rowset *set, float dist)
{
	if (p->all || p->is_last || !p->n || isinf(dist))
		return !p->all && !p->is_last;
	return v->state->config.metric != VF_DOT &&
	       p->n_done + p->n < widest(v) &&
	       p->probes[p->n - 1].distance < reach_of(v, set, dist);
}

bool vf_plan_is_flat(const struct vf_view *v, const struct vf_plan *p,
		     float dist)
{
	if (p->all || p->is_last || p->n_done || !p->n || isinf(dist) ||
	    v->state->config.metric == VF_DOT || p->n >= widest(v))
		return false;
	double last = (double)p->probes[p->n - 1].distance;
	return square_of(v, dist) > flat_from * last * last;
}

static int note_done(struct vf_plan *p, uint32_t n_leaves)
{
	struct vf_probe *done = realloc(p->done, n_leaves * sizeof(*p->done));

	if (!done)
		return -ENOMEM;
	p->done = done;
	memcpy(done + p->n_done, p->probes, p->n * sizeof(*done));
	p->n_done += p->n;
	return 0;
}

/* Leave out leaves that were scanned before. */
static int keep_new(struct vf_plan *p, uint32_t n_leaves)
{
	VF_AUTO_FREE uint64_t *is_done =
		calloc(n_leaves / 64 + 1, sizeof(*is_done));
	uint32_t n = 0;

	if (!is_done)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->n_done; i++) {
		uint32_t leaf = p->done[i].leaf;
		is_done[leaf / 64] |= (uint64_t)1 << leaf % 64;
	}
	for (uint32_t i = 0; i < p->n; i++) {
		uint32_t leaf = p->probes[i].leaf;
		if (!(is_done[leaf / 64] >> leaf % 64 & 1))
			p->probes[n++] = p->probes[i];
	}
	p->n = n;
	return 0;
}

int vf_plan_widen(struct vf_view *v, const float *q, bool at_once,
		  struct vf_plan *p)
{
	struct vf_tree_info info;
	uint32_t most = widest(v);

	vf_tree_info(v->tree, &info);
	int err = note_done(p, info.n_leaves);
	if (err)
		return err;
	p->n = p->n_done >= most ? info.n_leaves
	       : at_once	 ? most
				 : VF_MIN(most, p->n_done * WIDER);
	p->is_last = p->n == info.n_leaves;
	err = choose_leaves(v, q, p);
	return err ? err : keep_new(p, info.n_leaves);
}

int vf_plan_repeat(struct vf_plan *p)
{
	uint32_t n = p->n_done + p->n;
	struct vf_probe *probes;

	if (p->all || !p->n_done)
		return 0;
	probes = malloc(n * sizeof(*probes));
	if (!probes)
		return -ENOMEM;
	memcpy(probes, p->done, p->n_done * sizeof(*probes));
	memcpy(probes + p->n_done, p->probes, p->n * sizeof(*probes));
	free(p->probes);
	p->probes = probes;
	p->n = n;
	p->n_done = 0;
	return 0;
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
	free(p->done);
	*p = (struct vf_plan){0};
}
