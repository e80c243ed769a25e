/*
 * A query whose rows only the bucket has: how much longer it takes than the
 * same query warm, the index open in both.
 */
#include "bench/mount_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "store/npy.h"

enum {
	ROWS = 20000,
	DIM = 1024,
	REPEATS = 3, /* of one query: cold, then warm */
};

static void path_in(const char *name, char out[BENCH_PATH])
{
	snprintf(out, BENCH_PATH, "%s/%s", bench.dir, name);
}

static void run_ours(const char *program, const char *const args[])
{
	char path[BENCH_PATH];
	char *argv[16] = {path};
	size_t n = 1;

	snprintf(path, sizeof(path), "%s/%s", bench.bin, program);
	for (; args[n - 1]; n++)
		argv[n] = (char *)args[n - 1];
	if (bench_run(argv)) {
		errno = EIO;
		bench_fail(path);
	}
}

/* The one query of @from, REPEATS times. */
static void repeat_query(const char *from, const char *to)
{
	uint8_t head[VF_NPY_DATA_OFF];
	float row[DIM];
	struct vf_npy npy = {.dtype = VF_F32, .n_rows = REPEATS, .dim = DIM};
	VF_AUTO_FD int in = open(from, O_RDONLY | O_CLOEXEC);
	VF_AUTO_FD int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	off_t len = in < 0 ? -1 : lseek(in, 0, SEEK_END);

	vf_npy_header(&npy, head);
	if (out < 0 || len < (off_t)sizeof(row) ||
	    vf_pread_all(in, row, sizeof(row), (uint64_t)len - sizeof(row)) ||
	    vf_write_all(out, head, sizeof(head)))
		bench_fail(to);
	for (int i = 0; i < REPEATS; i++)
		if (vf_write_all(out, row, sizeof(row)))
			bench_fail(to);
}

static void make_index(char queries[BENCH_PATH])
{
	char base[BENCH_PATH], one[BENCH_PATH], rows[16], dim[16], index[600];

	path_in("base.npy", base);
	path_in("one.npy", one);
	path_in("queries.npy", queries);
	snprintf(rows, sizeof(rows), "%d", ROWS);
	snprintf(dim, sizeof(dim), "%d", DIM);
	snprintf(index, sizeof(index), "%s/v", bench.url);
	run_ours("vectool",
		 (const char *const[]){"gen", "--rows", rows, "--dim", dim,
				       "--queries", "1", "--queries-out", one,
				       "-q", base, NULL});
	run_ours("vectool",
		 (const char *const[]){"put", index, base, "-q", NULL});
	repeat_query(one, queries);
}

/* Milliseconds of each of REPEATS queries of one process. */
static void ask(const char *queries, double out_ms[REPEATS])
{
	char command[3 * BENCH_PATH], line[1 << 16];
	FILE *p;
	int n = 0;

	snprintf(command, sizeof(command),
		 "%s/vecquery %s/v --npy %s -k 10 --candidates 100 "
		 "--no-metadata --format jsonl",
		 bench.bin, bench.mnt, queries);
	p = popen(command, "r");
	if (!p)
		bench_fail(command);
	while (fgets(line, sizeof(line), p)) {
		const char *at = strstr(line, "\"total\":");
		if (at && n < REPEATS)
			out_ms[n++] = strtod(at + strlen("\"total\":"), NULL);
	}
	if (pclose(p) || n != REPEATS) {
		errno = EIO;
		bench_fail(command);
	}
}

void bench_cold_query(void)
{
	char queries[BENCH_PATH];
	double ms[REPEATS], extra[BENCH_ROUNDS_MAX], warm[BENCH_ROUNDS_MAX],
		gets = 0;

	make_index(queries);
	for (unsigned i = 0; i < bench.rounds; i++) {
		bench_mount("name_ttl_ms=60000");
		bench_set_latency(bench.latency_ms);
		bench_reset_counts();
		ask(queries, ms); /* opening is no part of their time */
		gets = (double)bench_counts().get;
		warm[i] = VF_MIN(ms[1], ms[2]);
		extra[i] = ms[0] - warm[i];
		bench_unmount();
	}
	bench_set_latency(0);
	bench_result("100 candidates, beyond warm",
		     bench_median(extra, bench.rounds), "ms", BENCH_AT_MOST,
		     3.0 * bench.latency_ms);
	bench_result("the same, warm", bench_median(warm, bench.rounds), "ms",
		     BENCH_NO_BAR, 0);
	bench_result("GETs of the cold process, opening included", gets, "",
		     BENCH_NO_BAR, 0);
}
