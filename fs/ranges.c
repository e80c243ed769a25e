/*
 * The ioctl of store/ranges.h: a query tells all its ranges in one call, so
 * that every request to the bucket is on its way before the first page is
 * touched.
 */
#include "store/ranges.h"
#include "fs/fs.h"

/* Where the farthest part of a range is; adds bytes of blocks in no tier. */
static enum vf_where find_range(struct inode *i, const struct vf_range *r,
				uint64_t block_len, uint64_t *bytes)
{
	struct vf_cached_info info;

	vf_cached_info(i->data, r->off, r->len, &info);
	if (info.n_ram == info.n_blocks)
		return VF_IN_RAM;
	if (info.n_ram + info.n_disk >= info.n_blocks)
		return VF_ON_DISK;
	*bytes += (info.n_blocks - info.n_ram - info.n_disk) * block_len;
	return VF_IN_BUCKET;
}

static void do_range(struct fs *fs, struct inode *i, struct vf_ranges *a,
		     struct vf_range *r)
{
	unsigned left = a->max_gets ? a->max_gets - a->n_gets : UINT32_MAX;
	unsigned before = vf_fs_requests_begun();

	if (r->off > i->size || r->len > i->size - r->off)
		r->len = r->off < i->size ? (uint32_t)(i->size - r->off) : 0;
	r->where = find_range(i, r, fs->cache_block_len, &a->bytes);
	if (a->flags & VF_RANGES_COUNT)
		vf_cached_touch(i->data, r->off, r->len);
	if (a->flags & VF_RANGES_FETCH && r->where != VF_IN_RAM && left)
		vf_cached_want(i->data, r->off, r->len, left);
	a->n_gets += vf_fs_requests_begun() - before;
}

static void do_ranges(fuse_req_t req, struct fs *fs, struct inode *i,
		      struct vf_ranges *a)
{
	bool local = !i->data || vf_fs_is_passed(fs, i); /* or empty */

	a->n_gets = 0;
	a->bytes = 0;
	for (uint32_t n = 0; n < a->n; n++) {
		if (local)
			a->r[n].where = VF_IN_RAM;
		else
			do_range(fs, i, a, &a->r[n]);
	}
	fuse_reply_ioctl(req, 0, a, sizeof(*a));
}

void vf_fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg,
		 struct fuse_file_info *fi, unsigned flags, const void *in,
		 size_t in_len, size_t out_len)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);
	struct vf_ranges *a;

	if (cmd != VF_IOC_RANGES || flags & FUSE_IOCTL_DIR ||
	    (i->kind != OBJECT && i->kind != VIEW)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	if (in_len != sizeof(*a) || out_len != sizeof(*a)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	a = malloc(sizeof(*a));
	if (!a) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	memcpy(a, in, sizeof(*a));
	if (a->version != 1)
		fuse_reply_err(req, EOPNOTSUPP);
	else if (a->n > VF_RANGES_MAX)
		fuse_reply_err(req, EINVAL);
	else
		do_ranges(req, fs, i, a);
	free(a);
}
