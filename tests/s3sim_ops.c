/*
 * Which operation a request asks for, the faults laid over it, and the
 * operations on one object.
 *
 * A fault is drawn once per request: an error instead of the operation, or a
 * reset before it, or a reset after it (what was asked has then happened).
 */
#include "tests/s3sim.h"

#include <stdio.h>

uint64_t sim_rand(struct sim *s)
{
	return vf_splitmix64(&s->rand);
}

/* In [0, 1). */
static double rand_unit(struct sim *s)
{
	return (double)(sim_rand(s) >> 11) / 9007199254740992.;
}

static bool is_method(const struct sim_request *r, const char *method)
{
	return !strcmp(r->method, method);
}

bool sim_is_object_get(const struct sim_request *r)
{
	return r->method && r->bucket && is_method(r, "GET") && *r->key &&
	       strcmp(r->bucket, "_sim");
}

/* ---- reading one object ---------------------------------------------------------- */

/* An ETag as sent, with or without quotes. */
static bool is_etag(const char *s, const char *etag)
{
	size_t n = strlen(etag);

	if (!strcmp(s, "*"))
		return true;
	s += *s == '"';
	return !strncmp(s, etag, n) && (!s[n] || !strcmp(s + n, "\""));
}

/* First byte and count; false: no range that can be read as one. */
static bool parse_range(const char *s, size_t size, size_t *off, size_t *len)
{
	unsigned long long first, last;
	int n = -1;

	if (sscanf(s, "bytes=-%llu%n", &last, &n) == 1 && n > 0 && !s[n]) {
		*len = VF_MIN(last, size);
		*off = *len ? size - *len : size;
		return true;
	}
	n = -1;
	if (sscanf(s, "bytes=%llu-%llu%n", &first, &last, &n) == 2 && n > 0 &&
	    !s[n]) {
		if (last < first)
			return false;
	} else {
		n = -1;
		sscanf(s, "bytes=%llu-%n", &first, &n);
		if (n < 0 || s[n])
			return false;
		last = UINT64_MAX;
	}
	*off = VF_MIN(first, size);
	*len = VF_MIN(last, (unsigned long long)size - 1) - *off + 1;
	if (*off >= size)
		*len = 0;
	return true;
}

static void print_object(const struct sim_object *o, const char *etag,
			 struct sim_response *res)
{
	char date[40];

	sim_time_http(o->mtime, date);
	vf_buf_printf(&res->head,
		      "ETag: \"%s\"\r\nLast-Modified: %s\r\n"
		      "Accept-Ranges: bytes\r\n"
		      "Content-Type: application/octet-stream\r\n",
		      etag, date);
}

static bool check_read(const struct sim_request *r, const struct sim_object *o,
		       struct sim_response *res)
{
	const char *v = sim_request_header(r, "if-match");

	if (v && !is_etag(v, o->etag)) {
		sim_refuse(res, 412, "PreconditionFailed",
			   "At least one of the pre-conditions you specified "
			   "did not hold");
		return false;
	}
	v = sim_request_header(r, "if-none-match");
	if (v && is_etag(v, o->etag)) {
		res->status = 304;
		return false;
	}
	return true;
}

/* The lie to tell about this GET, if any. */
static enum sim_wrong take_wrong(struct sim *s, const struct sim_request *r,
				 size_t len)
{
	enum sim_wrong w = s->wrong;
	bool ranged = sim_request_header(r, "range");

	if (!is_method(r, "GET") || !s->n_wrong || w == SIM_WRONG_NONE)
		return SIM_WRONG_NONE;
	if (!ranged && (w == SIM_WRONG_RANGE || w == SIM_WRONG_LONG))
		return SIM_WRONG_NONE;
	if (len < 2 && (w == SIM_WRONG_SHORT || w == SIM_WRONG_LENGTH))
		return SIM_WRONG_NONE;
	if (!--s->n_wrong)
		s->wrong = SIM_WRONG_NONE;
	return w;
}

/* What will be said of the bytes [off, off + len) of the response. */
struct claim {
	const char *etag;
	bool partial;
	size_t shift; /* of Content-Range, when it lies */
};

static void bend_answer(enum sim_wrong w, size_t size, struct sim_response *res,
			struct claim *c)
{
	switch (w) {
	case SIM_WRONG_ETAG:
		c->etag = "00000000000000000000000000000bad";
		break;
	case SIM_WRONG_RANGE:
		c->shift = 1;
		break;
	case SIM_WRONG_SHORT:
		res->cut = true;
		res->cut_len = res->len / 2;
		break;
	case SIM_WRONG_LONG:
		c->partial = false;
		res->off = 0;
		res->len = size;
		break;
	case SIM_WRONG_LENGTH:
		res->len--;
		break;
	case SIM_WRONG_NONE:
		break;
	}
}

static void send_object(struct sim *s, const struct sim_request *r,
			const struct sim_object *o, struct sim_response *res)
{
	const char *range = sim_request_header(r, "range");
	struct claim c = {.etag = o->etag};
	size_t size = o->blob->len;

	res->len = size;
	c.partial = range && parse_range(range, size, &res->off, &res->len);
	if (c.partial && !res->len) {
		sim_refuse(res, 416, "InvalidRange",
			   "The requested range is not satisfiable");
		vf_buf_printf(&res->head, "Content-Range: bytes */%zu\r\n",
			      size);
		return;
	}
	bend_answer(take_wrong(s, r, res->len), size, res, &c);
	res->blob = sim_blob_get(o->blob);
	res->status = c.partial ? 206 : 200;
	print_object(o, c.etag, res);
	if (c.partial)
		vf_buf_printf(&res->head,
			      "Content-Range: bytes %zu-%zu/%zu\r\n",
			      res->off + c.shift,
			      res->off + c.shift + res->len - 1, size);
}

static void get_object(struct sim *s, const struct sim_request *r,
		       struct sim_response *res)
{
	const struct sim_object *o = sim_store_find(&s->store, r->key);

	if (!o)
		sim_refuse(res, 404, "NoSuchKey",
			   "The specified key does not exist.");
	else if (check_read(r, o, res))
		send_object(s, r, o, res);
}

/* ---- writing one object ------------------------------------------------------------ */

int sim_check_write(struct sim *s, const struct sim_request *r,
		    struct sim_response *res)
{
	const struct sim_object *o = sim_store_find(&s->store, r->key);
	const char *none = sim_request_header(r, "if-none-match");
	const char *match = sim_request_header(r, "if-match");

	if (none && s->conditional == SIM_CONDITIONAL_REFUSED)
		return sim_refuse(res, 501, "NotImplemented",
				  "If-None-Match is not implemented");
	if (s->conditional == SIM_CONDITIONAL_IGNORED)
		none = NULL;
	if (none && strcmp(none, "*"))
		return sim_refuse(res, 501, "NotImplemented",
				  "If-None-Match of a write must be *");
	if (match && !o)
		return sim_refuse(res, 404, "NoSuchKey",
				  "The specified key does not exist.");
	if ((none && o) || (match && !is_etag(match, o->etag)))
		return sim_refuse(res, 412, "PreconditionFailed",
				  "At least one of the pre-conditions you "
				  "specified did not hold");
	return 0;
}

static void put_object(struct sim *s, struct sim_request *r,
		       struct sim_response *res)
{
	char etag[SIM_ETAG_MAX];

	if (sim_request_header(r, "x-amz-copy-source")) {
		sim_refuse(res, 501, "NotImplemented", "s3sim does not copy");
		return;
	}
	if (sim_check_write(s, r, res))
		return;
	sim_etag(r->body.data, r->body.len, etag);
	struct sim_blob *blob = sim_blob_new(&r->body);
	if (!blob || sim_store_put(&s->store, r->key, blob, etag))
		sim_refuse(res, 500, "InternalError", "s3sim cannot keep it");
	else
		vf_buf_printf(&res->head, "ETag: \"%s\"\r\n", etag);
	sim_blob_put(blob);
}

/* ---- dispatch ------------------------------------------------------------------------ */

static void refuse_operation(struct sim_response *res)
{
	sim_refuse(res, 501, "NotImplemented",
		   "A header or parameter asks for what s3sim does not have.");
}

static void run_on_bucket(struct sim *s, const struct sim_request *r,
			  struct sim_response *res)
{
	const char *type = sim_request_query(r, "list-type");

	if (is_method(r, "GET") && type && !strcmp(type, "2"))
		sim_list(s, r, res);
	else if (is_method(r, "POST") && sim_request_query(r, "delete"))
		sim_delete_many(s, r, res);
	else if (!is_method(r, "HEAD"))
		refuse_operation(res);
}

static void run_on_upload(struct sim *s, struct sim_request *r,
			  struct sim_response *res)
{
	if (is_method(r, "POST"))
		sim_upload_complete(s, r, res);
	else if (is_method(r, "PUT") && sim_request_query(r, "partNumber"))
		sim_upload_part(s, r, res);
	else if (is_method(r, "DELETE"))
		sim_upload_abort(s, r, res);
	else
		refuse_operation(res);
}

static void run_on_object(struct sim *s, struct sim_request *r,
			  struct sim_response *res)
{
	if (sim_request_query(r, "uploadId")) {
		run_on_upload(s, r, res);
	} else if (is_method(r, "POST") && sim_request_query(r, "uploads")) {
		sim_upload_create(s, r, res);
	} else if (r->n_query && !sim_request_query(r, "x-id")) {
		refuse_operation(res);
	} else if (is_method(r, "GET") || is_method(r, "HEAD")) {
		get_object(s, r, res);
	} else if (is_method(r, "PUT")) {
		put_object(s, r, res);
	} else if (is_method(r, "DELETE")) {
		sim_store_delete(&s->store, r->key);
		res->status = 204;
	} else {
		refuse_operation(res);
	}
}

static void run_operation(struct sim *s, struct sim_request *r,
			  struct sim_response *res)
{
	bool writes = is_method(r, "PUT") || is_method(r, "POST");

	if (!*r->bucket)
		refuse_operation(res);
	else if (strcmp(r->bucket, s->bucket))
		sim_refuse(res, 404, "NoSuchBucket",
			   "The specified bucket does not exist");
	else if (!*r->key)
		run_on_bucket(s, r, res);
	else if (strlen(r->key) > SIM_KEY_MAX)
		sim_refuse(res, 400, "KeyTooLongError", "Your key is too long");
	else if (writes && !r->has_length)
		sim_refuse(res, 411, "MissingContentLength",
			   "You must provide the Content-Length HTTP header.");
	else
		run_on_object(s, r, res);
}

/* ---- faults and counting ---------------------------------------------------------------- */

static void count_request(struct sim *s, const struct sim_request *r)
{
	struct sim_stats *n = &s->stats;

	n->bytes_in += r->body.len;
	if (is_method(r, "GET"))
		*(*r->key ? &n->get : &n->list) += 1;
	else if (is_method(r, "HEAD"))
		n->head++;
	else if (is_method(r, "PUT"))
		n->put++;
	else if (is_method(r, "DELETE"))
		n->delete ++;
	else if (is_method(r, "POST"))
		n->post++;
}

/* Finishing an upload may fail under a 200, as S3's does. */
static void inject_error(struct sim *s, const struct sim_request *r,
			 struct sim_response *res)
{
	bool slow = sim_rand(s) & 1;

	s->stats.errors++;
	if (slow)
		sim_refuse(res, 503, "SlowDown",
			   "Please reduce your request rate.");
	else
		sim_refuse(res, 500, "InternalError",
			   "We encountered an internal error. Please try "
			   "again.");
	if (is_method(r, "POST") && sim_request_query(r, "uploadId") &&
	    sim_rand(s) & 1)
		res->status = 200;
}

/* The operation is done; what the client sees of it breaks off. */
static void inject_reset(struct sim *s, struct sim_response *res)
{
	size_t len = sim_response_length(res);

	s->stats.resets++;
	if (!len || res->head_only || sim_rand(s) & 1) {
		res->reset = true;
		return;
	}
	res->cut = true;
	res->cut_reset = true;
	res->cut_len = sim_rand(s) % len;
}

/* True: nothing is carried out any more. */
static bool must_be_silent(struct sim *s, struct sim_response *res)
{
	bool over = !s->n_left;

	if (s->n_left != UINT64_MAX && !over)
		s->n_left--;
	res->silent = !s->n_left;
	s->stats.silent += res->silent;
	return over;
}

void sim_answer(struct sim *s, struct sim_request *r, struct sim_response *res)
{
	double dice;

	res->status = 200;
	if (!strcmp(r->bucket, "_sim")) {
		sim_control(s, r, res);
		return;
	}
	res->held = true;
	res->head_only = is_method(r, "HEAD");
	if (must_be_silent(s, res))
		return;
	count_request(s, r);
	dice = rand_unit(s);
	if (dice < s->error_rate) {
		inject_error(s, r, res);
		return;
	}
	bool reset = dice < s->error_rate + s->reset_rate;
	if (reset && sim_rand(s) & 1) {
		s->stats.resets++;
		res->reset = true;
		return;
	}
	if (!sim_auth_check(s, r, res))
		run_operation(s, r, res);
	if (reset)
		inject_reset(s, res);
}
