/*
 * Inline rows for suites of the log: operations that carry them, and folding
 * without a bucket.
 */
#ifndef VF_TESTS_INLINE_ROWS_H
#define VF_TESTS_INLINE_ROWS_H

#include "store/state.h"
#include "tests/test.h"

#include <stdio.h>

/*
 * An upsert of @n rows of @dim floats, all @first + i, with keys "k<first + i>"
 * and metadata {"n":<first + i>}; its bytes are in @store.
 */
static inline struct vf_op rows_op(uint32_t dim, uint32_t first, uint32_t n,
				   uint64_t next_key, struct vf_buf *store)
{
	VF_AUTO_BUF struct vf_buf lens = {0}, lines = {0};
	uint8_t len[4];

	for (uint32_t i = 0; i < n; i++) {
		float x = (float)(first + i);
		size_t before = lines.len;
		for (uint32_t j = 0; j < dim; j++)
			vf_buf_append(store, &x, sizeof(x));
		vf_buf_printf(&lines,
			      "{\"key\":\"k%u\",\"metadata\":{\"n\":%u}}\n",
			      first + i, first + i);
		vf_put_le32(len, (uint32_t)(lines.len - before));
		vf_buf_append(&lens, len, 4);
	}
	size_t at = store->len;
	vf_buf_append(store, lens.data, lens.len);
	vf_buf_append(store, lines.data, lines.len);
	return (struct vf_op){
		.kind = VF_OP_UPSERT,
		.upsert = {.n_rows = n,
			   .row_len = dim * sizeof(float),
			   .next_key = next_key,
			   .vectors = store->data + at - n * dim * 4,
			   .line_lens = store->data + at,
			   .lines = (char *)store->data + at + 4 * n,
			   .lines_len = lines.len}};
}

/* A record of @ops after @s, encoded, parsed and folded; why not, or NULL. */
static inline const char *fold_ops(struct vf_state *s, const struct vf_op *ops,
				   size_t n)
{
	VF_AUTO_BUF struct vf_buf bytes = {0};
	struct vf_record r = {.number = s->head + 1,
			      .previous = s->head_checksum,
			      .ops = (struct vf_op *)ops,
			      .n_ops = n};
	const char *why;

	memcpy(r.uuid, s->uuid, 16);
	CU_ASSERT_EQUAL_FATAL(vf_record_encode(&r, &bytes), 0);
	if (vf_record_parse(bytes.data, bytes.len, &r, &why))
		return why;
	why = vf_state_apply(s, &r, vf_record_checksum(bytes.data, bytes.len));
	vf_record_fini(&r);
	return why;
}

#endif
