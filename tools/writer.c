/*
 * A stream is an upload, the checksum of what was sent, and perhaps a
 * compressor in front.
 */
#include "tools/writer.h"

#include <stdio.h>
#include <xxhash.h>

#include "index/crew.h"
#include "store/frames.h"
#include "store/npy.h"

enum { RECORDS_LEVEL = 3, VECTORS_LEVEL = 1 };
enum { SEND_LEN = 1 << 20 }; /* compressed bytes gathered before a write */

struct stream {
	struct vf_upload *upload; /* NULL once finished */
	XXH3_state_t *hash;
	struct vf_framer *framer; /* NULL: plain */
	struct vf_buf frames;	  /* compressed, not sent yet */
	struct vf_object_ref *ref;
};

struct vf_writer {
	struct vf_writer_options opt;
	struct vf_shard_ref *ref; /* borrowed */
	struct vf_builder *builder;
	struct stream vectors, records;
};

/* ---- streams -------------------------------------------------------------------- */

static int open_stream(struct stream *s, struct vf_bucket *b, const char *key,
		       int level, struct vf_object_ref *ref)
{
	s->ref = ref;
	s->hash = XXH3_createState();
	if (!s->hash)
		return vf_fail(-ENOMEM, "%s: %s", key, strerror(ENOMEM));
	XXH3_64bits_reset(s->hash);
	ref->stored_len = ref->len = 0;
	ref->zstd = level > 0;
	if (level > 0) {
		int err = vf_framer_new(VF_FRAME_DEFAULT, level, &s->framer);
		if (err)
			return vf_fail(err, "%s: %s", key, vf_strerror(err));
	}
	return vf_upload_open(b, key, &s->upload);
}

static int send_bytes(struct stream *s, const void *p, size_t len)
{
	if (!len)
		return 0;
	XXH3_64bits_update(s->hash, p, len);
	s->ref->stored_len += len;
	return vf_upload_write(s->upload, p, len);
}

static int send_frames(struct stream *s, int err, size_t at_least)
{
	if (!err && s->frames.len < at_least)
		return 0;
	if (err)
		return vf_fail(err, "%s: cannot compress: %s", s->ref->name,
			       vf_strerror(err));
	err = send_bytes(s, s->frames.data, s->frames.len);
	s->frames.len = 0;
	return err;
}

static int write_stream(struct stream *s, const void *p, size_t len)
{
	s->ref->len += len;
	if (!s->framer)
		return send_bytes(s, p, len);
	return send_frames(s, vf_framer_write(s->framer, p, len, &s->frames),
			   SEND_LEN);
}

static int finish_stream(struct stream *s)
{
	int err = 0;

	if (s->framer)
		err = send_frames(s, vf_framer_finish(s->framer, &s->frames),
				  0);
	if (err)
		return err;
	s->ref->checksum = XXH3_64bits_digest(s->hash);
	return vf_upload_commit(VF_STEAL(s->upload), NULL);
}

static void close_stream(struct stream *s)
{
	vf_upload_abort(s->upload);
	vf_framer_free(s->framer);
	vf_buf_fini(&s->frames);
	XXH3_freeState(s->hash);
}

int vf_object_write(struct vf_bucket *b, const char *key, const void *data,
		    size_t len, struct vf_object_ref *ref)
{
	struct stream s = {0};
	int err = open_stream(&s, b, key, 0, ref);

	if (!err)
		err = write_stream(&s, data, len);
	if (!err)
		err = finish_stream(&s);
	close_stream(&s);
	return err;
}

/* ---- the shard -------------------------------------------------------------------- */

static int open_object(struct vf_writer *w, struct stream *s, int level,
		       struct vf_object_ref *ref)
{
	VF_AUTO_FREE char *key =
		vf_shard_key(w->opt.index, w->ref->name, ref->name);

	if (!key)
		return vf_fail(-ENOMEM, "%s: %s", ref->name, strerror(ENOMEM));
	return open_stream(s, w->opt.bucket, key, level, ref);
}

static void set_name(struct vf_object_ref *ref, const char *name, bool zstd)
{
	snprintf(ref->name, sizeof(ref->name), "%s%s", name,
		 zstd ? ".zst" : "");
}

static int write_header(struct vf_writer *w)
{
	struct vf_npy npy = {.dtype = w->opt.dtype,
			     .n_rows = w->ref->n_rows,
			     .dim = w->opt.dim};
	uint8_t header[VF_NPY_DATA_OFF];

	vf_npy_header(&npy, header);
	return write_stream(&w->vectors, header, sizeof(header));
}

int vf_writer_open(const struct vf_writer_options *opt,
		   struct vf_shard_ref *ref, struct vf_writer **out)
{
	struct vf_writer *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return vf_fail(-ENOMEM, "%s: %s", ref->name, strerror(ENOMEM));
	w->opt = *opt;
	w->ref = ref;
	set_name(&ref->vectors, "vectors.npy", opt->compress);
	set_name(&ref->records, "records.jsonl", true);
	set_name(&ref->codes, "codes.vix", false);
	err = vf_builder_new(opt->encoder, opt->dtype, &w->builder);
	if (err)
		vf_log(VF_ERROR, "%s: %s", ref->name, vf_strerror(err));
	else
		err = open_object(w, &w->vectors,
				  opt->compress ? VECTORS_LEVEL : 0,
				  &ref->vectors);
	if (!err)
		err = open_object(w, &w->records, RECORDS_LEVEL, &ref->records);
	if (!err)
		err = write_header(w);
	if (err) {
		vf_writer_free(w);
		return err;
	}
	*out = w;
	return 0;
}

int vf_writer_add(struct vf_writer *w, const struct vf_chunk *c)
{
	size_t row_len = w->opt.dim * vf_dtype_size(w->opt.dtype);
	const void *rows = c->half ? (const void *)c->half : c->x;
	int err = write_stream(&w->vectors, rows, c->n * row_len);

	if (!err)
		err = write_stream(&w->records, c->lines.data, c->lines.len);
	if (err)
		return err;
	const struct vf_coded coded = {c->codes, c->factors, c->extra,
				       c->extra_factors, c->leaf};
	err = vf_builder_add_coded(w->builder, &coded, c->rows, c->n);
	return err ? vf_fail(err, "%s: %s", w->ref->name, vf_strerror(err)) : 0;
}

static int write_codes(struct vf_writer *w)
{
	VF_AUTO_BUF struct vf_buf codes = {0};
	VF_AUTO_FREE char *key =
		vf_shard_key(w->opt.index, w->ref->name, w->ref->codes.name);
	int err = key ? vf_builder_finish(w->builder, &codes) : -ENOMEM;

	if (err)
		return vf_fail(err, "%s: %s", w->ref->name, vf_strerror(err));
	return vf_object_write(w->opt.bucket, key, codes.data, codes.len,
			       &w->ref->codes);
}

static int finish_piece(void *arg, size_t piece)
{
	struct vf_writer *w = arg;

	if (!piece)
		return write_codes(w);
	return finish_stream(piece == 1 ? &w->records : &w->vectors);
}

/* Each waits for the bucket: beside each other they wait once. */
int vf_writer_finish(struct vf_writer *w)
{
	return vf_crew_run(3, 3, finish_piece, w);
}

void vf_writer_free(struct vf_writer *w)
{
	if (!w)
		return;
	close_stream(&w->vectors);
	close_stream(&w->records);
	vf_builder_free(w->builder);
	free(w);
}

void vf_writer_remove(struct vf_bucket *b, const char *index,
		      const struct vf_shard_ref *ref)
{
	const struct vf_object_ref *const objects[] = {
		&ref->vectors, &ref->records, &ref->codes};

	for (size_t i = 0; i < VF_N(objects); i++) {
		VF_AUTO_FREE char *key =
			vf_shard_key(index, ref->name, objects[i]->name);
		if (key && objects[i]->name[0])
			vf_bucket_delete(b, key);
	}
}
