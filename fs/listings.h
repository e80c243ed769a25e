/*
 * What LISTs of indexes told, for as long as a name may be answered from memory.
 * Threads: any.
 */
#ifndef VF_FS_LISTINGS_H
#define VF_FS_LISTINGS_H

#include "fs/fs.h"
#include "store/listed.h"

/* What is known of @index, at most so old, released with vf_listed_put; NULL:
 * nothing. */
struct vf_listed *vf_listings_find(struct fs *fs, const char *index,
				   uint64_t max_age_ms);
/* The same; what is not known is asked for.  Returns as vf_listed_new. */
int vf_listings_ask(struct fs *fs, const char *index, uint64_t max_age_ms,
		    struct vf_listed **out);
void vf_listings_fini(struct fs *fs);

#endif
