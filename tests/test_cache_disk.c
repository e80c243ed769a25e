/*
 * The cache with a disk tier behind it.  VF_TEST_SEED=N repeats a run whose
 * seed was printed.
 */
#include "tests/disk_lab.h"
#include "tests/fake_source.h"

enum { BLOCK = FAKE_BLOCK, N = 100 /* blocks of the object */ };

struct rig {
	const char *dir;
	struct fake_server *s;
	struct vf_disk *d;
	struct vf_cache *c;
	struct vf_cached *o;
};

static void open_tiers(struct rig *r, size_t n_ram, uint64_t disk_size)
{
	r->d = lab_open_as(r->dir, disk_size, BLOCK);
	CU_ASSERT_EQUAL_FATAL(
		vf_cache_open(&(struct vf_cache_options){.ram_len =
								 n_ram * BLOCK,
							 .block_len = BLOCK,
							 .policy = "lru",
							 .ahead_len = 1,
							 .disk = r->d},
			      &r->c),
		0);
	r->s = fake_server_new(1);
}

static void open_rig(struct rig *r)
{
	open_tiers(r, 16, 16 << 20);
	r->o = fake_object(r->c, r->s, 1, (uint64_t)N * BLOCK, NULL);
}

static void close_rig(struct rig *r)
{
	vf_cached_put(r->o);
	vf_cache_stop(r->c);
	fake_server_free(r->s);
	vf_cache_close(r->c);
	vf_disk_close(r->d);
}

static void fill(struct rig *r)
{
	CU_ASSERT_EQUAL(fake_read(r->o, 1, 0, (uint64_t)N * BLOCK), 0);
	/* what went past the full cache is fetched again, to be kept */
	for (unsigned i = 0; i < N; i++)
		CU_ASSERT_EQUAL(fake_read_block(r->o, i), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(r->d), 0);
}

static struct vf_disk_stats disk_stats(struct rig *r)
{
	struct vf_disk_stats s;

	vf_disk_stats(r->d, &s);
	return s;
}

static void what_left_ram_comes_from_the_disk(void)
{
	struct rig r = {.dir = vf_test_dir()};
	struct vf_cached_info info;

	open_rig(&r);
	fill(&r);
	vf_cached_info(r.o, 0, (uint64_t)N * BLOCK, &info);
	CU_ASSERT(info.n_blocks == N && info.n_ram == 16 && info.n_disk == N);
	unsigned before = fake_server_started(r.s);
	uint64_t hits = fake_stats(r.c).n_disk_hit;
	for (unsigned i = 0; i < N; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before);
	CU_ASSERT(fake_stats(r.c).n_disk_hit - hits >= N - 16);
	close_rig(&r);
}

static void after_a_restart_the_source_is_not_asked(void)
{
	struct rig r = {.dir = vf_test_dir()};

	open_rig(&r);
	fill(&r);
	close_rig(&r);
	for (unsigned k = 0; k < 2; k++) {
		open_rig(&r);
		for (unsigned i = 0; i < N; i++)
			CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
		CU_ASSERT_EQUAL(fake_server_started(r.s), 0);
		CU_ASSERT_EQUAL(fake_stats(r.c).n_disk_hit, N);
		close_rig(&r);
	}
}

/*
 * Symptom: with the bucket gone, what the disk has was not served under load.
 * Cause: a read that found every block of RAM in use asked the source alone.
 */
static void with_ram_in_use_reads_come_from_the_disk(void)
{
	struct rig r = {.dir = vf_test_dir()};
	struct fake_wait w = FAKE_WAIT, held = FAKE_WAIT;
	static uint8_t other[16][BLOCK], buf[BLOCK - 100];

	open_rig(&r);
	fill(&r);
	struct vf_cached *o =
		fake_object(r.c, r.s, 2, (uint64_t)N * BLOCK, NULL);
	fake_server_pause(r.s, true);
	for (unsigned i = 0; i < 16; i++)
		vf_cached_read(o, 2ull * i * BLOCK, BLOCK, other[i], fake_done,
			       &held);
	unsigned before = fake_server_started(r.s);
	uint64_t n_bypass = fake_stats(r.c).n_bypass;
	vf_cached_read(r.o, 40 * BLOCK + 77, sizeof(buf), buf, fake_done, &w);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_bypass, n_bypass + 1);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before);
	if (fake_server_started(r.s) == before)
		CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT_EQUAL(fake_wait_for(&held, 16), 0);
	CU_ASSERT(fake_is_right(1, 40 * BLOCK + 77, buf, sizeof(buf)));
	vf_cached_put(o);
	close_rig(&r);
}

static void what_is_missing_between_is_fetched(void)
{
	struct rig r = {.dir = vf_test_dir()};

	open_rig(&r);
	for (unsigned i = 0; i < 12; i += 3)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(r.d), 0);
	close_rig(&r);
	open_rig(&r);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 12 * BLOCK), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 4); /* 1-2, 4-5, 7-8, 10-11 */
	CU_ASSERT_EQUAL(fake_stats(r.c).n_disk_hit, 4);
	close_rig(&r);
}

static void a_few_bytes_are_read_past_ram_once(void)
{
	enum { LEN = BLOCK / 4, AT = 20 * BLOCK + BLOCK / 2 };
	struct rig r = {.dir = vf_test_dir()};
	struct vf_cached_info info;

	open_rig(&r);
	fill(&r);
	close_rig(&r);
	open_rig(&r);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, AT, LEN), 0);
	CU_ASSERT(fake_stats(r.c).n_page == 1 && fake_stats(r.c).n_fill == 0);
	vf_cached_info(r.o, 0, (uint64_t)N * BLOCK, &info);
	CU_ASSERT_EQUAL(info.n_ram, 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, AT - 8, LEN), 0);
	CU_ASSERT(fake_stats(r.c).n_page == 1 && fake_stats(r.c).n_fill == 1);
	vf_cached_info(r.o, 0, (uint64_t)N * BLOCK, &info);
	CU_ASSERT_EQUAL(info.n_ram, 1);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_disk_hit, 2);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 0);
	close_rig(&r);
}

static void dropped_blocks_are_fetched_again(void)
{
	struct rig r = {.dir = vf_test_dir()};

	open_rig(&r);
	fill(&r);
	unsigned before = fake_server_started(r.s);
	vf_cached_drop(r.o, 0, (uint64_t)N * BLOCK);
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 7), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 1);
	close_rig(&r);
}

/* ---- a disk that cannot --------------------------------------------------------- */

struct faults {
	atomic_uint percent, delay_ms;
	atomic_bool reads_only;
	atomic_ullong n;
};

static int inject(void *arg, const struct vf_io *io, uint32_t *out_delay_ms)
{
	struct faults *f = arg;
	uint64_t seed = atomic_fetch_add(&f->n, 1);

	if (atomic_load(&f->reads_only) && io->op != VF_IO_READ)
		return 0;
	*out_delay_ms = atomic_load(&f->delay_ms);
	return vf_test_rand(&seed) % 100 < atomic_load(&f->percent) ? -EIO : 0;
}

static void a_read_that_fails_is_asked_of_the_source(void)
{
	struct rig r = {.dir = vf_test_dir()};
	struct faults f = {.percent = 100, .reads_only = true};

	open_rig(&r);
	fill(&r);
	unsigned before = fake_server_started(r.s);
	vf_disk_fault(r.d, inject, &f);
	for (unsigned i = 0; i < 16; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 16);
	CU_ASSERT(disk_stats(&r).n_error >= 16);
	vf_disk_fault(r.d, NULL, NULL);
	close_rig(&r);
}

static void flip(const char *dir, uint64_t off)
{
	uint8_t full_id[16] = {[0] = 1, [15] = 1}, byte;
	char hex[33], path[256];

	vf_hex(full_id, 16, hex);
	snprintf(path, sizeof(path), "%s/data/%.2s/%s", dir, hex, hex);
	VF_AUTO_FD int fd = open(path, O_RDWR);
	CU_ASSERT_EQUAL_FATAL(pread(fd, &byte, 1, (off_t)off), 1);
	byte ^= 0x10;
	CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, (off_t)off), 1);
}

static void a_damaged_block_is_fetched_again(void)
{
	struct rig r = {.dir = vf_test_dir()};

	open_rig(&r);
	fill(&r);
	close_rig(&r);
	flip(r.dir, 5 * BLOCK);
	flip(r.dir, 50 * BLOCK + BLOCK - 1);
	open_rig(&r);
	for (unsigned i = 0; i < N; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 2);
	CU_ASSERT_EQUAL(disk_stats(&r).n_damaged, 2);
	CU_ASSERT_EQUAL(vf_disk_flush(r.d), 0);
	for (unsigned i = 0; i < N; i++)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	CU_ASSERT(fake_server_started(r.s) <= 4);
	CU_ASSERT_EQUAL(disk_stats(&r).n_damaged, 2);
	close_rig(&r);
}

static void what_can_be_made_again_stays_in_ram(void)
{
	struct rig r = {.dir = vf_test_dir()};
	struct vf_cached_info info;

	open_rig(&r);
	struct vf_cached *o = fake_object_as(r.c, r.s, 2, (uint64_t)N * BLOCK,
					     VF_CACHED_RAM_ONLY, NULL);
	for (unsigned i = 0; i < N; i++)
		CU_ASSERT_EQUAL(fake_read(o, 2, (uint64_t)i * BLOCK, BLOCK), 0);
	CU_ASSERT_EQUAL(vf_disk_flush(r.d), 0);
	CU_ASSERT_EQUAL(disk_stats(&r).n_write, 0);
	vf_cached_info(o, 0, (uint64_t)N * BLOCK, &info);
	CU_ASSERT(info.n_disk == 0 && info.n_pinned == 0 && info.n_ram == 16);
	vf_cached_touch(o, 0, (uint64_t)N * BLOCK);
	vf_cached_drop(o, 0, (uint64_t)N * BLOCK);
	vf_cached_put(o);
	close_rig(&r);
}

static void failures_of_the_source_are_not_written(void)
{
	struct rig r = {.dir = vf_test_dir()};

	open_rig(&r);
	fake_server_fail(r.s, 100);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 3), -EREMOTEIO);
	CU_ASSERT_EQUAL(vf_disk_flush(r.d), 0);
	CU_ASSERT_EQUAL(disk_stats(&r).n_write, 0);
	fake_server_fail(r.s, 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 3), 0);
	close_rig(&r);
}

/*
 * Symptom: the program died while it was unmounted.  Cause: blocks that
 * read-ahead had asked of the disk came after the arena was gone, or were then
 * asked of a bucket that was closed.
 */
static void closing_waits_for_the_disk(void)
{
	for (unsigned failing = 0; failing < 2; failing++) {
		struct rig r = {.dir = vf_test_dir()};
		struct faults f = {.delay_ms = 30, .reads_only = true};
		open_rig(&r);
		fill(&r);
		atomic_store(&f.percent, failing * 100);
		vf_disk_fault(r.d, inject, &f);
		unsigned n = vf_cached_want(r.o, 0, 64 * BLOCK, 100);
		CU_ASSERT(n > 0);
		vf_cached_put(r.o);
		vf_cache_stop(r.c);
		/* nothing is asked of the source any more */
		unsigned before = fake_server_started(r.s);
		usleep(50000);
		CU_ASSERT_EQUAL(fake_server_started(r.s), before);
		fake_server_free(r.s);
		vf_cache_close(r.c);
		vf_disk_close(r.d);
	}
}

/* ---- everything at once ------------------------------------------------------------ */

static void run_storm(const char *dir, uint64_t seed, unsigned source_percent,
		      unsigned disk_percent)
{
	struct rig r = {.dir = dir};
	struct fake_storm t = {.seed = seed,
			       .n_readers = 16,
			       .n_reads = 250,
			       .drop_percent = 10};
	struct faults f = {.percent = disk_percent, .n = seed * 1000000};

	open_tiers(&r, 40, 4 << 20);
	t.c = r.c;
	r.s->max_delay_us = 40;
	fake_server_fail(r.s, source_percent);
	vf_disk_fault(r.d, inject, &f);
	fake_storm_run(&t, r.s);
	CU_ASSERT(source_percent || !t.n_failed);
	fake_server_fail(r.s, 0);
	fake_storm_end(&t);
	vf_disk_fault(r.d, NULL, NULL);
	CU_ASSERT_EQUAL(disk_stats(&r).n_damaged, 0);
	if (!disk_percent)
		CU_ASSERT(fake_stats(r.c).n_disk_hit > 0);
	vf_cache_stop(r.c);
	fake_server_free(r.s);
	vf_cache_close(r.c);
	vf_disk_close(r.d);
	CU_ASSERT(lab_fits(dir, 4 << 20));
}

static void sixteen_readers_get_the_known_bytes(void)
{
	uint64_t seed = fake_seed(7000);
	const char *dir = vf_test_dir();

	/* one directory: what a run leaves, the next one finds */
	run_storm(dir, seed, 0, 0);
	run_storm(dir, seed + 1, 5, 0);
	run_storm(dir, seed + 2, 0, 10);
	run_storm(dir, seed + 3, 10, 10);
	run_storm(dir, seed + 4, 0, 0);
}

static CU_TestInfo tests[] = {
	{"what left RAM comes from the disk",
	 what_left_ram_comes_from_the_disk},
	{"after a restart the source is not asked",
	 after_a_restart_the_source_is_not_asked},
	{"with RAM in use reads come from the disk",
	 with_ram_in_use_reads_come_from_the_disk},
	{"what is missing between is fetched",
	 what_is_missing_between_is_fetched},
	{"a few bytes are read past RAM once",
	 a_few_bytes_are_read_past_ram_once},
	{"dropped blocks are fetched again", dropped_blocks_are_fetched_again},
	{"a read that fails is asked of the source",
	 a_read_that_fails_is_asked_of_the_source},
	{"a damaged block is fetched again", a_damaged_block_is_fetched_again},
	{"what can be made again stays in RAM",
	 what_can_be_made_again_stays_in_ram},
	{"failures of the source are not written",
	 failures_of_the_source_are_not_written},
	{"closing waits for the disk", closing_waits_for_the_disk},
	{"sixteen readers get the known bytes",
	 sixteen_readers_get_the_known_bytes},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/cache_disk", tests);
