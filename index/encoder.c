/*
 * How codes.vix comes to be: rows are coded, then gathered in order.
 *
 * encoder  origin is the one leaf's rotated centroid, or the tree's; [fixed]
 *          after new
 * builder  a buffer for each section that has one entry per row
 */
#include "index/codes.h"
#include "index/quantize.h"
#include "index/refine.h"
#include "index/rotate.h"
#include "index/tree.h"

#include <math.h>
#include <xxhash.h>

struct vf_encoder {
	struct vf_code_params params;
	uint32_t padded;
	struct vf_rotation *rotation;
	float *origin; /* [padded], rotated centroid, or the tree's origin */
	const struct vf_tree *tree; /* borrowed; NULL: one leaf */
};

struct vf_builder {
	const struct vf_encoder *encoder; /* borrowed */
	enum vf_dtype dtype;
	uint64_t n_rows;
	struct vf_buf codes, factors, hashes, line_offs, row_crcs, line_crcs;
	struct vf_buf extra, extra_factors; /* empty: 1 bit */
	struct vf_buf leaves;		    /* struct vf_leaf_disk */
	struct vf_buf tree; /* struct vf_tree_section, or empty */
};

/* ---- encoder --------------------------------------------------------------------------- */

static int new_encoder(const struct vf_code_params *params,
		       struct vf_encoder **out)
{
	struct vf_encoder *e;
	int err;

	*out = NULL;
	if (params->metric < VF_COSINE || params->metric > VF_DOT ||
	    params->dim < VF_DIM_MIN || params->dim > VF_DIM_MAX ||
	    params->bits > VF_BITS_MAX)
		return -EINVAL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->params = *params;
	e->params.bits = params->bits ? params->bits : 1;
	e->padded = vf_padded_dim(params->dim);
	err = vf_rotation_new(params->dim, params->rotation_seed, &e->rotation);
	e->origin = malloc(e->padded * sizeof(float));
	if (!err && !e->origin)
		err = -ENOMEM;
	if (err) {
		vf_encoder_free(e);
		return err;
	}
	*out = e;
	return 0;
}

int vf_encoder_new(const struct vf_code_params *params, const float *centroid,
		   struct vf_encoder **out)
{
	int err = new_encoder(params, out);

	if (!err)
		vf_rotate((*out)->rotation, centroid, (*out)->origin);
	return err;
}

int vf_encoder_new_tree(const struct vf_code_params *params,
			const struct vf_tree *tree, struct vf_encoder **out)
{
	struct vf_tree_info info;
	int err;

	*out = NULL;
	vf_tree_info(tree, &info);
	if (info.dim != params->dim || info.metric != params->metric ||
	    info.rotation_seed != params->rotation_seed)
		return -EINVAL;
	err = new_encoder(params, out);
	if (err)
		return err;
	memcpy((*out)->origin, vf_tree_origin(tree),
	       (*out)->padded * sizeof(float));
	(*out)->tree = tree;
	return 0;
}

void vf_encoder_free(struct vf_encoder *e)
{
	if (!e)
		return;
	vf_rotation_free(e->rotation);
	free(e->origin);
	free(e);
}

size_t vf_encoder_code_len(const struct vf_encoder *e)
{
	return e->padded / 8;
}

size_t vf_encoder_extra_len(const struct vf_encoder *e)
{
	return vf_extra_len(e->params.bits, e->padded);
}

int vf_encoder_coded(const struct vf_encoder *e, const float *x, size_t n,
		     const struct vf_coded *out)
{
	struct vf_place at = {e->origin, e->origin};
	const struct vf_grid grid = {.metric = e->params.metric,
				     .padded = e->padded,
				     .bits = e->params.bits};
	size_t extra_len = vf_encoder_extra_len(e);
	uint32_t dim = e->params.dim;
	VF_AUTO_FREE float *work =
		malloc((dim + (size_t)e->padded) * sizeof(float));

	if (!work)
		return -ENOMEM;
	if (!e->tree != !out->leaf)
		return -EINVAL;
	for (size_t i = 0; i < n; i++, x += dim) {
		const float *row = x;
		if (e->tree)
			at.leaf = vf_tree_leaf(e->tree, out->leaf[i]);
		if (e->params.metric == VF_COSINE)
			row = vf_unit_length(x, dim, work + e->padded);
		vf_rotate(e->rotation, row, work);
		vf_quantize_row(e->params.metric, e->padded, work, &at,
				out->codes + i * (e->padded / 8),
				&out->factors[i]);
		if (extra_len && out->extra)
			vf_refine_row(&grid, work, &at,
				      out->extra + i * extra_len,
				      &out->extra_factors[i]);
	}
	return 0;
}

int vf_encoder_rows(const struct vf_encoder *e, const float *x, size_t n,
		    uint8_t *codes, struct vf_factors *factors)
{
	const struct vf_coded out = {.codes = codes, .factors = factors};

	return vf_encoder_coded(e, x, n, &out);
}

uint64_t vf_key_hash(const void *key, size_t len)
{
	return XXH3_64bits(key, len);
}

/* ---- builder --------------------------------------------------------------------------- */

int vf_builder_new(const struct vf_encoder *e, enum vf_dtype dtype,
		   struct vf_builder **out)
{
	struct vf_builder *b = calloc(1, sizeof(*b));

	*out = b;
	if (!b)
		return -ENOMEM;
	b->encoder = e;
	b->dtype = dtype;
	int err = vf_buf_append(&b->line_offs, NULL, 8);
	if (!err && e->tree) {
		struct vf_tree_info info;
		vf_tree_info(e->tree, &info);
		err = vf_buf_append(&b->tree, info.id, sizeof(info.id));
	}
	if (!err)
		return 0;
	vf_builder_free(b);
	*out = NULL;
	return err;
}

void vf_builder_free(struct vf_builder *b)
{
	if (!b)
		return;
	vf_buf_fini(&b->codes);
	vf_buf_fini(&b->factors);
	vf_buf_fini(&b->hashes);
	vf_buf_fini(&b->line_offs);
	vf_buf_fini(&b->row_crcs);
	vf_buf_fini(&b->line_crcs);
	vf_buf_fini(&b->extra);
	vf_buf_fini(&b->extra_factors);
	vf_buf_fini(&b->leaves);
	vf_buf_fini(&b->tree);
	free(b);
}

static int add_codes(struct vf_builder *b, const struct vf_coded *c, size_t n)
{
	size_t extra_len = vf_encoder_extra_len(b->encoder);
	int err = vf_buf_append(&b->codes, c->codes,
				n * vf_encoder_code_len(b->encoder));

	if (!err)
		err = vf_buf_append(&b->factors, c->factors,
				    n * sizeof(*c->factors));
	if (!err && extra_len)
		err = vf_buf_append(&b->extra, c->extra, n * extra_len);
	if (!err && extra_len)
		err = vf_buf_append(&b->extra_factors, c->extra_factors,
				    n * sizeof(*c->extra_factors));
	return err;
}

/* The leaf that the last row is of; 0 before the first. */
static uint32_t last_leaf(const struct vf_builder *b)
{
	uint32_t id = 0;

	if (b->leaves.len && b->encoder->tree)
		memcpy(&id, b->tree.data + b->tree.len - sizeof(id),
		       sizeof(id));
	return id;
}

static bool leaves_ascend(const struct vf_builder *b, const uint32_t *leaf,
			  size_t n)
{
	uint32_t last = last_leaf(b);

	for (size_t i = 0; leaf && i < n; last = leaf[i++])
		if (leaf[i] < last)
			return false;
	return true;
}

/* Rows of a leaf are counted as they come. */
static int add_to_leaf(struct vf_builder *b, const uint32_t *leaf, uint64_t row)
{
	struct vf_leaf_disk new = {.first_row = row}, *last;
	int err = 0;

	if (!b->leaves.len || (leaf && *leaf != last_leaf(b))) {
		err = vf_buf_append(&b->leaves, &new, sizeof(new));
		if (!err && leaf)
			err = vf_buf_append(&b->tree, leaf, sizeof(*leaf));
	}
	if (err)
		return err;
	last = (void *)(b->leaves.data + b->leaves.len - sizeof(*last));
	last->n_rows++;
	return 0;
}

int vf_builder_add_coded(struct vf_builder *b, const struct vf_coded *c,
			 const struct vf_builder_row *rows, size_t n)
{
	uint64_t off;
	int err;

	if (n > VF_SHARD_ROWS_MAX - b->n_rows ||
	    !b->encoder->tree != !c->leaf || !leaves_ascend(b, c->leaf, n) ||
	    (vf_encoder_extra_len(b->encoder) &&
	     (!c->extra || !c->extra_factors)))
		return -EINVAL;
	off = ((uint64_t *)b->line_offs.data)[b->n_rows];
	err = add_codes(b, c, n);
	for (size_t i = 0; !err && i < n; i++) {
		off += rows[i].line_len;
		err = vf_buf_append(&b->hashes, &rows[i].key_hash, 8);
		if (!err)
			err = vf_buf_append(&b->line_offs, &off, 8);
		if (!err)
			err = vf_buf_append(&b->row_crcs, &rows[i].row_crc, 4);
		if (!err)
			err = vf_buf_append(&b->line_crcs, &rows[i].line_crc,
					    4);
		if (!err)
			err = add_to_leaf(b, c->leaf ? &c->leaf[i] : NULL,
					  b->n_rows + i);
	}
	b->n_rows += n;
	return err;
}

int vf_builder_add(struct vf_builder *b, const uint8_t *codes,
		   const struct vf_factors *factors,
		   const struct vf_builder_row *rows, size_t n)
{
	const struct vf_coded c = {.codes = (uint8_t *)codes,
				   .factors = (struct vf_factors *)factors};

	return vf_builder_add_coded(b, &c, rows, n);
}

static void finish_leaf(const struct vf_builder *b, struct vf_leaf_disk *leaf)
{
	const struct vf_encoder *e = b->encoder;
	const struct vf_factors *f = (const void *)b->factors.data;
	size_t code_len = vf_encoder_code_len(e);

	for (uint64_t i = 0; i < leaf->n_rows; i++)
		leaf->radius =
			fmaxf(leaf->radius,
			      vf_factors_radius(e->params.metric, e->padded,
						&f[leaf->first_row + i]));
	leaf->codes_crc =
		vf_crc32c(0, b->codes.data + leaf->first_row * code_len,
			  leaf->n_rows * code_len);
}

int vf_builder_finish(struct vf_builder *b, struct vf_buf *out)
{
	const struct vf_encoder *e = b->encoder;
	struct vf_leaf_disk *leaves = (void *)b->leaves.data;
	uint32_t n_leaves = (uint32_t)(b->leaves.len / sizeof(*leaves));
	struct vf_codes c = {.dim = e->params.dim,
			     .padded = e->padded,
			     .bits = e->params.bits,
			     .n_leaves = n_leaves,
			     .follows_tree = e->tree,
			     .metric = e->params.metric,
			     .dtype = b->dtype,
			     .n_rows = b->n_rows,
			     .rotation_seed = e->params.rotation_seed,
			     .section = {[VF_SEC_ORIGIN] = e->origin,
					 [VF_SEC_LEAVES] = leaves,
					 [VF_SEC_TREE] = b->tree.data,
					 [VF_SEC_CENTROIDS] = e->origin,
					 [VF_SEC_CODES] = b->codes.data,
					 [VF_SEC_FACTORS] = b->factors.data,
					 [VF_SEC_KEY_HASHES] = b->hashes.data,
					 [VF_SEC_LINE_OFFS] = b->line_offs.data,
					 [VF_SEC_ROW_CRCS] = b->row_crcs.data,
					 [VF_SEC_LINE_CRCS] = b->line_crcs.data,
					 [VF_SEC_EXTRA_CODES] = b->extra.data,
					 [VF_SEC_EXTRA_FACTORS] =
						 b->extra_factors.data}};

	for (uint32_t i = 0; i < n_leaves; i++)
		finish_leaf(b, &leaves[i]);
	return b->n_rows ? vf_codes_encode(&c, out) : -EINVAL;
}
