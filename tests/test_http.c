/*
 * The HTTP client against a server that misbehaves in every way.
 */
#include "store/http.h"
#include "tests/httpd.h"

#include <pthread.h>
#include <stdio.h>

/* ---- one call, waited for ----------------------------------------------------------------- */

struct result {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned n_done, n_prepared; /* [mtx] */
	struct vf_http_answer a;
	char text[VF_HTTP_TEXT_MAX + 1];
	const char *url;
};

static int prepare(void *arg, struct vf_buf *url, struct vf_buf *headers)
{
	struct result *r = arg;

	r->n_prepared++;
	vf_buf_printf(url, "%s/a%%20b?x=1", r->url);
	return vf_buf_printf(headers, "x-attempt: %u\n", r->n_prepared);
}

static void done(void *arg, const struct vf_http_answer *a)
{
	struct result *r = arg;

	pthread_mutex_lock(&r->mtx);
	r->a = *a;
	memcpy(r->text, a->text, a->text_len);
	r->text[a->text_len] = '\0';
	r->n_done++;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->mtx);
}

static void await(struct result *r, unsigned n)
{
	pthread_mutex_lock(&r->mtx);
	while (r->n_done < n)
		pthread_cond_wait(&r->changed, &r->mtx);
	pthread_mutex_unlock(&r->mtx);
}

struct setup {
	struct vf_httpd *d;
	struct vf_http *h;
	struct result r;
};

static void set_up(struct setup *s, vf_httpd_fn *fn, void *arg,
		   unsigned connections, unsigned timeout_ms)
{
	const struct vf_http_options opt = {.max_connections = connections,
					    .timeout_ms = timeout_ms};

	memset(s, 0, sizeof(*s));
	s->d = vf_httpd_open(fn, arg);
	pthread_mutex_init(&s->r.mtx, NULL);
	pthread_cond_init(&s->r.changed, NULL);
	s->r.url = vf_httpd_url(s->d);
	if (vf_http_open(&opt, &s->h))
		abort();
}

static void tear_down(struct setup *s)
{
	vf_http_close(s->h);
	vf_httpd_close(s->d);
	pthread_mutex_destroy(&s->r.mtx);
	pthread_cond_destroy(&s->r.changed);
}

static struct vf_http_call make_call(struct setup *s, const char *method,
				     void *buf, size_t len)
{
	return (struct vf_http_call){.method = method,
				     .buf = buf,
				     .buf_len = len,
				     .prepare = prepare,
				     .done = done,
				     .arg = &s->r};
}

static void run(struct setup *s, const struct vf_http_call *c)
{
	unsigned n = s->r.n_done + 1;

	vf_http_start(s->h, c);
	await(&s->r, n);
	vf_httpd_settle(s->d);
}

/* ---- a server that does what it is told -------------------------------------------------------- */

/* The answer to request n is step n; the last step is for all that follow. */
struct step {
	int status;
	enum vf_httpd_after after;
	const char *lines, *body;
	size_t cut; /* bytes of the body that are not sent */
};

struct script {
	const struct step *steps;
	size_t n;
	unsigned n_seen;
	char method[16], target[64], attempt[16], agent[32];
	char body[64];
};

static enum vf_httpd_after follow(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	struct script *s = arg;
	const struct step *p = &s->steps[VF_MIN(r->n, s->n - 1)];

	s->n_seen++;
	snprintf(s->method, sizeof(s->method), "%s", r->method);
	snprintf(s->target, sizeof(s->target), "%s", r->target);
	snprintf(s->body, sizeof(s->body), "%.*s", (int)r->body_len, r->body);
	vf_httpd_header(r, "x-attempt", s->attempt, sizeof(s->attempt));
	vf_httpd_header(r, "user-agent", s->agent, sizeof(s->agent));
	if (!p->status)
		return p->after;
	vf_httpd_reply(reply, p->status, p->lines ? p->lines : "", p->body,
		       p->body ? strlen(p->body) : 0);
	if (!strcmp(r->method, "HEAD"))
		reply->len -= p->body ? strlen(p->body) : 0;
	reply->len -= p->cut;
	return p->after;
}

#define SCRIPT(...)                                                            \
	{                                                                      \
		.steps = (const struct step[]){__VA_ARGS__},                   \
		.n = VF_N(((const struct step[]){__VA_ARGS__}))                \
	}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void an_answer_has_its_headers_and_body(void)
{
	struct script sc =
		SCRIPT({206, VF_HTTPD_KEEP,
			"ETag: \"abc-1\"\r\nContent-Range: bytes 5-9/100\r\n"
			"Last-Modified: Wed, 12 Oct 2009 17:50:00 GMT\r\n",
			"hello", 0});
	char buf[5];
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", buf, sizeof(buf));
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(s.r.a.status, 206);
	CU_ASSERT_EQUAL(s.r.a.body_len, 5);
	CU_ASSERT(!memcmp(buf, "hello", 5));
	CU_ASSERT_STRING_EQUAL(s.r.a.etag, "abc-1");
	CU_ASSERT(s.r.a.has_length && s.r.a.content_length == 5);
	CU_ASSERT(s.r.a.has_range);
	CU_ASSERT_EQUAL(s.r.a.first, 5);
	CU_ASSERT_EQUAL(s.r.a.last, 9);
	CU_ASSERT_EQUAL(s.r.a.total, 100);
	CU_ASSERT_EQUAL(s.r.a.mtime_s, 1255369800);
	CU_ASSERT_STRING_EQUAL(sc.target, "/a%20b?x=1");
	CU_ASSERT_STRING_EQUAL(sc.agent, "vecfs/" VF_VERSION);
	tear_down(&s);
}

static void bodies_are_sent(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_KEEP, NULL, NULL, 0});
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "PUT", NULL, 0);
	c.body = "some bytes";
	c.body_len = 10;
	run(&s, &c);
	CU_ASSERT_STRING_EQUAL(sc.method, "PUT");
	CU_ASSERT_STRING_EQUAL(sc.body, "some bytes");
	c.body = NULL;
	c.body_len = 0;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.status, 200);
	CU_ASSERT_STRING_EQUAL(sc.body, "");
	tear_down(&s);
}

static void head_tells_the_length(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_KEEP, NULL, "1234567", 0});
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "HEAD", NULL, 0);
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(s.r.a.content_length, 7);
	CU_ASSERT_EQUAL(s.r.a.body_len, 0);
	tear_down(&s);
}

static void not_now_is_asked_again_and_prepared_anew(void)
{
	/* Reset first: on a used connection libcurl itself would try again. */
	struct script sc =
		SCRIPT({0, VF_HTTPD_RESET, NULL, NULL, 0},
		       {500, 0, NULL, "<Error/>", 0}, {503, 0, NULL, NULL, 0},
		       {429, 0, NULL, NULL, 0},
		       {400, 0, NULL, "<Error><Code>RequestTimeout</Code>", 0},
		       {200, 0, NULL, "fine", 0});
	struct vf_http_stats stats;
	struct setup s;
	char buf[4];

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", buf, 4);
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.status, 200);
	CU_ASSERT_EQUAL(s.r.a.body_len, 4);
	CU_ASSERT_EQUAL(s.r.a.text_len, 0);
	CU_ASSERT_EQUAL(s.r.a.n_attempts, 6);
	CU_ASSERT_STRING_EQUAL(sc.attempt, "6");
	vf_http_stats(s.h, &stats);
	CU_ASSERT_EQUAL(stats.n_retry, 5);
	tear_down(&s);
}

static void a_refusal_is_not_asked_again(void)
{
	static const int statuses[] = {301, 307, 400, 403, 404,
				       409, 412, 416, 501};

	for (size_t i = 0; i < VF_N(statuses); i++) {
		struct script sc = SCRIPT({statuses[i], 0,
					   "Location: http://127.0.0.1:9/\r\n",
					   "<Error><Code>X</Code></Error>", 0});
		struct setup s;
		set_up(&s, follow, &sc, 0, 0);
		struct vf_http_call c = make_call(&s, "GET", NULL, 0);
		run(&s, &c);
		CU_ASSERT_EQUAL(s.r.a.err, 0);
		CU_ASSERT_EQUAL(s.r.a.status, statuses[i]);
		CU_ASSERT_EQUAL(sc.n_seen, 1);
		CU_ASSERT(strstr(s.r.text, "<Code>X</Code>") != NULL);
		tear_down(&s);
	}
}

static void what_must_go_once_goes_once(void)
{
	struct script fail = SCRIPT({500, 0, NULL, "x", 0});
	struct script reset = SCRIPT({0, VF_HTTPD_RESET, NULL, NULL, 0});
	struct setup s;

	set_up(&s, follow, &fail, 0, 0);
	struct vf_http_call c = make_call(&s, "PUT", NULL, 0);
	c.once = true;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(s.r.a.status, 500);
	CU_ASSERT_EQUAL(fail.n_seen, 1);
	tear_down(&s);
	set_up(&s, follow, &reset, 0, 0);
	c = make_call(&s, "PUT", NULL, 0);
	c.once = true;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, -EREMOTEIO);
	CU_ASSERT_EQUAL(reset.n_seen, 1);
	CU_ASSERT(strlen(s.r.text) > 0);
	tear_down(&s);
}

/* libcurl itself sends a request again that met a closed idle connection. */
static void what_must_go_once_takes_no_idle_connection(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_KEEP, NULL, NULL, 0});
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "PUT", NULL, 0);
	run(&s, &c);
	run(&s, &c);
	CU_ASSERT_EQUAL(vf_httpd_connections(s.d), 1);
	c.once = true;
	run(&s, &c);
	CU_ASSERT_EQUAL(vf_httpd_connections(s.d), 2);
	tear_down(&s);
}

static void more_than_asked_for_is_refused(void)
{
	struct script sc = SCRIPT({200, 0, NULL, "123456789", 0});
	char buf[8] = "........";
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", buf, 4);
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, -EREMOTEIO);
	CU_ASSERT(!memcmp(buf + 4, "....", 4));
	CU_ASSERT_EQUAL(sc.n_seen, 1);
	VF_AUTO_BUF struct vf_buf grow = {0};
	c = make_call(&s, "GET", NULL, 0);
	c.grow = &grow;
	c.grow_max = 8;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, -EREMOTEIO);
	c.grow_max = 9;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(grow.len, 9);
	tear_down(&s);
}

static void a_body_cut_short_is_asked_again(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_CLOSE, NULL, "123456789", 4},
				  {200, VF_HTTPD_KEEP, NULL, "abcdefghi", 0});
	VF_AUTO_BUF struct vf_buf grow = {0};
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	c.grow = &grow;
	c.grow_max = 100;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(s.r.a.n_attempts, 2);
	CU_ASSERT(grow.len == 9 && !memcmp(grow.data, "abcdefghi", 9));
	tear_down(&s);
}

static void a_closed_idle_connection_costs_no_wait(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_CLOSE, NULL, "1", 0});
	struct setup s;
	char buf[1];

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", buf, 1);
	for (int i = 0; i < 5; i++) {
		run(&s, &c);
		CU_ASSERT_EQUAL(s.r.a.err, 0);
		usleep(5000);
	}
	CU_ASSERT_EQUAL(sc.n_seen, 5);
	tear_down(&s);
}

static void a_server_that_hangs_meets_the_deadline(void)
{
	struct script sc = SCRIPT({0, VF_HTTPD_HANG, NULL, NULL, 0});
	uint64_t start = vf_now_ns();
	struct setup s;

	set_up(&s, follow, &sc, 0, 300);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, -EREMOTEIO);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	tear_down(&s);
}

static void nobody_listening_ends_early_if_wanted(void)
{
	struct script sc = SCRIPT({200, 0, NULL, NULL, 0});
	uint64_t start = vf_now_ns();
	struct setup s;

	set_up(&s, follow, &sc, 0, 60000);
	s.r.url = "http://127.0.0.1:9";
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	c.once = true; /* nobody heard it: it may go again all the same */
	c.connect_ms = 300;
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.err, -EREMOTEIO);
	CU_ASSERT(s.r.a.n_attempts > 1);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	tear_down(&s);
}

static void close_cancels(void)
{
	struct script sc = SCRIPT({0, VF_HTTPD_HANG, NULL, NULL, 0});
	struct setup s;

	set_up(&s, follow, &sc, 2, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	for (int i = 0; i < 5; i++)
		vf_http_start(s.h, &c);
	usleep(20000);
	vf_http_close(s.h);
	CU_ASSERT_EQUAL(s.r.n_done, 5);
	CU_ASSERT_EQUAL(s.r.a.err, -ECANCELED);
	s.h = NULL;
	tear_down(&s);
}

static void what_comes_after_stop_is_cancelled(void)
{
	struct script sc = SCRIPT({0, VF_HTTPD_HANG, NULL, NULL, 0});
	struct setup s;

	set_up(&s, follow, &sc, 2, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	vf_http_start(s.h, &c);
	vf_http_stop(s.h);
	CU_ASSERT_EQUAL(s.r.n_done, 1);
	vf_http_start(s.h, &c);
	CU_ASSERT_EQUAL(s.r.n_done, 2);
	CU_ASSERT_EQUAL(s.r.a.err, -ECANCELED);
	vf_http_stop(s.h);
	tear_down(&s);
}

static void many_calls_share_the_connections_allowed(void)
{
	struct script sc = SCRIPT({200, VF_HTTPD_KEEP, NULL, "x", 0});
	struct setup s;

	set_up(&s, follow, &sc, 8, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	for (int i = 0; i < 500; i++)
		vf_http_start(s.h, &c);
	await(&s.r, 500);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	CU_ASSERT_EQUAL(sc.n_seen, 500);
	CU_ASSERT(vf_httpd_connections(s.d) <= 8);
	tear_down(&s);
}

/* Every third answer is a failure of another kind; nothing is lost. */
static enum vf_httpd_after
fail_often(void *arg, const struct vf_httpd_request *r, struct vf_buf *reply)
{
	uint64_t dice = vf_test_rand(arg) % 12;

	if (dice == 0)
		return VF_HTTPD_RESET;
	if (dice == 1)
		return VF_HTTPD_CLOSE;
	vf_httpd_reply(reply, dice == 2 ? 503 : 200, "", "12345678", 8);
	if (dice == 3) {
		reply->len -= 3;
		return VF_HTTPD_RESET;
	}
	return dice == 4 ? VF_HTTPD_CLOSE : VF_HTTPD_KEEP;
}

static void failures_of_many_kinds_lose_no_call(void)
{
	uint64_t seed = 7;
	struct setup s;

	set_up(&s, fail_often, &seed, 16, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	for (int i = 0; i < 300; i++)
		vf_http_start(s.h, &c);
	await(&s.r, 300);
	CU_ASSERT_EQUAL(s.r.n_done, 300);
	CU_ASSERT_EQUAL(s.r.a.err, 0);
	tear_down(&s);
}

static void a_long_error_text_is_cut(void)
{
	size_t len = 100000;
	VF_AUTO_FREE char *body = malloc(len + 1);
	memset(body, 'e', len);
	body[len] = '\0';
	struct step step = {404, 0, NULL, body, 0};
	struct script sc = {.steps = &step, .n = 1};
	struct setup s;

	set_up(&s, follow, &sc, 0, 0);
	struct vf_http_call c = make_call(&s, "GET", NULL, 0);
	run(&s, &c);
	CU_ASSERT_EQUAL(s.r.a.status, 404);
	CU_ASSERT_EQUAL(s.r.a.text_len, VF_HTTP_TEXT_MAX);
	tear_down(&s);
}

static CU_TestInfo tests[] = {
	{"an answer has its headers and body",
	 an_answer_has_its_headers_and_body},
	{"bodies are sent", bodies_are_sent},
	{"HEAD tells the length", head_tells_the_length},
	{"\"not now\" is asked again and prepared anew",
	 not_now_is_asked_again_and_prepared_anew},
	{"a refusal is not asked again", a_refusal_is_not_asked_again},
	{"what must go once goes once", what_must_go_once_goes_once},
	{"what must go once takes no idle connection",
	 what_must_go_once_takes_no_idle_connection},
	{"more than asked for is refused", more_than_asked_for_is_refused},
	{"a body cut short is asked again", a_body_cut_short_is_asked_again},
	{"a closed idle connection costs no wait",
	 a_closed_idle_connection_costs_no_wait},
	{"a server that hangs meets the deadline",
	 a_server_that_hangs_meets_the_deadline},
	{"nobody listening ends early if wanted",
	 nobody_listening_ends_early_if_wanted},
	{"close cancels", close_cancels},
	{"what comes after stop is cancelled",
	 what_comes_after_stop_is_cancelled},
	{"many calls share the connections allowed",
	 many_calls_share_the_connections_allowed},
	{"failures of many kinds lose no call",
	 failures_of_many_kinds_lose_no_call},
	{"a long error text is cut", a_long_error_text_is_cut},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/http", tests);
