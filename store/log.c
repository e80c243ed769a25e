/*
 * The frame is checked first; only then the JSON part is read, by a table of
 * members per operation.  A member we do not know could change what
 * the record means, so it is refused rather than ignored.
 */
#include "store/log_impl.h"

#include <stdio.h>
#include <xxhash.h>

enum { IDENTITY_VERSION = 1 };

static const struct vf_log_kind record_kind = {.what = "a log record",
					       .magic = {'V', 'F', 'R', 'E',
							 'C', 'O', 'R', 'D'},
					       .version = 1,
					       .max = VF_RECORD_MAX};

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

uint64_t vf_shard_head(const char *name)
{
	return strtoull(name, NULL, 10);
}

uint64_t vf_object_head(const char *name)
{
	char stem[VF_SHARD_NAME_LEN + 1] = "";

	if (strlen(name) == VF_SHARD_NAME_LEN + strlen(".xyz"))
		memcpy(stem, name, VF_SHARD_NAME_LEN);
	return vf_shard_name_ok(stem) ? vf_shard_head(stem) : UINT64_MAX;
}

/* ---- out ------------------------------------------------------------------------------- */

static char *body_text(const struct vf_record *r, struct vf_buf *binary)
{
	json_t *ops = json_array(), *body;
	char *text;

	for (size_t i = 0; i < r->n_ops; i++)
		if (json_array_append_new(ops,
					  vf_op_json(&r->ops[i], binary))) {
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
	VF_AUTO_BUF struct vf_buf binary = {0};
	VF_AUTO_FREE char *json = body_text(r, &binary);
	struct vf_log_frame f = {.kind = &record_kind,
				 .number = r->number,
				 .checksum = r->previous,
				 .json = json,
				 .json_len = json ? strlen(json) : 0,
				 .binary = binary.data,
				 .binary_len = binary.len};

	if (!json)
		return -ENOMEM;
	memcpy(f.uuid, r->uuid, sizeof(f.uuid));
	memcpy(f.nonce, r->nonce, sizeof(f.nonce));
	return vf_log_frame_encode(&f, out);
}

/* ---- in -------------------------------------------------------------------------------- */

struct parser {
	struct vf_record *out;
	size_t cap; /* of out->ops */
};

/* Grown as operations prove to be some: "[1,1,..." must not cost gigabytes. */
static struct vf_op *next_op(struct parser *p)
{
	struct vf_record *out = p->out;

	if (out->n_ops == p->cap) {
		size_t n = p->cap ? 2 * p->cap : 4;
		struct vf_op *ops = realloc(out->ops, n * sizeof(*ops));
		if (!ops)
			return NULL;
		memset(ops + p->cap, 0, (n - p->cap) * sizeof(*ops));
		out->ops = ops;
		p->cap = n;
	}
	return &out->ops[out->n_ops++];
}

static void parse_op(void *arg, struct vf_reader *r)
{
	struct vf_op *op = next_op(arg);

	if (!op)
		vf_refuse(r, -ENOMEM, "no memory");
	else
		vf_op_parse(r, op);
}

static void parse_record(void *arg, struct vf_reader *r)
{
	struct parser *p = arg;
	struct vf_record *out = p->out;

	vf_take_text(r, "writer", out->writer, sizeof(out->writer));
	out->time_s = (int64_t)vf_take_u64(r, "time", true);
	vf_take_ops(r, parse_op, p);
}

int vf_record_parse(const void *p, size_t len, struct vf_record *out,
		    const char **out_reason)
{
	struct parser parser = {.out = out};
	struct vf_log_frame f;
	int err = vf_log_frame_parse(&record_kind, p, len, &f, out_reason);

	*out = (struct vf_record){0};
	if (err)
		return err;
	memcpy(out->uuid, f.uuid, sizeof(out->uuid));
	out->number = f.number;
	memcpy(out->nonce, f.nonce, sizeof(out->nonce));
	out->previous = f.checksum;
	err = vf_log_body_parse(&f, parse_record, &parser, out_reason);
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
