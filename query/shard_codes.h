/*
 * codes.vix of one shard, read whole through a bucket.
 */
#ifndef VF_QUERY_SHARD_CODES_H
#define VF_QUERY_SHARD_CODES_H

#include "index/index.h"
#include "store/catalog.h"

/*
 * Read, compared with its checksum and validated; the caller's to close.
 * Returns 0; -EBADMSG and others, logged.
 */
int vf_shard_codes_open(struct vf_bucket *b, const char *index,
			const struct vf_shard_ref *r, struct vf_index **out);

/* The line_crcs of a vf_catalog_sync and of a vf_changer. */
int vf_shard_line_crcs(struct vf_bucket *b, const char *index,
		       const struct vf_shard_ref *r, uint32_t **out);

#endif
