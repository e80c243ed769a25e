/*
 * Small matrices that are read whole: queries, and the numbers of the rows
 * nearest to them.
 */
#ifndef VF_TOOLS_MATRIX_H
#define VF_TOOLS_MATRIX_H

#include "store/vecfs.h"

struct vf_matrix {
	size_t n;
	uint32_t dim;
	float *x; /* [n][dim], caller's to free() */
};

/*
 * The first @max rows of a .npy file of <f4, <f2 or |u1.
 * Returns 0; -EINVAL; -ENOMEM; -errno; logged.  Threads: any.
 */
int vf_matrix_read(const char *path, size_t max, struct vf_matrix *out);

struct vf_ids {
	size_t n;
	uint32_t k;
	int64_t *id; /* [n][k], caller's to free() */
};

/*
 * The same of whole numbers: .npy of <i4, <u4 or <i8, or .ivecs (each row an
 * int32 length, all alike, and as many int32).
 */
int vf_ids_read(const char *path, size_t max, struct vf_ids *out);

#endif
