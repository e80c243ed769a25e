/*
 * NEON of 64-bit ARM, which every such CPU has; no extension is used.
 *
 * Rows, codes and halves are loaded as bytes: they have any alignment.
 */
#include "index/kernels.h"
#include "index/kernels_wht.h"
#include "index/quantize.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

/* ---- estimates -------------------------------------------------------------------------- */

/* Weighted counts of 16 bytes: at most 8 * 15 = 120 each, so bytes hold it. */
static inline uint8x16_t weigh(uint8x16_t c, const uint64_t *planes,
			       size_t words, size_t w)
{
	uint8x16_t sum = vdupq_n_u8(0);

	for (int j = 3; j >= 0; j--) {
		uint8x16_t p = vld1q_u8(
			(const void *)(planes + (size_t)j * words + w));
		sum = vaddq_u8(vaddq_u8(sum, sum), vcntq_u8(vandq_u8(c, p)));
	}
	return sum;
}

/* The same of the last word of an odd number. */
static inline uint8x8_t weigh_tail(uint8x8_t c, const uint64_t *planes,
				   size_t words, size_t w)
{
	uint8x8_t sum = vdup_n_u8(0);

	for (int j = 3; j >= 0; j--) {
		uint8x8_t p =
			vld1_u8((const void *)(planes + (size_t)j * words + w));
		sum = vadd_u8(vadd_u8(sum, sum), vcnt_u8(vand_u8(c, p)));
	}
	return sum;
}

static void b1q4_neon(const uint8_t *codes, size_t n, size_t words,
		      const uint64_t *planes, uint32_t *out)
{
	for (size_t r = 0; r < n; r++, codes += words * 8) {
		uint32x4_t acc = vdupq_n_u32(0);
		size_t w = 0;
		for (; w + 2 <= words; w += 2) {
			uint8x16_t s = weigh(vld1q_u8(codes + w * 8), planes,
					     words, w);
			acc = vpadalq_u16(acc, vpaddlq_u8(s));
		}
		out[r] = vaddvq_u32(acc);
		if (w < words)
			out[r] += vaddlv_u8(weigh_tail(vld1_u8(codes + w * 8),
						       planes, words, w));
	}
}

static void hamming_neon(const uint8_t *codes, size_t n, size_t words,
			 const uint64_t *q, uint32_t *out)
{
	for (size_t r = 0; r < n; r++, codes += words * 8) {
		uint32x4_t acc = vdupq_n_u32(0);
		size_t w = 0;
		for (; w + 2 <= words; w += 2) {
			uint8x16_t d =
				veorq_u8(vld1q_u8(codes + w * 8),
					 vld1q_u8((const void *)(q + w)));
			acc = vpadalq_u16(acc, vpaddlq_u8(vcntq_u8(d)));
		}
		out[r] = vaddvq_u32(acc);
		if (w < words)
			out[r] += vaddlv_u8(vcnt_u8(
				veor_u8(vld1_u8(codes + w * 8),
					vld1_u8((const void *)(q + w)))));
	}
}

static uint64_t estimate_neon(const struct vf_query_code *q,
			      const struct vf_factors *f,
			      const uint32_t *counts, size_t n, float limit,
			      float *out)
{
	static const uint32_t bit[] = {1, 2, 4, 8};
	const uint32x4_t bits = vld1q_u32(bit);
	uint64_t near = 0;
	size_t r = 0;

	for (; r + 4 <= n; r += 4) {
		float32x4x4_t c = vld4q_f32((const float *)(f + r));
		float32x4_t ones =
			vcvtq_f32_u32(vreinterpretq_u32_f32(c.val[3]));
		float32x4_t count = vcvtq_f32_u32(vld1q_u32(counts + r));
		float32x4_t s = vaddq_f32(vmulq_n_f32(ones, q->lo),
					  vmulq_n_f32(count, q->step));
		s = vsubq_f32(vaddq_f32(s, s), vdupq_n_f32(q->sum));
		s = vaddq_f32(vaddq_f32(vdupq_n_f32(q->base), c.val[0]),
			      vmulq_f32(c.val[1], s));
		vst1q_f32(out + r, s);
		near |= (uint64_t)vaddvq_u32(vbicq_u32(
				bits, vcgtq_f32(s, vdupq_n_f32(limit))))
			<< r;
	}
	if (r < n)
		near |= vf_estimate_scalar(q, f + r, counts + r, n - r, limit,
					   out + r)
			<< r;
	return near;
}

/* ---- distances -------------------------------------------------------------------------- */

static inline float32x4_t load4_f32(const void *x, size_t i)
{
	return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)x + i * 4));
}

static inline float32x4_t load4_f16(const void *x, size_t i)
{
	return vcvt_f32_f16(
		vreinterpret_f16_u8(vld1_u8((const uint8_t *)x + i * 2)));
}

static inline double load1_f32(const void *x, size_t i)
{
	float v;
	memcpy(&v, (const char *)x + i * 4, 4);
	return v;
}

static inline double load1_f16(const void *x, size_t i)
{
	uint16_t h;
	memcpy(&h, (const char *)x + i * 2, 2);
	return vf_half_to_float(h);
}

#define DEFINE_DOT(type, size)                                                 \
	static void dot_##type##_neon(const float *q, const void *rows,        \
				      size_t n, size_t dim, double *out_dot,   \
				      double *out_sq)                          \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			float64x2_t s[2] = {vdupq_n_f64(0), vdupq_n_f64(0)};   \
			float64x2_t t[2] = {s[0], s[0]};                       \
			double tail = 0, tail_sq = 0;                          \
			size_t i = 0;                                          \
			for (; i + 4 <= dim; i += 4) {                         \
				float32x4_t a = load4_f32(q, i);               \
				float32x4_t b = load4_##type(row, i);          \
				float64x2_t lo =                               \
					vcvt_f64_f32(vget_low_f32(b));         \
				float64x2_t hi = vcvt_high_f64_f32(b);         \
				s[0] = vfmaq_f64(                              \
					s[0], vcvt_f64_f32(vget_low_f32(a)),   \
					lo);                                   \
				s[1] = vfmaq_f64(s[1], vcvt_high_f64_f32(a),   \
						 hi);                          \
				t[0] = vfmaq_f64(t[0], lo, lo);                \
				t[1] = vfmaq_f64(t[1], hi, hi);                \
			}                                                      \
			for (; i < dim; i++) {                                 \
				double x = load1_##type(row, i);               \
				tail += q[i] * x;                              \
				tail_sq += x * x;                              \
			}                                                      \
			out_dot[r] = vaddvq_f64(vaddq_f64(s[0], s[1])) + tail; \
			out_sq[r] =                                            \
				vaddvq_f64(vaddq_f64(t[0], t[1])) + tail_sq;   \
		}                                                              \
	}

#define DEFINE_L2SQ(type, size)                                                \
	static void l2sq_##type##_neon(const float *q, const void *rows,       \
				       size_t n, size_t dim, double *out)      \
	{                                                                      \
		const char *row = rows;                                        \
		for (size_t r = 0; r < n; r++, row += dim * size) {            \
			float64x2_t s[2] = {vdupq_n_f64(0), vdupq_n_f64(0)};   \
			double tail = 0;                                       \
			size_t i = 0;                                          \
			for (; i + 4 <= dim; i += 4) {                         \
				float32x4_t a = load4_f32(q, i);               \
				float32x4_t b = load4_##type(row, i);          \
				float64x2_t d = vsubq_f64(                     \
					vcvt_f64_f32(vget_low_f32(a)),         \
					vcvt_f64_f32(vget_low_f32(b)));        \
				float64x2_t e =                                \
					vsubq_f64(vcvt_high_f64_f32(a),        \
						  vcvt_high_f64_f32(b));       \
				s[0] = vfmaq_f64(s[0], d, d);                  \
				s[1] = vfmaq_f64(s[1], e, e);                  \
			}                                                      \
			for (; i < dim; i++) {                                 \
				double d = q[i] - load1_##type(row, i);        \
				tail += d * d;                                 \
			}                                                      \
			out[r] = vaddvq_f64(vaddq_f64(s[0], s[1])) + tail;     \
		}                                                              \
	}

DEFINE_DOT(f32, 4)
DEFINE_DOT(f16, 2)
DEFINE_L2SQ(f32, 4)
DEFINE_L2SQ(f16, 2)

/* ---- rotation ----------------------------------------------------------------------------- */

/* The stages of distance 1 and 2 inside four floats. */
static inline float32x4_t wht4(float32x4_t v)
{
	const float32x4_t s1 = {1, -1, 1, -1}, s2 = {1, 1, -1, -1};

	v = vfmaq_f32(vtrn1q_f32(v, v), vtrn2q_f32(v, v), s1);
	return vfmaq_f32(vcombine_f32(vget_low_f32(v), vget_low_f32(v)),
			 vcombine_f32(vget_high_f32(v), vget_high_f32(v)), s2);
}

VF_DEFINE_WHT(, neon, float32x4_t, vld1q_f32, vst1q_f32, wht4)

static void flip_f32_neon(float *x, const float *s, size_t n)
{
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		vst1q_f32(x + i, vmulq_f32(vld1q_f32(x + i), vld1q_f32(s + i)));
	for (; i < n; i++)
		x[i] *= s[i];
}

static void butterfly_f32_neon(float *x, size_t half)
{
	const float scale = 0x1.6a09e6p-1f; /* 1 / sqrt 2 */
	size_t i = 0;

	for (; i + 4 <= half; i += 4) {
		float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(x + i + half);
		vst1q_f32(x + i, vmulq_n_f32(vaddq_f32(a, b), scale));
		vst1q_f32(x + i + half, vmulq_n_f32(vsubq_f32(a, b), scale));
	}
	for (; i < half; i++) {
		float a = x[i], b = x[i + half];
		x[i] = (a + b) * scale;
		x[i + half] = (a - b) * scale;
	}
}

/* ---- coding ------------------------------------------------------------------------------- */

static void code_f32_neon(const float *x, const float *c, size_t words,
			  uint8_t *code, struct vf_residual *out)
{
	const uint32x4_t lane = {1, 2, 4, 8};

	*out = (struct vf_residual){0};
	for (size_t w = 0; w < words; w++) {
		float32x4_t l1 = vdupq_n_f32(0), l2sq = l1, rc = l1;
		uint64_t bits = 0;
		for (size_t i = 0; i < 64; i += 4, x += 4, c += 4) {
			float32x4_t centre = vld1q_f32(c);
			float32x4_t r = vsubq_f32(vld1q_f32(x), centre);
			uint32x4_t set = vandq_u32(vcgezq_f32(r), lane);
			bits |= (uint64_t)vaddvq_u32(set) << i;
			l1 = vaddq_f32(l1, vabsq_f32(r));
			l2sq = vfmaq_f32(l2sq, r, r);
			rc = vfmaq_f32(rc, r, centre);
		}
		memcpy(code + w * 8, &bits, 8);
		out->ones += (uint32_t)__builtin_popcountll(bits);
		out->l1 += vaddvq_f32(l1);
		out->l2sq += vaddvq_f32(l2sq);
		out->rc += vaddvq_f32(rc);
	}
}

/* ---- halves ----------------------------------------------------------------------------- */

static void widen_f16_neon(const void *x, size_t n, float *out)
{
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		vst1q_f32(out + i, load4_f16(x, i));
	for (; i < n; i++)
		out[i] = (float)load1_f16(x, i);
}

static void narrow_f32_neon(const float *x, size_t n, void *out)
{
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		vst1_u8((uint8_t *)out + i * 2,
			vreinterpret_u8_f16(vcvt_f16_f32(vld1q_f32(x + i))));
	for (; i < n; i++) {
		uint16_t h = vf_float_to_half(x[i]);
		memcpy((char *)out + i * 2, &h, 2);
	}
}

static const struct vf_kernels neon = {
	.name = "neon",
	.b1q4 = b1q4_neon,
	.hamming = hamming_neon,
	.estimate = estimate_neon,
	.bits_i16 = vf_bits_i16_neon,
	.bytes_i16 = vf_bytes_i16_neon,
	.dot_f32 = dot_f32_neon,
	.dot_f16 = dot_f16_neon,
	.l2sq_f32 = l2sq_f32_neon,
	.l2sq_f16 = l2sq_f16_neon,
	.wht_f32 = wht_f32_neon,
	.flip_f32 = flip_f32_neon,
	.butterfly_f32 = butterfly_f32_neon,
	.code_f32 = code_f32_neon,
	.widen_f16 = widen_f16_neon,
	.narrow_f32 = narrow_f32_neon,
};

const struct vf_kernels *vf_kernels_neon(void)
{
	return &neon;
}
#endif
