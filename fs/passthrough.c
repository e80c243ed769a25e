/*
 * Mounting without fusermount3, and ids of backing files.
 *
 * The kernel's interface, by its names (include/uapi/linux/fuse.h of 6.9; the
 * headers of older systems lack it):
 *
 *   ioctl     BACKING_OPEN, fd -> id; BACKING_CLOSE, id
 *   OPEN out  open_flags bit 7, backing id in the word after them
 */
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum {
	OPEN_PASSTHROUGH = 1 << 7,
	OVERLAYFS_MAGIC = 0x794c7630,
};

struct open_out {
	uint64_t fh;
	uint32_t open_flags, backing_id;
};

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

static_assert(sizeof(struct open_out) == 16, "");
static_assert(sizeof(struct backing_map) == 16, "");

#define BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* ---- whether -------------------------------------------------------------------- */

/* Why files in @dir cannot be passed through, as far as that shows. */
static const char *why_not(const char *dir)
{
	struct statfs st;

	if (!dir)
		return NULL;
	if (statfs(dir, &st))
		return strerrordesc_np(errno);
	return st.f_type == OVERLAYFS_MAGIC ? "the directory is on overlayfs"
					    : NULL;
}

void vf_passthrough_init(struct vf_passthrough *p,
			 const struct mount_options *opt, const char *dir)
{
	const char *why = NULL, *why_dir = why_not(dir), *disk = opt->disk.dir;

	p->of_bucket = dir && (!why_dir || !disk);
	if (opt->passthrough_off)
		why = "switched off by passthrough=off";
	else if (!dir && !disk)
		why = "the bucket is no local directory, and there is no disk "
		      "tier";
	else if (opt->foreign_options)
		why = "a mount option that fusermount3 has to handle";
	else if (p->of_bucket)
		why = why_dir;
	else
		why = why_not(disk);
	p->on = !why; /* only until vf_passthrough_mount */
	if (p->on)
		why = "the kernel has not answered yet";
	p->fd = -1;
	p->why_off = why;
}

const char *vf_passthrough_why(const struct vf_passthrough *p)
{
	return atomic_load(&p->on) ? NULL : atomic_load(&p->why_off);
}

const char *vf_passthrough_what(const struct vf_passthrough *p)
{
	return p->of_bucket ? "files of the bucket's directory are read and "
			      "mapped by the kernel"
			    : "files that are whole in the disk tier are read "
			      "and mapped by the kernel";
}

static void turn_off(struct vf_passthrough *p, const char *why)
{
	atomic_store(&p->why_off, why);
	atomic_store(&p->on, false);
}

/* ---- the connection ------------------------------------------------------------- */

static int register_file(const struct vf_passthrough *p, int fd,
			 uint32_t *out_id)
{
	struct backing_map map = {.fd = fd};
	int id = ioctl(p->fd, BACKING_OPEN, &map);

	if (id <= 0)
		return id ? -errno : -EPROTO;
	*out_id = (uint32_t)id;
	return 0;
}

static void unregister_file(const struct vf_passthrough *p, uint32_t id)
{
	ioctl(p->fd, BACKING_CLOSE, &id);
}

bool vf_passthrough_ask(struct vf_passthrough *p, const char *why_not)
{
	if (p->fd < 0)
		return false;
	if (why_not)
		turn_off(p, why_not);
	return !why_not;
}

/* What is left to go wrong is the right to do it, which in a user namespace even
 * root lacks. */
void vf_passthrough_begin(struct vf_passthrough *p)
{
	VF_AUTO_FD int fd = memfd_create("vecfs-probe", MFD_CLOEXEC);
	uint32_t id = 0;
	int err = fd < 0 ? -errno : register_file(p, fd, &id);

	if (err) {
		turn_off(p, err == -EPERM ? "it needs CAP_SYS_ADMIN"
					  : strerrordesc_np(-err));
		return;
	}
	unregister_file(p, id);
	atomic_store(&p->on, true);
}

static int mount_device(int fd, const struct mount_options *opt)
{
	char text[160];
	struct stat st;

	if (stat(opt->mountpoint, &st))
		return -errno;
	snprintf(text, sizeof(text),
		 "fd=%d,rootmode=%o,user_id=%u,group_id=%u%s%s", fd,
		 st.st_mode & S_IFMT, getuid(), getgid(),
		 opt->default_permissions ? ",default_permissions" : "",
		 opt->allow_other ? ",allow_other" : "");
	if (mount(opt->url, opt->mountpoint, "fuse.vecfs", opt->mount_flags,
		  text))
		return -errno;
	return 0;
}

int vf_passthrough_mount(struct vf_passthrough *p, struct fuse_session *se,
			 const struct mount_options *opt)
{
	int fd, err;

	if (!atomic_exchange(&p->on, false))
		return -ENOTSUP;
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	err = fd < 0 ? -errno : mount_device(fd, opt);
	if (!err) {
		err = vf_connection_use(se, fd);
		if (err)
			umount2(opt->mountpoint, MNT_DETACH);
	}
	if (!err) {
		p->fd = fd; /* closed by fuse_session_destroy */
		return 0;
	}
	turn_off(p, err == -EPERM ? "it needs CAP_SYS_ADMIN"
				  : strerrordesc_np(-err));
	if (fd >= 0)
		close(fd);
	return err;
}

/*
 * The connection ends first, as in libfuse: with it open, and nobody reading
 * it, whoever still has a request under way would wait.  Its number stays
 * taken until the session closes it.
 */
void vf_passthrough_unmount(struct vf_passthrough *p, const char *mountpoint)
{
	struct pollfd pfd = {.fd = p->fd};
	bool is_gone = poll(&pfd, 1, 0) == 1 && pfd.revents & POLLERR;
	VF_AUTO_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	turn_off(p, "unmounted");
	if (null >= 0)
		dup3(null, p->fd, O_CLOEXEC);
	if (!is_gone)
		umount2(mountpoint, MNT_DETACH);
}

/* ---- files ------------------------------------------------------------------------ */

uint32_t vf_passthrough_open(struct vf_passthrough *p, struct vf_backing *b,
			     int fd)
{
	if (!b->n_open && fd >= 0) {
		b->refused = register_file(p, fd, &b->id) != 0;
		if (!b->refused)
			atomic_fetch_add(&p->n_ids, 1);
	}
	b->n_open++;
	if (b->id)
		atomic_fetch_add(&p->n_opens, 1);
	return b->id;
}

void vf_passthrough_close(struct vf_passthrough *p, struct vf_backing *b)
{
	if (--b->n_open || !b->id)
		return;
	unregister_file(p, b->id);
	atomic_fetch_sub(&p->n_ids, 1);
	b->id = 0;
}

int vf_passthrough_reply(fuse_req_t req, uint32_t id)
{
	struct open_out out = {.open_flags = OPEN_PASSTHROUGH,
			       .backing_id = id};

	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}
