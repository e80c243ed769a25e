/*
 * Listing a file bucket: order, folders, prefixes, pages.
 */
#include "tests/rig.h"

#include <sys/stat.h>

static struct vf_bucket *listed_bucket(void)
{
	static const char *const keys[] = {"a0",       "a/b",	"a-b", "a/b/",
					   "a",	       "b/1/x", "b/2", "b/10",
					   "\xc3\xa4", "Z"};
	struct vf_bucket *b = new_bucket();

	for (size_t i = 0; i < VF_N(keys); i++)
		if (strcmp(keys[i], "a") && strcmp(keys[i], "a/b/"))
			put(b, keys[i], "12");
	return b;
}

static void keys_come_in_byte_order(void)
{
	struct vf_bucket *b = listed_bucket();

	CU_ASSERT_STRING_EQUAL(
		list(b, "", false, NULL),
		"Z=2|a-b=2|a/b=2|a0=2|b/1/x=2|b/10=2|b/2=2|\xc3\xa4=2|");
	vf_bucket_close(b);
}

static void folders_group_at_the_next_slash(void)
{
	struct vf_bucket *b = listed_bucket();

	CU_ASSERT_STRING_EQUAL(list(b, "", true, NULL),
			       "Z=2|a-b=2|a/|a0=2|b/|\xc3\xa4=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "b/", true, NULL), "b/1/|b/10=2|b/2=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "b", true, NULL), "b/|");
	CU_ASSERT_STRING_EQUAL(list(b, "b/1", true, NULL), "b/1/|b/10=2|");
	vf_bucket_close(b);
}

static void prefixes_end_anywhere(void)
{
	struct vf_bucket *b = listed_bucket();

	CU_ASSERT_STRING_EQUAL(list(b, "a", false, NULL), "a-b=2|a/b=2|a0=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "a/", false, NULL), "a/b=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "a/b", false, NULL), "a/b=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "a/b/", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "b/1", false, NULL), "b/1/x=2|b/10=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "b/1/", false, NULL), "b/1/x=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "none", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "none/x", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "\xc3", false, NULL), "\xc3\xa4=2|");
	vf_bucket_close(b);
}

static void listing_goes_on_after_any_key(void)
{
	struct vf_bucket *b = listed_bucket();

	CU_ASSERT_STRING_EQUAL(list(b, "", false, "a/b"),
			       "a0=2|b/1/x=2|b/10=2|b/2=2|\xc3\xa4=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "", false, "a/a"),
			       "a/b=2|a0=2|b/1/x=2|b/10=2|b/2=2|\xc3\xa4=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "", false, "b/1/"),
			       "b/1/x=2|b/10=2|b/2=2|\xc3\xa4=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "b/", false, "b/1/x"), "b/10=2|b/2=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "b/", false, "zzz"), "");
	CU_ASSERT_STRING_EQUAL(list(b, "b/", false, "a"),
			       "b/1/x=2|b/10=2|b/2=2|");
	CU_ASSERT_STRING_EQUAL(list(b, "", true, "a/"), "a0=2|b/|\xc3\xa4=2|");
	vf_bucket_close(b);
}

/* Following start_after from each key to the next visits the same keys. */
static void pages_join_without_gap(void)
{
	struct vf_bucket *b = listed_bucket();
	char after[64] = "", joined[4096] = "";

	for (;;) {
		struct listing one = {.stop_after = 1};
		int rc = vf_bucket_list(b, "", false, after, note, &one);
		if (!rc)
			break;
		CU_ASSERT_EQUAL(rc, 7);
		strcat(joined, one.text);
		*strchr(one.text, '=') = '\0';
		strcpy(after, one.text);
	}
	CU_ASSERT_STRING_EQUAL(joined, list(b, "", false, NULL));
	vf_bucket_close(b);
}

static void a_listing_of_nothing_is_empty(void)
{
	struct vf_bucket *b = new_bucket();
	char path[256];

	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "");
	snprintf(path, sizeof(path), "%s/empty", vf_bucket_dir(b));
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/empty/folder", vf_bucket_dir(b));
	mkdir(path, 0700);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "", true, NULL), "");
	vf_bucket_close(b);
}

/* Prefixes are bytes of keys, not paths. */
static void prefixes_do_not_climb(void)
{
	static const char *const bad[] = {"../", "..",	  "./",	 "a/../",
					  "/",	 "//",	  "a//", "b/./",
					  ".",	 "../../"};
	struct vf_bucket *b = listed_bucket();

	for (size_t i = 0; i < VF_N(bad); i++) {
		CU_ASSERT_STRING_EQUAL(list(b, bad[i], false, NULL), "");
		CU_ASSERT_STRING_EQUAL(list(b, bad[i], true, NULL), "");
	}
	vf_bucket_close(b);
}

static CU_TestInfo tests[] = {
	{"keys come in byte order", keys_come_in_byte_order},
	{"folders group at the next slash", folders_group_at_the_next_slash},
	{"prefixes end anywhere", prefixes_end_anywhere},
	{"listing goes on after any key", listing_goes_on_after_any_key},
	{"pages join without gap", pages_join_without_gap},
	{"a listing of nothing is empty", a_listing_of_nothing_is_empty},
	{"prefixes do not climb", prefixes_do_not_climb},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/bucket_list", tests);
