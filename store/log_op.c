/*
 * Operations of log records: each to JSON and the bytes it owns, and back.  A
 * member we do not know could change what the record means, so it is refused
 * rather than ignored.
 */
#include "store/line.h"
#include "store/log_impl.h"

#include <stdio.h>

/* ---- JSON out -------------------------------------------------------------------------- */

json_t *vf_hex64_json(uint64_t v)
{
	char s[17];

	snprintf(s, sizeof(s), "%016llx", (unsigned long long)v);
	return json_string(s);
}

static json_t *object_json(const struct vf_object_ref *o)
{
	return json_pack("{s:s, s:I, s:I, s:o, s:b}", "name", o->name,
			 "stored_len", (json_int_t)o->stored_len, "len",
			 (json_int_t)o->len, "checksum",
			 vf_hex64_json(o->checksum), "zstd", (int)o->zstd);
}

static json_t *names_json(const struct vf_index_config *c)
{
	json_t *names = json_array();

	for (uint32_t i = 0; i < c->n_non_filterable; i++)
		json_array_append_new(names, json_string(c->non_filterable[i]));
	return names;
}

static json_t *configure_json(const struct vf_index_config *c)
{
	json_t *j = json_pack("{s:s, s:I, s:s, s:s, s:o}", "op", "configure",
			      "dim", (json_int_t)c->dim, "metric",
			      vf_metric_name(c->metric), "dtype",
			      vf_dtype_name(c->dtype), "rotation_seed",
			      vf_hex64_json(c->rotation_seed));

	if (j && c->embedder[0]) {
		json_object_set_new(j, "embedder", json_string(c->embedder));
		if (c->embedder_data.name[0])
			json_object_set_new(j, "embedder_data",
					    object_json(&c->embedder_data));
	}
	if (j && c->n_non_filterable)
		json_object_set_new(j, "non_filterable", names_json(c));
	return j;
}

static json_t *add_shard_json(const struct vf_shard_ref *s)
{
	json_t *j =
		json_pack("{s:s, s:s, s:I, s:o, s:o, s:o}", "op", "add_shard",
			  "name", s->name, "rows", (json_int_t)s->n_rows,
			  "vectors", object_json(&s->vectors), "records",
			  object_json(&s->records), "codes",
			  object_json(&s->codes));

	if (j && s->next_key)
		json_object_set_new(j, "next_key",
				    json_integer((json_int_t)s->next_key));
	return j;
}

/* A blob behind what is there; the operation's "bytes" say how long it is. */
static json_t *with_bytes(json_t *j, const struct vf_buf *binary, size_t from)
{
	json_object_set_new(j, "bytes",
			    json_integer((json_int_t)(binary->len - from)));
	return j;
}

static json_t *upsert_json(const struct vf_upsert *u, struct vf_buf *binary)
{
	size_t from = binary->len;
	json_t *j = json_pack("{s:s, s:I, s:I}", "op", "upsert", "rows",
			      (json_int_t)u->n_rows, "row_len",
			      (json_int_t)u->row_len);

	if (!j || vf_buf_append(binary, u->vectors, u->n_rows * u->row_len) ||
	    vf_buf_append(binary, u->line_lens, u->n_rows * 4) ||
	    vf_buf_append(binary, u->lines, u->lines_len)) {
		json_decref(j);
		return NULL;
	}
	if (u->next_key)
		json_object_set_new(j, "next_key",
				    json_integer((json_int_t)u->next_key));
	return with_bytes(j, binary, from);
}

static json_t *delete_json(const struct vf_delete *d, struct vf_buf *binary)
{
	size_t from = binary->len;

	if (vf_buf_append(binary, d->keys, d->len))
		return NULL;
	return with_bytes(json_pack("{s:s, s:I}", "op", "delete", "keys",
				    (json_int_t)d->n_keys),
			  binary, from);
}

static json_t *kill_json(const struct vf_kill *k, struct vf_buf *binary)
{
	size_t from = binary->len;
	json_t *j = json_pack("{s:s, s:I, s:s}", "op", "kill", "rows",
			      (json_int_t)k->n_rows, "form",
			      k->bits ? "bits" : "list");

	if (!j || vf_buf_append(binary, k->rows, k->len)) {
		json_decref(j);
		return NULL;
	}
	if (k->shard[0])
		json_object_set_new(j, "shard", json_string(k->shard));
	else
		json_object_set_new(j, "record",
				    json_integer((json_int_t)k->record));
	return with_bytes(j, binary, from);
}

json_t *vf_op_json(const struct vf_op *op, struct vf_buf *binary)
{
	switch (op->kind) {
	case VF_OP_CONFIGURE:
		return configure_json(&op->configure);
	case VF_OP_ADD_SHARD:
		return add_shard_json(&op->add_shard);
	case VF_OP_SET_TREE:
		return json_pack("{s:s, s:o, s:I}", "op", "set_tree", "object",
				 object_json(&op->set_tree.object), "leaves",
				 (json_int_t)op->set_tree.n_leaves);
	case VF_OP_UPSERT:
		return upsert_json(&op->upsert, binary);
	case VF_OP_DELETE:
		return delete_json(&op->delete, binary);
	case VF_OP_KILL:
		return kill_json(&op->kill, binary);
	case VF_OP_REMOVE_SHARD:
		return json_pack("{s:s, s:s}", "op", "remove_shard", "name",
				 op->remove_shard);
	case VF_OP_COLLECT:
		return json_pack("{s:s, s:I}", "op", "collect", "below",
				 (json_int_t)op->collect_below);
	case VF_OP_DROP:
		return json_pack("{s:s}", "op", "drop");
	case VF_OP_RESTORE:
		return json_pack("{s:s, s:I}", "op", "restore", "version",
				 (json_int_t)op->restore);
	}
	return NULL;
}

/* ---- JSON in --------------------------------------------------------------------------- */

void vf_refuse(struct vf_reader *r, int err, const char *why)
{
	if (!r->err) {
		r->err = err;
		r->why = why;
	}
}

json_t *vf_take_member(struct vf_reader *r, const char *name)
{
	json_t *v = json_incref(json_object_get(r->obj, name));

	json_object_del(r->obj, name);
	return v;
}

uint64_t vf_take_u64(struct vf_reader *r, const char *name, bool needed)
{
	json_t *v = vf_take_member(r, name);
	json_int_t n = json_integer_value(v);

	if ((needed || v) && (!json_is_integer(v) || n < 0))
		vf_refuse(r, -EBADMSG, "a number is missing or wrong");
	json_decref(v);
	return n < 0 ? 0 : (uint64_t)n;
}

void vf_take_text(struct vf_reader *r, const char *name, char *out, size_t cap)
{
	json_t *v = vf_take_member(r, name);
	const char *s = json_string_value(v);

	if (!s || json_string_length(v) >= cap || strlen(s) >= cap)
		vf_refuse(r, -EBADMSG, "a text is missing or too long");
	else
		memcpy(out, s, strlen(s) + 1);
	json_decref(v);
}

uint64_t vf_take_hex64(struct vf_reader *r, const char *name)
{
	uint8_t b[8];
	char s[17] = "";
	uint64_t v = 0;

	vf_take_text(r, name, s, sizeof(s));
	if (vf_unhex(s, b, sizeof(b)))
		vf_refuse(r, -EBADMSG, "a checksum or seed is malformed");
	else
		for (int i = 0; i < 8; i++)
			v = v << 8 | b[i];
	return v;
}

bool vf_take_bool(struct vf_reader *r, const char *name)
{
	json_t *v = vf_take_member(r, name);
	bool is = json_is_true(v);

	if (!json_is_boolean(v))
		vf_refuse(r, -EBADMSG, "a boolean is missing");
	json_decref(v);
	return is;
}

void vf_finish_reader(struct vf_reader *r)
{
	if (json_object_size(r->obj))
		vf_refuse(r, -ENOTSUP,
			  "a member that this version does not know");
}

static void take_object(struct vf_reader *r, const char *name,
			struct vf_object_ref *o)
{
	json_t *v = vf_take_member(r, name);
	struct vf_reader in = {.obj = v};

	if (!json_is_object(v)) {
		vf_refuse(r, -EBADMSG, "an object's description is missing");
	} else {
		vf_take_text(&in, "name", o->name, sizeof(o->name));
		o->stored_len = vf_take_u64(&in, "stored_len", true);
		o->len = vf_take_u64(&in, "len", true);
		o->checksum = vf_take_hex64(&in, "checksum");
		o->zstd = vf_take_bool(&in, "zstd");
		vf_finish_reader(&in);
		if (!in.err && (!vf_object_name_ok(o->name) ||
				(!o->zstd && o->len != o->stored_len)))
			vf_refuse(&in, -EBADMSG,
				  "an object's description is off");
		if (in.err)
			vf_refuse(r, in.err, in.why);
	}
	json_decref(v);
}

/* Absent when all keys are filterable, so that older programs open those. */
static void take_names(struct vf_reader *r, struct vf_index_config *c)
{
	json_t *names = vf_take_member(r, "non_filterable");
	size_t n = json_array_size(names);

	if (names && (!n || n > VF_NON_FILTERABLE_MAX))
		vf_refuse(r, -EBADMSG, "non-filterable keys are out of range");
	for (size_t i = 0; !r->err && i < n; i++) {
		const char *s = json_string_value(json_array_get(names, i));
		if (!s || strlen(s) > VF_NON_FILTERABLE_LEN)
			vf_refuse(r, -EBADMSG, "a non-filterable key is wrong");
		else
			strcpy(c->non_filterable[c->n_non_filterable++], s);
	}
	json_decref(names);
}

static void parse_configure(struct vf_reader *r, struct vf_index_config *c)
{
	char metric[16] = "", dtype[16] = "";
	uint64_t dim = vf_take_u64(r, "dim", true);

	vf_take_text(r, "metric", metric, sizeof(metric));
	vf_take_text(r, "dtype", dtype, sizeof(dtype));
	c->rotation_seed = vf_take_hex64(r, "rotation_seed");
	if (json_object_get(r->obj, "embedder"))
		vf_take_text(r, "embedder", c->embedder, sizeof(c->embedder));
	if (json_object_get(r->obj, "embedder_data"))
		take_object(r, "embedder_data", &c->embedder_data);
	take_names(r, c);
	if (r->err)
		return;
	if (dim < VF_DIM_MIN || dim > VF_DIM_MAX)
		vf_refuse(r, -EBADMSG, "the dimension is out of range");
	c->dim = (uint32_t)dim;
	if (vf_metric_parse(metric, &c->metric) ||
	    vf_dtype_parse(dtype, &c->dtype) || c->dtype == VF_U8)
		vf_refuse(r, -ENOTSUP, "a metric or element type is unknown");
}

static void parse_add_shard(struct vf_reader *r, struct vf_shard_ref *s)
{
	vf_take_text(r, "name", s->name, sizeof(s->name));
	s->n_rows = vf_take_u64(r, "rows", true);
	take_object(r, "vectors", &s->vectors);
	take_object(r, "records", &s->records);
	take_object(r, "codes", &s->codes);
	s->next_key = vf_take_u64(r, "next_key", false);
	if (!r->err && (!vf_shard_name_ok(s->name) || !s->n_rows ||
			s->n_rows > VF_SHARD_ROWS_MAX))
		vf_refuse(r, -EBADMSG,
			  "a shard's name or size is out of range");
}

/* ---- what operations carry --------------------------------------------------------------- */

/* The bytes that belong to the operation; NULL when they are not there. */
static const uint8_t *take_bytes(struct vf_reader *r, size_t *out_len)
{
	uint64_t len = vf_take_u64(r, "bytes", true);
	const uint8_t *p = r->binary;

	*out_len = len;
	if (len > r->binary_len)
		vf_refuse(r, -EBADMSG, "an operation's bytes are cut short");
	if (r->err)
		return NULL;
	r->binary += len;
	r->binary_len -= len;
	return p;
}

/* @key: scratch. */
static const char *check_line(const char *text, size_t len, struct vf_buf *key)
{
	struct vf_line line;

	key->len = 0;
	return len > VF_LINE_MAX || vf_line_split(text, len, &line) ||
			       vf_line_key(&line, key)
		       ? "an inline row's line is damaged"
		       : NULL;
}

static const char *check_lines(const struct vf_upsert *u)
{
	VF_AUTO_BUF struct vf_buf key = {0};
	const char *why = NULL;
	size_t off = 0;

	for (uint64_t i = 0; !why && i < u->n_rows; i++) {
		size_t len = vf_le32(u->line_lens + 4 * i);
		if (len > u->lines_len - off)
			return "an inline row's line is cut short";
		why = check_line(u->lines + off, len, &key);
		off += len;
	}
	if (why)
		return why;
	return off == u->lines_len ? NULL : "inline lines do not add up";
}

static void parse_upsert(struct vf_reader *r, struct vf_upsert *u)
{
	uint64_t vectors_len;
	size_t len;
	const uint8_t *p;

	u->n_rows = vf_take_u64(r, "rows", true);
	u->row_len = vf_take_u64(r, "row_len", true);
	u->next_key = vf_take_u64(r, "next_key", false);
	p = take_bytes(r, &len);
	if (r->err)
		return;
	if (!u->n_rows || u->n_rows > VF_RECORD_MAX || !u->row_len ||
	    u->row_len > VF_RECORD_MAX) {
		vf_refuse(r, -EBADMSG, "inline rows are out of range");
		return;
	}
	vectors_len = u->n_rows * u->row_len;
	if (vectors_len + 4 * u->n_rows > len) {
		vf_refuse(r, -EBADMSG, "inline rows are cut short");
		return;
	}
	u->vectors = p;
	u->line_lens = p + vectors_len;
	u->lines = (const char *)u->line_lens + 4 * u->n_rows;
	u->lines_len = len - vectors_len - 4 * u->n_rows;
	const char *why = check_lines(u);
	if (why)
		vf_refuse(r, -EBADMSG, why);
}

bool vf_delete_next(const struct vf_delete *d, size_t *cursor,
		    const char **out_key, size_t *out_len)
{
	if (*cursor >= d->len)
		return false;
	*out_len = vf_le32(d->keys + *cursor);
	*out_key = (const char *)d->keys + *cursor + 4;
	*cursor += 4 + *out_len;
	return true;
}

static void parse_delete(struct vf_reader *r, struct vf_delete *d)
{
	uint64_t n = 0;

	d->n_keys = vf_take_u64(r, "keys", true);
	d->keys = take_bytes(r, &d->len);
	for (size_t at = 0; !r->err && at < d->len; n++) {
		size_t left = d->len - at, len = 0;
		if (left >= 4)
			len = vf_le32(d->keys + at);
		if (!len || len > VF_KEY_MAX || len > left - 4)
			vf_refuse(r, -EBADMSG, "a deleted key is damaged");
		at += 4 + len;
	}
	if (!r->err && (n != d->n_keys || !n))
		vf_refuse(r, -EBADMSG, "deleted keys do not add up");
}

/* ---- kills ------------------------------------------------------------------------------- */

int vf_kill_pack(const uint32_t *rows, size_t n, struct vf_kill *k,
		 struct vf_buf *store)
{
	size_t bits_len = rows[n - 1] / 8 + 1, from = store->len;

	k->n_rows = n;
	k->bits = bits_len < 4 * n;
	k->len = k->bits ? bits_len : 4 * n;
	if (vf_buf_append(store, NULL, k->len))
		return -ENOMEM;
	uint8_t *p = store->data + from;
	for (size_t i = 0; i < n; i++) {
		assert(!i || rows[i] > rows[i - 1]);
		if (k->bits)
			p[rows[i] / 8] |= (uint8_t)(1 << rows[i] % 8);
		else
			vf_put_le32(p + 4 * i, rows[i]);
	}
	k->rows = p;
	return 0;
}

bool vf_kill_next(const struct vf_kill *k, uint64_t *cursor, uint32_t *out_row)
{
	uint64_t at = *cursor;

	if (!k->bits) {
		if (at >= k->n_rows)
			return false;
		*out_row = vf_le32(k->rows + 4 * at);
		*cursor = at + 1;
		return true;
	}
	for (; at < 8 * k->len; at++) {
		if (!(at % 8) && !k->rows[at / 8]) {
			at += 7;
		} else if (k->rows[at / 8] >> at % 8 & 1) {
			*out_row = (uint32_t)at;
			*cursor = at + 1;
			return true;
		}
	}
	return false;
}

/* Counted, ascending, in range, and in the one spelling there is. */
static bool kill_is_sound(const struct vf_kill *k)
{
	uint64_t cursor = 0, n = 0;
	uint32_t row, last = 0;

	/* Bounded first: four times the count has to fit. */
	if (!k->n_rows || k->n_rows > VF_SHARD_ROWS_MAX || !k->len)
		return false;
	if (k->bits && (k->len > VF_SHARD_ROWS_MAX / 8 || !k->rows[k->len - 1]))
		return false;
	if (!k->bits && k->len != 4 * k->n_rows)
		return false;
	for (; vf_kill_next(k, &cursor, &row); n++, last = row)
		if (row >= VF_SHARD_ROWS_MAX || (n && row <= last))
			return false;
	return n == k->n_rows;
}

static void parse_kill(struct vf_reader *r, struct vf_kill *k)
{
	char form[8] = "";

	k->n_rows = vf_take_u64(r, "rows", true);
	vf_take_text(r, "form", form, sizeof(form));
	if (json_object_get(r->obj, "shard")) {
		vf_take_text(r, "shard", k->shard, sizeof(k->shard));
		if (!r->err && !vf_shard_name_ok(k->shard))
			vf_refuse(r, -EBADMSG, "a kill names no shard");
	} else {
		k->record = vf_take_u64(r, "record", true);
	}
	k->rows = take_bytes(r, &k->len);
	if (r->err)
		return;
	k->bits = !strcmp(form, "bits");
	if (!k->bits && strcmp(form, "list"))
		vf_refuse(r, -ENOTSUP, "a form of kill that is not known");
	else if (!kill_is_sound(k))
		vf_refuse(r, -EBADMSG, "the rows of a kill are damaged");
}

/* ---- one operation ----------------------------------------------------------------------- */

static void parse_remove(struct vf_reader *r, char *name)
{
	vf_take_text(r, "name", name, VF_SHARD_NAME_LEN + 1);
	if (!r->err && !vf_shard_name_ok(name))
		vf_refuse(r, -EBADMSG, "a shard's name is malformed");
}

static void parse_set_tree(struct vf_reader *r, struct vf_tree_ref *t)
{
	take_object(r, "object", &t->object);
	t->n_leaves = vf_take_u64(r, "leaves", true);
}

static void parse_members(struct vf_reader *r, struct vf_op *op)
{
	switch (op->kind) {
	case VF_OP_CONFIGURE:
		parse_configure(r, &op->configure);
		break;
	case VF_OP_ADD_SHARD:
		parse_add_shard(r, &op->add_shard);
		break;
	case VF_OP_SET_TREE:
		parse_set_tree(r, &op->set_tree);
		break;
	case VF_OP_UPSERT:
		parse_upsert(r, &op->upsert);
		break;
	case VF_OP_DELETE:
		parse_delete(r, &op->delete);
		break;
	case VF_OP_KILL:
		parse_kill(r, &op->kill);
		break;
	case VF_OP_REMOVE_SHARD:
		parse_remove(r, op->remove_shard);
		break;
	case VF_OP_COLLECT:
		op->collect_below = vf_take_u64(r, "below", true);
		break;
	case VF_OP_RESTORE:
		op->restore = vf_take_u64(r, "version", true);
		break;
	case VF_OP_DROP:
		break;
	}
}

void vf_op_parse(struct vf_reader *r, struct vf_op *op)
{
	static const char *const names[] = {
		[VF_OP_CONFIGURE] = "configure",
		[VF_OP_ADD_SHARD] = "add_shard",
		[VF_OP_SET_TREE] = "set_tree",
		[VF_OP_UPSERT] = "upsert",
		[VF_OP_DELETE] = "delete",
		[VF_OP_KILL] = "kill",
		[VF_OP_REMOVE_SHARD] = "remove_shard",
		[VF_OP_COLLECT] = "collect",
		[VF_OP_DROP] = "drop",
		[VF_OP_RESTORE] = "restore",
	};
	char name[32] = "";

	vf_take_text(r, "op", name, sizeof(name));
	for (size_t i = 1; i < VF_N(names); i++)
		if (!strcmp(name, names[i]))
			op->kind = (enum vf_op_kind)i;
	if (op->kind)
		parse_members(r, op);
	else
		vf_refuse(r, -ENOTSUP,
			  "an operation this version does not know");
	vf_finish_reader(r);
}
