/*
 * The living record lines of an index, in the order of its shards, then those
 * of the log.
 */
#ifndef VF_TOOLS_EACH_RECORD_H
#define VF_TOOLS_EACH_RECORD_H

#include "tools/target.h"

/*
 * @place  for messages: of which shard
 * @line   with its newline, good during the call
 * What is not 0 ends the walk.
 */
typedef int vf_records_fn(void *arg, const char *place, const char *line,
			  size_t len);

/* Returns 0; what @fn returned; -ECANCELED; -EBADMSG; -EREMOTEIO; logged. */
int vf_records_each(const struct vf_target *t, const struct vf_state *s,
		    vf_records_fn *fn, void *arg);

#endif
