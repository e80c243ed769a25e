/*
 * Rows that are in memory, as a record would carry them, as a source.
 */
#ifndef VF_TOOLS_SOURCE_HELD_H
#define VF_TOOLS_SOURCE_HELD_H

#include "store/log.h"
#include "tools/source.h"

/*
 * @name    for messages, borrowed for the life of the source
 * @config  of the index they go into: how they are stored
 * @rows    borrowed likewise; each with a line of its own key
 * Returns 0; -ENOMEM, logged.
 */
int vf_source_held_open(const char *name, const struct vf_index_config *config,
			const struct vf_upsert *rows, struct vf_source **out);

#endif
