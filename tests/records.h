/*
 * Log records for suites: one of each operation in all its forms, and parsing
 * of a copy of exactly its length.
 */
#ifndef VF_TESTS_RECORDS_H
#define VF_TESTS_RECORDS_H

#include "store/log.h"
#include "tests/test.h"

#include <stdio.h>

static const char shard_name[] =
	"00000000000000000041-0123456789abcdef0123456789abcdef";

static inline struct vf_object_ref make_object(const char *name, uint64_t len,
					       bool zstd)
{
	struct vf_object_ref o = {.stored_len = zstd ? len / 3 : len,
				  .len = len,
				  .checksum = len * 0x9e3779b97f4a7c15,
				  .zstd = zstd};

	snprintf(o.name, sizeof(o.name), "%s", name);
	return o;
}

enum { N_OPS = 13 };

/* Those with bytes of their own, and the short ones. */
static inline void make_binary_ops(struct vf_op *ops)
{
	static const uint8_t rows[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
	static const char lines[] =
		"{\"key\":\"a\",\"metadata\":{}}\n"
		"{\"key\":\"\\\"b\",\"metadata\":{\"x\":1}}\n";
	static const uint8_t line_lens[] = {26, 0, 0, 0, 33, 0, 0, 0};
	static const uint8_t keys[] = {1, 0, 0, 0, 'a', 2, 0, 0, 0, 'b', 'c'};
	static const uint8_t list[] = {3, 0, 0, 0, 255, 255, 3, 0};
	static const uint8_t bits[] = {0, 7, 0, 0x80};

	ops[0].kind = VF_OP_UPSERT;
	ops[0].upsert = (struct vf_upsert){
		2, 4, 9, rows[0], line_lens, lines, sizeof(lines) - 1};
	ops[1].kind = VF_OP_DELETE;
	ops[1].delete = (struct vf_delete){2, keys, sizeof(keys)};
	ops[2].kind = VF_OP_KILL;
	ops[2].kill = (struct vf_kill){
		.n_rows = 2, .rows = list, .len = sizeof(list)};
	strcpy(ops[2].kill.shard, shard_name);
	ops[3].kind = VF_OP_KILL;
	ops[3].kill = (struct vf_kill){.record = 41,
				       .n_rows = 4,
				       .bits = true,
				       .rows = bits,
				       .len = sizeof(bits)};
	ops[4].kind = VF_OP_REMOVE_SHARD;
	strcpy(ops[4].remove_shard, shard_name);
	ops[5].kind = VF_OP_COLLECT;
	ops[5].collect_below = 64;
	ops[6].kind = VF_OP_DROP;
	ops[7].kind = VF_OP_RESTORE;
	ops[7].restore = 40;
}

/* One of each operation, in all their forms. */
static inline size_t make_ops(struct vf_op ops[N_OPS])
{
	memset(ops, 0, N_OPS * sizeof(*ops));
	ops[0].kind = VF_OP_CONFIGURE;
	ops[0].configure = (struct vf_index_config){
		.dim = 4096,
		.metric = VF_DOT,
		.dtype = VF_F16,
		.rotation_seed = UINT64_MAX,
		.embedder = "hash:1024",
		.embedder_data = make_object("idf.bin", 12345, false),
		.n_non_filterable = 2,
		.non_filterable = {"text", "é \"n\""}};
	ops[1].kind = VF_OP_CONFIGURE;
	ops[1].configure = (struct vf_index_config){
		.dim = 2, .metric = VF_COSINE, .dtype = VF_F32};
	ops[2].kind = VF_OP_ADD_SHARD;
	ops[2].add_shard = (struct vf_shard_ref){
		.n_rows = VF_SHARD_ROWS_MAX,
		.vectors = make_object("vectors.npy", 1 << 30, false),
		.records = make_object("records.jsonl.zst", 999, true),
		.codes = make_object("codes.vix", 1, false),
		.next_key = (uint64_t)INT64_MAX};
	strcpy(ops[2].add_shard.name, shard_name);
	ops[3] = ops[2];
	ops[3].add_shard.n_rows = 1;
	ops[3].add_shard.next_key = 0;
	ops[4].kind = VF_OP_SET_TREE;
	ops[4].set_tree =
		(struct vf_tree_ref){make_object("0123.vit", 77, false), 4096};
	make_binary_ops(ops + 5);
	return N_OPS;
}

static inline void make_record(struct vf_record *r, struct vf_op ops[N_OPS])
{
	*r = (struct vf_record){.number = 42,
				.previous = 0xfedcba9876543210,
				.writer = "host:17",
				.time_s = 1700000000,
				.ops = ops,
				.n_ops = make_ops(ops)};
	for (int i = 0; i < 16; i++) {
		r->uuid[i] = (uint8_t)(i * 17);
		r->nonce[i] = (uint8_t)(255 - i);
	}
}

static inline void encode(struct vf_buf *out)
{
	struct vf_op ops[N_OPS];
	struct vf_record r;

	make_record(&r, ops);
	CU_ASSERT_EQUAL_FATAL(vf_record_encode(&r, out), 0);
}

/* Parse a copy of exactly its length. */
static inline int parse(const void *p, size_t len, const char **out_why)
{
	VF_AUTO_FREE uint8_t *copy = malloc(len + !len);
	struct vf_record r;

	memcpy(copy, p, len);
	*out_why = NULL;
	int err = vf_record_parse(copy, len, &r, out_why);
	vf_record_fini(&r);
	return err;
}

#endif
