#include "tools/scratchfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

const char *vf_scratch_dir(const char *dir)
{
	const char *env = getenv("TMPDIR");

	if (dir)
		return dir;
	return env && *env ? env : "/var/tmp";
}

int vf_scratch_open(const char *want, int *out_fd)
{
	const char *dir = vf_scratch_dir(want);
	char *path;

	*out_fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*out_fd >= 0)
		return 0;
	if (asprintf(&path, "%s/vectool-XXXXXX", dir) < 0)
		return vf_fail(-ENOMEM, "%s: %s", dir, strerror(ENOMEM));
	*out_fd = mkostemp(path, O_CLOEXEC);
	int err = *out_fd < 0 ? -errno : 0;
	if (!err)
		unlink(path);
	free(path);
	return err ? vf_fail(err, "%s: no scratch file: %s", dir,
			     strerror(-err))
		   : 0;
}
