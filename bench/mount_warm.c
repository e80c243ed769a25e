/*
 * Reads that a tier answers.  From RAM: against a file system that does
 * nothing.  From the disk: against the same disk without us.  Of a file whole on
 * the disk: against that file.
 */
#include "bench/mount_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "store/ranges.h"

enum { READS = 4000, PIECE_LEN = 4 << 20, FILL_S = 120, RANDOM_RAM_MIB = 32 };

static const char *const how_names[] = {[BENCH_FAULT] = "random 4 KiB fault",
					[BENCH_PREAD] = "random 4 KiB pread"};

/* ---- RAM -------------------------------------------------------------------------- */

struct pair {
	double ours[BENCH_ROUNDS_MAX], other[BENCH_ROUNDS_MAX],
		ratio[BENCH_ROUNDS_MAX];
};

/* @other_path's turn and ours alternate, so that both meet the same machine. */
static void ram_random(enum bench_how how, struct pair *p)
{
	char other[BENCH_PATH];
	size_t n = VF_MIN((uint64_t)READS, bench.len / BENCH_BLOCK);

	snprintf(other, sizeof(other), "%s/data", bench.null);
	for (unsigned i = 0; i < bench.rounds; i++) {
		VF_AUTO_FREE uint64_t *pages = bench_pick_pages(n, 10 + i);
		if (i % 2)
			p->other[i] = bench_random(other, how, pages, n, false)
					      .p50_ns;
		p->ours[i] =
			bench_random(bench.file, how, pages, n, true).p50_ns;
		if (i % 2 == 0)
			p->other[i] = bench_random(other, how, pages, n, false)
					      .p50_ns;
		p->ratio[i] = p->ours[i] / p->other[i];
	}
}

static void ram_sequential(struct pair *p)
{
	char other[BENCH_PATH];

	snprintf(other, sizeof(other), "%s/data", bench.null);
	for (unsigned i = 0; i < bench.rounds; i++) {
		if (i % 2)
			p->other[i] = bench_sequential(other);
		p->ours[i] = bench_sequential(bench.file);
		if (i % 2 == 0)
			p->other[i] = bench_sequential(other);
		p->ratio[i] = p->ours[i] / p->other[i];
	}
}

static void show_ram(enum bench_how how)
{
	struct pair p;
	char what[80];

	ram_random(how, &p);
	snprintf(what, sizeof(what), "%s / null_fs, p50", how_names[how]);
	bench_result(what, bench_median(p.ratio, bench.rounds), "",
		     BENCH_AT_MOST, 1.3);
	bench_note("  %.2f us, null_fs %.2f us",
		   bench_median(p.ours, bench.rounds) / 1000,
		   bench_median(p.other, bench.rounds) / 1000);
}

void bench_ram(void)
{
	struct bench_counts n;
	char options[64];
	struct pair p;

	snprintf(options, sizeof(options), "ram=%llu",
		 (unsigned long long)(bench.len + (64 << 20)));
	bench_mount(options);
	bench_mount_null();
	bench_sequential(bench.file);
	bench_reset_counts();
	show_ram(BENCH_FAULT);
	show_ram(BENCH_PREAD);
	ram_sequential(&p);
	bench_result("sequential / null_fs",
		     bench_median(p.ratio, bench.rounds), "", BENCH_AT_LEAST,
		     0.8);
	bench_note("  %.0f MB/s, null_fs %.0f MB/s",
		   bench_median(p.ours, bench.rounds),
		   bench_median(p.other, bench.rounds));
	n = bench_counts();
	bench_result("GETs meanwhile", (double)n.get, "", BENCH_AT_MOST, 0);
	bench_unmount();
	bench_unmount_null();
}

/* ---- the disk ------------------------------------------------------------------------ */

/* Blocks in no tier; the first of them is asked for again. */
static size_t count_missing(int fd)
{
	static struct vf_ranges a;
	size_t n_blocks = bench.len / BENCH_BLOCK, n_missing = 0;
	uint64_t value;

	for (size_t at = 0; at < n_blocks; at += a.n) {
		a = (struct vf_ranges){.version = 1, .flags = VF_RANGES_WHERE};
		for (; a.n < VF_RANGES_MAX && at + a.n < n_blocks; a.n++)
			a.r[a.n] = (struct vf_range){
				.off = (at + a.n) * (uint64_t)BENCH_BLOCK,
				.len = BENCH_BLOCK};
		if (ioctl(fd, VF_IOC_RANGES, &a))
			bench_fail("the ioctl");
		for (size_t i = 0; i < a.n; i++) {
			if (a.r[i].where != VF_IN_BUCKET)
				continue;
			n_missing++;
			if (pread(fd, &value, 8, (off_t)a.r[i].off) != 8)
				bench_fail(bench.file);
		}
	}
	return n_missing;
}

/* What is read may be kept late, or not at all when much comes at once. */
bool bench_fill_disk(void)
{
	uint64_t end = vf_now_ns() + FILL_S * 1000000000ull;
	size_t missing = 1;

	bench_sequential(bench.file);
	while (missing && vf_now_ns() < end) {
		usleep(500000);
		bench_drop_pages(bench.file);
		VF_AUTO_FD int fd = open(bench.file, O_RDONLY | O_CLOEXEC);
		missing = count_missing(fd);
	}
	if (missing)
		bench_note("%zu blocks do not stay on the disk", missing);
	return !missing;
}

/* A file as large beside the tier's, its bytes really on the disk. */
static void write_raw(const char *path)
{
	VF_AUTO_FREE uint8_t *piece = malloc(PIECE_LEN);
	VF_AUTO_FD int fd =
		open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || !piece)
		bench_fail(path);
	for (uint64_t off = 0; off < bench.len; off += PIECE_LEN) {
		vf_random(piece, PIECE_LEN);
		if (vf_write_all(fd, piece,
				 VF_MIN((uint64_t)PIECE_LEN, bench.len - off)))
			bench_fail(path);
	}
	if (fsync(fd))
		bench_fail(path);
}

static void disk_random(const char *raw, enum bench_how how)
{
	double ours[BENCH_ROUNDS_MAX], page[BENCH_ROUNDS_MAX],
		block[BENCH_ROUNDS_MAX], ratio[BENCH_ROUNDS_MAX], us, r;
	size_t n = VF_MIN((uint64_t)READS / 4, bench.len / BENCH_BLOCK);
	char what[80];

	for (unsigned i = 0; i < bench.rounds; i++) {
		VF_AUTO_FREE uint64_t *pages = bench_pick_pages(n, 30 + i);
		page[i] = bench_direct(raw, pages, n, BENCH_PAGE).p50_ns;
		ours[i] = bench_random(bench.file, how, pages, n, true).p50_ns;
		block[i] = bench_direct(raw, pages, n, BENCH_BLOCK).p50_ns;
		ratio[i] = ours[i] / page[i];
	}
	us = bench_median(ours, bench.rounds) / 1000;
	r = bench_median(ratio, bench.rounds);
	snprintf(what, sizeof(what), "%s, p50", how_names[how]);
	bench_result(what, us, "us", us <= 100 ? BENCH_AT_MOST : BENCH_NO_BAR,
		     100);
	snprintf(what, sizeof(what), "%s / raw O_DIRECT 4 KiB", how_names[how]);
	bench_result(what, r, "", us <= 100 ? BENCH_NO_BAR : BENCH_AT_MOST,
		     1.5);
	bench_note("  raw O_DIRECT: 4 KiB %.1f us, 64 KiB %.1f us",
		   bench_median(page, bench.rounds) / 1000,
		   bench_median(block, bench.rounds) / 1000);
}

static void disk_sequential(const char *raw)
{
	struct pair p;

	for (unsigned i = 0; i < bench.rounds; i++) {
		if (i % 2)
			p.other[i] = bench_sequential(raw);
		p.ours[i] = bench_sequential(bench.file);
		if (i % 2 == 0)
			p.other[i] = bench_sequential(raw);
		p.ratio[i] = p.ours[i] / p.other[i];
	}
	bench_result("sequential / raw file",
		     bench_median(p.ratio, bench.rounds), "", BENCH_AT_LEAST,
		     0.8);
	bench_note("  %.0f MB/s, raw %.0f MB/s",
		   bench_median(p.ours, bench.rounds),
		   bench_median(p.other, bench.rounds));
}

/* RAM for a part of the object: what is read comes from the disk. */
static void mount_tier(unsigned ram_mib, const char *passthrough)
{
	char options[BENCH_PATH + 64];

	snprintf(options, sizeof(options),
		 "ram=%uM,disk=%s/tier:%llu,rewarm=0,passthrough=%s", ram_mib,
		 bench.cache, (unsigned long long)(bench.len * 2 + (64 << 20)),
		 passthrough);
	bench_mount(options);
}

void bench_disk(void)
{
	char raw[BENCH_PATH];

	snprintf(raw, sizeof(raw), "%s/raw", bench.cache);
	write_raw(raw);
	mount_tier(RANDOM_RAM_MIB, "off");
	if (bench_fill_disk()) {
		bench_reset_counts();
		disk_random(raw, BENCH_FAULT);
		disk_random(raw, BENCH_PREAD);
		/* The window of read-ahead is a quarter of the RAM. */
		bench_unmount();
		bench_await_tier();
		mount_tier((unsigned)(bench.len >> 22), "off");
		disk_sequential(raw);
		bench_result("GETs meanwhile, a restart included",
			     (double)bench_counts().get, "", BENCH_AT_MOST, 0);
	} else {
		bench.missed = true;
	}
	bench_unmount();
	bench_await_tier();
	bench_empty_cache();
}

/* ---- a file that is whole on the disk ---------------------------------------------------- */

static char tier_file[BENCH_PATH];

static int note_file(const char *path, const struct stat *st, int flag,
		     struct FTW *ftw)
{
	if (flag == FTW_F && (uint64_t)st->st_size == bench.len)
		snprintf(tier_file, sizeof(tier_file), "%s", path);
	return 0;
}

/* The pairs are bench_passthrough's: the mount's file, and the tier's. */
static void compare_whole(void)
{
	char program[BENCH_PATH], data[BENCH_PATH], pairs[16];
	char *argv[] = {program,    (char *)"--between", tier_file,
			bench.file, bench.mnt,		 pairs,
			NULL};

	snprintf(program, sizeof(program), "%s/bench_passthrough", bench.bin);
	snprintf(data, sizeof(data), "%s/tier/data", bench.cache);
	snprintf(pairs, sizeof(pairs), "%u", bench.rounds);
	if (nftw(data, note_file, 16, FTW_PHYS) || !*tier_file)
		bench_fail(data);
	fflush(stdout);
	if (bench_run(argv))
		bench.missed = true;
}

void bench_whole(void)
{
	mount_tier(RANDOM_RAM_MIB, "auto");
	if (bench_fill_disk()) {
		bench_unmount();
		bench_await_tier();
		mount_tier(RANDOM_RAM_MIB, "auto");
		bench_reset_counts();
		compare_whole();
		bench_result("GETs meanwhile", (double)bench_counts().get, "",
			     BENCH_AT_MOST, 0);
	} else {
		bench.missed = true;
	}
	bench_unmount();
	bench_await_tier();
	bench_empty_cache();
}
