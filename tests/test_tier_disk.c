/* The disk tier from outside: what stays, what leaves, what it may take. */
#include "tests/disk_lab.h"

#include <pthread.h>

static void reads_back_what_was_written(void)
{
	static const uint64_t sizes[] = {1,	4095,  4096,   16384, 16385,
					 40000, 65536, 300000, 1};
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 16 << 20);
	struct vf_disk_file *f;
	struct stat st;
	char path[256];

	for (unsigned i = 0; i < VF_N(sizes); i++) {
		f = lab_file(d, i, sizes[i]);
		for (uint64_t n = 0; n < f->n_blocks; n++)
			lab_write(f, i, n, 0);
		CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
		for (uint64_t n = 0; n < f->n_blocks; n++) {
			CU_ASSERT(vf_disk_has(f, n));
			CU_ASSERT_EQUAL(lab_check(f, i, n), 1);
		}
		lab_path(dir, i, path);
		CU_ASSERT_EQUAL(stat(path, &st), 0);
		CU_ASSERT_EQUAL((uint64_t)st.st_size, sizes[i]);
		CU_ASSERT_EQUAL(lab_check(f, i, 0), 1);
		vf_disk_file_put(f);
	}
	vf_disk_close(d);
}

static void what_is_not_there_is_a_miss(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), 16 << 20);
	struct vf_disk_file *f = lab_file(d, 1, 1 << 20);
	struct vf_disk_stats s;

	CU_ASSERT_EQUAL(lab_check(f, 1, 5), 0);
	CU_ASSERT_EQUAL(lab_check(f, 1, 7), 0);
	CU_ASSERT(!vf_disk_has(f, 5));
	CU_ASSERT(!vf_disk_has(f, 1 << 20));
	vf_disk_stats(d, &s);
	CU_ASSERT_EQUAL(s.n_read_miss, 2);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

static void empty_objects_are_fine(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), 16 << 20);
	struct vf_disk_file *f = lab_file(d, 1, 0);

	vf_disk_write(f, 0, "", 0);
	CU_ASSERT(!vf_disk_has(f, 0));
	CU_ASSERT_EQUAL(vf_disk_pin(f, 0, 10), 0);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/* ---- restart --------------------------------------------------------------------- */

enum { OBJECTS = 40, OBJECT_SIZE = 200000 };

static unsigned count_there(struct vf_disk *d, unsigned n_objects,
			    unsigned *n_wrong)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_objects; i++) {
		struct vf_disk_file *f = lab_file(d, i, OBJECT_SIZE + i);
		for (uint64_t k = 0; k < f->n_blocks; k++) {
			int got = lab_check(f, i, k);
			n += got == 1;
			*n_wrong += got < 0;
		}
		vf_disk_file_put(f);
	}
	return n;
}

static unsigned write_objects(struct vf_disk *d, unsigned n_objects)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_objects; i++) {
		struct vf_disk_file *f = lab_file(d, i, OBJECT_SIZE + i);
		for (uint64_t k = 0; k < f->n_blocks; k++, n++)
			lab_write_sure(d, f, i, k);
		vf_disk_file_put(f);
	}
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	return n;
}

static void all_is_there_after_a_restart(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 32 << 20);
	unsigned n = write_objects(d, OBJECTS), n_wrong = 0;
	struct vf_disk_stats before, after;

	vf_disk_stats(d, &before);
	vf_disk_close(d);
	for (unsigned i = 0; i < 3; i++) {
		d = lab_open(dir, 32 << 20);
		vf_disk_stats(d, &after);
		CU_ASSERT(after.used >= before.used - (1 << 20));
		CU_ASSERT_EQUAL(count_there(d, OBJECTS, &n_wrong), n);
		vf_disk_close(d);
	}
	CU_ASSERT_EQUAL(n_wrong, 0);
}

/* Symptom: reads of the tier failed with EAGAIN on some file systems. */
static void data_files_are_opened_to_wait(void)
{
	const char *dir = vf_test_dir();

	for (unsigned i = 0; i < 2; i++) { /* made, then found */
		struct vf_disk *d = lab_open(dir, 16 << 20);
		if (!i)
			write_objects(d, 1);
		struct vf_disk_file *f = lab_file(d, 0, OBJECT_SIZE);
		CU_ASSERT(f->fd >= 0 && !(fcntl(f->fd, F_GETFL) & O_NONBLOCK));
		CU_ASSERT_EQUAL(lab_check(f, 0, 3), 1);
		vf_disk_file_put(f);
		vf_disk_close(d);
	}
}

static void another_block_length_starts_anew(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 32 << 20);
	unsigned n_wrong = 0;

	write_objects(d, 5);
	vf_disk_close(d);
	d = lab_open_as(dir, 32 << 20, 65536);
	CU_ASSERT_EQUAL(count_there(d, 5, &n_wrong), 0);
	CU_ASSERT(write_objects(d, 5) > 0);
	CU_ASSERT(count_there(d, 5, &n_wrong) > 0);
	CU_ASSERT_EQUAL(n_wrong, 0);
	vf_disk_close(d);
}

static void a_smaller_size_is_kept_after_a_restart(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 32 << 20);
	struct vf_disk_file *f;
	unsigned n_wrong = 0;

	write_objects(d, 100);
	vf_disk_close(d);
	d = lab_open(dir, 8 << 20);
	f = lab_file(d, 1000, 1 << 20);
	lab_write(f, 1000, 0, 0);
	usleep(300000);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	vf_disk_file_put(f);
	CU_ASSERT(count_there(d, 100, &n_wrong) > 0);
	CU_ASSERT_EQUAL(n_wrong, 0);
	vf_disk_close(d);
	CU_ASSERT(lab_fits(dir, 8 << 20));
}

/* ---- the limit -------------------------------------------------------------------- */

static void the_limit_holds(void)
{
	const uint64_t size = 8 << 20;
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, size);
	uint64_t seed = 11, most = 0;
	struct vf_disk_stats s;
	unsigned n_wrong = 0;

	/* on a busy disk most are not taken: go on until some must leave */
	vf_disk_stats(d, &s);
	for (unsigned i = 0; i < 3000 || (!s.n_evict && i < 60000); i++) {
		unsigned object = (unsigned)(vf_test_rand(&seed) % 60);
		struct vf_disk_file *f =
			lab_file(d, object, OBJECT_SIZE * (1 + object % 5));
		uint64_t n = vf_test_rand(&seed) % f->n_blocks;
		lab_write(f, object, n, 0);
		n_wrong += lab_check(f, object, n) < 0;
		vf_disk_file_put(f);
		if (i % 50 == 0) {
			usleep(3000);
			most = VF_MAX(most, lab_du(dir));
			vf_disk_stats(d, &s);
		}
	}
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	most = VF_MAX(most, lab_du(dir));
	vf_disk_stats(d, &s);
	CU_ASSERT(most <= size);
	CU_ASSERT(most > size / 2);
	CU_ASSERT(s.used <= s.size);
	CU_ASSERT(s.n_evict > 0);
	CU_ASSERT_EQUAL(n_wrong, 0);
	CU_ASSERT_EQUAL(s.n_damaged, 0);
	vf_disk_close(d);
	CU_ASSERT(lab_fits(dir, size));
}

static void the_limit_holds_for_many_small_objects(void)
{
	const uint64_t size = 5 << 20;
	const char *dir = vf_test_dir();
	uint64_t seed = 12;

	for (unsigned session = 0; session < 2; session++) {
		struct vf_disk *d = lab_open_as(dir, size, 4096);
		for (unsigned i = 0; i < 900; i++) {
			unsigned object = session * 900 + i;
			struct vf_disk_file *f = lab_file(
				d, object, 1 + vf_test_rand(&seed) % 9000);
			for (uint64_t k = 0; k < f->n_blocks; k++)
				lab_write_sure(d, f, object, k);
			vf_disk_file_put(f);
			if (i % 100 == 99)
				CU_ASSERT(lab_fits(dir, size));
		}
		CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
		CU_ASSERT(lab_fits(dir, size));
		CU_ASSERT(lab_du(dir) > size / 2);
		vf_disk_close(d);
	}
}

static void cold_files_leave_oldest_first(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 16 << 20);
	unsigned n_wrong = 0, first = 0, last = 0;
	struct vf_disk_file *f;

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = round * 15; i < round * 15 + 15; i++) {
			f = lab_file(d, i, OBJECT_SIZE + i);
			for (uint64_t k = 0; k < f->n_blocks; k++)
				lab_write_sure(d, f, i, k);
			vf_disk_file_put(f);
		}
		vf_disk_close(d); /* the order of use is that of sessions */
		d = lab_open(dir, 16 << 20);
	}
	f = lab_file(d, 500, 10 << 20);
	for (uint64_t k = 0; k < f->n_blocks; k++)
		lab_write_sure(d, f, 500, k);
	CU_ASSERT_EQUAL(vf_disk_flush(d), 0);
	CU_ASSERT(vf_disk_has(f, f->n_blocks - 1));
	CU_ASSERT(vf_disk_has(f, 0));
	vf_disk_file_put(f);
	for (unsigned i = 0; i < 30; i++) {
		f = lab_file(d, i, OBJECT_SIZE + i);
		for (uint64_t k = 0; k < f->n_blocks; k++) {
			int got = lab_check(f, i, k);
			n_wrong += got < 0;
			*(i < 15 ? &first : &last) += got == 1;
		}
		vf_disk_file_put(f);
	}
	CU_ASSERT_EQUAL(n_wrong, 0);
	CU_ASSERT(last > first);
	CU_ASSERT(lab_fits(dir, 16 << 20));
	vf_disk_close(d);
}

/* ---- pins ---------------------------------------------------------------------------- */

static void pins_stay_under_pressure_and_restarts(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 8 << 20);
	struct vf_disk_file *pinned = lab_file(d, 1, 2 << 20), *f;
	struct vf_disk_file_info info;

	CU_ASSERT_EQUAL(vf_disk_pin(pinned, 0, pinned->n_blocks), 0);
	for (uint64_t k = 0; k < pinned->n_blocks; k++)
		lab_write_sure(d, pinned, 1, k);
	vf_disk_flush(d);
	for (unsigned round = 0; round < 3; round++) {
		f = lab_file(d, 2 + round, 12 << 20);
		for (uint64_t k = 0; k < f->n_blocks; k++)
			lab_write_sure(d, f, 2 + round, k);
		vf_disk_file_put(f);
		vf_disk_file_info(pinned, &info);
		CU_ASSERT_EQUAL(info.n_valid, info.n_blocks);
		CU_ASSERT_EQUAL(info.n_pinned, info.n_blocks);
		vf_disk_file_put(pinned);
		vf_disk_close(d);
		d = lab_open(dir, 8 << 20);
		if (round == 1) { /* cold while others press */
			f = lab_file(d, 99, 12 << 20);
			for (uint64_t k = 0; k < f->n_blocks; k++)
				lab_write_sure(d, f, 99, k);
			vf_disk_file_put(f);
		}
		pinned = lab_file(d, 1, 2 << 20);
		for (uint64_t k = 0; k < pinned->n_blocks; k++)
			CU_ASSERT_EQUAL(lab_check(pinned, 1, k), 1);
	}
	vf_disk_drop(pinned, 0, pinned->n_blocks);
	CU_ASSERT(vf_disk_has(pinned, 3));
	vf_disk_unpin(pinned, 0, pinned->n_blocks);
	vf_disk_drop(pinned, 0, pinned->n_blocks);
	CU_ASSERT(!vf_disk_has(pinned, 3));
	vf_disk_file_put(pinned);
	vf_disk_close(d);
}

static void pins_beyond_their_share_are_refused(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 8 << 20);
	struct vf_disk_file *f = lab_file(d, 1, 100 << 20);
	struct vf_disk_stats s;

	CU_ASSERT_EQUAL(vf_disk_pin(f, 0, f->n_blocks), -ENOSPC);
	CU_ASSERT_EQUAL(vf_disk_pin(f, 0, 100), 0);
	CU_ASSERT_EQUAL(vf_disk_pin(f, 0, 100), 0);
	CU_ASSERT_EQUAL(vf_disk_pin(f, 1000, 300), -ENOSPC);
	vf_disk_stats(d, &s);
	CU_ASSERT(s.pinned >= 100 * LAB_BLOCK && s.pinned < 101 * LAB_BLOCK);
	vf_disk_file_put(f);
	vf_disk_close(d);
	d = lab_open(dir, 8 << 20); /* known although nothing is opened */
	vf_disk_stats(d, &s);
	CU_ASSERT(s.pinned >= 100 * LAB_BLOCK);
	f = lab_file(d, 1, 100 << 20);
	vf_disk_unpin(f, 0, f->n_blocks);
	vf_disk_stats(d, &s);
	CU_ASSERT_EQUAL(s.pinned, 0);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/* ---- leaving ---------------------------------------------------------------------------- */

static void dropped_blocks_give_their_place_back(void)
{
	const char *dir = vf_test_dir();
	struct vf_disk *d = lab_open(dir, 16 << 20);
	struct vf_disk_file *f = lab_file(d, 1, 4 << 20);
	char path[256];

	lab_path(dir, 1, path);
	for (uint64_t k = 0; k < f->n_blocks; k++)
		lab_write_sure(d, f, 1, k);
	vf_disk_flush(d);
	CU_ASSERT(lab_du(dir) > 4 << 20);
	vf_disk_drop(f, 0, f->n_blocks / 2);
	vf_disk_flush(d);
	CU_ASSERT(lab_du(dir) < 3 << 20);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	vf_disk_drop(f, 0, f->n_blocks);
	vf_disk_flush(d);
	CU_ASSERT_EQUAL(access(path, F_OK), -1);
	lab_write(f, 1, 3, 0);
	vf_disk_flush(d);
	CU_ASSERT_EQUAL(lab_check(f, 1, 3), 1);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/* Bytes that wait to be written. */
enum { LAB_QUEUE = 16 << 20 };

static void the_write_budget_is_kept(void)
{
	struct vf_disk_options o = {.dir = vf_test_dir(),
				    .size = 64 << 20,
				    .block_len = LAB_BLOCK,
				    .write_mbps = 8};
	struct vf_disk_stats s;
	struct vf_disk_file *f;
	struct vf_disk *d;
	uint64_t t, us;

	CU_ASSERT_EQUAL_FATAL(vf_disk_open(&o, &d), 0);
	f = lab_file(d, 1, 40 << 20);
	t = vf_now_ns();
	for (uint64_t k = 0; k < f->n_blocks; k++) /* does not wait */
		lab_write(f, 1, k, 0);
	usleep(1000000);
	vf_disk_stats(d, &s);
	us = (vf_now_ns() - t) / 1000;
	CU_ASSERT(s.bytes_written > 4 << 20);
	CU_ASSERT(s.bytes_written < 8 * us + (4 << 20)); /* a burst first */
	/* Unless handing them over took so long that there was room for all. */
	CU_ASSERT(s.n_write_dropped > 0 ||
		  8 * us + LAB_QUEUE + (4 << 20) >= 40 << 20);
	vf_disk_drop(f, 0, f->n_blocks);
	vf_disk_file_put(f);
	vf_disk_close(d);
}

/* ---- against a model ----------------------------------------------------------------------- */

enum { MODEL_OBJECTS = 30, MODEL_BLOCKS = 40 };

struct model {
	bool pinned[MODEL_OBJECTS][MODEL_BLOCKS];
	bool written[MODEL_OBJECTS][MODEL_BLOCKS];
	unsigned n_pinned;
};

static void step(struct vf_disk *d, struct model *m, uint64_t *seed)
{
	unsigned object = (unsigned)(vf_test_rand(seed) % MODEL_OBJECTS);
	uint64_t n = vf_test_rand(seed) % MODEL_BLOCKS;
	unsigned what = (unsigned)(vf_test_rand(seed) % 100);
	struct vf_disk_file *f =
		lab_file(d, object, MODEL_BLOCKS * LAB_BLOCK - object);
	int got;

	if (what < 45) {
		lab_write(f, object, n, what < 5 ? VF_POLICY_SCAN : 0);
		m->written[object][n] = true;
	} else if (what < 90) {
		got = lab_check(f, object, n);
		CU_ASSERT(got >= 0);
		CU_ASSERT(!got || m->written[object][n]);
	} else if (what < 93 && m->n_pinned < 60 && !m->pinned[object][n]) {
		CU_ASSERT_EQUAL(vf_disk_pin(f, n, 1), 0);
		m->pinned[object][n] = true;
		m->n_pinned++;
	} else if (what < 95 && m->pinned[object][n]) {
		vf_disk_unpin(f, n, 1);
		m->pinned[object][n] = false;
		m->n_pinned--;
	} else if (what < 98) {
		vf_disk_drop(f, n, 3);
	} else {
		vf_disk_touch(f, n, 5);
	}
	vf_disk_file_put(f);
}

static void check_pins(struct vf_disk *d, const struct model *m)
{
	for (unsigned i = 0; i < MODEL_OBJECTS; i++) {
		struct vf_disk_file *f =
			lab_file(d, i, MODEL_BLOCKS * LAB_BLOCK - i);
		struct vf_disk_file_info info;
		unsigned n = 0;
		for (unsigned k = 0; k < MODEL_BLOCKS; k++)
			n += m->pinned[i][k];
		vf_disk_file_info(f, &info);
		CU_ASSERT_EQUAL(info.n_pinned, n);
		vf_disk_file_put(f);
	}
}

static void agrees_with_a_model(void)
{
	const char *dir = vf_test_dir();
	struct model *m = calloc(1, sizeof(*m));
	struct vf_disk_stats s;
	struct vf_disk *d = NULL;
	uint64_t seed = 42;

	for (unsigned session = 0; session < 4; session++) {
		d = lab_open(dir, 8 << 20);
		for (unsigned i = 0; i < 1500; i++)
			step(d, m, &seed);
		check_pins(d, m);
		vf_disk_stats(d, &s);
		CU_ASSERT_EQUAL(s.n_damaged, 0);
		CU_ASSERT(s.used <= s.size);
		vf_disk_close(d);
		CU_ASSERT(lab_fits(dir, 8 << 20));
	}
	free(m);
}

/* ---- threads ----------------------------------------------------------------------------------- */

enum { THREADS = 16 };

struct worker {
	struct vf_disk *d;
	unsigned number, n_wrong, n_right;
};

static void *read_and_write(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = w->number + 100;

	for (unsigned i = 0; i < 300; i++) {
		unsigned object = (unsigned)(vf_test_rand(&seed) % 20);
		struct vf_disk_file *f = lab_file(w->d, object, 600000);
		uint64_t n = vf_test_rand(&seed) % f->n_blocks;
		int got = lab_check(f, object, n);
		w->n_wrong += got < 0;
		w->n_right += got > 0;
		if (!got)
			lab_write(f, object, n, 0);
		if (i % 40 == 0)
			vf_disk_drop(f, n, 4);
		vf_disk_file_put(f);
	}
	return NULL;
}

static void sixteen_threads_get_right_bytes(void)
{
	struct vf_disk *d = lab_open(vf_test_dir(), 6 << 20);
	struct worker w[THREADS];
	pthread_t t[THREADS];
	unsigned n_right = 0;

	/* However slow the machine is, some are there to be found. */
	for (unsigned i = 0; i < 20; i++) {
		struct vf_disk_file *f = lab_file(d, i, 600000);
		for (uint64_t n = 0; n < 3; n++)
			lab_write_sure(d, f, i, n);
		vf_disk_file_put(f);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){d, i, 0, 0};
		pthread_create(&t[i], NULL, read_and_write, &w[i]);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		CU_ASSERT_EQUAL(w[i].n_wrong, 0);
		n_right += w[i].n_right;
	}
	/* A disk that stalls is passed over for a second or some. */
	struct vf_disk_file *f = lab_file(d, 0, 600000);
	for (unsigned i = 0; i < 3000 && !n_right; i++) {
		lab_write(f, 0, 0, 0);
		usleep(10000);
		n_right += lab_check(f, 0, 0) > 0;
	}
	vf_disk_file_put(f);
	CU_ASSERT(n_right > 0);
	vf_disk_close(d);
}

static void works_without_io_uring(void)
{
	struct vf_disk_stats s;
	struct vf_disk *d;

	setenv("VF_NO_URING", "1", 1);
	d = lab_open(vf_test_dir(), 6 << 20);
	vf_disk_stats(d, &s);
	CU_ASSERT(!s.uring);
	vf_disk_close(d);
	sixteen_threads_get_right_bytes();
	the_limit_holds();
	unsetenv("VF_NO_URING");
}

static CU_TestInfo tests[] = {
	{"reads back what was written, files are sparse and of the object's "
	 "size",
	 reads_back_what_was_written},
	{"what is not there is a miss", what_is_not_there_is_a_miss},
	{"empty objects are fine", empty_objects_are_fine},
	{"all that was flushed is there after a restart",
	 all_is_there_after_a_restart},
	{"data files are opened to wait", data_files_are_opened_to_wait},
	{"another block length starts anew", another_block_length_starts_anew},
	{"a smaller size is kept after a restart",
	 a_smaller_size_is_kept_after_a_restart},
	{"the limit holds on the disk itself", the_limit_holds},
	{"the limit holds for many small objects",
	 the_limit_holds_for_many_small_objects},
	{"files of earlier sessions leave first, oldest first",
	 cold_files_leave_oldest_first},
	{"pins stay under pressure and over restarts",
	 pins_stay_under_pressure_and_restarts},
	{"pins beyond their share are refused",
	 pins_beyond_their_share_are_refused},
	{"dropped blocks give their place back",
	 dropped_blocks_give_their_place_back},
	{"the write budget is kept", the_write_budget_is_kept},
	{"agrees with a model under random operations", agrees_with_a_model},
	{"sixteen threads get right bytes", sixteen_threads_get_right_bytes},
	{"works without io_uring", works_without_io_uring},
	CU_TEST_INFO_NULL};

VF_SUITE("store/tier_disk", tests);
