/*
 * Rows of numbers: conversion between element types, and what makes a row
 * unfit to be stored.  Pure; Threads: any.
 */
#ifndef VF_TOOLS_ROWS_H
#define VF_TOOLS_ROWS_H

#include "store/vecfs.h"

/* @n elements of @from, any alignment, to float. */
void vf_rows_to_f32(enum vf_dtype from, const void *in, size_t n, float *out);
/* Rounds to nearest even; too large becomes infinity. */
void vf_rows_to_f16(const float *in, size_t n, uint16_t *out);

/*
 * The first row that cannot be stored, or @n when all can.
 *
 * @out_reason  a constant that ends the sentence "row 17 ..."
 */
size_t vf_rows_check(const float *x, size_t n, uint32_t dim,
		     enum vf_metric metric, const char **out_reason);

/* The same for rows that are to become f16: beyond 65504. */
size_t vf_rows_check_f16(const float *x, const uint16_t *half, size_t n,
			 uint32_t dim, const char **out_reason);

#endif
