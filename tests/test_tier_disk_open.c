/* The disk tier is opened: which folders and options are refused. */
#include "tests/disk_lab.h"

static int try_open(const char *dir, uint64_t size, uint32_t block_len,
		    const char *policy)
{
	struct vf_disk_options o = {.dir = dir,
				    .size = size,
				    .block_len = block_len,
				    .policy = policy};
	struct vf_disk *d = NULL;
	int err = vf_disk_open(&o, &d);

	vf_disk_close(d);
	return err;
}

static void folders_of_others_are_refused(void)
{
	const char *dir = vf_test_dir();
	char a[300], b[300];
	struct vf_disk *d;

	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	CU_ASSERT_EQUAL(mkdir(a, 0755), 0);
	CU_ASSERT_EQUAL(chmod(a, 0755), 0);
	CU_ASSERT_EQUAL(try_open(a, 16 << 20, LAB_BLOCK, NULL), -EACCES);
	CU_ASSERT_EQUAL(chmod(a, 0700), 0);
	CU_ASSERT_EQUAL(symlink(a, b), 0);
	CU_ASSERT_EQUAL(try_open(b, 16 << 20, LAB_BLOCK, NULL), -EACCES);
	CU_ASSERT_EQUAL(unlink(b), 0);
	d = lab_open(a, 16 << 20);
	CU_ASSERT_EQUAL(try_open(a, 16 << 20, LAB_BLOCK, NULL), -EBUSY);
	vf_disk_close(d);
	snprintf(b, sizeof(b), "%s/a/data", dir);
	CU_ASSERT_EQUAL(rmdir(b), 0);
	CU_ASSERT_EQUAL(symlink("/tmp", b), 0);
	CU_ASSERT_EQUAL(try_open(a, 16 << 20, LAB_BLOCK, NULL), -EACCES);
}

static void options_that_cannot_be_are_refused(void)
{
	const char *dir = vf_test_dir();

	CU_ASSERT_EQUAL(try_open(dir, 1 << 20, LAB_BLOCK, NULL), -EINVAL);
	CU_ASSERT_EQUAL(try_open(dir, 16 << 20, 1000, NULL), -EINVAL);
	CU_ASSERT_EQUAL(try_open(dir, 16 << 20, 0, NULL), -EINVAL);
	CU_ASSERT_EQUAL(try_open(dir, 16 << 20, 4 << 20, NULL), -EINVAL);
	CU_ASSERT_EQUAL(try_open(dir, 16 << 20, LAB_BLOCK, "none"), -EINVAL);
	CU_ASSERT_EQUAL(try_open(dir, 16 << 20, LAB_BLOCK, "lru"), 0);
}

static CU_TestInfo tests[] = {
	{"folders of others are refused, one program at a time",
	 folders_of_others_are_refused},
	{"options that cannot be are refused",
	 options_that_cannot_be_are_refused},
	CU_TEST_INFO_NULL};

VF_SUITE("store/tier_disk_open", tests);
