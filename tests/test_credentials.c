/*
 * Who we are: which provider is asked, and what is said when none knows.
 * Each provider has a suite of its own.
 */
#include "store/credentials_impl.h"
#include "tests/aws_env.h"

static int load(const char *profile, struct vf_credentials *c)
{
	const struct vf_credential_options opt = {.profile = profile};

	return vf_credentials_load(&opt, c);
}

static void the_environment_wins(void)
{
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/credentials",
		      "[default]\naws_access_key_id=F\n"
		      "aws_secret_access_key=G\naws_session_token=old\n");
	aws_env_write(&e, ".aws/config", "[default]\nregion=eu-north-1\n");
	setenv("AWS_ACCESS_KEY_ID", "A", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "B", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "A") && aws_equal(c.secret_key, "B"));
	/* A token of other keys would spoil them. */
	CU_ASSERT_PTR_NULL(c.session_token);
	CU_ASSERT(aws_equal(c.region, "eu-north-1"));
	CU_ASSERT_EQUAL(c.expires_s, 0);
	vf_credentials_fini(&c);
	setenv("AWS_SESSION_TOKEN", "T", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	CU_ASSERT(aws_equal(c.session_token, "T"));
	vf_credentials_fini(&c);
	CU_ASSERT_EQUAL(load("default", &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "F"));
	CU_ASSERT(aws_equal(c.session_token, "old"));
	vf_credentials_fini(&c);
	aws_env_restore(&e);
}

static void profiles_come_from_both_files(void)
{
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/credentials",
		      "[default]\naws_access_key_id=D\n"
		      "aws_secret_access_key=E\n"
		      "[work]\naws_access_key_id=W\n"
		      "aws_secret_access_key=X\n");
	aws_env_write(&e, ".aws/config",
		      "[default]\nregion=us-west-2\n[profile work]\n"
		      "region=eu-west-3\nendpoint_url=http://h:1\n"
		      "[profile whole]\naws_access_key_id=P\n"
		      "aws_secret_access_key=Q\n");
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "D") &&
		  aws_equal(c.region, "us-west-2"));
	vf_credentials_fini(&c);
	setenv("AWS_PROFILE", "work", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "W") && aws_equal(c.secret_key, "X"));
	CU_ASSERT(aws_equal(c.region, "eu-west-3"));
	CU_ASSERT(aws_equal(c.endpoint, "http://h:1"));
	vf_credentials_fini(&c);
	CU_ASSERT_EQUAL(load("whole", &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "P") && aws_equal(c.secret_key, "Q"));
	CU_ASSERT_PTR_NULL(c.region);
	vf_credentials_fini(&c);
	aws_env_restore(&e);
}

static void none_is_said_in_one_line(void)
{
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(strstr(e.logged, "credentials") != NULL);
	CU_ASSERT(aws_env_said(&e, "AWS_ACCESS_KEY_ID"));
	CU_ASSERT_EQUAL(load("nobody", &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "nobody"));
	/* Half of a pair is none. */
	setenv("AWS_ACCESS_KEY_ID", "A", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "AWS_ACCESS_KEY_ID"));
	aws_env_restore(&e);
}

static const char unusable[] =
	"[profile half]\naws_access_key_id=A\n"
	"[profile role]\nrole_arn=r\n"
	"[profile mfa]\nrole_arn=r\nsource_profile=half\n"
	"mfa_serial=m\n"
	"[profile sso]\nsso_session=s\n"
	"[profile lost]\nrole_arn=r\nsource_profile=gone\n"
	"[profile self]\nrole_arn=r\nsource_profile=self\n"
	"[profile loop]\nrole_arn=r\nsource_profile=loop2\n"
	"[profile loop2]\nrole_arn=r\nsource_profile=loop\n"
	"[profile odd]\nrole_arn=r\ncredential_source=Moon\n"
	"[profile env]\nrole_arn=r\n"
	"credential_source=Environment\n"
	"[profile token]\nrole_arn=r\n"
	"web_identity_token_file=/no/such/token\n"
	"[profile space]\naws_access_key_id=A\n"
	"aws_secret_access_key=HUSH HUSH\n";

static void a_profile_that_cannot_be_used_says_why(void)
{
	static const struct {
		const char *name, *says;
	} cases[] = {
		{"half", "no aws_secret_access_key"},
		{"role", "source_profile"},
		{"mfa", "mfa_serial"},
		{"sso", "export-credentials --profile sso"},
		{"lost", "[gone] gives no credentials"},
		{"self", "[self] gives no credentials"},
		{"loop", "in a row"},
		{"odd", "credential_source = Moon"},
		{"env", "credential_source = Environment"},
		{"token", "/no/such/token"},
		{"space", "spaces or control characters"},
		{"absent", "no profile [absent]"},
	};
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/config", unusable);
	for (size_t i = 0; i < VF_N(cases); i++) {
		CU_ASSERT_EQUAL(load(cases[i].name, &c), -EACCES);
		CU_ASSERT(aws_env_said(&e, cases[i].says));
		CU_ASSERT_PTR_NULL(c.access_key);
	}
	aws_env_restore(&e);
}

static void a_web_identity_that_fails_is_not_passed_over(void)
{
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/credentials",
		      "[default]\naws_access_key_id=D\n"
		      "aws_secret_access_key=E\n");
	setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/token", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "AWS_ROLE_ARN"));
	setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
	CU_ASSERT_EQUAL(load(NULL, &c), -EACCES);
	CU_ASSERT(aws_env_said(&e, "/no/such/token"));
	CU_ASSERT_EQUAL(load("default", &c), 0);
	vf_credentials_fini(&c);
	aws_env_restore(&e);
}

/* ---- answers ------------------------------------------------------------------ */

static void times_are_understood(void)
{
	static const struct {
		const char *text;
		int64_t s; /* -1: refused */
	} cases[] = {
		{"1970-01-01T00:00:10Z", 10},
		{"2001-09-09T01:46:40.123Z", 1000000000},
		{"2001-09-09T03:46:40+02:00", 1000000000},
		{"2001-09-08T21:16:40-0430", 1000000000},
		{"2001-09-09T01:46:40", -1},
		{"2001-09-09", -1},
		{"2001-09-09T01:46:40Zx", -1},
		{"2001-09-09T01:46:40+", -1},
		{"2001-09-09T01:46:40+02:00x", -1},
		{"soon", -1},
		{"", -1},
	};

	for (size_t i = 0; i < VF_N(cases); i++) {
		int64_t s = -1;
		int err = vf_credentials_time(cases[i].text, &s);
		CU_ASSERT_EQUAL(err, cases[i].s < 0 ? -EINVAL : 0);
		CU_ASSERT_EQUAL(s, cases[i].s);
	}
}

static bool parses(const char *text, enum vf_credential_dialect d)
{
	struct vf_credentials c = {0};
	VF_AUTO_FREE char *exact = strndup(text, strlen(text));
	const char *why;
	int err = vf_credentials_parse(exact, strlen(text), d, &c, &why);

	CU_ASSERT((err == 0) == (why == NULL));
	vf_credentials_fini(&c);
	return !err;
}

#define KEYS "\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"B\""

static void answers_are_checked(void)
{
	CU_ASSERT(parses("{" KEYS "}", VF_CREDENTIALS_SERVICE));
	CU_ASSERT(parses("{\"Version\":1," KEYS "}", VF_CREDENTIALS_PROCESS));
	CU_ASSERT(!parses("{" KEYS "}", VF_CREDENTIALS_PROCESS));
	CU_ASSERT(!parses("{\"Version\":2," KEYS "}", VF_CREDENTIALS_PROCESS));
	CU_ASSERT(!parses("{" KEYS ",\"Expiration\":\"soon\"}",
			  VF_CREDENTIALS_SERVICE));
	CU_ASSERT(!parses("{\"AccessKeyId\":\"A\"}", VF_CREDENTIALS_SERVICE));
	CU_ASSERT(!parses("{\"AccessKeyId\":1,\"SecretAccessKey\":\"\"}",
			  VF_CREDENTIALS_SERVICE));
	CU_ASSERT(!parses("[1]", VF_CREDENTIALS_SERVICE));
	CU_ASSERT(!parses("", VF_CREDENTIALS_SERVICE));
	CU_ASSERT(!parses("{" KEYS, VF_CREDENTIALS_SERVICE));
}

static CU_TestInfo tests[] = {
	{"the environment wins", the_environment_wins},
	{"profiles come from both files", profiles_come_from_both_files},
	{"none is said in one line", none_is_said_in_one_line},
	{"a profile that cannot be used says why",
	 a_profile_that_cannot_be_used_says_why},
	{"a web identity that fails is not passed over",
	 a_web_identity_that_fails_is_not_passed_over},
	{"times are understood", times_are_understood},
	{"answers are checked", answers_are_checked},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credentials", tests);
