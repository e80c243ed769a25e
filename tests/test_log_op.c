/*
 * Operations of log records: each comes back as it was, and those whose bytes
 * are damaged are refused.
 */
#include "tests/records.h"

/* ---- round trip ------------------------------------------------------------ */

static bool same_object(const struct vf_object_ref *a,
			const struct vf_object_ref *b)
{
	return !strcmp(a->name, b->name) && a->stored_len == b->stored_len &&
	       a->len == b->len && a->checksum == b->checksum &&
	       a->zstd == b->zstd;
}

static bool same_kill(const struct vf_kill *a, const struct vf_kill *b)
{
	return !strcmp(a->shard, b->shard) && a->record == b->record &&
	       a->n_rows == b->n_rows && a->bits == b->bits &&
	       a->len == b->len && !memcmp(a->rows, b->rows, a->len);
}

static bool same_upsert(const struct vf_upsert *a, const struct vf_upsert *b)
{
	return a->n_rows == b->n_rows && a->row_len == b->row_len &&
	       a->next_key == b->next_key && a->lines_len == b->lines_len &&
	       !memcmp(a->vectors, b->vectors, a->n_rows * a->row_len) &&
	       !memcmp(a->line_lens, b->line_lens, 4 * a->n_rows) &&
	       !memcmp(a->lines, b->lines, a->lines_len);
}

static bool same_binary_op(const struct vf_op *a, const struct vf_op *b)
{
	switch (a->kind) {
	case VF_OP_UPSERT:
		return same_upsert(&a->upsert, &b->upsert);
	case VF_OP_DELETE:
		return a->delete.n_keys == b->delete.n_keys &&
		       a->delete.len == b->delete.len &&
		       !memcmp(a->delete.keys, b->delete.keys, a->delete.len);
	case VF_OP_KILL:
		return same_kill(&a->kill, &b->kill);
	case VF_OP_REMOVE_SHARD:
		return !strcmp(a->remove_shard, b->remove_shard);
	case VF_OP_COLLECT:
		return a->collect_below == b->collect_below;
	case VF_OP_RESTORE:
		return a->restore == b->restore;
	default:
		return true;
	}
}

static bool same_names(const struct vf_index_config *a,
		       const struct vf_index_config *b)
{
	for (uint32_t i = 0; i < a->n_non_filterable; i++)
		if (strcmp(a->non_filterable[i], b->non_filterable[i]))
			return false;
	return a->n_non_filterable == b->n_non_filterable;
}

static bool same_op(const struct vf_op *a, const struct vf_op *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind > VF_OP_SET_TREE)
		return same_binary_op(a, b);
	if (a->kind == VF_OP_CONFIGURE)
		return a->configure.dim == b->configure.dim &&
		       a->configure.metric == b->configure.metric &&
		       a->configure.dtype == b->configure.dtype &&
		       a->configure.rotation_seed ==
			       b->configure.rotation_seed &&
		       !strcmp(a->configure.embedder, b->configure.embedder) &&
		       same_object(&a->configure.embedder_data,
				   &b->configure.embedder_data) &&
		       same_names(&a->configure, &b->configure);
	if (a->kind == VF_OP_SET_TREE)
		return a->set_tree.n_leaves == b->set_tree.n_leaves &&
		       same_object(&a->set_tree.object, &b->set_tree.object);
	return !strcmp(a->add_shard.name, b->add_shard.name) &&
	       a->add_shard.n_rows == b->add_shard.n_rows &&
	       a->add_shard.next_key == b->add_shard.next_key &&
	       same_object(&a->add_shard.vectors, &b->add_shard.vectors) &&
	       same_object(&a->add_shard.records, &b->add_shard.records) &&
	       same_object(&a->add_shard.codes, &b->add_shard.codes);
}

static void every_operation_comes_back(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_op ops[N_OPS];
	struct vf_record in, out;
	const char *why;

	make_record(&in, ops);
	CU_ASSERT_EQUAL(vf_record_encode(&in, &b), 0);
	CU_ASSERT_EQUAL_FATAL(vf_record_parse(b.data, b.len, &out, &why), 0);
	CU_ASSERT(!memcmp(in.uuid, out.uuid, 16));
	CU_ASSERT(!memcmp(in.nonce, out.nonce, 16));
	CU_ASSERT_EQUAL(out.number, 42);
	CU_ASSERT_EQUAL(out.previous, in.previous);
	CU_ASSERT_EQUAL(out.time_s, in.time_s);
	CU_ASSERT_STRING_EQUAL(out.writer, in.writer);
	CU_ASSERT_EQUAL_FATAL(out.n_ops, in.n_ops);
	for (size_t i = 0; i < in.n_ops; i++)
		CU_ASSERT(same_op(&in.ops[i], &out.ops[i]));
	vf_record_fini(&out);
	CU_ASSERT_PTR_NULL(out.ops);
}

/* ---- what operations carry -------------------------------------------------- */

/* A record of one operation, encoded as it is and parsed. */
static int parse_op(struct vf_op op)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_record r = {.number = 1, .ops = &op, .n_ops = 1};
	const char *why;

	CU_ASSERT_EQUAL_FATAL(vf_record_encode(&r, &b), 0);
	return parse(b.data, b.len, &why);
}

static void damaged_inline_rows_are_refused(void)
{
	struct vf_op ops[N_OPS], op;
	uint8_t lens[8];

	make_ops(ops);
	CU_ASSERT_EQUAL(parse_op(ops[5]), 0);
	op = ops[5];
	op.upsert.lines_len--;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[5];
	op.upsert.n_rows = 1;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[5];
	op.upsert.row_len = 0;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[5];
	op.upsert.lines = "{\"key\":\"a\",\"metadata\":{}}\n"
			  "{\"key\":\"\n\"b\",\"metadata\":{\"x\":1}}\n";
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	/* An escape that is none: the catalog could not be built over it. */
	op.upsert.lines = "{\"key\":\"a\",\"metadata\":{}}\n"
			  "{\"key\":\"\\x\\b\",\"metadata\":{\"x\":1}}\n";
	op.upsert.lines_len = strlen(op.upsert.lines);
	vf_put_le32(lens, 26);
	vf_put_le32(lens + 4, (uint32_t)op.upsert.lines_len - 26);
	op.upsert.line_lens = lens;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
}

static void damaged_keys_and_kills_are_refused(void)
{
	static const uint8_t twice[] = {3, 0, 0, 0, 3, 0, 0, 0};
	static const uint8_t far_away[] = {3, 0, 0, 0, 0, 0, 4, 0};
	static const uint8_t padded[] = {0, 3, 0};
	static const uint8_t long_key[] = {9, 0, 0, 0, 'a'};
	struct vf_op ops[N_OPS], op;

	make_ops(ops);
	for (size_t i = 6; i < 9; i++)
		CU_ASSERT_EQUAL(parse_op(ops[i]), 0);
	op = ops[6];
	op.delete.n_keys = 3;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op.delete = (struct vf_delete){1, long_key, sizeof(long_key)};
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op.delete = (struct vf_delete){1, long_key, 3};
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[7];
	op.kill.n_rows = 3;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	/* Four times this is what it has: rows behind the record were read. */
	op.kill.n_rows = (UINT64_C(1) << 62) + op.kill.len / 4;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[7];
	op.kill.rows = twice;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op.kill.rows = far_away;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op = ops[8];
	op.kill.n_rows = 2;
	op.kill.rows = padded;
	op.kill.len = 3;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
	op.kill.len = 2;
	CU_ASSERT_EQUAL(parse_op(op), 0);
	op.kill.n_rows = 0;
	op.kill.len = 0;
	CU_ASSERT_EQUAL(parse_op(op), -EBADMSG);
}

static void a_kill_takes_the_shorter_form(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	uint32_t rows[1000], row;
	struct vf_kill k = {0};
	uint64_t cursor = 0;

	for (uint32_t dense = 0; dense < 2; dense++) {
		for (uint32_t i = 0; i < VF_N(rows); i++)
			rows[i] = dense ? i + 17 : i * 250;
		CU_ASSERT_EQUAL(vf_kill_pack(rows, VF_N(rows), &k, &b), 0);
		CU_ASSERT_EQUAL(k.bits, dense == 1);
		cursor = 0;
		for (uint32_t i = 0; i < VF_N(rows); i++)
			CU_ASSERT(vf_kill_next(&k, &cursor, &row) &&
				  row == rows[i]);
		CU_ASSERT(!vf_kill_next(&k, &cursor, &row));
	}
}

static CU_TestInfo tests[] = {
	{"every operation comes back", every_operation_comes_back},
	{"damaged inline rows are refused", damaged_inline_rows_are_refused},
	{"damaged keys and kills are refused",
	 damaged_keys_and_kills_are_refused},
	{"a kill takes the shorter form", a_kill_takes_the_shorter_form},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/log_op", tests);
