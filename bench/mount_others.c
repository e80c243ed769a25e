/*
 * vecfs beside s3fs and rclone, as far as they are installed: the same server,
 * the same object, the same reads.  Every cold reading is on a mount and a
 * cache of its own; a warm one follows it, the page cache dropped between them,
 * so that the cache of the file system answers.
 */
#include "bench/mount_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	READS = 200,
};

struct other {
	const char *name, *program;
	bool (*mount)(void);
};

static bool mount_vecfs_ram(void)
{
	bench_mount("ram=1G");
	return true;
}

static bool mount_vecfs_disk(void)
{
	char options[BENCH_PATH];

	snprintf(options, sizeof(options), "ram=32M,disk=%s/tier:2G",
		 bench.cache);
	bench_mount(options);
	return true;
}

/* The mount of another is taken down as one of ours. */
static bool run_mount(const char *script)
{
	char *argv[] = {"sh",	   "-c",	(char *)script,
			bench.mnt, bench.cache, (char *)bench.url + 5,
			bench.dir, NULL};

	if (bench_run(argv))
		return false;
	bench_adopt_mount();
	return true;
}

static bool mount_s3fs(void)
{
	return run_mount(
		"set -e; p=$3/passwd; "
		"printf '%s:%s\\n' $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY "
		">$p; chmod 600 $p; "
		"s3fs ${S3_BUCKET} $0 -o ro,url=$AWS_ENDPOINT_URL,"
		"use_path_request_style,sigv4,endpoint=${AWS_REGION:-us-east-1},"
		"passwd_file=$p,listobjectsv2,use_cache=$1/s3fs");
}

/* Debian's rclone refuses any AWS_CA_BUNDLE. */
static const char rclone_script[] =
	"unset AWS_CA_BUNDLE; "
	"export RCLONE_CONFIG=/dev/null RCLONE_CONFIG_B_TYPE=s3 "
	"RCLONE_CONFIG_B_PROVIDER=Other "
	"RCLONE_CONFIG_B_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID "
	"RCLONE_CONFIG_B_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY "
	"RCLONE_CONFIG_B_ENDPOINT=$AWS_ENDPOINT_URL "
	"RCLONE_CONFIG_B_REGION=${AWS_REGION:-us-east-1} "
	"RCLONE_CONFIG_B_FORCE_PATH_STYLE=true "
	"RCLONE_CONFIG_B_LIST_VERSION=2; " /* s3sim has no other */
	"exec rclone mount B:$S3_BUCKET $0 --daemon --read-only "
	"--cache-dir $1/rclone --vfs-cache-mode ";

static bool mount_rclone(const char *mode)
{
	char script[1024];

	snprintf(script, sizeof(script), "%s%s >/dev/null 2>&1", rclone_script,
		 mode);
	return run_mount(script);
}

static bool mount_rclone_off(void)
{
	return mount_rclone("off");
}

static bool mount_rclone_full(void)
{
	return mount_rclone("full");
}

static const struct other others[] = {
	{"vecfs, RAM 1 GiB", NULL, mount_vecfs_ram},
	{"vecfs, disk tier, RAM 32 MiB", NULL, mount_vecfs_disk},
	{"s3fs", "s3fs", mount_s3fs},
	{"rclone, no cache", "rclone", mount_rclone_off},
	{"rclone, full cache", "rclone", mount_rclone_full},
};

static bool is_installed(const char *program)
{
	char *argv[] = {"sh", "-c", "command -v \"$0\" >/dev/null",
			(char *)program, NULL};

	return !program || !bench_run(argv);
}

/* ---- the three readings ------------------------------------------------------------ */

/* MB/s for the stream, reads per second for the others. */
static double read_sequential(uint64_t seed)
{
	return bench_sequential(bench.file);
}

static double read_random(enum bench_how how, uint64_t seed)
{
	VF_AUTO_FREE uint64_t *pages = bench_pick_pages(READS, seed);
	struct bench_times t =
		bench_random(bench.file, how, pages, READS, true);

	return 1e9 / t.mean_ns;
}

static double read_preads(uint64_t seed)
{
	return read_random(BENCH_PREAD, seed);
}

static double read_faults(uint64_t seed)
{
	return read_random(BENCH_FAULT, seed);
}

struct reading {
	const char *name, *unit;
	double (*read)(uint64_t seed);
};

static const struct reading readings[] = {
	{"sequential", "MB/s", read_sequential},
	{"200 random 4 KiB preads", "/s", read_preads},
	{"200 random 4 KiB faults of a mapping", "/s", read_faults},
};

struct row {
	double cold, warm;
	struct bench_counts n, warm_n;
};

static bool measure(const struct other *o, const struct reading *r,
		    uint64_t seed, struct row *out)
{
	bench_empty_cache();
	bench_set_latency(0);
	if (!o->mount())
		return false;
	bench_drop_pages(bench.file); /* looks the name up */
	bench_set_latency(bench.latency_ms);
	bench_reset_counts();
	out->cold = r->read(seed);
	out->n = bench_counts();
	bench_reset_counts();
	out->warm = r->read(seed);
	out->warm_n = bench_counts();
	bench_set_latency(0);
	bench_unmount();
	return true;
}

/* Speeds are medians; counts are of the last round. */
static void show_row(const struct other *o, const struct reading *r,
		     unsigned rounds)
{
	double cold[BENCH_ROUNDS_MAX], warm[BENCH_ROUNDS_MAX];
	struct row row;

	for (unsigned i = 0; i < rounds; i++) {
		if (!measure(o, r, 60 + i, &row)) {
			printf("| %s | did not mount | | | | | |\n", o->name);
			return;
		}
		cold[i] = row.cold;
		warm[i] = row.warm;
	}
	printf("| %s | %.0f | %llu | %.1f | %.0f | %llu | %.1f |\n", o->name,
	       bench_median(cold, rounds), (unsigned long long)row.n.get,
	       (double)row.n.bytes / 1e6, bench_median(warm, rounds),
	       (unsigned long long)row.warm_n.get,
	       (double)row.warm_n.bytes / 1e6);
	fflush(stdout);
}

static void show_table(const struct reading *r, unsigned rounds)
{
	printf("\n%s, %s\n\n"
	       "| | cold %s | GETs | MB | warm %s | GETs | MB |\n"
	       "|---|---|---|---|---|---|---|\n",
	       r->name, r->unit, r->unit, r->unit);
	for (size_t i = 0; i < VF_N(others); i++)
		if (is_installed(others[i].program))
			show_row(&others[i], r, rounds);
	putchar('\n');
}

void bench_others(void)
{
	unsigned rounds = VF_MIN(bench.rounds, 3u);

	if (!bench.sim)
		bench_note("requests are counted by s3sim only");
	bench_note("one object of %llu MiB, GETs held %u ms, medians of %u",
		   (unsigned long long)bench.len >> 20, bench.latency_ms,
		   rounds);
	for (size_t i = 0; i < VF_N(readings); i++)
		show_table(&readings[i], rounds);
	bench_empty_cache();
}
