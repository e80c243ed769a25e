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

/*
 * A file that can be read at any place: @path, or, when that is a pipe, a
 * scratch file of all that comes from it.  "-" is standard input.
 *
 * @path  in: as named by the user; out: the same for messages
 * Returns 0; -ECANCELED interrupted; -errno; logged.
 */
int vf_scratch_input(const char **path, int *out_fd);

/*
 * Whether a file of @len bytes that has been read once is likely to be in
 * memory still: half of what is available now, or of the cgroup.
 */
bool vf_scratch_is_spared(uint64_t len);

#endif
