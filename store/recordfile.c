/*
 *   window   stored bytes [window_off, +window.len) as they came
 *   plain    frame number @frame, decompressed
 */
#include "store/recordfile.h"

#include "store/frames.h"

enum { TABLE_MAX = 256 << 20, PLAIN_STEP = 64 << 10 };

struct vf_recordfile {
	struct vf_bucket *bucket;
	char *key;
	char etag[VF_ETAG_MAX];
	uint64_t stored_len, len;
	bool zstd;
	struct vf_frames frames;
	size_t window_min;
	struct vf_buf window, plain;
	uint64_t window_off;
	uint32_t frame; /* UINT32_MAX: none */
};

static bool is_in_window(const struct vf_recordfile *f, uint64_t off,
			 uint64_t end)
{
	return off >= f->window_off && end <= f->window_off + f->window.len;
}

static int fetch(struct vf_recordfile *f, uint64_t off, size_t len, void *to)
{
	size_t got;

	if (is_in_window(f, off, off + len)) {
		memcpy(to, f->window.data + (off - f->window_off), len);
		return 0;
	}
	int err = vf_bucket_get(f->bucket, f->key, f->etag, off, len, to, &got,
				NULL);

	if (!err && got != len)
		err = -EBADMSG;
	if (err == -EBADMSG || err == -ENOENT || err == -ESTALE)
		vf_log(VF_ERROR, "%s: %s", f->key, vf_strerror(err));
	return err;
}

static int fetch_table(struct vf_recordfile *f)
{
	uint8_t footer[VF_FRAMES_FOOTER_LEN];
	uint64_t len;
	int err;

	if (f->stored_len < sizeof(footer))
		return vf_fail(-EBADMSG, "%s: too short", f->key);
	err = fetch(f, f->stored_len - sizeof(footer), sizeof(footer), footer);
	if (err)
		return err;
	err = vf_frames_footer(footer, f->stored_len, &len);
	if (err || len > TABLE_MAX)
		return vf_fail(-EBADMSG, "%s: damaged seek table", f->key);
	VF_AUTO_FREE uint8_t *table = malloc(len);
	if (!table)
		return vf_fail(-ENOMEM, "%s: %s", f->key, strerror(ENOMEM));
	err = fetch(f, f->stored_len - len, len, table);
	if (err)
		return err;
	err = vf_frames_parse(table, len, f->stored_len, &f->frames);
	if (!err && f->frames.out_off[f->frames.n_frames] != f->len)
		err = -EBADMSG;
	return err ? vf_fail(err, "%s: damaged seek table", f->key) : 0;
}

/* One of @want bytes that fits into the window comes with the first request. */
static int look_up(struct vf_recordfile *f, uint64_t want, struct vf_object *o)
{
	size_t got;

	if (!want || want > f->window_min)
		return vf_bucket_head(f->bucket, f->key, o);
	if (vf_buf_reserve(&f->window, want))
		return vf_fail(-ENOMEM, "%s: %s", f->key, strerror(ENOMEM));
	int err = vf_bucket_get(f->bucket, f->key, NULL, 0, want,
				f->window.data, &got, o);
	if (!err && got == want)
		f->window.len = got;
	return err;
}

/* A copy of what a mount shows has NAME for NAME.zst. */
static int find_object(struct vf_recordfile *f, const struct vf_object_ref *ref)
{
	struct vf_object o;
	uint64_t want = ref->stored_len;
	int err = look_up(f, want, &o);

	f->zstd = ref->zstd;
	if (err == -ENOENT && ref->zstd) {
		f->key[strlen(f->key) - strlen(".zst")] = '\0';
		f->zstd = false;
		want = ref->len;
		err = look_up(f, want, &o);
	}
	if (err)
		return err == -ENOENT ? vf_fail(err, "%s: is not there", f->key)
				      : err;
	if (o.size != want)
		return vf_fail(-EBADMSG, "%s: has %llu bytes, not %llu", f->key,
			       (unsigned long long)o.size,
			       (unsigned long long)want);
	memcpy(f->etag, o.etag, sizeof(f->etag));
	f->stored_len = o.size;
	f->len = ref->len;
	return 0;
}

int vf_recordfile_open(struct vf_bucket *b, const char *index,
		       const struct vf_shard_ref *ref, size_t window,
		       struct vf_recordfile **out)
{
	struct vf_recordfile *f = calloc(1, sizeof(*f));

	if (!f)
		return vf_fail(-ENOMEM, "%s: %s", index, strerror(ENOMEM));
	f->bucket = b;
	f->window_min = window;
	f->frame = UINT32_MAX;
	f->key = vf_shard_key(index, ref->name, ref->records.name);
	int err = f->key ? find_object(f, &ref->records) : -ENOMEM;
	if (!err && f->zstd)
		err = fetch_table(f);
	if (err) {
		vf_recordfile_close(f);
		return err;
	}
	*out = f;
	return 0;
}

void vf_recordfile_close(struct vf_recordfile *f)
{
	if (!f)
		return;
	vf_frames_fini(&f->frames);
	vf_buf_fini(&f->window);
	vf_buf_fini(&f->plain);
	free(f->key);
	free(f);
}

uint64_t vf_recordfile_len(const struct vf_recordfile *f)
{
	return f->len;
}

bool vf_recordfile_is_plain(const struct vf_recordfile *f)
{
	return !f->zstd;
}

int vf_recordfile_damaged(const struct vf_recordfile *f, uint64_t row)
{
	return vf_fail(-EBADMSG,
		       "%s: the line of row %llu is damaged: copy the file "
		       "again from its bucket or a backup",
		       f->key, (unsigned long long)row);
}

/* Make the stored bytes [off, end) part of the window. */
static int fill_window(struct vf_recordfile *f, uint64_t off, uint64_t end,
		       uint64_t limit)
{
	if (is_in_window(f, off, end))
		return 0;
	uint64_t len = VF_MAX(end - off, (uint64_t)f->window_min);
	len = VF_MIN(len, limit - off);
	f->window.len = 0;
	if (vf_buf_reserve(&f->window, len))
		return vf_fail(-ENOMEM, "%s: %s", f->key, strerror(ENOMEM));
	int err = fetch(f, off, len, f->window.data);
	if (err)
		return err;
	f->window_off = off;
	f->window.len = len;
	return 0;
}

static int load_frame(struct vf_recordfile *f, uint32_t i)
{
	const struct vf_frames *t = &f->frames;
	size_t out_len = t->out_off[i + 1] - t->out_off[i];
	int err;

	if (f->frame == i)
		return 0;
	f->frame = UINT32_MAX;
	err = fill_window(f, t->in_off[i], t->in_off[i + 1],
			  t->in_off[t->n_frames]);
	f->plain.len = 0;
	if (!err && vf_buf_reserve(&f->plain, out_len))
		err = vf_fail(-ENOMEM, "%s: %s", f->key, strerror(ENOMEM));
	if (err)
		return err;
	err = vf_frame_decompress(
		f->window.data + (t->in_off[i] - f->window_off),
		t->in_off[i + 1] - t->in_off[i], f->plain.data, out_len);
	if (err)
		return vf_fail(err, "%s: frame %u: %s", f->key, i,
			       vf_strerror(err));
	f->plain.len = out_len;
	f->frame = i;
	return 0;
}

int vf_recordfile_read(struct vf_recordfile *f, uint64_t off,
		       const uint8_t **out_p, size_t *out_len)
{
	int err;

	*out_p = NULL;
	*out_len = 0;
	if (off >= f->len)
		return 0;
	if (!f->zstd) {
		bool there = off - f->window_off < f->window.len;
		uint64_t end = VF_MIN(off + PLAIN_STEP, f->len);
		err = there ? 0 : fill_window(f, off, end, f->len);
		if (err)
			return err;
		*out_p = f->window.data + (off - f->window_off);
		*out_len = f->window_off + f->window.len - off;
		return 0;
	}
	uint32_t i = vf_frames_find(&f->frames, off);
	err = load_frame(f, i);
	if (err)
		return err;
	*out_p = f->plain.data + (off - f->frames.out_off[i]);
	*out_len = f->frames.out_off[i + 1] - off;
	return 0;
}

int vf_recordfile_copy(struct vf_recordfile *f, uint64_t off, size_t len,
		       struct vf_buf *out)
{
	while (len) {
		const uint8_t *p;
		size_t n;
		int err = vf_recordfile_read(f, off, &p, &n);
		if (err)
			return err;
		if (!n)
			return vf_fail(-EBADMSG, "%s: ends too early", f->key);
		n = VF_MIN(n, len);
		if (vf_buf_append(out, p, n))
			return vf_fail(-ENOMEM, "%s: %s", f->key,
				       strerror(ENOMEM));
		off += n;
		len -= n;
	}
	return 0;
}
