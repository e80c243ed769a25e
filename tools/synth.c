/*
 * The generator of `vectool gen`.
 *
 * Normal numbers come from the inverse distribution function, piecewise linear
 * over CELLS cells of equal probability: 12 random bits choose the cell, 20
 * the place in it.  A table in L1 and no branch: about a nanosecond each.
 *
 * Rows of a batch are grouped by basis, so that each basis is read once per
 * batch and not once per row.
 */
#include "tools/synth.h"

#include <math.h>

#include "store/util.h"

enum { CLUSTERS = 2000, BASES = 40, RANK = 64, CELLS = 4096, LANES = 8 };

#define CENTRE_SPREAD 0.6f
#define BASIS_SPREAD  0.35f
#define NOISE_SPREAD  0.35f

struct vf_synth {
	uint32_t dim, padded; /* padded: dim rounded up to LANES */
	uint64_t seed;
	float *centre;		     /* [CLUSTERS][padded], offset included */
	float *basis;		     /* [BASES][RANK][padded] */
	double popularity[CLUSTERS]; /* cumulative */
	float quantile[CELLS + 1];
};

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));

static uint64_t stream_state(uint64_t seed, uint64_t stream, uint64_t number)
{
	uint64_t a = seed, b;

	b = vf_splitmix64(&a) ^ stream * 0xd1342543de82ef95;
	b = vf_splitmix64(&b) ^ number;
	return vf_splitmix64(&b);
}

/* x with P(N(0,1) < x) = p, by bisection: only for the table. */
static double normal_quantile(double p)
{
	double lo = -8, hi = 8;

	for (int i = 0; i < 50; i++) {
		double mid = (lo + hi) / 2;
		if (erfc(-mid / sqrt(2)) / 2 < p)
			lo = mid;
		else
			hi = mid;
	}
	return (lo + hi) / 2;
}

static inline float normal_of(const struct vf_synth *s, uint32_t bits)
{
	uint32_t cell = bits >> 20;
	float t = (float)(bits & 0xfffff) * 0x1p-20f;
	float a = s->quantile[cell], b = s->quantile[cell + 1];

	return a + (b - a) * t;
}

static void fill_normal(const struct vf_synth *s, uint64_t *state, float *out,
			size_t n)
{
	size_t i = 0;

	for (; i + 2 <= n; i += 2) {
		uint64_t r = vf_splitmix64(state);
		out[i] = normal_of(s, (uint32_t)r);
		out[i + 1] = normal_of(s, (uint32_t)(r >> 32));
	}
	if (i < n)
		out[i] = normal_of(s, (uint32_t)vf_splitmix64(state));
}

/* Half of each cell's probability lies beyond the point; the two outer cells
 * end where their mean square is that of the normal distribution's tail. */
static void fill_tables(struct vf_synth *s)
{
	double sum = 0;

	for (int i = 1; i < CELLS; i++)
		s->quantile[i] = (float)normal_quantile((double)i / CELLS);
	s->quantile[CELLS] = s->quantile[CELLS - 1] + 0.62f;
	s->quantile[0] = -s->quantile[CELLS];
	for (int i = 0; i < CLUSTERS; i++)
		s->popularity[i] = sum += pow(i + 1, -0.8);
	for (int i = 0; i < CLUSTERS; i++)
		s->popularity[i] /= sum;
}

static int fill_model(struct vf_synth *s)
{
	VF_AUTO_FREE float *offset = calloc(s->padded, sizeof(float));
	uint64_t state = stream_state(s->seed, 0, 0);

	if (!offset)
		return -ENOMEM;
	fill_normal(s, &state, offset, s->dim);
	for (size_t c = 0; c < CLUSTERS; c++) {
		float *to = s->centre + c * s->padded;
		fill_normal(s, &state, to, s->dim);
		for (size_t j = 0; j < s->dim; j++)
			to[j] = offset[j] + CENTRE_SPREAD * to[j];
	}
	for (size_t b = 0; b < BASES; b++)
		for (size_t i = 0; i < RANK; i++) {
			float *to = s->basis + (b * RANK + i) * s->padded;
			float amplitude = expf(-(float)i / 20) * BASIS_SPREAD;
			fill_normal(s, &state, to, s->dim);
			for (size_t j = 0; j < s->dim; j++)
				to[j] *= amplitude;
		}
	return 0;
}

int vf_synth_new(uint32_t dim, uint64_t seed, struct vf_synth **out)
{
	struct vf_synth *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->dim = dim;
	s->padded = (uint32_t)vf_round_up(dim, LANES);
	s->seed = seed;
	s->centre = calloc((size_t)CLUSTERS * s->padded, sizeof(float));
	s->basis = calloc((size_t)BASES * RANK * s->padded, sizeof(float));
	if (s->centre && s->basis) {
		fill_tables(s);
		if (!fill_model(s)) {
			*out = s;
			return 0;
		}
	}
	vf_synth_free(s);
	return -ENOMEM;
}

void vf_synth_free(struct vf_synth *s)
{
	if (!s)
		return;
	free(s->centre);
	free(s->basis);
	free(s);
}

static unsigned choose_cluster(const struct vf_synth *s, uint64_t *state)
{
	double u = (double)(vf_splitmix64(state) >> 11) * 0x1p-53;
	unsigned lo = 0, hi = CLUSTERS - 1;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		if (s->popularity[mid] < u)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/*
 * y[0..padded) += sum over i of z[i] * basis[i].  Four vectors of y stay in
 * registers over the RANK rows.  Lanes never mix and nothing is fused, so
 * every instruction set gives the same bits.
 */
static inline __attribute__((always_inline)) void
add_basis(const float *basis, const float *z, float *y, size_t padded)
{
	size_t j = 0;

	for (; j + 4 * LANES <= padded; j += 4 * LANES) {
		v8f *to = (v8f *)(y + j);
		v8f a = to[0], b = to[1], c = to[2], d = to[3];
		for (size_t i = 0; i < RANK; i++) {
			const v8f *from = (const v8f *)(basis + i * padded + j);
			a += from[0] * z[i];
			b += from[1] * z[i];
			c += from[2] * z[i];
			d += from[3] * z[i];
		}
		to[0] = a, to[1] = b, to[2] = c, to[3] = d;
	}
	for (; j < padded; j += LANES) {
		v8f a = *(v8f *)(y + j);
		for (size_t i = 0; i < RANK; i++)
			a += *(const v8f *)(basis + i * padded + j) * z[i];
		*(v8f *)(y + j) = a;
	}
}

static void add_basis_plain(const float *basis, const float *z, float *y,
			    size_t padded)
{
	add_basis(basis, z, y, padded);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void
add_basis_avx2(const float *basis, const float *z, float *y, size_t padded)
{
	add_basis(basis, z, y, padded);
}
#endif

typedef void add_basis_fn(const float *, const float *, float *, size_t);

static add_basis_fn *choose_add_basis(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		return add_basis_avx2;
#endif
	return add_basis_plain;
}

static void finish_row(const struct vf_synth *s, uint64_t *state, float *y,
		       float *out)
{
	float noise[256];
	float sum[LANES] = {0};
	double total = 0;

	for (size_t at = 0; at < s->dim; at += VF_N(noise)) {
		size_t n = VF_MIN(VF_N(noise), s->dim - at);
		fill_normal(s, state, noise, n);
		for (size_t j = 0; j < n; j++) {
			float v = y[at + j] + NOISE_SPREAD * noise[j];
			y[at + j] = v;
			sum[j % LANES] += v * v;
		}
	}
	for (size_t i = 0; i < LANES; i++)
		total += sum[i];
	float scale = (float)(1 / sqrt(total));
	for (size_t j = 0; j < s->dim; j++)
		out[j] = y[j] * scale;
}

void vf_synth_rows(const struct vf_synth *s, enum vf_synth_stream stream,
		   uint64_t first, size_t n, float *out)
{
	add_basis_fn *add = choose_add_basis();
	float y[VF_DIM_MAX + LANES], z[RANK];
	uint64_t state[VF_SYNTH_BATCH];
	uint16_t cluster[VF_SYNTH_BATCH];

	assert(n <= VF_SYNTH_BATCH);
	for (size_t i = 0; i < n; i++) {
		state[i] = stream_state(s->seed, stream, first + i);
		cluster[i] = (uint16_t)choose_cluster(s, &state[i]);
	}
	for (size_t b = 0; b < BASES; b++)
		for (size_t i = 0; i < n; i++) {
			if (cluster[i] % BASES != b)
				continue;
			fill_normal(s, &state[i], z, RANK);
			memcpy(y, s->centre + (size_t)cluster[i] * s->padded,
			       s->padded * sizeof(float));
			add(s->basis + b * RANK * s->padded, z, y, s->padded);
			finish_row(s, &state[i], y, out + i * s->dim);
		}
}
