/*
 * A clustering as what is stored of it, and made from that again.
 */
#include "index/amid.h"
#include "index/cluster_impl.h"
#include "store/util.h"

void vf_cluster_free(struct vf_cluster *c)
{
	if (!c)
		return;
	vf_centroids_fini(&c->leaves);
	vf_centroids_fini(&c->nodes);
	vf_coarse_fini(&c->near_nodes);
	vf_coarse_fini(&c->near_leaves);
	vf_coarse_fini(&c->all);
	free(c->mid);
	free(c->first);
	free(c);
}

int vf_cluster_prepare(struct vf_cluster *c, const float *mid)
{
	const struct vf_centroids *l = &c->leaves;
	const struct vf_amid_rows rows = {.x = l->c, .n = l->n, .dim = l->dim};

	vf_coarse_fini(&c->near_nodes);
	vf_coarse_fini(&c->near_leaves);
	vf_coarse_fini(&c->all);
	if (!c->mid)
		c->mid = malloc(l->dim * sizeof(*c->mid));
	if (!c->mid || (!mid && vf_amid_find_f32(&rows, c->mid)))
		return vf_fail(-ENOMEM, "clustering: out of memory");
	if (mid)
		memmove(c->mid, mid, l->dim * sizeof(*mid));
	int err = vf_coarse_init(&c->near_nodes, &c->nodes, NULL, 1, c->mid);
	if (!err)
		err = vf_coarse_init(&c->near_leaves, l, c->first, c->nodes.n,
				     c->mid);
	if (!err && l->n <= VF_EXACT_LEAVES)
		err = vf_coarse_init(&c->all, l, NULL, 1, c->mid);
	return err;
}

void vf_cluster_view(const struct vf_cluster *c, struct vf_cluster_view *out)
{
	*out = (struct vf_cluster_view){
		.dim = c->leaves.dim,
		.metric = c->leaves.metric,
		.n_leaves = c->leaves.n,
		.n_nodes = c->nodes.n,
		.norm_max = c->norm_max,
		.leaves = c->leaves.c,
		.leaf_extra = c->leaves.e,
		.nodes = c->nodes.c,
		.node_extra = c->nodes.e,
		.first = c->first,
	};
}

static bool is_view(const struct vf_cluster_view *v)
{
	if (v->dim < VF_DIM_MIN || v->dim > VF_DIM_MAX ||
	    v->metric < VF_COSINE || v->metric > VF_DOT || !v->n_nodes ||
	    v->n_nodes > v->n_leaves || v->first[0] ||
	    v->first[v->n_nodes] != v->n_leaves)
		return false;
	for (uint32_t j = 0; j < v->n_nodes; j++)
		if (v->first[j] >= v->first[j + 1])
			return false;
	return true;
}

static int copy_centroids(struct vf_centroids *to, enum vf_metric metric,
			  uint32_t n, uint32_t dim, const float *c,
			  const float *e)
{
	int err = vf_centroids_init(to, metric, n, dim);

	if (err)
		return err;
	memcpy(to->c, c, (size_t)n * dim * sizeof(float));
	if (e)
		memcpy(to->e, e, n * sizeof(float));
	return vf_centroids_derive(to);
}

int vf_cluster_new(const struct vf_cluster_view *v, struct vf_cluster **out)
{
	struct vf_cluster *c;
	int err;

	*out = NULL;
	if (!is_view(v))
		return vf_fail(-EINVAL, "clustering: its view is not one");
	c = calloc(1, sizeof(*c));
	if (!c || !(c->first = malloc((v->n_nodes + 1) * sizeof(*c->first)))) {
		free(c);
		return vf_fail(-ENOMEM, "clustering: out of memory");
	}
	memcpy(c->first, v->first, (v->n_nodes + 1) * sizeof(*c->first));
	c->norm_max = v->norm_max;
	err = copy_centroids(&c->leaves, v->metric, v->n_leaves, v->dim,
			     v->leaves, v->leaf_extra);
	if (!err)
		err = copy_centroids(&c->nodes, v->metric, v->n_nodes, v->dim,
				     v->nodes, v->node_extra);
	if (!err)
		err = vf_cluster_prepare(c, NULL);
	if (err)
		vf_cluster_free(c);
	else
		*out = c;
	return err;
}
