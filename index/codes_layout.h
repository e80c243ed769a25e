/* What writing and reading codes.vix share; codes.h has the format. */
#ifndef VF_INDEX_CODES_LAYOUT_H
#define VF_INDEX_CODES_LAYOUT_H

#include "index/codes.h"

enum { VF_CODES_PARTS_MAX = 5 };

/* What lies by leaf, rows or extra bits, in its order there; at most so many. */
const enum vf_section *vf_codes_parts(bool extra, size_t *out_n);
/* Bytes of each row, of @n rows; 0: not by row. */
uint64_t vf_codes_row_len(const struct vf_codes *c, enum vf_section s);
uint64_t vf_codes_rows_len(const struct vf_codes *c, enum vf_section s,
			   uint64_t n);
bool vf_codes_is_extra(enum vf_section s);
/*
 * Whether there is something to be held by row: it has a section, or lies by
 * leaf.
 */
bool vf_codes_has_rows(const struct vf_codes *c, enum vf_section s,
		       bool has_section);

#endif
