/*
 * A curl handle per attempt: these requests come once in minutes.
 */
#include "store/http_once.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>

enum { BACKOFF_FIRST_MS = 100, SLEEP_SLICE_MS = 20 };

struct attempt {
	const struct vf_http_once *r;
	struct vf_http_once_answer *out;
	struct curl_slist *headers;
	bool overflow;
};

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
	struct attempt *a = arg;
	size_t len = size * n;

	if (len > VF_HTTP_ONCE_BODY_MAX - a->out->len) {
		a->overflow = true;
		return 0;
	}
	memcpy(a->out->body + a->out->len, p, len);
	a->out->len += len;
	return len;
}

static bool is_stopped(const struct vf_http_once *r)
{
	return r->stop && atomic_load_explicit(r->stop, memory_order_relaxed);
}

/* curl calls it at least once a second. */
static int watch_stop(void *arg, curl_off_t a, curl_off_t b, curl_off_t c,
		      curl_off_t d)
{
	return is_stopped(((struct attempt *)arg)->r);
}

static int add_headers(struct attempt *a)
{
	for (size_t i = 0; i < a->r->n_headers; i++) {
		struct curl_slist *l =
			curl_slist_append(a->headers, a->r->headers[i]);
		if (!l)
			return -ENOMEM;
		a->headers = l;
	}
	return 0;
}

static void set_options(struct attempt *a, CURL *e, char *error)
{
	const struct vf_http_once *r = a->r;

	curl_easy_setopt(e, CURLOPT_URL, r->url);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, a->headers);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, watch_stop);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, a);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)r->attempt_ms);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "vecfs/" VF_VERSION);
	if (r->direct)
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	if (r->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, r->ca_file);
	if (r->body)
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, r->body);
	else if (!strcmp(r->method, "PUT"))
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, "");
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
}

static int try_once(struct attempt *a)
{
	char error[CURL_ERROR_SIZE] = "";
	struct vf_http_once_answer *out = a->out;
	CURL *e = curl_easy_init();
	CURLcode rc = CURLE_OUT_OF_MEMORY;
	long status = 0;

	out->len = 0;
	a->overflow = false;
	if (e) {
		set_options(a, e, error);
		rc = curl_easy_perform(e);
		curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_cleanup(e);
	}
	out->body[out->len] = '\0';
	out->status = (int)status;
	if (!rc)
		return 0;
	if (is_stopped(a->r))
		return -ECANCELED;
	snprintf(out->why, sizeof(out->why), "%s",
		 a->overflow ? "the answer is too long"
		 : *error    ? error
			     : curl_easy_strerror(rc));
	return rc == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EREMOTEIO;
}

static void wait_ms(const struct vf_http_once *r, unsigned ms)
{
	for (unsigned n = 0; n < ms && !is_stopped(r); n += SLEEP_SLICE_MS)
		usleep(SLEEP_SLICE_MS * 1000);
}

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int vf_http_once(const struct vf_http_once *r, struct vf_http_once_answer *out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct attempt a = {.r = r, .out = out};
	int err;

	pthread_once(&once, init_curl);
	out->status = 0;
	out->len = 0;
	out->body[0] = out->why[0] = '\0';
	err = add_headers(&a);
	for (unsigned n = 1; !err; n++) {
		err = try_once(&a);
		bool again = err ? err == -EREMOTEIO && !a.overflow
				 : out->status == 429 || out->status >= 500;
		if (!again || n >= r->n_attempts)
			break;
		wait_ms(r, BACKOFF_FIRST_MS << (n - 1));
		err = is_stopped(r) ? -ECANCELED : 0;
	}
	curl_slist_free_all(a.headers);
	return err;
}

int vf_http_once_host(const char *url, char *out_host, size_t cap,
		      bool *out_tls)
{
	CURLU *u = curl_url();
	char *host = NULL, *scheme = NULL, *user = NULL;
	int err = -EINVAL;

	if (u && !curl_url_set(u, CURLUPART_URL, url, 0) &&
	    !curl_url_get(u, CURLUPART_HOST, &host, 0) &&
	    !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
	    curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_NO_USER &&
	    strlen(host) < cap) {
		*out_tls = !strcmp(scheme, "https");
		if (*out_tls || !strcmp(scheme, "http"))
			err = 0;
		snprintf(out_host, cap, "%s", host);
	}
	curl_free(host);
	curl_free(scheme);
	curl_free(user);
	curl_url_cleanup(u);
	return err;
}
