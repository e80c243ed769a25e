/*
 * Reading files.  A read is copied from the cache and answered at once, or
 * queued there and answered by the thread that completes the fetch; no thread
 * waits.
 *
 *   OBJECT  blocks are range GETs of the version that was looked up
 *   VIEW    blocks are decompressed from frames, whose stored bytes are read
 *           through the cache as well
 *
 * An OBJECT of a local directory is passed through where the kernel allows it:
 * then no read comes here.
 */
#include "fs/fs.h"
#include "store/frames.h"
#include "store/npy.h"

#include <xxhash.h>

/* ---- a stored object ------------------------------------------------------------ */

struct object_source {
	struct vf_source source;
	struct vf_bucket *bucket;
	char *key;
	char etag[VF_ETAG_MAX];
};

struct object_fetch {
	size_t len;
	vf_fetch_fn *done;
	void *arg;
	const char *key; /* the source's, which outlives the fetch */
};

static void finish_object(void *arg, int err, size_t len,
			  const struct vf_object *object)
{
	struct object_fetch *f = arg;

	if (!err && len != f->len)
		err = vf_fail(-EREMOTEIO, "%s: %zu bytes came, not %zu", f->key,
			      len, f->len);
	/* The version that was opened is gone, one way or the other. */
	f->done(f->arg, err == -ENOENT ? -ESTALE : err);
	free(f);
}

static void start_object(struct vf_source *source, uint64_t off, size_t len,
			 void *buf, vf_fetch_fn *done, void *arg)
{
	struct object_source *s = (struct object_source *)source;
	struct object_fetch *f = malloc(sizeof(*f));

	if (!f) {
		done(arg, -ENOMEM);
		return;
	}
	*f = (struct object_fetch){len, done, arg, s->key};
	vf_bucket_get_start(s->bucket, &(struct vf_get){.key = s->key,
							.etag = s->etag,
							.off = off,
							.len = len,
							.buf = buf,
							.done = finish_object,
							.arg = f});
}

static void free_object(struct vf_source *source)
{
	struct object_source *s = (struct object_source *)source;

	free(s->key);
	free(s);
}

/* Equal for equal bytes: the mount serves one bucket. */
static void identify(const struct inode *i, enum kind kind, uint8_t id[16])
{
	VF_AUTO_BUF struct vf_buf b = {0};
	XXH128_canonical_t canonical;

	if (vf_buf_append(&b, i->key, strlen(i->key) + 1) ||
	    vf_buf_append(&b, i->etag, strlen(i->etag) + 1) ||
	    vf_buf_append(&b, &i->stored_len, sizeof(i->stored_len)) ||
	    vf_buf_append(&b, &kind, sizeof(kind))) {
		vf_random(id, 16); /* no memory: nothing is shared */
		return;
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(b.data, b.len));
	memcpy(id, canonical.digest, 16);
}

static int open_object(struct fs *fs, const struct inode *i,
		       struct vf_cached **out)
{
	struct object_source *s = calloc(1, sizeof(*s));
	uint8_t id[16];

	if (!s)
		return -ENOMEM;
	s->source = (struct vf_source){start_object, free_object};
	s->bucket = fs->bucket;
	memcpy(s->etag, i->etag, sizeof(s->etag));
	s->key = strdup(i->key);
	if (!s->key) {
		free(s);
		return -ENOMEM;
	}
	identify(i, OBJECT, id);
	return vf_cached_open(fs->cache, id, i->stored_len, &s->source, out);
}

/* ---- a decompressed view ------------------------------------------------------------ */

struct view_source {
	struct vf_source source;
	struct vf_cached *stored;
	struct vf_frames frames;
	char *key;
};

struct view_fetch {
	struct view_source *view; /* outlives the fetch */
	uint64_t off;
	size_t len;
	uint8_t *dst;
	uint32_t first, last; /* frames */
	vf_fetch_fn *done;
	void *arg;
	uint8_t *stored; /* owned: bytes of the frames */
};

/* The part of one frame that the fetch wants. */
static int copy_frame(const struct view_fetch *f, uint32_t n)
{
	const struct vf_frames *fr = &f->view->frames;
	uint64_t from = fr->out_off[n], to = fr->out_off[n + 1];
	uint64_t lo = VF_MAX(from, f->off), hi = VF_MIN(to, f->off + f->len);
	const uint8_t *in = f->stored + (fr->in_off[n] - fr->in_off[f->first]);
	size_t in_len = fr->in_off[n + 1] - fr->in_off[n];
	VF_AUTO_FREE uint8_t *whole = NULL;
	int err;

	if (lo == from && hi == to)
		return vf_frame_decompress(in, in_len, f->dst + (lo - f->off),
					   to - from);
	whole = malloc(to - from);
	if (!whole)
		return -ENOMEM;
	err = vf_frame_decompress(in, in_len, whole, to - from);
	if (!err)
		memcpy(f->dst + (lo - f->off), whole + (lo - from), hi - lo);
	return err;
}

static void finish_view(void *arg, int err)
{
	struct view_fetch *f = arg;

	for (uint32_t n = f->first; !err && n <= f->last; n++) {
		err = copy_frame(f, n);
		if (err == -EBADMSG)
			vf_fail(err, "%s: frame %u is damaged", f->view->key,
				n);
	}
	f->done(f->arg, err);
	free(f->stored);
	free(f);
}

static void start_view(struct vf_source *source, uint64_t off, size_t len,
		       void *buf, vf_fetch_fn *done, void *arg)
{
	struct view_source *v = (struct view_source *)source;
	const struct vf_frames *fr = &v->frames;
	struct view_fetch *f = malloc(sizeof(*f));
	uint64_t from, stored_len;

	if (!f) {
		done(arg, -ENOMEM);
		return;
	}
	*f = (struct view_fetch){v,
				 off,
				 len,
				 buf,
				 vf_frames_find(fr, off),
				 vf_frames_find(fr, off + len - 1),
				 done,
				 arg,
				 NULL};
	from = fr->in_off[f->first];
	stored_len = fr->in_off[f->last + 1] - from;
	f->stored = malloc(stored_len);
	if (!f->stored) {
		free(f);
		done(arg, -ENOMEM);
		return;
	}
	vf_cached_read(v->stored, from, stored_len, f->stored, finish_view, f);
}

static void free_view(struct vf_source *source)
{
	struct view_source *v = (struct view_source *)source;

	vf_cached_put(v->stored);
	vf_frames_fini(&v->frames);
	free(v->key);
	free(v);
}

struct waited {
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool done; /* [mtx] */
	int err;   /* [mtx] */
};

static void finish_waited(void *arg, int err)
{
	struct waited *w = arg;

	pthread_mutex_lock(&w->mtx);
	w->err = err;
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

static int read_waiting(struct vf_cached *o, uint64_t off, size_t len,
			void *buf)
{
	struct waited w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
			   false, 0};

	vf_cached_read(o, off, len, buf, finish_waited, &w);
	pthread_mutex_lock(&w.mtx);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.mtx);
	pthread_mutex_unlock(&w.mtx);
	return w.err;
}

/* Once per version, at its first open: two reads at the object's end. */
static int read_table(const struct inode *i, struct view_source *v)
{
	uint8_t footer[VF_FRAMES_FOOTER_LEN];
	VF_AUTO_FREE uint8_t *table = NULL;
	uint64_t len = 0, end = i->stored_len;
	int err = -EBADMSG;

	if (end >= sizeof(footer))
		err = read_waiting(v->stored, end - sizeof(footer),
				   sizeof(footer), footer);
	if (!err)
		err = vf_frames_footer(footer, end, &len);
	if (!err && !(table = malloc(len)))
		return -ENOMEM;
	if (!err)
		err = read_waiting(v->stored, end - len, len, table);
	if (!err)
		err = vf_frames_parse(table, len, end, &v->frames);
	if (!err && v->frames.out_off[v->frames.n_frames] != i->size)
		err = -EBADMSG;
	if (err == -EBADMSG)
		vf_fail(err, "%s: its seek table is damaged", i->key);
	return err;
}

static int open_view(struct fs *fs, const struct inode *i,
		     struct vf_cached **out)
{
	struct view_source *v = calloc(1, sizeof(*v));
	uint8_t id[16];
	int err = v ? open_object(fs, i, &v->stored) : -ENOMEM;

	if (!v)
		return err;
	v->source = (struct vf_source){start_view, free_view};
	if (!err)
		err = (v->key = strdup(i->key)) ? read_table(i, v) : -ENOMEM;
	if (err) {
		free_view(&v->source);
		return err;
	}
	identify(i, VIEW, id);
	return vf_cached_open(fs->cache, id, i->size, &v->source, out);
}

/* ---- operations ------------------------------------------------------------------------ */

static int open_data(struct fs *fs, struct inode *i)
{
	int err = 0;

	pthread_mutex_lock(&i->open_mtx);
	if (!i->data && i->size)
		err = i->kind == VIEW ? open_view(fs, i, &i->data)
				      : open_object(fs, i, &i->data);
	pthread_mutex_unlock(&i->open_mtx);
	return err;
}

static int open_text(struct fs *fs, const struct inode *i,
		     struct fuse_file_info *fi)
{
	struct vf_buf *b = calloc(1, sizeof(*b));
	int err = b ? vf_control_text(fs, i->kind, b) : -ENOMEM;

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
	return i->kind == STATUS || i->kind == METRICS;
}

static void free_text(struct fuse_file_info *fi)
{
	struct vf_buf *b = (struct vf_buf *)(uintptr_t)fi->fh;

	vf_buf_fini(b);
	free(b);
}

/* The bucket's file for the first handle, checked to be the version looked up;
 * -1 when the handle is to be read through the daemon. */
static int open_backing(struct fs *fs, const struct inode *i, int *out_fd)
{
	int err;

	*out_fd = -1;
	if (i->backing.n_open || !atomic_load(&fs->passthrough.on) ||
	    i->size != i->stored_len)
		return 0;
	err = vf_bucket_open_file(fs->bucket, i->key, i->etag, out_fd);
	/* With ESTALE the kernel looks the name up again and opens what it
	 * leads to now. */
	return err == -ESTALE || err == -ENOENT ? -ESTALE : 0;
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
	pthread_mutex_unlock(&i->open_mtx);
	return err;
}

static void release_object_inode(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&i->open_mtx);
	vf_passthrough_close(&fs->passthrough, &i->backing);
	pthread_mutex_unlock(&i->open_mtx);
}

static void open_object_file(fuse_req_t req, struct fs *fs, struct inode *i,
			     struct fuse_file_info *fi)
{
	uint32_t id = 0;
	int err = open_object_inode(fs, i, &id);

	if (!err && !id && (err = open_data(fs, i)))
		release_object_inode(fs, i);
	if (err) {
		fuse_reply_err(req, vf_fs_errno(err));
		return;
	}
	fi->keep_cache = 1;
	if (id ? vf_passthrough_reply(req, id) : fuse_reply_open(req, fi))
		release_object_inode(fs, i); /* interrupted */
}

bool vf_fs_is_passed(struct fs *fs, struct inode *i)
{
	const struct vf_backing *b = &i->backing;
	bool passed;

	if (i->kind != OBJECT)
		return false;
	pthread_mutex_lock(&i->open_mtx);
	passed = b->n_open ? b->id != 0
			   : atomic_load(&fs->passthrough.on) && !b->refused &&
				     i->size == i->stored_len;
	pthread_mutex_unlock(&i->open_mtx);
	return passed;
}

void vf_fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);
	int err = 0;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
		err = -EROFS;
	else if (is_text(i))
		err = open_text(fs, i, fi);
	else if (i->kind == VIEW)
		err = open_data(fs, i);
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

/* True for each row that lives: all of them, until rows can be deleted. */
static void fill_alive(const struct inode *i, uint64_t off, size_t len,
		       uint8_t *out)
{
	uint8_t header[128];
	size_t n = vf_npy_bool_header(i->n_rows, header), head = 0;

	if (off < n) {
		head = VF_MIN(len, n - off);
		memcpy(out, header + off, head);
	}
	memset(out + head, 1, len - head);
}

void vf_fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct inode *i = vf_inode(fs, ino);
	struct vf_buf *text = (struct vf_buf *)(uintptr_t)fi->fh;
	uint64_t end = is_text(i) ? text->len : i->size, from = (uint64_t)off;
	size_t len = from < end ? VF_MIN((uint64_t)size, end - from) : 0;
	struct reading *r;

	atomic_fetch_add(&fs->n_reads, 1);
	if (is_text(i) || !len) {
		fuse_reply_buf(req, len ? (char *)text->data + off : NULL, len);
		return;
	}
	if (i->kind == OBJECT && !i->data) { /* passed through: none comes */
		fuse_reply_err(req, EIO);
		return;
	}
	r = malloc(sizeof(*r) + len);
	if (!r) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	r->req = req;
	r->fs = fs;
	r->len = len;
	if (i->kind != ALIVE) {
		vf_cached_read(i->data, from, len, r->buf, finish_read, r);
		return;
	}
	fill_alive(i, from, len, r->buf);
	finish_read(r, 0);
}
