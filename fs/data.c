/*
 * Where the bytes of an inode come from, as sources of the cache.
 *
 *   OBJECT  blocks are range GETs of the version that was looked up
 *   VIEW    blocks are decompressed from frames, whose stored bytes are read
 *           through the cache as well; only those go to the disk tier
 */
#include "fs/fs.h"
#include "fs/rewarm.h"
#include "store/frames.h"
#include "store/waiter.h"

#include <stdio.h>
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

static _Thread_local unsigned n_begun;

unsigned vf_fs_requests_begun(void)
{
	return n_begun;
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
	n_begun++;
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

/*
 * Equal for equal bytes: by server and bucket too, for the disk tier is there
 * for the next mount, and an ETag need not follow from the bytes.
 */
static void identify(const char *bucket, const struct inode *i, enum kind kind,
		     uint8_t id[16])
{
	VF_AUTO_BUF struct vf_buf b = {0};
	XXH128_canonical_t canonical;

	if (vf_buf_append(&b, bucket, strlen(bucket) + 1) ||
	    vf_buf_append(&b, i->key, strlen(i->key) + 1) ||
	    vf_buf_append(&b, i->etag, strlen(i->etag) + 1) ||
	    vf_buf_append(&b, &i->stored_len, sizeof(i->stored_len)) ||
	    vf_buf_append(&b, &kind, sizeof(kind))) {
		vf_random(id, 16); /* no memory: nothing is shared */
		return;
	}
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(b.data, b.len));
	memcpy(id, canonical.digest, 16);
}

static int open_object(struct fs *fs, const struct inode *i, unsigned flags,
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
	identify(vf_bucket_identity(fs->bucket), i, OBJECT, id);
	vf_rewarm_note(fs->rewarm, id, i->key, i->etag, i->stored_len);
	return vf_cached_open(fs->cache, id, i->stored_len, i->key, flags,
			      &s->source, out);
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

static void finish_waited(void *arg, int err)
{
	vf_waiter_wake(arg, err);
}

static int read_waiting(struct vf_cached *o, uint64_t off, size_t len,
			void *buf)
{
	struct vf_waiter w = VF_WAITER;

	vf_cached_read(o, off, len, buf, finish_waited, &w);
	return vf_waiter_wait(&w);
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
	int err = v ? open_object(fs, i, 0, &v->stored) : -ENOMEM;

	if (!v)
		return err;
	v->source = (struct vf_source){start_view, free_view};
	if (!err)
		err = (v->key = strdup(i->key)) ? read_table(i, v) : -ENOMEM;
	if (err) {
		free_view(&v->source);
		return err;
	}
	identify(vf_bucket_identity(fs->bucket), i, VIEW, id);
	return vf_cached_open(fs->cache, id, i->size, i->key,
			      VF_CACHED_RAM_ONLY, &v->source, out);
}

/* ---- what is stored, for pins and warming -------------------------------------------------- */

static struct inode object_of(const char *key, const char *etag, uint64_t size)
{
	struct inode i = {.key = (char *)key, .stored_len = size};

	snprintf(i.etag, sizeof(i.etag), "%s", etag);
	return i;
}

void vf_fs_stored_id(const char *bucket, const char *key, const char *etag,
		     uint64_t size, uint8_t out_id[16])
{
	struct inode i = object_of(key, etag, size);

	identify(bucket, &i, OBJECT, out_id);
}

int vf_fs_stored_open(struct fs *fs, const char *key, const char *etag,
		      uint64_t size, struct vf_cached **out)
{
	struct inode i = object_of(key, etag, size);

	return open_object(fs, &i, VF_CACHED_NO_AHEAD, out);
}

int vf_fs_view_part(struct fs *fs, const struct inode *i, uint64_t *off,
		    uint64_t *end, uint64_t *out_table_off)
{
	struct view_source v = {.key = i->key};
	const struct vf_frames *f = &v.frames;
	int err = open_object(fs, i, VF_CACHED_NO_AHEAD, &v.stored);

	if (!err)
		err = read_table(i, &v);
	if (!err) {
		*off = f->in_off[vf_frames_find(f, *off)];
		*end = f->in_off[vf_frames_find(f, *end - 1) + 1];
		*out_table_off = f->in_off[f->n_frames];
	}
	vf_frames_fini(&v.frames);
	vf_cached_put(v.stored);
	return err;
}

/* ---- the first open ------------------------------------------------------------------- */

int vf_fs_data_open_locked(struct fs *fs, struct inode *i)
{
	if (i->data || !i->size)
		return 0;
	return i->kind == VIEW ? open_view(fs, i, &i->data)
			       : open_object(fs, i, 0, &i->data);
}

int vf_fs_told_open(struct fs *fs, struct inode *i)
{
	int err = 0;

	pthread_mutex_lock(&i->open_mtx);
	if (!i->told && i->size && i->kind == OBJECT)
		err = open_object(fs, i, VF_CACHED_NO_AHEAD, &i->told);
	pthread_mutex_unlock(&i->open_mtx);
	return err;
}

int vf_fs_data_open(struct fs *fs, struct inode *i)
{
	int err;

	pthread_mutex_lock(&i->open_mtx);
	err = vf_fs_data_open_locked(fs, i);
	pthread_mutex_unlock(&i->open_mtx);
	return err;
}
