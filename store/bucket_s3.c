/*
 * A bucket on a server that speaks S3.
 *
 *   s3_request.c   one signed request and what its answer means
 *   s3_list.c      listings           s3_upload.c   streams, in parts
 *   this file      open and close, head, get, put, delete
 *
 * Every answer to a range GET is held against what was asked for; a server or
 * proxy that answers something else gives an error, never wrong bytes.
 */
#include "store/s3_request.h"

#include <ctype.h>
#include <stdio.h>

enum { CONNECT_FIRST_MS = 2000 };

static struct vf_s3 *of(struct vf_bucket *b)
{
	return (struct vf_s3 *)b;
}

/* ---- head ------------------------------------------------------------------------------ */

static int describe_whole(const struct vf_s3_request *r, struct vf_object *out)
{
	if (!r->answer.has_length)
		return vf_s3_fail(r, -EREMOTEIO,
				  "the answer does not tell the size");
	vf_s3_describe(&r->answer, r->answer.content_length, out);
	return 0;
}

static int s3_head(struct vf_bucket *b, const char *key, struct vf_object *out)
{
	struct vf_s3_request r = {.s3 = of(b),
				  .op = VF_S3_HEAD,
				  .key = key,
				  .may_be_absent = true};
	int err = vf_s3_call(&r);

	return err ? err : describe_whole(&r, out);
}

/* ---- get ------------------------------------------------------------------------------- */

struct get {
	struct vf_s3_request r;
	vf_get_fn *done;
	void *arg;
	uint64_t off, len;
	char etag[VF_ETAG_MAX + 1]; /* one too long is refused later */
	char key[];
};

static void end_get(struct get *g, int err, size_t len,
		    const struct vf_object *object)
{
	g->done(g->arg, err, err ? 0 : len, err ? NULL : object);
	free(g);
}

/* A HEAD in place of a GET: nothing was asked for, or nothing is there. */
static void end_empty(struct vf_s3_request *r, int err)
{
	struct get *g = r->arg;
	struct vf_object object;

	if (!err)
		err = describe_whole(r, &object);
	if (!err && g->len && g->off < object.size)
		err = *g->etag ? vf_s3_fail(r, -EREMOTEIO,
					    "the server finds no bytes at %llu "
					    "of %llu",
					    (unsigned long long)g->off,
					    (unsigned long long)object.size)
			       : -ESTALE; /* it grew in between */
	end_get(g, err, 0, &object);
}

static void start_head(struct get *g)
{
	g->r.op = VF_S3_HEAD;
	g->r.buf = NULL;
	g->r.buf_len = 0;
	g->r.len = 0; /* no Range */
	g->r.done = end_empty;
	vf_s3_start(&g->r);
}

/* The bytes of @r came; are they those that were asked for? */
static int check_range(const struct vf_s3_request *r, uint64_t *out_size)
{
	const struct vf_http_answer *a = &r->answer;
	uint64_t want = 0;

	if (a->status == 200 && !r->off) { /* whole, and not too much */
		*out_size = a->body_len;
		return 0;
	}
	if (a->status != 206)
		return vf_s3_fail(r, -EREMOTEIO,
				  "the server answered %d to a range of bytes",
				  a->status);
	if (a->has_range && a->total > r->off)
		want = VF_MIN(r->len, a->total - r->off);
	if (!want || a->first != r->off || a->last != r->off + want - 1)
		return vf_s3_fail(r, -EREMOTEIO,
				  "the server sent bytes %llu-%llu/%llu, not "
				  "the %llu at %llu",
				  (unsigned long long)a->first,
				  (unsigned long long)a->last,
				  (unsigned long long)a->total,
				  (unsigned long long)r->len,
				  (unsigned long long)r->off);
	if (a->body_len != want)
		return vf_s3_fail(r, -EREMOTEIO, "%zu bytes came, not %llu",
				  a->body_len, (unsigned long long)want);
	*out_size = a->total;
	return 0;
}

static void end_range(struct vf_s3_request *r, int err)
{
	struct get *g = r->arg;
	struct vf_object object;
	uint64_t size = 0;

	if (err == -ERANGE) { /* beyond the end: of which version? */
		start_head(g);
		return;
	}
	if (!err)
		err = check_range(r, &size);
	if (!err && *g->etag && strcmp(g->etag, r->answer.etag))
		err = vf_s3_fail(r, -EREMOTEIO,
				 "asked for version %s, the server sent %s",
				 g->etag, r->answer.etag);
	if (!err)
		vf_s3_describe(&r->answer, size, &object);
	end_get(g, err, r->answer.body_len, &object);
}

static void s3_get_start(struct vf_bucket *b, const struct vf_get *get)
{
	size_t key_len = strlen(get->key);
	struct get *g = malloc(sizeof(*g) + key_len + 1);
	uint64_t last;

	if (!g) {
		get->done(get->arg, -ENOMEM, 0, NULL);
		return;
	}
	*g = (struct get){.done = get->done,
			  .arg = get->arg,
			  .off = get->off,
			  .len = get->len};
	memcpy(g->key, get->key, key_len + 1);
	snprintf(g->etag, sizeof(g->etag), "%s", get->etag ? get->etag : "");
	g->r = (struct vf_s3_request){.s3 = of(b),
				      .op = VF_S3_GET,
				      .key = g->key,
				      .etag = g->etag,
				      .may_be_absent = true,
				      .off = get->off,
				      .len = get->len,
				      .buf = get->buf,
				      .buf_len = get->len,
				      .done = end_range,
				      .arg = g};
	/* Past what a number holds no object reaches. */
	if (!get->len || VF_ADD(get->off, (uint64_t)get->len, &last))
		start_head(g);
	else
		vf_s3_start(&g->r);
}

/* ---- put, delete ------------------------------------------------------------------------- */

static int s3_put(struct vf_bucket *b, const char *key, const void *data,
		  size_t len, unsigned flags, struct vf_object *out)
{
	struct vf_s3_request r = {.s3 = of(b),
				  .op = VF_S3_PUT,
				  .key = key,
				  .if_absent = flags & VF_PUT_IF_ABSENT,
				  .body = data,
				  .body_len = len};
	int err = vf_s3_call(&r);

	if (!err)
		vf_s3_describe(&r.answer, len, out);
	return err;
}

static int s3_delete(struct vf_bucket *b, const char *key)
{
	struct vf_s3_request r = {.s3 = of(b),
				  .op = VF_S3_DELETE,
				  .key = key,
				  .may_be_absent = true};
	int err = vf_s3_call(&r);

	return err == -ENOENT ? 0 : err;
}

/* ---- where the server is ------------------------------------------------------------------- */

static const char *variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* "http://host:port/path" into origin, host and root, without the bucket. */
static int take_endpoint(struct vf_s3 *s3, const char *endpoint)
{
	const char *host = strstr(endpoint, "://"), *path;
	size_t n = strlen(endpoint);

	for (const char *c = endpoint; *c; c++)
		if (!isgraph((unsigned char)*c) || strchr("@?#%\"\\", *c))
			host = NULL;
	if (!host || (strncmp(endpoint, "http://", 7) &&
		      strncmp(endpoint, "https://", 8)))
		return vf_fail(-EINVAL,
			       "\"%s\" is no endpoint; use http://host:port or "
			       "https://host:port",
			       endpoint);
	host += 3;
	path = host + strcspn(host, "/");
	while (endpoint + n > path && endpoint[n - 1] == '/')
		n--;
	if (path == host)
		return vf_fail(-EINVAL, "\"%s\" names no host", endpoint);
	s3->origin = strndup(endpoint, (size_t)(path - endpoint));
	s3->host = strndup(host, (size_t)(path - host));
	s3->root = strndup(path, (size_t)(endpoint + n - path));
	return s3->origin && s3->host && s3->root ? 0 : -ENOMEM;
}

/* Move the bucket's name into the host, or into the path. */
static int add_bucket(struct vf_s3 *s3, bool virtual_host)
{
	VF_AUTO_FREE char *origin = s3->origin;
	VF_AUTO_FREE char *host = s3->host;
	VF_AUTO_FREE char *root = s3->root;
	const char *tls = !strncmp(origin, "https", 5) ? "s" : "";
	const char *name = s3->name;
	const char *dot = virtual_host ? "." : "",
		   *slash = virtual_host ? "" : "/";

	s3->origin = s3->host = s3->root = NULL;
	if (asprintf(&s3->host, "%s%s%s", virtual_host ? name : "", dot, host) <
	    0)
		s3->host = NULL;
	if (!s3->host ||
	    asprintf(&s3->origin, "http%s://%s", tls, s3->host) < 0)
		s3->origin = NULL;
	if (asprintf(&s3->root, "%s%s%s", root, slash,
		     virtual_host ? "" : name) < 0)
		s3->root = NULL;
	return s3->origin && s3->host && s3->root ? 0 : -ENOMEM;
}

static int find_server(struct vf_s3 *s3, const struct vf_bucket_options *opt,
		       const char *of_profile)
{
	const char *endpoint = opt->endpoint;
	VF_AUTO_FREE char *aws = NULL;
	/* A dot in the name is one that a certificate for *.s3 does not cover. */
	bool dots = strchr(s3->name, '.') != NULL;
	int err;

	if (!endpoint)
		endpoint = variable("AWS_ENDPOINT_URL_S3");
	if (!endpoint)
		endpoint = variable("AWS_ENDPOINT_URL");
	if (!endpoint)
		endpoint = of_profile;
	if (!endpoint &&
	    asprintf(&aws, "https://s3.%s.amazonaws.com%s", s3->region,
		     strncmp(s3->region, "cn-", 3) ? "" : ".cn") < 0) {
		aws = NULL;
		return -ENOMEM;
	}
	err = take_endpoint(s3, endpoint ? endpoint : aws);
	return err ? err
		   : add_bucket(s3, opt->virtual_host || (!endpoint && !dots));
}

static int find_region(struct vf_s3 *s3, const struct vf_bucket_options *opt,
		       const char *of_profile)
{
	const char *region = opt->region;

	if (!region)
		region = variable("AWS_REGION");
	if (!region)
		region = variable("AWS_DEFAULT_REGION");
	if (!region)
		region = of_profile;
	if (!region)
		region = "us-east-1";
	for (const char *c = region; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
			return vf_fail(-EINVAL, "\"%s\" is no region", region);
	s3->region = strdup(region);
	return s3->region ? 0 : -ENOMEM;
}

/* ---- open and close ---------------------------------------------------------------------------- */

static bool is_bucket_name(const char *s, size_t n)
{
	if (n < 3 || n > 255 || !isalnum((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
			return false;
	return true;
}

/* As of a key: no part may be empty, "." or "..". */
static bool is_prefix(const char *s)
{
	while (*s) {
		size_t n = strcspn(s, "/");
		if (!n || (n == 1 && s[0] == '.') ||
		    (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		s += n + (s[n] == '/');
	}
	return true;
}

static int take_url(struct vf_s3 *s3, const char *url)
{
	const char *name = url + strlen("s3://");
	size_t n = strcspn(name, "/");
	const char *prefix = name + n + (name[n] == '/');

	if (!is_bucket_name(name, n) || !is_prefix(prefix) ||
	    strlen(prefix) > VF_OBJECT_KEY_MAX / 2)
		return vf_fail(-EINVAL,
			       "%s: no such URL can be; use s3://bucket or "
			       "s3://bucket/prefix",
			       url);
	s3->name = strndup(name, n);
	if (asprintf(&s3->prefix, "%s%s", prefix, *prefix ? "/" : "") < 0)
		s3->prefix = NULL;
	return s3->name && s3->prefix ? 0 : -ENOMEM;
}

static void s3_stop(struct vf_bucket *b)
{
	struct vf_s3 *s3 = of(b);

	/* Who waits for credentials ends while there is still an http. */
	vf_credential_source_stop(s3->credentials);
	vf_http_stop(s3->http);
}

static void s3_close(struct vf_bucket *b)
{
	struct vf_s3 *s3 = of(b);

	s3_stop(b);
	vf_http_close(s3->http);
	vf_credential_source_close(s3->credentials);
	free(s3->name);
	free(s3->prefix);
	free(s3->origin);
	free(s3->host);
	free(s3->root);
	free(s3->region);
	free(s3);
}

static void s3_stats(struct vf_bucket *b, struct vf_bucket_stats *out)
{
	struct vf_s3 *s3 = of(b);
	struct vf_http_stats http;

	vf_http_stats(s3->http, &http);
	*out = (struct vf_bucket_stats){.n_get = s3->n_sent[VF_S3_GET],
					.n_put = s3->n_sent[VF_S3_PUT] +
						 s3->n_sent[VF_S3_POST],
					.n_head = s3->n_sent[VF_S3_HEAD],
					.n_list = s3->n_sent[VF_S3_LIST],
					.n_delete = s3->n_sent[VF_S3_DELETE],
					.n_retry = http.n_retry,
					.n_error = s3->n_error,
					.bytes_in = s3->bytes_in,
					.bytes_out = s3->bytes_out};
}

static const struct vf_bucket_ops s3_ops = {
	.stop = s3_stop,
	.close = s3_close,
	.head = s3_head,
	.get_start = s3_get_start,
	.put = s3_put,
	.upload_open = vf_s3_upload_open,
	.upload_write = vf_s3_upload_write,
	.upload_commit = vf_s3_upload_commit,
	.upload_abort = vf_s3_upload_abort,
	.delete = s3_delete,
	.delete_many = vf_s3_delete_many,
	.list = vf_s3_list,
	.stats = s3_stats,
};

/* Credentials, and what their profile says beside them. */
static int find_all(struct vf_s3 *s3, const struct vf_bucket_options *opt,
		    const char *ca_file)
{
	const struct vf_credential_options who = {
		.profile = opt->profile,
		.region = opt->region,
		.ca_file = ca_file,
	};
	const struct vf_credentials *c;
	int err = vf_credential_source_open(&who, &s3->credentials);

	if (err)
		return err;
	c = vf_credential_source_get(s3->credentials);
	err = find_region(s3, opt, c->region);
	if (!err)
		err = find_server(s3, opt, c->endpoint);
	vf_credential_source_put(s3->credentials, c);
	return err;
}

int vf_bucket_s3_open(const char *url, const struct vf_bucket_options *opt,
		      struct vf_bucket **out)
{
	struct vf_s3 *s3 = calloc(1, sizeof(*s3));
	struct vf_http_options http = {.max_connections = opt->max_connections,
				       .timeout_ms = opt->timeout_ms,
				       .ca_file = opt->ca_file};
	int err;

	if (!s3)
		return -ENOMEM;
	s3->base.ops = &s3_ops;
	if (!http.ca_file)
		http.ca_file = variable("AWS_CA_BUNDLE");
	err = take_url(s3, url);
	if (!err)
		err = find_all(s3, opt, http.ca_file);
	if (!err)
		err = vf_http_open(&http, &s3->http);
	if (!err)
		err = vf_s3_probe(s3, CONNECT_FIRST_MS);
	if (err) {
		s3_close(&s3->base);
		return err;
	}
	s3->base.server = s3->origin;
	*out = &s3->base;
	return 0;
}
