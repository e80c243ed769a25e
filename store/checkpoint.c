/*
 * A state to operations and back.  What was folded once is folded by the same
 * code again, so that a checkpoint can say nothing a log could not.
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"
#include "store/log_impl.h"
#include "store/state_impl.h"

static const struct vf_log_kind checkpoint_kind = {
	.what = "a checkpoint",
	.magic = {'V', 'F', 'C', 'H', 'E', 'C', 'K', 'P'},
	.version = 1,
	.max = VF_CHECKPOINT_MAX};

/* ---- out ------------------------------------------------------------------------------- */

struct writer {
	json_t *ops;
	struct vf_buf binary;
	struct vf_buf store; /* of the operation at hand */
	size_t carried;	     /* bytes of rows so far */
	bool carries_all;
	int err;
};

static void add_json(struct writer *w, json_t *j)
{
	if (json_array_append_new(w->ops, j))
		w->err = -ENOMEM;
}

static void add_op(struct writer *w, const struct vf_op *op)
{
	add_json(w, vf_op_json(op, &w->binary));
}

/* The rows of a place that died; @op names the place. */
static void add_dead(struct writer *w, const struct vf_dead *d,
		     struct vf_op *op)
{
	VF_AUTO_FREE uint32_t *rows = NULL;
	size_t n = 0;

	if (!vf_dead_count(d))
		return;
	rows = malloc(d->n_dead * sizeof(*rows));
	w->store.len = 0;
	if (!rows) {
		w->err = -ENOMEM;
		return;
	}
	for (uint64_t row = 0; row < d->n_rows && n < d->n_dead; row++)
		if (vf_dead_has(d, row))
			rows[n++] = (uint32_t)row;
	assert(n == d->n_dead);
	op->kind = VF_OP_KILL;
	if (vf_kill_pack(rows, n, &op->kill, &w->store))
		w->err = -ENOMEM;
	else
		add_op(w, op);
}

static void add_shard(struct writer *w, const struct vf_state *s, size_t i)
{
	struct vf_op op = {.kind = VF_OP_ADD_SHARD, .add_shard = s->shards[i]};
	struct vf_op kill = {0};

	add_op(w, &op);
	strcpy(kill.kill.shard, s->shards[i].name);
	add_dead(w, s->dead[i], &kill);
}

static void add_rows(struct writer *w, const struct vf_inline *r)
{
	struct vf_op op = {.kind = VF_OP_UPSERT,
			   .upsert = {.n_rows = r->n_rows,
				      .row_len = r->row_len,
				      .next_key = r->next_key,
				      .vectors = r->vectors,
				      .lines = r->lines,
				      .lines_len = r->line_offs[r->n_rows]}};

	w->store.len = 0;
	if (vf_buf_append(&w->store, NULL, 4 * r->n_rows)) {
		w->err = -ENOMEM;
		return;
	}
	for (uint64_t i = 0; i < r->n_rows; i++)
		vf_put_le32(w->store.data + 4 * i,
			    r->line_offs[i + 1] - r->line_offs[i]);
	op.upsert.line_lens = w->store.data;
	add_op(w, &op);
}

/* @carried: bytes of rows so far, moved on. */
static bool carries(const struct vf_tail *t, size_t *carried)
{
	const struct vf_inline *r = t->rows;
	size_t len = r->n_rows * r->row_len + r->line_offs[r->n_rows];

	if (len > VF_CHECKPOINT_CARRY ||
	    *carried + len > VF_CHECKPOINT_CARRY_ALL)
		return false;
	*carried += len;
	return true;
}

static void add_tail(struct writer *w, const struct vf_tail *t)
{
	bool carry = w->carries_all || carries(t, &w->carried);
	struct vf_op kill = {.kill.record = t->record};

	add_json(w,
		 json_pack("{s:s, s:I, s:o, s:b}", "op", "rows", "record",
			   (json_int_t)t->record, "checksum",
			   vf_hex64_json(t->checksum), "carried", (int)carry));
	if (carry)
		add_rows(w, t->rows);
	add_dead(w, t->dead, &kill);
}

static void add_state(struct writer *w, const struct vf_state *s)
{
	struct vf_op configure = {.kind = VF_OP_CONFIGURE,
				  .configure = s->config};
	struct vf_op tree = {.kind = VF_OP_SET_TREE, .set_tree = s->tree};

	if (s->configured)
		add_op(w, &configure);
	if (s->has_tree)
		add_op(w, &tree);
	for (size_t i = 0; !w->err && i < s->n_shards; i++)
		add_shard(w, s, i);
	for (size_t i = 0; !w->err && i < s->n_tail; i++)
		add_tail(w, &s->tail[i]);
}

static int frame_state(const struct vf_state *s, struct writer *w,
		       struct vf_buf *out)
{
	json_t *body = json_pack("{s:I, s:I, s:b, s:O}", "next_key",
				 (json_int_t)s->next_key, "oldest",
				 (json_int_t)s->oldest, "dropped",
				 (int)s->dropped, "operations", w->ops);
	VF_AUTO_FREE char *json = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct vf_log_frame f = {.kind = &checkpoint_kind,
				 .number = s->head,
				 .checksum = s->head_checksum,
				 .json = json,
				 .json_len = json ? strlen(json) : 0,
				 .binary = w->binary.data,
				 .binary_len = w->binary.len};

	json_decref(body);
	memcpy(f.uuid, s->uuid, sizeof(f.uuid));
	return json ? vf_log_frame_encode(&f, out) : -ENOMEM;
}

static int encode(const struct vf_state *s, bool carries_all,
		  struct vf_buf *out)
{
	struct writer w = {.ops = json_array(), .carries_all = carries_all};

	if (!w.ops)
		return -ENOMEM;
	add_state(&w, s);
	if (!w.err)
		w.err = frame_state(s, &w, out);
	json_decref(w.ops);
	vf_buf_fini(&w.binary);
	vf_buf_fini(&w.store);
	return w.err;
}

int vf_checkpoint_encode(const struct vf_state *s, struct vf_buf *out)
{
	return encode(s, false, out);
}

int vf_checkpoint_encode_whole(const struct vf_state *s, struct vf_buf *out)
{
	return encode(s, true, out);
}

/* ---- in -------------------------------------------------------------------------------- */

struct parser {
	struct vf_state *s;
	uint64_t head;
	vf_checkpoint_record_fn *record;
	void *arg;
	uint64_t checksum; /* of the record whose rows are read */
	bool carried;	   /* the next operation has them */
};

/* The rows of a named record, from its bytes. */
static const char *fold_record(struct parser *p, const void *bytes, size_t len)
{
	const char *why = "a record it names is damaged";
	struct vf_record r;

	if (len < VF_RECORD_HEADER_LEN + 8 ||
	    vf_record_checksum(bytes, len) != p->checksum)
		return "a record it names is another one";
	if (vf_record_parse(bytes, len, &r, &why))
		return why;
	if (r.number != p->s->head + 1 || memcmp(r.uuid, p->s->uuid, 16))
		why = "a record it names is of another place";
	else
		why = "a record it names has no rows";
	for (size_t i = 0; i < r.n_ops; i++)
		if (r.number == p->s->head + 1 &&
		    r.ops[i].kind == VF_OP_UPSERT) {
			why = vf_state_fold(p->s, &r.ops[i]);
			break;
		}
	vf_record_fini(&r);
	return why;
}

static void get_rows(struct parser *p, struct vf_reader *r)
{
	VF_AUTO_FREE void *bytes = NULL;
	const char *why;
	size_t len = 0;
	int err = p->record ? p->record(p->arg, p->s->head + 1, &bytes, &len)
			    : -ENOENT;

	if (err) {
		vf_refuse(r, err == -ENOENT ? -EBADMSG : err,
			  "a record it names is not to be had");
		return;
	}
	why = fold_record(p, bytes, len);
	if (why)
		vf_refuse(r, -EBADMSG, why);
}

static void fold_next(struct parser *p, struct vf_reader *r)
{
	struct vf_op op = {0};

	vf_op_parse(r, &op);
	const char *why = r->err ? NULL : vf_state_fold(p->s, &op);
	if (why)
		vf_refuse(r, -EBADMSG, why);
}

/* The rows of the record after head were folded: are they there? */
static void end_rows(struct parser *p, struct vf_reader *r)
{
	struct vf_tail *last = p->s->tail + p->s->n_tail;

	if (!r->err && (!p->s->n_tail || last[-1].record != p->s->head + 1))
		vf_refuse(r, -EBADMSG, "its rows are missing");
	if (!r->err)
		last[-1].checksum = p->checksum;
}

/* "rows": the record that the next operation is of. */
static void parse_rows(struct parser *p, struct vf_reader *r)
{
	struct vf_state *s = p->s;
	uint64_t last = s->n_tail ? s->tail[s->n_tail - 1].record : 0;
	char op[8] = "";

	vf_take_text(r, "op", op, sizeof(op));
	uint64_t record = vf_take_u64(r, "record", true);
	p->checksum = vf_take_hex64(r, "checksum");
	p->carried = vf_take_bool(r, "carried");
	vf_finish_reader(r);
	if (!r->err && (record <= last || record > p->head || !s->configured))
		vf_refuse(r, -EBADMSG, "its rows are out of order");
	if (r->err)
		return;
	s->head = record - 1;
	if (!p->carried) {
		get_rows(p, r);
		end_rows(p, r);
	}
}

static bool is_rows(json_t *op)
{
	const char *name = json_string_value(json_object_get(op, "op"));

	return name && !strcmp(name, "rows");
}

/* Only what makes a state, and none of what changes one. */
static bool may_stand(json_t *op)
{
	static const char *const may[] = {"configure", "set_tree", "add_shard",
					  "kill", "rows"};
	const char *name = json_string_value(json_object_get(op, "op"));

	for (size_t i = 0; name && i < VF_N(may); i++)
		if (!strcmp(name, may[i]))
			return true;
	return false;
}

static void parse_op(void *arg, struct vf_reader *r)
{
	struct parser *p = arg;

	if (p->carried) {
		p->carried = false;
		fold_next(p, r);
		end_rows(p, r);
	} else if (!may_stand(r->obj)) {
		vf_refuse(r, -ENOTSUP, "an operation that no checkpoint has");
	} else if (is_rows(r->obj)) {
		parse_rows(p, r);
	} else {
		fold_next(p, r);
	}
}

static void parse_state(void *arg, struct vf_reader *r)
{
	struct parser *p = arg;
	struct vf_state *s = p->s;
	uint64_t next_key = vf_take_u64(r, "next_key", true);
	uint64_t oldest = vf_take_u64(r, "oldest", true);
	bool dropped = vf_take_bool(r, "dropped");

	vf_take_ops(r, parse_op, p);
	if (p->carried)
		vf_refuse(r, -EBADMSG, "its rows are missing");
	if (!r->err && (next_key < s->next_key || oldest > p->head ||
			(dropped && s->configured)))
		vf_refuse(r, -EBADMSG, "its numbers do not add up");
	s->next_key = next_key;
	s->oldest = oldest;
	s->dropped = dropped;
	s->head = p->head;
}

static void note_names(void *arg, struct vf_reader *r)
{
	json_t *ops = json_object_get(r->obj, "operations"), *op;
	size_t i;

	json_array_foreach(ops, i, op)
	{
		struct vf_log_number n = {
			.number = (uint64_t)json_integer_value(
				json_object_get(op, "record"))};
		if (is_rows(op) &&
		    json_is_false(json_object_get(op, "carried")) &&
		    vf_buf_append(arg, &n, sizeof(n)))
			vf_refuse(r, -ENOMEM, "no memory");
	}
}

int vf_checkpoint_names(const void *bytes, size_t len, struct vf_buf *out)
{
	struct vf_log_frame f;
	const char *why;
	int err = vf_log_frame_parse(&checkpoint_kind, bytes, len, &f, &why);

	if (!err)
		err = vf_log_body_parse(&f, note_names, out, &why);
	return err == -ENOMEM ? err : 0;
}

int vf_checkpoint_parse(const void *bytes, size_t len, const char *name,
			const uint8_t uuid[16], vf_checkpoint_record_fn *record,
			void *arg, struct vf_state **out,
			const char **out_reason)
{
	static const uint8_t zero[16];
	struct parser p = {.record = record, .arg = arg};
	struct vf_log_frame f;
	int err = vf_log_frame_parse(&checkpoint_kind, bytes, len, &f,
				     out_reason);

	*out = NULL;
	if (err)
		return err;
	*out_reason = "it belongs to another index";
	if (uuid && memcmp(f.uuid, uuid, 16))
		return -EBADMSG;
	*out_reason = "its number is out of range";
	if (!f.number || f.number > INT64_MAX || memcmp(f.nonce, zero, 16))
		return -EBADMSG;
	*out_reason = "no memory";
	p.s = vf_state_new(name, f.uuid);
	p.head = f.number;
	if (!p.s)
		return -ENOMEM;
	err = vf_log_body_parse(&f, parse_state, &p, out_reason);
	p.s->head_checksum = f.checksum;
	p.s->checkpoint = f.number;
	if (err)
		vf_state_free(p.s);
	else
		*out = p.s;
	return err;
}
