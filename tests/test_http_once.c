/*
 * One small request: what counts as an answer, and when to give up.
 */
#include "store/http_once.h"
#include "tests/aws_env.h"

static int ask(const char *url, const atomic_bool *stop, unsigned ms,
	       struct vf_http_once_answer *a)
{
	const struct vf_http_once r = {.method = "GET",
				       .url = url,
				       .attempt_ms = ms,
				       .n_attempts = 2,
				       .direct = true,
				       .stop = stop};

	return vf_http_once(&r, a);
}

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	VF_AUTO_FREE char *much = NULL;

	++*(unsigned *)arg;
	if (!strcmp(r->target, "/full") || !strcmp(r->target, "/over")) {
		size_t n = VF_HTTP_ONCE_BODY_MAX + (r->target[1] == 'o');
		much = calloc(1, n);
		vf_httpd_reply(reply, 200, "", much, n);
	} else if (!strcmp(r->target, "/moved")) {
		vf_httpd_reply(reply, 302, "Location: /full\r\n", "", 0);
	} else if (!strcmp(r->target, "/hang")) {
		return VF_HTTPD_HANG;
	} else {
		return aws_reply(reply, 404, "none");
	}
	return VF_HTTPD_KEEP;
}

static void any_status_is_an_answer_within_bounds(void)
{
	struct vf_http_once_answer *a = malloc(sizeof(*a));
	unsigned n = 0;
	struct vf_httpd *d = vf_httpd_open(answer, &n);
	static const struct {
		const char *path;
		int err, status;
		size_t len;
	} cases[] = {
		{"/x", 0, 404, 4},
		{"/moved", 0, 302, 0},
		{"/full", 0, 200, VF_HTTP_ONCE_BODY_MAX},
		{"/over", -EREMOTEIO, 200, 0},
	};

	for (size_t i = 0; i < VF_N(cases); i++) {
		char url[128];
		snprintf(url, sizeof(url), "%s%s", vf_httpd_url(d),
			 cases[i].path);
		CU_ASSERT_EQUAL(ask(url, NULL, 2000, a), cases[i].err);
		CU_ASSERT_EQUAL(a->status, cases[i].status);
		CU_ASSERT((a->why[0] != 0) == (cases[i].err != 0));
		if (!cases[i].err)
			CU_ASSERT_EQUAL(a->len, cases[i].len);
	}
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(n, VF_N(cases)); /* none is asked for again */
	vf_httpd_close(d);
	free(a);
}

static void *stop_soon(void *arg)
{
	usleep(100000);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void silence_ends_in_time(void)
{
	struct vf_http_once_answer *a = malloc(sizeof(*a));
	unsigned n = 0;
	struct vf_httpd *d = vf_httpd_open(answer, &n);
	atomic_bool stop = false;
	uint64_t start = vf_now_ns();
	char url[128];
	pthread_t t;

	snprintf(url, sizeof(url), "%s/hang", vf_httpd_url(d));
	CU_ASSERT_EQUAL(ask(url, NULL, 300, a), -EREMOTEIO);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(n, 2);
	start = vf_now_ns();
	pthread_create(&t, NULL, stop_soon, &stop);
	CU_ASSERT_EQUAL(ask(url, &stop, 60000, a), -ECANCELED);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	pthread_join(t, NULL);
	vf_httpd_close(d);
	free(a);
}

static void hosts_are_those_that_are_asked(void)
{
	static const struct {
		const char *url, *host; /* NULL: refused */
		bool tls;
	} cases[] = {
		{"http://127.0.0.1:80/x", "127.0.0.1", false},
		{"https://a.b/x", "a.b", true},
		{"http://[::1]:8/", "[::1]", false},
		{"http://0x7f.1/", "127.0.0.1", false},
		{"http://127.0.0.1@evil/", NULL, false},
		{"http://u:p@127.0.0.1/", NULL, false},
		{"ftp://127.0.0.1/", NULL, false},
		{"127.0.0.1", NULL, false},
		{"", NULL, false},
	};

	for (size_t i = 0; i < VF_N(cases); i++) {
		char host[64] = "";
		bool tls = false;
		int err = vf_http_once_host(cases[i].url, host, sizeof(host),
					    &tls);
		CU_ASSERT_EQUAL(err, cases[i].host ? 0 : -EINVAL);
		if (cases[i].host) {
			CU_ASSERT_STRING_EQUAL(host, cases[i].host);
			CU_ASSERT_EQUAL(tls, cases[i].tls);
		}
	}
}

static CU_TestInfo tests[] = {
	{"any status is an answer, within bounds",
	 any_status_is_an_answer_within_bounds},
	{"silence ends in time", silence_ends_in_time},
	{"hosts are those that are asked", hosts_are_those_that_are_asked},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/http_once", tests);
