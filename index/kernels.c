/*
 * Scalar kernels, the definition of all others, and the choice of the table.
 *
 * chosen   [atomic] set once; every thread that races stores the same pointer
 */
#include "index/kernels.h"
#include "index/quantize.h"
#include "store/util.h"

#include <stdatomic.h>

/* ---- scalar ---------------------------------------------------------------------------- */

static void b1q4_scalar(const uint8_t *codes, size_t n, size_t words,
			const uint64_t *planes, uint32_t *out)
{
	for (size_t r = 0; r < n; r++, codes += words * 8) {
		uint32_t sum = 0;
		for (size_t w = 0; w < words; w++) {
			uint64_t c = vf_le64(codes + w * 8);
			for (size_t j = 0; j < 4; j++)
				sum += (uint32_t)__builtin_popcountll(
					       c & planes[j * words + w])
				       << j;
		}
		out[r] = sum;
	}
}

static void hamming_scalar(const uint8_t *codes, size_t n, size_t words,
			   const uint64_t *q, uint32_t *out)
{
	for (size_t r = 0; r < n; r++, codes += words * 8) {
		out[r] = 0;
		for (size_t w = 0; w < words; w++)
			out[r] += (uint32_t)__builtin_popcountll(
				vf_le64(codes + w * 8) ^ q[w]);
	}
}

uint64_t vf_estimate_scalar(const struct vf_query_code *q,
			    const struct vf_factors *f, const uint32_t *counts,
			    size_t n, float limit, float *out)
{
	uint64_t near = 0;

	for (size_t r = 0; r < n; r++) {
		out[r] = vf_estimate(q, &f[r], counts[r]);
		near |= (uint64_t) !(out[r] > limit) << r;
	}
	return near;
}

static inline float load_f32(const void *x, size_t i)
{
	float v;
	memcpy(&v, (const char *)x + i * sizeof(v), sizeof(v));
	return v;
}

static inline float load_f16(const void *x, size_t i)
{
	return vf_half_to_float(vf_le16((const char *)x + i * 2));
}

/* Products of floats are exact in double; four sums hide the adder's delay. */
#define DEFINE_DOT(type)                                                       \
	static void dot_##type##_scalar(const float *q, const void *rows,      \
					size_t n, size_t dim, double *out_dot, \
					double *out_sq)                        \
	{                                                                      \
		for (size_t r = 0; r < n; r++) {                               \
			double s[4] = {0}, t[4] = {0};                         \
			for (size_t i = 0; i < dim; i++) {                     \
				double x = load_##type(rows, r * dim + i);     \
				s[i & 3] += q[i] * x;                          \
				t[i & 3] += x * x;                             \
			}                                                      \
			out_dot[r] = (s[0] + s[1]) + (s[2] + s[3]);            \
			out_sq[r] = (t[0] + t[1]) + (t[2] + t[3]);             \
		}                                                              \
	}

#define DEFINE_L2SQ(type)                                                      \
	static void l2sq_##type##_scalar(const float *q, const void *rows,     \
					 size_t n, size_t dim, double *out)    \
	{                                                                      \
		for (size_t r = 0; r < n; r++) {                               \
			double s[4] = {0};                                     \
			for (size_t i = 0; i < dim; i++) {                     \
				double x = load_##type(rows, r * dim + i);     \
				s[i & 3] += (q[i] - x) * (q[i] - x);           \
			}                                                      \
			out[r] = (s[0] + s[1]) + (s[2] + s[3]);                \
		}                                                              \
	}

DEFINE_DOT(f32)
DEFINE_DOT(f16)
DEFINE_L2SQ(f32)
DEFINE_L2SQ(f16)

static void wht_f32_scalar(float *x, size_t n)
{
	for (size_t h = 1; h < n; h *= 2)
		for (size_t i = 0; i < n; i += 2 * h)
			for (size_t j = i; j < i + h; j++) {
				float a = x[j], b = x[j + h];
				x[j] = a + b;
				x[j + h] = a - b;
			}
}

static void flip_f32_scalar(float *x, const float *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] *= s[i];
}

static void butterfly_f32_scalar(float *x, size_t half)
{
	const float scale = 0x1.6a09e6p-1f; /* 1 / sqrt 2 */

	for (size_t i = 0; i < half; i++) {
		float a = x[i], b = x[i + half];
		x[i] = (a + b) * scale;
		x[i + half] = (a - b) * scale;
	}
}

static void code_f32_scalar(const float *x, const float *c, size_t words,
			    uint8_t *code, struct vf_residual *out)
{
	*out = (struct vf_residual){0};
	for (size_t w = 0; w < words; w++, x += 64, c += 64) {
		uint64_t bits = 0;
		float l1 = 0, l2sq = 0, rc = 0; /* short sums, so float does */
		for (size_t i = 0; i < 64; i++) {
			float r = x[i] - c[i];
			bits |= (uint64_t)(r >= 0) << i;
			l1 += r < 0 ? -r : r;
			l2sq += r * r;
			rc += r * c[i];
		}
		vf_put_le64(code + w * 8, bits);
		out->ones += (uint32_t)__builtin_popcountll(bits);
		out->l1 += l1;
		out->l2sq += l2sq;
		out->rc += rc;
	}
}

float vf_half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31;
	uint32_t m = h & 1023, bits;
	float f;

	if (e == 31) {
		bits = sign | 0x7f800000 | m << 13;
	} else if (e) {
		bits = sign | (e + 112) << 23 | m << 13;
	} else { /* zero or subnormal: m * 2^-24 */
		f = (float)m * 0x1p-24f;
		return sign ? -f : f;
	}
	memcpy(&f, &bits, sizeof(f));
	return f;
}

uint16_t vf_float_to_half(float f)
{
	uint32_t bits, sign, e, m, shift, half, rest;

	memcpy(&bits, &f, sizeof(bits));
	sign = bits >> 16 & 0x8000;
	e = bits >> 23 & 255;
	m = bits & 0x7fffff;
	if (e == 255) /* infinity, or a NaN that stays one */
		return (uint16_t)(sign | 0x7c00 | (m ? 0x200 | m >> 13 : 0));
	if (e >= 143) /* 2^16 and up */
		return (uint16_t)(sign | 0x7c00);
	if (e < 102) /* below half of the smallest subnormal */
		return (uint16_t)sign;
	m |= 0x800000;
	shift = e < 113 ? 126 - e : 13;
	half = m >> shift;
	rest = m & ((1u << shift) - 1);
	if (rest > 1u << (shift - 1) ||
	    (rest == 1u << (shift - 1) && (half & 1)))
		half++;
	/* The implicit bit of a normal number adds 1 to its exponent. */
	return (uint16_t)(sign | (e < 113 ? half : half + ((e - 113) << 10)));
}

static void widen_f16_scalar(const void *x, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = load_f16(x, i);
}

static void narrow_f32_scalar(const float *x, size_t n, void *out)
{
	for (size_t i = 0; i < n; i++)
		vf_put_le16((char *)out + i * 2, vf_float_to_half(x[i]));
}

static const struct vf_kernels scalar = {
	.name = "scalar",
	.b1q4 = b1q4_scalar,
	.hamming = hamming_scalar,
	.estimate = vf_estimate_scalar,
	.bits_i16 = vf_bits_i16_scalar,
	.bytes_i16 = vf_bytes_i16_scalar,
	.dot_f32 = dot_f32_scalar,
	.dot_f16 = dot_f16_scalar,
	.l2sq_f32 = l2sq_f32_scalar,
	.l2sq_f16 = l2sq_f16_scalar,
	.wht_f32 = wht_f32_scalar,
	.flip_f32 = flip_f32_scalar,
	.butterfly_f32 = butterfly_f32_scalar,
	.code_f32 = code_f32_scalar,
	.widen_f16 = widen_f16_scalar,
	.narrow_f32 = narrow_f32_scalar,
};

/* ---- choice ---------------------------------------------------------------------------- */

#if !defined(__x86_64__)
const struct vf_kernels *vf_kernels_avx2(void)
{
	return NULL;
}

const struct vf_kernels *vf_kernels_avx512(void)
{
	return NULL;
}

const struct vf_kernels *vf_kernels_avx512vpopcntdq(void)
{
	return NULL;
}
#endif

#if !defined(__aarch64__)
const struct vf_kernels *vf_kernels_neon(void)
{
	return NULL;
}
#endif

const struct vf_kernels *vf_kernels_named(const char *name)
{
	if (!strcmp(name, "scalar"))
		return &scalar;
	if (!strcmp(name, "avx2"))
		return vf_kernels_avx2();
	if (!strcmp(name, "avx512"))
		return vf_kernels_avx512();
	if (!strcmp(name, "avx512vpopcntdq"))
		return vf_kernels_avx512vpopcntdq();
	if (!strcmp(name, "neon"))
		return vf_kernels_neon();
	return NULL;
}

/* Is @name one of the names, separated by commas, in VF_CPU_DISABLE? */
static bool is_disabled(const char *name)
{
	const char *at = getenv("VF_CPU_DISABLE");
	size_t len = strlen(name);

	while (at && *at) {
		size_t n = strcspn(at, ",");
		if (n == len && !memcmp(at, name, n))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

static const struct vf_kernels *choose(void)
{
	const struct vf_kernels *k = NULL;

	if (!is_disabled("avx512")) {
		if (!is_disabled("avx512vpopcntdq"))
			k = vf_kernels_avx512vpopcntdq();
		if (!k)
			k = vf_kernels_avx512();
	}
	if (!k && !is_disabled("avx2"))
		k = vf_kernels_avx2();
	if (!k && !is_disabled("neon"))
		k = vf_kernels_neon();
	return k ? k : &scalar;
}

const struct vf_kernels *vf_kernels(void)
{
	static _Atomic(const struct vf_kernels *) chosen;
	const struct vf_kernels *k =
		atomic_load_explicit(&chosen, memory_order_relaxed);

	if (!k) { /* relaxed: what it points to is constant */
		k = choose();
		atomic_store_explicit(&chosen, k, memory_order_relaxed);
	}
	return k;
}
