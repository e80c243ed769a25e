/*
 * Who we are: the environment, profiles, and files as people write them.
 */
#include "store/credentials.h"
#include "tests/test.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *const variables[] = {
	"AWS_ACCESS_KEY_ID",   "AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN",   "AWS_PROFILE",
	"AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONFIG_FILE",     "HOME",
};

struct saved {
	char *value[VF_N(variables)];
};

/* An environment with nothing but an empty HOME. */
static void save(struct saved *s, const char *home)
{
	for (size_t i = 0; i < VF_N(variables); i++) {
		const char *v = getenv(variables[i]);
		s->value[i] = v ? strdup(v) : NULL;
		unsetenv(variables[i]);
	}
	setenv("HOME", home, 1);
}

static void restore(struct saved *s)
{
	for (size_t i = 0; i < VF_N(variables); i++) {
		unsetenv(variables[i]);
		if (s->value[i])
			setenv(variables[i], s->value[i], 1);
		free(s->value[i]);
	}
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/.aws", dir);
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/.aws/%s", dir, name);
	FILE *f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
}

static bool equal(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static const char ini[] = "top = 0\n"
			  "# comment\n"
			  "[default]\r\n"
			  "aws_access_key_id=AKIA\r\n"
			  "  aws_secret_access_key = indented\n"
			  "\taws_secret_access_key = indented\n"
			  "; other = comment\n"
			  "aws_secret_access_key = a/b+c= \t\n"
			  "aws_secret_access_key = again\n"
			  "empty =\n"
			  "[ profile \t two ]\n"
			  "region = eu-west-1\n"
			  "[broken\n"
			  "region = wrong\n"
			  "[last]\n"
			  "region = x";

static bool finds(const char *section, const char *name, const char *want,
		  bool there)
{
	bool section_there;
	VF_AUTO_FREE char *exact = malloc(sizeof(ini) - 1);
	memcpy(exact, ini, sizeof(ini) - 1);
	VF_AUTO_FREE char *v = vf_credentials_find(
		exact, sizeof(ini) - 1, section, name, &section_there);
	return equal(v, want) && section_there == there;
}

static void files_are_read_as_aws_does(void)
{
	CU_ASSERT(finds("default", "aws_access_key_id", "AKIA", true));
	CU_ASSERT(finds("default", "aws_secret_access_key", "a/b+c=", true));
	CU_ASSERT(finds("default", "empty", NULL, true));
	CU_ASSERT(finds("default", "other", NULL, true));
	CU_ASSERT(finds("default", "region", NULL, true));
	CU_ASSERT(finds("profile two", "region", "eu-west-1", true));
	CU_ASSERT(finds("last", "region", "x", true));
	CU_ASSERT(finds("broken", "region", NULL, false));
	CU_ASSERT(finds("", "top", NULL, false));
}

static void every_prefix_of_a_file_is_read_safely(void)
{
	for (size_t n = 0; n < sizeof(ini); n++) {
		VF_AUTO_FREE char *exact = malloc(n);
		bool there;
		memcpy(exact, ini, n);
		free(vf_credentials_find(exact, n, "last", "region", &there));
	}
}

static void the_environment_wins(void)
{
	const char *home = vf_test_dir();
	struct vf_credentials c;
	struct saved s;

	save(&s, home);
	write_file(home, "credentials",
		   "[default]\naws_access_key_id=F\naws_secret_access_key=G\n"
		   "aws_session_token=old\n");
	write_file(home, "config", "[default]\nregion=eu-north-1\n");
	setenv("AWS_ACCESS_KEY_ID", "A", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "B", 1);
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), 0);
	CU_ASSERT(equal(c.access_key, "A") && equal(c.secret_key, "B"));
	/* A token of other keys would spoil them. */
	CU_ASSERT_PTR_NULL(c.session_token);
	CU_ASSERT(equal(c.region, "eu-north-1"));
	vf_credentials_fini(&c);
	setenv("AWS_SESSION_TOKEN", "T", 1);
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), 0);
	CU_ASSERT(equal(c.session_token, "T"));
	vf_credentials_fini(&c);
	CU_ASSERT_EQUAL(vf_credentials_load("default", &c), 0);
	CU_ASSERT(equal(c.access_key, "F"));
	vf_credentials_fini(&c);
	restore(&s);
}

static void profiles_come_from_both_files(void)
{
	const char *home = vf_test_dir();
	struct vf_credentials c;
	struct saved s;

	save(&s, home);
	write_file(home, "credentials",
		   "[default]\naws_access_key_id=D\naws_secret_access_key=E\n"
		   "[work]\naws_access_key_id=W\naws_secret_access_key=X\n");
	write_file(home, "config",
		   "[default]\nregion=us-west-2\n[profile work]\n"
		   "region=eu-west-3\nendpoint_url=http://h:1\n"
		   "[profile whole]\naws_access_key_id=P\n"
		   "aws_secret_access_key=Q\n");
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), 0);
	CU_ASSERT(equal(c.access_key, "D") && equal(c.region, "us-west-2"));
	vf_credentials_fini(&c);
	setenv("AWS_PROFILE", "work", 1);
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), 0);
	CU_ASSERT(equal(c.access_key, "W") && equal(c.secret_key, "X"));
	CU_ASSERT(equal(c.region, "eu-west-3"));
	CU_ASSERT(equal(c.endpoint, "http://h:1"));
	vf_credentials_fini(&c);
	CU_ASSERT_EQUAL(vf_credentials_load("whole", &c), 0);
	CU_ASSERT(equal(c.access_key, "P") && equal(c.secret_key, "Q"));
	CU_ASSERT_PTR_NULL(c.region);
	vf_credentials_fini(&c);
	restore(&s);
}

static char last_line[512];

static void keep_line(void *arg, enum vf_level level, const char *line)
{
	++*(int *)arg;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void drop_line(void *arg, enum vf_level level, const char *line)
{
}

static void none_is_said_in_one_line(void)
{
	struct vf_credentials c;
	struct saved s;
	int n = 0;

	save(&s, vf_test_dir());
	vf_log_set(keep_line, &n, VF_WARN);
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), -EACCES);
	CU_ASSERT_EQUAL(n, 1);
	CU_ASSERT(strstr(last_line, "credentials") != NULL);
	CU_ASSERT(strstr(last_line, "AWS_ACCESS_KEY_ID") != NULL);
	CU_ASSERT_EQUAL(vf_credentials_load("nobody", &c), -EACCES);
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT(strstr(last_line, "nobody") != NULL);
	/* Half of a pair is none. */
	setenv("AWS_ACCESS_KEY_ID", "A", 1);
	CU_ASSERT_EQUAL(vf_credentials_load(NULL, &c), -EACCES);
	CU_ASSERT_EQUAL(n, 3);
	vf_log_set(drop_line, NULL, VF_ERROR);
	restore(&s);
}

static CU_TestInfo tests[] = {
	{"files are read as AWS does", files_are_read_as_aws_does},
	{"every prefix of a file is read safely",
	 every_prefix_of_a_file_is_read_safely},
	{"the environment wins", the_environment_wins},
	{"profiles come from both files", profiles_come_from_both_files},
	{"none is said in one line", none_is_said_in_one_line},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credentials", tests);
