/* What every source shares. */
#include "tools/source.h"

#include <stdarg.h>
#include <stdio.h>

#include "store/line.h"
#include "tools/jsonl.h"

int vf_chunk_fail(struct vf_chunk *c, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->reason, sizeof(c->reason), fmt, ap);
	va_end(ap);
	return c->err = err;
}

int vf_chunk_add_line(struct vf_chunk *c, size_t i, const char *key,
		      size_t key_len, const char *metadata, size_t metadata_len)
{
	struct vf_builder_row *row = &c->rows[i];
	size_t before = c->lines.len;
	int err = vf_record_line_append(key, key_len, metadata, metadata_len,
					&c->lines);

	if (err)
		return vf_chunk_fail(c, err, "%s", vf_strerror(err));
	row->key_hash = vf_key_hash(key, key_len);
	row->line_len = (uint32_t)(c->lines.len - before);
	row->line_crc = vf_crc32c(0, c->lines.data + before, row->line_len);
	return 0;
}

int vf_chunk_describe_line(struct vf_chunk *c, size_t i, const char *line,
			   size_t len, struct vf_buf *key)
{
	struct vf_line parts;
	int err = vf_line_split(line, len, &parts);

	key->len = 0;
	if (!err)
		err = vf_line_key(&parts, key);
	if (err)
		return err;
	c->rows[i] = (struct vf_builder_row){
		.key_hash = vf_key_hash(key->data, key->len),
		.line_len = (uint32_t)len,
		.line_crc = vf_crc32c(0, line, len)};
	return 0;
}

void vf_source_free(struct vf_source *s)
{
	if (!s)
		return;
	vf_keyset_fini(&s->keys);
	s->ops->free(s);
}
