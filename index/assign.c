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

enum { CHUNK_ROWS = 1024, NEAR_MAX = 64 };

struct job {
	const struct vf_cluster *c;
	const struct vf_points *p;
	unsigned n_near;
	uint32_t *leaf;
};

/* Keep the @near best nodes of one row, worst last. */
static void insert_node(struct vf_best *list, unsigned near, float score,
			uint32_t id)
{
	unsigned at = near - 1;

	if (!(score > list[at].score))
		return;
	for (; at && score > list[at - 1].score; at--)
		list[at] = list[at - 1];
	list[at] = (struct vf_best){score, id};
}

/* Scores of nodes @first..@last - 1 with @n rows. */
static void insert_nodes(const struct job *j, const float *s, uint32_t first,
			 uint32_t last, size_t n, struct vf_best *near)
{
	for (uint32_t k = first; k < last; k++, s += n)
		for (size_t i = 0; i < n; i++)
			insert_node(near + i * j->n_near, j->n_near, s[i], k);
}

/* Nodes to look into: near[i * n_near ..] for each row; unused stay node 0. */
static void choose_nodes(const struct job *j, const uint32_t *rows, size_t n,
			 struct vf_best *near)
{
	const struct vf_centroids *nodes = &j->c->nodes;
	float s[VF_BLOCK_ROWS * VF_BLOCK_CENTROIDS];

	for (size_t i = 0; i < n * j->n_near; i++)
		near[i] = (struct vf_best){-INFINITY, UINT32_MAX};
	for (size_t i = 0; i < n; i += VF_BLOCK_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_BLOCK_ROWS);
		for (uint32_t k = 0; k < nodes->n; k += VF_BLOCK_CENTROIDS) {
			uint32_t end = VF_MIN(nodes->n, k + VF_BLOCK_CENTROIDS);
			vf_centroids_score(nodes, k, end, j->p, rows + i, m, s);
			insert_nodes(j, s, k, end, m, near + i * j->n_near);
		}
	}
}

/* Every (row, node) pair as a slot number, grouped by node. */
static int group_by_node(const struct job *j, const struct vf_best *near,
			 size_t n, struct vf_groups *out)
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
			struct vf_best *best)
{
	for (size_t i = 0; i < n; i += VF_BLOCK_ROWS) {
		size_t m = VF_MIN(n - i, (size_t)VF_BLOCK_ROWS);
		struct vf_best b[VF_BLOCK_ROWS];
		uint32_t r[VF_BLOCK_ROWS];
		for (size_t t = 0; t < m; t++) {
			b[t] = best[slots[i + t]];
			r[t] = rows[slots[i + t]];
		}
		vf_centroids_nearest(&j->c->leaves, j->c->first[node],
				     j->c->first[node + 1], j->p, r, m, b);
		for (size_t t = 0; t < m; t++)
			best[slots[i + t]] = b[t];
	}
}

static int search_near(const struct job *j, const uint32_t *rows, size_t n,
		       struct vf_best *best)
{
	VF_AUTO_FREE struct vf_best *near =
		malloc(n * j->n_near * sizeof(*near));
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

static int assign_chunk(void *arg, size_t item)
{
	const struct job *j = arg;
	size_t first = item * CHUNK_ROWS;
	size_t n = VF_MIN(j->p->n - first, (size_t)CHUNK_ROWS);
	struct vf_best best[CHUNK_ROWS];
	uint32_t rows[CHUNK_ROWS];
	int err = 0;

	for (size_t i = 0; i < n; i++) {
		best[i] = (struct vf_best){-INFINITY, 0};
		rows[i] = (uint32_t)(first + i);
	}
	if (j->n_near >= j->c->nodes.n)
		vf_centroids_nearest(&j->c->leaves, 0, j->c->leaves.n, j->p,
				     rows, n, best);
	else
		err = search_near(j, rows, n, best);
	for (size_t i = 0; i < n; i++)
		j->leaf[first + i] = best[i].id;
	return err;
}

int vf_assign_points(const struct vf_cluster *c, const struct vf_points *p,
		     unsigned n_near, unsigned n_threads, uint32_t *out_leaf)
{
	struct job j = {.c = c, .p = p, .leaf = out_leaf};

	j.n_near = n_near ? n_near : VF_NEAR_DEFAULT;
	if (j.n_near > NEAR_MAX)
		j.n_near = c->nodes.n; /* past that, all is as cheap */
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

	/* Under cosine lengths change no order: not found at all. */
	p = (struct vf_points){.x = x,
			       .n = n,
			       .dim = c->leaves.dim,
			       .metric = c->leaves.metric};
	err = p.metric == VF_DOT
		      ? vf_points_init(&p, VF_DOT, p.dim, c->norm_max, x, n)
		      : 0;
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
