/*
 * Recomputes the signature of a request with the same code that made it, over
 * what arrived; the published vectors in test_sigv4.c keep both honest.
 */
#include "tests/s3sim.h"

#include <stdio.h>

enum { SKEW_MAX_S = 15 * 60 };

struct claim {
	char access_key[128], day[16], region[32], service[16], last[16];
	char signed_headers[1024], signature[VF_SIGV4_HEX + 1];
};

/* Copy what follows @name up to the next comma or space. */
static bool copy_field(const char *s, const char *name, char *out, size_t cap)
{
	const char *at = strstr(s, name);

	if (!at)
		return false;
	at += strlen(name);
	size_t n = strcspn(at, ", ");
	if (n >= cap)
		return false;
	memcpy(out, at, n);
	out[n] = '\0';
	return true;
}

static bool parse_claim(const char *auth, struct claim *c)
{
	char credential[256];

	return !strncmp(auth, "AWS4-HMAC-SHA256 ", 17) &&
	       copy_field(auth, "Credential=", credential,
			  sizeof(credential)) &&
	       copy_field(auth, "SignedHeaders=", c->signed_headers,
			  sizeof(c->signed_headers)) &&
	       copy_field(auth, "Signature=", c->signature,
			  sizeof(c->signature)) &&
	       sscanf(credential, "%127[^/]/%15[^/]/%31[^/]/%15[^/]/%15[^/]",
		      c->access_key, c->day, c->region, c->service,
		      c->last) == 5;
}

/* "20130524T000000Z" in seconds since 1970, or -1. */
static int64_t parse_time(const char *s)
{
	struct tm tm = {0};
	const char *end = s ? strptime(s, "%Y%m%dT%H%M%SZ", &tm) : NULL;

	return end && !*end ? timegm(&tm) : -1;
}

static bool is_signed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = list; (at = strstr(at, name)); at++)
		if ((at == list || at[-1] == ';') && (!at[n] || at[n] == ';'))
			return true;
	return false;
}

static int check_claim(struct sim *s, const struct sim_request *r,
		       const struct claim *c, struct sim_response *res)
{
	const char *date = sim_request_header(r, "x-amz-date");
	int64_t t = parse_time(date);

	if (strcmp(c->access_key, s->access_key))
		return sim_refuse(res, 403, "InvalidAccessKeyId",
				  "The AWS Access Key Id you provided does not "
				  "exist in our records.");
	if (strcmp(c->region, s->region) || strcmp(c->service, "s3") ||
	    strcmp(c->last, "aws4_request"))
		return sim_refuse(res, 400, "AuthorizationHeaderMalformed",
				  "The authorization header is malformed; the "
				  "scope must be us-east-1/s3/aws4_request");
	if (t < 0 || strncmp(date, c->day, 8))
		return sim_refuse(res, 403, "AccessDenied",
				  "AWS authentication requires a valid "
				  "x-amz-date header");
	if (llabs((long long)(t - time(NULL))) > SKEW_MAX_S)
		return sim_refuse(res, 403, "RequestTimeTooSkewed",
				  "The difference between the request time and "
				  "the current time is too large.");
	if (!is_signed(c->signed_headers, "host"))
		return sim_refuse(res, 403, "AccessDenied",
				  "The host header was not signed");
	for (size_t i = 0; i < r->n_headers; i++)
		if (!strncmp(r->headers[i].name, "x-amz-", 6) &&
		    !is_signed(c->signed_headers, r->headers[i].name))
			return sim_refuse(res, 403, "AccessDenied",
					  "There were headers present in the "
					  "request which were not signed");
	return 0;
}

/* Sign again what is claimed to be signed. */
static int check_signature(struct sim *s, const struct sim_request *r,
			   struct claim *c, struct sim_response *res)
{
	struct vf_sigv4_pair headers[SIM_PAIRS_MAX];
	struct vf_sigv4_request q = {
		.method = r->method,
		.path = r->path,
		.query = r->query,
		.n_query = r->n_query,
		.headers = headers,
		.payload_hash = sim_request_header(r, "x-amz-content-sha256")};
	const struct vf_sigv4_scope scope = {
		.access_key = s->access_key,
		.secret_key = s->secret_key,
		.region = c->region,
		.service = c->service,
		.time = sim_request_header(r, "x-amz-date")};
	char want[VF_SIGV4_HEX + 1], *names = c->signed_headers, *name;

	while ((name = strsep(&names, ";")) && q.n_headers < SIM_PAIRS_MAX) {
		const char *v = sim_request_header(r, name);
		headers[q.n_headers].name = name;
		headers[q.n_headers++].value = v ? v : "";
	}
	if (name || vf_sigv4_signature(&q, &scope, want) ||
	    strcmp(want, c->signature))
		return sim_refuse(
			res, 403, "SignatureDoesNotMatch",
			"The request signature we calculated does not "
			"match the signature you provided. Check your "
			"key and signing method.");
	return 0;
}

static int check_payload(const struct sim_request *r, const char *claimed,
			 struct sim_response *res)
{
	char hash[VF_SIGV4_HEX + 1];

	if (!strcmp(claimed, "UNSIGNED-PAYLOAD"))
		return 0;
	if (!strncmp(claimed, "STREAMING-", 10))
		return sim_refuse(res, 501, "NotImplemented",
				  "s3sim takes no bodies signed in chunks");
	vf_sigv4_hash(r->body.data, r->body.len, hash);
	if (strcmp(hash, claimed))
		return sim_refuse(res, 400, "XAmzContentSHA256Mismatch",
				  "The provided 'x-amz-content-sha256' header "
				  "does not match what was computed.");
	return 0;
}

int sim_auth_check(struct sim *s, const struct sim_request *r,
		   struct sim_response *res)
{
	const char *auth = sim_request_header(r, "authorization");
	const char *hash = sim_request_header(r, "x-amz-content-sha256");
	struct claim c;
	int err;

	if (!auth)
		return sim_refuse(res, 403, "AccessDenied", "Access Denied");
	if (!parse_claim(auth, &c))
		return sim_refuse(res, 400, "AuthorizationHeaderMalformed",
				  "The authorization header is malformed");
	if (!hash)
		return sim_refuse(res, 400, "InvalidRequest",
				  "Missing required header for this request: "
				  "x-amz-content-sha256");
	err = check_claim(s, r, &c, res);
	if (!err)
		err = check_signature(s, r, &c, res);
	return err ? err : check_payload(r, hash, res);
}
