/*
 * The signs of all rounds are drawn once, as floats of +-scale, so that the
 * normalisation of a round costs nothing: 1/sqrt(2^k) where a transform
 * follows.
 */
#include "index/rotate.h"
#include "index/kernels.h"

#include <math.h>

enum { PAD = 64, PADDED_MIN = 256, ROUNDS_POW2 = 3, ROUNDS_ANY = 4 };

struct vf_rotation {
	uint32_t dim, padded;
	uint32_t block; /* 2^k, the largest power of two in padded */
	uint32_t n_rounds;
	float *signs; /* [n_rounds][block] or [n_rounds][2][block] */
};

uint32_t vf_padded_dim(uint32_t dim)
{
	return VF_MAX((uint32_t)vf_round_up(dim, PAD), (uint32_t)PADDED_MIN);
}

int vf_rotation_new(uint32_t dim, uint64_t seed, struct vf_rotation **out)
{
	struct vf_rotation *r;
	size_t n;

	*out = NULL;
	if (dim < VF_DIM_MIN || dim > VF_DIM_MAX)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->dim = dim;
	r->padded = vf_padded_dim(dim);
	r->block = 1u << (31 - __builtin_clz(r->padded));
	bool pow2 = r->block == r->padded;
	r->n_rounds = pow2 ? ROUNDS_POW2 : ROUNDS_ANY;
	n = (size_t)r->n_rounds * r->block * (pow2 ? 1 : 2);
	r->signs = malloc(n * sizeof(*r->signs));
	if (!r->signs) {
		free(r);
		return -ENOMEM;
	}
	float scale = 1 / sqrtf((float)r->block);
	for (size_t i = 0; i < n; i += 64) {
		uint64_t bits = vf_splitmix64(&seed);
		for (size_t j = i; j < VF_MIN(n, i + 64); j++)
			r->signs[j] = bits >> (j - i) & 1 ? scale : -scale;
	}
	*out = r;
	return 0;
}

void vf_rotation_free(struct vf_rotation *r)
{
	if (!r)
		return;
	free(r->signs);
	free(r);
}

static void flip_and_mix(const struct vf_kernels *k, float *x,
			 const float *signs, uint32_t n)
{
	k->flip_f32(x, signs, n);
	k->wht_f32(x, n);
}

void vf_rotate(const struct vf_rotation *r, const float *x, float *out)
{
	const struct vf_kernels *k = vf_kernels();
	const float *signs = r->signs;

	memcpy(out, x, r->dim * sizeof(*x));
	memset(out + r->dim, 0, (r->padded - r->dim) * sizeof(*x));
	for (uint32_t i = 0; i < r->n_rounds; i++, signs += r->block) {
		flip_and_mix(k, out, signs, r->block);
		if (r->block == r->padded)
			continue;
		signs += r->block;
		flip_and_mix(k, out + r->padded - r->block, signs, r->block);
		k->butterfly_f32(out, r->padded / 2);
	}
}

const float *vf_unit_length(const float *x, uint32_t dim, float *out)
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
