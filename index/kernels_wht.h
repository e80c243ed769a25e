/*
 * The Walsh-Hadamard transform by vectors, for any instruction set.  What
 * happens inside a vector is the caller's; +, - and assignment of vectors are
 * those of the compiler.
 */
#ifndef VF_INDEX_KERNELS_WHT_H
#define VF_INDEX_KERNELS_WHT_H

#include "index/kernels.h"

/*
 * Defines wht_f32_<isa>.
 *
 * @target  attribute of functions, may be empty
 * @vector  type of a vector of floats
 * @load    vector at a float *;  @store (float *, vector)
 * @inside  vector to vector: all stages of distances inside one
 *
 * Two stages at once, of distance h, then 2h, so that each float is read half
 * as often; the last one alone where their number is odd.
 */
#define VF_DEFINE_WHT(target, isa, vector, load, store, inside)                \
	target static inline void two_stages_##isa(float *x, size_t h)         \
	{                                                                      \
		vector a = load(x), b = load(x + h);                           \
		vector c = load(x + 2 * h), d = load(x + 3 * h);               \
		vector ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;       \
		store(x, ab + cd);                                             \
		store(x + h, a_b + c_d);                                       \
		store(x + 2 * h, ab - cd);                                     \
		store(x + 3 * h, a_b - c_d);                                   \
	}                                                                      \
	target static void wht_f32_##isa(float *x, size_t n)                   \
	{                                                                      \
		const size_t width = sizeof(vector) / sizeof(float);           \
		size_t h = width;                                              \
		if (n < width) {                                               \
			vf_kernels_named("scalar")->wht_f32(x, n);             \
			return;                                                \
		}                                                              \
		for (size_t i = 0; i < n; i += width)                          \
			store(x + i, inside(load(x + i)));                     \
		for (; h * 4 <= n; h *= 4)                                     \
			for (size_t i = 0; i < n; i += 4 * h)                  \
				for (size_t j = i; j < i + h; j += width)      \
					two_stages_##isa(x + j, h);            \
		for (size_t j = 0; h < n && j < h; j += width) {               \
			vector a = load(x + j), b = load(x + j + h);           \
			store(x + j, a + b);                                   \
			store(x + j + h, a - b);                               \
		}                                                              \
	}

#endif
