/*
 * Nodes above leaves, and the order that leaves have.
 */
#include "index/cluster_impl.h"
#include "index/kmeans.h"
#include "index/leaf_order.h"
#include "store/util.h"

#include <math.h>

enum {
	FLAT_LEAVES = 64, /* up to here one node */
	NODE_ROUNDS = 8,
};

uint32_t vf_cluster_n_nodes(uint32_t n_leaves)
{
	return n_leaves > FLAT_LEAVES ? (uint32_t)ceil(sqrt(n_leaves)) : 1;
}

/* Leaves in the order of their nodes, while nodes are made. */
struct raising {
	struct vf_cluster *c;
	unsigned n_threads;
	struct vf_points p; /* the leaves */
	uint32_t *order;    /* [n] leaves */
	uint32_t *first;    /* [n_nodes + 1], into order */
	uint32_t n_nodes;
	size_t n_max; /* leaves of a node */
	uint64_t seed;
};

/*
 * Cluster @n of the leaves into @k nodes, and such as get too many again: a
 * row looks into as many leaves as its near nodes have, and the large ones
 * are near to most rows.
 */
static int raise_some(struct raising *r, const uint32_t *leaves, size_t n,
		      uint32_t k)
{
	VF_CLEANUP(vf_centroids_fini) struct vf_centroids l = {0};
	VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};
	VF_AUTO_FREE uint32_t *ids = malloc(n * sizeof(*ids));
	struct vf_kmeans_options o = {k, NODE_ROUNDS, r->n_threads,
				      vf_splitmix64(&r->seed)};
	int err =
		ids ? vf_centroids_init(&l, r->p.metric, k, r->p.dim) : -ENOMEM;

	if (!err)
		err = vf_kmeans_run(&o, &r->p, leaves, n, &l, ids);
	if (!err)
		err = vf_groups_init(&g, k, leaves, ids, n);
	for (uint32_t j = 0; !err && j < k; j++) {
		size_t m = g.starts[j + 1] - g.starts[j];
		const uint32_t *part = g.order + g.starts[j];
		if (m > r->n_max && m < n) {
			err = raise_some(r, part, m,
					 (uint32_t)(2 * m / r->n_max) + 1);
		} else if (m) {
			uint32_t at = r->first[r->n_nodes++];
			memcpy(r->order + at, part, m * sizeof(*part));
			r->first[r->n_nodes] = at + (uint32_t)m;
		}
	}
	return err;
}

/* Put leaves into the order of their nodes, dropping those not named. */
static int order_leaves(struct vf_cluster *c, const uint32_t *order, uint32_t n)
{
	struct vf_centroids l = {0}, old = c->leaves;
	int err = vf_centroids_init(&l, old.metric, n, old.dim);

	for (uint32_t j = 0; !err && j < n; j++) {
		memcpy(l.c + (size_t)j * l.dim,
		       old.c + (size_t)order[j] * l.dim, l.dim * sizeof(float));
		l.e[j] = old.e[order[j]];
	}
	if (!err)
		err = vf_centroids_derive(&l);
	if (err) {
		vf_centroids_fini(&l);
		return err;
	}
	c->leaves = l;
	vf_centroids_fini(&old);
	return 0;
}

/* Nodes at the means of their leaves; r->p still views the leaves unordered. */
static int place_nodes(struct raising *r)
{
	struct vf_cluster *c = r->c;
	size_t starts_len = (r->n_nodes + 1) * sizeof(size_t);
	VF_AUTO_FREE size_t *starts = malloc(starts_len);
	struct vf_groups g = {r->n_nodes, starts, r->order};

	vf_centroids_fini(&c->nodes);
	free(c->first);
	c->first = VF_STEAL(r->first);
	if (!starts)
		return -ENOMEM;
	for (uint32_t j = 0; j <= r->n_nodes; j++)
		starts[j] = c->first[j];
	int err = vf_centroids_init(&c->nodes, c->leaves.metric, r->n_nodes,
				    c->leaves.dim);
	if (!err)
		err = vf_kmeans_update(&c->nodes, &r->p, &g, r->n_threads);
	return err ? err : vf_centroids_derive(&c->nodes);
}

/* The leaves as points: unit length under cosine, completed under dot. */
static int view_leaves(const struct vf_cluster *c, struct vf_points *out)
{
	int err =
		vf_points_init(out, c->leaves.metric, c->leaves.dim,
			       c->norm_max, c->leaves.c, c->leaves.n, NULL, 1);

	if (!err && out->extra)
		memcpy(out->extra, c->leaves.e, c->leaves.n * sizeof(float));
	return err;
}

static int begin(struct raising *r, struct vf_cluster *c, uint32_t n_live,
		 unsigned n_threads)
{
	*r = (struct raising){
		.c = c,
		.n_threads = n_threads,
		.order = malloc(n_live * sizeof(*r->order)),
		.first = calloc(n_live + 1, sizeof(*r->first)),
	};
	return r->order && r->first ? view_leaves(c, &r->p) : -ENOMEM;
}

/* After begin, whatever it returned, and with the order and nodes known. */
static int end(struct raising *r, uint32_t n_live, int err)
{
	if (!err)
		err = place_nodes(r);
	if (!err)
		err = order_leaves(r->c, r->order, n_live);
	vf_points_fini(&r->p);
	free(r->order);
	free(r->first);
	return err;
}

int vf_cluster_raise(struct vf_cluster *c, const uint32_t *live,
		     uint32_t n_live, uint64_t seed, unsigned n_threads)
{
	uint32_t k = vf_cluster_n_nodes(n_live);
	struct raising r;
	int err = begin(&r, c, n_live, n_threads);

	r.n_max = k > 1 ? 3 * (size_t)n_live / (2 * (size_t)k) + 1 : n_live;
	r.seed = seed;
	if (!err)
		err = raise_some(&r, live, n_live, k);
	return end(&r, n_live, err);
}

int vf_cluster_line_up(struct vf_cluster *c, const uint32_t *live,
		       uint32_t n_live, unsigned n_threads)
{
	uint32_t k = vf_cluster_n_nodes(n_live);
	struct raising r = {0};
	int err = order_leaves(c, live, n_live);

	if (!err)
		err = begin(&r, c, n_live, n_threads);
	if (!err)
		err = vf_leaves_order(&c->leaves, &r.p, n_threads, r.order);
	for (r.n_nodes = 0; !err && r.n_nodes < k; r.n_nodes++)
		r.first[r.n_nodes + 1] =
			(uint32_t)((uint64_t)n_live * (r.n_nodes + 1) / k);
	return end(&r, n_live, err);
}
