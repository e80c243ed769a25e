/*
 * An object, little-endian:
 *
 *   frames       independent zstd frames with content size and checksum
 *   4            0x184D2A5E, a skippable frame
 *   4            its length: 8 * n + 9
 *   8 * n        per frame: compressed length, decompressed length
 *   4            n
 *   1            descriptor: 0, no checksums in the table
 *   4            0x8F92EAB1
 */
#include "store/frames.h"

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

enum { TABLE_HEAD_LEN = 8, ENTRY_LEN = 8, N_FRAMES_MAX = 1 << 27 };

#define SKIPPABLE_MAGIC 0x184d2a5eu
#define TABLE_MAGIC	0x8f92eab1u

/* ---- reading --------------------------------------------------------------------------- */

int vf_frames_footer(const uint8_t footer[VF_FRAMES_FOOTER_LEN],
		     uint64_t object_len, uint64_t *out_table_len)
{
	uint64_t n = vf_le32(footer), len;

	if (vf_le32(footer + 5) != TABLE_MAGIC || footer[4] || n > N_FRAMES_MAX)
		return -EBADMSG;
	len = TABLE_HEAD_LEN + n * ENTRY_LEN + VF_FRAMES_FOOTER_LEN;
	if (len > object_len)
		return -EBADMSG;
	*out_table_len = len;
	return 0;
}

int vf_frames_parse(const void *table, size_t len, uint64_t object_len,
		    struct vf_frames *out)
{
	const uint8_t *b = table;
	uint64_t table_len, in = 0, total = 0;
	size_t in_max = ZSTD_compressBound(VF_FRAME_MAX);
	bool fits = true;
	uint32_t n;

	*out = (struct vf_frames){0};
	if (len < TABLE_HEAD_LEN + VF_FRAMES_FOOTER_LEN ||
	    vf_frames_footer(b + len - VF_FRAMES_FOOTER_LEN, object_len,
			     &table_len) ||
	    table_len != len || vf_le32(b) != SKIPPABLE_MAGIC ||
	    vf_le32(b + 4) != len - TABLE_HEAD_LEN)
		return -EBADMSG;
	n = vf_le32(b + len - VF_FRAMES_FOOTER_LEN);
	out->n_frames = n;
	out->in_off = malloc(((size_t)n + 1) * sizeof(*out->in_off));
	out->out_off = malloc(((size_t)n + 1) * sizeof(*out->out_off));
	if (!out->in_off || !out->out_off) {
		vf_frames_fini(out);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *e = b + TABLE_HEAD_LEN + (size_t)i * ENTRY_LEN;
		uint32_t in_len = vf_le32(e), out_len = vf_le32(e + 4);
		out->in_off[i] = in;
		out->out_off[i] = total;
		in += in_len;
		total += out_len;
		/* Both lengths become buffers of the reader. */
		fits = fits && in_len && in_len <= in_max && out_len &&
		       out_len <= VF_FRAME_MAX;
	}
	out->in_off[n] = in;
	out->out_off[n] = total;
	if (fits && in == object_len - len)
		return 0;
	vf_frames_fini(out);
	return -EBADMSG;
}

void vf_frames_fini(struct vf_frames *f)
{
	free(f->in_off);
	free(f->out_off);
	*f = (struct vf_frames){0};
}

uint32_t vf_frames_find(const struct vf_frames *f, uint64_t off)
{
	uint32_t lo = 0, hi = f->n_frames;

	assert(off < f->out_off[f->n_frames]);
	while (hi - lo > 1) { /* out_off[lo] <= off < out_off[hi] */
		uint32_t mid = lo + (hi - lo) / 2;
		if (f->out_off[mid] <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

int vf_frame_decompress(const void *in, size_t in_len, void *out,
			size_t out_len)
{
	ZSTD_frameHeader h;
	size_t n;

	/* Ours say how long they are and carry a checksum: one that does not
	 * is damaged, and would go unchecked. */
	if (ZSTD_getFrameHeader(&h, in, in_len) || !h.checksumFlag ||
	    h.frameContentSize != out_len || h.frameType != ZSTD_frame)
		return -EBADMSG;
	n = ZSTD_findFrameCompressedSize(in, in_len);
	if (ZSTD_isError(n) || n != in_len)
		return -EBADMSG;
	n = ZSTD_decompress(out, out_len, in, in_len);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation
			       ? -ENOMEM
			       : -EBADMSG;
	return n == out_len ? 0 : -EBADMSG;
}

/* ---- writing --------------------------------------------------------------------------- */

struct vf_framer {
	ZSTD_CCtx *cctx;
	uint8_t *pending; /* [frame_len], the frame being gathered */
	size_t frame_len, n_pending;
	struct vf_buf table; /* entries so far */
	uint32_t n_frames;
};

int vf_framer_new(size_t frame_len, int level, struct vf_framer **out)
{
	struct vf_framer *f = calloc(1, sizeof(*f));

	assert(frame_len && frame_len <= VF_FRAME_MAX);
	*out = NULL;
	if (!f)
		return -ENOMEM;
	f->cctx = ZSTD_createCCtx();
	f->pending = malloc(frame_len);
	f->frame_len = frame_len;
	if (!f->cctx || !f->pending) {
		vf_framer_free(f);
		return -ENOMEM;
	}
	ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_contentSizeFlag, 1);
	ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_checksumFlag, 1);
	*out = f;
	return 0;
}

void vf_framer_free(struct vf_framer *f)
{
	if (!f)
		return;
	ZSTD_freeCCtx(f->cctx);
	free(f->pending);
	vf_buf_fini(&f->table);
	free(f);
}

static int emit_frame(struct vf_framer *f, struct vf_buf *out)
{
	size_t cap = ZSTD_compressBound(f->n_pending), n;
	uint8_t entry[ENTRY_LEN];
	int err = vf_buf_reserve(out, cap);

	if (err)
		return err;
	n = ZSTD_compress2(f->cctx, out->data + out->len, cap, f->pending,
			   f->n_pending);
	if (ZSTD_isError(n))
		return -ENOMEM;
	out->len += n;
	vf_put_le32(entry, (uint32_t)n);
	vf_put_le32(entry + 4, (uint32_t)f->n_pending);
	f->n_pending = 0;
	if (++f->n_frames > N_FRAMES_MAX)
		return -EFBIG;
	return vf_buf_append(&f->table, entry, sizeof(entry));
}

int vf_framer_write(struct vf_framer *f, const void *p, size_t len,
		    struct vf_buf *out)
{
	const uint8_t *at = p;
	int err = 0;

	while (len && !err) {
		size_t n = VF_MIN(len, f->frame_len - f->n_pending);
		memcpy(f->pending + f->n_pending, at, n);
		f->n_pending += n;
		at += n;
		len -= n;
		if (f->n_pending == f->frame_len)
			err = emit_frame(f, out);
	}
	return err;
}

int vf_framer_finish(struct vf_framer *f, struct vf_buf *out)
{
	uint8_t head[TABLE_HEAD_LEN], foot[VF_FRAMES_FOOTER_LEN] = {0};
	int err = f->n_pending ? emit_frame(f, out) : 0;

	if (err)
		return err;
	vf_put_le32(head, SKIPPABLE_MAGIC);
	vf_put_le32(head + 4, (uint32_t)(f->table.len + sizeof(foot)));
	vf_put_le32(foot, f->n_frames);
	vf_put_le32(foot + 5, TABLE_MAGIC);
	err = vf_buf_append(out, head, sizeof(head));
	if (!err)
		err = vf_buf_append(out, f->table.data, f->table.len);
	return err ? err : vf_buf_append(out, foot, sizeof(foot));
}
