/*
 * Paths in a mount: what its extended attributes and status tell.
 */
#ifndef VF_TOOLS_MOUNTED_H
#define VF_TOOLS_MOUNTED_H

#include <jansson.h>

#include "store/util.h"

/*
 * The top of the vecfs mount that @path is in, caller's to free().
 * Returns 0; -ENOENT no such path; -EXDEV it is in no mount of vecfs; -errno.
 * None of them logged.
 */
int vf_mounted_root(const char *path, char **out_root);

/* MOUNT/.vecfs/status.json, to be released with json_decref.  Returns 0;
 * -errno, logged. */
int vf_mounted_status(const char *root, json_t **out);

/* A number of it, "disk.pinned_bytes"; 0 when there is none. */
uint64_t vf_status_number(const json_t *status, const char *name);

/* Attribute user.vecfs.@name; NUL-terminated.  Returns 0; -errno. */
enum { VF_MOUNTED_TEXT = 4096 };
int vf_mounted_get(const char *path, const char *name,
		   char out[VF_MOUNTED_TEXT]);
/* Returns 0; -errno, as the kernel gave it, not logged. */
int vf_mounted_set(const char *path, const char *name, const char *value);

/* What user.vecfs.cached says.  Returns 0; -errno, not logged. */
struct vf_cached_shares {
	uint64_t ram, disk, size, pinned; /* bytes */
};
int vf_mounted_shares(const char *path, struct vf_cached_shares *out);

#endif
