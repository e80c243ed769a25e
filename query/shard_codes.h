/*
 * codes.vix of one shard, read whole through a bucket.
 */
#ifndef VF_QUERY_SHARD_CODES_H
#define VF_QUERY_SHARD_CODES_H

#include "index/index.h"
#include "store/commit.h"

/*
 * Read, compared with its checksum and validated; the caller's to close.
 * Returns 0; -EBADMSG and others, logged.
 */
int vf_shard_codes_open(struct vf_bucket *b, const char *index,
			const struct vf_shard_ref *r, struct vf_index **out);

#endif
