/*
 * Objects of a shard that are stored compressed and are there decompressed, as
 * in a copy of what a mount shows.  The log has a checksum of the compressed
 * bytes alone; codes.vix has one of each row and line.
 */
#ifndef VF_TOOLS_PLAIN_H
#define VF_TOOLS_PLAIN_H

#include "store/commit.h"

/*
 * Every byte of the vectors or records (@object, of @r) and dead rows too.
 * Returns 0; -EBADMSG one is another (not logged, if it is not of codes.vix);
 * -ECANCELED after a signal; others, logged.
 */
int vf_plain_verify(struct vf_bucket *b, const struct vf_state *s,
		    const struct vf_shard_ref *r,
		    const struct vf_object_ref *object);

#endif
