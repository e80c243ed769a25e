/*
 * Many objects deleted by one request, and what becomes of those it left.
 */
#include "tests/fake_s3.h"

#include <stdio.h>

enum { N = 1005 };

struct store {
	unsigned n_posts, n_deletes;
	int status;	    /* of the answers to POST */
	const char *answer; /* their body */
	char body[512];	    /* of the last POST, its beginning */
};

static enum vf_httpd_after keep(void *arg, const struct vf_httpd_request *r,
				struct vf_buf *reply)
{
	struct store *st = arg;

	if (!strcmp(r->method, "POST")) {
		st->n_posts++;
		snprintf(st->body, sizeof(st->body), "%.*s", (int)r->body_len,
			 r->body);
		vf_httpd_reply(reply, st->status, "", st->answer,
			       strlen(st->answer));
	} else {
		st->n_deletes += !strcmp(r->method, "DELETE");
		vf_httpd_reply(reply, 204, "", "", 0);
	}
	return VF_HTTPD_KEEP;
}

static int delete_all(struct vf_fake_s3 *s, size_t n)
{
	static char names[N][32];
	const char *keys[N];

	for (size_t i = 0; i < n; i++) {
		snprintf(names[i], sizeof(names[i]), "k&<%zu>", i);
		keys[i] = names[i];
	}
	return vf_bucket_delete_many(s->b, keys, n);
}

static void a_thousand_go_with_one_request(void)
{
	struct store st = {.status = 200, .answer = "<DeleteResult/>"};
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, keep, &st);
	CU_ASSERT_EQUAL(delete_all(&s, 1000), 0);
	CU_ASSERT_EQUAL(st.n_posts, 1);
	CU_ASSERT_STRING_EQUAL(s.targets[s.n - 1], "POST /test?delete=");
	CU_ASSERT(vf_fake_s3_sent(&s, "ontent-md5: ") ||
		  vf_fake_s3_sent(&s, "ontent-MD5: "));
	CU_ASSERT_PTR_NOT_NULL(strstr(
		st.body, "<Quiet>true</Quiet><Object><Key>p/q/k&amp;&lt;0&gt;"
			 "</Key></Object><Object>"));
	CU_ASSERT_EQUAL(delete_all(&s, N), 0);
	CU_ASSERT_EQUAL(st.n_posts, 3);
	CU_ASSERT_EQUAL(delete_all(&s, 0), 0);
	CU_ASSERT_EQUAL(st.n_posts, 3);
	CU_ASSERT_EQUAL(st.n_deletes, 0);
	vf_fake_s3_close(&s);
}

static void what_a_server_left_is_deleted_one_by_one(void)
{
	struct store st = {.status = 200,
			   .answer = "<DeleteResult><Error><Key>p/q/k</Key>"
				     "<Code>InternalError</Code></Error>"
				     "</DeleteResult>"};
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, keep, &st);
	CU_ASSERT_EQUAL(delete_all(&s, 5), 0);
	CU_ASSERT(st.n_posts == 1 && st.n_deletes == 5);
	CU_ASSERT_EQUAL(delete_all(&s, 5), 0);
	CU_ASSERT(st.n_posts == 2 && st.n_deletes == 10);
	vf_fake_s3_close(&s);
}

static void a_server_that_knows_no_such_request_is_asked_once(void)
{
	static const int statuses[] = {400, 403, 405, 501};

	for (size_t i = 0; i < VF_N(statuses); i++) {
		struct store st = {.status = statuses[i], .answer = ""};
		struct vf_fake_s3 s;
		vf_fake_s3_open(&s, keep, &st);
		CU_ASSERT_EQUAL(delete_all(&s, 5), 0);
		unsigned n_posts = st.n_posts;
		CU_ASSERT(n_posts >= 1 && st.n_deletes == 5);
		CU_ASSERT_EQUAL(delete_all(&s, 5), 0);
		CU_ASSERT(st.n_posts == n_posts && st.n_deletes == 10);
		vf_fake_s3_close(&s);
	}
}

static void keys_that_xml_cannot_spell_go_alone(void)
{
	static const char *const keys[] = {"a", "b\001", "c"};
	struct store st = {.status = 200, .answer = "<DeleteResult/>"};
	struct vf_fake_s3 s;

	vf_fake_s3_open(&s, keep, &st);
	CU_ASSERT_EQUAL(vf_bucket_delete_many(s.b, keys, 3), 0);
	CU_ASSERT(st.n_posts == 0 && st.n_deletes == 3);
	vf_fake_s3_close(&s);
}

static CU_TestInfo tests[] = {
	{"a thousand go with one request", a_thousand_go_with_one_request},
	{"what a server left is deleted one by one",
	 what_a_server_left_is_deleted_one_by_one},
	{"a server that knows no such request is asked once",
	 a_server_that_knows_no_such_request_is_asked_once},
	{"keys that XML cannot spell go alone",
	 keys_that_xml_cannot_spell_go_alone},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/s3_delete", tests);
