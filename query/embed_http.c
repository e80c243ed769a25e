/*
 * A call takes many texts and cuts them into batches, each one request; the
 * client of store/http.h has N_PARALLEL under way and does the retries.
 *
 * What comes is checked: every text has exactly one vector, of the one
 * dimension, of numbers that float32 holds.
 */
#include "query/embed_http.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/http.h"
#include "store/http_once.h"

enum {
	N_PARALLEL = 4,
	BATCH_DEFAULT = 64,
	BATCH_BYTES = 256 << 10, /* of texts: servers limit their tokens */
	TIMEOUT_MS = 120000,
	LOOK_NS = 100000000, /* between looks whether to stop */
	NUMBER_LEN = 32,     /* bytes of a number in an answer, at most */
	ANSWER_EXTRA = 64 << 10,
	SAID_LEN = 160, /* of a server's message that is passed on */
};

static const char model_prefix[] = "model:";

struct http_embedder {
	struct vf_embedder base;
	struct vf_http *http;
	char *url, *shown; /* with and without what stands behind '?' */
	char *model, *key; /* key: "" none */
	uint32_t batch;
	bool (*stop)(void); /* or NULL */
};

static const struct http_embedder *of(const struct vf_embedder *e)
{
	return (const struct http_embedder *)e;
}

/* ---- one batch ------------------------------------------------------------------- */

struct wave; /* of requests under way together */

struct batch {
	struct wave *wave;
	size_t at, n; /* texts of the call */
	char *body;   /* owned by malloc */
	struct vf_buf answer;
	int err;
	char why[VF_EMBED_WHY_LEN];
};

struct wave {
	const struct http_embedder *e;
	pthread_mutex_t mtx;
	pthread_cond_t all_done;
	size_t n_left; /* [mtx] */
};

static int __attribute__((format(printf, 3, 4)))
refuse(struct batch *b, int err, const char *fmt, ...)
{
	int n = snprintf(b->why, sizeof(b->why), "%s: ", b->wave->e->shown);
	size_t at = VF_MIN((size_t)n, sizeof(b->why) - 1);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(b->why + at, sizeof(b->why) - at, fmt, ap);
	va_end(ap);
	b->err = err;
	return err;
}

static int make_body(struct batch *b, const struct vf_embed_text *texts)
{
	json_t *input = json_array();
	json_t *all = json_pack("{s:s, s:o}", "model", b->wave->e->model,
				"input", input);
	int err = all ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < b->n; i++) {
		const struct vf_embed_text *t = &texts[b->at + i];
		json_t *s = json_stringn(t->p, t->len);
		if (!s) {
			b->at += i;
			b->n = 1;
			err = refuse(b, -EINVAL, "the text is not UTF-8");
		} else if (json_array_append_new(input, s)) {
			err = -ENOMEM;
		}
	}
	if (!err && !(b->body = json_dumps(all, JSON_COMPACT)))
		err = -ENOMEM;
	json_decref(all);
	if (err == -ENOMEM)
		refuse(b, err, "%s", strerror(ENOMEM));
	return err;
}

static int take_vector(struct batch *b, const json_t *v, float *x)
{
	uint32_t dim = b->wave->e->base.dim;
	size_t n = json_array_size(v);

	if (!json_is_array(v))
		return refuse(b, -EREMOTEIO, "an embedding is no list");
	if (n != dim)
		return refuse(b, -EREMOTEIO,
			      "its vectors have %zu elements, not %u", n, dim);
	for (size_t i = 0; i < n; i++) {
		const json_t *number = json_array_get(v, i);
		double d = json_number_value(number);
		if (!json_is_number(number) || fabs(d) > 3.4028235677973366e38)
			return refuse(b, -EREMOTEIO,
				      "element %zu of a vector is no float32",
				      i);
		x[i] = (float)d;
	}
	return 0;
}

static int refuse_count(struct batch *b, const json_t *data)
{
	return refuse(b, -EREMOTEIO, "%zu embeddings came for %zu text%s",
		      json_array_size(data), b->n, b->n == 1 ? "" : "s");
}

/* Servers may answer out of order, and then say so; few leave "index" out. */
static int take_data(struct batch *b, const json_t *data, float *out)
{
	VF_AUTO_FREE bool *seen = calloc(b->n, sizeof(*seen));
	size_t i;
	json_t *v;

	if (!seen)
		return refuse(b, -ENOMEM, "%s", strerror(ENOMEM));
	if (json_array_size(data) != b->n)
		return refuse_count(b, data);
	json_array_foreach(data, i, v)
	{
		const json_t *index = json_object_get(v, "index");
		json_int_t at = index ? json_integer_value(index) : (int)i;
		if ((index && !json_is_integer(index)) || at < 0 ||
		    (uint64_t)at >= b->n || seen[at])
			return refuse(b, -EREMOTEIO,
				      "its embeddings are not numbered 0 to "
				      "%zu",
				      b->n - 1);
		seen[at] = true;
		int err = take_vector(b, json_object_get(v, "embedding"),
				      out + (size_t)at * b->wave->e->base.dim);
		if (err)
			return err;
	}
	return 0;
}

static json_t *parse_answer(struct batch *b)
{
	json_error_t e;
	json_t *j =
		json_loadb((const char *)b->answer.data, b->answer.len, 0, &e);

	/* What stands there is not shown: it may be the key that was sent. */
	if (!j)
		refuse(b, -EREMOTEIO, "its answer is no JSON from byte %d on",
		       e.position);
	return j;
}

static int read_batch(struct batch *b, float *out)
{
	json_t *j = parse_answer(b);
	int err = j ? take_data(b, json_object_get(j, "data"), out) : b->err;

	json_decref(j);
	return err;
}

/* ---- one request ----------------------------------------------------------------- */

static int prepare(void *arg, struct vf_buf *url, struct vf_buf *headers)
{
	const struct http_embedder *e = ((struct batch *)arg)->wave->e;
	int err = vf_buf_append(url, e->url, strlen(e->url));

	if (!err)
		err = vf_buf_printf(headers,
				    "Content-Type: application/json\n");
	if (!err && e->key[0])
		err = vf_buf_printf(headers, "Authorization: Bearer %s\n",
				    e->key);
	return err;
}

/* The server's own words, if they are to be had; never the key. */
static void explain_status(struct batch *b, const struct vf_http_answer *a)
{
	const char *key = b->wave->e->key, *said = a->text;
	json_t *j = json_loadb(a->text, a->text_len, 0, NULL);
	json_t *error = json_object_get(j, "error");
	json_t *message = json_is_object(error)
				  ? json_object_get(error, "message")
				  : error;

	if (json_is_string(message))
		said = json_string_value(message);
	size_t n = strcspn(said, "\r\n");
	if (key[0] && strstr(said, key))
		n = 0;
	refuse(b, -EREMOTEIO, "status %d%s%s%.*s", a->status,
	       a->n_attempts > 1 ? " to the end" : "", n ? ": " : "",
	       (int)VF_MIN(n, (size_t)SAID_LEN), said);
	json_decref(j);
}

static void done(void *arg, const struct vf_http_answer *a)
{
	struct batch *b = arg;
	struct wave *w = b->wave;

	if (a->err)
		refuse(b, a->err, "%s",
		       a->text[0] ? a->text : vf_strerror(a->err));
	else if (a->status != 200)
		explain_status(b, a);
	pthread_mutex_lock(&w->mtx);
	w->n_left--;
	pthread_cond_signal(&w->all_done);
	pthread_mutex_unlock(&w->mtx);
}

static void send_batch(struct batch *b)
{
	const struct http_embedder *e = b->wave->e;
	const struct vf_http_call call = {
		.method = "POST",
		.body = b->body,
		.body_len = strlen(b->body),
		.grow = &b->answer,
		.grow_max = b->n * VF_DIM_MAX * NUMBER_LEN + ANSWER_EXTRA,
		.prepare = prepare,
		.done = done,
		.arg = b};

	vf_http_start(e->http, &call);
}

/* ---- many texts ------------------------------------------------------------------ */

static size_t count_batch(const struct http_embedder *e,
			  const struct vf_embed_text *texts, size_t n)
{
	size_t i = 0, len = 0;

	while (i < n && i < e->batch &&
	       (!i || len + texts[i].len <= BATCH_BYTES))
		len += texts[i++].len;
	return i;
}

/* Whoever is told to stop does not wait for answers. */
static void wait_all(struct wave *w)
{
	bool stopped = false;

	pthread_mutex_lock(&w->mtx);
	while (w->n_left) {
		struct timespec t;
		clock_gettime(CLOCK_REALTIME, &t);
		t.tv_nsec += LOOK_NS;
		t.tv_sec += t.tv_nsec / 1000000000;
		t.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&w->all_done, &w->mtx, &t);
		if (stopped || !w->e->stop || !w->e->stop())
			continue;
		pthread_mutex_unlock(&w->mtx);
		vf_http_stop(w->e->http);
		pthread_mutex_lock(&w->mtx);
		stopped = true;
	}
	pthread_mutex_unlock(&w->mtx);
}

/* Up to N_PARALLEL batches from *at on; moves it behind them. */
static int run_wave(const struct http_embedder *e,
		    const struct vf_embed_text *texts, size_t n, size_t *at,
		    float *out, struct vf_embed_failure *f)
{
	struct wave w = {.e = e,
			 .mtx = PTHREAD_MUTEX_INITIALIZER,
			 .all_done = PTHREAD_COND_INITIALIZER};
	struct batch *all = calloc(N_PARALLEL, sizeof(*all)), *b;
	size_t n_sent = 0;
	int err = all ? 0 : -ENOMEM;

	if (!all)
		strcpy(f->why, strerror(ENOMEM));
	for (b = all; !err && *at < n && b < all + N_PARALLEL; b++) {
		*b = (struct batch){.wave = &w, .at = *at};
		b->n = count_batch(e, texts + *at, n - *at);
		*at += b->n;
		err = make_body(b, texts);
		if (!err)
			n_sent++;
	}
	w.n_left = err ? 0 : n_sent;
	for (size_t i = 0; !err && i < n_sent; i++)
		send_batch(&all[i]);
	wait_all(&w);
	for (b = all; all && b < all + N_PARALLEL; b++) {
		if (!err && b->wave && !b->err)
			read_batch(b, out + b->at * e->base.dim);
		if (b->err && !f->n) {
			err = b->err;
			f->at = b->at;
			f->n = b->n;
			strcpy(f->why, b->why);
		}
		free(b->body);
		vf_buf_fini(&b->answer);
	}
	free(all);
	return err;
}

static bool http_has_words(const char *text, size_t len)
{
	while (len && (*text == ' ' || (*text >= '\t' && *text <= '\r'))) {
		text++;
		len--;
	}
	return len;
}

static int http_embed_many(const struct vf_embedder *base,
			   const struct vf_embed_text *texts, size_t n,
			   float *out, struct vf_embed_failure *f)
{
	int err = 0;

	for (size_t at = 0; !err && at < n;)
		err = run_wave(of(base), texts, n, &at, out, f);
	return err;
}

static void http_free(struct vf_embedder *base)
{
	struct http_embedder *e = (struct http_embedder *)base;

	vf_http_close(e->http);
	if (e->key)
		explicit_bzero(e->key, strlen(e->key));
	free(e->key);
	free(e->model);
	free(e->url);
	free(e->shown);
	free(e);
}

static const struct vf_embedder_ops http_ops = {.name = "model",
						.embed_many = http_embed_many,
						.has_words = http_has_words,
						.free = http_free};

/* ---- names and keys ---------------------------------------------------------------- */

bool vf_embed_is_url(const char *s)
{
	return !strncmp(s, "http://", 7) || !strncmp(s, "https://", 8);
}

int vf_embed_http_name(const char *model, char *out, size_t cap)
{
	int n = snprintf(out, cap, "%s%s", model_prefix, model);

	if (!*model || (size_t)n >= cap)
		return vf_fail(-EINVAL, "--model \"%s\": is %s", model,
			       *model ? "too long" : "empty");
	for (const char *s = model; *s; s++)
		if (!isgraph((unsigned char)*s))
			return vf_fail(-EINVAL,
				       "--model \"%s\": is no model's name",
				       model);
	return 0;
}

const char *vf_embed_http_model(const char *embedder)
{
	size_t n = sizeof(model_prefix) - 1;

	return strncmp(embedder, model_prefix, n) ? NULL : embedder + n;
}

/* A key of OpenAI's is not for whoever listens on an unencrypted line. */
static int read_key(const char *url, struct http_embedder *e)
{
	const char *key = getenv("VECFS_EMBED_KEY");
	char host[256];
	bool tls;

	if (vf_http_once_host(url, host, sizeof(host), &tls))
		return vf_fail(-EINVAL,
			       "--embed: no URL of an API (a key comes from "
			       "the environment, not from the URL)");
	if ((!key || !*key) &&
	    (tls || !strcmp(host, "localhost") || !strncmp(host, "127.", 4) ||
	     !strcmp(host, "[::1]")))
		key = getenv("OPENAI_API_KEY");
	for (const char *s = key; s && *s; s++)
		if (!isgraph((unsigned char)*s))
			return vf_fail(-EINVAL, "the key of the environment "
						"for --embed is no key");
	e->key = strdup(key ? key : "");
	return e->key ? 0 : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

/* ".../v1" means ".../v1/embeddings"; a query string stays at the end. */
static int make_url(const char *url, struct http_embedder *e)
{
	static const char last[] = "/embeddings";
	size_t n = strcspn(url, "?#");
	const char *query = url + n;

	while (n && url[n - 1] == '/')
		n--;
	bool whole =
		n >= sizeof(last) - 1 &&
		!strncmp(url + n - (sizeof(last) - 1), last, sizeof(last) - 1);
	if (asprintf(&e->shown, "%.*s%s", (int)n, url, whole ? "" : last) < 0)
		e->shown = NULL;
	if (e->shown && asprintf(&e->url, "%s%s", e->shown, query) < 0)
		e->url = NULL;
	return e->url ? 0 : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

/* ---- opening ------------------------------------------------------------------------- */

static int read_dim(struct batch *b, uint32_t *out)
{
	json_t *j = parse_answer(b);
	const json_t *data = json_object_get(j, "data");
	size_t n = json_array_size(
		json_object_get(json_array_get(data, 0), "embedding"));

	if (j && json_array_size(data) != 1)
		refuse_count(b, data);
	else if (j && (n < VF_DIM_MIN || n > VF_DIM_MAX))
		refuse(b, -EREMOTEIO,
		       "its vectors have %zu elements; %d to %d are possible",
		       n, VF_DIM_MIN, VF_DIM_MAX);
	json_decref(j);
	*out = (uint32_t)n;
	return b->err;
}

/* The first word that is asked says what dimension the model has. */
static int learn_dim(struct http_embedder *e)
{
	static const struct vf_embed_text word = {"dimension", 9};
	struct wave w = {.e = e,
			 .mtx = PTHREAD_MUTEX_INITIALIZER,
			 .all_done = PTHREAD_COND_INITIALIZER,
			 .n_left = 1};
	struct batch b = {.wave = &w, .n = 1};

	if (!make_body(&b, &word)) {
		send_batch(&b);
		wait_all(&w);
	}
	if (!b.err)
		read_dim(&b, &e->base.dim);
	vf_buf_fini(&b.answer);
	free(b.body);
	return b.err ? vf_fail(b.err, "%s", b.why) : 0;
}

int vf_embed_http_open(const struct vf_embed_http_options *opt,
		       struct vf_embedder **out)
{
	struct http_embedder *e = calloc(1, sizeof(*e));
	struct vf_http_options http = {
		.max_connections = N_PARALLEL,
		.timeout_ms = opt->timeout_ms ? opt->timeout_ms : TIMEOUT_MS};
	int err;

	*out = NULL;
	if (!e)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	/* A model may think for long before the first byte comes. */
	http.stall_s = http.timeout_ms / 1000 + 1;
	e->stop = opt->stop;
	e->batch = opt->batch ? opt->batch : BATCH_DEFAULT;
	e->base = (struct vf_embedder){.ops = &http_ops,
				       .dim = opt->dim,
				       .many = e->batch * N_PARALLEL};
	e->model = strdup(opt->model);
	err = e->model ? read_key(opt->url, e)
		       : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (!err)
		err = make_url(opt->url, e);
	if (!err && (err = vf_http_open(&http, &e->http)))
		vf_log(VF_ERROR, "%s: %s", e->shown, vf_strerror(err));
	if (!err && !opt->dim)
		err = learn_dim(e);
	if (err)
		http_free(&e->base);
	else
		*out = &e->base;
	return err;
}
