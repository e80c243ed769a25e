#include "index/amid.h"
#include "index/kernels.h"
#include "index/kernels_gemm.h"
#include "index/rank.h"
#include "store/util.h"

#include <float.h>
#include <math.h>

enum { FAR = 10, ROUNDS = 64 };

struct work {
	const struct vf_amid_rows *r;
	uint32_t n;    /* rows looked at */
	float *at;     /* [dim], the point as floats */
	float *scaled; /* [dim] */
	double *sq;    /* [n] squared distance to the point */
	float *scores; /* [n] */
	uint32_t *order;
	void *rank;
};

static void free_work(struct work *w)
{
	free(w->at);
	free(w->scaled);
	free(w->sq);
	free(w->scores);
	free(w->order);
	free(w->rank);
}

static int alloc_work(struct work *w)
{
	size_t n = (size_t)w->n + 1, dim = w->r->dim;

	w->at = calloc(dim, sizeof(*w->at));
	w->scaled = malloc(dim * sizeof(*w->scaled));
	w->sq = malloc(n * sizeof(*w->sq));
	w->scores = malloc(n * sizeof(*w->scores));
	w->order = malloc(n * sizeof(*w->order));
	w->rank = malloc(vf_rank_work_len((uint32_t)n));
	return w->at && w->scaled && w->sq && w->scores && w->order && w->rank
		       ? 0
		       : -ENOMEM;
}

static size_t row_of(const struct work *w, uint32_t i)
{
	return (size_t)((double)i * (double)w->r->n / w->n);
}

static double scale_of(const struct work *w, size_t row)
{
	return w->r->scale ? (double)w->r->scale[row] : 1;
}

static void measure_rows(struct work *w)
{
	const struct vf_amid_rows *r = w->r;

	for (uint32_t i = 0; i < w->n; i++) {
		size_t row = row_of(w, i);
		const float *x = r->x + row * r->dim;
		if (r->scale) {
			float s = r->scale[row];
			for (uint32_t j = 0; j < r->dim; j++)
				w->scaled[j] = x[j] * s;
			x = w->scaled;
		}
		vf_kernels()->l2sq_f32(w->at, x, 1, r->dim, &w->sq[i]);
	}
}

static uint32_t count_near(const struct work *w, double limit)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n; i++)
		n += w->sq[i] <= limit;
	return n;
}

/* The mean of the @n rows within @limit. */
static void find_mean(struct work *w, double limit, uint32_t n, double *out,
		      double *out_extra)
{
	const struct vf_amid_rows *r = w->r;
	double extra = 0;

	memset(out, 0, r->dim * sizeof(*out));
	for (uint32_t i = 0; i < w->n; i++) {
		if (!(w->sq[i] <= limit))
			continue;
		size_t row = row_of(w, i);
		vf_gemm_kernels()->add_f32(r->x + row * r->dim,
					   scale_of(w, row) / n, r->dim, out);
		extra += r->extra ? (double)r->extra[row] / n : 0;
	}
	for (uint32_t j = 0; j < r->dim; j++)
		w->at[j] = (float)out[j];
	if (out_extra)
		*out_extra = extra;
}

/* The square of FAR times the distance that half of the rows are within. */
static double find_limit(struct work *w)
{
	uint32_t half = w->n / 2 + 1;

	for (uint32_t i = 0; i < w->n; i++)
		w->scores[i] = w->sq[i] <= FLT_MAX ? (float)w->sq[i] : FLT_MAX;
	vf_rank_least(w->scores, w->n, half, w->rank, w->order);
	return FAR * FAR * w->sq[w->order[half - 1]];
}

int vf_amid_find(const struct vf_amid_rows *r, double *out, double *out_extra)
{
	size_t most = r->n_max ? r->n_max : UINT32_MAX / 2;
	VF_CLEANUP(free_work)
	struct work w = {.r = r, .n = (uint32_t)VF_MIN(r->n, most)};
	double limit = DBL_MAX;
	uint32_t n, before = 0;
	int err = alloc_work(&w);

	if (err)
		return err;
	memset(out, 0, r->dim * sizeof(*out));
	if (out_extra)
		*out_extra = 0;
	measure_rows(&w); /* from zero: what cannot be is not counted */
	n = count_near(&w, limit);
	for (int i = 0; i < ROUNDS && n && n != before; i++) {
		find_mean(&w, limit, n, out, out_extra);
		measure_rows(&w);
		limit = find_limit(&w);
		before = n;
		n = count_near(&w, limit);
	}
	return 0;
}

int vf_amid_find_f32(const struct vf_amid_rows *r, float *out)
{
	VF_AUTO_FREE double *amid = malloc(r->dim * sizeof(*amid));
	int err = amid ? vf_amid_find(r, amid, NULL) : -ENOMEM;

	for (uint32_t i = 0; !err && i < r->dim; i++)
		out[i] = (float)amid[i];
	return err;
}
