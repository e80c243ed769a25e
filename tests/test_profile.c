/*
 * The two files of profiles, as people write them.
 */
#include "store/profile.h"
#include "tests/aws_env.h"

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
	VF_AUTO_FREE char *v = vf_profile_find(exact, sizeof(ini) - 1, section,
					       name, &section_there);
	return aws_equal(v, want) && section_there == there;
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
		free(vf_profile_find(exact, n, "last", "region", &there));
	}
}

static void keys_come_all_from_one_section(void)
{
	struct vf_profile p;
	struct aws_env e;

	aws_env_clear(&e);
	aws_env_write(&e, ".aws/credentials",
		      "[default]\naws_access_key_id=A\n"
		      "aws_secret_access_key=B\n");
	aws_env_write(&e, ".aws/config",
		      "[default]\naws_access_key_id=C\n"
		      "aws_secret_access_key=D\naws_session_token=E\n"
		      "region=r\n");
	vf_profile_read("default", &p);
	CU_ASSERT(p.there);
	CU_ASSERT(aws_equal(p.value[VF_PROFILE_ACCESS_KEY], "A"));
	CU_ASSERT(aws_equal(p.value[VF_PROFILE_SECRET_KEY], "B"));
	CU_ASSERT_PTR_NULL(p.value[VF_PROFILE_SESSION_TOKEN]);
	CU_ASSERT(aws_equal(p.value[VF_PROFILE_REGION], "r"));
	vf_profile_fini(&p);
	vf_profile_read("none", &p);
	CU_ASSERT(!p.there);
	vf_profile_fini(&p);
	aws_env_restore(&e);
}

static void the_stamp_changes_with_either_file(void)
{
	struct aws_env e;
	uint64_t none, first, second;

	aws_env_clear(&e);
	none = vf_profile_stamp();
	aws_env_write(&e, ".aws/config", "[default]\n");
	first = vf_profile_stamp();
	CU_ASSERT_EQUAL(first, vf_profile_stamp());
	aws_env_write(&e, ".aws/credentials", "[default]\n");
	second = vf_profile_stamp();
	CU_ASSERT(none != first && first != second);
	aws_env_write(&e, ".aws/credentials", "[defaulx]\n");
	CU_ASSERT_NOT_EQUAL(second, vf_profile_stamp());
	aws_env_restore(&e);
}

static CU_TestInfo tests[] = {
	{"files are read as AWS does", files_are_read_as_aws_does},
	{"every prefix of a file is read safely",
	 every_prefix_of_a_file_is_read_safely},
	{"keys come all from one section", keys_come_all_from_one_section},
	{"the stamp changes with either file",
	 the_stamp_changes_with_either_file},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/profile", tests);
