/*
 * credential_process: what it prints, how it ends, and what it must not do.
 */
#include "store/credentials_impl.h"
#include "tests/aws_env.h"

#include <fcntl.h>

static int run(const char *command, struct vf_credentials *c)
{
	*c = (struct vf_credentials){0};
	return vf_credentials_from_process(command, "p", NULL, c);
}

#define PRINT                                                                  \
	"echo '{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":"      \
	"\"HUSH\",\"SessionToken\":\"T\","                                     \
	"\"Expiration\":\"2001-09-09T01:46:40Z\"}'"

static void its_json_is_taken(void)
{
	struct vf_credentials c;

	CU_ASSERT_EQUAL(run(PRINT, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "A"));
	CU_ASSERT(aws_equal(c.secret_key, "HUSH"));
	CU_ASSERT(aws_equal(c.session_token, "T"));
	CU_ASSERT_EQUAL(c.expires_s, 1000000000);
	vf_credentials_fini(&c);
}

static void a_profile_names_it(void)
{
	const struct vf_credential_options opt = {.profile = "tool"};
	struct vf_credentials c;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/config",
		      "[profile tool]\nregion=eu-west-9\n"
		      "credential_process = " PRINT "\n");
	CU_ASSERT_EQUAL(vf_credentials_load(&opt, &c), 0);
	CU_ASSERT(aws_equal(c.access_key, "A"));
	CU_ASSERT(aws_equal(c.region, "eu-west-9"));
	vf_credentials_fini(&c);
	aws_env_restore(&e);
}

static void failures_are_told_without_its_output(void)
{
	static const struct {
		const char *command, *says;
	} cases[] = {
		{PRINT "; exit 3", "status 3"},
		{PRINT "; kill -9 $$", "signal 9"},
		{"no-such-program-here 2>/dev/null", "status 127"},
		{"echo HUSH", "no JSON"},
		{"true", "no JSON"},
		{"echo '{\"AccessKeyId\":\"HUSH\","
		 "\"SecretAccessKey\":\"HUSH\"}'",
		 "Version"},
		{"head -c 70000 /dev/zero; sleep 30", "more than 65536 bytes"},
	};
	struct aws_env e;

	aws_env_clear(&e);
	for (size_t i = 0; i < VF_N(cases); i++) {
		struct vf_credentials c;
		CU_ASSERT_EQUAL(run(cases[i].command, &c), -EACCES);
		CU_ASSERT(aws_env_said(&e, cases[i].says));
		vf_credentials_fini(&c);
	}
	aws_env_restore(&e);
}

static void what_it_leaves_running_is_not_waited_for(void)
{
	uint64_t start = vf_now_ns();
	struct vf_credentials c;

	CU_ASSERT_EQUAL(run("sleep 60 2>/dev/null & " PRINT, &c), 0);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	vf_credentials_fini(&c);
}

static void it_inherits_no_files_and_no_input(void)
{
	struct vf_credentials c;
	char command[512];
	int fd = open("/dev/null", O_RDONLY); /* not close-on-exec */

	CU_ASSERT(fd > 2);
	snprintf(command, sizeof(command),
		 "test ! -e /proc/self/fd/%d && test -z \"$(cat)\" && " PRINT,
		 fd);
	CU_ASSERT_EQUAL(run(command, &c), 0);
	vf_credentials_fini(&c);
	close(fd);
}

static void *stop_soon(void *arg)
{
	usleep(200000);
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

static void it_is_killed_when_we_end(void)
{
	uint64_t start = vf_now_ns();
	struct vf_credentials c = {0};
	atomic_bool stop = false;
	pthread_t t;

	pthread_create(&t, NULL, stop_soon, &stop);
	CU_ASSERT_EQUAL(vf_credentials_from_process("sleep 60; echo x", "p",
						    &stop, &c),
			-ECANCELED);
	CU_ASSERT(vf_now_ns() - start < VF_TEST_LONG_NS);
	pthread_join(t, NULL);
	vf_credentials_fini(&c);
}

static CU_TestInfo tests[] = {
	{"its JSON is taken", its_json_is_taken},
	{"a profile names it", a_profile_names_it},
	{"failures are told without its output",
	 failures_are_told_without_its_output},
	{"what it leaves running is not waited for",
	 what_it_leaves_running_is_not_waited_for},
	{"it inherits no files and no input",
	 it_inherits_no_files_and_no_input},
	{"it is killed when we end", it_is_killed_when_we_end},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/credentials_process", tests);
