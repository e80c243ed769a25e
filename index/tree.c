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
#include "index/amid.h"
#include "index/kernels.h"
#include "index/rotate.h"
#include "index/tree_impl.h"

#include <math.h>

/* ---- in memory ------------------------------------------------------------------- */

static size_t leaves_len(const struct vf_tree *t)
{
	return (size_t)t->info.n_leaves * t->padded * sizeof(float);
}

static size_t extra_len(const struct vf_tree *t)
{
	return t->info.n_leaves * vf_extra_len(VF_BITS_MAX, t->padded);
}

static int alloc_tree(struct vf_tree *t)
{
	size_t n = t->info.n_leaves, row = t->padded;

	t->origin = malloc(row * sizeof(float));
	t->leaf_sq = malloc(n * sizeof(float));
	t->half_inv = malloc(n * sizeof(float));
	t->extra_sq = malloc(n * sizeof(float));
	t->radius = calloc(n, sizeof(*t->radius));
	t->codes = malloc(n * (row / 8));
	t->factors = malloc(n * sizeof(*t->factors));
	t->bytes = malloc(n * row);
	t->extra_factors = malloc(n * sizeof(*t->extra_factors));
	t->info.ram_len = row * sizeof(float) +
			  n * (row + row / 8 + sizeof(*t->factors) +
			       sizeof(*t->extra_factors) + 4 * sizeof(float));
	return t->origin && t->leaf_sq && t->half_inv && t->extra_sq &&
			       t->radius && t->codes && t->factors &&
			       t->bytes && t->extra_factors
		       ? 0
		       : -ENOMEM;
}

static int find_origin(struct vf_tree *t)
{
	const struct vf_amid_rows rows = {
		.x = t->leaves, .n = t->info.n_leaves, .dim = t->padded};

	return vf_amid_find_f32(&rows, t->origin);
}

/* Under any metric what is estimated of a leaf is its squared distance. */
static void code_leaves(struct vf_tree *t)
{
	const struct vf_grid grid = {VF_EUCLIDEAN, t->padded, VF_BITS_MAX,
				     true};
	const struct vf_place at = {t->origin, t->origin};
	size_t len = vf_extra_len(VF_BITS_MAX, t->padded);

	for (uint32_t i = 0; i < t->info.n_leaves; i++) {
		const float *c = vf_tree_leaf(t, i);
		vf_quantize_row(VF_EUCLIDEAN, t->padded, c, &at,
				t->codes + (size_t)i * (t->padded / 8),
				&t->factors[i]);
		vf_refine_row(&grid, c, &at, t->extra + i * len,
			      &t->extra_factors[i]);
	}
}

static int fill_floats(struct vf_tree *t, const struct vf_cluster_view *v)
{
	t->leaves = malloc(leaves_len(t));
	if (!t->leaves)
		return -ENOMEM;
	t->info.ram_len += leaves_len(t);
	for (uint32_t i = 0; i < v->n_leaves; i++)
		vf_rotate(t->rotation, v->leaves + (size_t)i * v->dim,
			  t->leaves + (size_t)i * t->padded);
	return 0;
}

/* Of a tree whose file has none. */
static int make_codes(struct vf_tree *t, const struct vf_cluster_view *v)
{
	for (uint32_t i = 0; i < v->n_leaves; i++) {
		const float *c = v->leaves + (size_t)i * v->dim;
		double dot, sq;
		vf_kernels()->dot_f32(c, c, 1, v->dim, &dot, &sq);
		t->leaf_sq[i] = (float)sq;
		t->extra_sq[i] = v->leaf_extra[i] * v->leaf_extra[i];
	}
	t->extra = malloc(extra_len(t));
	t->info.ram_len += extra_len(t);
	int err = t->extra ? find_origin(t) : -ENOMEM;
	if (!err)
		code_leaves(t);
	return err;
}

static void copy_codes(struct vf_tree *t, const struct vf_tree_codes *c)
{
	size_t n = t->info.n_leaves;

	memcpy(t->origin, c->origin, t->padded * sizeof(float));
	memcpy(t->leaf_sq, c->leaf_sq, n * sizeof(float));
	memcpy(t->extra_sq, c->extra_sq, n * sizeof(float));
	memcpy(t->factors, c->factors, n * sizeof(*t->factors));
	memcpy(t->extra_factors, c->extra_factors,
	       n * sizeof(*t->extra_factors));
	memcpy(t->codes, c->codes, n * (t->padded / 8));
}

/* Bit b of a byte to byte b of a word. */
static uint64_t spread_bits(uint8_t bits)
{
	uint64_t each = bits * UINT64_C(0x0101010101010101);

	each &= UINT64_C(0x8040201008040201); /* its bit of each byte */
	each += UINT64_C(0x7f7f7f7f7f7f7f7f); /* the top one, if it is set */
	return each >> 7 & UINT64_C(0x0101010101010101);
}

/* Bytes of a code of all bits, laid out as index/refine.h says. */
static void spread_code(const uint8_t *code, const uint8_t *extra, size_t words,
			uint8_t *out)
{
	const uint8_t *planes = extra + words * 32;

	for (size_t w = 0; w < words; w++, extra += 32, out += 64) {
		for (size_t i = 0; i < 32; i++) {
			out[i] = (uint8_t)((extra[i] & 15) << 3);
			out[32 + i] = (uint8_t)(extra[i] >> 4 << 3);
		}
		for (size_t i = 0; i < 8; i++) {
			const uint8_t *p = planes + w * 8 + i;
			uint64_t v = spread_bits(code[w * 8 + i]) << 7;
			for (size_t j = 0; j < 3; j++)
				v |= spread_bits(p[j * words * 8]) << j;
			v |= vf_le64(out + i * 8);
			vf_put_le64(out + i * 8, v);
		}
	}
}

/* What follows from the codes, whose other bits are @extra. */
static void prepare_search(struct vf_tree *t, const uint8_t *extra)
{
	size_t len = vf_extra_len(VF_BITS_MAX, t->padded);

	for (size_t i = 0; i < t->info.n_leaves; i++) {
		t->half_inv[i] =
			t->leaf_sq[i] > 0 ? .5f / sqrtf(t->leaf_sq[i]) : 0;
		spread_code(t->codes + i * (t->padded / 8), extra + i * len,
			    t->padded / 64, t->bytes + i * t->padded);
	}
}

static int fill_tree(struct vf_tree *t, const struct vf_tree_file *f)
{
	bool is_coded = f->codes.origin &&
			f->codes.rotation_seed == t->info.rotation_seed;
	int err = alloc_tree(t);

	if (!err && f->view.leaves)
		err = fill_floats(t, &f->view);
	if (!err && is_coded)
		copy_codes(t, &f->codes);
	else if (!err)
		err = f->view.leaves ? make_codes(t, &f->view) : -EINVAL;
	if (!err)
		prepare_search(t, is_coded ? f->codes.extra : t->extra);
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
					.norm_max = v->norm_max,
					.rotation_seed = rotation_seed};
	memcpy(t->info.id, f->id, sizeof(f->id));
	t->padded = vf_padded_dim(v->dim);
	int err = vf_rotation_new(v->dim, rotation_seed, &t->rotation);
	if (!err)
		err = fill_tree(t, f);
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
	free(t->half_inv);
	free(t->extra_sq);
	free((void *)t->radius);
	free(t->codes);
	free(t->factors);
	free(t->extra_factors);
	free(t->bytes);
	free(t->extra);
	free(t);
}

void vf_tree_trim(struct vf_tree *t)
{
	if (t->leaves)
		t->info.ram_len -= leaves_len(t);
	if (t->extra)
		t->info.ram_len -= extra_len(t);
	free(t->leaves);
	free(t->extra);
	t->leaves = NULL;
	t->extra = NULL;
}

void vf_tree_info(const struct vf_tree *t, struct vf_tree_info *out)
{
	*out = t->info;
}

void vf_tree_codes(const struct vf_tree *t, struct vf_tree_codes *out)
{
	*out = (struct vf_tree_codes){.rotation_seed = t->info.rotation_seed,
				      .origin = t->origin,
				      .leaf_sq = t->leaf_sq,
				      .extra_sq = t->extra_sq,
				      .factors = t->factors,
				      .extra_factors = t->extra_factors,
				      .codes = t->codes,
				      .extra = t->extra};
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
