/* Data files of the disk tier that are handed out: nothing of them leaves. */
#include "tests/disk_lab.h"

#include <pthread.h>

enum { SIZE = 40 * LAB_BLOCK - 1000, TIER = 6 << 20, OTHERS = 10 };

static struct vf_disk_file *write_whole(struct vf_disk *d, unsigned object,
					uint64_t size)
{
	struct vf_disk_file *f = lab_file(d, object, size);

	for (uint64_t k = 0; k < f->n_blocks; k++)
		lab_write_sure(d, f, object, k);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	return f;
}

/* Twice what the tier holds. */
static void press(struct vf_disk *d)
{
	for (unsigned i = 0; i < OTHERS; i++) {
		struct vf_disk_file *f =
			lab_file(d, 1000 + i, TIER / OTHERS * 2);
		for (uint64_t k = 0; k < f->n_blocks; k++)
			lab_write_sure(d, f, 1000 + i, k);
		vf_disk_file_put(f);
	}
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
}

static uint64_t n_valid(struct vf_disk_file *f)
{
	struct vf_disk_file_info info;

	vf_disk_file_info(f, &info);
	return info.n_valid;
}

static uint64_t held_bytes(struct vf_disk *d)
{
	struct vf_disk_stats s;

	vf_disk_stats(d, &s);
	return s.held;
}

/* The bytes behind @fd are the object's. */
static bool is_right(int fd, unsigned object, uint64_t size)
{
	uint8_t want[LAB_BLOCK], got[LAB_BLOCK];

	for (uint64_t off = 0; off < size; off += LAB_BLOCK) {
		size_t len = VF_MIN((uint64_t)LAB_BLOCK, size - off);
		lab_fill(object, off / LAB_BLOCK, want, len);
		if (pread(fd, got, len, (off_t)off) != (ssize_t)len ||
		    memcmp(got, want, len))
			return false;
	}
	return true;
}

static void only_whole_files_are_handed_out(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), TIER);
	struct vf_disk_file *f = lab_file(d, 1, SIZE);
	struct stat st;
	int fd = 7;

	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), -ENOENT);
	for (uint64_t k = 0; k + 1 < f->n_blocks; k++)
		lab_write_sure(d, f, 1, k);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), -ENOENT);
	CU_ASSERT_EQUAL(fd, -1);
	lab_write_sure(d, f, 1, f->n_blocks - 1);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, SIZE);
	CU_ASSERT(is_right(fd, 1, SIZE));
	CU_ASSERT(held_bytes(d) >= SIZE);
	close(fd);
	vf_disk_file_unhold(f);
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void nothing_of_it_leaves_by_replacement(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	int fd, again;

	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &again), 0);
	press(d);
	CU_ASSERT_EQUAL(n_valid(f), f->n_blocks);
	vf_disk_file_unhold(f);
	close(again);
	press(d);
	CU_ASSERT_EQUAL(n_valid(f), f->n_blocks);
	CU_ASSERT(is_right(fd, 1, SIZE));
	close(fd);
	vf_disk_file_unhold(f);
	press(d);
	CU_ASSERT(n_valid(f) < f->n_blocks);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), -ENOENT);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void dropped_it_leaves_with_the_last_hold(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct stat st;
	char path[256];
	int fd, again;

	lab_path(dir, 1, path);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	vf_disk_drop(f, 0, f->n_blocks);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &again), 0);
	close(again);
	vf_disk_file_unhold(f);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT_EQUAL(n_valid(f), f->n_blocks);
	CU_ASSERT(is_right(fd, 1, SIZE));
	close(fd);
	vf_disk_file_unhold(f);
	CU_ASSERT_EQUAL(n_valid(f), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT(stat(path, &st));
	vf_disk_file_put(f);
	f = write_whole(d, 1, SIZE);
	CU_ASSERT_EQUAL(lab_check(f, 1, 3), 1);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void unpinned_it_waits_for_the_last_hold(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	int fd;

	CU_ASSERT_EQUAL(vf_disk_pin(f, 0, f->n_blocks), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	vf_disk_unpin(f, 0, 7);
	vf_disk_unpin(f, 7, f->n_blocks);
	CU_ASSERT(held_bytes(d) >= SIZE);
	vf_disk_drop(f, 3, 2);
	CU_ASSERT_EQUAL(vf_disk_pin(f, 3, 1), 0);
	press(d);
	CU_ASSERT_EQUAL(n_valid(f), f->n_blocks);
	CU_ASSERT(is_right(fd, 1, SIZE));
	close(fd);
	vf_disk_file_unhold(f);
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	CU_ASSERT(vf_disk_has(f, 3));
	CU_ASSERT(!vf_disk_has(f, 4));
	press(d);
	CU_ASSERT(vf_disk_has(f, 3));
	CU_ASSERT(n_valid(f) < f->n_blocks / 2);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void damage_is_found_before_it_is_handed_out(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct vf_disk_stats s;
	char path[256];
	int fd;

	lab_path(dir, 1, path);
	lab_flip(path, 5 * LAB_BLOCK + 17);
	lab_flip(path, SIZE - 1);
	CU_ASSERT_EQUAL(vf_disk_pin(f, 5, 1), 0);
	for (unsigned i = 0; i < 2; i++) /* all need not be found at once */
		CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), -ENOENT);
	CU_ASSERT_EQUAL(fd, -1);
	CU_ASSERT(!vf_disk_has(f, 5));
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	CU_ASSERT_EQUAL(lab_check(f, 1, f->n_blocks - 1), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	vf_disk_stats(d, &s);
	CU_ASSERT_EQUAL(s.n_damaged, 2);
	vf_disk_file_put(write_whole(d, 1, SIZE)); /* fetched again */
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT(is_right(fd, 1, SIZE));
	close(fd);
	vf_disk_file_unhold(f);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void it_is_read_once_only(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct vf_disk_stats s;
	int fd;

	for (uint64_t k = 0; k < 10; k++)
		CU_ASSERT_EQUAL(lab_check(f, 1, k), 1);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
		close(fd);
		vf_disk_file_unhold(f);
		vf_disk_stats(d, &s);
		CU_ASSERT_EQUAL(s.n_read, f->n_blocks);
	}
	vf_disk_file_put(f);
	vf_disk_close(d);
	d = lab_open(dir, TIER); /* but after a restart again */
	f = lab_file(d, 1, SIZE);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	close(fd);
	vf_disk_file_unhold(f);
	vf_disk_stats(d, &s);
	CU_ASSERT_EQUAL(s.n_read, f->n_blocks);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void a_page_read_alone_is_not_the_block(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct lab_wait w;
	uint8_t page[100];
	char path[256];
	int fd;

	for (uint64_t k = 0; k < f->n_blocks; k++) {
		atomic_init(&w.err, 1);
		vf_disk_read_part(f, &(struct vf_disk_part){k * LAB_BLOCK, 100,
							    page, 0, lab_done,
							    &w});
		while (atomic_load(&w.err) == 1)
			usleep(20);
		CU_ASSERT_EQUAL(atomic_load(&w.err), 0);
	}
	lab_path(dir, 1, path);
	lab_flip(path, 3 * LAB_BLOCK + VF_DISK_PAGE + 1);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), -ENOENT);
	CU_ASSERT(!vf_disk_has(f, 3));
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void damage_while_held_makes_no_hole(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct stat before, after;
	char path[256];
	int fd, again;

	lab_path(dir, 1, path);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT_EQUAL(fstat(fd, &before), 0);
	lab_flip(path, 9 * LAB_BLOCK);
	CU_ASSERT_EQUAL(lab_check(f, 1, 9), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &again), -ENOENT);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT_EQUAL(fstat(fd, &after), 0);
	CU_ASSERT_EQUAL(before.st_blocks, after.st_blocks);
	close(fd);
	vf_disk_file_unhold(f);
	CU_ASSERT(!vf_disk_has(f, 9));
	CU_ASSERT_EQUAL(n_valid(f), f->n_blocks - 1);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void holds_beyond_their_share_are_refused(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), TIER);
	struct vf_disk_file *a = write_whole(d, 1, TIER / 3);
	struct vf_disk_file *b = write_whole(d, 2, TIER / 3);
	int fd;

	CU_ASSERT_EQUAL(vf_disk_file_hold(a, &fd), 0);
	close(fd);
	CU_ASSERT_EQUAL(vf_disk_file_hold(b, &fd), -ENOSPC);
	CU_ASSERT_EQUAL(vf_disk_pin(b, 0, b->n_blocks), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(b, &fd), 0);
	close(fd);
	vf_disk_file_unhold(a);
	vf_disk_file_unhold(b);
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	vf_disk_file_put(a);
	vf_disk_file_put(b);
	vf_disk_close(d);
}

/* As after kill -9: the kernel goes on reading what it was handed out. */
static void readers_from_before_a_restart_keep_their_bytes(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, TIER);
	struct vf_disk_file *f = write_whole(d, 1, SIZE);
	struct vf_disk_file *g = write_whole(d, 2, SIZE);
	int fd, other;

	CU_ASSERT_EQUAL(vf_disk_file_hold(f, &fd), 0);
	CU_ASSERT_EQUAL(vf_disk_file_hold(g, &other), 0);
	close(other); /* this one has no reader any more */
	vf_disk_file_put(f);
	vf_disk_file_put(g);
	vf_disk_close(d);
	d = lab_open(dir, TIER);
	f = lab_file(d, 1, SIZE);
	g = lab_file(d, 2, SIZE);
	CU_ASSERT_EQUAL(n_valid(f), 0);
	CU_ASSERT_EQUAL(n_valid(g), g->n_blocks);
	vf_disk_file_put(write_whole(d, 1, SIZE));
	vf_disk_drop(f, 0, f->n_blocks);
	press(d);
	CU_ASSERT(is_right(fd, 1, SIZE));
	close(fd);
	vf_disk_file_put(f);
	vf_disk_file_put(g);
	vf_disk_close(d);
}

/* ---- all at once -------------------------------------------------------------------- */

struct storm {
	struct vf_disk *disk;
	unsigned seed;
	atomic_uint *n_held, *n_wrong;
};

static void *hold_and_read(void *arg)
{
	struct storm *s = arg;
	uint64_t seed = s->seed;

	/* a slow disk may take long until a file is whole */
	for (unsigned i = 0; i < 60 || (!atomic_load(s->n_held) && i < 100000);
	     i++) {
		unsigned object = vf_test_rand(&seed) % 4;
		struct vf_disk_file *f = lab_file(s->disk, object, SIZE);
		int fd;
		for (uint64_t k = 0; k < f->n_blocks; k++)
			lab_write(f, object, k, 0);
		if (!vf_disk_file_hold(f, &fd)) {
			atomic_fetch_add(s->n_held, 1);
			vf_disk_drop(f, vf_test_rand(&seed) % 40, 5);
			if (!is_right(fd, object, SIZE))
				atomic_fetch_add(s->n_wrong, 1);
			close(fd);
			vf_disk_file_unhold(f);
		}
		if (lab_check(f, object, vf_test_rand(&seed) % 40) < 0)
			atomic_fetch_add(s->n_wrong, 1);
		vf_disk_file_put(f);
	}
	return NULL;
}

static void held_bytes_are_right_in_a_storm(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), 4 << 20);
	atomic_uint n_held = 0, n_wrong = 0;
	struct storm s[4];
	pthread_t t[4];

	for (unsigned i = 0; i < 4; i++) {
		s[i] = (struct storm){d, i, &n_held, &n_wrong};
		pthread_create(&t[i], NULL, hold_and_read, &s[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CU_ASSERT_EQUAL(atomic_load(&n_wrong), 0);
	CU_ASSERT(atomic_load(&n_held) > 0);
	CU_ASSERT_EQUAL(held_bytes(d), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	vf_disk_close(d);
}

static CU_TestInfo tests[] = {
	{"only whole files are handed out", only_whole_files_are_handed_out},
	{"nothing of it leaves by replacement",
	 nothing_of_it_leaves_by_replacement},
	{"dropped, it leaves with the last hold",
	 dropped_it_leaves_with_the_last_hold},
	{"unpinned, it waits for the last hold",
	 unpinned_it_waits_for_the_last_hold},
	{"damage is found before it is handed out",
	 damage_is_found_before_it_is_handed_out},
	{"it is read once only", it_is_read_once_only},
	{"a page read alone is not the block",
	 a_page_read_alone_is_not_the_block},
	{"damage while held makes no hole", damage_while_held_makes_no_hole},
	{"holds beyond their share are refused",
	 holds_beyond_their_share_are_refused},
	{"readers from before a restart keep their bytes",
	 readers_from_before_a_restart_keep_their_bytes},
	{"held bytes are right in a storm", held_bytes_are_right_in_a_storm},
	CU_TEST_INFO_NULL};

VF_SUITE("store/tier_disk_hold", tests);
