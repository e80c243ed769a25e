/*
 * The point amid rows that others are measured from: what is rounded or coded
 * against it keeps the digits in which rows differ.
 *
 * It is their mean, but one row of a wrong unit would draw that so far away
 * that differences from it said nothing of all others: rows FAR times as far
 * as half of them are left out, until there is none.
 */
#ifndef VF_INDEX_AMID_H
#define VF_INDEX_AMID_H

#include <stddef.h>
#include <stdint.h>

struct vf_amid_rows {
	const float *x; /* [n][dim], borrowed */
	size_t n;
	uint32_t dim;
	const float *scale; /* [n] factor of each row; NULL: 1 */
	const float *extra; /* [n] one more coordinate; NULL: none */
	size_t n_max;	    /* so many of them are enough; 0: all */
};

/*
 * Rows that hold a NaN or an infinity do not count.
 * @out        [dim]
 * @out_extra  of the rows that count, the mean of the one more; or NULL
 * Returns 0; -ENOMEM.  Threads: any.
 */
int vf_amid_find(const struct vf_amid_rows *r, double *out, double *out_extra);
/* The same as floats, for who needs no more. */
int vf_amid_find_f32(const struct vf_amid_rows *r, float *out);

#endif
