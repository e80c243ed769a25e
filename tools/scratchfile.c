#include "tools/scratchfile.h"
#include "store/pressure.h"
#include "tools/interrupt.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { SPOOL_LEN = 1 << 20 };

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

/* One piece of a pipe: *out_n is 0 at its end. */
static int spool_some(int from, char *buf, int to, size_t *out_n)
{
	int err;

	do
		err = vf_interrupt_wait(from, -1, -1);
	while (!err);
	if (err < 0)
		return err;
	ssize_t n = read(from, buf, SPOOL_LEN);
	if (n < 0)
		return -errno;
	*out_n = (size_t)n;
	return vf_write_all(to, buf, (size_t)n);
}

static int spool(int from, const char *name, int to)
{
	VF_AUTO_FREE char *buf = malloc(SPOOL_LEN);
	size_t n = 1;
	int err = buf ? 0 : -ENOMEM;

	while (!err && n)
		err = spool_some(from, buf, to, &n);
	if (err == -ECANCELED)
		return vf_fail(err, "interrupted");
	return err ? vf_fail(err, "%s: %s", name, strerror(-err)) : 0;
}

int vf_scratch_input(const char **path, int *out_fd)
{
	bool is_stdin = !strcmp(*path, "-");
	VF_AUTO_FD int fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
				     : open(*path, O_RDONLY | O_CLOEXEC);

	if (is_stdin)
		*path = "standard input";
	if (fd < 0)
		return vf_fail(-errno, "%s: %s", *path, strerror(errno));
	if (!is_stdin && lseek(fd, 0, SEEK_CUR) >= 0) {
		*out_fd = fd;
		fd = -1;
		return 0;
	}
	int err = vf_scratch_open(NULL, out_fd);
	if (!err && (err = spool(fd, *path, *out_fd))) {
		close(*out_fd);
		*out_fd = -1;
	}
	return err;
}

bool vf_scratch_is_spared(uint64_t len)
{
	return len <= 2 * (uint64_t)vf_pressure_max_len();
}
