/*
 * Reading records.jsonl of a shard through a bucket: compressed as it is
 * stored, each frame with a checksum (of a mount too, which opens it by that
 * name), or plain as in a copy of what a mount shows, without any.
 */
#ifndef VF_STORE_RECORDFILE_H
#define VF_STORE_RECORDFILE_H

#include "store/commit.h"

struct vf_recordfile;

/*
 * @window  bytes to fetch at a time at least: large for reading through, 0
 *          for single lines
 * Returns 0; -ENOENT, -EBADMSG and others, logged.
 */
int vf_recordfile_open(struct vf_bucket *b, const char *index,
		       const struct vf_shard_ref *ref, size_t window,
		       struct vf_recordfile **out);
void vf_recordfile_close(struct vf_recordfile *f); /* accepts NULL */

/* Bytes of all lines. */
uint64_t vf_recordfile_len(const struct vf_recordfile *f);
/* It is not compressed, so that reading it finds no damage. */
bool vf_recordfile_is_plain(const struct vf_recordfile *f);
/* Log that the line of @row is not what was written.  Returns -EBADMSG. */
int vf_recordfile_damaged(const struct vf_recordfile *f, uint64_t row);

/*
 * Some of the decompressed bytes from @off on (at least one, when there is
 * one), valid until the next call.  Returns 0; -errno, logged.
 */
int vf_recordfile_read(struct vf_recordfile *f, uint64_t off,
		       const uint8_t **out_p, size_t *out_len);

/* Exactly @len bytes at @off, appended to @out. */
int vf_recordfile_copy(struct vf_recordfile *f, uint64_t off, size_t len,
		       struct vf_buf *out);

#endif
