#include "index/coarse.h"
#include "index/amid.h"
#include "index/kernels.h"
#include "store/util.h"

#include <math.h>

/* ---- centroids -------------------------------------------------------------------- */

static int alloc_coarse(struct vf_coarse *c, uint32_t n_groups)
{
	size_t n = (size_t)c->panel[n_groups] * VF_PANEL;
	size_t len = vf_round_up(n * c->n_quads * 4 + 1, 64);

	c->q = aligned_alloc(64, len);
	c->mul = calloc(n + 1, sizeof(*c->mul));
	c->add = calloc(n + 1, sizeof(*c->add));
	c->we = calloc(n + 1, sizeof(*c->we));
	c->bias = calloc(n + 1, sizeof(*c->bias));
	c->step = calloc(c->l->n + (size_t)1, sizeof(*c->step));
	c->len = calloc(c->l->n + (size_t)1, sizeof(*c->len));
	if (!c->q || !c->mul || !c->add || !c->we || !c->bias || !c->step ||
	    !c->len)
		return -ENOMEM;
	memset(c->q, 0, len);
	for (size_t i = 0; i < n; i++)
		c->add[i] = -INFINITY;
	return 0;
}

static int group_panels(struct vf_coarse *c, const uint32_t *first)
{
	uint32_t all[2] = {0, c->l->n};

	c->panel = calloc(c->n_groups + 1, sizeof(*c->panel));
	c->first = calloc(c->n_groups + 1, sizeof(*c->first));
	if (!c->panel || !c->first)
		return -ENOMEM;
	first = first ? first : all;
	for (uint32_t g = 0; g < c->n_groups; g++) {
		uint32_t n = first[g + 1] - first[g];
		c->first[g + 1] = first[g + 1];
		c->panel[g + 1] = c->panel[g] + (n + VF_PANEL - 1) / VF_PANEL;
	}
	return 0;
}

/* Bytes of one centroid, relative to @amid, which moves all scores alike. */
static void fill_slot(struct vf_coarse *c, size_t slot, uint32_t j,
		      const double *amid, const float *mid)
{
	const struct vf_centroids *l = c->l;
	const float *w = l->w + (size_t)j * l->dim;
	int8_t *to = c->q + slot / VF_PANEL * c->n_quads * 4 * VF_PANEL +
		     slot % VF_PANEL * 4;
	double most = 0, sq = 0, at_mid = 0;

	for (uint32_t i = 0; i < l->dim; i++) {
		double d = w[i] - amid[i];
		most = fmax(most, fabs(d));
		sq += d * d;
		at_mid += (double)w[i] * mid[i];
	}
	float step = (float)(most / 127), inverse = step > 0 ? 1 / step : 0;
	int32_t sum = 0;
	for (uint32_t i = 0; i < l->dim; i++) {
		long v = lrintf((float)(w[i] - amid[i]) * inverse);
		v = VF_MIN(VF_MAX(v, -127L), 127L);
		to[i / 4 * 4 * VF_PANEL + i % 4] = (int8_t)v;
		sum += (int32_t)v;
	}
	c->mul[slot] = step;
	c->bias[slot] = VF_BYTE_ZERO * sum;
	c->add[slot] = (float)(at_mid - l->b[j]);
	c->we[slot] = l->we[j];
	c->step[j] = step;
	c->len[j] = (float)sqrt(sq);
}

int vf_coarse_init(struct vf_coarse *c, const struct vf_centroids *l,
		   const uint32_t *first, uint32_t n_groups, const float *mid)
{
	VF_AUTO_FREE double *amid = malloc(l->dim * sizeof(*amid));
	const struct vf_amid_rows rows = {.x = l->w, .n = l->n, .dim = l->dim};

	*c = (struct vf_coarse){
		.l = l, .n_groups = n_groups, .n_quads = (l->dim + 3) / 4};
	int err = amid ? group_panels(c, first) : -ENOMEM;
	if (!err)
		err = alloc_coarse(c, n_groups);
	if (!err)
		err = vf_amid_find(&rows, amid, NULL);
	if (err)
		return vf_fail(err, "clusters: out of memory");
	for (uint32_t g = 0; g < n_groups; g++)
		for (uint32_t j = c->first[g]; j < c->first[g + 1]; j++)
			fill_slot(c,
				  (size_t)c->panel[g] * VF_PANEL + j -
					  c->first[g],
				  j, amid, mid);
	return 0;
}

void vf_coarse_fini(struct vf_coarse *c)
{
	free(c->panel);
	free(c->first);
	free(c->q);
	free(c->mul);
	free(c->add);
	free(c->we);
	free(c->bias);
	free(c->step);
	free(c->len);
	*c = (struct vf_coarse){0};
}

/* ---- scores ----------------------------------------------------------------------- */

void vf_coarse_begin(struct vf_places *b)
{
	for (uint32_t i = 0; i < VF_PANEL; i++) {
		b->score[i] = -INFINITY;
		b->id[i] = 0;
	}
}

static struct vf_panels view_panels(const struct vf_coarse *c, uint32_t panel,
				    uint32_t n, uint32_t first)
{
	size_t slot = (size_t)panel * VF_PANEL;

	return (struct vf_panels){
		c->bias + slot, c->mul + slot, c->add + slot, c->we + slot, n,
		first};
}

static void find_rows(const struct vf_points *p, const uint32_t *rows, size_t n,
		      const uint8_t **out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = p->q + (size_t)rows[i] * p->q_len;
}

void vf_coarse_search(const struct vf_coarse *c, uint32_t group,
		      const struct vf_points *p, const uint32_t *rows, size_t n,
		      struct vf_places *const *best)
{
	enum { PANELS = 8 };
	vf_dots_i8_fn *dots = vf_dots_i8();
	vf_keep_i8_fn *keep = vf_keep_i8();
	const uint8_t *x[VF_COARSE_ROWS];
	int32_t sums[VF_COARSE_ROWS][PANELS * VF_PANEL];
	size_t len = (size_t)c->n_quads * 4 * VF_PANEL;

	find_rows(p, rows, n, x);
	for (uint32_t k = c->panel[group]; k < c->panel[group + 1];
	     k += PANELS) {
		uint32_t m = VF_MIN(c->panel[group + 1] - k, (uint32_t)PANELS);
		struct vf_panels v = view_panels(
			c, k, m,
			c->first[group] + (k - c->panel[group]) * VF_PANEL);
		dots(x, n, c->q + k * len, m, c->n_quads, sums[0],
		     PANELS * VF_PANEL);
		for (size_t i = 0; i < n; i++)
			keep(&v, sums[i], p->step[rows[i]],
			     p->extra ? p->extra[rows[i]] : 0, best[i]);
	}
}

/* Every place of one panel begins at nothing, so its score is kept. */
void vf_coarse_scores(const struct vf_coarse *c, uint32_t panel,
		      const struct vf_points *p, const uint32_t *rows, size_t n,
		      float (*out)[VF_PANEL])
{
	const uint8_t *x[VF_COARSE_ROWS];
	int32_t sums[VF_COARSE_ROWS][VF_PANEL];
	struct vf_panels v = view_panels(c, panel, 1, 0);
	struct vf_places best;

	find_rows(p, rows, n, x);
	vf_dots_i8()(x, n, c->q + (size_t)panel * c->n_quads * 4 * VF_PANEL, 1,
		     c->n_quads, sums[0], VF_PANEL);
	for (size_t i = 0; i < n; i++) {
		vf_coarse_begin(&best);
		vf_keep_i8()(&v, sums[i], p->step[rows[i]],
			     p->extra ? p->extra[rows[i]] : 0, &best);
		memcpy(out[i], best.score, sizeof(out[i]));
	}
}

/* ---- the nearest ------------------------------------------------------------------ */

static double score_exactly(const struct vf_centroids *l, uint32_t j,
			    const struct vf_points *p, uint32_t row)
{
	double dot, sq;

	vf_kernels()->dot_f32(p->x + (size_t)row * p->dim,
			      l->w + (size_t)j * l->dim, 1, p->dim, &dot, &sq);
	if (l->metric == VF_COSINE)
		return dot; /* a row's length changes no order */
	return dot + (p->extra ? (double)p->extra[row] * l->we[j] : 0) -
	       l->b[j];
}

/* The variance of the score of one centroid. */
static float find_error(const struct vf_coarse *c, uint32_t j,
			const struct vf_points *p, uint32_t row)
{
	float of_row = p->step[row] * c->len[j];
	float of_centroid = c->step[j] * p->len[row];

	return (of_row * of_row + of_centroid * of_centroid) / 12;
}

/* Whether the error of both, two deviations, may be what @a has more. */
static bool may_be_more(float a, float a_error, float b, float b_error)
{
	return b >= a - 2 * sqrtf(a_error + b_error);
}

uint32_t vf_coarse_nearest(const struct vf_coarse *c, const struct vf_points *p,
			   uint32_t row, const struct vf_places *best)
{
	uint32_t top = 0, n = 0, near[VF_PANEL];
	double most = -INFINITY;

	for (uint32_t i = 1; i < VF_PANEL; i++)
		if (best->score[i] > best->score[top])
			top = i;
	float error = find_error(c, best->id[top], p, row);
	for (uint32_t i = 0; i < VF_PANEL; i++)
		if (may_be_more(best->score[top], error, best->score[i],
				find_error(c, best->id[i], p, row)))
			near[n++] = best->id[i];
	if (n < 2)
		return best->id[top];
	for (uint32_t i = 0; i < n; i++) {
		double s = score_exactly(c->l, near[i], p, row);
		if (s > most || (s == most && near[i] < top)) {
			most = s;
			top = near[i];
		}
	}
	return most > -INFINITY ? top : near[0];
}
