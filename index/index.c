/*
 * One shard's codes in memory: opened from codes.vix, scanned by estimates and
 * refined.
 *
 * index  bytes owned, validated once, then trusted; [fixed] after open
 */
#include "index/index.h"
#include "index/codes.h"
#include "index/kernels.h"
#include "index/quantize.h"
#include "index/refine.h"
#include "index/rotate.h"

#include <math.h>

enum { SCAN_BLOCK = 64 }; /* rows whose counts are kept between two loops */

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
	int16_t *fine;		      /* [padded] */
};

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
	s->fine = malloc(s->padded * sizeof(*s->fine));
	if (!s->unit || !s->rotated || !s->work || !s->planes || !s->fine) {
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
	free(s->fine);
	free(s);
}

/* The query as codes see it, in s->rotated. */
static int rotate_query(const struct vf_index *ix, const float *q,
			struct vf_scan_scratch *s)
{
	if (s->dim != ix->c.dim)
		return -EINVAL;
	if (ix->c.metric == VF_COSINE)
		q = vf_unit_length(q, ix->c.dim, s->unit);
	vf_rotate(ix->rotation, q, s->rotated);
	return 0;
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
	int err = rotate_query(ix, q, s);

	if (err)
		return err;
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

int vf_index_scan_hamming(const struct vf_index *ix, const float *q,
			  struct vf_scan_scratch *s, uint64_t base,
			  struct vf_topk *top)
{
	const struct vf_codes *c = &ix->c;
	const uint8_t *codes = c->section[VF_SEC_CODES];
	uint32_t counts[SCAN_BLOCK];
	int err = rotate_query(ix, q, s);

	if (err)
		return err;
	vf_sign_query(c->padded, s->rotated, c->section[VF_SEC_ORIGIN],
		      s->planes);
	for (uint64_t row = 0; row < c->n_rows; row += SCAN_BLOCK) {
		size_t n = VF_MIN((uint64_t)SCAN_BLOCK, c->n_rows - row);
		vf_kernels()->hamming(codes + row * (c->padded / 8), n,
				      c->padded / 64, s->planes, counts);
		for (size_t i = 0; i < n; i++)
			if ((float)counts[i] <= vf_topk_limit(top))
				vf_topk_push(top, (float)counts[i],
					     base + row + i);
	}
	return 0;
}

/* ---- refining -------------------------------------------------------------------------- */

/* The leaf of @row: the last that begins at or before it. */
static uint32_t find_leaf(const struct vf_codes *c, uint64_t row)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	uint32_t lo = 0, hi = c->n_leaves;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (leaf[mid].first_row <= row)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* 1-bit factors say the same of 1-bit codes. */
static struct vf_extra_factors row_factors(const struct vf_codes *c,
					   uint64_t row)
{
	const struct vf_extra_factors *x = c->section[VF_SEC_EXTRA_FACTORS];
	const struct vf_factors *f = c->section[VF_SEC_FACTORS];

	return x ? x[row]
		 : (struct vf_extra_factors){f[row].add, f[row].mul, f[row].err,
					     0};
}

/* What refine keeps from block to block. */
struct refining {
	struct vf_fine_query q;
	struct vf_fine_leaf at;
	uint32_t leaf; /* that @at is of; UINT32_MAX: none yet */
};

static void refine_block(const struct vf_index *ix, const float *rotated,
			 struct refining *r, struct vf_refined *rows, size_t n)
{
	const struct vf_codes *c = &ix->c;
	const float *centroids = c->section[VF_SEC_CENTROIDS];
	uint32_t numbers[SCAN_BLOCK];
	int64_t dots[SCAN_BLOCK];
	const void *codes = c->section[VF_SEC_CODES],
		   *extra = c->section[VF_SEC_EXTRA_CODES];
	const struct vf_bit_rows b = {.codes = codes,
				      .extra = extra ? extra : codes,
				      .rows = numbers,
				      .n = n,
				      .words = c->padded / 64,
				      .n_extra = c->bits - 1};

	for (size_t i = 0; i < n; i++)
		numbers[i] = rows[i].row;
	vf_kernels()->bits_i16(&b, r->q.q, dots);
	for (size_t i = 0; i < n; i++) {
		struct vf_extra_factors f = row_factors(c, rows[i].row);
		uint32_t leaf = find_leaf(c, rows[i].row);
		if (leaf != r->leaf)
			vf_fine_leaf_make(c->metric, rotated,
					  centroids + (size_t)leaf * c->padded,
					  c->padded, &r->at);
		r->leaf = leaf;
		float d = (float)vf_fine_estimate(&r->q, &r->at, &f, c->bits,
						  dots[i]);
		rows[i].dist = isnan(d) ? INFINITY : d;
		rows[i].err = (float)(f.err * r->at.distance);
		if (isnan(rows[i].err)) /* a query infinitely far */
			rows[i].err = INFINITY;
	}
}

int vf_index_refine(const struct vf_index *ix, const float *q,
		    struct vf_scan_scratch *s, struct vf_refined *rows,
		    size_t n)
{
	struct refining r = {.q.q = s->fine, .leaf = UINT32_MAX};
	int err = rotate_query(ix, q, s);

	if (err)
		return err;
	vf_fine_query_make(s->rotated, ix->c.section[VF_SEC_ORIGIN],
			   ix->c.padded, &r.q);
	for (size_t i = 0; i < n; i += SCAN_BLOCK)
		refine_block(ix, s->rotated, &r, rows + i,
			     VF_MIN((size_t)SCAN_BLOCK, n - i));
	return 0;
}
