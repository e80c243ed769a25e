/*
 * The security token service, played by a local server: what is sent to it,
 * and what its answers lead to.
 */
#include "store/credentials_impl.h"
#include "store/sigv4.h"
#include "tests/aws_env.h"

struct sts {
	int status;	    /* 0: good credentials */
	const char *body;   /* of a bad one */
	unsigned n, n_busy; /* so many 503 first */
	char form[1024], head[2048], target[64];
	char hash[VF_SIGV4_HEX + 1];
};

static const char good[] =
	"<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/"
	"doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult><Credentials>"
	"<SessionToken>To/ken+=</SessionToken>"
	"<SecretAccessKey>HUSH</SecretAccessKey>"
	"<Expiration>2001-09-09T01:46:40Z</Expiration>"
	"<AccessKeyId>ASIA</AccessKeyId></Credentials>"
	"</AssumeRoleWithWebIdentityResult>"
	"</AssumeRoleWithWebIdentityResponse>";

static enum vf_httpd_after answer(void *arg, const struct vf_httpd_request *r,
				  struct vf_buf *reply)
{
	struct sts *s = arg;

	s->n++;
	snprintf(s->form, sizeof(s->form), "%.*s", (int)r->body_len,
		 (const char *)r->body);
	snprintf(s->head, sizeof(s->head), "%s", r->head);
	snprintf(s->target, sizeof(s->target), "%s %s", r->method, r->target);
	vf_sigv4_hash(r->body, r->body_len, s->hash);
	if (s->n_busy) {
		s->n_busy--;
		return aws_reply(reply, 503, "");
	}
	return s->status ? aws_reply(reply, s->status, s->body)
			 : aws_reply(reply, 200, good);
}

static struct vf_httpd *start(struct aws_env *e, struct sts *s)
{
	struct vf_httpd *d = vf_httpd_open(answer, s);

	aws_env_clear(e);
	setenv("AWS_ENDPOINT_URL_STS", vf_httpd_url(d), 1);
	return d;
}

static void set_web(const struct aws_env *e)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/token", e->home);
	aws_env_write(e, "token", "eyJ.HUSH+x.y\n");
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path, 1);
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
}

static int load(const char *profile, struct vf_credentials *c)
{
	const struct vf_credential_options opt = {.profile = profile};

	return vf_credentials_load(&opt, c);
}

static void a_token_is_exchanged(void)
{
	struct sts s = {0};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	set_web(&e);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "ASIA"));
	CU_ASSERT(aws_equal(c.secret_key, "HUSH"));
	CU_ASSERT(aws_equal(c.session_token, "To/ken+="));
	CU_ASSERT_EQUAL(c.expires_s, 1000000000);
	vf_credentials_fini(&c);
	vf_httpd_settle(d);
	CU_ASSERT_STRING_EQUAL(s.target, "POST /");
	CU_ASSERT_STRING_EQUAL(
		s.form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&"
			"RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&"
			"RoleSessionName=vecfs&"
			"WebIdentityToken=eyJ.HUSH%2Bx.y");
	CU_ASSERT_PTR_NULL(strcasestr(s.head, "authorization:"));
	CU_ASSERT(strcasestr(s.head, "application/x-www-form-urlencoded") !=
		  NULL);
	setenv("AWS_ROLE_SESSION_NAME", "me", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	vf_credentials_fini(&c);
	vf_httpd_settle(d);
	CU_ASSERT(strstr(s.form, "RoleSessionName=me&") != NULL);
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void a_busy_service_is_asked_again(void)
{
	struct sts s = {.n_busy = 2};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	set_web(&e);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	vf_credentials_fini(&c);
	vf_httpd_settle(d);
	CU_ASSERT_EQUAL(s.n, 3);
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static void refusals_are_told_in_one_line(void)
{
	static const struct {
		int status, err;
		const char *body, *says;
	} cases[] = {
		{403, -EACCES,
		 "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not "
		 "you</Message></Error></ErrorResponse>",
		 "HTTP 403 AccessDenied: Not you"},
		{400, -EACCES, "", "AssumeRoleWithWebIdentity: HTTP 400"},
		{503, -EREMOTEIO, "", "HTTP 503"},
		{302, -EACCES, "", "HTTP 302"},
		{200, -EACCES, "<a>HUSH</a>", "holds no credentials"},
		{200, -EACCES, "HUSH", "holds no credentials"},
	};
	struct sts s = {0};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);

	set_web(&e);
	for (size_t i = 0; i < VF_N(cases); i++) {
		struct vf_credentials c;
		s.status = cases[i].status;
		s.body = cases[i].body;
		CU_ASSERT_EQUAL(load(NULL, &c), cases[i].err);
		CU_ASSERT(aws_env_said(&e, cases[i].says));
	}
	aws_env_write(&e, "token", "HUSH\nHUSH");
	struct vf_credentials c;
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "holds no web identity token"));
	setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9", 1);
	aws_env_write(&e, "token", "x");
	CU_ASSERT_EQUAL(load(NULL, &c), -EREMOTEIO);
	CU_ASSERT(aws_env_said(&e, "127.0.0.1:9"));
	setenv("AWS_ENDPOINT_URL_STS", "ftp://x", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "no endpoint"));
	vf_httpd_close(d);
	aws_env_restore(&e);
}

/* The signature that the service would compute. */
static void check_signature(const struct sts *s, const char *host)
{
	char time[32] = "", want[VF_SIGV4_HEX + 1];
	const char *at = strcasestr(s->head, "x-amz-date: ");

	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	sscanf(at + strlen("x-amz-date: "), "%31s", time);
	const struct vf_sigv4_pair headers[] = {
		{"content-type", "application/x-www-form-urlencoded"},
		{"host", host},
		{"x-amz-date", time},
	};
	const struct vf_sigv4_request r = {.method = "POST",
					   .path = "/",
					   .headers = headers,
					   .n_headers = VF_N(headers),
					   .payload_hash = s->hash};
	const struct vf_sigv4_scope scope = {"D", "HUSH", "eu-west-1", "sts",
					     time};
	CU_ASSERT_EQUAL(vf_sigv4_signature(&r, &scope, want), 0);
	CU_ASSERT(strstr(s->head, want) != NULL);
	CU_ASSERT(strstr(s->head, "/eu-west-1/sts/aws4_request") != NULL);
}

static void a_role_is_assumed_with_other_credentials(void)
{
	struct sts s = {0};
	struct aws_env e;
	struct vf_httpd *d = start(&e, &s);
	struct vf_credentials c;

	aws_env_write(&e, ".aws/config",
		      "[profile base]\naws_access_key_id=D\n"
		      "aws_secret_access_key=HUSH\n"
		      "[profile role]\nregion=eu-west-1\nrole_arn=arn:x\n"
		      "source_profile=base\nexternal_id=e/1\n"
		      "duration_seconds=900\n"
		      "[profile both]\nrole_arn=arn:y\nsource_profile=both\n"
		      "aws_access_key_id=D\naws_secret_access_key=HUSH\n");
	CU_ASSERT_EQUAL(load("role", &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "ASIA"));
	vf_credentials_fini(&c);
	vf_httpd_settle(d);
	CU_ASSERT_STRING_EQUAL(
		s.form, "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Ax&"
			"RoleSessionName=vecfs&DurationSeconds=900&"
			"ExternalId=e%2F1");
	check_signature(&s, vf_httpd_url(d) + strlen("http://"));
	CU_ASSERT_EQUAL(load("both", &c), 0);
	vf_credentials_fini(&c);
	vf_httpd_settle(d);
	CU_ASSERT(strstr(s.form, "RoleArn=arn%3Ay") != NULL);
	vf_httpd_close(d);
	aws_env_restore(&e);
}

static CU_TestInfo tests[] = {
	{"a token is exchanged", a_token_is_exchanged},
	{"a busy service is asked again", a_busy_service_is_asked_again},
	{"refusals are told in one line", refusals_are_told_in_one_line},
	{"a role is assumed with other credentials",
	 a_role_is_assumed_with_other_credentials},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credentials_sts", tests);
