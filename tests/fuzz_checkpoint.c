/*
 * Checkpoints: whatever is accepted is a state that can be written again, and
 * then reads the same.
 */
#include "store/checkpoint.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "checkpoint";

static const uint8_t uuid[16] = {7};

/* The record that checkpoints name when they name one. */
static struct vf_buf named;

static int get_named(void *arg, uint64_t record, void **out_bytes,
		     size_t *out_len)
{
	void *p = record == 3 ? malloc(named.len) : NULL;

	if (!p)
		return -ENOENT;
	memcpy(p, named.data, named.len);
	*out_bytes = p;
	*out_len = named.len;
	return 0;
}

static void check_state(const struct vf_state *s)
{
	struct vf_state_counts n;
	uint64_t live = 0;

	vf_state_count(s, &n);
	live = n.shard_rows - n.shard_dead + n.tail_rows;
	fuzz_check(live == s->n_rows && s->head && s->oldest <= s->head);
	for (size_t i = 0; i < s->n_shards; i++)
		fuzz_check(vf_shard_name_ok(s->shards[i].name));
	for (size_t i = 0; i < s->n_tail; i++)
		fuzz_check(s->tail[i].record <= s->head);
}

int fuzz_one(const uint8_t *p, size_t len)
{
	VF_AUTO_BUF struct vf_buf one = {0}, two = {0};
	struct vf_state *s, *again;
	const char *why = NULL;
	int err = vf_checkpoint_parse(p, len, "i", uuid, get_named, NULL, &s,
				      &why);

	if (err) {
		fuzz_check(err == -EBADMSG || err == -ENOTSUP);
		fuzz_check(why && *why && !s);
		return fuzz_outcome(err, why);
	}
	check_state(s);
	fuzz_check(!vf_checkpoint_encode(s, &one));
	fuzz_check(!vf_checkpoint_parse(one.data, one.len, "i", uuid, get_named,
					NULL, &again, &why));
	fuzz_check(!vf_checkpoint_encode(again, &two));
	fuzz_check(one.len == two.len && !memcmp(one.data, two.data, one.len));
	int outcome = (int)(s->n_shards * 64 + s->n_tail * 8 + s->configured);
	vf_state_free(s);
	vf_state_free(again);
	return outcome;
}

/* ---- seeds ----------------------------------------------------------------- */

static void fold(struct vf_state *s, const struct vf_op *ops, size_t n,
		 struct vf_buf *out)
{
	struct vf_record r = {.number = s->head + 1,
			      .previous = s->head_checksum,
			      .ops = (struct vf_op *)ops,
			      .n_ops = n};
	const char *why;

	memcpy(r.uuid, uuid, sizeof(uuid));
	out->len = 0;
	fuzz_check(!vf_record_encode(&r, out));
	fuzz_check(!vf_record_parse(out->data, out->len, &r, &why));
	fuzz_check(!vf_state_apply(s, &r,
				   vf_record_checksum(out->data, out->len)));
	vf_record_fini(&r);
}

static void add_seed(const struct vf_state *s)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	fuzz_check(!vf_checkpoint_encode(s, &b));
	fuzz_add(b.data, b.len);
}

/* @n rows of 16 floats with keys of @key_len letters. */
static void fold_rows(struct vf_state *s, uint32_t n, int key_len,
		      struct vf_buf *out)
{
	VF_AUTO_BUF struct vf_buf vectors = {0}, lens = {0}, lines = {0};
	struct vf_op op = {.kind = VF_OP_UPSERT};
	uint8_t len[4];

	vf_buf_append(&vectors, NULL, n * 64);
	for (uint32_t i = 0; i < n; i++) {
		size_t before = lines.len;
		vf_buf_printf(&lines, "{\"key\":\"%0*u\",\"metadata\":{}}\n",
			      key_len, i);
		vf_put_le32(len, (uint32_t)(lines.len - before));
		vf_buf_append(&lens, len, 4);
	}
	op.upsert = (struct vf_upsert){.n_rows = n,
				       .row_len = 64,
				       .vectors = vectors.data,
				       .line_lens = lens.data,
				       .lines = (char *)lines.data,
				       .lines_len = lines.len};
	fold(s, &op, 1, out);
}

void fuzz_seeds(void)
{
	static const struct vf_object_ref o = {"vectors.npy", 5, 5, 6, 0};
	static const uint8_t list[] = {1, 0, 0, 0};
	struct vf_op ops[] = {
		{.kind = VF_OP_CONFIGURE,
		 .configure = {16, VF_DOT, VF_F32, 9, "hash:1024", o}},
		{.kind = VF_OP_SET_TREE, .set_tree = {o, 64}},
		{.kind = VF_OP_ADD_SHARD,
		 .add_shard = {"00000000000000000041-"
			       "0123456789abcdef0123456789abcdef",
			       100, o, o, o, 100}},
		{.kind = VF_OP_KILL,
		 .kill = {"00000000000000000041-"
			  "0123456789abcdef0123456789abcdef",
			  0, 1, false, list, 4}}};
	struct vf_op kill = {
		.kind = VF_OP_KILL,
		.kill = {.record = 2, .n_rows = 1, .rows = list, .len = 4}};
	struct vf_op drop = {.kind = VF_OP_DROP};
	struct vf_state *s = vf_state_new("i", uuid);
	VF_AUTO_BUF struct vf_buf bytes = {0};

	fuzz_check(s != NULL);
	fold(s, ops, VF_N(ops), &bytes);
	add_seed(s);
	fold_rows(s, 3, 1, &bytes);
	add_seed(s);
	fold_rows(s, 300, 900, &named); /* too large to be carried */
	add_seed(s);
	fold(s, &kill, 1, &bytes);
	add_seed(s);
	fold(s, &drop, 1, &bytes);
	add_seed(s);
	vf_state_free(s);
}

void fuzz_fix(uint8_t *p, size_t len)
{
	if (len < VF_RECORD_HEADER_LEN + 8)
		return;
	memcpy(p, "VFCHECKP\1\0\0\0\0\0\0", 16);
	memcpy(p + 24, uuid, 16);
	memset(p + 48, 0, 16);
	fuzz_fix_record(p, len);
}
