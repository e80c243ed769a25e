/*
 * The directory of the disk tier.  It and what is in it belong to us alone
 * (0700, checked), so nobody can put links there; still every open refuses
 * them.
 */
#include "store/local_file.h"
#include "store/tier_disk_impl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { DIR_BYTES = 4096 };

static int take_lock(struct vf_disk *d)
{
	d->lock_fd = openat(d->dir_fd, "lock",
			    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		return vf_fail(-errno, "%s/lock: %s", d->dir, strerror(errno));
	if (!flock(d->lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno != EWOULDBLOCK)
		return vf_fail(-errno, "%s/lock: %s", d->dir, strerror(errno));
	return vf_fail(-EBUSY, "%s: another program uses this cache", d->dir);
}

/* Whether O_DIRECT reads and writes work there, and holes can be punched. */
static int try_file(struct vf_disk *d, int fd, void *page)
{
	d->direct = pwrite(fd, page, VF_DISK_PAGE, 0) == VF_DISK_PAGE &&
		    pread(fd, page, VF_DISK_PAGE, 0) == VF_DISK_PAGE;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      VF_DISK_PAGE) &&
	    errno == EOPNOTSUPP)
		return vf_fail(-EOPNOTSUPP,
			       "%s: this file system cannot punch holes in "
			       "files",
			       d->dir);
	return 0;
}

static int probe_dir(struct vf_disk *d)
{
	const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	VF_AUTO_FD int fd = -1;
	VF_AUTO_FREE void *page = NULL;
	struct statvfs vfs;
	int err;

	if (posix_memalign(&page, VF_DISK_PAGE, VF_DISK_PAGE))
		return -ENOMEM;
	memset(page, 0, VF_DISK_PAGE);
	fd = openat(d->dir_fd, "probe", flags | O_DIRECT, 0600);
	if (fd < 0 && errno == EINVAL)
		fd = openat(d->dir_fd, "probe", flags, 0600);
	if (fd < 0)
		return vf_fail(-errno, "%s: cannot write there: %s", d->dir,
			       strerror(errno));
	err = try_file(d, fd, page);
	if (!(fcntl(fd, F_GETFL) & O_DIRECT))
		d->direct = false;
	unlinkat(d->dir_fd, "probe", 0);
	d->unit = VF_DISK_PAGE;
	if (!err && !fstatvfs(fd, &vfs) && vfs.f_frsize > d->unit)
		d->unit = (uint32_t)vfs.f_frsize;
	if (!err && d->opt.block_len % d->unit)
		return vf_fail(-EINVAL,
			       "%s: blocks of %u bytes on a file system of "
			       "%u-byte blocks",
			       d->dir, d->opt.block_len, d->unit);
	return err;
}

static void name_subdir(unsigned i, char out[3])
{
	uint8_t byte = (uint8_t)i;

	vf_hex(&byte, 1, out);
}

static void count_dirs(struct vf_disk *d)
{
	struct stat st;
	char name[3];

	d->dir_bytes = 4 * DIR_BYTES; /* itself, data, index, lock */
	for (unsigned i = 0; i < VF_N(d->subdir); i++) {
		name_subdir(i, name);
		d->subdir[i] =
			!fstatat(d->data_fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
			S_ISDIR(st.st_mode);
		if (d->subdir[i])
			d->dir_bytes += VF_MAX((uint64_t)st.st_blocks * 512,
					       (uint64_t)DIR_BYTES);
	}
}

int vf_disk_dir_open(struct vf_disk *d)
{
	char shown[4096 + 16];
	int fd;

	d->dir_fd = vf_private_folder(AT_FDCWD, d->dir, d->dir);
	if (d->dir_fd < 0)
		return d->dir_fd;
	fd = take_lock(d);
	if (fd)
		return fd;
	snprintf(shown, sizeof(shown), "%s/data", d->dir);
	d->data_fd = vf_private_folder(d->dir_fd, "data", shown);
	if (d->data_fd < 0)
		return d->data_fd;
	fd = vf_private_folder(d->dir_fd, "index", d->index_path);
	if (fd < 0)
		return fd;
	close(fd);
	count_dirs(d);
	return probe_dir(d);
}

void vf_disk_dir_close(struct vf_disk *d)
{
	int *fds[] = {&d->data_fd, &d->dir_fd, &d->lock_fd};

	for (unsigned i = 0; i < VF_N(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

/* ---- data files ---------------------------------------------------------------- */

static void name_data(const uint8_t id[16], char out[40])
{
	vf_hex(id, 1, out);
	out[2] = '/';
	vf_hex(id, 16, out + 3);
}

static int make_subdir(struct vf_disk *d, const uint8_t id[16])
{
	char name[3];
	int fd;

	if (d->subdir[id[0]])
		return 0;
	name_subdir(id[0], name);
	fd = vf_private_folder(d->data_fd, name, name);
	if (fd < 0)
		return fd;
	close(fd);
	d->subdir[id[0]] = true;
	pthread_mutex_lock(&d->mtx);
	d->dir_bytes += DIR_BYTES;
	pthread_mutex_unlock(&d->mtx);
	return 0;
}

static int make_data(struct vf_disk *d, const uint8_t id[16], const char *name,
		     int flags, uint64_t size)
{
	int fd, err = make_subdir(d, id);

	if (err)
		return err;
	flags = (flags & ~O_NONBLOCK) | O_CREAT | O_EXCL;
	fd = openat(d->data_fd, name, flags, 0600);
	if (fd < 0 && errno == EEXIST && !unlinkat(d->data_fd, name, 0))
		fd = openat(d->data_fd, name, flags, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size)) {
		err = -errno;
		close(fd);
		unlinkat(d->data_fd, name, 0);
		return err;
	}
	return fd;
}

int vf_disk_dir_data(struct vf_disk *d, const uint8_t id[16],
		     enum vf_disk_open_how how, uint64_t size)
{
	int flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, fd;
	struct stat st;
	char name[40];

	flags |= how == VF_DISK_OPEN_READ ? O_RDONLY : O_RDWR;
	if (d->direct && (how == VF_DISK_OPEN_OLD || how == VF_DISK_OPEN_NEW))
		flags |= O_DIRECT;
	name_data(id, name);
	if (how == VF_DISK_OPEN_NEW)
		return make_data(d, id, name, flags, size);
	fd = openat(d->data_fd, name, flags);
	if (fd < 0)
		return -errno;
	/* O_NONBLOCK was for what is no file; with it left on, io_uring answers
	 * EAGAIN where the file system cannot promise not to wait. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size == size &&
	    !fcntl(fd, F_SETFL, flags & ~O_NONBLOCK))
		return fd;
	close(fd);
	return -EBADMSG;
}

int vf_disk_dir_unlink(struct vf_disk *d, const uint8_t id[16])
{
	char name[40];

	name_data(id, name);
	return unlinkat(d->data_fd, name, 0) && errno != ENOENT ? -errno : 0;
}

/* ---- data files that are handed out ---------------------------------------------- */

/* The mark is a bit of the mode that has no other meaning here. */
enum { MODE_LENT = 0700, MODE_OURS = 0600 };

int vf_disk_dir_lend(int fd)
{
	return fchmod(fd, MODE_LENT) ? -errno : 0;
}

/*
 * A lease for writing is granted only when no other open file leads there.  The
 * signal for who opens it meanwhile is one that is ignored by default.
 */
bool vf_disk_dir_reclaim(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return false;
	if (!(st.st_mode & S_IXUSR))
		return true;
	if (fcntl(fd, F_SETSIG, SIGURG) || fcntl(fd, F_SETLEASE, F_WRLCK))
		return false;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return !fchmod(fd, MODE_OURS);
}
