/*
 * Which rows of a place have which value under which key: kept in the catalog's
 * environment, written when the place is read, gone with it.  A place never
 * changes but by the death of rows, which the state knows: postings say what
 * was there, and who asks takes the dead away.
 */
#ifndef VF_STORE_POSTINGS_H
#define VF_STORE_POSTINGS_H

#include "store/filter.h"

#include <lmdb.h>

struct vf_postings; /* of the place being read; Threads: one at a time */

/*
 * @skip     [n_skip] keys that are not wanted, borrowed
 * @run_len  bytes gathered in memory before they are written; 0: default
 * Returns 0; -ENOMEM.
 */
int vf_postings_new(const char *const *skip, size_t n_skip, size_t run_len,
		    struct vf_postings **out);
void vf_postings_free(struct vf_postings *p); /* accepts NULL */

/* Where they are written, in one transaction; places and rows ascend. */
struct vf_postings_to {
	MDB_txn *txn;
	MDB_dbi dbi;
	uint32_t place;
};

/*
 * The metadata of a row.  Memory is bounded: what is full is written.
 * Returns 0; -EBADMSG no metadata; -ENOMEM; those of vf_catalog_errno.
 */
int vf_postings_add(struct vf_postings *p, const struct vf_postings_to *to,
		    uint32_t row, const char *metadata, size_t len);
/* After the last row of a place; the next may begin.  As add. */
int vf_postings_finish(struct vf_postings *p, const struct vf_postings_to *to);

/* All of one place.  Returns 0; those of vf_catalog_errno. */
int vf_postings_forget(const struct vf_postings_to *at);

/*
 * The rows of the place that match, dead ones among them: bit i%64 of
 * bits[i/64], [@n_rows] in all, bits beyond it zero.
 * Returns 0; -EUCLEAN damaged; -ENOMEM; -EIO.
 */
int vf_postings_select(const struct vf_postings_to *at, uint64_t n_rows,
		       const struct vf_filter *f, uint64_t *bits);

#endif
