/*
 * Nameless files for what does not fit in memory: nothing is left of them
 * whatever happens.
 */
#ifndef VF_TOOLS_SCRATCHFILE_H
#define VF_TOOLS_SCRATCHFILE_H

#include "store/util.h"

/* @dir, or what is used when it is NULL: $TMPDIR or /var/tmp. */
const char *vf_scratch_dir(const char *dir);
/* Returns 0; -errno, logged. */
int vf_scratch_open(const char *dir, int *out_fd);

#endif
