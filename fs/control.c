/*
 * Extended attributes: what standard tools can ask of a file and tell it.  Not
 * listed by listxattr, so that copies do not carry them.
 *
 *   user.vecfs.etag  version of the stored object
 *   user.vecfs.url   where it is stored
 *   user.vecfs.passthrough  on a file, "1": the kernel reads the local file
 *   user.vecfs.head  on the folder of an index: newest commit known, and how
 *                    many milliseconds ago that was learned
 */
#include "fs/fs.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- extended attributes -------------------------------------------------------------- */

static int head_text(struct fs *fs, const struct inode *i, struct vf_buf *out)
{
	struct index_view *v;
	int err;

	if (i->kind != FOLDER || !vf_live_is_index_path(i->path))
		return -ENODATA;
	err = vf_live_get(fs, i->path, &v);
	if (err)
		return err == -ENOENT ? -ENODATA : err;
	err = vf_buf_printf(out, "%" PRIu64 " %" PRIu64, vf_live_state(v)->head,
			    vf_live_age_ms(v));
	vf_live_put(fs, v);
	return err;
}

static bool is_file(const struct inode *i)
{
	return i->kind == OBJECT || i->kind == VIEW || i->kind == ALIVE ||
	       i->kind == STATUS || i->kind == METRICS;
}

static int attribute_text(struct fs *fs, struct inode *i, const char *name,
			  struct vf_buf *out)
{
	const char *at = i->key ? i->key : i->path;

	if (!strcmp(name, "user.vecfs.head"))
		return head_text(fs, i, out);
	if (!strcmp(name, "user.vecfs.etag") && i->key)
		return vf_buf_printf(out, "%s", i->etag);
	if (!strcmp(name, "user.vecfs.url") && (i->key || i->kind == FOLDER))
		return vf_buf_printf(out, "%s%s%s", vf_bucket_url(fs->bucket),
				     *at ? "/" : "", at);
	if (!strcmp(name, "user.vecfs.passthrough") && is_file(i))
		return vf_buf_printf(out, "%d", vf_fs_is_passed(fs, i));
	return -ENODATA;
}

void vf_fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		    size_t size)
{
	struct fs *fs = fuse_req_userdata(req);
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = attribute_text(fs, vf_inode(fs, ino), name, &b);

	if (err == -ENODATA)
		fuse_reply_err(req, ENODATA);
	else if (err)
		fuse_reply_err(req, vf_fs_errno(err));
	else if (!size)
		fuse_reply_xattr(req, b.len);
	else if (b.len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (char *)b.data, b.len);
}
