/*
 * What one LIST told of an index: the first page of everything in its folder.
 * Of an index that is not large it is all that there is, so that who opens one
 * asks the bucket once where else each name would be a request.
 *
 * What it names may be gone, and what came later it does not have: it answers
 * only for objects that never change, and its age is for its holder to judge.
 */
#ifndef VF_STORE_LISTED_H
#define VF_STORE_LISTED_H

#include <stdatomic.h>

#include "store/bucket.h"
#include "store/util.h"

struct vf_listed {
	atomic_uint refs;
	char *prefix;	   /* "<index>/" */
	uint64_t seen_ns;  /* before it was asked, as vf_now_ns, */
	uint64_t seen_ms;  /* and on CLOCK_BOOTTIME */
	bool is_whole;	   /* there was no more */
	struct vf_buf all; /* of struct vf_listed_entry, ascending keys */
};

struct vf_listed_entry {
	char *key;
	struct vf_object object;
};

/*
 * One request.  Returns 0, and what to release with put: it may be empty;
 * -EACCES; -EREMOTEIO; -ENOMEM.  Threads: any.  Blocks.
 */
int vf_listed_new(struct vf_bucket *b, const char *index,
		  struct vf_listed **out);
struct vf_listed *vf_listed_get(struct vf_listed *l);
void vf_listed_put(struct vf_listed *l); /* accepts NULL */

size_t vf_listed_count(const struct vf_listed *l);
/* Entry @i < count. */
const struct vf_listed_entry *vf_listed_at(const struct vf_listed *l, size_t i);
/* The first whose key is not below @key; count when there is none. */
size_t vf_listed_lower(const struct vf_listed *l, const char *key);
/* NULL: it is not named. */
const struct vf_object *vf_listed_find(const struct vf_listed *l,
				       const char *key);
/* Whether something is named below folder @path. */
bool vf_listed_has_folder(const struct vf_listed *l, const char *path);
/* Whether all that begins with @prefix is named. */
bool vf_listed_covers(const struct vf_listed *l, const char *prefix);

#endif
