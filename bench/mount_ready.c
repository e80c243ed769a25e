/*
 * How long it takes until a mount over a filled disk tier serves: from the
 * start of vecfs to the first page out of the tier, after an orderly end and
 * after kill -9.
 */
#include "bench/mount_rig.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>

static pid_t daemon_pid(void)
{
	char path[BENCH_PATH];
	json_t *o;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/.vecfs/status.json", bench.mnt);
	o = json_load_file(path, 0, NULL);
	pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
	json_decref(o);
	if (pid <= 1)
		bench_fail(path);
	return pid;
}

static void end_daemon(bool in_order)
{
	if (!in_order)
		kill(daemon_pid(), SIGKILL);
	bench_unmount();
	bench_await_tier();
}

/* A page of a block that nobody read before since the start. */
static double start_ms(const char *options, uint64_t seed)
{
	VF_AUTO_FREE uint64_t *page = bench_pick_pages(1, seed);
	uint64_t start = vf_now_ns(), number;

	bench_mount(options);
	VF_AUTO_FD int fd = open(bench.file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &number, 8, (off_t)(page[0] * BENCH_PAGE)) != 8)
		bench_fail(bench.file);
	if (number != page[0]) {
		fprintf(stderr, "%s: wrong bytes\n",
			program_invocation_short_name);
		exit(1);
	}
	return (double)(vf_now_ns() - start) / 1e6;
}

static void ready_after(const char *how, bool in_order, const char *options)
{
	double ms[BENCH_ROUNDS_MAX];

	for (unsigned i = 0; i < bench.rounds; i++) {
		end_daemon(in_order);
		ms[i] = start_ms(options, i + (in_order ? 1 : 1000));
	}
	bench_result(how, bench_median(ms, bench.rounds), "ms", BENCH_AT_MOST,
		     1000);
	bench_note("  %.0f ms at worst", ms[bench.rounds - 1]);
}

void bench_ready(void)
{
	char options[BENCH_PATH + 64];
	uint64_t n_get;

	snprintf(options, sizeof(options),
		 "ram=64M,disk=%s/tier:%llu,rewarm=0,passthrough=off",
		 bench.cache,
		 (unsigned long long)(bench.len + bench.len / 8 + (64 << 20)));
	bench_mount(options);
	if (!bench_fill_disk())
		bench.missed = true;
	bench_reset_counts();
	ready_after("ready after an orderly end", true, options);
	ready_after("ready after kill -9", false, options);
	n_get = bench_metric("vecfs_requests_get_total");
	bench_result("GETs of the last", (double)n_get, "", BENCH_AT_MOST, 0);
	bench_unmount();
	bench_empty_cache();
}
