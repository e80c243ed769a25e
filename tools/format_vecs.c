/*
 * The "vecs" of the TEXMEX corpora: each row an int32 length and as many
 * float32 (fvecs), bytes (bvecs) or int32 (ivecs).  No magic: a file is one
 * when the lengths in it agree with each other and with its size.
 */
#include <inttypes.h>
#include <math.h>

#include "tools/format.h"

enum { PROBES = 64, READ_BYTES = 1 << 20 };

struct kind {
	enum vf_element element;
	const char *range; /* why a number cannot be written */
	double min, max;   /* of whole numbers; equal: any number */
};

static const struct kind kind_f = {VF_EL_F32, NULL, 0, 0};
static const struct kind kind_b = {
	VF_EL_U8, "holds a number that is no byte, which is all bvecs has", 0,
	255};
static const struct kind kind_i = {
	VF_EL_I32, "holds a number that is no int32, which is all ivecs has",
	-2147483648.0, 2147483647.0};

static size_t stride_of(const struct kind *k, uint32_t dim)
{
	return 4 + dim * vf_element_size(k->element);
}

/* ---- reading -------------------------------------------------------------------- */

static bool lengths_agree(const struct vf_format_head *h, const struct kind *k)
{
	uint32_t dim = vf_le32(h->p);
	uint8_t b[4];

	if (h->n < 8 || dim < VF_DIM_MIN || dim > VF_DIM_MAX ||
	    h->len % stride_of(k, dim))
		return false;
	uint64_t rows = h->len / stride_of(k, dim);
	uint64_t n = VF_MIN(rows, (uint64_t)PROBES);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t row = i < n / 2 ? i : rows - 1 - (i - n / 2);
		if (vf_pread_all(h->fd, b, 4, row * stride_of(k, dim)) ||
		    vf_le32(b) != dim)
			return false;
	}
	return true;
}

/*
 * As float32, small whole numbers of int32 would be so near to zero that no
 * program computed them.
 */
static bool are_integers(const struct vf_format_head *h)
{
	size_t n = VF_MIN((h->n - 4) / 4, (size_t)vf_le32(h->p));
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		int32_t v = (int32_t)vf_le32(h->p + 4 + 4 * i);
		if (v <= -(1 << 23) || v >= 1 << 23)
			return false;
		any |= v != 0;
	}
	return any;
}

static bool probe_fvecs(const struct vf_format_head *h)
{
	return lengths_agree(h, &kind_f) && !are_integers(h);
}

static bool probe_bvecs(const struct vf_format_head *h)
{
	return lengths_agree(h, &kind_b);
}

static bool probe_ivecs(const struct vf_format_head *h)
{
	return lengths_agree(h, &kind_i) && are_integers(h);
}

static int open_vecs(struct vf_intake *in, const struct kind *k)
{
	uint8_t b[4];
	int err = vf_pread_all(in->fd, b, 4, 0);

	if (err)
		return vf_fail(err, "%s: %s", in->name, vf_strerror(err));
	in->dim = vf_le32(b);
	in->n_rows = in->len / stride_of(k, in->dim);
	in->own = (void *)k;
	return 0;
}

static int open_fvecs(struct vf_intake *in)
{
	return open_vecs(in, &kind_f);
}

static int open_bvecs(struct vf_intake *in)
{
	return open_vecs(in, &kind_b);
}

static int open_ivecs(struct vf_intake *in)
{
	return open_vecs(in, &kind_i);
}

static int take_row(const struct vf_intake *in, const struct kind *k,
		    const uint8_t *p, uint64_t row, float *x)
{
	if (vf_le32(p) != in->dim)
		return vf_fail(-EINVAL,
			       "%s: row %" PRIu64
			       " has %u elements, the first has %u",
			       in->name, row, vf_le32(p), in->dim);
	size_t at = vf_element_to_f32(k->element, p + 4, in->dim, x);
	if (at < in->dim)
		return vf_element_refuse(
			in->name, row, k->element,
			p + 4 + at * vf_element_size(k->element));
	return 0;
}

static int read_vecs(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	const struct kind *k = in->own;
	size_t stride = stride_of(k, in->dim), max = 1 + READ_BYTES / stride;
	VF_AUTO_FREE uint8_t *buf = malloc(VF_MIN(n, max) * stride);
	int err = buf ? 0 : -ENOMEM;

	for (size_t i = 0, some; !err && i < n; i += some) {
		some = VF_MIN(max, n - i);
		err = vf_pread_all(in->fd, buf, some * stride,
				   (row + i) * stride);
		if (err)
			break;
		for (size_t j = 0; !err && j < some; j++)
			if (take_row(in, k, buf + j * stride, row + i + j,
				     x + (i + j) * in->dim))
				return -EINVAL;
	}
	return err ? vf_fail(err, "%s: row %" PRIu64 ": %s", in->name, row,
			     vf_strerror(err))
		   : 0;
}

static void close_vecs(struct vf_intake *in)
{
}

/* ---- writing ---------------------------------------------------------------------- */

static int create_vecs(struct vf_outlet *out)
{
	out->own = malloc(4 + out->dim * sizeof(float));
	return out->own ? 0
			: vf_fail(-ENOMEM, "%s: %s", out->name,
				  strerror(ENOMEM));
}

static bool fits(const struct kind *k, float v)
{
	return k->min == k->max ||
	       ((double)v >= k->min && (double)v <= k->max && v == truncf(v) &&
		!(v == 0 && signbit(v)));
}

static int write_vecs(struct vf_outlet *out, const struct kind *k,
		      const struct vf_outlet_row *row)
{
	uint8_t *to = out->own;

	vf_put_le32(to, out->dim);
	for (uint32_t i = 0; i < out->dim; i++) {
		if (!fits(k, row->x[i]))
			return vf_outlet_refuse(out, row, k->range);
		if (k->element == VF_EL_U8)
			to[4 + i] = (uint8_t)row->x[i];
		else if (k->element == VF_EL_I32)
			vf_put_le32(to + 4 + 4 * i,
				    (uint32_t)(int32_t)row->x[i]);
		else
			memcpy(to + 4 + 4 * i, &row->x[i], 4);
	}
	size_t len = stride_of(k, out->dim);
	return vf_outlet_pwrite(out, to, len, row->at * len);
}

static int write_fvecs(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	return write_vecs(out, &kind_f, row);
}

static int write_bvecs(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	return write_vecs(out, &kind_b, row);
}

static int write_ivecs(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	return write_vecs(out, &kind_i, row);
}

static void discard_vecs(struct vf_outlet *out)
{
	free(out->own);
}

#define VECS(letter, what)                                                     \
	const struct vf_format vf_format_##letter##vecs = {                    \
		.name = #letter "vecs",                                        \
		.holds = what,                                                 \
		.doubt = ": rows of unequal length, or cut short",             \
		.probe = probe_##letter##vecs,                                 \
		.open = open_##letter##vecs,                                   \
		.rows = read_vecs,                                             \
		.close = close_vecs,                                           \
		.create = create_vecs,                                         \
		.write = write_##letter##vecs,                                 \
		.discard = discard_vecs,                                       \
	}

VECS(f, "vectors");
VECS(b, "vectors of whole numbers 0 to 255");
VECS(i, "vectors of whole numbers");
