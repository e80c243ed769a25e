/*
 * Whether an object is as the record that names it says.
 */
#ifndef VF_TOOLS_OBJECTSUM_H
#define VF_TOOLS_OBJECTSUM_H

#include "store/commit.h"

/*
 * Reads all of @key.  Returns 0; -EBADMSG its length or checksum is another
 * (not logged); -ENOENT; -ECANCELED after a signal; others of the bucket.
 */
int vf_object_verify(struct vf_bucket *b, const char *key,
		     const struct vf_object_ref *ref);

#endif
