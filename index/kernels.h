/*
 * The inner loops: Walsh-Hadamard, code estimates, exact distances, halves.
 *
 * One table is chosen when the first caller asks: the widest instruction set
 * that the CPU has and VF_CPU_DISABLE ("avx512,avx2") leaves.  The scalar
 * functions in kernels.c are the definition; other variants may differ by the
 * order of float additions only: for n products of magnitude m by at most
 * n * m * 2^-23 in dot and l2sq, and not at all in b1q4 and the conversions.
 *
 * Shapes: @n elements or rows; pointers of any alignment; nothing is read
 * beyond the last element.  Threads: any.
 */
#ifndef VF_INDEX_KERNELS_H
#define VF_INDEX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct vf_kernels {
	const char *name; /* "scalar", "avx2", "avx512", "avx512vpopcntdq" */

	/*
	 * For each of @n codes of @words 64-bit words the weighted count
	 * sum over j of 2^j * popcount(code & plane j), j = 0..3.
	 * @planes  uint64_t[4][words]
	 */
	void (*b1q4)(const uint8_t *codes, size_t n, size_t words,
		     const uint64_t *planes, uint32_t *out);

	/* <q, x> of @n floats or halves. */
	float (*dot_f32)(const float *q, const void *x, size_t n);
	float (*dot_f16)(const float *q, const void *x, size_t n);
	/* |q - x|^2 */
	float (*l2sq_f32)(const float *q, const void *x, size_t n);
	float (*l2sq_f16)(const float *q, const void *x, size_t n);

	/* Unnormalised Walsh-Hadamard transform in place; @n a power of two. */
	void (*wht_f32)(float *x, size_t n);

	/* Halves to floats, exact; floats to halves, nearest even. */
	void (*widen_f16)(const void *x, size_t n, float *out);
	void (*narrow_f32)(const float *x, size_t n, void *out);
};

/* The table in use; valid for ever. */
const struct vf_kernels *vf_kernels(void);

/* A table by name for tests and benches; NULL when this CPU lacks it. */
const struct vf_kernels *vf_kernels_named(const char *name);

/* One half to a float and back: the definition of the conversions. */
float vf_half_to_float(uint16_t h);
uint16_t vf_float_to_half(float f);

/* Private to the folder: variants, NULL where not compiled or supported. */
const struct vf_kernels *vf_kernels_avx2(void);
const struct vf_kernels *vf_kernels_avx512(void);
const struct vf_kernels *vf_kernels_avx512vpopcntdq(void);

#endif
