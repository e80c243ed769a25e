/*
 * A local directory as a bucket.
 *
 * An object is a regular file.  Writing: a file without a name, fsync, then
 * link(2), then fsync of the directory; one that is to replace another is linked
 * at the root first, then rename(2).  So an object is whole when it appears, of
 * many creators one wins, and a writer that is killed leaves nothing.
 *
 *   .vecfs-tmp-<hex>   an upload under way where the file system has no files
 *                      without names, or one that replaces; never listed
 *   ETag               size, mtime and inode: a replaced file is another one
 *
 * Every path is resolved beneath the root (openat2), so that neither "..", nor
 * a link put there by somebody else, leads out of the bucket.
 */
#include "store/bucket_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct file_upload {
	struct vf_upload base;
	struct file_bucket *fb; /* [fixed] borrowed */
	char *key;
	char tmp[VF_FILE_TMP_LEN + 1]; /* at the root; "": it has no name */
	int fd;
	uint64_t len;
	uint8_t *buf;	/* [DIRECT_LEN] aligned; NULL until the first write */
	size_t n_buf;	/* bytes in it */
	bool no_direct; /* the file system does not do O_DIRECT */
};

/*
 * What is written here is not read again soon: whole buffers go past the page
 * cache.  Measured, a put of 400 MB takes half the time, and pushes nothing out
 * of memory.
 */
enum { DIRECT_LEN = 4 << 20, DIRECT_ALIGN = 4096 };

enum { PROC_LEN = 32 }; /* of "/proc/self/fd/N" */

static struct file_bucket *of(struct vf_bucket *b)
{
	return (struct file_bucket *)b;
}

/* ---- paths ------------------------------------------------------------------------ */

int vf_file_open_beneath(const struct file_bucket *fb, const char *path,
			 int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
			       .resolve =
				       RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int fd;

	do
		fd = (int)syscall(SYS_openat2, fb->root, path, &how,
				  sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	if (fd < 0 && errno == ENOSYS) /* before Linux 5.6: no links at all */
		fd = openat(fb->root, path, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd;
}

int vf_file_fail(struct file_bucket *fb, const char *key, const char *what)
{
	int e = errno;

	fb->n_error++;
	switch (e) {
	case EDQUOT:
		e = ENOSPC;
		break;
	case EPERM:
	case EXDEV: /* a link that leads out of the bucket */
	case ELOOP:
		e = EACCES;
		break;
	}
	return vf_fail(-e, "%s/%s: %s: %s", fb->base.dir, key, what,
		       strerror(e));
}

/* The directory that holds @key, opened; with @make, made when absent. */
static int open_parent(struct file_bucket *fb, const char *key, bool make,
		       const char **out_name)
{
	char path[VF_OBJECT_KEY_MAX + 1];
	const char *slash = strrchr(key, '/');
	int fd;

	*out_name = slash ? slash + 1 : key;
	if (!slash)
		return vf_file_open_beneath(fb, ".", O_DIRECTORY | O_RDONLY);
	memcpy(path, key, (size_t)(slash - key));
	path[slash - key] = '\0';
	fd = vf_file_open_beneath(fb, path, O_DIRECTORY | O_RDONLY);
	if (fd >= 0 || errno != ENOENT || !make)
		return fd;
	for (char *at = path;; at++) {
		at = strchrnul(at, '/');
		char c = *at;
		*at = '\0';
		if (mkdirat(fb->root, path, 0777) && errno != EEXIST)
			return -1;
		*at = c;
		if (!c)
			break;
	}
	return vf_file_open_beneath(fb, path, O_DIRECTORY | O_RDONLY);
}

/* Folders do not exist in a bucket: one that is empty goes. */
static void remove_empty_parents(struct file_bucket *fb, const char *key)
{
	char path[VF_OBJECT_KEY_MAX + 1];
	const char *name;
	char *slash;

	snprintf(path, sizeof(path), "%s", key);
	while ((slash = strrchr(path, '/'))) {
		*slash = '\0';
		VF_AUTO_FD int dir = open_parent(fb, path, false, &name);
		if (dir < 0 || unlinkat(dir, name, AT_REMOVEDIR))
			return;
	}
}

void vf_file_describe(const struct stat *st, struct vf_object *out)
{
	*out = (struct vf_object){.size = (uint64_t)st->st_size,
				  .mtime_ns = st->st_mtim.tv_sec * 1000000000 +
					      st->st_mtim.tv_nsec};
	snprintf(out->etag, sizeof(out->etag), "%llx-%llx-%llx",
		 (unsigned long long)st->st_size,
		 (unsigned long long)out->mtime_ns,
		 (unsigned long long)st->st_ino);
}

/* ---- reading ------------------------------------------------------------------------ */

/* Opens a regular file; -ENOENT for everything that is no object. */
static int open_object(struct file_bucket *fb, const char *key, struct stat *st,
		       int *out_fd)
{
	VF_AUTO_FD int fd =
		vf_file_open_beneath(fb, key, O_RDONLY | O_NONBLOCK);

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP ||
		       errno == EXDEV || errno == ENAMETOOLONG))
		return -ENOENT;
	if (fd < 0 || fstat(fd, st))
		return vf_file_fail(fb, key, "cannot read");
	if (!S_ISREG(st->st_mode))
		return -ENOENT;
	*out_fd = fd;
	fd = -1;
	return 0;
}

static int file_head(struct vf_bucket *b, const char *key,
		     struct vf_object *out)
{
	VF_AUTO_FD int fd = -1;
	struct stat st;
	int err = open_object(of(b), key, &st, &fd);

	of(b)->n_head++;
	if (!err)
		vf_file_describe(&st, out);
	return err;
}

static int read_range(struct file_bucket *fb, const struct vf_get *g, int fd,
		      const struct vf_object *object, size_t *out_len)
{
	size_t len = 0;
	int err;

	if (g->off < object->size)
		len = VF_MIN((uint64_t)g->len, object->size - g->off);
	err = vf_pread_all(fd, g->buf, len, g->off);
	if (err == -ENODATA) /* cut short in place under our hands */
		return -ESTALE;
	if (err) {
		errno = -err;
		return vf_file_fail(fb, g->key, "cannot read");
	}
	*out_len = len;
	return 0;
}

static void file_get_start(struct vf_bucket *b, const struct vf_get *g)
{
	struct file_bucket *fb = of(b);
	VF_AUTO_FD int fd = -1;
	struct vf_object object;
	struct stat st;
	size_t len = 0;
	int err = open_object(fb, g->key, &st, &fd);

	fb->n_get++;
	if (!err) {
		vf_file_describe(&st, &object);
		if (g->etag && *g->etag && strcmp(g->etag, object.etag))
			err = -ESTALE;
		else
			err = read_range(fb, g, fd, &object, &len);
	}
	fb->bytes_in += len;
	g->done(g->arg, err, len, err ? NULL : &object);
}

static int file_open_file(struct vf_bucket *b, const char *key,
			  const char *etag, int *out_fd)
{
	VF_AUTO_FD int fd = -1;
	struct vf_object object;
	struct stat st;
	int err = open_object(of(b), key, &st, &fd);

	if (err)
		return err;
	vf_file_describe(&st, &object);
	if (etag && *etag && strcmp(etag, object.etag))
		return -ESTALE;
	*out_fd = fd;
	fd = -1;
	return 0;
}

/* ---- writing ------------------------------------------------------------------------ */

static void choose_tmp(char tmp[VF_FILE_TMP_LEN + 1])
{
	uint8_t nonce[16];

	vf_random(nonce, sizeof(nonce));
	strcpy(tmp, VF_FILE_TMP_PREFIX);
	vf_hex(nonce, sizeof(nonce), tmp + strlen(tmp));
}

/* Where a file without a name can be linked from (open(2), O_TMPFILE). */
static const char *path_of(int fd, char out[PROC_LEN])
{
	snprintf(out, PROC_LEN, "/proc/self/fd/%d", fd);
	return out;
}

/* Without a name where that can be had: it goes when its writer is killed. */
static int open_tmp(struct file_upload *u)
{
	char path[PROC_LEN];

	u->fd = openat(u->fb->root, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC,
		       0666);
	if (u->fd >= 0 && !access(path_of(u->fd, path), F_OK))
		return 0;
	if (u->fd >= 0)
		close(u->fd);
	choose_tmp(u->tmp);
	u->fd = openat(u->fb->root, u->tmp,
		       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	return u->fd < 0 ? vf_file_fail(u->fb, u->key, "cannot create") : 0;
}

static int link_tmp(const struct file_upload *u, int dir, const char *name)
{
	char path[PROC_LEN];

	return *u->tmp ? linkat(u->fb->root, u->tmp, dir, name, 0)
		       : linkat(AT_FDCWD, path_of(u->fd, path), dir, name,
				AT_SYMLINK_FOLLOW);
}

/* As link_tmp, in place of what is there. */
static int rename_tmp(struct file_upload *u, int dir, const char *name)
{
	char tmp[VF_FILE_TMP_LEN + 1];

	if (!*u->tmp) {
		if (!link_tmp(u, dir, name))
			return 0;
		if (errno != EEXIST)
			return -1;
		choose_tmp(tmp);
		if (link_tmp(u, u->fb->root, tmp))
			return -1;
		strcpy(u->tmp, tmp);
	}
	return renameat(u->fb->root, u->tmp, dir, name);
}

/* Give the finished file its name; it stays as it is when this fails. */
static int publish(struct file_upload *u, unsigned flags)
{
	struct file_bucket *fb = u->fb;
	const char *key = u->key, *name;

	/* A racing delete may remove a parent that has just become empty. */
	for (int tries = 0; tries < 100; tries++) {
		VF_AUTO_FD int dir = open_parent(fb, key, true, &name);
		int rc;
		if (dir < 0 && errno == ENOENT)
			continue;
		if (dir < 0)
			return vf_file_fail(fb, key,
					    "cannot create its folder");
		if (flags & VF_PUT_IF_ABSENT)
			rc = link_tmp(u, dir, name);
		else
			rc = rename_tmp(u, dir, name);
		if (rc && errno == ENOENT)
			continue;
		if (rc && errno == EEXIST && (flags & VF_PUT_IF_ABSENT))
			return -EEXIST;
		if (rc)
			return vf_file_fail(fb, key, "cannot create");
		if (fsync(dir) || fsync(fb->root))
			return vf_file_fail(fb, key, "cannot sync its folder");
		return 0;
	}
	errno = EBUSY;
	return vf_file_fail(fb, key, "its folder keeps going away");
}

static int file_upload_open(struct vf_bucket *b, const char *key,
			    struct vf_upload **out)
{
	struct file_upload *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	*u = (struct file_upload){.fb = of(b), .key = strdup(key), .fd = -1};
	int err = u->key ? open_tmp(u) : -ENOMEM;
	if (err) {
		free(u->key);
		free(u);
		return err;
	}
	*out = &u->base;
	return 0;
}

/* Past the page cache or through it, as the file system allows. */
static int write_buffer(struct file_upload *u)
{
	int flags = fcntl(u->fd, F_GETFL), err;
	bool direct = u->n_buf == DIRECT_LEN && !u->no_direct;

	if (fcntl(u->fd, F_SETFL,
		  direct ? flags | O_DIRECT : flags & ~O_DIRECT) &&
	    direct)
		u->no_direct = true;
	/* At its place: part of it may be there when a direct write fails. */
	err = vf_pwrite_all(u->fd, u->buf, u->n_buf, u->len);
	if (err == -EINVAL && direct) {
		u->no_direct = true;
		return write_buffer(u);
	}
	if (err) {
		errno = -err;
		return vf_file_fail(u->fb, u->key, "cannot write");
	}
	/* Writeback begins now, so that the fsync at the end finds little. */
	if (u->no_direct)
		sync_file_range(u->fd, (off_t)u->len, (off_t)u->n_buf,
				SYNC_FILE_RANGE_WRITE);
	u->len += u->n_buf;
	u->n_buf = 0;
	return 0;
}

static int file_upload_write(struct vf_upload *base, const void *data,
			     size_t len)
{
	struct file_upload *u = (struct file_upload *)base;
	const uint8_t *at = data;
	int err = 0;

	if (!u->buf)
		u->buf = aligned_alloc(DIRECT_ALIGN, DIRECT_LEN);
	if (!u->buf)
		return -ENOMEM;
	while (!err && len) {
		size_t n = VF_MIN(len, (size_t)DIRECT_LEN - u->n_buf);
		memcpy(u->buf + u->n_buf, at, n);
		u->n_buf += n;
		at += n;
		len -= n;
		if (u->n_buf == DIRECT_LEN)
			err = write_buffer(u);
	}
	return err;
}

static void free_upload(struct file_upload *u)
{
	close(u->fd);
	if (*u->tmp)
		unlinkat(u->fb->root, u->tmp, 0);
	free(u->buf);
	free(u->key);
	free(u);
}

/* All of it is on the disk, and nothing else. */
static int sync_upload(struct file_upload *u, struct stat *st)
{
	int err = u->n_buf ? write_buffer(u) : 0;

	if (err)
		return err;
	if (fsync(u->fd) || fstat(u->fd, st))
		return vf_file_fail(u->fb, u->key, "cannot sync");
	if ((uint64_t)st->st_size == u->len)
		return 0;
	errno = EIO;
	return vf_file_fail(u->fb, u->key,
			    "is not as long as what was written");
}

static int finish_upload(struct file_upload *u, unsigned flags,
			 struct vf_object *out)
{
	struct file_bucket *fb = u->fb;
	struct stat st;
	int err = sync_upload(u, &st);

	if (!err)
		err = publish(u, flags);
	if (!err) {
		vf_file_describe(&st, out);
		fb->bytes_out += u->len;
	} else if (err != -EEXIST) {
		remove_empty_parents(fb, u->key);
	}
	fb->n_put++;
	free_upload(u);
	return err;
}

static int file_upload_commit(struct vf_upload *base, struct vf_object *out)
{
	return finish_upload((struct file_upload *)base, 0, out);
}

static void file_upload_abort(struct vf_upload *base)
{
	free_upload((struct file_upload *)base);
}

static int file_put(struct vf_bucket *b, const char *key, const void *data,
		    size_t len, unsigned flags, struct vf_object *out)
{
	struct vf_upload *u;
	int err = file_upload_open(b, key, &u);

	if (err)
		return err;
	err = file_upload_write(u, data, len);
	if (!err)
		return finish_upload((struct file_upload *)u, flags, out);
	file_upload_abort(u);
	return err;
}

static int file_delete(struct vf_bucket *b, const char *key)
{
	struct file_bucket *fb = of(b);
	const char *name;
	VF_AUTO_FD int dir = open_parent(fb, key, false, &name);

	fb->n_delete++;
	if (dir < 0 || unlinkat(dir, name, 0)) {
		if (errno == ENOENT || errno == ENOTDIR || errno == EISDIR ||
		    errno == ENAMETOOLONG) /* all of them no objects */
			return 0;
		return vf_file_fail(fb, key, "cannot delete");
	}
	remove_empty_parents(fb, key);
	return 0;
}

/* ---- open and close -------------------------------------------------------------------- */

static void file_stats(struct vf_bucket *b, struct vf_bucket_stats *out)
{
	struct file_bucket *fb = of(b);

	*out = (struct vf_bucket_stats){.n_get = fb->n_get,
					.n_put = fb->n_put,
					.n_head = fb->n_head,
					.n_list = fb->n_list,
					.n_delete = fb->n_delete,
					.n_error = fb->n_error,
					.bytes_in = fb->bytes_in,
					.bytes_out = fb->bytes_out};
}

static void file_close(struct vf_bucket *b)
{
	close(of(b)->root);
	free(of(b));
}

static const struct vf_bucket_ops file_ops = {
	.close = file_close,
	.head = file_head,
	.get_start = file_get_start,
	.open_file = file_open_file,
	.put = file_put,
	.upload_open = file_upload_open,
	.upload_write = file_upload_write,
	.upload_commit = file_upload_commit,
	.upload_abort = file_upload_abort,
	.delete = file_delete,
	.list = vf_file_list,
	.stats = file_stats,
};

int vf_bucket_file_open(const char *url, const struct vf_bucket_options *opt,
			struct vf_bucket **out)
{
	const char *dir = url + strlen("file://");
	struct file_bucket *fb;

	if (dir[0] != '/')
		return vf_fail(-EINVAL,
			       "%s: a file:// URL needs three slashes and an "
			       "absolute path: file:///directory",
			       url);
	if (opt->create && mkdir(dir, 0777) && errno != EEXIST)
		return vf_fail(-errno, "%s: cannot create: %s", dir,
			       strerror(errno));
	fb = calloc(1, sizeof(*fb));
	if (!fb)
		return -ENOMEM;
	fb->base.ops = &file_ops;
	fb->base.dir = strdup(dir);
	fb->root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fb->base.dir && fb->root >= 0) {
		*out = &fb->base;
		return 0;
	}
	int err = fb->root < 0 ? -errno : -ENOMEM;
	if (fb->root < 0)
		vf_log(VF_ERROR, "%s: %s", url,
		       err == -ENOENT
			       ? "no such directory; mkdir makes a bucket"
			       : strerror(-err));
	else
		close(fb->root);
	free(fb->base.dir);
	free(fb);
	return err == -EPERM ? -EACCES : err;
}
