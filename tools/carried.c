/* Rows as they would be in vectors.npy, lines as in records.jsonl. */
#include "tools/carried.h"

void vf_carried_init(struct vf_carried *c, size_t row_len, size_t max_len)
{
	*c = (struct vf_carried){.row_len = row_len, .max_len = max_len};
}

void vf_carried_fini(struct vf_carried *c)
{
	vf_buf_fini(&c->vectors);
	vf_buf_fini(&c->line_lens);
	vf_buf_fini(&c->lines);
	*c = (struct vf_carried){0};
}

int vf_carried_add(void *carried, const struct vf_chunk *chunk)
{
	struct vf_carried *c = carried;
	const void *rows = chunk->half ? (const void *)chunk->half : chunk->x;
	int err = vf_buf_append(&c->vectors, rows, chunk->n * c->row_len);

	if (!err)
		err = vf_buf_append(&c->lines, chunk->lines.data,
				    chunk->lines.len);
	for (size_t i = 0; !err && i < chunk->n; i++) {
		uint8_t len[4];
		vf_put_le32(len, chunk->rows[i].line_len);
		err = vf_buf_append(&c->line_lens, len, sizeof(len));
	}
	c->n_rows += chunk->n;
	if (err)
		return vf_fail(err, "rows: %s", vf_strerror(err));
	return c->vectors.len + c->lines.len > c->max_len ? -EFBIG : 0;
}

struct vf_op vf_carried_op(const struct vf_carried *c)
{
	return (struct vf_op){.kind = VF_OP_UPSERT,
			      .upsert = {.n_rows = c->n_rows,
					 .row_len = c->row_len,
					 .next_key = c->next_key,
					 .vectors = c->vectors.data,
					 .line_lens = c->line_lens.data,
					 .lines = (const char *)c->lines.data,
					 .lines_len = c->lines.len}};
}
