/*
 * Log records and identities: whatever is accepted is written again and reads
 * the same.
 */
#include "store/log.h"
#include "tests/fuzz.h"

#include <xxhash.h>

const char fuzz_name[] = "log";

static void check_kill(const struct vf_kill *k)
{
	uint64_t cursor = 0, n = 0;
	uint32_t row;

	for (; vf_kill_next(k, &cursor, &row); n++)
		fuzz_check(row < VF_SHARD_ROWS_MAX);
	fuzz_check(n == k->n_rows && n);
}

static void check_names(const struct vf_record *r)
{
	for (size_t i = 0; i < r->n_ops; i++) {
		const struct vf_op *op = &r->ops[i];
		if (op->kind == VF_OP_KILL)
			check_kill(&op->kill);
		if (op->kind != VF_OP_ADD_SHARD)
			continue;
		fuzz_check(vf_shard_name_ok(op->add_shard.name));
		fuzz_check(vf_object_name_ok(op->add_shard.vectors.name));
		fuzz_check(vf_object_name_ok(op->add_shard.records.name));
		fuzz_check(vf_object_name_ok(op->add_shard.codes.name));
		fuzz_check(op->add_shard.n_rows <= VF_SHARD_ROWS_MAX);
	}
}

static void check_round_trip(const struct vf_record *r)
{
	VF_AUTO_BUF struct vf_buf one = {0}, two = {0};
	struct vf_record again;
	const char *why;

	fuzz_check(!vf_record_encode(r, &one));
	fuzz_check(!vf_record_parse(one.data, one.len, &again, &why));
	fuzz_check(again.n_ops == r->n_ops && again.number == r->number);
	fuzz_check(!vf_record_encode(&again, &two));
	fuzz_check(one.len == two.len && !memcmp(one.data, two.data, one.len));
	vf_record_fini(&again);
}

static int fuzz_identity(const uint8_t *p, size_t len)
{
	VF_AUTO_BUF struct vf_buf again = {0};
	uint8_t uuid[16];
	int err = vf_identity_parse(p, len, uuid);

	if (!err) {
		fuzz_check(!vf_identity_encode(uuid, &again));
		fuzz_check(again.len == len && !memcmp(again.data, p, len));
	}
	return err - 1;
}

int fuzz_one(const uint8_t *p, size_t len)
{
	const char *why = NULL;
	struct vf_record r;
	int err;

	if (len && p[0] == '{')
		return fuzz_identity(p, len);
	err = vf_record_parse(p, len, &r, &why);
	if (err) {
		fuzz_check(err == -EBADMSG || err == -ENOTSUP);
		fuzz_check(why && *why && !r.ops);
		return fuzz_outcome(err, why);
	}
	fuzz_check(vf_record_checksum(p, len) == XXH3_64bits(p, len - 8));
	check_names(&r);
	check_round_trip(&r);
	int outcome = (int)r.n_ops;
	vf_record_fini(&r);
	return outcome;
}

void fuzz_seeds(void)
{
	static const struct vf_object_ref plain = {"vectors.npy", 5, 5, 6, 0};
	static const struct vf_object_ref zstd = {"r.jsonl.zst", 3, 5, 6, 1};
	static const uint8_t list[] = {1, 0, 0, 0}, line_len[] = {26, 0, 0, 0};
	static const uint8_t key[] = {1, 0, 0, 0, 'a'};
	static const char line[] = "{\"key\":\"a\",\"metadata\":{}}\n";
	struct vf_op ops[10] = {
		{.kind = VF_OP_CONFIGURE,
		 .configure = {16, VF_DOT, VF_F16, 9, "hash:1024", plain}},
		{.kind = VF_OP_ADD_SHARD,
		 .add_shard = {"00000000000000000041-"
			       "0123456789abcdef0123456789abcdef",
			       100, plain, zstd, plain, 100}},
		{.kind = VF_OP_SET_TREE, .set_tree = {plain, 64}},
		{.kind = VF_OP_UPSERT,
		 .upsert = {1, 4, 9, list, line_len, line, 26}},
		{.kind = VF_OP_DELETE, .delete = {1, key, sizeof(key)}},
		{.kind = VF_OP_KILL,
		 .kill = {.record = 3, .n_rows = 1, .rows = list, .len = 4}},
		{.kind = VF_OP_KILL,
		 .kill = {.record = 3,
			  .n_rows = 1,
			  .bits = true,
			  .rows = list,
			  .len = 1}},
		{.kind = VF_OP_COLLECT, .collect_below = 4},
		{.kind = VF_OP_DROP},
		{.kind = VF_OP_RESTORE, .restore = 3}};
	struct vf_record r = {.number = 1, .writer = "host:1", .time_s = 1};
	VF_AUTO_BUF struct vf_buf id = {0};

	for (size_t from = 0; from < 10; from++)
		for (size_t n = 0; n <= 10 - from; n++) {
			VF_AUTO_BUF struct vf_buf b = {0};
			r.ops = ops + from;
			r.n_ops = n;
			fuzz_check(!vf_record_encode(&r, &b));
			fuzz_add(b.data, b.len);
		}
	fuzz_check(!vf_identity_encode(r.uuid, &id));
	fuzz_add(id.data, id.len);
}

void fuzz_fix(uint8_t *p, size_t len)
{
	if (len < VF_RECORD_HEADER_LEN + 8 || p[0] == '{')
		return;
	memcpy(p, "VFRECORD\1\0\0\0\0\0\0", 16);
	fuzz_fix_record(p, len);
}
