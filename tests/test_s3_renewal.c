/*
 * A bucket whose server stops accepting our credentials while it is open:
 * replaced ones heal it, and without them the refusal is told as ever.
 */
#include "store/bucket.h"
#include "tests/aws_env.h"

struct server {
	char key[16]; /* the access key that counts */
	unsigned n_good, n_refused;
	bool closed; /* the key is good, and yet nobody may */
};

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	static const char expired[] =
		"<Error><Code>ExpiredToken</Code>"
		"<Message>The provided token has expired.</Message></Error>";
	static const char denied[] = "<Error><Code>AccessDenied</Code></Error>";
	struct server *s = arg;
	char authorization[256] = "", want[64];
	bool good, head = !strcmp(r->method, "HEAD");

	vf_httpd_header(r, "authorization", authorization,
			sizeof(authorization));
	snprintf(want, sizeof(want), "Credential=%s/", s->key);
	good = strstr(authorization, want) != NULL;
	s->n_good += good;
	s->n_refused += !good;
	if (!good || s->closed) {
		const char *body = good ? denied : expired;
		vf_httpd_reply(reply, head || good ? 403 : 400, "", body,
			       strlen(body));
		reply->len -= head ? strlen(body) : 0;
		return VF_HTTPD_KEEP;
	}
	if (strstr(r->target, "list-type"))
		return aws_reply(reply, 200,
				 "<ListBucketResult><IsTruncated>false"
				 "</IsTruncated></ListBucketResult>");
	vf_httpd_reply(reply, 200, "ETag: \"e\"\r\n", "1234", 4);
	reply->len -= head ? 4 : 0;
	return VF_HTTPD_KEEP;
}

struct rig {
	struct aws_env e;
	struct server s;
	struct vf_httpd *d;
	struct vf_bucket *b;
};

static void set_file(struct rig *r, const char *key)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "[default]\naws_access_key_id=%s\n"
		 "aws_secret_access_key=HUSH\naws_session_token=HUSH%s\n",
		 key, key);
	aws_env_write(&r->e, ".aws/credentials", text);
}

/* Only @key counts from now on. */
static void set_server(struct rig *r, const char *key)
{
	vf_httpd_settle(r->d); /* nothing is under way in it */
	snprintf(r->s.key, sizeof(r->s.key), "%s", key);
	r->s.n_good = r->s.n_refused = 0;
	vf_httpd_settle(r->d);
}

static void open_rig(struct rig *r)
{
	const struct vf_bucket_options opt = {.timeout_ms = 60000};

	memset(r, 0, sizeof(*r));
	aws_env_clear(&r->e);
	snprintf(r->s.key, sizeof(r->s.key), "A");
	r->d = vf_httpd_open(answer, &r->s);
	setenv("AWS_ENDPOINT_URL", vf_httpd_url(r->d), 1);
	set_file(r, "A");
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open("s3://test", &opt, &r->b), 0);
	set_server(r, "A");
}

static void close_rig(struct rig *r)
{
	vf_bucket_close(r->b);
	vf_httpd_close(r->d);
	aws_env_restore(&r->e);
}

static int get(struct rig *r)
{
	char buf[4];
	size_t len;

	return vf_bucket_get(r->b, "k", NULL, 0, sizeof(buf), buf, &len, NULL);
}

static int head(struct rig *r)
{
	struct vf_object o;

	return vf_bucket_head(r->b, "k", &o);
}

static int put_if_absent(struct rig *r)
{
	struct vf_object o;

	return vf_bucket_put(r->b, "k", "1234", 4, VF_PUT_IF_ABSENT, &o);
}

static void replaced_credentials_heal_every_request(void)
{
	static int (*const requests[])(struct rig *) = {get, head,
							put_if_absent};

	for (size_t i = 0; i < VF_N(requests); i++) {
		struct rig r;
		open_rig(&r);
		set_file(&r, "B");
		CU_ASSERT_EQUAL(requests[i](&r), 0); /* the old ones count */
		set_server(&r, "B");
		CU_ASSERT_EQUAL(requests[i](&r), 0);
		vf_httpd_settle(r.d);
		CU_ASSERT_EQUAL(r.s.n_refused, 1);
		CU_ASSERT_EQUAL(r.s.n_good, 1);
		CU_ASSERT_EQUAL(requests[i](&r), 0);
		vf_httpd_settle(r.d);
		CU_ASSERT_EQUAL(r.s.n_refused, 1);
		CU_ASSERT_EQUAL(r.e.n_logged, 0);
		close_rig(&r);
	}
}

static void without_others_the_refusal_is_told(void)
{
	struct rig r;

	open_rig(&r);
	set_server(&r, "B");
	CU_ASSERT_EQUAL(get(&r), -EACCES);
	CU_ASSERT(aws_env_said(&r.e, "ExpiredToken: The provided token"));
	CU_ASSERT_EQUAL(head(&r), -EACCES);
	CU_ASSERT(aws_env_said(&r.e, "HTTP 403"));
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n_refused, 2); /* each was sent once */
	close_rig(&r);
}

static void others_that_are_refused_too_are_tried_once(void)
{
	struct rig r;

	open_rig(&r);
	set_server(&r, "none");
	set_file(&r, "B");
	CU_ASSERT_EQUAL(get(&r), -EACCES);
	CU_ASSERT(aws_env_said(&r.e, "ExpiredToken"));
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n_refused, 2);
	close_rig(&r);
}

static void a_missing_right_is_no_reason(void)
{
	struct rig r;

	open_rig(&r);
	set_file(&r, "B");
	r.s.closed = true;
	set_server(&r, "A");
	CU_ASSERT_EQUAL(get(&r), -EACCES);
	CU_ASSERT(aws_env_said(&r.e, "AccessDenied"));
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n_good, 1);
	close_rig(&r);
}

/* ---- many at once ------------------------------------------------------------------- */

enum { MANY = 48 };

struct many {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned n_ended, n_good, n_canceled; /* [mtx] */
	char buf[MANY][4];
};

static void count_end(void *arg, int err, size_t len,
		      const struct vf_object *object)
{
	struct many *m = arg;

	pthread_mutex_lock(&m->mtx);
	m->n_ended++;
	m->n_good += err == 0 && len == 4;
	m->n_canceled += err == -ECANCELED;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->mtx);
}

static void start_many(struct rig *r, struct many *m)
{
	*m = (struct many){.mtx = PTHREAD_MUTEX_INITIALIZER,
			   .changed = PTHREAD_COND_INITIALIZER};
	for (unsigned i = 0; i < MANY; i++)
		vf_bucket_get_start(r->b, &(struct vf_get){.key = "k",
							   .len = 4,
							   .buf = m->buf[i],
							   .done = count_end,
							   .arg = m});
}

static void many_requests_heal_together(void)
{
	struct many m;
	struct rig r;

	open_rig(&r);
	set_server(&r, "B");
	set_file(&r, "B");
	start_many(&r, &m);
	pthread_mutex_lock(&m.mtx);
	while (m.n_ended < MANY)
		pthread_cond_wait(&m.changed, &m.mtx);
	pthread_mutex_unlock(&m.mtx);
	CU_ASSERT_EQUAL(m.n_good, MANY);
	vf_httpd_settle(r.d);
	CU_ASSERT_EQUAL(r.s.n_good, MANY);
	CU_ASSERT(r.s.n_refused <= MANY);
	CU_ASSERT_EQUAL(r.e.n_logged, 0);
	close_rig(&r);
}

/* The search for others is a process that never ends. */
static void closing_ends_who_waits_for_others(void)
{
	uint64_t start;
	struct many m;
	struct rig r;

	open_rig(&r);
	set_server(&r, "B");
	aws_env_write(&r.e, ".aws/credentials",
		      "[default]\ncredential_process = sleep 60\n");
	start_many(&r, &m);
	usleep(300000);
	start = vf_now_ns();
	vf_bucket_close(r.b);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	CU_ASSERT_EQUAL(m.n_ended, MANY);
	CU_ASSERT_EQUAL(m.n_canceled, MANY);
	r.b = NULL;
	close_rig(&r);
}

static CU_TestInfo tests[] = {
	{"replaced credentials heal every request",
	 replaced_credentials_heal_every_request},
	{"without others the refusal is told",
	 without_others_the_refusal_is_told},
	{"others that are refused too are tried once",
	 others_that_are_refused_too_are_tried_once},
	{"a missing right is no reason", a_missing_right_is_no_reason},
	{"many requests heal together", many_requests_heal_together},
	{"closing ends who waits for others",
	 closing_ends_who_waits_for_others},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/s3_renewal", tests);
