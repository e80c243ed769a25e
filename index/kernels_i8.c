#include "index/kernels_i8.h"
#include "index/kernels.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

static void dots_i8_scalar(const uint8_t *const *rows, size_t n_rows,
			   const int8_t *panels, size_t n_panels,
			   size_t n_quads, int32_t *out, size_t stride)
{
	for (size_t p = 0; p < n_panels; p++)
		for (size_t i = 0; i < n_rows; i++) {
			const int8_t *w = panels + p * n_quads * 4 * VF_PANEL;
			int32_t sum[VF_PANEL] = {0};
			for (size_t q = 0; q < n_quads; q++, w += 4 * VF_PANEL)
				for (size_t j = 0; j < VF_PANEL; j++)
					for (size_t d = 0; d < 4; d++)
						sum[j] += rows[i][4 * q + d] *
							  w[4 * j + d];
			memcpy(out + i * stride + p * VF_PANEL, sum,
			       sizeof(sum));
		}
}

static void keep_i8_scalar(const struct vf_panels *p, const int32_t *sums,
			   float step, float extra, struct vf_places *best)
{
	for (size_t i = 0; i < p->n_panels * VF_PANEL; i++) {
		size_t at = i % VF_PANEL;
		float s = (float)(sums[i] - p->bias[i]) * (p->mul[i] * step) +
			  p->add[i] + extra * p->we[i];
		if (s > best->score[at]) {
			best->score[at] = s;
			best->id[at] = p->first + (uint32_t)i;
		}
	}
}

/* A step so small that its inverse would overflow rounds all to zero. */
static float invert_step(float step)
{
	return step > FLT_MIN ? 1 / step : 0;
}

static uint8_t round_one(float d, float inverse)
{
	float v = d * inverse + (VF_BYTE_ZERO + .5f);

	return (uint8_t)(int)(v < 255 ? v : 255); /* positive: cut off */
}

static struct vf_rounded round_i8_scalar(const float *x, float scale,
					 const float *mid, size_t dim,
					 uint8_t *q)
{
	float most = 0, sq = 0;

	for (size_t i = 0; i < dim; i++) {
		float d = x[i] * scale - mid[i], a = d < 0 ? -d : d;
		most = a > most ? a : most;
		sq += d * d;
	}
	struct vf_rounded r = {most / 127, sqrtf(sq)};
	float inverse = invert_step(r.step);
	for (size_t i = 0; i < dim; i++)
		q[i] = round_one(x[i] * scale - mid[i], inverse);
	for (size_t i = dim; i % 4; i++)
		q[i] = VF_BYTE_ZERO;
	return r;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

AVX2 static inline __m256 load_row(const float *x, __m256 scale,
				   const float *mid)
{
	return _mm256_sub_ps(_mm256_mul_ps(_mm256_loadu_ps(x), scale),
			     _mm256_loadu_ps(mid));
}

/* The sum of eight, in one order. */
AVX2 static inline float sum_eight(__m256 v)
{
	float f[8];

	_mm256_storeu_ps(f, v);
	return ((f[0] + f[4]) + (f[2] + f[6])) +
	       ((f[1] + f[5]) + (f[3] + f[7]));
}

AVX2 static inline float most_of_eight(__m256 v)
{
	float f[8], most = 0;

	_mm256_storeu_ps(f, v);
	for (int i = 0; i < 8; i++)
		most = f[i] > most ? f[i] : most;
	return most;
}

/* The last dimensions, fewer than eight, are left to the definition. */
AVX2 static struct vf_rounded measure_avx2(const float *x, __m256 s,
					   const float *mid, size_t dim)
{
	const __m256 sign = _mm256_set1_ps(-0.f);
	__m256 most = _mm256_setzero_ps(), sq = _mm256_setzero_ps();
	float scale = _mm256_cvtss_f32(s), top, sum;
	size_t i = 0;

	for (; i + 8 <= dim; i += 8) {
		__m256 d = load_row(x + i, s, mid + i);
		most = _mm256_max_ps(_mm256_andnot_ps(sign, d), most);
		sq = _mm256_add_ps(sq, _mm256_mul_ps(d, d));
	}
	top = most_of_eight(most);
	sum = sum_eight(sq);
	for (; i < dim; i++) {
		float d = x[i] * scale - mid[i], a = d < 0 ? -d : d;
		top = a > top ? a : top;
		sum += d * d;
	}
	return (struct vf_rounded){top / 127, sqrtf(sum)};
}

AVX2 static struct vf_rounded round_i8_avx2(const float *x, float scale,
					    const float *mid, size_t dim,
					    uint8_t *q)
{
	const __m256 s = _mm256_set1_ps(scale), limit = _mm256_set1_ps(255);
	const __m256 zero = _mm256_set1_ps(VF_BYTE_ZERO + .5f);
	struct vf_rounded r = measure_avx2(x, s, mid, dim);
	float inverse = invert_step(r.step);
	const __m256 by = _mm256_set1_ps(inverse);
	size_t i = 0;

	for (; i + 8 <= dim; i += 8) {
		__m256 d = load_row(x + i, s, mid + i);
		__m256 v = _mm256_add_ps(_mm256_mul_ps(d, by), zero);
		__m256i n = _mm256_cvttps_epi32(_mm256_min_ps(v, limit));
		__m128i w = _mm_packus_epi32(_mm256_castsi256_si128(n),
					     _mm256_extracti128_si256(n, 1));
		_mm_storel_epi64((__m128i *)(q + i), _mm_packus_epi16(w, w));
	}
	for (; i < dim; i++)
		q[i] = round_one(x[i] * scale - mid[i], inverse);
	for (; i % 4; i++)
		q[i] = VF_BYTE_ZERO;
	return r;
}

/*
 * Bytes are widened to 16 bits: products of pairs of bytes as they are would
 * not fit there.  Each 32-bit sum is half of one centroid's.
 */
AVX2 static void run_panel_avx2(const uint8_t *const rows[2], const int8_t *w,
				size_t n_quads, int32_t *out[2])
{
	__m256i acc[2][4];

	for (int r = 0; r < 2; r++)
		for (int j = 0; j < 4; j++)
			acc[r][j] = _mm256_setzero_si256();
	for (size_t q = 0; q < n_quads; q++, w += 4 * VF_PANEL) {
		__m256i x[2];
		for (int r = 0; r < 2; r++) {
			int32_t quad;
			memcpy(&quad, rows[r] + 4 * q, sizeof(quad));
			x[r] = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
		}
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) {
			__m256i v = _mm256_cvtepi8_epi16(
				_mm_loadu_si128((const __m128i *)(w + 16 * j)));
			for (int r = 0; r < 2; r++)
				acc[r][j] = _mm256_add_epi32(
					acc[r][j], _mm256_madd_epi16(x[r], v));
		}
	}
	for (int r = 0; r < 2; r++)
		for (int j = 0; j < 4; j++) {
			__m128i lo = _mm256_castsi256_si128(acc[r][j]);
			__m128i hi = _mm256_extracti128_si256(acc[r][j], 1);
			_mm_storeu_si128((__m128i *)(out[r] + 4 * j),
					 _mm_hadd_epi32(lo, hi));
		}
}

/* An odd last row is taken twice. */
AVX2 static void dots_i8_avx2(const uint8_t *const *rows, size_t n_rows,
			      const int8_t *panels, size_t n_panels,
			      size_t n_quads, int32_t *out, size_t stride)
{
	for (size_t p = 0; p < n_panels; p++)
		for (size_t i = 0; i < n_rows; i += 2) {
			size_t k = i + 1 < n_rows ? i + 1 : i;
			const uint8_t *x[2] = {rows[i], rows[k]};
			int32_t *to[2] = {out + i * stride + p * VF_PANEL,
					  out + k * stride + p * VF_PANEL};
			run_panel_avx2(x, panels + p * n_quads * 4 * VF_PANEL,
				       n_quads, to);
		}
}

/*
 * Twelve rows by two panels: 24 sums in registers, so that the multipliers and
 * not the loads are the limit.
 */
enum { TILE_ROWS = 12 };

VNNI static inline __m512i broadcast(const uint8_t *at)
{
	int32_t quad;

	memcpy(&quad, at, sizeof(quad));
	return _mm512_set1_epi32(quad);
}

VNNI static void run_pair_vnni(const uint8_t *const *x, const int8_t *a,
			       const int8_t *b, size_t n_quads,
			       __m512i sum[2][TILE_ROWS])
{
	__m512i acc[2][TILE_ROWS];

#pragma GCC unroll 12
	for (int r = 0; r < TILE_ROWS; r++)
		acc[0][r] = acc[1][r] = _mm512_setzero_si512();
	for (size_t q = 0; q < n_quads; q++) {
		__m512i va = _mm512_loadu_si512(a + q * 4 * VF_PANEL);
		__m512i vb = _mm512_loadu_si512(b + q * 4 * VF_PANEL);
#pragma GCC unroll 12
		for (int r = 0; r < TILE_ROWS; r++) {
			__m512i v = broadcast(x[r] + 4 * q);
			acc[0][r] = _mm512_dpbusd_epi32(acc[0][r], v, va);
			acc[1][r] = _mm512_dpbusd_epi32(acc[1][r], v, vb);
		}
	}
#pragma GCC unroll 12
	for (int r = 0; r < TILE_ROWS; r++) {
		sum[0][r] = acc[0][r];
		sum[1][r] = acc[1][r];
	}
}

/* Short tiles repeat their last row and panel and drop those sums. */
VNNI static void dots_i8_vnni(const uint8_t *const *rows, size_t n_rows,
			      const int8_t *panels, size_t n_panels,
			      size_t n_quads, int32_t *out, size_t stride)
{
	size_t len = n_quads * 4 * VF_PANEL;

	for (size_t p = 0; p < n_panels; p += 2)
		for (size_t i = 0; i < n_rows; i += TILE_ROWS) {
			const int8_t *a = panels + p * len;
			const uint8_t *x[TILE_ROWS];
			__m512i sum[2][TILE_ROWS];
			size_t left = n_rows - i;
			size_t m = left < TILE_ROWS ? left : TILE_ROWS;
			for (size_t r = 0; r < TILE_ROWS; r++)
				x[r] = rows[i + (r < m ? r : m - 1)];
			run_pair_vnni(x, a, p + 1 < n_panels ? a + len : a,
				      n_quads, sum);
			for (size_t r = 0; r < m; r++) {
				int32_t *to =
					out + (i + r) * stride + p * VF_PANEL;
				_mm512_storeu_si512(to, sum[0][r]);
				if (p + 1 < n_panels)
					_mm512_storeu_si512(to + VF_PANEL,
							    sum[1][r]);
			}
		}
}

VNNI static void keep_i8_vnni(const struct vf_panels *p, const int32_t *sums,
			      float step, float extra, struct vf_places *best)
{
	const __m512 by = _mm512_set1_ps(step), e = _mm512_set1_ps(extra);
	__m512 top = _mm512_loadu_ps(best->score);
	__m512i id = _mm512_loadu_si512(best->id);
	__m512i now =
		_mm512_add_epi32(_mm512_set1_epi32((int32_t)p->first),
				 _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
						   10, 11, 12, 13, 14, 15));

	for (size_t i = 0; i < p->n_panels * VF_PANEL; i += VF_PANEL) {
		__m512 v = _mm512_cvtepi32_ps(
			_mm512_sub_epi32(_mm512_loadu_si512(sums + i),
					 _mm512_loadu_si512(p->bias + i)));
		v = _mm512_mul_ps(v, _mm512_mul_ps(_mm512_loadu_ps(p->mul + i),
						   by));
		v = _mm512_add_ps(v, _mm512_loadu_ps(p->add + i));
		v = _mm512_add_ps(v,
				  _mm512_mul_ps(e, _mm512_loadu_ps(p->we + i)));
		__mmask16 more = _mm512_cmp_ps_mask(v, top, _CMP_GT_OQ);
		top = _mm512_mask_mov_ps(top, more, v);
		id = _mm512_mask_mov_epi32(id, more, now);
		now = _mm512_add_epi32(now, _mm512_set1_epi32(VF_PANEL));
	}
	_mm512_storeu_ps(best->score, top);
	_mm512_storeu_si512(best->id, id);
}

static bool has_vnni(void)
{
	return __builtin_cpu_supports("avx512vnni") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl");
}

vf_dots_i8_fn *vf_dots_i8_named(const char *name)
{
	if (!strcmp(name, "scalar"))
		return dots_i8_scalar;
	if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2"))
		return dots_i8_avx2;
	if (!strcmp(name, "vnni") && has_vnni())
		return dots_i8_vnni;
	return NULL;
}

vf_round_i8_fn *vf_round_i8_named(const char *name)
{
	if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2"))
		return round_i8_avx2;
	return strcmp(name, "scalar") ? NULL : round_i8_scalar;
}

vf_keep_i8_fn *vf_keep_i8_named(const char *name)
{
	if (!strcmp(name, "vnni") && has_vnni())
		return keep_i8_vnni;
	return strcmp(name, "scalar") ? NULL : keep_i8_scalar;
}
#else
vf_keep_i8_fn *vf_keep_i8_named(const char *name)
{
	return strcmp(name, "scalar") ? NULL : keep_i8_scalar;
}

vf_round_i8_fn *vf_round_i8_named(const char *name)
{
	return strcmp(name, "scalar") ? NULL : round_i8_scalar;
}

vf_dots_i8_fn *vf_dots_i8_named(const char *name)
{
	return strcmp(name, "scalar") ? NULL : dots_i8_scalar;
}
#endif

vf_dots_i8_fn *vf_dots_i8(void)
{
	const char *may = vf_kernels()->name; /* obeys VF_CPU_DISABLE */
	vf_dots_i8_fn *fn = NULL;

	if (!strncmp(may, "avx512", 6))
		fn = vf_dots_i8_named("vnni");
	if (!fn && !strncmp(may, "avx", 3))
		fn = vf_dots_i8_named("avx2");
	return fn ? fn : dots_i8_scalar;
}

vf_round_i8_fn *vf_round_i8(void)
{
	vf_round_i8_fn *fn = NULL;

	if (!strncmp(vf_kernels()->name, "avx", 3))
		fn = vf_round_i8_named("avx2");
	return fn ? fn : round_i8_scalar;
}

vf_keep_i8_fn *vf_keep_i8(void)
{
	vf_keep_i8_fn *fn = NULL;

	if (!strncmp(vf_kernels()->name, "avx512", 6))
		fn = vf_keep_i8_named("vnni");
	return fn ? fn : keep_i8_scalar;
}
