/*
 * One line of records.jsonl, {"key":"...","metadata":{...}} and a newline, as
 * our writers spell it.  Pure.
 */
#ifndef VF_STORE_LINE_H
#define VF_STORE_LINE_H

#include "store/util.h"

/* Bytes of a line: a key all escapes, metadata, what is around them. */
enum { VF_LINE_MAX = 8 * VF_KEY_MAX + VF_METADATA_MAX + 64 };

/* Views into the line. */
struct vf_line {
	const char *key; /* between its quotes, escapes as they are */
	size_t key_len;
	const char *metadata; /* the object, braces included */
	size_t metadata_len;
};

/*
 * Returns 0; -EBADMSG not one whole line of ours, or one with control bytes.
 * What is inside the metadata's braces is not parsed.  Threads: any.
 */
int vf_line_split(const char *line, size_t len, struct vf_line *out);

/*
 * Append the key of @line without its escapes.  Returns 0; -EBADMSG an escape
 * that is none, a key that is empty, too long, or holds NUL; -ENOMEM.
 */
int vf_line_key(const struct vf_line *line, struct vf_buf *out);

#endif
