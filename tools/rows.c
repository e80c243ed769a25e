/*
 * One pass decides for almost every row: the sum of its squares is finite
 * only when each element is, and zero only when each is.
 */
#include "tools/rows.h"

#include <float.h>
#include <math.h>

#include "store/util.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---- halves ----------------------------------------------------------------- */

static float f32_of_half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = h & 0x7fff;
	float f;

	if (bits >= 0x7c00) /* infinity and NaN keep their payload */
		bits = 0x7f800000 | (bits & 0x3ff) << 13;
	else if (bits >= 0x400)
		bits = (bits << 13) + ((127 - 15) << 23);
	else {
		f = (float)bits * 0x1p-24f;
		memcpy(&bits, &f, 4);
	}
	bits |= sign;
	memcpy(&f, &bits, 4);
	return f;
}

static uint16_t half_of_f32(float f)
{
	uint32_t bits, sign;

	memcpy(&bits, &f, 4);
	sign = bits >> 16 & 0x8000;
	bits &= 0x7fffffff;
	if (bits > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
	if (bits >= 0x477ff000) /* 65520 and more */
		return (uint16_t)(sign | 0x7c00);
	if (bits < 0x38800000) { /* below 2^-14: the FPU rounds to 2^-24 */
		float a = fabsf(f) + 0.5f;
		memcpy(&bits, &a, 4);
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	bits += 0xfff + (bits >> 13 & 1);
	return (uint16_t)(sign | ((bits - ((127 - 15) << 23)) >> 13));
}

static void halves_to_f32_scalar(const uint8_t *in, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = f32_of_half(vf_le16(in + 2 * i));
}

static void f32_to_halves_scalar(const float *in, size_t n, uint16_t *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = half_of_f32(in[i]);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static void
halves_to_f32_f16c(const uint8_t *in, size_t n, float *out)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(out + i,
				 _mm256_cvtph_ps(_mm_loadu_si128(
					 (const __m128i *)(in + 2 * i))));
	halves_to_f32_scalar(in + 2 * i, n - i, out + i);
}

__attribute__((target("avx,f16c"))) static void
f32_to_halves_f16c(const float *in, size_t n, uint16_t *out)
{
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		_mm_storeu_si128((__m128i *)(out + i),
				 _mm256_cvtps_ph(_mm256_loadu_ps(in + i),
						 _MM_FROUND_TO_NEAREST_INT));
	f32_to_halves_scalar(in + i, n - i, out + i);
}

/* gcc 12 does not know "f16c" by name here; AVX2 machines all have it. */
static bool have_f16c(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
static bool have_f16c(void)
{
	return false;
}
#define halves_to_f32_f16c halves_to_f32_scalar
#define f32_to_halves_f16c f32_to_halves_scalar
#endif

void vf_rows_to_f32(enum vf_dtype from, const void *in, size_t n, float *out)
{
	const uint8_t *b = in;

	if (from == VF_F16 && have_f16c())
		halves_to_f32_f16c(b, n, out);
	else if (from == VF_F16)
		halves_to_f32_scalar(b, n, out);
	else if (from == VF_U8)
		for (size_t i = 0; i < n; i++)
			out[i] = b[i];
	else
		memcpy(out, in, n * sizeof(float));
}

void vf_rows_to_f16(const float *in, size_t n, uint16_t *out)
{
	if (have_f16c())
		f32_to_halves_f16c(in, n, out);
	else
		f32_to_halves_scalar(in, n, out);
}

/* ---- checks --------------------------------------------------------------------- */

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));

static float sum_squares(const float *x, size_t n)
{
	v8f a = {0}, b = {0};
	size_t i = 0;
	float sum = 0;

	for (; i + 16 <= n; i += 16) {
		v8f p = *(const v8f *)(x + i), q = *(const v8f *)(x + i + 8);
		a += p * p;
		b += q * q;
	}
	for (; i < n; i++)
		sum += x[i] * x[i];
	a += b;
	for (i = 0; i < 8; i++)
		sum += a[i];
	return sum;
}

static const char *explain_row(const float *x, uint32_t dim)
{
	for (size_t i = 0; i < dim; i++)
		if (isnan(x[i]))
			return "holds a NaN";
	for (size_t i = 0; i < dim; i++)
		if (isinf(x[i]))
			return "holds an infinity";
	return "is too long: its squared length overflows float32";
}

size_t vf_rows_check(const float *x, size_t n, uint32_t dim,
		     enum vf_metric metric, const char **out_reason)
{
	for (size_t i = 0; i < n; i++, x += dim) {
		float s = sum_squares(x, dim);
		if (!isfinite(s)) {
			*out_reason = explain_row(x, dim);
			return i;
		}
		if (metric == VF_COSINE && s < FLT_MIN) {
			*out_reason = "is a zero vector, which has no "
				      "direction for cosine";
			return i;
		}
	}
	return n;
}

size_t vf_rows_check_f16(const float *x, const uint16_t *half, size_t n,
			 uint32_t dim, const char **out_reason)
{
	for (size_t i = 0; i < n; i++) {
		const uint16_t *row = half + i * dim;
		unsigned bad = 0;
		for (size_t j = 0; j < dim; j++)
			bad |= (row[j] & 0x7c00) == 0x7c00;
		for (size_t j = 0; bad && j < dim; j++)
			if ((row[j] & 0x7c00) == 0x7c00 &&
			    isfinite(x[i * dim + j])) {
				*out_reason = "holds a number over 65504, "
					      "which f16 cannot";
				return i;
			}
	}
	return n;
}
