/*
 * Which commit a view shows, and its state.
 *
 * A mount keeps the state of each index in use, and tells how old it is: then
 * nobody asks the bucket.  A directory that is none has its log read, and so
 * has a mount when an older commit is wanted.
 */
#include "query/engine.h"
#include "store/checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

enum { FRESH_DEFAULT_MS = 1000, PIECE_LEN = 1 << 20 };

/* A file whose length nobody knows before it ends. */
static int read_to_end(int fd, struct vf_buf *out)
{
	for (;;) {
		ssize_t n;
		if (out->len > VF_CHECKPOINT_MAX)
			return -EFBIG;
		if (vf_buf_reserve(out, PIECE_LEN))
			return -ENOMEM;
		n = pread(fd, out->data + out->len, PIECE_LEN, (off_t)out->len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return 0;
		out->len += n > 0 ? (size_t)n : 0;
	}
}

/* Whether a mount keeps the head of the index, so fresh.  It asks the bucket
 * where it has to. */
static bool is_kept(const char *dir, const char *index,
		    const struct vf_view_options *opt)
{
	int fresh_ms = opt ? opt->fresh_ms : 0;
	VF_AUTO_FREE char *path = NULL;
	char name[40], value[80];

	fresh_ms = fresh_ms ? VF_MAX(fresh_ms, 0) : FRESH_DEFAULT_MS;
	snprintf(name, sizeof(name), "user.vecfs.head.%d", fresh_ms);
	if (asprintf(&path, "%s/%s", dir, index) < 0) {
		path = NULL;
		return false;
	}
	return getxattr(path, name, value, sizeof(value)) > 0;
}

/* What the mount keeps.  -ENOENT: nothing, and its log has to be read. */
static int load_kept(const char *dir, const char *index, struct vf_state **out)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	VF_AUTO_FREE char *path = NULL;
	const char *why;
	int err;

	if (asprintf(&path, "%s/.vecfs/state/%s", dir, index) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	err = fd < 0 ? -ENOENT : read_to_end(fd, &b);
	if (err == -ENOENT || (!err && !b.len))
		return -ENOENT;
	if (err)
		return vf_fail(err, "%s: %s", path, vf_strerror(err));
	err = vf_checkpoint_parse(b.data, b.len, index, NULL, NULL, NULL, out,
				  &why);
	return err ? vf_fail(err, "%s: %s", path, why) : 0;
}

int vf_head_load(struct vf_bucket *b, const char *path, const char *index,
		 const struct vf_view_options *opt, struct vf_state **out)
{
	const char *dir = vf_bucket_dir(b);
	uint64_t at = opt ? opt->at : 0;
	int err = -ENOENT;

	if (!at && is_kept(dir, index, opt))
		err = load_kept(dir, index, out);
	if (err == -ENOENT)
		err = at ? vf_state_load_at(b, index, at, out)
			 : vf_state_load(b, index, out);
	if (err == -ENOENT)
		return vf_fail(err,
			       "%s: no index (there is no _vecfs/indexes/%s in "
			       "%s)",
			       path, index, dir);
	if (!err && !(*out)->configured)
		return vf_fail(-ENOENT, "%s: the index is not set up yet",
			       path);
	return err;
}
