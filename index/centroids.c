#include "index/centroids.h"
#include "index/amid.h"
#include "index/crew.h"
#include "index/kernels.h"
#include "index/kernels_gemm.h"
#include "index/kernels_i8.h"
#include "store/util.h"

#include <math.h>

/* ---- points ---------------------------------------------------------------- */

static void find_squares(const float *x, size_t n, uint32_t dim, double *out)
{
	double dots[VF_BLOCK_ROWS];

	vf_kernels()->dot_f32(x, x, n, dim, dots, out);
}

float vf_rows_norm_max(const float *x, size_t n, uint32_t dim)
{
	double sq[VF_BLOCK_ROWS], max = 0;

	for (size_t i = 0; i < n; i += VF_BLOCK_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_BLOCK_ROWS);
		find_squares(x + i * dim, m, dim, sq);
		for (size_t j = 0; j < m; j++)
			max = VF_MAX(max, sq[j]);
	}
	return (float)sqrt(max);
}

static void complete_rows(struct vf_points *p, size_t first, size_t n)
{
	double sq[VF_BLOCK_ROWS];
	double all = (double)p->norm_max * p->norm_max;

	find_squares(p->x + first * p->dim, n, p->dim, sq);
	for (size_t i = 0; i < n; i++) {
		if (p->scale)
			p->scale[first + i] =
				sq[i] > 0 ? (float)(1 / sqrt(sq[i])) : 0;
		if (p->extra)
			p->extra[first + i] =
				sq[i] < all ? (float)sqrt(all - sq[i]) : 0;
	}
}

/* Rows whose mean is amid all of them. */
enum { MID_ROWS = 4096, CHUNK_ROWS = 1024 };

static int find_mid(struct vf_points *p)
{
	const struct vf_amid_rows rows = {.x = p->x,
					  .n = p->n,
					  .dim = p->dim,
					  .scale = p->scale,
					  .n_max = MID_ROWS};

	return vf_amid_find_f32(&rows, p->mid);
}

static void round_row(struct vf_points *p, size_t row)
{
	struct vf_rounded r =
		vf_round_i8()(p->x + row * p->dim, p->scale ? p->scale[row] : 1,
			      p->mid, p->dim, p->q + row * p->q_len);

	p->step[row] = r.step;
	p->len[row] = r.len;
}

static int round_chunk(void *arg, size_t item)
{
	struct vf_points *p = arg;
	size_t first = item * CHUNK_ROWS;
	size_t n = VF_MIN(p->n - first, (size_t)CHUNK_ROWS);

	for (size_t i = first; i < first + n; i++)
		round_row(p, i);
	return 0;
}

static int complete_chunk(void *arg, size_t item)
{
	struct vf_points *p = arg;
	size_t first = item * CHUNK_ROWS;
	size_t end = VF_MIN(p->n, first + CHUNK_ROWS);

	for (size_t i = first; i < end; i += VF_BLOCK_ROWS)
		complete_rows(p, i, VF_MIN(end - i, (size_t)VF_BLOCK_ROWS));
	return 0;
}

int vf_points_init(struct vf_points *p, enum vf_metric metric, uint32_t dim,
		   float norm_max, const float *x, size_t n, const float *mid,
		   unsigned n_threads)
{
	size_t chunks = (n + CHUNK_ROWS - 1) / CHUNK_ROWS;

	*p = (struct vf_points){.x = x,
				.n = n,
				.dim = dim,
				.metric = metric,
				.norm_max = norm_max,
				.q_len = vf_round_up(dim, 4)};
	p->mid = malloc(dim * sizeof(float));
	p->q = malloc(n * p->q_len + 1);
	p->step = malloc(n * sizeof(float) + 1);
	p->len = malloc(n * sizeof(float) + 1);
	if (!p->mid || !p->q || !p->step || !p->len)
		return -ENOMEM;
	if (metric == VF_COSINE && !(p->scale = malloc(n * sizeof(float) + 1)))
		return -ENOMEM;
	if (metric == VF_DOT && !(p->extra = malloc(n * sizeof(float) + 1)))
		return -ENOMEM;
	int err = metric == VF_EUCLIDEAN
			  ? 0
			  : vf_crew_run(n_threads, chunks, complete_chunk, p);
	if (!err && mid)
		memcpy(p->mid, mid, dim * sizeof(float));
	else if (!err)
		err = find_mid(p);
	return err ? err : vf_crew_run(n_threads, chunks, round_chunk, p);
}

void vf_points_fini(struct vf_points *p)
{
	free(p->scale);
	free(p->extra);
	free(p->mid);
	free(p->q);
	free(p->step);
	free(p->len);
	p->scale = p->extra = p->mid = p->step = p->len = NULL;
	p->q = NULL;
}

/* ---- centroids -------------------------------------------------------------- */

/* On cache lines, because kernels read whole ones. */
static float *new_floats(size_t n)
{
	size_t len = vf_round_up(n * sizeof(float) + 1, 64);
	float *p = aligned_alloc(64, len);

	if (p)
		memset(p, 0, len);
	return p;
}

int vf_centroids_init(struct vf_centroids *l, enum vf_metric metric, uint32_t n,
		      uint32_t dim)
{
	*l = (struct vf_centroids){.n = n, .dim = dim, .metric = metric};
	l->c = new_floats((size_t)n * dim);
	l->w = new_floats((size_t)n * dim);
	l->e = new_floats(n);
	l->we = new_floats(n);
	l->b = new_floats(n);
	return l->c && l->w && l->e && l->we && l->b ? 0 : -ENOMEM;
}

void vf_centroids_fini(struct vf_centroids *l)
{
	free(l->c);
	free(l->w);
	free(l->e);
	free(l->we);
	free(l->b);
	*l = (struct vf_centroids){0};
}

static double length(const float *x, uint32_t dim)
{
	double dot, sq;

	vf_kernels()->dot_f32(x, x, 1, dim, &dot, &sq);
	return sqrt(sq);
}

static void derive_cosine(struct vf_centroids *l)
{
	for (uint32_t j = 0; j < l->n; j++) {
		const float *c = l->c + (size_t)j * l->dim;
		float *w = l->w + (size_t)j * l->dim;
		double len = length(c, l->dim);
		for (uint32_t i = 0; i < l->dim; i++)
			w[i] = len > 0 ? (float)(c[i] / len) : 0;
	}
}

/* w = c - m, b = <c - m, c + m> / 2; returns |w|. */
static double derive_one(struct vf_centroids *l, uint32_t j, const double *m,
			 double me)
{
	const float *c = l->c + (size_t)j * l->dim;
	float *w = l->w + (size_t)j * l->dim;
	double b = 0, sq = 0;

	for (uint32_t i = 0; i < l->dim; i++) {
		double d = c[i] - m[i];
		b += d * (c[i] + m[i]);
		sq += d * d;
		w[i] = (float)d;
	}
	double d = l->e[j] - me;
	l->we[j] = (float)d;
	/* In units of |w| so far, lest it overflow. */
	sq = sqrt(sq + d * d);
	l->b[j] = sq > 0 ? (float)((b + d * (l->e[j] + me)) / 2 / sq) : 0;
	return sq;
}

int vf_centroids_derive(struct vf_centroids *l)
{
	VF_AUTO_FREE double *m = calloc(l->dim + 1, sizeof(*m));
	VF_AUTO_FREE double *len = malloc((l->n + 1) * sizeof(*len));
	const struct vf_amid_rows rows = {
		.x = l->c, .n = l->n, .dim = l->dim, .extra = l->e};
	double u = 0, me = 0;

	if (!m || !len)
		return vf_fail(-ENOMEM, "centroids: out of memory");
	if (l->metric == VF_COSINE) {
		derive_cosine(l);
		return 0;
	}
	if (vf_amid_find(&rows, m, &me))
		return vf_fail(-ENOMEM, "centroids: out of memory");
	for (uint32_t j = 0; j < l->n; j++) {
		len[j] = derive_one(l, j, m, me);
		u = VF_MAX(u, len[j]);
	}
	for (uint32_t j = 0; u > 0 && j < l->n; j++) {
		float *w = l->w + (size_t)j * l->dim;
		for (uint32_t i = 0; i < l->dim; i++)
			w[i] = (float)(w[i] / u);
		l->we[j] = (float)(l->we[j] / u);
		l->b[j] = (float)(l->b[j] * (len[j] / u));
	}
	return 0;
}

/* ---- scores ------------------------------------------------------------------ */

static void finish_scores(const struct vf_centroids *l, uint32_t j,
			  const struct vf_points *p, const uint32_t *rows,
			  size_t n, float *s)
{
	for (size_t i = 0; p->extra && i < n; i++)
		s[i] += p->extra[rows[i]] * l->we[j];
	for (size_t i = 0; i < n; i++)
		s[i] -= l->b[j];
}

void vf_centroids_score(const struct vf_centroids *l, uint32_t first,
			uint32_t last, const struct vf_points *p,
			const uint32_t *rows, size_t n, float *out)
{
	const float *x[VF_BLOCK_ROWS];

	for (size_t i = 0; i < n; i++)
		x[i] = p->x + (size_t)rows[i] * p->dim;
	vf_gemm_kernels()->dots_f32(x, n, l->w + (size_t)first * l->dim,
				    last - first, l->dim, out);
	if (l->metric != VF_COSINE) /* there a row's length changes no order */
		for (uint32_t j = first; j < last; j++)
			finish_scores(l, j, p, rows, n,
				      out + (size_t)(j - first) * n);
}
