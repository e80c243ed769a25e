/*
 * Every living row of an index, once, in the order of its shards and then of
 * its log.  Rows and record lines are compared with their checksums.
 */
#ifndef VF_TOOLS_WALK_H
#define VF_TOOLS_WALK_H

#include "store/commit.h"

struct vf_walk_row {
	const char *key; /* views until the callback returns; no NUL behind */
	size_t key_len;
	const char *metadata; /* compact JSON object */
	size_t metadata_len;
	const uint8_t *vector; /* as it is stored */
};

/* 0 to go on; anything else ends the walk and is returned. */
typedef int vf_walk_fn(void *arg, const struct vf_walk_row *row);

/*
 * @what  of the line of progress; NULL: none
 * Returns 0; what @fn returned; -EBADMSG and others of reading, logged;
 * -ECANCELED after a signal.
 */
int vf_walk(struct vf_bucket *b, const struct vf_state *s, const char *what,
	    bool quiet, vf_walk_fn *fn, void *arg);

#endif
