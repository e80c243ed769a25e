/*
 * s3://bucket/prefix: any server that speaks S3.
 *
 *   endpoint given  path style, http://host:port/bucket/key
 *   AWS             virtual-host style, https://bucket.s3.REGION.amazonaws.com
 *
 * Every GET names the version it wants (If-Match) and what comes back is
 * checked against what was asked: status, Content-Range, length, ETag.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	LIST_MAX = 16 << 20, /* bytes of one page of a listing */
	OPEN_CONNECT_MS = 2000,
};

static struct s3_bucket *of(struct vf_bucket *b)
{
	return (struct s3_bucket *)b;
}

static void describe(const struct vf_http_answer *a, uint64_t size,
		     struct vf_object *out)
{
	*out = (struct vf_object){.size = size,
				  .mtime_ns = a->mtime_s * 1000000000};
	memcpy(out->etag, a->etag, sizeof(a->etag));
}
static_assert((int)VF_HTTP_ETAG_MAX == (int)VF_ETAG_MAX, "one ETag");

/* ---- reading ----------------------------------------------------------------------------- */

static int s3_head(struct vf_bucket *b, const char *key, struct vf_object *out)
{
	VF_AUTO_FREE char *full = vf_s3_key(of(b), key);
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));

	if (!full || !r)
		return -ENOMEM;
	r->s3 = of(b);
	r->method = "HEAD";
	r->key = full;
	atomic_fetch_add(&r->s3->n_head, 1);
	vf_s3_send(r);
	if (r->answer.err || r->answer.status != 200) {
		int err = vf_s3_meaning(&r->answer);
		return err == -ENOENT
			       ? err
			       : vf_s3_fail(r, &r->answer, VF_ERROR, err);
	}
	if (!r->answer.has_length)
		return vf_fail(-EREMOTEIO, "HEAD %s: no Content-Length", full);
	describe(&r->answer, r->answer.content_length, out);
	return 0;
}

struct getting {
	struct s3_request r;
	struct vf_get get;
	char *key; /* full */
	char etag[VF_ETAG_MAX];
};

/* A range came: is it the one that was asked for, of the right version? */
static int check_range(const struct getting *g, const struct vf_http_answer *a)
{
	uint64_t last = VF_MIN(g->r.last, a->total - 1);
	const char *wrong = NULL;

	if (!a->has_range || a->first != g->r.first || a->last != last)
		wrong = "another range";
	else if (a->body_len != last - a->first + 1)
		wrong = "another length";
	else if (g->etag[0] && strcmp(a->etag, g->etag))
		wrong = "another version";
	if (!wrong)
		return 0;
	return vf_fail(-EREMOTEIO,
		       "GET %s: %s came than was asked for (bytes %" PRIu64
		       "-%" PRIu64 ")",
		       g->key, wrong, g->r.first, g->r.last);
}

/* The whole object came though a range was asked: right only if it is one. */
static int check_whole(const struct getting *g, const struct vf_http_answer *a)
{
	if (!g->r.first && (!g->etag[0] || !strcmp(a->etag, g->etag)) &&
	    (!a->has_length || a->content_length == a->body_len))
		return 0;
	return vf_fail(-EREMOTEIO,
		       "GET %s: the whole object came, not bytes %" PRIu64
		       "-%" PRIu64,
		       g->key, g->r.first, g->r.last);
}

static int judge_get(const struct getting *g, const struct vf_http_answer *a,
		     size_t *out_len, struct vf_object *out)
{
	int err = vf_s3_meaning(a);

	*out_len = a->body_len;
	if (!a->err && a->status == 206) {
		describe(a, a->total, out);
		return check_range(g, a);
	}
	if (!a->err && a->status == 200) {
		describe(a, a->body_len, out);
		return check_whole(g, a);
	}
	*out_len = 0;
	if (!a->err && a->status == 416) { /* at or beyond the end */
		describe(a, a->total, out);
		return 0;
	}
	if (err == -ENOENT || err == -ESTALE) {
		char code[64];
		vf_s3_xml_find(a->text, a->text_len, "Code", code,
			       sizeof(code));
		if (strcmp(code, "NoSuchBucket"))
			return err;
	}
	return vf_s3_fail(&g->r, a, VF_ERROR, err);
}

static void finish_get(struct s3_request *r, const struct vf_http_answer *a)
{
	struct getting *g = (struct getting *)r;
	struct vf_object object = {0};
	size_t len;
	int err = judge_get(g, a, &len, &object);

	g->get.done(g->get.arg, err, err ? 0 : len, &object);
	free(g->key);
	free(g);
}

static void s3_get_start(struct vf_bucket *b, const struct vf_get *get)
{
	struct getting *g = calloc(1, sizeof(*g));
	struct vf_object none = {0};

	if (g)
		g->key = vf_s3_key(of(b), get->key);
	if (!g || !g->key) {
		free(g);
		get->done(get->arg, -ENOMEM, 0, &none);
		return;
	}
	g->get = *get;
	if (get->etag)
		snprintf(g->etag, sizeof(g->etag), "%s", get->etag);
	g->r = (struct s3_request){.s3 = of(b),
				   .method = "GET",
				   .key = g->key,
				   .has_range = true,
				   .first = get->off,
				   .last = get->off + get->len - 1,
				   .if_match = g->etag,
				   .buf = get->buf,
				   .buf_len = get->len};
	atomic_fetch_add(&g->r.s3->n_get, 1);
	vf_s3_start(&g->r, finish_get);
}

/* ---- writing ------------------------------------------------------------------------------- */

static int judge_conditional(const struct s3_request *r)
{
	const struct vf_http_answer *a = &r->answer;

	if (!a->err && a->status == 412)
		return -EEXIST;
	/* What happened is unknown; the caller will look. */
	return vf_s3_fail(r, a, VF_WARN, vf_s3_meaning(a));
}

int vf_s3_put(struct s3_bucket *s, const char *full_key, const void *data,
	      size_t len, unsigned flags, struct vf_object *out)
{
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));
	bool conditional = flags & VF_PUT_IF_ABSENT;

	if (!r)
		return -ENOMEM;
	r->s3 = s;
	r->method = "PUT";
	r->key = full_key;
	r->body = data;
	r->body_len = len;
	r->if_none_match = conditional;
	r->once = conditional;
	atomic_fetch_add(&s->n_put, 1);
	vf_s3_send(r);
	if (r->answer.err || r->answer.status / 100 != 2)
		return conditional ? judge_conditional(r)
				   : vf_s3_fail(r, &r->answer, VF_ERROR,
						vf_s3_meaning(&r->answer));
	if (out)
		describe(&r->answer, len, out);
	return 0;
}

static int s3_put(struct vf_bucket *b, const char *key, const void *data,
		  size_t len, unsigned flags, struct vf_object *out)
{
	VF_AUTO_FREE char *full = vf_s3_key(of(b), key);

	return full ? vf_s3_put(of(b), full, data, len, flags, out) : -ENOMEM;
}

static int s3_delete(struct vf_bucket *b, const char *key)
{
	VF_AUTO_FREE char *full = vf_s3_key(of(b), key);
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));

	if (!full || !r)
		return -ENOMEM;
	r->s3 = of(b);
	r->method = "DELETE";
	r->key = full;
	atomic_fetch_add(&r->s3->n_delete, 1);
	vf_s3_send(r);
	if (!r->answer.err &&
	    (r->answer.status / 100 == 2 || r->answer.status == 404))
		return 0;
	return vf_s3_fail(r, &r->answer, VF_ERROR, vf_s3_meaning(&r->answer));
}

/* ---- listing ------------------------------------------------------------------------------- */

struct listing {
	struct s3_bucket *s;
	char *prefix, *start_after; /* full; start_after may be NULL */
	bool folders;
	unsigned max_keys, connect_ms; /* 0: the server's, no limit */
};

static void add_query(struct s3_request *r, const char *name, const char *value)
{
	assert(r->n_query < S3_QUERY_MAX);
	r->query[r->n_query++] = (struct vf_sigv4_pair){name, value};
}

static int get_page(const struct listing *l, const char *token,
		    struct vf_s3_page *out)
{
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));
	VF_AUTO_BUF struct vf_buf body = {0};
	char max_keys[16];
	int err;

	*out = (struct vf_s3_page){0};
	if (!r)
		return -ENOMEM;
	r->s3 = l->s;
	r->method = "GET";
	r->grow = &body;
	r->grow_max = LIST_MAX;
	r->connect_ms = l->connect_ms;
	add_query(r, "list-type", "2");
	add_query(r, "encoding-type", "url");
	add_query(r, "prefix", l->prefix);
	if (l->folders)
		add_query(r, "delimiter", "/");
	if (token)
		add_query(r, "continuation-token", token);
	else if (l->start_after)
		add_query(r, "start-after", l->start_after);
	if (l->max_keys) {
		snprintf(max_keys, sizeof(max_keys), "%u", l->max_keys);
		add_query(r, "max-keys", max_keys);
	}
	atomic_fetch_add(&l->s->n_list, 1);
	vf_s3_send(r);
	if (r->answer.err || r->answer.status != 200)
		return vf_s3_fail(r, &r->answer, VF_ERROR,
				  vf_s3_meaning(&r->answer));
	err = vf_s3_page_parse(body.data, body.len, out);
	if (err == -EBADMSG)
		err = vf_fail(-EREMOTEIO,
			      "LIST s3://%s/%s at %s: the answer is no listing",
			      l->s->name, l->prefix, l->s->origin);
	return err;
}

static int visit_page(const struct listing *l, const struct vf_s3_page *p,
		      vf_list_fn *fn, void *arg)
{
	size_t skip = strlen(l->s->prefix);
	int rc = 0;

	for (size_t i = 0; !rc && i < p->n; i++) {
		const struct vf_s3_page_entry *e = &p->entries[i];
		if (strncmp(e->key, l->prefix, strlen(l->prefix)))
			return vf_fail(-EREMOTEIO,
				       "LIST %s: %s came, which does not begin "
				       "so",
				       l->prefix, e->key);
		rc = fn(arg, &(struct vf_list_entry){.key = e->key + skip,
						     .folder = e->folder,
						     .object = e->object});
	}
	return rc;
}

static int visit_pages(const struct listing *l, vf_list_fn *fn, void *arg)
{
	VF_AUTO_FREE char *token = NULL;
	bool more = true;
	int rc = 0;

	while (!rc && more) {
		struct vf_s3_page p;
		rc = get_page(l, token, &p);
		if (!rc)
			rc = visit_page(l, &p, fn, arg);
		more = p.truncated;
		if (!rc && more && token && !strcmp(token, p.token))
			rc = vf_fail(-EREMOTEIO,
				     "LIST %s: the server repeats itself",
				     l->prefix);
		free(token);
		token = VF_STEAL(p.token);
		vf_s3_page_fini(&p);
	}
	return rc;
}

static int s3_list(struct vf_bucket *b, const char *prefix, bool folders,
		   const char *start_after, vf_list_fn *fn, void *arg)
{
	struct s3_bucket *s = of(b);
	VF_AUTO_FREE char *full = vf_s3_key(s, prefix);
	VF_AUTO_FREE char *after =
		start_after ? vf_s3_key(s, start_after) : NULL;
	struct listing l = {.s = s,
			    .prefix = full,
			    .start_after = after,
			    .folders = folders};

	if (!full || (start_after && !after))
		return -ENOMEM;
	return visit_pages(&l, fn, arg);
}

/* ---- open and close -------------------------------------------------------------------------- */

static void s3_stats(struct vf_bucket *b, struct vf_bucket_stats *out)
{
	struct s3_bucket *s = of(b);
	struct vf_http_stats http;

	vf_http_stats(s->http, &http);
	*out = (struct vf_bucket_stats){.n_get = s->n_get,
					.n_put = s->n_put,
					.n_head = s->n_head,
					.n_list = s->n_list,
					.n_delete = s->n_delete,
					.n_retry = http.n_retry,
					.n_error = s->n_error,
					.bytes_in = s->bytes_in,
					.bytes_out = s->bytes_out};
}

static void s3_close(struct vf_bucket *b)
{
	struct s3_bucket *s = of(b);

	vf_http_close(s->http);
	vf_credentials_fini(&s->credentials);
	free(s->origin);
	free(s->host);
	free(s->root);
	free(s->name);
	free(s->prefix);
	free(s->region);
	free(s);
}

static const struct vf_bucket_ops s3_ops = {
	.close = s3_close,
	.head = s3_head,
	.get_start = s3_get_start,
	.put = s3_put,
	.upload_open = vf_s3_upload_open,
	.upload_write = vf_s3_upload_write,
	.upload_commit = vf_s3_upload_commit,
	.upload_abort = vf_s3_upload_abort,
	.delete = s3_delete,
	.list = s3_list,
	.stats = s3_stats,
};

/* "s3://bucket/a/b" */
static int parse_url(struct s3_bucket *s, const char *url)
{
	const char *name = url + 5;
	size_t n = strcspn(name, "/");
	const char *rest = name[n] ? name + n + 1 : "";

	if (n < 3 || n > 63 ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "0123456789.-_") < n)
		return vf_fail(-EINVAL, "%s: not the name of an S3 bucket",
			       url);
	s->name = strndup(name, n);
	if (asprintf(&s->prefix, "%s%s", rest, *rest ? "/" : "") < 0)
		s->prefix = NULL;
	return s->name && s->prefix ? 0 : -ENOMEM;
}

static const char *first_of(const char *a, const char *b, const char *c,
			    const char *d)
{
	return a && *a ? a : b && *b ? b : c && *c ? c : d;
}

static int parse_endpoint(struct s3_bucket *s, const char *endpoint,
			  bool virtual_host)
{
	const char *host = strstr(endpoint, "://");
	size_t scheme_len = host ? (size_t)(host - endpoint) : 0;

	if (!host || (strncmp(endpoint, "http://", 7) &&
		      strncmp(endpoint, "https://", 8)))
		return vf_fail(-EINVAL,
			       "endpoint %s: has to begin with http:// or "
			       "https://",
			       endpoint);
	host += 3;
	size_t n = strcspn(host, "/");
	if (!n || host[n + strspn(host + n, "/")])
		return vf_fail(-EINVAL,
			       "endpoint %s: has to be SCHEME://HOST "
			       "or SCHEME://HOST:PORT",
			       endpoint);
	if (asprintf(&s->host, "%s%s%.*s", virtual_host ? s->name : "",
		     virtual_host ? "." : "", (int)n, host) < 0)
		s->host = NULL;
	if (s->host && asprintf(&s->origin, "%.*s://%s", (int)scheme_len,
				endpoint, s->host) < 0)
		s->origin = NULL;
	if (asprintf(&s->root, "%s%s", virtual_host ? "" : "/",
		     virtual_host ? "" : s->name) < 0)
		s->root = NULL;
	return s->host && s->origin && s->root ? 0 : -ENOMEM;
}

static int address(struct s3_bucket *s, const struct vf_bucket_options *opt)
{
	const char *endpoint =
		first_of(opt->endpoint, getenv("AWS_ENDPOINT_URL_S3"),
			 getenv("AWS_ENDPOINT_URL"), s->credentials.endpoint);
	const char *region = first_of(
		opt->region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"),
		first_of(s->credentials.region, NULL, NULL, "us-east-1"));
	VF_AUTO_FREE char *aws = NULL;

	s->region = strdup(region);
	if (!s->region)
		return -ENOMEM;
	if (endpoint)
		return parse_endpoint(s, endpoint, opt->virtual_host);
	if (asprintf(&aws, "https://s3.%s.amazonaws.com", region) < 0) {
		aws = NULL;
		return -ENOMEM;
	}
	/* A dot in the name would not match the server's certificate. */
	return parse_endpoint(s, aws, !strchr(s->name, '.'));
}

static int stop_at_first(void *arg, const struct vf_list_entry *e)
{
	return 1;
}

/* Wrong names and credentials show here, not at the first read. */
static int ask_once(struct s3_bucket *s)
{
	struct listing l = {.s = s,
			    .prefix = s->prefix,
			    .max_keys = 1,
			    .connect_ms = OPEN_CONNECT_MS};
	int rc = visit_pages(&l, stop_at_first, NULL);

	return rc > 0 ? 0 : rc;
}

int vf_bucket_s3_open(const char *url, const struct vf_bucket_options *opt,
		      struct vf_bucket **out)
{
	struct s3_bucket *s = calloc(1, sizeof(*s));
	struct vf_http_options http = {
		.max_connections = opt->max_connections,
		.timeout_ms = opt->timeout_ms,
		.ca_file = first_of(opt->ca_file, getenv("AWS_CA_BUNDLE"), NULL,
				    NULL)};
	int err;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->base.ops = &s3_ops;
	err = parse_url(s, url);
	if (!err)
		err = vf_credentials_load(opt->profile, &s->credentials);
	if (!err)
		err = address(s, opt);
	if (!err)
		err = vf_http_open(&http, &s->http);
	if (!err)
		err = ask_once(s);
	if (err) {
		s3_close(&s->base);
		return err;
	}
	*out = &s->base;
	return 0;
}
