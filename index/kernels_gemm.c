/*
 * Scalar block kernels, the definition of the others, and the choice.
 */
#include "index/kernels_gemm.h"
#include "index/kernels.h"
#include "store/util.h"

/* Eight sums: short enough to keep rounding small, and they vectorise. */
static float dot_scalar(const float *x, const float *w, size_t dim)
{
	float s[8] = {0};
	size_t i = 0;

	for (; i + 8 <= dim; i += 8)
		for (size_t j = 0; j < 8; j++)
			s[j] += x[i + j] * w[i + j];
	for (; i < dim; i++)
		s[0] += x[i] * w[i];
	return ((s[0] + s[4]) + (s[2] + s[6])) +
	       ((s[1] + s[5]) + (s[3] + s[7]));
}

static void dots_f32_scalar(const float *const *rows, size_t n_rows,
			    const float *w, size_t n_w, size_t dim, float *out)
{
	for (size_t j = 0; j < n_w; j++)
		for (size_t i = 0; i < n_rows; i++)
			out[j * n_rows + i] =
				dot_scalar(rows[i], w + j * dim, dim);
}

static void add_f32_scalar(const float *x, double scale, size_t dim,
			   double *sum)
{
	for (size_t i = 0; i < dim; i++)
		sum[i] += scale * x[i];
}

/* Short tiles repeat their last row and centroid and drop those sums. */
void vf_gemm_run_tiles(const struct vf_gemm_tile *t, const float *const *rows,
		       size_t n_rows, const float *w, size_t n_w, size_t dim,
		       float *out)
{
	float sums[VF_TILE_W * VF_TILE_ROWS];
	const float *ws[VF_TILE_W], *xs[VF_TILE_ROWS];

	for (size_t j = 0; j < n_w; j += t->w) {
		size_t nj = VF_MIN(n_w - j, t->w);
		for (size_t k = 0; k < t->w; k++)
			ws[k] = w + (j + VF_MIN(k, nj - 1)) * dim;
		for (size_t i = 0; i < n_rows; i += t->rows) {
			size_t left = n_rows - i, ni = VF_MIN(left, t->rows);
			for (size_t k = 0; k < t->rows; k++)
				xs[k] = rows[i + VF_MIN(k, ni - 1)];
			t->run(xs, ws,
			       !j && left >= 2 * t->rows ? rows + i + t->rows
							 : NULL,
			       dim, sums);
			for (size_t k = 0; k < nj; k++)
				memcpy(out + (j + k) * n_rows + i,
				       sums + k * t->rows, ni * sizeof(float));
		}
	}
}

static const struct vf_gemm_kernels scalar = {
	.name = "scalar",
	.dots_f32 = dots_f32_scalar,
	.add_f32 = add_f32_scalar,
};

#if !defined(__x86_64__)
const struct vf_gemm_kernels *vf_gemm_kernels_avx2(void)
{
	return NULL;
}

const struct vf_gemm_kernels *vf_gemm_kernels_avx512(void)
{
	return NULL;
}
#endif

const struct vf_gemm_kernels *vf_gemm_kernels_named(const char *name)
{
	if (!strcmp(name, "scalar"))
		return &scalar;
	if (!strcmp(name, "avx2"))
		return vf_gemm_kernels_avx2();
	if (!strcmp(name, "avx512"))
		return vf_gemm_kernels_avx512();
	return NULL;
}

const struct vf_gemm_kernels *vf_gemm_kernels(void)
{
	const char *name = vf_kernels()->name; /* obeys VF_CPU_DISABLE */
	const struct vf_gemm_kernels *k = NULL;

	if (!strncmp(name, "avx512", 6))
		k = vf_gemm_kernels_avx512();
	else if (!strcmp(name, "avx2"))
		k = vf_gemm_kernels_avx2();
	return k ? k : &scalar;
}
