/*
 * The values of one vector's metadata: a flat JSON object of strings, numbers,
 * booleans and lists of them, as it stands in a record line.  Pure.
 */
#ifndef VF_STORE_METADATA_H
#define VF_STORE_METADATA_H

#include "store/util.h"

enum { VF_METADATA_KEYS_MAX = 50 }; /* of one vector */

/* Ascending in the order in which postings keep them. */
enum vf_value_kind {
	VF_VALUE_HERE, /* the key is there; said once, before its values */
	VF_VALUE_BOOL,
	VF_VALUE_NUMBER,
	VF_VALUE_STRING,
};

struct vf_value {
	enum vf_value_kind kind;
	double number;	  /* of a boolean 0 or 1; never NaN, never -0 */
	const char *text; /* of a string, without its escapes */
	size_t len;
};

/* By kind, then by number or bytes.  Returns below, at or above 0. */
int vf_value_compare(const struct vf_value *a, const struct vf_value *b);

/*
 * Another value of @key; the elements of a list come one by one.  Views are
 * good during the call.  What is not 0 stops the walk and is returned.
 */
typedef int vf_metadata_fn(void *arg, const char *key, size_t key_len,
			   const struct vf_value *v);

/*
 * Visit every value of the object.  Numbers are the nearest doubles; beyond
 * their range they are infinite.  What is nested or null has no values.
 *
 * @scratch  room for texts with escapes, kept by the caller between calls
 *
 * Returns 0; -EBADMSG no object of this kind; -ENOMEM; what @fn returned.
 * Threads: any.
 */
int vf_metadata_walk(const char *json, size_t len, struct vf_buf *scratch,
		     vf_metadata_fn *fn, void *arg);

#endif
