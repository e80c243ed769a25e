/*
 * A request goes: vf_s3_start -> prepare_request (for each attempt, because a
 * signature holds the time) -> end_request -> its done.
 *
 * The URL's encoding is the one that was signed, and Host is sent as signed.
 *
 * An answer that the credentials no longer count leads once to
 *
 *   ask_renewal -> (the thread of the credentials) -> end_renewal -> vf_s3_start
 *
 * and what was refused has not happened, so that sending it again is no second
 * time.  Without other credentials the first answer is the result.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"
#include "store/waiter.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { HEADERS_MAX = 8, EXPLANATION_MAX = 768 };

static const struct {
	const char *method, *verb; /* verb: as messages have it */
} ops[VF_S3_OPS] = {
	[VF_S3_GET] = {"GET", "GET"},	       [VF_S3_PUT] = {"PUT", "PUT"},
	[VF_S3_HEAD] = {"HEAD", "HEAD"},       [VF_S3_LIST] = {"GET", "LIST"},
	[VF_S3_DELETE] = {"DELETE", "DELETE"}, [VF_S3_POST] = {"POST", "POST"},
};

/* ---- building ------------------------------------------------------------------------ */

struct headers {
	struct vf_sigv4_pair pair[HEADERS_MAX];
	size_t n;
	char time[20];
	char range[64];
	char if_match[VF_ETAG_MAX + 2];
};

static void add_header(struct headers *h, const char *name, const char *value)
{
	assert(h->n < HEADERS_MAX);
	h->pair[h->n++] = (struct vf_sigv4_pair){name, value};
}

static void fill_headers(const struct vf_s3_request *r,
			 const struct vf_credentials *c, struct headers *h)
{
	time_t now = time(NULL);
	struct tm tm;

	h->n = 0;
	gmtime_r(&now, &tm);
	strftime(h->time, sizeof(h->time), "%Y%m%dT%H%M%SZ", &tm);
	add_header(h, "host", r->s3->host);
	add_header(h, "x-amz-content-sha256", r->payload_hash);
	add_header(h, "x-amz-date", h->time);
	if (c->session_token)
		add_header(h, "x-amz-security-token", c->session_token);
	if (r->len) {
		snprintf(h->range, sizeof(h->range), "bytes=%llu-%llu",
			 (unsigned long long)r->off,
			 (unsigned long long)(r->off + r->len - 1));
		add_header(h, "range", h->range);
	}
	if (r->etag && *r->etag) {
		snprintf(h->if_match, sizeof(h->if_match), "\"%s\"", r->etag);
		add_header(h, "if-match", h->if_match);
	}
	if (r->if_absent)
		add_header(h, "if-none-match", "*");
	if (r->md5 && *r->md5)
		add_header(h, "content-md5", r->md5);
}

static int make_path(const struct vf_s3_request *r, struct vf_buf *out)
{
	const struct vf_s3 *s3 = r->s3;

	if (r->key)
		return vf_buf_printf(out, "%s/%s%s", s3->root, s3->prefix,
				     r->key);
	return vf_buf_printf(out, "%s", *s3->root ? s3->root : "/");
}

static int make_url(const struct vf_s3_request *r,
		    const struct vf_sigv4_request *sign, struct vf_buf *url)
{
	int err = vf_buf_printf(url, "%s", r->s3->origin);

	if (!err)
		err = vf_sigv4_encode(url, sign->path, true);
	if (!err && r->n_query)
		err = vf_buf_append(url, "?", 1);
	return err ? err : vf_sigv4_query(sign, url);
}

static int make_headers(const struct vf_sigv4_scope *scope,
			const struct headers *h,
			const struct vf_sigv4_request *sign, struct vf_buf *out)
{
	int err = 0;

	for (size_t i = 0; !err && i < h->n; i++)
		err = vf_buf_printf(out, "%s: %s\n", h->pair[i].name,
				    h->pair[i].value);
	if (!err)
		err = vf_buf_printf(out, "authorization: ");
	if (!err)
		err = vf_sigv4_authorization(sign, scope, out);
	return err ? err : vf_buf_append(out, "\n", 1);
}

static int sign_request(struct vf_s3_request *r, const struct vf_credentials *c,
			const char *path, struct vf_buf *url,
			struct vf_buf *lines)
{
	struct headers h;
	int err;

	fill_headers(r, c, &h);
	const struct vf_sigv4_scope scope = {c->access_key, c->secret_key,
					     r->s3->region, "s3", h.time};
	const struct vf_sigv4_request sign = {
		.method = ops[r->op].method,
		.path = path,
		.query = r->query,
		.n_query = r->n_query,
		.headers = h.pair,
		.n_headers = h.n,
		.payload_hash = r->payload_hash,
	};
	err = make_url(r, &sign, url);
	return err ? err : make_headers(&scope, &h, &sign, lines);
}

static int prepare_request(void *arg, struct vf_buf *url, struct vf_buf *lines)
{
	struct vf_s3_request *r = arg;
	VF_AUTO_BUF struct vf_buf path = {0};
	const struct vf_credentials *c;
	int err = make_path(r, &path);

	if (err)
		return err;
	c = vf_credential_source_get(r->s3->credentials);
	r->wait.serial = c->serial;
	err = sign_request(r, c, (char *)path.data, url, lines);
	vf_credential_source_put(r->s3->credentials, c);
	if (!err)
		atomic_fetch_add(&r->s3->n_sent[r->op], 1);
	return err;
}

/* ---- judging ---------------------------------------------------------------------------- */

int vf_s3_fail(const struct vf_s3_request *r, int err, const char *fmt, ...)
{
	const struct vf_s3 *s3 = r->s3;
	const char *key = r->key ? r->key : "";
	/* "s3://bucket/p/" of a LIST reads better without its slash. */
	size_t cut = !*key && *s3->prefix;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (err != -ECANCELED)
		atomic_fetch_add(&r->s3->n_error, 1);
	bool is_info = r->may_be_refused || (err == -EREMOTEIO && r->if_absent);
	vf_log(is_info ? VF_INFO : VF_ERROR, "s3://%s%s%.*s%s: %s: %s (%s)",
	       s3->name, *key || *s3->prefix ? "/" : "",
	       (int)(strlen(s3->prefix) - cut), s3->prefix, key,
	       ops[r->op].verb, text, s3->origin);
	return err;
}

static bool is_code(const struct vf_s3_request *r, const char *code)
{
	return !strcmp(r->code, code);
}

/* The meaning of a status from 300 on; see vf_s3_call. */
static int mean_status(const struct vf_s3_request *r)
{
	int status = r->answer.status;

	if (is_code(r, "QuotaExceeded") || status == 507)
		return -ENOSPC;
	switch (status) {
	case 404:
		return is_code(r, "NoSuchBucket") || !r->may_be_absent
			       ? -EREMOTEIO
			       : -ENOENT;
	case 408:
	case 409:
	case 429:
		return -EREMOTEIO;
	case 412:
		return r->if_absent ? -EEXIST : -ESTALE;
	case 416:
		return -ERANGE;
	case 501:
		return r->if_absent ? -ENOTSUP : -EREMOTEIO;
	}
	return status >= 400 && status < 500 && !is_code(r, "RequestTimeout")
		       ? -EACCES
		       : -EREMOTEIO;
}

/* What to do about it, where the answer tells. */
static void hint(const struct vf_s3_request *r, const struct vf_http_answer *a,
		 char *out, size_t cap)
{
	char region[32], endpoint[128];

	out[0] = '\0';
	vf_s3_xml_find(a->text, a->text_len, "Region", region, sizeof(region));
	if (!region[0])
		snprintf(region, sizeof(region), "%s", a->region);
	vf_s3_xml_find(a->text, a->text_len, "Endpoint", endpoint,
		       sizeof(endpoint));
	if (a->status == 501 && r->if_absent)
		snprintf(out, cap,
			 "; this server cannot create objects only if absent "
			 "(If-None-Match), which commits need; "
			 "--single-writer, if nobody else ever writes here");
	else if (region[0] && strcmp(region, r->s3->region))
		snprintf(out, cap,
			 "; the bucket is in region %s: "
			 "set AWS_REGION",
			 region);
	else if (endpoint[0])
		snprintf(out, cap, "; the bucket is at %s", endpoint);
}

static void explain_status(const struct vf_s3_request *r,
			   const struct vf_http_answer *a, char *out,
			   size_t cap)
{
	char message[320], more[160];

	vf_s3_xml_find(a->text, a->text_len, "Message", message,
		       sizeof(message));
	hint(r, a, more, sizeof(more));
	snprintf(out, cap, "HTTP %d%s%s%s%s%s", a->status,
		 r->code[0] ? " " : "", r->code, message[0] ? ": " : "",
		 message, more);
}

static int judge(struct vf_s3_request *r, const struct vf_http_answer *a)
{
	char text[EXPLANATION_MAX];
	int err;

	if (a->err == -EREMOTEIO)
		return vf_s3_fail(r, a->err, "%s, %u attempt%s", a->text,
				  a->n_attempts, a->n_attempts == 1 ? "" : "s");
	if (a->err || a->status < 300)
		return a->err;
	err = mean_status(r);
	if (err == -ENOENT || err == -EEXIST || err == -ESTALE ||
	    err == -ERANGE)
		return err;
	explain_status(r, a, text, sizeof(text));
	return vf_s3_fail(r, err, "%s", text);
}

/* ---- credentials that no longer count ------------------------------------------------- */

/* Others would help.  A HEAD is refused without saying why. */
static bool blames_credentials(const struct vf_s3_request *r,
			       const struct vf_http_answer *a)
{
	static const char *const codes[] = {
		"ExpiredToken",		"InvalidToken",
		"InvalidTokenId",	"InvalidAccessKeyId",
		"TokenRefreshRequired", "SignatureDoesNotMatch",
	};

	if (a->err ||
	    (a->status != 400 && a->status != 401 && a->status != 403))
		return false;
	for (size_t i = 0; i < VF_N(codes); i++)
		if (is_code(r, codes[i]))
			return true;
	return r->op == VF_S3_HEAD && !r->code[0];
}

static void end_renewal(void *arg, int err)
{
	struct vf_s3_request *r = arg;
	VF_AUTO_FREE char *refusal = VF_STEAL(r->refusal);

	if (!err)
		vf_s3_start(r);
	else if (err == -ECANCELED)
		r->done(r, err);
	else
		r->done(r, vf_s3_fail(r, r->refused, "%s", refusal));
}

/* False: no memory to wait with. */
static bool ask_renewal(struct vf_s3_request *r, const struct vf_http_answer *a)
{
	char text[EXPLANATION_MAX];

	explain_status(r, a, text, sizeof(text));
	r->refusal = strdup(text);
	if (!r->refusal)
		return false;
	r->renewed = true;
	r->refused = mean_status(r);
	r->wait.done = end_renewal;
	r->wait.arg = r;
	vf_credential_source_renew(r->s3->credentials, &r->wait);
	return true;
}

static void log_request(const struct vf_s3_request *r,
			const struct vf_http_answer *a)
{
	char range[48] = "", status[16] = "no answer";

	if (vf_log_level() < VF_DEBUG)
		return;
	if (r->len)
		snprintf(range, sizeof(range), " %" PRIu64 "-%" PRIu64, r->off,
			 r->off + r->len);
	if (!a->err)
		snprintf(status, sizeof(status), "%d", a->status);
	vf_log(VF_DEBUG,
	       "%s %s%s%s: %s, %zu bytes, %u attempts, %" PRIu64 " us",
	       ops[r->op].verb, r->s3->prefix, r->key ? r->key : "", range,
	       status, a->body_len, a->n_attempts,
	       (vf_now_ns() - r->start_ns) / 1000);
}

static void end_request(void *arg, const struct vf_http_answer *a)
{
	struct vf_s3_request *r = arg;
	int err;

	log_request(r, a);
	r->answer = *a;
	r->answer.text = NULL;
	if (!a->err && a->status >= 300)
		vf_s3_xml_find(a->text, a->text_len, "Code", r->code,
			       sizeof(r->code));
	if (!r->renewed && blames_credentials(r, a) && ask_renewal(r, a))
		return;
	err = judge(r, a);
	atomic_fetch_add(&r->s3->bytes_in, a->body_len);
	if (!err)
		atomic_fetch_add(&r->s3->bytes_out, r->body_len);
	r->done(r, err);
}

/* ---- starting ------------------------------------------------------------------------------ */

/* An ETag in a header must not become two headers. */
static bool is_etag(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == '"' || *s == 0x7f)
			return false;
	return true;
}

void vf_s3_start(struct vf_s3_request *r)
{
	struct vf_http_call call = {
		.method = ops[r->op].method,
		.body = r->body,
		.body_len = r->body_len,
		.buf = r->buf,
		.buf_len = r->buf_len,
		.grow = r->grow,
		.grow_max = r->grow_max,
		.once = r->if_absent,
		.connect_ms = r->connect_ms,
		.prepare = prepare_request,
		.done = end_request,
		.arg = r,
	};

	r->code[0] = '\0';
	r->start_ns = vf_now_ns();
	if (r->etag && (strlen(r->etag) >= VF_ETAG_MAX || !is_etag(r->etag))) {
		r->done(r, -ESTALE); /* no version can be called so */
		return;
	}
	if (r->key &&
	    strlen(r->s3->prefix) + strlen(r->key) > VF_OBJECT_KEY_MAX) {
		r->done(r, vf_s3_fail(r, -EINVAL,
				      "key and prefix have more than %d bytes",
				      VF_OBJECT_KEY_MAX));
		return;
	}
	if (r->body_len)
		vf_sigv4_hash(r->body, r->body_len, r->payload_hash);
	else
		memcpy(r->payload_hash, vf_sigv4_empty, sizeof(vf_sigv4_empty));
	vf_http_start(r->s3->http, &call);
}

static void wake_waiter(struct vf_s3_request *r, int err)
{
	vf_waiter_wake(r->arg, err);
}

int vf_s3_call(struct vf_s3_request *r)
{
	struct vf_waiter w = VF_WAITER;

	r->done = wake_waiter;
	r->arg = &w;
	vf_s3_start(r);
	return vf_waiter_wait(&w);
}

void vf_s3_describe(const struct vf_http_answer *a, uint64_t size,
		    struct vf_object *out)
{
	static_assert(VF_ETAG_MAX == (int)VF_HTTP_ETAG_MAX, "one limit");
	*out = (struct vf_object){.size = size};
	if (a->mtime_s > 0 && a->mtime_s < INT64_MAX / 1000000000)
		out->mtime_ns = a->mtime_s * 1000000000;
	memcpy(out->etag, a->etag, sizeof(out->etag));
}
