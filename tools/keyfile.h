/*
 * The keys a user names: on the command line, or one per line of a file.
 */
#ifndef VF_TOOLS_KEYFILE_H
#define VF_TOOLS_KEYFILE_H

#include "store/log.h"

/*
 * Append @keys[0..n) and, unless @path is NULL, the lines of that file to
 * @store; *out holds views into it, good until it grows.
 * Returns 0; -EINVAL a key that can be none, no key at all; -errno; logged.
 */
int vf_keyfile_read(const char *const *keys, size_t n, const char *path,
		    struct vf_buf *store, struct vf_delete *out);

#endif
