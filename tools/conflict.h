/*
 * Which of the keys to be put are in the index already.
 */
#ifndef VF_TOOLS_CONFLICT_H
#define VF_TOOLS_CONFLICT_H

#include "store/commit.h"
#include "tools/source.h"

/*
 * Compare the keys of @source with those of shards @first.. of @s.  Hashes in
 * codes.vix narrow, the record lines decide.
 *
 * @first_key  the automatic key of row 0, when the source has no keys
 * Returns 0; -EEXIST, logged, naming the key; -EBADMSG and others, logged.
 */
int vf_conflict_check(struct vf_bucket *b, const struct vf_state *s,
		      size_t first, struct vf_source *source,
		      uint64_t first_key);

#endif
