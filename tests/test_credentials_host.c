/*
 * The services of containers and instances, played by a local server.
 */
#include "store/credentials_impl.h"
#include "tests/aws_env.h"

struct service {
	int status; /* of the credentials; 0: 200 */
	int token_status, role_status;
	enum vf_httpd_after after;
	unsigned n, n_busy;	/* so many 503 first */
	char token[64];		/* as it came with the last request */
	char authorization[64]; /* likewise */
	char targets[8][96];
};

static const char keys[] =
	"{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":"
	"\"HUSH\",\"Token\":\"T\",\"Expiration\":\"2001-09-09T01:46:40Z\"}";

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	static const char roles[] =
		"/latest/meta-data/iam/security-credentials/";
	struct service *s = arg;

	s->token[0] = s->authorization[0] = '\0';
	vf_httpd_header(r, "x-aws-ec2-metadata-token", s->token,
			sizeof(s->token));
	vf_httpd_header(r, "authorization", s->authorization,
			sizeof(s->authorization));
	snprintf(s->targets[s->n++ % VF_N(s->targets)], sizeof(s->targets[0]),
		 "%s %s", r->method, r->target);
	if (s->after)
		return s->after;
	if (s->n_busy) {
		s->n_busy--;
		return aws_reply(reply, 503, "");
	}
	if (!strcmp(r->target, "/latest/api/token"))
		return s->token_status ? aws_reply(reply, s->token_status, "")
				       : aws_reply(reply, 200, "TOK==");
	if (!strcmp(r->target, roles))
		return s->role_status ? aws_reply(reply, s->role_status, "")
				      : aws_reply(reply, 200, "my-role\n");
	return s->status ? aws_reply(reply, s->status, "")
			 : aws_reply(reply, 200, keys);
}

static struct vf_httpd *start(struct aws_env *e, struct service *s)
{
	aws_env_clear(e);
	return vf_httpd_open(answer, s);
}

static int load(struct vf_credentials *c)
{
	const struct vf_credential_options opt = {0};

	return vf_credentials_load(&opt, c);
}

static bool is_good(struct vf_credentials *c)
{
	bool good = aws_equal(c->access_key, "ASIA") &&
		    aws_equal(c->secret_key, "HUSH") &&
		    aws_equal(c->session_token, "T") &&
		    c->expires_s == 1000000000;

	vf_credentials_fini(c);
	return good;
}

/* ---- containers ----------------------------------------------------------------- */

static void set_container(const struct vf_httpd *d)
{
	char url[128];

	snprintf(url, sizeof(url), "%s/v1/me?x=y", vf_httpd_url(d));
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
}

static void a_container_is_asked_with_its_token(void)
{
	struct service s = {.n_busy = 1};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;
	char path[256];

	set_container(d);
	CU_ASSERT_EQUAL(load(&c), 0);
	CU_ASSERT(is_good(&c));
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(s.n, 2);
	CU_ASSERT_STRING_EQUAL(s.targets[1], "GET /v1/me?x=y");
	CU_ASSERT_STRING_EQUAL(s.authorization, "");
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic abc", 1);
	CU_ASSERT_EQUAL(load(&c), 0);
	CU_ASSERT(is_good(&c));
	vf_httpd_settle(d);
	CU_ASSERT_STRING_EQUAL(s.authorization, "Basic abc");
	/* A file, which somebody renews, wins. */
	aws_env_write(&e, "token", "from-file\n");
	snprintf(path, sizeof(path), "%s/token", e.home);
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path, 1);
	CU_ASSERT_EQUAL(load(&c), 0);
	CU_ASSERT(is_good(&c));
	vf_httpd_settle(d);
	CU_ASSERT_STRING_EQUAL(s.authorization, "from-file");
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void a_container_that_fails_says_so(void)
{
	struct service s = {.status = 403};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	set_container(d);
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "HTTP 403"));
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "HUSH\r\nX: y", 1);
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "control characters"));
	setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/no/such/file", 1);
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "/no/such/file"));
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/", 1);
	CU_ASSERT_EQUAL(load(&c), -EREMOTEIO);
	CU_ASSERT(aws_env_said(&e, "the container's service"));
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void a_far_container_without_tls_is_not_asked(void)
{
	static const char *const urls[] = {
		"http://192.0.2.1/",
		"http://example.com/",
		"http://127.0.0.1@192.0.2.1/",
		"http://169.254.170.3/",
		"ftp://127.0.0.1/",
		"http://localhost.example/",
		"http://128.0.0.1/",
		"127.0.0.1",
	};
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	for (size_t i = 0; i < VF_N(urls); i++) {
		setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", urls[i], 1);
		CU_ASSERT_EQUAL(load(&c), -EACCES);
		CU_ASSERT(aws_env_said(&e, "neither https"));
	}
	setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@192.0.2.1/", 1);
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "begin with /"));
	aws_env_restore(&e);
}

/* ---- instances ------------------------------------------------------------------- */

static void set_instance(const struct vf_httpd *d)
{
	unsetenv("AWS_EC2_METADATA_DISABLED");
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", vf_httpd_url(d), 1);
}

static void an_instance_is_asked_with_a_token(void)
{
	struct service s = {0};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	set_instance(d);
	CU_ASSERT_EQUAL(load(&c), 0);
	CU_ASSERT(is_good(&c));
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(s.n, 3);
	CU_ASSERT_STRING_EQUAL(s.targets[0], "PUT /latest/api/token");
	CU_ASSERT_STRING_EQUAL(s.targets[1], "GET /latest/meta-data/iam/"
					     "security-credentials/");
	CU_ASSERT_STRING_EQUAL(s.targets[2], "GET /latest/meta-data/iam/"
					     "security-credentials/my-role");
	CU_ASSERT_STRING_EQUAL(s.token, "TOK==");
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void no_instance_is_no_news(void)
{
	static const char none[] = "AWS_ACCESS_KEY_ID";
	struct service s = {.token_status = 404};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;
	uint64_t begin;

	set_instance(d);
	CU_ASSERT_EQUAL(load(&c), -EACCES); /* not a metadata service */
	CU_ASSERT(aws_env_said(&e, none));
	s.token_status = 0;
	s.role_status = 404; /* an instance without a role */
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(aws_env_said(&e, none));
	s.after = VF_HTTPD_HANG; /* a black hole */
	begin = vf_now_ns();
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(vf_now_ns() - begin < VF_TEST_LONG_NS);
	CU_ASSERT(aws_env_said(&e, none));
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9", 1);
	begin = vf_now_ns();
	CU_ASSERT_EQUAL(load(&c), -EACCES);
	CU_ASSERT(vf_now_ns() - begin < VF_TEST_LONG_NS);
	CU_ASSERT(aws_env_said(&e, none));
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void an_instance_that_fails_says_so(void)
{
	struct service s = {.status = 500};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	set_instance(d);
	CU_ASSERT_EQUAL(load(&c), -EREMOTEIO);
	CU_ASSERT(aws_env_said(&e, "metadata service answers HTTP 500"));
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(s.n, 4); /* once more than needed */
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static CU_TestInfo tests[] = {
	{"a container is asked with its token",
	 a_container_is_asked_with_its_token},
	{"a container that fails says so", a_container_that_fails_says_so},
	{"a far container without TLS is not asked",
	 a_far_container_without_tls_is_not_asked},
	{"an instance is asked with a token",
	 an_instance_is_asked_with_a_token},
	{"no instance is no news", no_instance_is_no_news},
	{"an instance that fails says so", an_instance_that_fails_says_so},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credentials_host", tests);
