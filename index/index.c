/*
 * One shard's codes in memory: made by an encoder and a builder, opened from
 * codes.vix, scanned by estimates.
 *
 * encoder  origin is the one leaf's rotated centroid; [fixed] after new
 * index    bytes owned, validated once, then trusted; [fixed] after open
 */
#include "index/index.h"
#include "index/codes.h"
#include "index/kernels.h"
#include "index/quantize.h"
#include "index/rotate.h"

#include <math.h>
#include <xxhash.h>

enum { SCAN_BLOCK = 64 }; /* rows whose counts are kept between two loops */

struct vf_encoder {
	struct vf_code_params params;
	uint32_t padded;
	struct vf_rotation *rotation;
	float *origin; /* [padded], rotated centroid */
};

struct vf_builder {
	const struct vf_encoder *encoder; /* borrowed */
	enum vf_dtype dtype;
	uint64_t n_rows;
	struct vf_buf codes, factors, hashes, line_offs, row_crcs, line_crcs;
};

struct vf_index {
	uint8_t *bytes; /* owned */
	size_t len;
	struct vf_codes c; /* views into bytes */
	struct vf_rotation *rotation;
};

struct vf_scan_scratch {
	uint32_t dim, padded;
	float *unit, *rotated, *work; /* [padded] each */
	uint64_t *planes;	      /* [4][padded / 64] */
};

/* ---- encoder --------------------------------------------------------------------------- */

int vf_encoder_new(const struct vf_code_params *params, const float *centroid,
		   struct vf_encoder **out)
{
	struct vf_encoder *e;
	int err;

	*out = NULL;
	if (params->metric < VF_COSINE || params->metric > VF_DOT ||
	    params->dim < VF_DIM_MIN || params->dim > VF_DIM_MAX)
		return -EINVAL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->params = *params;
	e->padded = vf_padded_dim(params->dim);
	err = vf_rotation_new(params->dim, params->rotation_seed, &e->rotation);
	e->origin = malloc(e->padded * sizeof(float));
	if (!err && !e->origin)
		err = -ENOMEM;
	if (err) {
		vf_encoder_free(e);
		return err;
	}
	vf_rotate(e->rotation, centroid, e->origin);
	*out = e;
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

/* @x scaled to unit length; a zero vector stays what it is. */
static const float *unit_length(const float *x, uint32_t dim, float *out)
{
	double dot, sq;

	vf_kernels()->dot_f32(x, x, 1, dim, &dot, &sq);
	double scale = sq > 0 ? 1 / sqrt(sq) : 0;
	float small = (float)scale;
	if (isnormal(small)) {
		for (uint32_t i = 0; i < dim; i++)
			out[i] = x[i] * small;
		return out;
	}
	for (uint32_t i = 0; i < dim; i++) /* beyond float's range */
		out[i] = (float)(x[i] * scale);
	return out;
}

int vf_encoder_rows(const struct vf_encoder *e, const float *x, size_t n,
		    uint8_t *codes, struct vf_factors *factors)
{
	const struct vf_place at = {e->origin, e->origin};
	uint32_t dim = e->params.dim;
	VF_AUTO_FREE float *work =
		malloc((dim + (size_t)e->padded) * sizeof(float));

	if (!work)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++, x += dim) {
		const float *row = x;
		if (e->params.metric == VF_COSINE)
			row = unit_length(x, dim, work + e->padded);
		vf_rotate(e->rotation, row, work);
		vf_quantize_row(e->params.metric, e->padded, work, &at,
				codes + i * (e->padded / 8), &factors[i]);
	}
	return 0;
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
	if (!vf_buf_append(&b->line_offs, NULL, 8))
		return 0;
	vf_builder_free(b);
	*out = NULL;
	return -ENOMEM;
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
	free(b);
}

int vf_builder_add(struct vf_builder *b, const uint8_t *codes,
		   const struct vf_factors *factors,
		   const struct vf_builder_row *rows, size_t n)
{
	uint64_t off;
	int err;

	if (n > VF_SHARD_ROWS_MAX - b->n_rows)
		return -EINVAL;
	off = ((uint64_t *)b->line_offs.data)[b->n_rows];
	err = vf_buf_append(&b->codes, codes,
			    n * vf_encoder_code_len(b->encoder));

	if (!err)
		err = vf_buf_append(&b->factors, factors, n * sizeof(*factors));
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
	}
	b->n_rows += n;
	return err;
}

static float leaf_radius(const struct vf_builder *b)
{
	const struct vf_encoder *e = b->encoder;
	const struct vf_factors *f = (const void *)b->factors.data;
	float max = 0;

	for (uint64_t i = 0; i < b->n_rows; i++)
		max = fmaxf(max, vf_factors_radius(e->params.metric, e->padded,
						   &f[i]));
	return max;
}

int vf_builder_finish(struct vf_builder *b, struct vf_buf *out)
{
	const struct vf_encoder *e = b->encoder;
	struct vf_leaf_disk leaf = {.n_rows = b->n_rows,
				    .codes_crc = vf_crc32c(0, b->codes.data,
							   b->codes.len),
				    .radius = leaf_radius(b)};
	struct vf_codes c = {.dim = e->params.dim,
			     .padded = e->padded,
			     .bits = 1,
			     .n_leaves = 1,
			     .metric = e->params.metric,
			     .dtype = b->dtype,
			     .n_rows = b->n_rows,
			     .rotation_seed = e->params.rotation_seed,
			     .section = {[VF_SEC_ORIGIN] = e->origin,
					 [VF_SEC_LEAVES] = &leaf,
					 [VF_SEC_CENTROIDS] = e->origin,
					 [VF_SEC_CODES] = b->codes.data,
					 [VF_SEC_FACTORS] = b->factors.data,
					 [VF_SEC_KEY_HASHES] = b->hashes.data,
					 [VF_SEC_LINE_OFFS] = b->line_offs.data,
					 [VF_SEC_ROW_CRCS] = b->row_crcs.data,
					 [VF_SEC_LINE_CRCS] =
						 b->line_crcs.data}};

	return b->n_rows ? vf_codes_encode(&c, out) : -EINVAL;
}

/* ---- opening --------------------------------------------------------------------------- */

int vf_index_open(void *p, size_t len, struct vf_index **out,
		  const char **out_reason)
{
	struct vf_index *ix = calloc(1, sizeof(*ix));
	int err;

	*out = NULL;
	*out_reason = "no memory";
	if (!ix) {
		free(p);
		return -ENOMEM;
	}
	ix->bytes = p;
	ix->len = len;
	err = vf_codes_validate(p, len, &ix->c, out_reason);
	if (!err)
		err = vf_rotation_new(ix->c.dim, ix->c.rotation_seed,
				      &ix->rotation);
	if (err)
		vf_index_close(ix);
	else
		*out = ix;
	return err;
}

void vf_index_close(struct vf_index *ix)
{
	if (!ix)
		return;
	vf_rotation_free(ix->rotation);
	free(ix->bytes);
	free(ix);
}

void vf_index_info(const struct vf_index *ix, struct vf_index_info *out)
{
	*out = (struct vf_index_info){.dim = ix->c.dim,
				      .padded_dim = ix->c.padded,
				      .n_leaves = ix->c.n_leaves,
				      .bits = ix->c.bits,
				      .n_rows = ix->c.n_rows,
				      .rotation_seed = ix->c.rotation_seed,
				      .metric = ix->c.metric,
				      .dtype = ix->c.dtype,
				      .ram_len = ix->len};
}

uint32_t vf_index_row_crc(const struct vf_index *ix, uint64_t row)
{
	return ((const uint32_t *)ix->c.section[VF_SEC_ROW_CRCS])[row];
}

void vf_index_line(const struct vf_index *ix, uint64_t row, uint64_t *out_off,
		   uint32_t *out_len, uint32_t *out_crc)
{
	const uint64_t *off = ix->c.section[VF_SEC_LINE_OFFS];

	*out_off = off[row];
	*out_len = (uint32_t)(off[row + 1] - off[row]);
	*out_crc = ((const uint32_t *)ix->c.section[VF_SEC_LINE_CRCS])[row];
}

const uint64_t *vf_index_key_hashes(const struct vf_index *ix)
{
	return ix->c.section[VF_SEC_KEY_HASHES];
}

int vf_index_find_hash(const struct vf_index *ix, uint64_t hash,
		       int (*fn)(void *arg, uint64_t row), void *arg)
{
	const uint64_t *h = vf_index_key_hashes(ix);
	int rc = 0;

	for (uint64_t i = 0; !rc && i < ix->c.n_rows; i++)
		if (h[i] == hash)
			rc = fn(arg, i);
	return rc;
}

/* ---- scanning -------------------------------------------------------------------------- */

int vf_scan_scratch_new(uint32_t dim, struct vf_scan_scratch **out)
{
	struct vf_scan_scratch *s = NULL;

	*out = NULL;
	if (dim < VF_DIM_MIN || dim > VF_DIM_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->dim = dim;
	s->padded = vf_padded_dim(dim);
	s->unit = malloc(s->padded * sizeof(float));
	s->rotated = malloc(s->padded * sizeof(float));
	s->work = malloc(s->padded * sizeof(float));
	s->planes = malloc(s->padded / 64 * 4 * sizeof(uint64_t));
	if (!s->unit || !s->rotated || !s->work || !s->planes) {
		vf_scan_scratch_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void vf_scan_scratch_free(struct vf_scan_scratch *s)
{
	if (!s)
		return;
	free(s->unit);
	free(s->rotated);
	free(s->work);
	free(s->planes);
	free(s);
}

int vf_index_scan(const struct vf_index *ix, const float *q,
		  struct vf_scan_scratch *s, uint64_t base, struct vf_topk *top)
{
	const struct vf_codes *c = &ix->c;
	const struct vf_factors *f = c->section[VF_SEC_FACTORS];
	const uint8_t *codes = c->section[VF_SEC_CODES];
	const struct vf_kernels *k = vf_kernels();
	struct vf_query_code qc = {.planes = s->planes};
	uint32_t counts[SCAN_BLOCK];

	if (s->dim != c->dim)
		return -EINVAL;
	if (c->metric == VF_COSINE)
		q = unit_length(q, c->dim, s->unit);
	vf_rotate(ix->rotation, q, s->rotated);
	vf_quantize_query(c->metric, c->padded, s->rotated,
			  c->section[VF_SEC_ORIGIN], s->work, &qc);
	float limit = vf_topk_limit(top);
	for (uint64_t row = 0; row < c->n_rows; row += SCAN_BLOCK) {
		size_t n = VF_MIN((uint64_t)SCAN_BLOCK, c->n_rows - row);
		k->b1q4(codes + row * (c->padded / 8), n, c->padded / 64,
			qc.planes, counts);
		for (size_t i = 0; i < n; i++) {
			float d = vf_estimate(&qc, &f[row + i], counts[i]);
			if (d > limit)
				continue;
			if (isnan(d)) /* a query beyond float's range */
				d = INFINITY;
			vf_topk_push(top, d, base + row + i);
			limit = vf_topk_limit(top);
		}
	}
	return 0;
}
