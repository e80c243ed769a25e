#include "store/local_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/util.h"

int vf_private_folder(int at, const char *name, const char *shown)
{
	struct stat st;
	int fd;

	if (mkdirat(at, name, 0700) && errno != EEXIST)
		return vf_fail(-errno, "%s: cannot make the folder: %s", shown,
			       strerror(errno));
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return vf_fail(errno == ELOOP || errno == ENOTDIR ? -EACCES
								  : -errno,
			       "%s: cannot open the folder: %s", shown,
			       strerror(errno));
	if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & 077))
		return fd;
	close(fd);
	return vf_fail(-EACCES,
		       "%s: a cache must belong to you and be closed to "
		       "others (chmod 0700)",
		       shown);
}

static int write_new(const char *path, const void *data, size_t len)
{
	VF_AUTO_FD int fd =
		open(path,
		     O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		     0600);
	int err = fd < 0 ? -errno : vf_write_all(fd, data, len);

	return err ? err : fsync(fd) ? -errno : 0;
}

/* So that the name outlives a crash too. */
static int sync_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
	VF_AUTO_FREE char *dir = slash ? strndup(path, len) : strdup(".");

	if (!dir)
		return -ENOMEM;
	VF_AUTO_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

int vf_replace_file(const char *path, const void *data, size_t len)
{
	VF_AUTO_FREE char *next = NULL;
	int err;

	if (asprintf(&next, "%s.new", path) < 0) {
		next = NULL;
		return -ENOMEM;
	}
	err = write_new(next, data, len);
	if (!err && rename(next, path))
		err = -errno;
	return err ? err : sync_folder_of(path);
}
