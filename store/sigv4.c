/*
 * Canonical request, string to sign, signing key, signature: in the order in
 * which AWS's description has them.
 */
#include "store/sigv4.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

enum { SHA256_LEN = 32, PAIRS_MAX = 32, KEY_OF_MAX = 256 };

const char vf_sigv4_empty[VF_SIGV4_HEX + 1] =
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

void vf_sigv4_hash(const void *p, size_t len, char out[VF_SIGV4_HEX + 1])
{
	uint8_t digest[SHA256_LEN];

	if (!EVP_Digest(p, len, digest, NULL, EVP_sha256(), NULL))
		abort(); /* libcrypto without SHA-256 */
	vf_hex(digest, sizeof(digest), out);
}

int vf_sigv4_encode(struct vf_buf *out, const char *s, bool keep_slash)
{
	int err = 0;

	for (; !err && *s; s++) {
		unsigned char c = (unsigned char)*s;
		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    (c >= '0' && c <= '9') || strchr("-._~", c) ||
		    (c == '/' && keep_slash))
			err = vf_buf_append(out, &c, 1);
		else
			err = vf_buf_printf(out, "%%%02X", c);
	}
	return err ? err : vf_buf_printf(out, "%s", ""); /* ends in NUL */
}

/* ---- canonical request -------------------------------------------------------------- */

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Headers sort by name alone: ':' comes after the '-' of a longer name. */
static int compare_lines(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t n = strcspn(x, ":"), m = strcspn(y, ":");
	int c = memcmp(x, y, VF_MIN(n, m));

	return c ? c : (n > m) - (n < m);
}

/* Parameters sort by encoded name, then value, for the same reason: '='. */
static int compare_encoded(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t n = strcspn(x, "="), m = strcspn(y, "=");
	int c = memcmp(x, y, VF_MIN(n, m));

	if (c)
		return c;
	return n != m ? (n < m ? -1 : 1) : strcmp(x, y);
}

static int encode_pair(const struct vf_sigv4_pair *p, char **out)
{
	struct vf_buf b = {0};
	int err = vf_sigv4_encode(&b, p->name, false);

	if (!err)
		err = vf_buf_append(&b, "=", 1);
	if (!err)
		err = vf_sigv4_encode(&b, p->value, false);
	if (!err)
		err = vf_buf_append(&b, "", 1);
	if (err)
		vf_buf_fini(&b);
	*out = (char *)b.data;
	return err;
}

int vf_sigv4_query(const struct vf_sigv4_request *r, struct vf_buf *out)
{
	char *pairs[PAIRS_MAX] = {0};
	size_t n = r->n_query;
	int err = 0;

	assert(n <= PAIRS_MAX);
	for (size_t i = 0; !err && i < n; i++)
		err = encode_pair(&r->query[i], &pairs[i]);
	if (!err && n)
		qsort(pairs, n, sizeof(pairs[0]), compare_encoded);
	for (size_t i = 0; !err && i < n; i++)
		err = vf_buf_printf(out, "%s%s", i ? "&" : "", pairs[i]);
	for (size_t i = 0; i < n; i++)
		free(pairs[i]);
	return err;
}

/* "name:value" with the value's spaces trimmed and runs of them made one. */
static int canonical_header(const struct vf_sigv4_pair *p, char **out)
{
	struct vf_buf b = {0};
	const char *s = p->value + strspn(p->value, " \t");
	int err = vf_buf_printf(&b, "%s:", p->name);

	while (!err && *s) {
		size_t n = strcspn(s, " \t"), space = strspn(s + n, " \t");
		err = vf_buf_append(&b, s, n);
		s += n + space;
		if (!err && space && *s)
			err = vf_buf_append(&b, " ", 1);
	}
	if (!err)
		err = vf_buf_append(&b, "", 1);
	if (err)
		vf_buf_fini(&b);
	*out = (char *)b.data;
	return err;
}

static int signed_names(const struct vf_sigv4_request *r, struct vf_buf *out)
{
	const char *names[PAIRS_MAX];
	size_t n = r->n_headers;
	int err = 0;

	assert(n <= PAIRS_MAX);
	for (size_t i = 0; i < n; i++)
		names[i] = r->headers[i].name;
	qsort(names, n, sizeof(names[0]), compare_strings);
	for (size_t i = 0; !err && i < n; i++)
		err = vf_buf_printf(out, "%s%s", i ? ";" : "", names[i]);
	return err;
}

static int canonical_headers(const struct vf_sigv4_request *r,
			     struct vf_buf *out)
{
	char *lines[PAIRS_MAX] = {0};
	size_t n = r->n_headers;
	int err = 0;

	assert(n <= PAIRS_MAX);
	for (size_t i = 0; !err && i < n; i++)
		err = canonical_header(&r->headers[i], &lines[i]);
	if (!err)
		qsort(lines, n, sizeof(lines[0]), compare_lines);
	for (size_t i = 0; !err && i < n; i++)
		err = vf_buf_printf(out, "%s\n", lines[i]);
	for (size_t i = 0; i < n; i++)
		free(lines[i]);
	return err;
}

int vf_sigv4_canonical(const struct vf_sigv4_request *r, struct vf_buf *out)
{
	int err = vf_buf_printf(out, "%s\n", r->method);

	if (!err)
		err = vf_sigv4_encode(out, r->path, true);
	if (!err)
		err = vf_buf_append(out, "\n", 1);
	if (!err)
		err = vf_sigv4_query(r, out);
	if (!err)
		err = vf_buf_append(out, "\n", 1);
	if (!err)
		err = canonical_headers(r, out);
	if (!err)
		err = vf_buf_append(out, "\n", 1);
	if (!err)
		err = signed_names(r, out);
	return err ? err : vf_buf_printf(out, "\n%s", r->payload_hash);
}

/* ---- signature ------------------------------------------------------------------------ */

static void hmac(const void *key, size_t key_len, const char *s,
		 uint8_t out[SHA256_LEN])
{
	if (!HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)s,
		  strlen(s), out, NULL))
		abort(); /* libcrypto without HMAC */
}

static int derive_key(const struct vf_sigv4_scope *s, uint8_t out[SHA256_LEN])
{
	VF_AUTO_BUF struct vf_buf b = {0};
	char day[9];
	int err = vf_buf_printf(&b, "AWS4%s", s->secret_key);

	if (err)
		return err;
	snprintf(day, sizeof(day), "%.8s", s->time);
	hmac(b.data, b.len, day, out);
	hmac(out, SHA256_LEN, s->region, out);
	hmac(out, SHA256_LEN, s->service, out);
	hmac(out, SHA256_LEN, "aws4_request", out);
	explicit_bzero(b.data, b.len);
	return 0;
}

/* It changes once a day: a thread keeps the last. */
static int signing_key(const struct vf_sigv4_scope *s, uint8_t out[SHA256_LEN])
{
	static _Thread_local struct {
		char of[KEY_OF_MAX];
		uint8_t key[SHA256_LEN];
	} last;
	char of[KEY_OF_MAX];
	int len = snprintf(of, sizeof(of), "%s\n%.8s\n%s\n%s", s->secret_key,
			   s->time, s->region, s->service);
	int err = 0;

	if (len < 0 || (size_t)len >= sizeof(of))
		err = derive_key(s, out);
	else if (!strcmp(of, last.of))
		memcpy(out, last.key, sizeof(last.key));
	else if (!(err = derive_key(s, out))) {
		memcpy(last.of, of, sizeof(of));
		memcpy(last.key, out, sizeof(last.key));
	}
	explicit_bzero(of, sizeof(of));
	return err;
}

int vf_sigv4_signature(const struct vf_sigv4_request *r,
		       const struct vf_sigv4_scope *scope,
		       char out[VF_SIGV4_HEX + 1])
{
	VF_AUTO_BUF struct vf_buf canonical = {0};
	VF_AUTO_BUF struct vf_buf to_sign = {0};
	char hash[VF_SIGV4_HEX + 1];
	uint8_t key[SHA256_LEN], digest[SHA256_LEN];
	int err = vf_sigv4_canonical(r, &canonical);

	if (err)
		return err;
	vf_sigv4_hash(canonical.data, canonical.len, hash);
	err = vf_buf_printf(&to_sign,
			    "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s",
			    scope->time, scope->time, scope->region,
			    scope->service, hash);
	if (!err)
		err = signing_key(scope, key);
	if (err)
		return err;
	hmac(key, sizeof(key), (char *)to_sign.data, digest);
	explicit_bzero(key, sizeof(key));
	vf_hex(digest, sizeof(digest), out);
	return 0;
}

int vf_sigv4_authorization(const struct vf_sigv4_request *r,
			   const struct vf_sigv4_scope *scope,
			   struct vf_buf *out)
{
	char signature[VF_SIGV4_HEX + 1];
	int err = vf_sigv4_signature(r, scope, signature);

	if (!err)
		err = vf_buf_printf(out,
				    "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/"
				    "aws4_request,SignedHeaders=",
				    scope->access_key, scope->time,
				    scope->region, scope->service);
	if (!err)
		err = signed_names(r, out);
	return err ? err : vf_buf_printf(out, ",Signature=%s", signature);
}
