/*
 * The inner loops: code estimates, exact distances, rotation, coding, halves.
 *
 * One table is chosen when the first caller asks: the widest instruction set
 * that the CPU has and VF_CPU_DISABLE (a list, "avx512,avx2") leaves.  The
 * scalar functions in kernels.c are the definition.  Other variants give the
 * same bits in b1q4, hamming, estimate, bits_i16, bytes_i16, wht, flip, butterfly, the
 * code's bits and the conversions of numbers (a NaN stays some NaN); in sums they add in another
 * order, so that n products of magnitude m may differ by n * m * 2^-52 in dot
 * and l2sq, which sum in double, and n * m * 2^-22 in the sums of code_f32.
 *
 * Pointers to rows, codes and halves have any alignment, floats that of a
 * float; nothing beyond the last element is read or written.  Threads: any.
 */
#ifndef VF_INDEX_KERNELS_H
#define VF_INDEX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct vf_factors;
struct vf_query_code;

/* What coding a row finds out about its residual r = x - c. */
struct vf_residual {
	double l1;   /* |r|_1 */
	double l2sq; /* |r|^2 */
	double rc;   /* <r, c> */
	uint32_t ones;
};

/*
 * Rows of B-bit codes, laid out as index/refine.h says: the topmost bit of
 * each dimension in one array, the others in another.
 */
struct vf_bit_rows {
	const uint8_t *codes; /* [][words * 8] */
	const uint8_t *extra; /* [][words * 8 * n_extra]; any when 0 */
	const uint32_t *rows; /* [n]: which of them */
	size_t n;
	size_t words;	  /* dimensions / 64, at most 64 */
	uint32_t n_extra; /* bits besides the topmost, 0..7 */
};

struct vf_kernels {
	const char *
		name; /* "scalar", "avx2", "avx512", "avx512vpopcntdq", "neon" */

	/*
	 * For each of @n codes of @words 64-bit words the weighted count
	 * sum over j of 2^j * popcount(code & plane j), j = 0..3.
	 * @planes  uint64_t[4][words]
	 */
	void (*b1q4)(const uint8_t *codes, size_t n, size_t words,
		     const uint64_t *planes, uint32_t *out);

	/* Bits in which each of @n codes differs from @q, uint64_t[words]. */
	void (*hamming)(const uint8_t *codes, size_t n, size_t words,
			const uint64_t *q, uint32_t *out);

	/*
	 * Distances of @n <= 64 rows from their weighted counts, vf_estimate of
	 * each.  Returns those that are not above @limit, a bit each; NaN is
	 * not.  Counts and ones of factors are below 2^31.
	 */
	uint64_t (*estimate)(const struct vf_query_code *q,
			     const struct vf_factors *f, const uint32_t *counts,
			     size_t n, float limit, float *out);

	/*
	 * <y, q> of each row, y its code as unsigned integers.
	 * @q  int16_t[words * 64], -16383..16383: so 32-bit lanes hold sums
	 */
	void (*bits_i16)(const struct vf_bit_rows *r, const int16_t *q,
			 int64_t *out);
	/*
	 * The same of rows that are a byte for each dimension.
	 * @dim   a multiple of 64, at most 4096
	 * @rows  [n]: which rows of @bytes
	 */
	void (*bytes_i16)(const uint8_t *bytes, size_t dim,
			  const uint32_t *rows, size_t n, const int16_t *q,
			  int64_t *out);

	/* <q, x> and |x|^2 of @n rows of @dim floats or halves. */
	void (*dot_f32)(const float *q, const void *rows, size_t n, size_t dim,
			double *out_dot, double *out_sq);
	void (*dot_f16)(const float *q, const void *rows, size_t n, size_t dim,
			double *out_dot, double *out_sq);
	/* |q - x|^2 of the same. */
	void (*l2sq_f32)(const float *q, const void *rows, size_t n, size_t dim,
			 double *out);
	void (*l2sq_f16)(const float *q, const void *rows, size_t n, size_t dim,
			 double *out);

	/* Unnormalised Walsh-Hadamard transform in place; @n a power of two. */
	void (*wht_f32)(float *x, size_t n);
	/* x[i] *= s[i] */
	void (*flip_f32)(float *x, const float *s, size_t n);
	/* (a + b) / sqrt 2 and (a - b) / sqrt 2 of x[i] and x[i + half]. */
	void (*butterfly_f32)(float *x, size_t half);

	/* The signs of x - c (set: not negative) of 64 * @words floats. */
	void (*code_f32)(const float *x, const float *c, size_t words,
			 uint8_t *code, struct vf_residual *out);

	/* Halves to floats, exact; floats to halves, nearest even. */
	void (*widen_f16)(const void *x, size_t n, float *out);
	void (*narrow_f32)(const float *x, size_t n, void *out);
};

/*
 * Ask for the code that is to be counted in two kilobytes from now: a quarter
 * is gained where codes come from memory (measured 1 to 8 KiB ahead, and of
 * a whole block at once, which is slower than none).  It may lie anywhere.
 */
enum { VF_KERNEL_AHEAD = 2048 };

static inline void vf_kernel_ahead(const uint8_t *code, size_t len)
{
	for (size_t i = 0; i < len; i += 64)
		__builtin_prefetch(code + VF_KERNEL_AHEAD + i);
}

/* The table in use; valid for ever. */
const struct vf_kernels *vf_kernels(void);

/* A table by name for tests and benches; NULL when this CPU lacks it. */
const struct vf_kernels *vf_kernels_named(const char *name);

/* One half to a float and back: the definition of the conversions. */
float vf_half_to_float(uint16_t h);
uint16_t vf_float_to_half(float f);

/* The definition; other variants end with it. */
uint64_t vf_estimate_scalar(const struct vf_query_code *q,
			    const struct vf_factors *f, const uint32_t *counts,
			    size_t n, float limit, float *out);

/* kernels_bits*.c, for the tables alone. */
void vf_bits_i16_scalar(const struct vf_bit_rows *r, const int16_t *q,
			int64_t *out);
void vf_bits_i16_avx2(const struct vf_bit_rows *r, const int16_t *q,
		      int64_t *out);
void vf_bits_i16_avx512(const struct vf_bit_rows *r, const int16_t *q,
			int64_t *out);
void vf_bits_i16_neon(const struct vf_bit_rows *r, const int16_t *q,
		      int64_t *out);
void vf_bytes_i16_scalar(const uint8_t *bytes, size_t dim, const uint32_t *rows,
			 size_t n, const int16_t *q, int64_t *out);
void vf_bytes_i16_avx2(const uint8_t *bytes, size_t dim, const uint32_t *rows,
		       size_t n, const int16_t *q, int64_t *out);
void vf_bytes_i16_avx512(const uint8_t *bytes, size_t dim, const uint32_t *rows,
			 size_t n, const int16_t *q, int64_t *out);
void vf_bytes_i16_neon(const uint8_t *bytes, size_t dim, const uint32_t *rows,
		       size_t n, const int16_t *q, int64_t *out);

/* Private to the folder: variants, NULL where not compiled or supported. */
const struct vf_kernels *vf_kernels_avx2(void);
const struct vf_kernels *vf_kernels_avx512(void);
const struct vf_kernels *vf_kernels_avx512vpopcntdq(void);
const struct vf_kernels *vf_kernels_neon(void);

#endif
