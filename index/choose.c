/*
 * Which leaves a query looks into: all are estimated by 1 bit, those that come
 * near being chosen are measured by eight.
 */
#include <math.h>

#include "index/kernels.h"
#include "index/rank.h"
#include "index/scratch.h"
#include "index/tree_impl.h"

enum { BLOCK = 64 };

/* Squared distance of one leaf, given its product. */
static double distance_sq(const struct vf_tree *t,
			  const struct vf_fine_query *q, uint32_t leaf,
			  int64_t dot)
{
	const struct vf_fine_leaf all = {.base = q->sq};

	return fmax(0, vf_fine_estimate(q, &all, &t->extra_factors[leaf],
					VF_BITS_MAX, dot));
}

/* What each of a leaf's rows has of its own, given its squared distance. */
static double base_of(const struct vf_tree *t, const struct vf_fine_query *q,
		      uint32_t leaf, double sq)
{
	if (t->info.metric == VF_DOT)
		return (sq - q->len - (double)t->leaf_sq[leaf]) / 2;
	return t->info.metric == VF_EUCLIDEAN ? sq : sq / 2;
}

void vf_tree_measure(const struct vf_tree *t, const struct vf_fine_query *q,
		     uint32_t leaf, struct vf_fine_leaf *out)
{
	double unit = t->info.metric == VF_EUCLIDEAN ? 1 : .5, sq;
	int64_t dot;

	vf_kernels()->bytes_i16(t->bytes, t->padded, &leaf, 1, q->q, &dot);
	sq = distance_sq(t, q, leaf, dot);
	out->base = base_of(t, q, leaf, sq);
	out->distance = sqrt(sq);
	out->err = unit * t->extra_factors[leaf].err * sqrt(q->sq);
}

/*
 * What ranks leaves: their squared distances less what is @left out of each.
 * Under dot that is all that the query has of its own, which may be far longer
 * than most rows are (query/scale.c): floats would hold nothing else.
 */
struct ranking {
	const struct vf_tree *t;
	double left;
	double q_sq;  /* |q|^2 less what is left out */
	double gain;  /* dot: the query is as long as completed rows are */
	double reach; /* dot: times a leaf's radius: what its best row adds */
};

/*
 * Of random directions in d dimensions the best of a leaf's hundred rows lies
 * so far towards the query, as a share of the radius.  Rows that lie in fewer
 * dimensions than they have reach farther.
 *
 * Measured, 199 k rows of glove-50, share of the true ten by inner product in
 * 2 / 6 / 12.5 / 25 k rows scanned: by distance to the completed centroid .802
 * .898 .941 .970; with a reach of .2 .792 .911 .955 .981; .3 .759 .913 .962
 * .988; .4 .703 .885 .960 .988.
 */
static double reach_of(uint32_t dim)
{
	return fmax(.1, fmin(.3, sqrt(4.5 / dim)));
}

/*
 * Cosine: the angle to the centroid, which is shorter than its rows.  Dot: the
 * product that the best of its rows may have; while no shard has told how far
 * they are from it, the distance to the completed centroid of a query that is
 * not completed.
 * @metric  the tree's: where it is a constant, no branch stays
 */
static inline float score(const struct ranking *r, enum vf_metric metric,
			  uint32_t leaf, double sq)
{
	const struct vf_tree *t = r->t;
	double c_sq = (double)t->leaf_sq[leaf];
	double minus_2_dot = sq - r->q_sq - c_sq;

	if (metric == VF_EUCLIDEAN)
		return (float)sq;
	if (metric == VF_COSINE)
		return (float)(minus_2_dot * (double)t->half_inv[leaf]);
	if (r->reach > 0)
		return (float)(minus_2_dot / 2 -
			       r->reach * (double)atomic_load_explicit(
						  &t->radius[leaf],
						  memory_order_relaxed));
	c_sq += (double)t->extra_sq[leaf];
	return (float)((c_sq + r->gain * minus_2_dot) / 2);
}

static void score_block(const struct ranking *r, uint32_t first, uint32_t n,
			const float *sq, float *out)
{
#define SCORE_ALL(metric)                                                      \
	for (uint32_t i = 0; i < n; i++)                                       \
	out[i] = score(r, metric, first + i, (double)sq[i])

	switch (r->t->info.metric) {
	case VF_COSINE:
		SCORE_ALL(VF_COSINE);
		break;
	case VF_EUCLIDEAN:
		memcpy(out, sq, n * sizeof(*out));
		break;
	case VF_DOT:
		SCORE_ALL(VF_DOT);
	}
#undef SCORE_ALL
}

static struct ranking rank_by(const struct vf_tree *t,
			      const struct vf_fine_query *q)
{
	struct ranking r = {.t = t,
			    .left = t->info.metric == VF_DOT ? q->sq : 0};

	r.q_sq = q->len - r.left;
	r.gain = q->len > 0 ? t->info.norm_max / sqrt(q->len) : 0;
	if (t->info.metric == VF_DOT &&
	    atomic_load_explicit(&t->has_radius, memory_order_relaxed))
		r.reach = reach_of(t->info.dim) * sqrt(q->len);
	return r;
}

/* Scores of all leaves by 1 bit. */
static void estimate_leaves(const struct ranking *r,
			    const struct vf_fine_query *q,
			    const struct vf_query_code *code, float *out)
{
	const struct vf_kernels *k = vf_kernels();
	const struct vf_tree *t = r->t;
	size_t len = t->padded / 8;
	struct vf_query_code qc = *code;
	uint32_t counts[BLOCK], n;
	float sq[BLOCK];

	qc.base = (float)(q->sq - r->left);
	for (uint32_t i = 0; i < t->info.n_leaves; i += n) {
		n = VF_MIN(t->info.n_leaves - i, (uint32_t)BLOCK);
		k->b1q4(t->codes + i * len, n, t->padded / 64, qc.planes,
			counts);
		k->estimate(&qc, t->factors + i, counts, n, 0, sq);
		score_block(r, i, n, sq, out + i);
	}
}

/* What is known of leaves by all bits. */
static void measure_leaves(const struct ranking *r,
			   const struct vf_fine_query *q,
			   const uint32_t *leaves, uint32_t n,
			   struct vf_probe *out)
{
	const struct vf_tree *t = r->t;
	int64_t dots[BLOCK];

	for (uint32_t i = 0; i < n; i++) {
		if (i % BLOCK == 0)
			vf_kernels()->bytes_i16(t->bytes, t->padded, leaves + i,
						VF_MIN(n - i, (uint32_t)BLOCK),
						q->q, dots);
		uint32_t leaf = leaves[i];
		double sq = distance_sq(t, q, leaf, dots[i % BLOCK]);
		float s = score(r, t->info.metric, leaf, sq - r->left);
		out[i] = (struct vf_probe){.leaf = leaf,
					   .base = (float)base_of(t, q, leaf,
								  sq),
					   .distance = (float)sqrt(sq),
					   .score = isnan(s) ? INFINITY : s};
	}
}

/* What choosing needs of memory. */
struct room {
	float *scores; /* [n_leaves] */
	void *work;    /* for ranking them */
	uint32_t *leaves;
	struct vf_probe *probes; /* [n_leaves] each */
};

static int make_room(uint32_t n_leaves, struct room *r)
{
	size_t n = n_leaves;

	r->scores = malloc(n * sizeof(*r->scores));
	r->work = malloc(vf_rank_work_len(n_leaves));
	r->leaves = malloc(n * sizeof(*r->leaves));
	r->probes = malloc(n * sizeof(*r->probes));
	return r->scores && r->work && r->leaves && r->probes ? 0 : -ENOMEM;
}

static void free_room(struct room *r)
{
	free(r->scores);
	free(r->work);
	free(r->leaves);
	free(r->probes);
}

/* The nearest @n of the @some whose numbers are in m->leaves. */
static void choose_measured(const struct ranking *r,
			    const struct vf_fine_query *q, struct room *m,
			    uint32_t some, uint32_t n, struct vf_probe *out)
{
	measure_leaves(r, q, m->leaves, some, m->probes);
	for (uint32_t i = 0; i < some; i++)
		m->scores[i] = m->probes[i].score;
	vf_rank_least(m->scores, some, n, m->work, m->leaves);
	for (uint32_t i = 0; i < n; i++)
		out[i] = m->probes[m->leaves[i]];
}

int vf_tree_choose(const struct vf_tree *t, const float *q,
		   struct vf_scan_scratch *s, uint32_t n, struct vf_probe *out)
{
	const struct vf_frame f = {.metric = t->info.metric,
				   .dim = t->info.dim,
				   .padded = t->padded,
				   .seed = t->info.rotation_seed,
				   .rotation = t->rotation,
				   .origin = t->origin};
	uint32_t all = t->info.n_leaves;
	/* Half as many more are measured: codes err by less than that. */
	uint32_t some = n < all ? VF_MIN(n + n / 2 + 16, all) : all;
	VF_CLEANUP(free_room) struct room m = {0};
	int err = vf_scan_quantize(s, &f, q);

	if (!err)
		err = vf_scan_refine(s, &f, q);
	if (!err)
		err = make_room(all, &m);
	if (err)
		return err;
	struct ranking r = rank_by(t, &s->fine);
	for (uint32_t i = 0; some == all && i < all; i++)
		m.leaves[i] = i;
	if (some < all) {
		estimate_leaves(&r, &s->fine, &s->code, m.scores);
		vf_rank_least(m.scores, all, some, m.work, m.leaves);
	}
	choose_measured(&r, &s->fine, &m, some, VF_MIN(n, all), out);
	return 0;
}
