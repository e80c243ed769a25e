/*
 * Which of many keys come twice: hashes of keys and the rows they belong to.
 * Sixteen bytes or so per key; equal hashes are hints for the caller to check.
 */
#ifndef VF_TOOLS_KEYSET_H
#define VF_TOOLS_KEYSET_H

#include "store/util.h"

struct vf_keyset {
	uint64_t *slots; /* [cap][2]: hash, row + 1; row 0 is an empty slot */
	size_t n, cap;	 /* cap: a power of two, or 0 */
};

/* Row of a key with the same hash; true when there is one. */
bool vf_keyset_find(const struct vf_keyset *k, uint64_t hash,
		    uint64_t *out_row);
/*
 * Add a key.  *out_row is the first row with this hash that is there already,
 * else @row; both stay.  Returns 0; -ENOMEM.
 */
int vf_keyset_add(struct vf_keyset *k, uint64_t hash, uint64_t row,
		  uint64_t *out_row);
/* Call @fn with each row of this hash; non-zero stops and is returned. */
int vf_keyset_each(const struct vf_keyset *k, uint64_t hash,
		   int (*fn)(void *arg, uint64_t row), void *arg);
void vf_keyset_fini(struct vf_keyset *k);

#endif
