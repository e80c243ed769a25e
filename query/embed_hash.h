/* The built-in embedder; its contract is embed.h's. */
#ifndef VF_QUERY_EMBED_HASH_H
#define VF_QUERY_EMBED_HASH_H

#include "query/embed.h"

int vf_embed_hash_open(uint32_t dim, const void *data, size_t len,
		       struct vf_embedder **out);

#endif
