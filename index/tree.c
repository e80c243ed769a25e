/*
 * Leaves are coded like rows, against the mean of all: choosing among thousands
 * reads a bit per dimension of each, and those that come near being chosen are
 * measured by all eight.  Of a squared distance that is off by 5e-4 of
 * |q - o| |c - o| (1024 dimensions), an eighth of what a row's five bits are,
 * and bounds count it; centroids themselves would be four times as many bytes
 * for each query to read.
 *
 * All is in rotated space, which has the distances of the other.
 */
#include "index/tree.h"
#include "index/kernels.h"
#include "index/refine.h"
#include "index/scratch.h"

#include <math.h>
#include <stdatomic.h>

enum { VERSION = 1, CRC_OFF = 60, BLOCK = 64, EXTRA = VF_BITS_MAX - 1 };

static const char magic[8] = {'V', 'F', 'T', 'R', 'E', 'E', '0', '1'};

struct vf_tree {
	struct vf_tree_info info;
	uint32_t padded;
	struct vf_rotation *rotation;
	float norm_max;
	float *origin;	 /* [padded]: mean of the leaves */
	float *leaves;	 /* [n_leaves][padded]; NULL: trimmed */
	float *leaf_sq;	 /* [n_leaves]: |c|^2 */
	float *extra_sq; /* [n_leaves]: of the completing coordinate */
	/*
	 * [atomic][n_leaves]: largest |x - c| of the rows of shards seen so
	 * far; has_radius once there was one.  Relaxed: an older value only
	 * ranks a leaf as it was ranked before.
	 */
	_Atomic(float) *radius;
	atomic_bool has_radius;
	uint8_t *codes; /* [n_leaves][padded / 8] */
	struct vf_factors *factors;
	uint8_t *extra; /* [n_leaves][EXTRA * padded / 8] */
	struct vf_extra_factors *extra_factors;
};

/* ---- the file ------------------------------------------------------------------- */

static uint64_t file_len(uint32_t dim, uint32_t n_leaves, uint32_t n_nodes)
{
	uint64_t rows = (uint64_t)n_leaves + n_nodes;

	return VF_TREE_HEADER_LEN + rows * (dim + 1) * sizeof(float) +
	       ((uint64_t)n_nodes + 1) * sizeof(uint32_t);
}

static uint32_t file_crc(const uint8_t *b, size_t len)
{
	static const uint8_t zero[4];
	uint32_t crc = vf_crc32c(0, b, CRC_OFF);

	crc = vf_crc32c(crc, zero, sizeof(zero));
	return vf_crc32c(crc, b + CRC_OFF + 4, len - CRC_OFF - 4);
}

int vf_tree_encode(const struct vf_cluster_view *v, const uint8_t id[16],
		   struct vf_buf *out)
{
	size_t from = out->len, row = v->dim * sizeof(float);
	uint64_t len = file_len(v->dim, v->n_leaves, v->n_nodes);
	uint8_t h[VF_TREE_HEADER_LEN] = {0};
	int err = vf_buf_reserve(out, len);

	if (err)
		return err;
	memcpy(h, magic, sizeof(magic));
	vf_put_le32(h + 8, VERSION);
	vf_put_le64(h + 16, len);
	memcpy(h + 24, id, 16);
	vf_put_le32(h + 40, v->dim);
	vf_put_le32(h + 44, v->metric);
	vf_put_le32(h + 48, v->n_leaves);
	vf_put_le32(h + 52, v->n_nodes);
	memcpy(h + 56, &v->norm_max, sizeof(float));
	vf_buf_append(out, h, sizeof(h));
	vf_buf_append(out, v->leaves, v->n_leaves * row);
	vf_buf_append(out, v->leaf_extra, v->n_leaves * sizeof(float));
	vf_buf_append(out, v->nodes, v->n_nodes * row);
	vf_buf_append(out, v->node_extra, v->n_nodes * sizeof(float));
	vf_buf_append(out, v->first, (v->n_nodes + 1) * sizeof(uint32_t));
	vf_put_le32(out->data + from + CRC_OFF,
		    file_crc(out->data + from, len));
	return 0;
}

static void set_views(const uint8_t *b, struct vf_cluster_view *v)
{
	const float *at = (const void *)(b + VF_TREE_HEADER_LEN);

	v->leaves = at;
	v->leaf_extra = at += (size_t)v->n_leaves * v->dim;
	v->nodes = at += v->n_leaves;
	v->node_extra = at += (size_t)v->n_nodes * v->dim;
	v->first = (const void *)(at + v->n_nodes);
}

static bool contents_are_good(const struct vf_cluster_view *v)
{
	const float *x = v->leaves;
	size_t n = ((size_t)v->n_leaves + v->n_nodes) * (v->dim + 1);

	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return false;
	if (v->first[0] || v->first[v->n_nodes] != v->n_leaves)
		return false;
	for (uint32_t i = 0; i < v->n_nodes; i++)
		if (v->first[i] >= v->first[i + 1])
			return false;
	return isfinite(v->norm_max) && v->norm_max >= 0;
}

int vf_tree_validate(const void *p, size_t len, struct vf_tree_file *out,
		     const char **out_reason)
{
	const uint8_t *b = p;
	struct vf_cluster_view *v = &out->view;

	*out_reason = "it is no tree";
	if (len < VF_TREE_HEADER_LEN || memcmp(b, magic, sizeof(magic)))
		return -EBADMSG;
	*out_reason = "a newer version of vecfs wrote it";
	if (vf_le32(b + 8) > VERSION)
		return -ENOTSUP;
	*out_reason = "it is damaged";
	if (vf_le64(b + 16) != len || vf_le32(b + CRC_OFF) != file_crc(b, len))
		return -EBADMSG;
	*out = (struct vf_tree_file){.view = {.dim = vf_le32(b + 40),
					      .metric = vf_le32(b + 44),
					      .n_leaves = vf_le32(b + 48),
					      .n_nodes = vf_le32(b + 52)}};
	memcpy(out->id, b + 24, sizeof(out->id));
	memcpy(&v->norm_max, b + 56, sizeof(float));
	*out_reason = "its sizes are out of range";
	if (vf_le32(b + 8) != VERSION || vf_le32(b + 12) ||
	    v->dim < VF_DIM_MIN || v->dim > VF_DIM_MAX ||
	    v->metric < VF_COSINE || v->metric > VF_DOT || !v->n_nodes ||
	    v->n_nodes > v->n_leaves || v->n_leaves > VF_TREE_LEAVES_MAX ||
	    file_len(v->dim, v->n_leaves, v->n_nodes) != len)
		return -EBADMSG;
	set_views(b, v);
	*out_reason = "its centroids or nodes are off";
	return contents_are_good(v) ? 0 : -EBADMSG;
}

/* ---- in memory ------------------------------------------------------------------- */

static size_t leaves_len(const struct vf_tree *t)
{
	return (size_t)t->info.n_leaves * t->padded * sizeof(float);
}

static int alloc_tree(struct vf_tree *t)
{
	size_t n = t->info.n_leaves, row = t->padded;

	t->origin = malloc(row * sizeof(float));
	t->leaves = malloc(leaves_len(t));
	t->leaf_sq = malloc(n * sizeof(float));
	t->extra_sq = malloc(n * sizeof(float));
	t->radius = calloc(n, sizeof(*t->radius));
	t->codes = malloc(n * (row / 8));
	t->factors = malloc(n * sizeof(*t->factors));
	t->extra = malloc(n * vf_extra_len(VF_BITS_MAX, t->padded));
	t->extra_factors = malloc(n * sizeof(*t->extra_factors));
	t->info.ram_len = row * sizeof(float) + leaves_len(t) +
			  n * (row + sizeof(*t->factors) +
			       sizeof(*t->extra_factors) + 3 * sizeof(float));
	return t->origin && t->leaves && t->leaf_sq && t->extra_sq &&
			       t->radius && t->codes && t->factors &&
			       t->extra && t->extra_factors
		       ? 0
		       : -ENOMEM;
}

static int find_origin(struct vf_tree *t)
{
	size_t n = t->info.n_leaves;
	VF_AUTO_FREE double *sum = calloc(t->padded, sizeof(*sum));

	if (!sum)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < t->padded; j++)
			sum[j] += (double)t->leaves[i * t->padded + j];
	for (uint32_t j = 0; j < t->padded; j++)
		t->origin[j] = (float)(sum[j] / (double)n);
	return 0;
}

/* Under any metric what is estimated of a leaf is its squared distance. */
static void code_leaves(struct vf_tree *t)
{
	const struct vf_grid grid = {VF_EUCLIDEAN, t->padded, VF_BITS_MAX,
				     true};
	const struct vf_place at = {t->origin, t->origin};
	size_t extra_len = vf_extra_len(VF_BITS_MAX, t->padded);

	for (uint32_t i = 0; i < t->info.n_leaves; i++) {
		const float *c = vf_tree_leaf(t, i);
		vf_quantize_row(VF_EUCLIDEAN, t->padded, c, &at,
				t->codes + (size_t)i * (t->padded / 8),
				&t->factors[i]);
		vf_refine_row(&grid, c, &at, t->extra + i * extra_len,
			      &t->extra_factors[i]);
	}
}

static int fill_tree(struct vf_tree *t, const struct vf_cluster_view *v)
{
	int err = alloc_tree(t);

	if (err)
		return err;
	for (uint32_t i = 0; i < v->n_leaves; i++) {
		const float *c = v->leaves + (size_t)i * v->dim;
		double dot, sq;
		vf_kernels()->dot_f32(c, c, 1, v->dim, &dot, &sq);
		t->leaf_sq[i] = (float)sq;
		t->extra_sq[i] = v->leaf_extra[i] * v->leaf_extra[i];
		vf_rotate(t->rotation, c, t->leaves + (size_t)i * t->padded);
	}
	err = find_origin(t);
	if (!err)
		code_leaves(t);
	return err;
}

int vf_tree_new(const struct vf_tree_file *f, uint64_t rotation_seed,
		struct vf_tree **out)
{
	const struct vf_cluster_view *v = &f->view;
	struct vf_tree *t = calloc(1, sizeof(*t));

	*out = NULL;
	if (!t)
		return -ENOMEM;
	t->info = (struct vf_tree_info){.dim = v->dim,
					.n_leaves = v->n_leaves,
					.n_nodes = v->n_nodes,
					.metric = v->metric,
					.rotation_seed = rotation_seed};
	memcpy(t->info.id, f->id, sizeof(f->id));
	t->norm_max = v->norm_max;
	t->padded = vf_padded_dim(v->dim);
	int err = vf_rotation_new(v->dim, rotation_seed, &t->rotation);
	if (!err)
		err = fill_tree(t, v);
	if (err)
		vf_tree_free(t);
	else
		*out = t;
	return err;
}

void vf_tree_free(struct vf_tree *t)
{
	if (!t)
		return;
	vf_rotation_free(t->rotation);
	free(t->origin);
	free(t->leaves);
	free(t->leaf_sq);
	free(t->extra_sq);
	free((void *)t->radius);
	free(t->codes);
	free(t->factors);
	free(t->extra);
	free(t->extra_factors);
	free(t);
}

void vf_tree_trim(struct vf_tree *t)
{
	if (t->leaves)
		t->info.ram_len -= leaves_len(t);
	free(t->leaves);
	t->leaves = NULL;
}

void vf_tree_info(const struct vf_tree *t, struct vf_tree_info *out)
{
	*out = t->info;
}

const float *vf_tree_origin(const struct vf_tree *t)
{
	return t->origin;
}

const float *vf_tree_leaf(const struct vf_tree *t, uint32_t leaf)
{
	return t->leaves + (size_t)leaf * t->padded;
}

void vf_tree_learn(struct vf_tree *t, uint32_t leaf, float radius)
{
	_Atomic(float) *r = &t->radius[leaf];
	float old = atomic_load_explicit(r, memory_order_relaxed);

	while (radius > old && !atomic_compare_exchange_weak_explicit(
				       r, &old, radius, memory_order_relaxed,
				       memory_order_relaxed))
		;
	atomic_store_explicit(&t->has_radius, true, memory_order_relaxed);
}

/* ---- choosing --------------------------------------------------------------------- */

/* <y, q> of the codes of so many leaves. */
static void multiply_leaves(const struct vf_tree *t,
			    const struct vf_fine_query *q,
			    const uint32_t *leaves, size_t n, int64_t *out)
{
	const struct vf_bit_rows r = {.codes = t->codes,
				      .extra = t->extra,
				      .rows = leaves,
				      .n = n,
				      .words = t->padded / 64,
				      .n_extra = EXTRA};

	vf_kernels()->bits_i16(&r, q->q, out);
}

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

	multiply_leaves(t, q, &leaf, 1, &dot);
	sq = distance_sq(t, q, leaf, dot);
	out->base = base_of(t, q, leaf, sq);
	out->distance = sqrt(sq);
	out->err = unit * t->extra_factors[leaf].err * sqrt(q->sq);
}

/* What ranks leaves, of a query of squared length @q_sq. */
struct ranking {
	const struct vf_tree *t;
	double q_sq;
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
 */
static float score(const struct ranking *r, uint32_t leaf, double sq)
{
	double c_sq = r->t->leaf_sq[leaf], dot = (r->q_sq + c_sq - sq) / 2;

	if (r->t->info.metric == VF_EUCLIDEAN)
		return (float)sq;
	if (r->t->info.metric == VF_COSINE)
		return c_sq > 0 ? (float)(-dot / sqrt(c_sq)) : 0;
	if (r->reach > 0)
		return (float)(-dot - r->reach * (double)atomic_load_explicit(
							 &r->t->radius[leaf],
							 memory_order_relaxed));
	c_sq += r->t->extra_sq[leaf];
	return (float)(c_sq / 2 - r->gain * dot);
}

static struct ranking rank_by(const struct vf_tree *t,
			      const struct vf_fine_query *q)
{
	struct ranking r = {.t = t, .q_sq = q->len};

	r.gain = r.q_sq > 0 ? t->norm_max / sqrt(r.q_sq) : 0;
	if (t->info.metric == VF_DOT &&
	    atomic_load_explicit(&t->has_radius, memory_order_relaxed))
		r.reach = reach_of(t->info.dim) * sqrt(r.q_sq);
	return r;
}

static void push_score(struct vf_topk *top, float s, uint32_t leaf)
{
	vf_topk_push(top, isnan(s) ? INFINITY : s, leaf);
}

/* Leaves by 1 bit. */
static void estimate_leaves(const struct ranking *r,
			    const struct vf_fine_query *q,
			    const struct vf_query_code *code,
			    struct vf_topk *top)
{
	const struct vf_tree *t = r->t;
	size_t len = t->padded / 8;
	struct vf_query_code qc = *code;
	uint32_t counts[BLOCK], n;

	qc.base = (float)q->sq;
	for (uint32_t i = 0; i < t->info.n_leaves; i += n) {
		n = VF_MIN(t->info.n_leaves - i, (uint32_t)BLOCK);
		vf_kernels()->b1q4(t->codes + i * len, n, t->padded / 64,
				   qc.planes, counts);
		for (uint32_t j = 0; j < n; j++) {
			float sq =
				vf_estimate(&qc, &t->factors[i + j], counts[j]);
			push_score(top, score(r, i + j, (double)sq), i + j);
		}
	}
}

static void measure_leaves(const struct ranking *r,
			   const struct vf_fine_query *q,
			   const struct vf_hit *hits, uint32_t n,
			   struct vf_probe *out)
{
	uint32_t leaves[BLOCK], m;
	int64_t dots[BLOCK];

	for (uint32_t i = 0; i < n; i += m) {
		m = VF_MIN(n - i, (uint32_t)BLOCK);
		for (uint32_t j = 0; j < m; j++)
			leaves[j] = (uint32_t)hits[i + j].id;
		multiply_leaves(r->t, q, leaves, m, dots);
		for (uint32_t j = 0; j < m; j++) {
			uint32_t leaf = leaves[j];
			double sq = distance_sq(r->t, q, leaf, dots[j]);
			float s = score(r, leaf, sq);
			out[i + j] = (struct vf_probe){
				.leaf = leaf,
				.base = (float)base_of(r->t, q, leaf, sq),
				.distance = (float)sqrt(sq),
				.score = isnan(s) ? INFINITY : s};
		}
	}
}

static int compare_probes(const void *a, const void *b)
{
	const struct vf_probe *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? -1 : 1;
	return (x->leaf > y->leaf) - (x->leaf < y->leaf);
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
	uint32_t some = n < all ? n + n / 2 + 16 : all;
	VF_AUTO_FREE struct vf_hit *hits = NULL;
	VF_AUTO_FREE struct vf_probe *p = NULL;
	int err = vf_scan_quantize(s, &f, q);

	if (!err)
		err = vf_scan_refine(s, &f, q);
	if (err)
		return err;
	some = VF_MIN(some, all);
	hits = malloc(some * sizeof(*hits));
	p = malloc(some * sizeof(*p));
	if (!hits || !p)
		return -ENOMEM;
	struct ranking r = rank_by(t, &s->fine);
	struct vf_topk top = {.hits = hits, .k = some};
	if (some < all)
		estimate_leaves(&r, &s->fine, &s->code, &top);
	for (uint32_t i = 0; some == all && i < all; i++)
		hits[i] = (struct vf_hit){.id = i};
	measure_leaves(&r, &s->fine, hits, some, p);
	qsort(p, some, sizeof(*p), compare_probes);
	memcpy(out, p, VF_MIN(n, all) * sizeof(*p));
	return 0;
}
