/*
 * The frame of what a log is made of, records and checkpoints: header, JSON,
 * binary part, checksum, as log.h draws them.  Checked before anything inside
 * is looked at; then the JSON is opened, and its operations are handed on.
 */
#include "store/log_impl.h"

#include <xxhash.h>

enum { CHECKSUM_LEN = 8 };

static uint64_t whole_len(uint64_t json_len, uint64_t binary_len)
{
	return VF_RECORD_HEADER_LEN + json_len + binary_len + CHECKSUM_LEN;
}

int vf_log_frame_encode(const struct vf_log_frame *f, struct vf_buf *out)
{
	uint8_t h[VF_RECORD_HEADER_LEN] = {0}, sum[CHECKSUM_LEN];
	uint64_t len = whole_len(f->json_len, f->binary_len);
	size_t from = out->len;

	if (len > f->kind->max)
		return vf_fail(-EFBIG, "%s of %llu bytes, at most %llu",
			       f->kind->what, (unsigned long long)len,
			       (unsigned long long)f->kind->max);
	memcpy(h, f->kind->magic, 8);
	vf_put_le32(h + 8, f->kind->version);
	vf_put_le64(h + 16, len);
	memcpy(h + 24, f->uuid, 16);
	vf_put_le64(h + 40, f->number);
	memcpy(h + 48, f->nonce, 16);
	vf_put_le64(h + 64, f->checksum);
	vf_put_le64(h + 72, f->json_len);
	vf_put_le64(h + 80, f->binary_len);
	if (vf_buf_reserve(out, len))
		return -ENOMEM;
	vf_buf_append(out, h, sizeof(h));
	vf_buf_append(out, f->json, f->json_len);
	if (f->binary_len)
		vf_buf_append(out, f->binary, f->binary_len);
	vf_put_le64(sum, XXH3_64bits(out->data + from, out->len - from));
	return vf_buf_append(out, sum, sizeof(sum));
}

static const char *check_frame(const struct vf_log_kind *k, const uint8_t *b,
			       size_t len, int *out_err)
{
	uint64_t json_len, binary_len;

	*out_err = -EBADMSG;
	if (len < whole_len(0, 0) || len > k->max)
		return "its length is out of range";
	if (memcmp(b, k->magic, 8))
		return "it is something else";
	if (vf_le32(b + 8) > k->version) {
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
	    whole_len(json_len, binary_len) != len)
		return "its parts do not add up";
	if (vf_le32(b + 8) != k->version || vf_le32(b + 12) ||
	    vf_le64(b + 88)) {
		*out_err = -ENOTSUP;
		return "it uses what this version does not know";
	}
	*out_err = 0;
	return NULL;
}

int vf_log_frame_parse(const struct vf_log_kind *kind, const void *p,
		       size_t len, struct vf_log_frame *out,
		       const char **out_reason)
{
	const uint8_t *b = p;
	int err;

	*out = (struct vf_log_frame){.kind = kind};
	*out_reason = check_frame(kind, b, len, &err);
	if (err)
		return err;
	memcpy(out->uuid, b + 24, 16);
	out->number = vf_le64(b + 40);
	memcpy(out->nonce, b + 48, 16);
	out->checksum = vf_le64(b + 64);
	out->json_len = vf_le64(b + 72);
	out->binary_len = vf_le64(b + 80);
	out->json = b + VF_RECORD_HEADER_LEN;
	out->binary = b + VF_RECORD_HEADER_LEN + out->json_len;
	return 0;
}

uint64_t vf_record_checksum(const void *p, size_t len)
{
	return vf_le64((const uint8_t *)p + len - CHECKSUM_LEN);
}

/* ---- the body ------------------------------------------------------------------ */

int vf_log_body_parse(const struct vf_log_frame *f, vf_read_fn *fn, void *arg,
		      const char **out_reason)
{
	json_t *body =
		json_loadb(f->json, f->json_len, JSON_REJECT_DUPLICATES, NULL);
	struct vf_reader r = {
		.obj = body, .binary = f->binary, .binary_len = f->binary_len};

	if (!json_is_object(body)) {
		vf_refuse(&r, -EBADMSG, "its JSON part is malformed");
	} else {
		fn(arg, &r);
		vf_finish_reader(&r);
	}
	json_decref(body);
	*out_reason = r.why;
	return r.err;
}

void vf_take_ops(struct vf_reader *r, vf_read_fn *fn, void *arg)
{
	json_t *ops = vf_take_member(r, "operations");

	if (!json_is_array(ops))
		vf_refuse(r, -EBADMSG, "the operations are missing");
	for (size_t i = 0; !r->err && i < json_array_size(ops); i++) {
		struct vf_reader in = {.obj = json_array_get(ops, i),
				       .binary = r->binary,
				       .binary_len = r->binary_len};
		fn(arg, &in);
		if (in.err)
			vf_refuse(r, in.err, in.why);
		r->binary = in.binary;
		r->binary_len = in.binary_len;
	}
	if (r->binary_len)
		vf_refuse(r, -EBADMSG, "bytes that no operation owns");
	json_decref(ops);
}
