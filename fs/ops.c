/*
 * The table of FUSE operations.  Whatever would write is answered with EROFS
 * by the daemon: the mount itself is not read-only, because attributes
 * control pins.
 */
#include "fs/fs.h"

#include <sys/statvfs.h>

enum {
	/* Else MADV_WILLNEED of many rows waits for the first dozen. */
	BACKGROUND_MAX = 512,
	READAHEAD_LEN = 1 << 20,
	NAME_MAX_LEN = 255,
};

/* One inode is one version: its attributes never change. */
static const double attr_ttl_s = 86400.0 * 365;

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX;
	conn->max_readahead = READAHEAD_LEN;
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
}

int vf_fs_entry(struct fs *fs, const struct inode *want, double ttl_s,
		struct fuse_entry_param *out)
{
	struct inode *i = vf_inode_get(fs, want), second = *want;

	if (i && vf_fs_is_held_up(fs, i)) {
		vf_inode_forget(fs, i, 1);
		second.second = true;
		i = vf_inode_get(fs, &second);
	}
	if (!i)
		return -ENOMEM;
	if (want->key && want->stored_len)
		vf_pins_seen(fs, want->path, want->key, want->etag);
	*out = (struct fuse_entry_param){.ino = vf_inode_id(fs, i),
					 .generation = 1,
					 .attr_timeout = attr_ttl_s,
					 .entry_timeout = ttl_s};
	vf_inode_stat(fs, i, &out->attr);
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fuse_req_userdata(req);
	struct fuse_entry_param e;
	struct found f;
	int err = vf_find_name(fs, vf_inode(fs, parent), name, &f);

	if (!err)
		err = vf_fs_entry(fs, &f.inode, f.ttl_s, &e);
	vf_found_fini(&f);
	if (err)
		fuse_reply_err(req, vf_fs_errno(err));
	else if (fuse_reply_entry(req, &e)) /* interrupted: not counted */
		vf_inode_forget(fs, vf_inode(fs, e.ino), 1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fs *fs = fuse_req_userdata(req);

	vf_inode_forget(fs, vf_inode(fs, ino), n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count,
			    struct fuse_forget_data *forgets)
{
	struct fs *fs = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		vf_inode_forget(fs, vf_inode(fs, forgets[i].ino),
				forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct stat st;

	vf_inode_stat(fs, vf_inode(fs, ino), &st);
	fuse_reply_attr(req, &st, attr_ttl_s);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *i = vf_inode(fuse_req_userdata(req), ino);

	if (i->target)
		fuse_reply_readlink(req, i->target);
	else
		fuse_reply_err(req, EINVAL);
}

/* A bucket has no end; what is free cannot be used through here. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {.f_bsize = 64 << 10,
			     .f_frsize = 64 << 10,
			     .f_blocks = 1ull << 32,
			     .f_bfree = 1ull << 32,
			     .f_bavail = 1ull << 32,
			     .f_namemax = NAME_MAX_LEN};

	fuse_reply_statfs(req, &st);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	fuse_reply_err(req, mask & W_OK ? EROFS : 0);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	if (size)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_xattr(req, 0);
}

/* ---- what would write ------------------------------------------------------------ */

static void refuse(fuse_req_t req)
{
	fuse_reply_err(req, EROFS);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
		       struct fuse_file_info *fi)
{
	refuse(req);
}
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t dev)
{
	refuse(req);
}
static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	refuse(req);
}
static void op_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	refuse(req);
}
static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		       const char *name)
{
	refuse(req);
}
static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t to, const char *to_name, unsigned flags)
{
	refuse(req);
}
static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
		    const char *name)
{
	refuse(req);
}
static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi)
{
	refuse(req);
}
static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	refuse(req);
}
static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
			 off_t len, struct fuse_file_info *fi)
{
	refuse(req);
}

const struct fuse_lowlevel_ops vf_fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.opendir = vf_fs_opendir,
	.readdir = vf_fs_readdir,
	.readdirplus = vf_fs_readdirplus,
	.releasedir = vf_fs_releasedir,
	.open = vf_fs_open,
	.read = vf_fs_read,
	.release = vf_fs_release,
	.ioctl = vf_fs_ioctl,
	.statfs = op_statfs,
	.access = op_access,
	.getxattr = vf_fs_getxattr,
	.listxattr = op_listxattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_remove,
	.rmdir = op_remove,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.write = op_write,
	.create = op_create,
	.setxattr = vf_fs_setxattr,
	.removexattr = vf_fs_removexattr,
	.fallocate = op_fallocate,
};
