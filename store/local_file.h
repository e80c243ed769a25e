/*
 * Folders and files of ours on the local disk: closed to others, replaced
 * whole.  Threads: any.
 */
#ifndef VF_STORE_LOCAL_FILE_H
#define VF_STORE_LOCAL_FILE_H

#include <stddef.h>

/*
 * Make the folder if it is absent and open it.  Returns a descriptor of the
 * caller's; -EACCES when it is no folder, not ours, or open to others; -errno.
 * Logged as @shown.
 */
int vf_private_folder(int at, const char *name, const char *shown);

/*
 * Write @path.new and give it the name @path: after a crash the file has the
 * old bytes or the new ones.  Returns 0; -errno, not logged.
 */
int vf_replace_file(const char *path, const void *data, size_t len);

#endif
