/*
 * What the head of codes.vix of one shard says.
 */
#ifndef VF_TOOLS_CODES_HEAD_H
#define VF_TOOLS_CODES_HEAD_H

#include "store/commit.h"

struct vf_shard_codes_head {
	bool flat;     /* it follows no tree */
	uint32_t bits; /* of each dimension's code */
};

/* One small request.  Returns 0; -EBADMSG and others, logged. */
int vf_shard_codes_head(struct vf_bucket *b, const char *index,
			const struct vf_shard_ref *r,
			struct vf_shard_codes_head *out);

/*
 * Bits per dimension, from its head; 0: cannot be read (not logged).  One small
 * request.
 */
uint32_t vf_shard_codes_bits(struct vf_bucket *b, const char *index,
			     const struct vf_shard_ref *r);

#endif
