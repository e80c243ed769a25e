/*
 * DeleteObjects: what the request lists is deleted, what cannot be is said in
 * an answer of status 200.
 */
#include "tests/s3sim.h"

#include <openssl/evp.h>

enum { KEYS_MAX = 1000 };

/* S3 takes no such request without a sum of its body. */
static bool is_summed(const struct sim_request *r)
{
	const char *sum = sim_request_header(r, "content-md5");
	uint8_t md5[EVP_MAX_MD_SIZE], want[40];

	if (!sum ||
	    !EVP_Digest(r->body.data, r->body.len, md5, NULL, EVP_md5(), NULL))
		return false;
	EVP_EncodeBlock(want, md5, 16);
	return !strcmp(sum, (char *)want);
}

/* In place; what &...; stands for is shorter. */
static void decode_text(char *s)
{
	static const struct {
		const char *text;
		char c;
	} entities[] = {{"&amp;", '&'},
			{"&lt;", '<'},
			{"&gt;", '>'},
			{"&quot;", '"'},
			{"&apos;", '\''}};
	char *out = s;

	while (*s) {
		char c = *s;
		size_t n = 1;
		for (size_t i = 0; c == '&' && i < VF_N(entities); i++)
			if (!strncmp(s, entities[i].text,
				     strlen(entities[i].text))) {
				c = entities[i].c;
				n = strlen(entities[i].text);
				break;
			}
		*out++ = c;
		s += n;
	}
	*out = '\0';
}

static void delete_key(struct sim *s, unsigned i, const char *key, bool quiet,
		       struct vf_buf *out)
{
	bool fails = s->multi_delete == SIM_MULTI_DELETE_PARTIAL && i % 2;

	if (!fails)
		sim_store_delete(&s->store, key);
	if (!fails && quiet)
		return;
	vf_buf_printf(out, fails ? "<Error><Key>" : "<Deleted><Key>");
	sim_xml_append(out, key);
	vf_buf_printf(out, fails ? "</Key><Code>InternalError</Code><Message>"
				   "Please try again.</Message></Error>"
				 : "</Key></Deleted>");
}

void sim_delete_many(struct sim *s, const struct sim_request *r,
		     struct sim_response *res)
{
	VF_AUTO_FREE char *text =
		strndup((const char *)r->body.data, r->body.len);
	unsigned n = 0;

	if (s->multi_delete == SIM_MULTI_DELETE_REFUSED) {
		sim_refuse(res, 501, "NotImplemented",
			   "A header you provided implies functionality that "
			   "is not implemented.");
		return;
	}
	if (!text || !is_summed(r)) {
		sim_refuse(res, 400, "InvalidRequest",
			   "Missing required header for this request: "
			   "Content-MD5");
		return;
	}
	bool quiet = strstr(text, "<Quiet>true</Quiet>") != NULL;
	sim_xml_begin(res);
	vf_buf_printf(&res->text, "<DeleteResult>");
	for (char *at = text, *end; (at = strstr(at, "<Key>")); at = end + 1) {
		at += strlen("<Key>");
		end = strstr(at, "</Key>");
		if (!end || ++n > KEYS_MAX) {
			vf_buf_fini(&res->text);
			sim_refuse(res, 400, "MalformedXML",
				   "The XML you provided was not well-formed.");
			return;
		}
		*end = '\0';
		decode_text(at);
		delete_key(s, n, at, quiet, &res->text);
	}
	vf_buf_printf(&res->text, "</DeleteResult>");
}
