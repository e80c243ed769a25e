/* NumPy's .npy: a matrix, rows one behind the other. */
#include "store/npy.h"
#include "tools/format.h"
#include "tools/rows.h"

const char *vf_npy_grid(const uint8_t *head, size_t n, uint64_t base,
			struct vf_grid *out, uint64_t *out_rows)
{
	struct vf_npy_array a;
	const char *why = "is cut short";

	if (vf_npy_parse_array(head, n, &a, &why))
		return why;
	if (vf_element_parse(a.descr, &out->element))
		return a.descr[0] == '>'
			       ? "big-endian elements; write them as '<f4'"
			       : "its elements are no plain little-endian "
				 "numbers";
	if (a.n_shape < 1 || a.n_shape > 2)
		return "it is not a matrix of one or two dimensions";
	if (a.fortran && a.n_shape == 2)
		return "Fortran order; write it with numpy.ascontiguousarray";
	uint64_t dim = a.shape[a.n_shape - 1];
	out->dim = dim > VF_DIM_MAX ? UINT32_MAX : (uint32_t)dim;
	out->stride = out->dim * vf_element_size(out->element);
	out->off = base + a.data_off;
	*out_rows = a.n_shape == 2 ? a.shape[0] : 1;
	return NULL;
}

static bool probe_npy(const struct vf_format_head *h)
{
	return h->n >= 6 && !memcmp(h->p, "\x93NUMPY", 6);
}

static int open_npy(struct vf_intake *in)
{
	VF_AUTO_FREE uint8_t *head = malloc(VF_NPY_HEADER_MAX);
	size_t n = (size_t)VF_MIN(in->len, (uint64_t)VF_NPY_HEADER_MAX);
	struct vf_grid *g = in->own = calloc(1, sizeof(*g));

	if (!head || !g)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	int err = vf_pread_all(in->fd, head, n, 0);
	if (err)
		return vf_fail(err, "%s: %s", in->name, vf_strerror(err));
	g->fd = in->fd;
	const char *why = vf_npy_grid(head, n, 0, g, &in->n_rows);
	if (!why)
		why = vf_grid_check(g, in->n_rows, in->len);
	if (why)
		return vf_intake_refuse(in, why);
	in->dim = g->dim;
	in->is_half = g->element == VF_EL_F16;
	return 0;
}

static int read_npy(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	return vf_grid_rows(in->own, in->name, row, n, x);
}

static void close_npy(struct vf_intake *in)
{
	free(in->own);
}

/* ---- writing ------------------------------------------------------------------ */

static enum vf_dtype stored_type(const struct vf_outlet *out)
{
	return out->is_half ? VF_F16 : VF_F32;
}

static int create_npy(struct vf_outlet *out)
{
	struct vf_npy npy = {.dtype = stored_type(out),
			     .n_rows = out->n_rows,
			     .dim = out->dim};
	uint8_t header[VF_NPY_DATA_OFF];

	vf_npy_header(&npy, header);
	out->own = malloc(out->dim * sizeof(float));
	if (!out->own)
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	return vf_outlet_pwrite(out, header, sizeof(header), 0);
}

static int write_npy(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	size_t len = out->dim * vf_dtype_size(stored_type(out));

	if (out->is_half)
		vf_rows_to_f16(row->x, out->dim, out->own);
	return vf_outlet_pwrite(out, out->is_half ? out->own : row->x, len,
				VF_NPY_DATA_OFF + row->at * len);
}

static void discard_npy(struct vf_outlet *out)
{
	free(out->own);
}

const struct vf_format vf_format_npy = {
	.name = "npy",
	.holds = "vectors (f4; f2 of an f16 index)",
	.probe = probe_npy,
	.open = open_npy,
	.rows = read_npy,
	.close = close_npy,
	.create = create_npy,
	.write = write_npy,
	.discard = discard_npy,
};
