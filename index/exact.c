/*
 * Exact distances of stored rows, and conversions of their elements.  Sums run
 * in double and are rounded once, at the end: the order of close rows is the
 * true one, the same on every CPU.
 */
#include "index/index.h"
#include "index/kernels.h"
#include "index/quantize.h"
#include "store/util.h"

#include <math.h>

enum { BLOCK = 64 }; /* rows of one call of a kernel */

static void euclidean(bool half, uint32_t dim, const float *q, const void *rows,
		      size_t n, float *out_dist)
{
	const struct vf_kernels *k = vf_kernels();
	double l2sq[BLOCK];

	(half ? k->l2sq_f16 : k->l2sq_f32)(q, rows, n, dim, l2sq);
	for (size_t i = 0; i < n; i++)
		out_dist[i] = vf_within_float(l2sq[i]);
}

static void inner(enum vf_metric metric, bool half, uint32_t dim,
		  const float *q, const void *rows, size_t n, float *out_dist)
{
	const struct vf_kernels *k = vf_kernels();
	double dot[BLOCK], sq[BLOCK], qdot = 0, qsq = 0;

	(half ? k->dot_f16 : k->dot_f32)(q, rows, n, dim, dot, sq);
	if (metric == VF_COSINE)
		k->dot_f32(q, q, 1, dim, &qdot, &qsq);
	for (size_t i = 0; i < n; i++) {
		double norms = sqrt(sq[i]) * sqrt(qsq);
		if (metric == VF_DOT)
			out_dist[i] = vf_within_float(-dot[i]);
		else /* a zero vector has no direction: no angle, no likeness;
			below 0 is rounding */
			out_dist[i] = vf_within_float(
				norms > 0 ? fmax(1 - dot[i] / norms, 0) : 1);
	}
}

void vf_exact_distances(enum vf_metric metric, enum vf_dtype dtype,
			uint32_t dim, const float *q, const void *rows,
			size_t n, float *out_dist)
{
	size_t row_len = dim * vf_dtype_size(dtype), step = BLOCK;
	float wide[VF_DIM_MAX];
	bool half = dtype == VF_F16;

	if (dtype == VF_U8)
		step = 1;
	for (size_t i = 0; i < n; i += step) {
		const void *at = (const char *)rows + i * row_len;
		size_t m = VF_MIN(step, n - i);
		if (dtype == VF_U8) {
			vf_widen(dtype, at, dim, wide);
			at = wide;
		}
		if (metric == VF_EUCLIDEAN)
			euclidean(half, dim, q, at, m, out_dist + i);
		else
			inner(metric, half, dim, q, at, m, out_dist + i);
	}
}

/* ---- conversions ------------------------------------------------------------------------- */

void vf_widen(enum vf_dtype dtype, const void *x, size_t n, float *out)
{
	switch (dtype) {
	case VF_F32:
		memcpy(out, x, n * sizeof(*out));
		break;
	case VF_F16:
		vf_kernels()->widen_f16(x, n, out);
		break;
	case VF_U8:
		for (size_t i = 0; i < n; i++)
			out[i] = ((const uint8_t *)x)[i];
		break;
	}
}

int vf_narrow(const float *x, size_t n, void *out_halves, size_t *out_bad)
{
	for (size_t i = 0; i < n; i++)
		if (fabsf(x[i]) >= 65520) { /* rounds to infinity */
			*out_bad = i;
			return -ERANGE;
		}
	vf_kernels()->narrow_f32(x, n, out_halves);
	return 0;
}
