/*
 * The leaf of a row: nodes are scored, and the leaves of the nearest few.
 *
 * Rows are taken a chunk at a time and turned round: for each node the rows
 * that look into it, so that a node's leaves are read once per chunk and
 * scored as a block.
 */
#include "index/cluster_impl.h"
#include "index/crew.h"
#include "index/kernels.h"
#include "index/kmeans.h"
#include "store/util.h"

#include <math.h>

enum { CHUNK_ROWS = 768, NEAR_MAX = 64 };
static_assert(CHUNK_ROWS % VF_COARSE_ROWS == 0, "whole blocks");

struct job {
	const struct vf_cluster *c;
	const struct vf_points *p;
	const struct vf_coarse *leaves;
	unsigned n_near;
	uint32_t *leaf;
};

struct near {
	float score;
	uint32_t id;
};

/* Keep the @near best nodes of one row, worst last. */
static void insert_node(struct near *list, unsigned near, float score,
			uint32_t id)
{
	unsigned at = near - 1;

	if (!(score > list[at].score))
		return;
	for (; at && score > list[at - 1].score; at--)
		list[at] = list[at - 1];
	list[at] = (struct near){score, id};
}

/* Nodes to look into: near[i * n_near ..] for each row. */
static void choose_nodes(const struct job *j, const uint32_t *rows, size_t n,
			 struct near *near)
{
	const struct vf_coarse *nodes = &j->c->near_nodes;
	float s[VF_COARSE_ROWS][VF_PANEL];

	for (size_t i = 0; i < n * j->n_near; i++)
		near[i] = (struct near){-INFINITY, UINT32_MAX};
	for (size_t i = 0; i < n; i += VF_COARSE_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_COARSE_ROWS);
		for (uint32_t k = 0; k < j->c->nodes.n; k += VF_PANEL) {
			uint32_t left = j->c->nodes.n - k;
			uint32_t end = VF_MIN(left, (uint32_t)VF_PANEL);
			vf_coarse_scores(nodes, k / VF_PANEL, j->p, rows + i, m,
					 s);
			for (size_t r = 0; r < m; r++)
				for (uint32_t t = 0; t < end; t++)
					insert_node(near + (i + r) * j->n_near,
						    j->n_near, s[r][t], k + t);
		}
	}
}

/* Every (row, node) pair as a slot number, grouped by node. */
static int group_by_node(const struct job *j, const struct near *near, size_t n,
			 struct vf_groups *out)
{
	size_t n_slots = n * j->n_near;
	VF_AUTO_FREE uint32_t *ids = malloc(n_slots * sizeof(*ids));
	VF_AUTO_FREE uint32_t *slots = malloc(n_slots * sizeof(*slots));
	size_t m = 0;

	if (!ids || !slots)
		return vf_fail(-ENOMEM, "leaves of rows: out of memory");
	for (size_t i = 0; i < n_slots; i++)
		if (near[i].id != UINT32_MAX) {
			ids[m] = near[i].id;
			slots[m++] = (uint32_t)(i / j->n_near);
		}
	return vf_groups_init(out, j->c->nodes.n, slots, ids, m);
}

/* Improve the rows numbered @slots by the leaves of one node. */
static void search_node(const struct job *j, uint32_t node,
			const uint32_t *rows, const uint32_t *slots, size_t n,
			struct vf_places *best)
{
	for (size_t i = 0; i < n; i += VF_COARSE_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_COARSE_ROWS);
		struct vf_places *b[VF_COARSE_ROWS];
		uint32_t r[VF_COARSE_ROWS];
		for (size_t t = 0; t < m; t++) {
			b[t] = &best[slots[i + t]];
			r[t] = rows[slots[i + t]];
		}
		vf_coarse_search(j->leaves, node, j->p, r, m, b);
	}
}

static int search_near(const struct job *j, const uint32_t *rows, size_t n,
		       struct vf_places *best)
{
	VF_AUTO_FREE struct near *near = malloc(n * j->n_near * sizeof(*near));
	VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};

	if (!near)
		return vf_fail(-ENOMEM, "leaves of rows: out of memory");
	choose_nodes(j, rows, n, near);
	int err = group_by_node(j, near, n, &g);
	for (uint32_t k = 0; !err && k < g.k; k++)
		search_node(j, k, rows, g.order + g.starts[k],
			    g.starts[k + 1] - g.starts[k], best);
	return err;
}

/* All leaves for every row. */
static void search_all(const struct vf_coarse *c, const struct vf_points *p,
		       const uint32_t *rows, size_t n, struct vf_places *best)
{
	for (size_t i = 0; i < n; i += VF_COARSE_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_COARSE_ROWS);
		struct vf_places *b[VF_COARSE_ROWS];
		for (size_t t = 0; t < m; t++)
			b[t] = &best[i + t];
		for (uint32_t g = 0; g < c->n_groups; g++)
			vf_coarse_search(c, g, p, rows + i, m, b);
	}
}

static int assign_chunk(void *arg, size_t item)
{
	const struct job *j = arg;
	size_t first = item * CHUNK_ROWS;
	size_t n = VF_MIN(j->p->n - first, (size_t)CHUNK_ROWS);
	VF_AUTO_FREE struct vf_places *best = malloc(n * sizeof(*best));
	uint32_t rows[CHUNK_ROWS];
	int err = 0;

	if (!best)
		return vf_fail(-ENOMEM, "leaves of rows: out of memory");
	for (size_t i = 0; i < n; i++) {
		vf_coarse_begin(&best[i]);
		rows[i] = (uint32_t)(first + i);
	}
	if (j->n_near >= j->c->nodes.n)
		search_all(j->leaves, j->p, rows, n, best);
	else
		err = search_near(j, rows, n, best);
	for (size_t i = 0; !err && i < n; i++)
		j->leaf[first + i] = vf_coarse_nearest(&j->c->near_leaves, j->p,
						       rows[i], &best[i]);
	return err;
}

int vf_assign_points(const struct vf_cluster *c, const struct vf_points *p,
		     unsigned n_near, unsigned n_threads, uint32_t *out_leaf)
{
	struct job j = {.c = c, .p = p, .leaf = out_leaf};

	j.n_near = n_near ? n_near : VF_NEAR_DEFAULT;
	if (j.n_near > NEAR_MAX || (!n_near && c->all.l))
		j.n_near = c->nodes.n; /* past that, all is as cheap */
	j.leaves =
		j.n_near >= c->nodes.n && c->all.l ? &c->all : &c->near_leaves;
	return vf_crew_run(n_threads, (p->n + CHUNK_ROWS - 1) / CHUNK_ROWS,
			   assign_chunk, &j);
}

/* ---- rows as put ---------------------------------------------------------------- */

struct measure {
	const struct vf_cluster *c;
	const struct vf_points *p;
	const uint32_t *leaf;
	float *sq;
};

static double residual(const struct measure *m, size_t i)
{
	uint32_t dim = m->p->dim;
	const float *x = m->p->x + i * dim;
	const float *c = m->c->leaves.c + (size_t)m->leaf[i] * dim;
	double dot, sq, len;

	if (m->p->metric != VF_COSINE) {
		vf_kernels()->l2sq_f32(x, c, 1, dim, &sq);
		return sq;
	}
	vf_kernels()->dot_f32(x, x, 1, dim, &dot, &len);
	vf_kernels()->dot_f32(x, c, 1, dim, &dot, &sq);
	sq += len > 0 ? 1 - 2 * dot / sqrt(len) : 0;
	return VF_MAX(sq, 0);
}

static int measure_chunk(void *arg, size_t item)
{
	const struct measure *m = arg;
	size_t first = item * CHUNK_ROWS;
	size_t end = VF_MIN(m->p->n, first + CHUNK_ROWS);

	for (size_t i = first; i < end; i++)
		m->sq[i] = (float)residual(m, i);
	return 0;
}

/* Row numbers are 32 bits wide inside, so huge inputs go in pieces. */
enum { PIECE_ROWS = 1 << 30 };

static int assign_piece(const struct vf_cluster *c,
			const struct vf_cluster_assign *o, const float *x,
			size_t n, uint32_t *out_leaf, float *out_sq)
{
	struct vf_points p;
	unsigned n_threads = o && o->n_threads ? o->n_threads : 1;
	struct measure m = {c, &p, out_leaf, out_sq};
	int err;

	err = vf_points_init(&p, c->leaves.metric, c->leaves.dim, c->norm_max,
			     x, n, c->mid, n_threads);
	if (!err)
		err = vf_assign_points(c, &p, o ? o->n_near : 0, n_threads,
				       out_leaf);
	if (!err && out_sq)
		err = vf_crew_run(n_threads, (n + CHUNK_ROWS - 1) / CHUNK_ROWS,
				  measure_chunk, &m);
	vf_points_fini(&p);
	return err;
}

int vf_cluster_assign(const struct vf_cluster *c,
		      const struct vf_cluster_assign *o, const float *x,
		      size_t n, uint32_t *out_leaf, float *out_sq)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i += PIECE_ROWS)
		err = assign_piece(c, o, x + i * c->leaves.dim,
				   VF_MIN(n - i, (size_t)PIECE_ROWS),
				   out_leaf + i, out_sq ? out_sq + i : NULL);
	return err;
}
