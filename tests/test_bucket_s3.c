/*
 * The s3:// bucket against a server that answers what the test says.  What a
 * real server does is for the end-to-end tests.
 */
#include "tests/fake_s3.h"

/* ---- open --------------------------------------------------------------------------------------- */

static void open_asks_once_and_signs(void)
{
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, NULL, NULL);
	CU_ASSERT(vf_fake_s3_sent(&s, "x-amz-content-sha256: e3b0c442"));
	CU_ASSERT(vf_fake_s3_sent(&s, "authorization: AWS4-HMAC-SHA256 "
				      "Credential=AKIATEST/"));
	CU_ASSERT(vf_fake_s3_sent(&s, "/us-east-1/s3/aws4_request"));
	CU_ASSERT(!vf_fake_s3_sent(&s, "VerySecret"));
	CU_ASSERT_STRING_EQUAL(vf_bucket_url(s.b), "s3://test/p/q");
	CU_ASSERT_PTR_NULL(vf_bucket_dir(s.b));
	struct vf_bucket_stats stats;
	vf_bucket_stats(s.b, &stats);
	CU_ASSERT_EQUAL(stats.n_list, 1);
	vf_fake_s3_close(&s);
}

static int open_refused(struct vf_fake_s3 *s, struct vf_canned *c, unsigned ms)
{
	const struct vf_bucket_options opt = {.timeout_ms = ms};

	vf_fake_s3_start(s, vf_canned_give, c);
	return vf_bucket_open("s3://test/p", &opt, &s->b);
}

static void a_refused_open_says_why_in_one_line(void)
{
	static const struct {
		struct vf_canned c;
		int err;
		const char *says;
		unsigned timeout_ms; /* attempts go on so long, if any */
	} cases[] = {
		{VF_CANNED(
			 403, "",
			 "<Error><Code>SignatureDoesNotMatch</Code><Message>The "
			 "request signature\nis wrong</Message></Error>"),
		 -EACCES, "SignatureDoesNotMatch", 60000},
		{VF_CANNED(404, "", "<Error><Code>NoSuchBucket</Code></Error>"),
		 -ENOENT, "NoSuchBucket", 60000},
		{VF_CANNED(301, "x-amz-bucket-region: eu-west-1\r\n", ""),
		 -EREMOTEIO, "region eu-west-1", 60000},
		{VF_CANNED(400, "",
			   "<Error><Code>AuthorizationHeaderMalformed</Code>"
			   "<Region>ap-south-1</Region></Error>"),
		 -EACCES, "region ap-south-1", 60000},
		{VF_CANNED(200, "", "<html>Welcome!</html>"), -EREMOTEIO,
		 "no list", 60000},
		{VF_CANNED(500, "",
			   "<Error><Code>InternalError</Code></Error>"),
		 -EREMOTEIO, "InternalError", 2000},
		{{.after = VF_HTTPD_CLOSE}, -EREMOTEIO, "attempts", 2000},
	};

	for (size_t i = 0; i < VF_N(cases); i++) {
		struct vf_canned c = cases[i].c;
		struct vf_fake_s3 s;
		CU_ASSERT_EQUAL(open_refused(&s, &c, cases[i].timeout_ms),
				cases[i].err);
		CU_ASSERT_PTR_NULL(s.b);
		CU_ASSERT_EQUAL(s.n_logged, 1);
		CU_ASSERT(strstr(s.logged, cases[i].says) != NULL);
		CU_ASSERT(strstr(s.logged, "s3://test/p") != NULL);
		CU_ASSERT(strstr(s.logged, vf_httpd_url(s.d)) != NULL);
		CU_ASSERT(strstr(s.logged, "VerySecret") == NULL);
		vf_fake_s3_close(&s);
	}
}

static void bad_urls_and_endpoints_are_refused(void)
{
	static const char *const urls[] = {
		"s3://",	   "s3:///x",	     "s3://ab",
		"s3://a b c",	   "s3://bucket//x", "s3://bucket/a/../b",
		"s3://bucket/./b", "s3://bu?cket/x",
	};
	static const char *const endpoints[] = {
		"127.0.0.1:80",	     "ftp://host",	 "http://",
		"http:///path",	     "http://user@host", "http://host/?x",
		"http://host\nX: y",
	};
	struct vf_bucket *b;

	setenv("AWS_ACCESS_KEY_ID", "AKIATEST", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "VerySecret", 1);
	setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9", 1);
	for (size_t i = 0; i < VF_N(urls); i++)
		CU_ASSERT_EQUAL(vf_bucket_open(urls[i], NULL, &b), -EINVAL);
	for (size_t i = 0; i < VF_N(endpoints); i++) {
		struct vf_bucket_options opt = {.endpoint = endpoints[i]};
		CU_ASSERT_EQUAL(vf_bucket_open("s3://test", &opt, &b), -EINVAL);
	}
}

/* ---- head and get ------------------------------------------------------------------------------------ */

static void head_describes(void)
{
	struct vf_canned c =
		VF_CANNED(200,
			  "ETag: \"e-1\"\r\n"
			  "Last-Modified: Mon, 12 Oct 2009 17:50:00 GMT\r\n",
			  "1234");
	struct vf_object o;
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, vf_canned_give, &c);
	CU_ASSERT_EQUAL(vf_bucket_head(s.b, "a b/c+d", &o), 0);
	CU_ASSERT_EQUAL(o.size, 4);
	CU_ASSERT_STRING_EQUAL(o.etag, "e-1");
	CU_ASSERT_EQUAL(o.mtime_ns, 1255369800000000000);
	CU_ASSERT_STRING_EQUAL(s.targets[0], "HEAD /test/p/q/a%20b/c%2Bd");
	c = (struct vf_canned){.status = 404};
	CU_ASSERT_EQUAL(vf_bucket_head(s.b, "k", &o), -ENOENT);
	CU_ASSERT_EQUAL(s.n_logged, 0);
	c = (struct vf_canned){.status = 403};
	CU_ASSERT_EQUAL(vf_bucket_head(s.b, "k", &o), -EACCES);
	CU_ASSERT_EQUAL(s.n_logged, 1);
	vf_fake_s3_close(&s);
}

static int get(struct vf_fake_s3 *s, const char *etag, uint64_t off, size_t len,
	       char *buf, size_t *out_len, struct vf_object *o)
{
	s->n_logged = 0;
	return vf_bucket_get(s->b, "k", etag, off, len, buf, out_len, o);
}

static void get_asks_for_a_range_of_a_version(void)
{
	struct vf_canned c = VF_CANNED(
		206, "ETag: \"e\"\r\nContent-Range: bytes 5-9/12\r\n", "hello");
	struct vf_object o;
	struct vf_fake_s3 s;
	char buf[16];
	size_t len;

	vf_fake_s3_open(&s, vf_canned_give, &c);
	CU_ASSERT_EQUAL(get(&s, "e", 5, 5, buf, &len, &o), 0);
	CU_ASSERT(len == 5 && !memcmp(buf, "hello", 5));
	CU_ASSERT_EQUAL(o.size, 12);
	CU_ASSERT_STRING_EQUAL(o.etag, "e");
	CU_ASSERT(vf_fake_s3_sent(&s, "range: bytes=5-9\r\n"));
	CU_ASSERT(vf_fake_s3_sent(&s, "if-match: \"e\"\r\n"));
	c = (struct vf_canned)VF_CANNED(
		206, "ETag: \"e\"\r\nContent-Range: bytes 8-11/12\r\n", "tail");
	CU_ASSERT_EQUAL(get(&s, NULL, 8, 16, buf, &len, &o), 0);
	CU_ASSERT_EQUAL(len, 4); /* up to the object's end */
	CU_ASSERT(!vf_fake_s3_sent(&s, "if-match"));
	c = (struct vf_canned)VF_CANNED(200, "ETag: \"e\"\r\n", "whole");
	CU_ASSERT_EQUAL(get(&s, "e", 0, 16, buf, &len, &o), 0);
	CU_ASSERT(len == 5 && o.size == 5);
	vf_fake_s3_close(&s);
}

static void a_wrong_answer_to_a_range_is_an_error(void)
{
	static const struct vf_canned wrong[] = {
		VF_CANNED(206,
			  "ETag: \"e\"\r\nContent-Range: bytes 4-8/100\r\n",
			  "hello"),
		VF_CANNED(206,
			  "ETag: \"e\"\r\nContent-Range: bytes 5-8/100\r\n",
			  "hell"),
		VF_CANNED(206,
			  "ETag: \"e\"\r\nContent-Range: bytes 5-9/100\r\n",
			  "hell"),
		VF_CANNED(206, "ETag: \"e\"\r\nContent-Range: bytes 5-9/4\r\n",
			  "hello"),
		VF_CANNED(206, "ETag: \"e\"\r\n", "hello"),
		VF_CANNED(206,
			  "ETag: \"f\"\r\nContent-Range: bytes 5-9/100\r\n",
			  "hello"),
		VF_CANNED(206, "Content-Range: bytes 5-9/100\r\n", "hello"),
		VF_CANNED(206,
			  "ETag: \"e\"\r\nContent-Range: bytes 5-10/100\r\n",
			  "hello!"),
		VF_CANNED(200, "ETag: \"e\"\r\n", "01234hello"),
		VF_CANNED(200, "ETag: \"e\"\r\n", "0123"),
		VF_CANNED(204, "ETag: \"e\"\r\n", ""),
		VF_CANNED(302, "Location: /x\r\n", ""),
	};

	for (size_t i = 0; i < VF_N(wrong); i++) {
		struct vf_canned c = wrong[i];
		struct vf_object o;
		struct vf_fake_s3 s;
		char buf[8] = ".......";
		size_t len = 77;
		vf_fake_s3_open(&s, vf_canned_give, &c);
		CU_ASSERT_EQUAL(get(&s, "e", 5, 5, buf, &len, &o), -EREMOTEIO);
		CU_ASSERT_EQUAL(len, 0);
		CU_ASSERT_EQUAL(buf[5], '.');
		CU_ASSERT_EQUAL(s.n_logged, 1);
		CU_ASSERT(strstr(s.logged, "s3://test/p/q/k: GET") != NULL);
		vf_fake_s3_close(&s);
	}
}

static void absent_and_changed_are_not_logged(void)
{
	struct vf_canned c =
		VF_CANNED(404, "", "<Error><Code>NoSuchKey</Code></Error>");
	struct vf_object o;
	struct vf_fake_s3 s;
	char buf[8];
	size_t len;

	vf_fake_s3_open(&s, vf_canned_give, &c);
	CU_ASSERT_EQUAL(get(&s, "e", 0, 8, buf, &len, &o), -ENOENT);
	CU_ASSERT_EQUAL(s.n_logged, 0);
	c = (struct vf_canned){.status = 412};
	CU_ASSERT_EQUAL(get(&s, "e", 0, 8, buf, &len, &o), -ESTALE);
	CU_ASSERT_EQUAL(s.n_logged, 0);
	/* No header may come out of an ETag. */
	CU_ASSERT_EQUAL(get(&s, "e\r\nX: y", 0, 8, buf, &len, &o), -ESTALE);
	CU_ASSERT_EQUAL(s.n, 2);
	c = (struct vf_canned)VF_CANNED(
		404, "", "<Error><Code>NoSuchBucket</Code></Error>");
	CU_ASSERT_EQUAL(get(&s, "e", 0, 8, buf, &len, &o), -EREMOTEIO);
	CU_ASSERT_EQUAL(s.n_logged, 1);
	vf_fake_s3_close(&s);
}

static enum vf_httpd_after has_four_bytes(void *arg,
					  const struct vf_httpd_request *r,
					  struct vf_buf *reply)
{
	bool head = !strcmp(r->method, "HEAD");

	if (head) {
		vf_httpd_reply(reply, 200, "ETag: \"e\"\r\n", "1234", 4);
		reply->len -= 4;
	} else {
		vf_httpd_reply(reply, 416, "", "<Error/>", 8);
	}
	return VF_HTTPD_KEEP;
}

static void beyond_the_end_is_nothing(void)
{
	struct vf_object o;
	struct vf_fake_s3 s;
	char buf[8];
	size_t len = 9;

	vf_fake_s3_open(&s, has_four_bytes, NULL);
	CU_ASSERT_EQUAL(get(&s, "e", 4, 8, buf, &len, &o), 0);
	CU_ASSERT_EQUAL(len, 0);
	CU_ASSERT_EQUAL(o.size, 4);
	CU_ASSERT_STRING_EQUAL(o.etag, "e");
	CU_ASSERT(!vf_fake_s3_sent(&s, "range:"));
	CU_ASSERT_EQUAL(get(&s, "e", 2, 0, buf, &len, &o), 0);
	CU_ASSERT(len == 0 && o.size == 4);
	CU_ASSERT_EQUAL(get(&s, "e", UINT64_MAX - 2, 8, buf, &len, &o), 0);
	CU_ASSERT(len == 0 && o.size == 4);
	/* The server contradicts itself. */
	CU_ASSERT_EQUAL(get(&s, "e", 2, 8, buf, &len, &o), -EREMOTEIO);
	CU_ASSERT_EQUAL(s.n_logged, 1);
	vf_fake_s3_close(&s);
}

/* ---- put and delete -------------------------------------------------------------------------------------- */

static void put_is_asked_again(void)
{
	struct vf_canned c = {
		.status = 200, .lines = "ETag: \"new\"\r\n", .n_before = 2};
	struct vf_bucket_stats stats;
	struct vf_object o;
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, vf_canned_give, &c);
	CU_ASSERT_EQUAL(vf_bucket_put(s.b, "k", "abc", 3, 0, &o), 0);
	CU_ASSERT_STRING_EQUAL(o.etag, "new");
	CU_ASSERT_EQUAL(o.size, 3);
	CU_ASSERT_EQUAL(s.n, 3);
	CU_ASSERT(
		vf_fake_s3_sent(&s, "x-amz-content-sha256: ba7816bf8f01cfea"));
	CU_ASSERT(!vf_fake_s3_sent(&s, "if-none-match"));
	vf_bucket_stats(s.b, &stats);
	CU_ASSERT_EQUAL(stats.n_put, 3);
	CU_ASSERT_EQUAL(stats.n_retry, 2);
	CU_ASSERT_EQUAL(stats.n_error, 0);
	CU_ASSERT_EQUAL(stats.bytes_out, 3);
	vf_fake_s3_close(&s);
}

static void put_if_absent_is_never_sent_twice(void)
{
	static const struct {
		struct vf_canned c;
		int err, n_logged;
	} cases[] = {
		{VF_CANNED(200, "ETag: \"x\"\r\n", NULL), 0, 0},
		{VF_CANNED(412, "", "<Error/>"), -EEXIST, 0},
		{VF_CANNED(409, "", "<Error/>"), -EREMOTEIO, 0},
		{VF_CANNED(500, "", "<Error/>"), -EREMOTEIO, 0},
		{VF_CANNED(503, "", "<Error/>"), -EREMOTEIO, 0},
		{{.after = VF_HTTPD_CLOSE}, -EREMOTEIO, 0},
		{{.after = VF_HTTPD_RESET}, -EREMOTEIO, 0},
		{VF_CANNED(403, "", "<Error><Code>AccessDenied</Code></Error>"),
		 -EACCES, 1},
		{VF_CANNED(403, "",
			   "<Error><Code>QuotaExceeded</Code></Error>"),
		 -ENOSPC, 1},
		{VF_CANNED(501, "",
			   "<Error><Code>NotImplemented</Code></Error>"),
		 -ENOTSUP, 1},
	};

	for (size_t i = 0; i < VF_N(cases); i++) {
		struct vf_canned c = cases[i].c;
		struct vf_fake_s3 s;
		vf_fake_s3_open(&s, vf_canned_give, &c);
		CU_ASSERT_EQUAL(vf_bucket_put(s.b, "k", "abc", 3,
					      VF_PUT_IF_ABSENT, NULL),
				cases[i].err);
		vf_httpd_settle(s.d);
		CU_ASSERT_EQUAL(s.n, 1);
		CU_ASSERT(vf_fake_s3_sent(&s, "if-none-match: *\r\n"));
		CU_ASSERT_EQUAL(s.n_logged, cases[i].n_logged);
		vf_fake_s3_close(&s);
	}
}

static void delete_of_the_absent_succeeds(void)
{
	struct vf_canned c = {.status = 204};
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, vf_canned_give, &c);
	CU_ASSERT_EQUAL(vf_bucket_delete(s.b, "k"), 0);
	CU_ASSERT_STRING_EQUAL(s.targets[0], "DELETE /test/p/q/k");
	c.status = 404;
	CU_ASSERT_EQUAL(vf_bucket_delete(s.b, "k"), 0);
	c.status = 403;
	CU_ASSERT_EQUAL(vf_bucket_delete(s.b, "k"), -EACCES);
	vf_fake_s3_close(&s);
}

static CU_TestInfo tests[] = {
	{"open asks once and signs", open_asks_once_and_signs},
	{"a refused open says why in one line",
	 a_refused_open_says_why_in_one_line},
	{"bad URLs and endpoints are refused",
	 bad_urls_and_endpoints_are_refused},
	{"head describes", head_describes},
	{"get asks for a range of a version",
	 get_asks_for_a_range_of_a_version},
	{"a wrong answer to a range is an error",
	 a_wrong_answer_to_a_range_is_an_error},
	{"absent and changed are not logged",
	 absent_and_changed_are_not_logged},
	{"beyond the end is nothing", beyond_the_end_is_nothing},
	{"put is asked again", put_is_asked_again},
	{"put if absent is never sent twice",
	 put_if_absent_is_never_sent_twice},
	{"delete of the absent succeeds", delete_of_the_absent_succeeds},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/bucket_s3", tests);
