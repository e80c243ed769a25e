/*
 * The frame is binary and checked first; only then the JSON part is read, by a
 * table of members per operation.  A member we do not know could change what
 * the record means, so it is refused rather than ignored.
 */
#include "store/log.h"

#include <jansson.h>
#include <stdio.h>
#include <xxhash.h>

enum { RECORD_VERSION = 1, IDENTITY_VERSION = 1, CHECKSUM_LEN = 8 };

static const char magic[8] = {'V', 'F', 'R', 'E', 'C', 'O', 'R', 'D'};

/* ---- names ---------------------------------------------------------------------------- */

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
	       c == '_' || c == '-';
}

static bool is_name(const char *s, size_t max)
{
	size_t n = strlen(s);

	if (!n || n > max || s[0] == '.' || s[0] == '_' || s[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_name_char(s[i]))
			return false;
	return true;
}

bool vf_index_name_ok(const char *name)
{
	return is_name(name, VF_INDEX_NAME_MAX);
}

bool vf_object_name_ok(const char *name)
{
	return is_name(name, VF_OBJECT_NAME_MAX);
}

bool vf_shard_name_ok(const char *name)
{
	if (strlen(name) != VF_SHARD_NAME_LEN || name[20] != '-')
		return false;
	for (int i = 0; i < VF_SHARD_NAME_LEN; i++) {
		char c = name[i];
		bool digit = c >= '0' && c <= '9';
		if (i != 20 && !digit && (i < 20 || c < 'a' || c > 'f'))
			return false;
	}
	return true;
}

/* ---- JSON out -------------------------------------------------------------------------- */

/* 64-bit numbers that need not fit a JSON integer travel as 16 hex digits. */
static json_t *hex64(uint64_t v)
{
	char s[17];

	snprintf(s, sizeof(s), "%016llx", (unsigned long long)v);
	return json_string(s);
}

static json_t *object_json(const struct vf_object_ref *o)
{
	return json_pack("{s:s, s:I, s:I, s:o, s:b}", "name", o->name,
			 "stored_len", (json_int_t)o->stored_len, "len",
			 (json_int_t)o->len, "checksum", hex64(o->checksum),
			 "zstd", (int)o->zstd);
}

static json_t *configure_json(const struct vf_index_config *c)
{
	json_t *j = json_pack("{s:s, s:I, s:s, s:s, s:o}", "op", "configure",
			      "dim", (json_int_t)c->dim, "metric",
			      vf_metric_name(c->metric), "dtype",
			      vf_dtype_name(c->dtype), "rotation_seed",
			      hex64(c->rotation_seed));

	if (j && c->embedder[0]) {
		json_object_set_new(j, "embedder", json_string(c->embedder));
		if (c->embedder_data.name[0])
			json_object_set_new(j, "embedder_data",
					    object_json(&c->embedder_data));
	}
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

static json_t *op_json(const struct vf_op *op)
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
	}
	return NULL;
}

static char *body_text(const struct vf_record *r)
{
	json_t *ops = json_array(), *body;
	char *text;

	for (size_t i = 0; i < r->n_ops; i++)
		if (json_array_append_new(ops, op_json(&r->ops[i]))) {
			json_decref(ops);
			return NULL;
		}
	body = json_pack("{s:s, s:I, s:o}", "writer", r->writer, "time",
			 (json_int_t)r->time_s, "operations", ops);
	text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	return text;
}

int vf_record_encode(const struct vf_record *r, struct vf_buf *out)
{
	VF_AUTO_FREE char *json = body_text(r);
	uint8_t h[VF_RECORD_HEADER_LEN] = {0}, sum[CHECKSUM_LEN];
	size_t json_len = json ? strlen(json) : 0, from = out->len;
	uint64_t len = sizeof(h) + json_len + CHECKSUM_LEN;
	int err;

	if (!json)
		return -ENOMEM;
	if (len > VF_RECORD_MAX)
		return vf_fail(-EFBIG, "a log record of %llu bytes, at most %d",
			       (unsigned long long)len, VF_RECORD_MAX);
	memcpy(h, magic, sizeof(magic));
	vf_put_le32(h + 8, RECORD_VERSION);
	vf_put_le64(h + 16, len);
	memcpy(h + 24, r->uuid, 16);
	vf_put_le64(h + 40, r->number);
	memcpy(h + 48, r->nonce, 16);
	vf_put_le64(h + 64, r->previous);
	vf_put_le64(h + 72, json_len);
	err = vf_buf_reserve(out, len);
	if (err)
		return err;
	vf_buf_append(out, h, sizeof(h));
	vf_buf_append(out, json, json_len);
	vf_put_le64(sum, XXH3_64bits(out->data + from, out->len - from));
	return vf_buf_append(out, sum, sizeof(sum));
}

uint64_t vf_record_checksum(const void *p, size_t len)
{
	return vf_le64((const uint8_t *)p + len - CHECKSUM_LEN);
}

/* ---- JSON in --------------------------------------------------------------------------- */

/*
 * Members are taken one by one; what is left over at the end is unknown.
 * The first failure sticks.
 */
struct reader {
	json_t *obj;	 /* borrowed, consumed member by member */
	int err;	 /* 0, -EBADMSG, -ENOTSUP */
	const char *why; /* constant */
};

static void refuse(struct reader *r, int err, const char *why)
{
	if (!r->err) {
		r->err = err;
		r->why = why;
	}
}

static json_t *take_member(struct reader *r, const char *name)
{
	json_t *v = json_incref(json_object_get(r->obj, name));

	json_object_del(r->obj, name);
	return v;
}

static uint64_t take_u64(struct reader *r, const char *name, bool needed)
{
	json_t *v = take_member(r, name);
	json_int_t n = json_integer_value(v);

	if ((needed || v) && (!json_is_integer(v) || n < 0))
		refuse(r, -EBADMSG, "a number is missing or wrong");
	json_decref(v);
	return n < 0 ? 0 : (uint64_t)n;
}

static void take_text(struct reader *r, const char *name, char *out, size_t cap)
{
	json_t *v = take_member(r, name);
	const char *s = json_string_value(v);

	if (!s || json_string_length(v) >= cap || strlen(s) >= cap)
		refuse(r, -EBADMSG, "a text is missing or too long");
	else
		memcpy(out, s, strlen(s) + 1);
	json_decref(v);
}

static uint64_t take_hex64(struct reader *r, const char *name)
{
	uint8_t b[8];
	char s[17] = "";
	uint64_t v = 0;

	take_text(r, name, s, sizeof(s));
	if (vf_unhex(s, b, sizeof(b)))
		refuse(r, -EBADMSG, "a checksum or seed is malformed");
	else
		for (int i = 0; i < 8; i++)
			v = v << 8 | b[i];
	return v;
}

static bool take_bool(struct reader *r, const char *name)
{
	json_t *v = take_member(r, name);
	bool is = json_is_true(v);

	if (!json_is_boolean(v))
		refuse(r, -EBADMSG, "a boolean is missing");
	json_decref(v);
	return is;
}

static void finish_reader(struct reader *r)
{
	if (json_object_size(r->obj))
		refuse(r, -ENOTSUP, "a member that this version does not know");
}

static void take_object(struct reader *r, const char *name,
			struct vf_object_ref *o)
{
	json_t *v = take_member(r, name);
	struct reader in = {.obj = v};

	if (!json_is_object(v)) {
		refuse(r, -EBADMSG, "an object's description is missing");
	} else {
		take_text(&in, "name", o->name, sizeof(o->name));
		o->stored_len = take_u64(&in, "stored_len", true);
		o->len = take_u64(&in, "len", true);
		o->checksum = take_hex64(&in, "checksum");
		o->zstd = take_bool(&in, "zstd");
		finish_reader(&in);
		if (!in.err && (!vf_object_name_ok(o->name) ||
				(!o->zstd && o->len != o->stored_len)))
			refuse(&in, -EBADMSG, "an object's description is off");
		if (in.err)
			refuse(r, in.err, in.why);
	}
	json_decref(v);
}

static void parse_configure(struct reader *r, struct vf_index_config *c)
{
	char metric[16] = "", dtype[16] = "";
	uint64_t dim = take_u64(r, "dim", true);

	take_text(r, "metric", metric, sizeof(metric));
	take_text(r, "dtype", dtype, sizeof(dtype));
	c->rotation_seed = take_hex64(r, "rotation_seed");
	if (json_object_get(r->obj, "embedder"))
		take_text(r, "embedder", c->embedder, sizeof(c->embedder));
	if (json_object_get(r->obj, "embedder_data"))
		take_object(r, "embedder_data", &c->embedder_data);
	if (r->err)
		return;
	if (dim < VF_DIM_MIN || dim > VF_DIM_MAX)
		refuse(r, -EBADMSG, "the dimension is out of range");
	c->dim = (uint32_t)dim;
	if (vf_metric_parse(metric, &c->metric) ||
	    vf_dtype_parse(dtype, &c->dtype) || c->dtype == VF_U8)
		refuse(r, -ENOTSUP, "a metric or element type is unknown");
}

static void parse_add_shard(struct reader *r, struct vf_shard_ref *s)
{
	take_text(r, "name", s->name, sizeof(s->name));
	s->n_rows = take_u64(r, "rows", true);
	take_object(r, "vectors", &s->vectors);
	take_object(r, "records", &s->records);
	take_object(r, "codes", &s->codes);
	s->next_key = take_u64(r, "next_key", false);
	if (!r->err && (!vf_shard_name_ok(s->name) || !s->n_rows ||
			s->n_rows > VF_SHARD_ROWS_MAX))
		refuse(r, -EBADMSG, "a shard's name or size is out of range");
}

static void parse_op(struct reader *r, struct vf_op *op)
{
	char name[32] = "";

	take_text(r, "op", name, sizeof(name));
	if (!strcmp(name, "configure")) {
		op->kind = VF_OP_CONFIGURE;
		parse_configure(r, &op->configure);
	} else if (!strcmp(name, "add_shard")) {
		op->kind = VF_OP_ADD_SHARD;
		parse_add_shard(r, &op->add_shard);
	} else if (!strcmp(name, "set_tree")) {
		op->kind = VF_OP_SET_TREE;
		take_object(r, "object", &op->set_tree.object);
		op->set_tree.n_leaves = take_u64(r, "leaves", true);
	} else {
		refuse(r, -ENOTSUP, "an operation this version does not know");
	}
	finish_reader(r);
}

/* Grown as operations prove to be some: "[1,1,..." must not cost gigabytes. */
static struct vf_op *next_op(struct vf_record *out, size_t *cap)
{
	if (out->n_ops == *cap) {
		size_t n = *cap ? 2 * *cap : 4;
		struct vf_op *p = realloc(out->ops, n * sizeof(*p));
		if (!p)
			return NULL;
		memset(p + *cap, 0, (n - *cap) * sizeof(*p));
		out->ops = p;
		*cap = n;
	}
	return &out->ops[out->n_ops++];
}

static void parse_ops(struct reader *r, struct vf_record *out)
{
	json_t *ops = take_member(r, "operations");
	size_t cap = 0;

	if (!json_is_array(ops))
		refuse(r, -EBADMSG, "the operations are missing");
	for (size_t i = 0; !r->err && i < json_array_size(ops); i++) {
		struct reader in = {.obj = json_array_get(ops, i)};
		struct vf_op *op = next_op(out, &cap);
		if (!op)
			refuse(&in, -ENOMEM, "no memory");
		else
			parse_op(&in, op);
		if (in.err)
			refuse(r, in.err, in.why);
	}
	json_decref(ops);
}

static int parse_body(const char *text, size_t len, struct vf_record *out,
		      const char **out_reason)
{
	json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct reader r = {.obj = body};

	if (!json_is_object(body)) {
		json_decref(body);
		*out_reason = "its JSON part is malformed";
		return -EBADMSG;
	}
	take_text(&r, "writer", out->writer, sizeof(out->writer));
	out->time_s = (int64_t)take_u64(&r, "time", true);
	parse_ops(&r, out);
	finish_reader(&r);
	json_decref(body);
	*out_reason = r.why;
	return r.err;
}

static const char *check_frame(const uint8_t *b, size_t len, int *out_err)
{
	uint64_t json_len, binary_len;

	*out_err = -EBADMSG;
	if (len < VF_RECORD_HEADER_LEN + CHECKSUM_LEN || len > VF_RECORD_MAX)
		return "its length is out of range";
	if (memcmp(b, magic, sizeof(magic)))
		return "it is no record";
	if (vf_le32(b + 8) > RECORD_VERSION) {
		*out_err = -ENOTSUP;
		return "a newer version of vecfs wrote it";
	}
	if (vf_le64(b + 16) != len)
		return "it is cut short";
	if (XXH3_64bits(b, len - CHECKSUM_LEN) != vf_record_checksum(b, len))
		return "its checksum does not match";
	json_len = vf_le64(b + 72);
	binary_len = vf_le64(b + 80);
	if (json_len > len || binary_len > len ||
	    VF_RECORD_HEADER_LEN + json_len + binary_len + CHECKSUM_LEN != len)
		return "its parts do not add up";
	if (vf_le32(b + 8) != RECORD_VERSION || vf_le32(b + 12) ||
	    vf_le64(b + 88) || binary_len) {
		*out_err = -ENOTSUP;
		return "it uses what this version does not know";
	}
	*out_err = 0;
	return NULL;
}

int vf_record_parse(const void *p, size_t len, struct vf_record *out,
		    const char **out_reason)
{
	const uint8_t *b = p;
	int err;

	*out = (struct vf_record){0};
	*out_reason = check_frame(b, len, &err);
	if (err)
		return err;
	memcpy(out->uuid, b + 24, 16);
	out->number = vf_le64(b + 40);
	memcpy(out->nonce, b + 48, 16);
	out->previous = vf_le64(b + 64);
	err = parse_body((const char *)b + VF_RECORD_HEADER_LEN,
			 vf_le64(b + 72), out, out_reason);
	if (err)
		vf_record_fini(out);
	return err;
}

void vf_record_fini(struct vf_record *r)
{
	free(r->ops);
	*r = (struct vf_record){0};
}

/* ---- identity -------------------------------------------------------------------------- */

static uint64_t identity_checksum(const uint8_t uuid[16])
{
	uint8_t b[20];

	vf_put_le32(b, IDENTITY_VERSION);
	memcpy(b + 4, uuid, 16);
	return XXH3_64bits(b, sizeof(b));
}

int vf_identity_encode(const uint8_t uuid[16], struct vf_buf *out)
{
	char hex[33];

	vf_hex(uuid, 16, hex);
	return vf_buf_printf(
		out,
		"{\"format\":%d,\"uuid\":\"%s\",\"checksum\":\"%016llx\"}\n",
		IDENTITY_VERSION, hex,
		(unsigned long long)identity_checksum(uuid));
}

int vf_identity_parse(const void *p, size_t len, uint8_t out_uuid[16])
{
	VF_AUTO_BUF struct vf_buf again = {0};
	json_t *j = json_loadb(p, len, 0, NULL);
	json_int_t format = json_integer_value(json_object_get(j, "format"));
	const char *hex = json_string_value(json_object_get(j, "uuid"));
	int err = hex ? vf_unhex(hex, out_uuid, 16) : -EINVAL;

	json_decref(j);
	if (format > IDENTITY_VERSION)
		return -ENOTSUP;
	/* Written by us alone, so only our own bytes are right. */
	if (err || vf_identity_encode(out_uuid, &again) || again.len != len ||
	    memcmp(again.data, p, len))
		return -EBADMSG;
	return 0;
}
