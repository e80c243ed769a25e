/*
 * The seekable zstd format: an ordinary zstd file made of independent frames
 * and a seek table in a skippable frame at its end.  Pure: buffers in and out.
 *
 * Source: zstd, contrib/seekable_format/zstd_seekable_compression_format.md.
 */
#ifndef VF_STORE_FRAMES_H
#define VF_STORE_FRAMES_H

#include "store/util.h"

enum {
	VF_FRAME_MAX = 1 << 20, /* decompressed bytes of one frame */
	VF_FRAME_DEFAULT = 64 << 10,
	VF_FRAMES_FOOTER_LEN = 9,
};

/* Where each frame begins; both arrays have n_frames + 1 entries. */
struct vf_frames {
	uint32_t n_frames;
	uint64_t *in_off;  /* in the stored object, owned */
	uint64_t *out_off; /* in the decompressed bytes, owned */
};

/*
 * How many bytes at the end of the object hold the table, from its last
 * VF_FRAMES_FOOTER_LEN bytes.
 * Returns 0; -EBADMSG not a seek table, or it cannot fit in @object_len.
 */
int vf_frames_footer(const uint8_t footer[VF_FRAMES_FOOTER_LEN],
		     uint64_t object_len, uint64_t *out_table_len);

/*
 * Parse the table (the last @len bytes of the object).  Frames must add up to
 * exactly the object, none decompresses to more than VF_FRAME_MAX nor is
 * longer than such a frame can be.
 * Returns 0; -EBADMSG; -ENOMEM.  Release with vf_frames_fini.
 */
int vf_frames_parse(const void *table, size_t len, uint64_t object_len,
		    struct vf_frames *out);
void vf_frames_fini(struct vf_frames *f);

/* The frame that holds decompressed byte @off (< total). */
uint32_t vf_frames_find(const struct vf_frames *f, uint64_t off);

/*
 * Decompress one whole frame, in_off[i]..in_off[i+1] of the object, into @out
 * of exactly out_off[i+1] - out_off[i] bytes.  The frame's own checksum is
 * verified.  Returns 0; -EBADMSG; -ENOMEM.  Threads: any.
 */
int vf_frame_decompress(const void *in, size_t in_len, void *out,
			size_t out_len);

/*
 * Writing, as a stream: bytes go in, finished frames come out appended to the
 * caller's buffer, who may send and empty it at any time.
 */
struct vf_framer;
int vf_framer_new(size_t frame_len, int level, struct vf_framer **out);
void vf_framer_free(struct vf_framer *f);
int vf_framer_write(struct vf_framer *f, const void *p, size_t len,
		    struct vf_buf *out);
/* The last frame and the seek table. */
int vf_framer_finish(struct vf_framer *f, struct vf_buf *out);

#endif
