/*
 * NumPy's file header, version 1.0 (2.0 and 3.0 are read too): pure parsing
 * and writing, no I/O.
 *
 * Source: numpy.lib.format, "NPY format".
 */
#ifndef VF_STORE_NPY_H
#define VF_STORE_NPY_H

#include "store/vecfs.h"

enum {
	VF_NPY_DATA_OFF = 4096, /* where rows begin in the files we write */
	VF_NPY_HEADER_MAX = 1 << 16, /* longest header that is read */
};

/* A C-ordered, little-endian matrix (a vector has one row). */
struct vf_npy {
	enum vf_dtype dtype;
	uint64_t n_rows;
	uint64_t dim;	   /* elements of a row */
	uint64_t data_off; /* bytes in front of the rows */
	uint64_t data_len; /* bytes of all rows; product checked */
};

/*
 * Parse the first @len bytes of a file.
 *
 * Returns 0; -ENODATA more bytes are needed (at most VF_NPY_HEADER_MAX);
 * -EINVAL with @out_reason, a constant: not npy, Fortran order, big-endian,
 * an element type we do not read, more than two dimensions, hostile sizes.
 * Threads: any.
 */
int vf_npy_parse(const void *p, size_t len, struct vf_npy *out,
		 const char **out_reason);

/* Any array, of elements that only its reader may know. */
struct vf_npy_array {
	char descr[32]; /* "<f8" */
	bool fortran;
	unsigned n_shape;  /* dimensions; only the first two are kept */
	uint64_t shape[2]; /* not checked */
	uint64_t data_off;
};

/* The same of any array of plain elements; returns as vf_npy_parse. */
int vf_npy_parse_array(const void *p, size_t len, struct vf_npy_array *out,
		       const char **out_reason);

/*
 * The header of ours for @npy's dtype, n_rows and dim: exactly
 * VF_NPY_DATA_OFF bytes into @out.  Deterministic, so that a reader can
 * compare it byte for byte.  Threads: any.
 */
void vf_npy_header(const struct vf_npy *npy, uint8_t out[VF_NPY_DATA_OFF]);

/* The same for a bool vector of @n_rows ("|b1", shape (n,)), any length:
 * returns the length of the header (a multiple of 64), 128 bytes at most. */
size_t vf_npy_bool_header(uint64_t n_rows, uint8_t out[128]);

#endif
