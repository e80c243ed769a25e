/*
 * The file of a tree.  Version 2 begins with what searching needs, sealed by a
 * checksum of its own, so that a query reads a quarter of it; version 1 is
 * floats alone, which are coded when it is opened.
 */
#include "index/refine.h"
#include "index/rotate.h"
#include "index/tree.h"

#include <math.h>

enum {
	VERSION = 2,
	OLD_HEADER_LEN = 64,
	CRC_OFF = 60,
	SEED_OFF = 64,
	HEAD_LEN_OFF = 72,
	REST_CRC_OFF = 80,
	ZERO_OFF = 84,
	EXTRA = VF_BITS_MAX - 1,
};

static const char magic[8] = {'V', 'F', 'T', 'R', 'E', 'E', '0', '1'};

static uint64_t floats_len(uint32_t dim, uint32_t n_leaves, uint32_t n_nodes)
{
	uint64_t rows = (uint64_t)n_leaves + n_nodes;

	return rows * (dim + 1) * sizeof(float) +
	       ((uint64_t)n_nodes + 1) * sizeof(uint32_t);
}

uint64_t vf_tree_head_len(uint32_t dim, uint64_t n_leaves)
{
	uint64_t padded = vf_padded_dim(dim);

	return VF_TREE_HEADER_LEN + padded * sizeof(float) +
	       n_leaves * (2 * sizeof(float) + sizeof(struct vf_factors) +
			   sizeof(struct vf_extra_factors) + padded / 8 +
			   vf_extra_len(VF_BITS_MAX, (uint32_t)padded));
}

/* Of bytes that hold it, itself taken as zero. */
static uint32_t seal(const uint8_t *b, size_t len)
{
	static const uint8_t zero[4];
	uint32_t crc = vf_crc32c(0, b, CRC_OFF);

	crc = vf_crc32c(crc, zero, sizeof(zero));
	return vf_crc32c(crc, b + CRC_OFF + 4, len - CRC_OFF - 4);
}

/* ---- writing ---------------------------------------------------------------- */

static void put_header(const struct vf_cluster_view *v, const uint8_t id[16],
		       uint64_t seed, uint64_t len,
		       uint8_t h[VF_TREE_HEADER_LEN])
{
	memset(h, 0, VF_TREE_HEADER_LEN);
	memcpy(h, magic, sizeof(magic));
	vf_put_le32(h + 8, VERSION);
	vf_put_le64(h + 16, len);
	memcpy(h + 24, id, 16);
	vf_put_le32(h + 40, v->dim);
	vf_put_le32(h + 44, v->metric);
	vf_put_le32(h + 48, v->n_leaves);
	vf_put_le32(h + 52, v->n_nodes);
	memcpy(h + 56, &v->norm_max, sizeof(float));
	vf_put_le64(h + SEED_OFF, seed);
	vf_put_le64(h + HEAD_LEN_OFF, vf_tree_head_len(v->dim, v->n_leaves));
}

static void append_codes(const struct vf_tree_codes *c, uint32_t padded,
			 size_t n, struct vf_buf *out)
{
	vf_buf_append(out, c->origin, padded * sizeof(float));
	vf_buf_append(out, c->leaf_sq, n * sizeof(float));
	vf_buf_append(out, c->extra_sq, n * sizeof(float));
	vf_buf_append(out, c->factors, n * sizeof(*c->factors));
	vf_buf_append(out, c->extra_factors, n * sizeof(*c->extra_factors));
	vf_buf_append(out, c->codes, n * (padded / 8));
	vf_buf_append(out, c->extra, n * vf_extra_len(VF_BITS_MAX, padded));
}

static void append_floats(const struct vf_cluster_view *v, struct vf_buf *out)
{
	size_t row = v->dim * sizeof(float);

	vf_buf_append(out, v->leaves, v->n_leaves * row);
	vf_buf_append(out, v->leaf_extra, v->n_leaves * sizeof(float));
	vf_buf_append(out, v->nodes, v->n_nodes * row);
	vf_buf_append(out, v->node_extra, v->n_nodes * sizeof(float));
	vf_buf_append(out, v->first, (v->n_nodes + 1) * sizeof(uint32_t));
}

int vf_tree_encode(const struct vf_cluster_view *v, const uint8_t id[16],
		   uint64_t rotation_seed, struct vf_buf *out)
{
	const struct vf_tree_file plain = {.view = *v};
	uint64_t head_len = vf_tree_head_len(v->dim, v->n_leaves);
	uint64_t len = head_len + floats_len(v->dim, v->n_leaves, v->n_nodes);
	uint8_t h[VF_TREE_HEADER_LEN], *b;
	struct vf_tree_codes codes;
	size_t from = out->len;
	struct vf_tree *t;
	int err = vf_tree_new(&plain, rotation_seed, &t);

	if (!err)
		err = vf_buf_reserve(out, len);
	if (!err) {
		vf_tree_codes(t, &codes);
		put_header(v, id, rotation_seed, len, h);
		vf_buf_append(out, h, sizeof(h));
		append_codes(&codes, vf_padded_dim(v->dim), v->n_leaves, out);
		append_floats(v, out);
		b = out->data + from;
		vf_put_le32(b + REST_CRC_OFF,
			    vf_crc32c(0, b + head_len, len - head_len));
		vf_put_le32(b + CRC_OFF, seal(b, head_len));
	}
	vf_tree_free(t);
	return err;
}

/* ---- reading ---------------------------------------------------------------- */

static void set_floats(const uint8_t *b, struct vf_cluster_view *v)
{
	const float *at = (const void *)b;

	v->leaves = at;
	v->leaf_extra = at += (size_t)v->n_leaves * v->dim;
	v->nodes = at += v->n_leaves;
	v->node_extra = at += (size_t)v->n_nodes * v->dim;
	v->first = (const void *)(at + v->n_nodes);
}

static void set_codes(const uint8_t *b, const struct vf_cluster_view *v,
		      struct vf_tree_codes *c)
{
	size_t n = v->n_leaves, padded = vf_padded_dim(v->dim);

	c->origin = (const void *)(b + VF_TREE_HEADER_LEN);
	c->leaf_sq = c->origin + padded;
	c->extra_sq = c->leaf_sq + n;
	c->factors = (const void *)(c->extra_sq + n);
	c->extra_factors = (const void *)(c->factors + n);
	c->codes = (const void *)(c->extra_factors + n);
	c->extra = c->codes + n * (padded / 8);
}

static bool are_finite(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return false;
	return true;
}

static bool floats_are_good(const struct vf_cluster_view *v)
{
	if (!are_finite(v->leaves,
			((size_t)v->n_leaves + v->n_nodes) * (v->dim + 1)) ||
	    v->first[0] || v->first[v->n_nodes] != v->n_leaves)
		return false;
	for (uint32_t i = 0; i < v->n_nodes; i++)
		if (v->first[i] >= v->first[i + 1])
			return false;
	return true;
}

static bool codes_are_good(const struct vf_tree_codes *c, uint32_t padded,
			   uint32_t n)
{
	if (!are_finite(c->origin, padded + 2 * (size_t)n))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		const struct vf_factors *f = &c->factors[i];
		const struct vf_extra_factors *x = &c->extra_factors[i];
		if (!isfinite(f->add) || !isfinite(f->mul) ||
		    !isfinite(f->err) || f->err < 0 || f->ones > padded ||
		    !isfinite(x->add) || !isfinite(x->mul) ||
		    !isfinite(x->err) || x->err < 0)
			return false;
	}
	return true;
}

static bool is_zero(const uint8_t *b, size_t len)
{
	while (len && !*b)
		b++, len--;
	return !len;
}

/* Header of either version, of which @len bytes are there. */
static int read_header(const uint8_t *b, size_t len, uint64_t file_len,
		       struct vf_tree_file *out, const char **out_reason)
{
	struct vf_cluster_view *v = &out->view;

	*out_reason = "it is no tree";
	if (len < VF_TREE_HEADER_LEN || memcmp(b, magic, sizeof(magic)))
		return -EBADMSG;
	*out_reason = "a newer version of vecfs wrote it";
	if (vf_le32(b + 8) > VERSION)
		return -ENOTSUP;
	*out = (struct vf_tree_file){.view = {.dim = vf_le32(b + 40),
					      .metric = vf_le32(b + 44),
					      .n_leaves = vf_le32(b + 48),
					      .n_nodes = vf_le32(b + 52)}};
	memcpy(out->id, b + 24, sizeof(out->id));
	memcpy(&v->norm_max, b + 56, sizeof(float));
	*out_reason = "its sizes are out of range";
	if (vf_le32(b + 12) || v->dim < VF_DIM_MIN || v->dim > VF_DIM_MAX ||
	    v->metric < VF_COSINE || v->metric > VF_DOT || !v->n_nodes ||
	    v->n_nodes > v->n_leaves || v->n_leaves > VF_TREE_LEAVES_MAX ||
	    !isfinite(v->norm_max) || v->norm_max < 0 ||
	    vf_le64(b + 16) != file_len)
		return -EBADMSG;
	return 0;
}

static int read_old(const uint8_t *b, size_t len, struct vf_tree_file *out,
		    const char **out_reason)
{
	struct vf_cluster_view *v = &out->view;

	*out_reason = "it is damaged";
	if (len != OLD_HEADER_LEN +
			    floats_len(v->dim, v->n_leaves, v->n_nodes) ||
	    vf_le32(b + CRC_OFF) != seal(b, len))
		return -EBADMSG;
	set_floats(b + OLD_HEADER_LEN, v);
	*out_reason = "its centroids or nodes are off";
	return floats_are_good(v) ? 0 : -EBADMSG;
}

int vf_tree_validate_head(const void *p, size_t len, uint64_t file_len,
			  struct vf_tree_file *out, const char **out_reason)
{
	struct vf_cluster_view *v = &out->view;
	int err = read_header(p, len, file_len, out, out_reason);
	const uint8_t *b = p;
	uint64_t head_len;

	if (err)
		return err;
	if (vf_le32(b + 8) < VERSION)
		return -ENOENT;
	*out_reason = "it is damaged";
	head_len = vf_tree_head_len(v->dim, v->n_leaves);
	if (vf_le64(b + HEAD_LEN_OFF) != head_len || len < head_len ||
	    file_len !=
		    head_len + floats_len(v->dim, v->n_leaves, v->n_nodes) ||
	    !is_zero(b + ZERO_OFF, VF_TREE_HEADER_LEN - ZERO_OFF) ||
	    vf_le32(b + CRC_OFF) != seal(b, head_len))
		return -EBADMSG;
	out->codes.rotation_seed = vf_le64(b + SEED_OFF);
	set_codes(b, v, &out->codes);
	*out_reason = "its codes are off";
	return codes_are_good(&out->codes, vf_padded_dim(v->dim), v->n_leaves)
		       ? 0
		       : -EBADMSG;
}

int vf_tree_validate(const void *p, size_t len, struct vf_tree_file *out,
		     const char **out_reason)
{
	int err = vf_tree_validate_head(p, len, len, out, out_reason);
	struct vf_cluster_view *v = &out->view;
	const uint8_t *b = p;

	if (err == -ENOENT)
		return read_old(p, len, out, out_reason);
	if (err)
		return err;
	uint64_t head_len = vf_tree_head_len(v->dim, v->n_leaves);
	*out_reason = "it is damaged";
	if (vf_crc32c(0, b + head_len, len - head_len) !=
	    vf_le32(b + REST_CRC_OFF))
		return -EBADMSG;
	set_floats(b + head_len, v);
	*out_reason = "its centroids or nodes are off";
	return floats_are_good(v) ? 0 : -EBADMSG;
}
