/*
 * From a request to signed HTTP and back.  It is signed anew at each attempt,
 * because the signature holds the time.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <inttypes.h>
#include <stdio.h>

char *vf_s3_key(const struct s3_bucket *s, const char *key)
{
	char *full;

	return asprintf(&full, "%s%s", s->prefix, key) < 0 ? NULL : full;
}

/* ---- building --------------------------------------------------------------------------- */

enum { HEADERS_MAX = 8 };

struct headers {
	struct vf_sigv4_pair pairs[HEADERS_MAX];
	size_t n;
	char time[17], range[64], if_match[VF_ETAG_MAX + 2];
};

static void add_header(struct headers *h, const char *name, const char *value)
{
	assert(h->n < HEADERS_MAX);
	h->pairs[h->n++] = (struct vf_sigv4_pair){name, value};
}

static void gather_headers(const struct s3_request *r, struct headers *h)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(h->time, sizeof(h->time), "%Y%m%dT%H%M%SZ", &tm);
	add_header(h, "host", r->s3->host);
	add_header(h, "x-amz-date", h->time);
	add_header(h, "x-amz-content-sha256", r->payload_hash);
	if (r->s3->credentials.session_token)
		add_header(h, "x-amz-security-token",
			   r->s3->credentials.session_token);
	if (r->has_range) {
		snprintf(h->range, sizeof(h->range),
			 "bytes=%" PRIu64 "-%" PRIu64, r->first, r->last);
		add_header(h, "range", h->range);
	}
	if (r->if_match && *r->if_match) {
		snprintf(h->if_match, sizeof(h->if_match), "\"%s\"",
			 r->if_match);
		add_header(h, "if-match", h->if_match);
	}
	if (r->if_none_match)
		add_header(h, "if-none-match", "*");
}

static int prepare(void *arg, struct vf_buf *url, struct vf_buf *lines)
{
	struct s3_request *r = arg;
	struct s3_bucket *s = r->s3;
	struct headers h = {0};
	VF_AUTO_FREE char *path = NULL;
	VF_AUTO_BUF struct vf_buf authorization = {0};
	int err;

	if (asprintf(&path, "%s/%s", s->root, r->key ? r->key : "") < 0) {
		path = NULL;
		return -ENOMEM;
	}
	gather_headers(r, &h);
	const struct vf_sigv4_request sig = {.method = r->method,
					     .path = path,
					     .query = r->query,
					     .n_query = r->n_query,
					     .headers = h.pairs,
					     .n_headers = h.n,
					     .payload_hash = r->payload_hash};
	const struct vf_sigv4_scope scope = {s->credentials.access_key,
					     s->credentials.secret_key,
					     s->region, "s3", h.time};
	err = vf_sigv4_authorization(&sig, &scope, &authorization);
	if (!err)
		err = vf_buf_printf(url, "%s", s->origin);
	if (!err)
		err = vf_sigv4_encode(url, path, true);
	if (!err && r->n_query)
		err = vf_buf_append(url, "?", 1);
	if (!err)
		err = vf_sigv4_query(&sig, url);
	for (size_t i = 0; !err && i < h.n; i++)
		err = vf_buf_printf(lines, "%s: %s\n", h.pairs[i].name,
				    h.pairs[i].value);
	return err ? err
		   : vf_buf_printf(lines, "authorization: %s\n",
				   (char *)authorization.data);
}

/* ---- sending ------------------------------------------------------------------------------ */

static void finish(void *arg, const struct vf_http_answer *a)
{
	struct s3_request *r = arg;

	atomic_fetch_add(&r->s3->bytes_in, a->body_len);
	r->done(r, a);
}

void vf_s3_start(struct s3_request *r,
		 void (*done)(struct s3_request *r,
			      const struct vf_http_answer *a))
{
	r->done = done;
	if (r->body_len)
		vf_sigv4_hash(r->body, r->body_len, r->payload_hash);
	else
		memcpy(r->payload_hash, vf_sigv4_empty,
		       sizeof(r->payload_hash));
	atomic_fetch_add(&r->s3->bytes_out, r->body_len);
	vf_http_start(r->s3->http,
		      &(struct vf_http_call){.method = r->method,
					     .body = r->body,
					     .body_len = r->body_len,
					     .buf = r->buf,
					     .buf_len = r->buf_len,
					     .grow = r->grow,
					     .grow_max = r->grow_max,
					     .once = r->once,
					     .connect_ms = r->connect_ms,
					     .prepare = prepare,
					     .done = finish,
					     .arg = r});
}

static void wake(struct s3_request *r, const struct vf_http_answer *a)
{
	pthread_mutex_lock(&r->mtx);
	r->answer = *a;
	snprintf(r->text, sizeof(r->text), "%s", a->text);
	r->answer.text = r->text;
	r->ended = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->mtx);
}

int vf_s3_send(struct s3_request *r)
{
	pthread_mutex_init(&r->mtx, NULL);
	pthread_cond_init(&r->cond, NULL);
	r->ended = false;
	vf_s3_start(r, wake);
	pthread_mutex_lock(&r->mtx);
	while (!r->ended)
		pthread_cond_wait(&r->cond, &r->mtx);
	pthread_mutex_unlock(&r->mtx);
	pthread_cond_destroy(&r->cond);
	pthread_mutex_destroy(&r->mtx);
	return r->answer.err;
}

/* ---- what an answer means -------------------------------------------------------------------- */

int vf_s3_meaning(const struct vf_http_answer *a)
{
	if (a->err)
		return a->err;
	switch (a->status) {
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 412:
		return -ESTALE;
	case 507:
		return -ENOSPC;
	default:
		return -EREMOTEIO;
	}
}

static const char *advice(const struct vf_http_answer *a, const char *code)
{
	if (a->status == 501)
		return " (this server cannot do that; see README.md)";
	if (!strcmp(code, "RequestTimeTooSkewed"))
		return " (is this machine's clock right?)";
	return "";
}

int vf_s3_fail(const struct s3_request *r, const struct vf_http_answer *a,
	       enum vf_level level, int err)
{
	const struct s3_bucket *s = r->s3;
	char code[128], message[512], where[64] = "";

	if (err == -ECANCELED)
		return err;
	atomic_fetch_add(&r->s3->n_error, 1);
	if (a->err) {
		vf_log(level, "%s s3://%s/%s at %s: %s", r->method, s->name,
		       r->key ? r->key : "", s->origin,
		       a->text && *a->text ? a->text : vf_strerror(a->err));
		return err;
	}
	vf_s3_xml_find(a->text, a->text_len, "Code", code, sizeof(code));
	vf_s3_xml_find(a->text, a->text_len, "Message", message,
		       sizeof(message));
	if (a->status / 100 == 3 && a->region[0])
		snprintf(where, sizeof(where), "; the bucket is in region %s",
			 a->region);
	vf_log(level, "%s s3://%s/%s at %s: %d %s%s%s%s%s", r->method, s->name,
	       r->key ? r->key : "", s->origin, a->status, code,
	       *code && *message ? ": " : "", message, where, advice(a, code));
	return err;
}
