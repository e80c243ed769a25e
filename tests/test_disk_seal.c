/*
 * What vouches for the disk tier's index between two openings.  The file
 * under seal is any file here.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/disk_seal.h"
#include "tests/test.h"

static void path_in(const char *dir, const char *name, char out[256])
{
	snprintf(out, 256, "%s/%s", dir, name);
}

static const char *new_dir(void)
{
	const char *dir = vf_test_dir();
	char path[256];

	path_in(dir, "data.mdb", path);
	VF_AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CU_ASSERT_EQUAL_FATAL(vf_write_all(fd, "twelve bytes", 12), 0);
	return dir;
}

/* An opening, and an end of which nobody was told. */
static int open_and_die(const char *dir, bool at_work)
{
	int err = vf_disk_seal_break(dir);
	volatile uint8_t *mark = vf_disk_seal_mark(dir);

	CU_ASSERT_PTR_NOT_NULL_FATAL(mark);
	CU_ASSERT_EQUAL(*mark, 1);
	*mark = at_work;
	vf_disk_seal_unmark(mark);
	return err;
}

static void ends_at_other_moments_prove_nothing(void)
{
	const char *dir = new_dir();

	for (unsigned i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(open_and_die(dir, false), 0);
}

static void ends_at_work_in_a_row_are_damage(void)
{
	const char *dir = new_dir();

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			CU_ASSERT_EQUAL(open_and_die(dir, true),
					round && !i ? -EBADMSG : 0);
	}
	dir = new_dir();
	for (unsigned i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(open_and_die(dir, i % 3 != 0), 0);
}

static void a_proof_begins_the_count_anew(void)
{
	const char *dir = new_dir();

	for (unsigned i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(open_and_die(dir, true), 0);
		if (i % 2)
			vf_disk_seal_prove(dir);
	}
}

static void a_lost_mark_counts_as_work(void)
{
	const char *dir = new_dir();
	char path[256];

	path_in(dir, "seal", path);
	for (unsigned i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(open_and_die(dir, false), i < 3 ? 0 : -EBADMSG);
		CU_ASSERT_EQUAL(truncate(path, 32), 0);
	}
}

static void the_seal_vouches_for_every_byte(void)
{
	const char *dir = new_dir();
	char path[256];

	path_in(dir, "data.mdb", path);
	vf_disk_seal_set(dir);
	CU_ASSERT_EQUAL(vf_disk_seal_break(dir), 0);
	vf_disk_seal_set(dir);
	VF_AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(pwrite(fd, "T", 1, 0), 1);
	CU_ASSERT_EQUAL(vf_disk_seal_break(dir), -EBADMSG);
	vf_disk_seal_remove(dir);
	CU_ASSERT_EQUAL(vf_disk_seal_break(dir), 0);
}

static CU_TestInfo tests[] = {
	{"ends at other moments prove nothing",
	 ends_at_other_moments_prove_nothing},
	{"ends at work, in a row, are damage",
	 ends_at_work_in_a_row_are_damage},
	{"a proof begins the count anew", a_proof_begins_the_count_anew},
	{"a lost mark counts as work", a_lost_mark_counts_as_work},
	{"the seal vouches for every byte", the_seal_vouches_for_every_byte},
	CU_TEST_INFO_NULL};

VF_SUITE("store/disk_seal", tests);
