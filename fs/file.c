/*
 * Reading files.  A read is copied from the cache and answered at once, or
 * queued there and answered by the thread that completes the fetch; no thread
 * waits.
 *
 *   OBJECT  blocks are range GETs of the version that was looked up
 *   VIEW    blocks are decompressed from frames, whose stored bytes are read
 *           through the cache as well
 *
 * An OBJECT of a local directory, or one that is whole in the disk tier, is
 * passed through where the kernel allows it: then no read comes here.
 */
#include "fs/live.h"
#include "store/npy.h"

static int open_text(struct fs *fs, const struct inode *i,
		     struct fuse_file_info *fi)
{
	struct vf_buf *b = calloc(1, sizeof(*b));
	int err = !b		     ? -ENOMEM
		  : i->kind == STATE ? vf_live_text(fs, i->path, b)
				     : vf_control_text(fs, i->kind, b);

	if (err) {
		if (b)
			vf_buf_fini(b);
		free(b);
		return err;
	}
	fi->direct_io = 1;
	fi->fh = (uintptr_t)b;
	return 0;
}

static bool is_text(const struct inode *i)
{
	return i->kind == STATUS || i->kind == METRICS || i->kind == STATE;
}

static void free_text(struct fuse_file_info *fi)
{
	struct vf_buf *b = (struct vf_buf *)(uintptr_t)fi->fh;

	vf_buf_fini(b);
	free(b);
}

/* The file for the first handle, of the version looked up; -1 when the handle
 * is to be read through the daemon. */
static int open_backing(struct fs *fs, struct inode *i, int *out_fd)
{
	const struct vf_passthrough *p = &fs->passthrough;
	int err;

	*out_fd = -1;
	if (i->backing.n_open || !atomic_load(&p->on) ||
	    i->size != i->stored_len)
		return 0;
	if (!p->of_bucket) {
		err = vf_fs_data_open_locked(fs, i);
		i->held = !err && i->data &&
			  !vf_cached_file_hold(i->data, out_fd);
		return err;
	}
	err = vf_bucket_open_file(fs->bucket, i->key, i->etag, out_fd);
	/* With ESTALE the kernel looks the name up again and opens what it
	 * leads to now. */
	return err == -ESTALE || err == -ENOENT ? -ESTALE : 0;
}

/* Once the kernel has no id of it. */
static void end_hold(struct inode *i)
{
	if (!i->held || i->backing.id)
		return;
	i->held = false;
	vf_cached_file_unhold(i->data);
}

/* One more handle; its backing id, or 0. */
static int open_object_inode(struct fs *fs, struct inode *i, uint32_t *out_id)
{
	VF_AUTO_FD int fd = -1;
	int err;

	pthread_mutex_lock(&i->open_mtx);
	err = open_backing(fs, i, &fd);
	if (!err)
		*out_id =
			vf_passthrough_open(&fs->passthrough, &i->backing, fd);
	end_hold(i);
	pthread_mutex_unlock(&i->open_mtx);
	return err;
}

static void release_object_inode(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&i->open_mtx);
	vf_passthrough_close(&fs->passthrough, &i->backing);
	end_hold(i);
	pthread_mutex_unlock(&i->open_mtx);
}

static void open_object_file(fuse_req_t req, struct fs *fs, struct inode *i,
			     struct fuse_file_info *fi)
{
	uint32_t id = 0;
	int err = open_object_inode(fs, i, &id);

	if (!err && !id) {
		err = vf_fs_data_open(fs, i);
		if (!err && fi->flags & O_NONBLOCK)
			err = vf_fs_told_open(fs, i);
		if (err)
			release_object_inode(fs, i);
	}
	if (err) {
		fuse_reply_err(req, vf_fs_errno(err));
		return;
	}
	fi->keep_cache = 1;
	if (id ? vf_passthrough_reply(req, id) : fuse_reply_open(req, fi))
		release_object_inode(fs, i); /* interrupted */
}

/* As far as the file goes; holds open_mtx. */
static bool can_pass(struct fs *fs, struct inode *i)
{
	if (!atomic_load(&fs->passthrough.on) || i->backing.refused ||
	    i->size != i->stored_len)
		return false;
	return fs->passthrough.of_bucket ||
	       (!vf_fs_data_open_locked(fs, i) && i->data &&
		vf_cached_is_whole(i->data));
}

bool vf_fs_is_passed(struct fs *fs, struct inode *i)
{
	bool passed;

	if (i->kind != OBJECT)
		return false;
	pthread_mutex_lock(&i->open_mtx);
	passed = i->backing.n_open ? i->backing.id != 0 : can_pass(fs, i);
	pthread_mutex_unlock(&i->open_mtx);
	return passed;
}

bool vf_fs_is_held_up(struct fs *fs, struct inode *i)
{
	bool held_up;

	/* Whoever has the lock is opening or closing it: wait for no disk. */
	if (i->kind != OBJECT || pthread_mutex_trylock(&i->open_mtx))
		return false;
	held_up = i->backing.n_open && !i->backing.id && can_pass(fs, i);
	pthread_mutex_unlock(&i->open_mtx);
	return held_up;
}

void vf_fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);
	int err = 0;

	vf_log(VF_DEBUG, "%s: open", i->path);
	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		err = -EROFS;
	else if (is_text(i))
		err = open_text(fs, i, fi);
	else if (i->kind == VIEW)
		err = vf_fs_data_open(fs, i);
	if (!err && i->kind == OBJECT) {
		open_object_file(req, fs, i, fi);
		return;
	}
	if (err) {
		fuse_reply_err(req, vf_fs_errno(err));
		return;
	}
	fi->keep_cache = !is_text(i);
	if (fuse_reply_open(req, fi) && is_text(i))
		free_text(fi); /* interrupted: no release will come */
}

void vf_fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);

	if (is_text(i))
		free_text(fi);
	if (i->kind == OBJECT)
		release_object_inode(fs, i);
	fuse_reply_err(req, 0);
}

struct reading {
	fuse_req_t req;
	struct fs *fs;
	size_t len;
	uint8_t buf[];
};

static void finish_read(void *arg, int err)
{
	struct reading *r = arg;

	if (err) {
		atomic_fetch_add(&r->fs->n_read_errors, 1);
		fuse_reply_err(r->req, vf_fs_errno(err));
	} else {
		atomic_fetch_add(&r->fs->bytes_read, r->len);
		fuse_reply_buf(r->req, (char *)r->buf, r->len);
	}
	free(r);
}

/* True for each row that lives. */
static void fill_alive(const struct inode *i, uint64_t off, size_t len,
		       uint8_t *out)
{
	uint8_t header[128];
	size_t n = vf_npy_bool_header(i->n_rows, header), head = 0;

	if (off < n) {
		head = VF_MIN(len, n - off);
		memcpy(out, header + off, head);
	}
	for (size_t k = head; k < len; k++)
		out[k] = !vf_dead_has(i->dead, off + k - n);
}

/* What is made up is copied: once it has been answered, another thread may
 * close the file, and a text goes with it. */
static void read_made_up(const struct inode *i, const struct vf_buf *text,
			 struct reading *r, uint64_t off)
{
	if (i->kind == ALIVE)
		fill_alive(i, off, r->len, r->buf);
	else
		memcpy(r->buf, text->data + off, r->len);
	finish_read(r, 0);
}

static bool reply_held(fuse_req_t req, struct fs *fs, struct vf_cached *data,
		       uint64_t off, size_t len)
{
	struct vf_hold hold;

	if (!vf_cached_hold(data, off, len, &hold))
		return false;
	atomic_fetch_add(&fs->bytes_read, len);
	fuse_reply_iov(req, hold.iov, hold.n);
	vf_cached_release(&hold);
	return true;
}

void vf_fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);
	const struct vf_buf *text = (struct vf_buf *)(uintptr_t)fi->fh;
	uint64_t end = is_text(i) ? text->len : i->size, from = (uint64_t)off;
	size_t len = from < end ? VF_MIN((uint64_t)size, end - from) : 0;
	bool stored = i->kind == OBJECT || i->kind == VIEW;
	/* What open has made is there before the first read. */
	struct vf_cached *data =
		fi->flags & O_NONBLOCK && i->told ? i->told : i->data;
	struct reading *r;

	atomic_fetch_add(&fs->n_reads, 1);
	atomic_fetch_add_explicit(&i->n_reads, stored, memory_order_relaxed);
	atomic_fetch_add_explicit(&i->bytes_read, stored ? len : 0,
				  memory_order_relaxed);
	if (!len)
		fuse_reply_buf(req, NULL, 0);
	else if (stored && !data) /* passed through: none comes */
		fuse_reply_err(req, EIO);
	else if (stored && reply_held(req, fs, data, from, len))
		return;
	else if (!(r = malloc(sizeof(*r) + len)))
		fuse_reply_err(req, ENOMEM);
	else {
		*r = (struct reading){.req = req, .fs = fs, .len = len};
		if (stored)
			vf_cached_read(data, from, len, r->buf, finish_read, r);
		else
			read_made_up(i, text, r, from);
	}
}
