#include "tools/mounted.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

enum { FUSE_MAGIC = 0x65735546 };

/* The highest folder above @at, in place, that is on the same device. */
static int climb(char *at)
{
	struct stat here, up;

	if (stat(at, &here))
		return -errno;
	for (;;) {
		char *slash = strrchr(at, '/');
		char kept = slash ? slash[1] : 0;
		if (!slash || !kept)
			return 0;
		slash[slash == at] = '\0';
		if (stat(at, &up) || up.st_dev != here.st_dev) {
			*slash = '/';
			slash[1] = kept;
			return 0;
		}
		if (slash == at)
			return 0;
	}
}

int vf_mounted_root(const char *path, char **out_root)
{
	VF_AUTO_FREE char *at = realpath(path, NULL);
	VF_AUTO_FREE char *status = NULL;
	struct statfs s;
	int err;

	*out_root = NULL;
	if (!at)
		return -errno;
	if (statfs(at, &s))
		return -errno;
	if (s.f_type != FUSE_MAGIC)
		return -EXDEV;
	err = climb(at);
	if (err)
		return err;
	if (asprintf(&status, "%s/.vecfs/status.json", at) < 0) {
		status = NULL;
		return -ENOMEM;
	}
	if (access(status, R_OK))
		return -EXDEV;
	*out_root = VF_STEAL(at);
	return 0;
}

int vf_mounted_status(const char *root, json_t **out)
{
	VF_AUTO_FREE char *name = NULL;
	json_error_t why;

	*out = NULL;
	if (asprintf(&name, "%s/.vecfs/status.json", root) < 0) {
		name = NULL;
		return -ENOMEM;
	}
	*out = json_load_file(name, 0, &why);
	if (*out)
		return 0;
	return vf_fail(-EIO, "%s: %s", name,
		       access(name, R_OK) ? strerror(errno) : why.text);
}

uint64_t vf_status_number(const json_t *status, const char *name)
{
	const char *dot = strchr(name, '.');
	char group[32];

	if (dot) {
		snprintf(group, sizeof(group), "%.*s", (int)(dot - name), name);
		status = json_object_get(status, group);
		name = dot + 1;
	}
	return (uint64_t)json_integer_value(json_object_get(status, name));
}

int vf_mounted_get(const char *path, const char *name,
		   char out[VF_MOUNTED_TEXT])
{
	char full[64];
	ssize_t n;

	snprintf(full, sizeof(full), "user.vecfs.%s", name);
	n = getxattr(path, full, out, VF_MOUNTED_TEXT - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

int vf_mounted_set(const char *path, const char *name, const char *value)
{
	char full[64];

	snprintf(full, sizeof(full), "user.vecfs.%s", name);
	return setxattr(path, full, value, strlen(value), 0) ? -errno : 0;
}

int vf_mounted_shares(const char *path, struct vf_cached_shares *out)
{
	char text[VF_MOUNTED_TEXT];
	int err = vf_mounted_get(path, "cached", text);

	*out = (struct vf_cached_shares){0};
	if (err)
		return err;
	return sscanf(text,
		      "ram %" SCNu64 " disk %" SCNu64 " of %" SCNu64
		      " pinned %" SCNu64,
		      &out->ram, &out->disk, &out->size, &out->pinned) == 4
		       ? 0
		       : -EBADMSG;
}
