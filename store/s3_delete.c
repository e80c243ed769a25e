/*
 * Many objects deleted by one request (DeleteObjects).  Where a server does not
 * know it, or says of some that it failed, they are deleted one by one: then
 * each that cannot be deleted is named.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <openssl/evp.h>

enum {
	BATCH = 1000, /* keys of one request, by S3's rules */
	ANSWER_LEN_MAX = 4 << 20,
	MD5_LEN = 16,
};

/* XML 1.0 has no way to spell other control characters. */
static bool can_be_text(const char *key)
{
	for (; *key; key++)
		if ((unsigned char)*key < ' ')
			return false;
	return true;
}

static int append_text(struct vf_buf *out, const char *s)
{
	int err = 0;

	for (; !err && *s; s++) {
		const char *entity = *s == '&'	 ? "&amp;"
				     : *s == '<' ? "&lt;"
				     : *s == '>' ? "&gt;"
						 : NULL;
		err = vf_buf_append(out, entity ? entity : s,
				    entity ? strlen(entity) : 1);
	}
	return err;
}

static int make_body(const struct vf_s3 *s3, const char *const *keys, size_t n,
		     struct vf_buf *out)
{
	int err = vf_buf_printf(
		out,
		"<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
		"<Quiet>true</Quiet>");

	for (size_t i = 0; !err && i < n; i++) {
		err = vf_buf_printf(out, "<Object><Key>");
		if (!err)
			err = append_text(out, s3->prefix);
		if (!err)
			err = append_text(out, keys[i]);
		if (!err)
			err = vf_buf_printf(out, "</Key></Object>");
	}
	return err ? err : vf_buf_printf(out, "</Delete>");
}

/* S3 wants a sum of the body; MD5 is the one that every server knows. */
static void sum_body(const struct vf_buf *body, char out[2 * MD5_LEN])
{
	uint8_t md5[EVP_MAX_MD_SIZE];

	out[0] = '\0';
	if (EVP_Digest(body->data, body->len, md5, NULL, EVP_md5(), NULL))
		EVP_EncodeBlock((uint8_t *)out, md5, MD5_LEN);
}

/* Whether all of them are gone; nothing is said about those that are not. */
static bool delete_batch(struct vf_s3 *s3, const char *const *keys, size_t n)
{
	VF_AUTO_BUF struct vf_buf body = {0}, answer = {0};
	char md5[2 * MD5_LEN], code[VF_S3_CODE_MAX];

	if (make_body(s3, keys, n, &body))
		return false;
	sum_body(&body, md5);
	struct vf_s3_request r = {.s3 = s3,
				  .op = VF_S3_POST,
				  .query = {{"delete", ""}},
				  .n_query = 1,
				  .md5 = md5,
				  .may_be_refused = true,
				  .body = body.data,
				  .body_len = body.len,
				  .grow = &answer,
				  .grow_max = ANSWER_LEN_MAX};
	if (vf_s3_call(&r)) {
		/* Not to be asked again; what failed on its way is. */
		if (r.answer.status >= 400 && r.answer.status != 429 &&
		    (r.answer.status < 500 || r.answer.status == 501))
			atomic_store(&s3->one_by_one, true);
		return false;
	}
	vf_s3_xml_find(answer.data ? (void *)answer.data : "", answer.len,
		       "Code", code, sizeof(code));
	return !code[0];
}

static int delete_each(struct vf_bucket *b, const char *const *keys, size_t n)
{
	int first = 0;

	for (size_t i = 0; i < n; i++) {
		int err = b->ops->delete (b, keys[i]);
		first = first ? first : err;
		if (err == -ECANCELED)
			break;
	}
	return first;
}

int vf_s3_delete_many(struct vf_bucket *b, const char *const *keys, size_t n)
{
	struct vf_s3 *s3 = (struct vf_s3 *)b;
	int err = 0;

	for (size_t i = 0, len; !err && i < n; i += len) {
		bool can = !atomic_load(&s3->one_by_one);
		for (len = 0; len < VF_MIN(n - i, (size_t)BATCH); len++)
			can = can && can_be_text(keys[i + len]);
		if (!can || len < 2 || !delete_batch(s3, keys + i, len))
			err = delete_each(b, keys + i, len);
	}
	return err;
}
