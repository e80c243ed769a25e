#include "index/kmeans.h"
#include "index/coarse.h"
#include "index/crew.h"
#include "index/kernels_gemm.h"
#include "store/util.h"

#include <math.h>

void vf_rows_draw(uint32_t *rows, size_t n_rows, size_t n, uint64_t *seed)
{
	for (size_t i = 0; i < n; i++) {
		size_t j = i + vf_splitmix64(seed) % (n_rows - i);
		uint32_t r = rows[i];
		rows[i] = rows[j];
		rows[j] = r;
	}
}

/* ---- groups ------------------------------------------------------------------- */

int vf_groups_init(struct vf_groups *g, uint32_t k, const uint32_t *rows,
		   const uint32_t *ids, size_t n)
{
	*g = (struct vf_groups){.k = k};
	g->starts = calloc((size_t)k + 2, sizeof(*g->starts));
	g->order = malloc((n + 1) * sizeof(*g->order));
	if (!g->starts || !g->order)
		return vf_fail(-ENOMEM, "clusters: out of memory");
	/* One slot to the right, so that filling moves starts into place. */
	for (size_t i = 0; i < n; i++)
		g->starts[ids[i] + 2]++;
	for (size_t j = 2; j <= (size_t)k + 1; j++)
		g->starts[j] += g->starts[j - 1];
	for (size_t i = 0; i < n; i++)
		g->order[g->starts[ids[i] + 1]++] = rows[i];
	return 0;
}

void vf_groups_fini(struct vf_groups *g)
{
	free(g->starts);
	free(g->order);
	*g = (struct vf_groups){0};
}

static size_t count_rows(const struct vf_groups *g, uint32_t j)
{
	return g->starts[j + 1] - g->starts[j];
}

/* ---- means ---------------------------------------------------------------------- */

struct update {
	struct vf_centroids *l;
	const struct vf_points *p;
	const struct vf_groups *g;
};

/* Double sums: a million rows of one leaf lose no digits. */
static int update_one(void *arg, size_t j)
{
	struct update *u = arg;
	const struct vf_points *p = u->p;
	size_t n = count_rows(u->g, (uint32_t)j);
	const uint32_t *rows = u->g->order + u->g->starts[j];
	double e = 0, sum[VF_DIM_MAX] = {0};

	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++) {
		vf_gemm_kernels()->add_f32(
			p->x + (size_t)rows[i] * p->dim,
			p->scale ? (double)p->scale[rows[i]] : 1, p->dim, sum);
		e += p->extra ? (double)p->extra[rows[i]] : 0;
	}
	for (uint32_t i = 0; i < p->dim; i++)
		u->l->c[j * p->dim + i] = (float)(sum[i] / (double)n);
	u->l->e[j] = (float)(e / (double)n);
	return 0;
}

int vf_kmeans_update(struct vf_centroids *l, const struct vf_points *p,
		     const struct vf_groups *g, unsigned n_threads)
{
	struct update u = {l, p, g};

	return vf_crew_run(n_threads, l->n, update_one, &u);
}

/* ---- balance ----------------------------------------------------------------------- */

static void copy_centroid(struct vf_centroids *l, uint32_t to, uint32_t from)
{
	memcpy(l->c + (size_t)to * l->dim, l->c + (size_t)from * l->dim,
	       l->dim * sizeof(float));
	l->e[to] = l->e[from];
}

static void push_centroid(struct vf_centroids *l, uint32_t j,
			  const struct vf_points *p, uint32_t row, float by)
{
	float *c = l->c + (size_t)j * l->dim;
	const float *x = p->x + (size_t)row * p->dim;
	float s = p->scale ? p->scale[row] : 1;

	for (uint32_t i = 0; i < l->dim; i++)
		c[i] += by * (s * x[i] - c[i]);
	if (p->extra)
		l->e[j] += by * (p->extra[row] - l->e[j]);
}

/*
 * A row is no good second centroid: in many dimensions its own noise makes it
 * farther from all others than any mean is.  So both halves start near the
 * mean, to either side of it along one row's direction.
 */
static void split(struct vf_centroids *l, uint32_t large, uint32_t small,
		  const struct vf_points *p, uint32_t row)
{
	const float by = 0.125f;

	copy_centroid(l, small, large);
	push_centroid(l, small, p, row, by);
	push_centroid(l, large, p, row, -by);
}

/* Clusters as they come to be while some are split. */
struct piece {
	size_t n;	/* rows, about */
	uint32_t owner; /* the group that they are in */
};

/* Which to split for one of @n rows (0: any of two rows); k when none is. */
static uint32_t choose_large(const struct piece *pieces, uint32_t k, size_t n,
			     size_t mean)
{
	uint32_t best = 0;

	for (uint32_t j = 1; j < k; j++)
		if (pieces[j].n > pieces[best].n)
			best = j;
	return pieces[best].n >= (n ? VF_MAX(2 * mean, 2) : 2) ? best : k;
}

int vf_kmeans_balance(struct vf_centroids *l, const struct vf_points *p,
		      const struct vf_groups *g, uint64_t seed)
{
	VF_AUTO_FREE struct piece *pieces = malloc(l->n * sizeof(*pieces));
	size_t mean = g->starts[l->n] / l->n;

	if (!pieces)
		return vf_fail(-ENOMEM, "clusters: out of memory");
	for (uint32_t j = 0; j < l->n; j++)
		pieces[j] = (struct piece){count_rows(g, j), j};
	for (uint32_t j = 0; j < l->n; j++) {
		size_t n = count_rows(g, j);
		if (n && n >= mean / 4)
			continue;
		uint32_t big = choose_large(pieces, l->n, n, mean);
		if (big == l->n)
			continue;
		uint32_t from = pieces[big].owner;
		size_t pick = vf_splitmix64(&seed) % count_rows(g, from);
		split(l, big, j, p, g->order[g->starts[from] + pick]);
		pieces[j] = (struct piece){pieces[big].n / 2, from};
		pieces[big].n -= pieces[j].n;
	}
	return 0;
}

/* ---- rounds ------------------------------------------------------------------------ */

struct assign {
	const struct vf_coarse *c;
	const struct vf_points *p;
	const uint32_t *rows;
	size_t n;
	uint32_t *ids;
};

static int assign_chunk(void *arg, size_t item)
{
	struct assign *a = arg;
	size_t first = item * VF_COARSE_ROWS;
	size_t n = VF_MIN(a->n - first, (size_t)VF_COARSE_ROWS);
	const uint32_t *rows = a->rows + first;
	struct vf_places best[VF_COARSE_ROWS], *at[VF_COARSE_ROWS] = {0};

	for (size_t i = 0; i < n; i++)
		vf_coarse_begin(at[i] = &best[i]);
	vf_coarse_search(a->c, 0, a->p, rows, n, at);
	for (size_t i = 0; i < n; i++)
		a->ids[first + i] =
			vf_coarse_nearest(a->c, a->p, rows[i], &best[i]);
	return 0;
}

int vf_kmeans_assign(const struct vf_centroids *l, const struct vf_points *p,
		     const uint32_t *rows, size_t n, unsigned n_threads,
		     uint32_t *out_ids)
{
	VF_CLEANUP(vf_coarse_fini) struct vf_coarse c = {0};
	struct assign a = {&c, p, rows, n, out_ids};
	int err = vf_coarse_init(&c, l, NULL, 1, p->mid);

	return err ? err
		   : vf_crew_run(n_threads,
				 (n + VF_COARSE_ROWS - 1) / VF_COARSE_ROWS,
				 assign_chunk, &a);
}

/* Begin with k of the rows. */
static int draw_centroids(const struct vf_kmeans_options *o,
			  const struct vf_points *p, const uint32_t *rows,
			  size_t n, struct vf_centroids *out)
{
	VF_AUTO_FREE uint32_t *draw = malloc(n * sizeof(*draw));
	uint64_t seed = o->seed;

	if (!draw)
		return vf_fail(-ENOMEM, "k-means: out of memory");
	memcpy(draw, rows, n * sizeof(*draw));
	vf_rows_draw(draw, n, o->k, &seed);
	for (uint32_t j = 0; j < o->k; j++)
		push_centroid(out, j, p, draw[j], 1);
	return 0;
}

static int run_round(const struct vf_kmeans_options *o, unsigned round,
		     const struct vf_points *p, const uint32_t *rows, size_t n,
		     struct vf_centroids *l, uint32_t *ids)
{
	VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};
	int err = vf_centroids_derive(l);

	if (!err)
		err = vf_kmeans_assign(l, p, rows, n, o->n_threads, ids);
	if (!err)
		err = vf_groups_init(&g, l->n, rows, ids, n);
	if (!err)
		err = vf_kmeans_update(l, p, &g, o->n_threads);
	if (!err && round + 1 < o->n_rounds)
		err = vf_kmeans_balance(l, p, &g, o->seed + round);
	return err;
}

int vf_kmeans_run(const struct vf_kmeans_options *o, const struct vf_points *p,
		  const uint32_t *rows, size_t n, struct vf_centroids *out,
		  uint32_t *out_ids)
{
	int err = draw_centroids(o, p, rows, n, out);

	for (unsigned r = 0; !err && r < o->n_rounds; r++)
		err = run_round(o, r, p, rows, n, out, out_ids);
	return err ? err : vf_centroids_derive(out);
}
