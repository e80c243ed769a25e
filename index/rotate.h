/*
 * A seeded random rotation in n log n: sign flips and Walsh-Hadamard rounds.
 *
 * A dimension is padded with zeros to a multiple of 64, at least 256: on short
 * vectors more code bits cost little and tell much more.  Where the padded
 * dimension D is no power of two, each round transforms the first 2^k
 * coordinates, then the last 2^k (they overlap), and ends in butterflies
 * between the halves of D, which spread what only one block has seen.
 *
 * Source: Ailon and Chazelle, "The Fast Johnson-Lindenstrauss Transform",
 * 2009; Kac's walk as in Jain et al., "Fast and memory-optimal dimension
 * reduction using Kac's walk", 2022.
 */
#ifndef VF_INDEX_ROTATE_H
#define VF_INDEX_ROTATE_H

#include "store/util.h"

struct vf_rotation;

/* The padded dimension.  Threads: any. */
uint32_t vf_padded_dim(uint32_t dim);

/* Returns 0; -EINVAL dim out of range; -ENOMEM. */
int vf_rotation_new(uint32_t dim, uint64_t seed, struct vf_rotation **out);
void vf_rotation_free(struct vf_rotation *r);

/*
 * @x    float[dim]
 * @out  float[vf_padded_dim(dim)], not @x; has the length of @x
 * Threads: any.
 */
void vf_rotate(const struct vf_rotation *r, const float *x, float *out);

/*
 * @x scaled to unit length: what cosine codes and compares.  A zero vector
 * stays what it is.
 * @out  float[dim], which is returned
 */
const float *vf_unit_length(const float *x, uint32_t dim, float *out);

#endif
