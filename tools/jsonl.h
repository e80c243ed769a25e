/*
 * Lines of records.jsonl, {"key":"...","metadata":{...}}, and the checks of
 * what users give for them.  Pure.
 */
#ifndef VF_TOOLS_JSONL_H
#define VF_TOOLS_JSONL_H

#include "store/util.h"

/*
 * NULL when @key can be a key: 1 to VF_KEY_MAX bytes of UTF-8 without NUL;
 * else a constant that ends the sentence "the key ...".  Threads: any.
 */
const char *vf_key_check(const char *key, size_t len);

/*
 * Append the metadata object @json as compact JSON: the user's own spelling of
 * every value, without blanks.
 *
 * @reason  of -EINVAL: ends the sentence "the metadata ..."
 * Returns 0; -EINVAL not a flat object (strings, numbers, booleans, lists of
 * these), members twice, over VF_METADATA_MAX bytes; -ENOMEM.  Threads: any.
 */
int vf_metadata_append(const char *json, size_t len, struct vf_buf *out,
		       char reason[128]);

/*
 * Append one line with its newline.  @key passed vf_key_check; @metadata is
 * compact already; NULL is an empty object.  Returns 0; -ENOMEM.
 */
int vf_record_line_append(const char *key, size_t key_len, const char *metadata,
			  size_t metadata_len, struct vf_buf *out);

/* The key in one line of records.jsonl, caller's to free(); may hold no NUL.
 * Returns 0; -EBADMSG; -ENOMEM.  Threads: any. */
int vf_record_line_key(const char *line, size_t len, char **out_key,
		       size_t *out_len);

/*
 * Where the value of member @name is in @json, which is a valid object: as it
 * is spelled.  NULL when there is none, or its name is written with escapes.
 */
const char *vf_json_member(const char *json, size_t len, const char *name,
			   size_t *out_len);

/* One line of a file of texts: {"key","text","metadata"}, others ignored. */
struct vf_text_line {
	char *key, *text; /* owned */
	size_t key_len, text_len;
	const char *metadata; /* in the line itself; NULL when absent */
	size_t metadata_len;
};
/* Returns 0; -EINVAL with @reason; -ENOMEM.  Threads: any. */
int vf_text_line_parse(const char *line, size_t len, struct vf_text_line *out,
		       char reason[128]);

/*
 * One line of a stream of rows: {"key","vector","metadata"}, others ignored.
 * @x  float[dim], gets the vector; out->text stays NULL
 * Returns as vf_text_line_parse.
 */
int vf_row_line_parse(const char *line, size_t len, uint32_t dim, float *x,
		      struct vf_text_line *out, char reason[128]);

/*
 * The member "vector" of the object @line into float[dim], and the line with a
 * number in its place: when that is a valid object, @line was one.
 *
 * @out  overwritten: @cut->len bytes behind @cut->at are missing
 * Returns 0; -EINVAL it has to be parsed as it is; -ENOMEM.  Threads: any.
 */
struct vf_row_cut {
	const char *found; /* where it begins, perhaps; NULL: nowhere */
	size_t at, len;
};
int vf_row_line_cut(const char *line, size_t len, uint32_t dim, float *x,
		    struct vf_buf *out, struct vf_row_cut *cut);

void vf_text_line_fini(struct vf_text_line *t);

#endif
