/*
 * A put of many rows, and the catalog of its keys: built from the records of
 * its shards, then looked up in random order on one core.
 */
#include "bench/write_rig.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/catalog.h"

enum { LOOKUPS = 2000000, KEY_LEN = 24 };

/* ---- the put -------------------------------------------------------------------------- */

/* Seconds of a program, and its peak RSS. */
static double run_measured(char *const argv[], double *out_mib)
{
	uint64_t start = vf_now_ns();
	struct rusage usage;
	int status;
	pid_t pid = fork();

	if (!pid) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status) {
		errno = EIO;
		bench_fail(argv[0]);
	}
	*out_mib = (double)usage.ru_maxrss / 1024;
	return (double)(vf_now_ns() - start) / 1e9;
}

/* Into index "bulk" of the bucket at @dir. */
static void put(const char *dir)
{
	char npy[BENCH_PATH], vectool[BENCH_PATH], target[BENCH_PATH + 8],
		rows[16], dim[16];
	double mib;

	write_path("bulk.npy", npy);
	snprintf(target, sizeof(target), "%s/bulk", dir);
	snprintf(vectool, sizeof(vectool), "%s/vectool", bench.bin);
	snprintf(rows, sizeof(rows), "%u", set.rows);
	snprintf(dim, sizeof(dim), "%u", set.dim);
	bench_tool((const char *const[]){"gen", "--rows", rows, "--dim", dim,
					 "-q", npy, NULL});
	sync(); /* what is left to write must not fall into the put */
	double s = run_measured(
		(char *[]){vectool, "put", target, npy, "-q", NULL}, &mib);
	bench_note("bulk put of %u rows, index built: %.2f s", set.rows, s);
	bench_result("bulk put into file://", set.rows / s, "rows/s",
		     BENCH_AT_LEAST, 20000);
	bench_result("  peak RSS", mib, "MiB", BENCH_AT_MOST, 2048);
	unlink(npy);
}

/* ---- its keys ------------------------------------------------------------------------- */

/* Of this thread: others may keep the machine busy. */
static double cpu_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Their texts are made before the clock starts. */
static void look_up(struct vf_catalog_view *v, uint64_t n_keys)
{
	VF_AUTO_FREE char *keys = malloc((size_t)LOOKUPS * KEY_LEN);
	uint64_t seed = 1, n_found = 0;

	if (!keys)
		bench_fail("memory");
	for (size_t i = 0; i < LOOKUPS; i++)
		snprintf(keys + i * KEY_LEN, KEY_LEN, "%llu",
			 (unsigned long long)(vf_splitmix64(&seed) % n_keys));
	double start = cpu_now_s();
	for (size_t i = 0; i < LOOKUPS; i++) {
		const char *key = keys + i * KEY_LEN;
		struct vf_place p;
		n_found += !vf_catalog_find(v, key, strlen(key), &p);
	}
	double s = cpu_now_s() - start;
	if (n_found != LOOKUPS) {
		errno = ENOENT;
		bench_fail("a key that was put");
	}
	bench_result("key look-ups, one core", LOOKUPS / s, "/s",
		     BENCH_AT_LEAST, 500000);
}

static int read_keys(struct vf_bucket *b, const char *dir)
{
	struct vf_catalog_sync sync = {.bucket = b, .newest = true};
	struct vf_catalog_view *v = NULL;
	struct vf_catalog *c = NULL;
	struct vf_state *s;
	int err = vf_state_load(b, "bulk", &s);

	if (err)
		return err;
	sync.state = s;
	err = vf_catalog_open(dir, s->uuid, &c);
	uint64_t start = vf_now_ns();
	if (!err)
		err = vf_catalog_sync(c, &sync);
	bench_result("catalog built from nothing",
		     (double)s->n_rows / ((double)(vf_now_ns() - start) / 1e9),
		     "keys/s", BENCH_AT_LEAST, 100000);
	if (!err)
		err = vf_catalog_look(c, s, &v);
	if (!err)
		look_up(v, s->n_rows);
	vf_catalog_done(v);
	vf_catalog_close(c);
	vf_state_free(s);
	return err;
}

void write_bulk(void)
{
	char dir[BENCH_PATH], cache[BENCH_PATH], url[BENCH_PATH + 8];
	char *argv[] = {"rm", "-rf", dir, NULL};
	struct vf_bucket *b;

	write_path("bucket", dir);
	write_path("catalog", cache);
	snprintf(url, sizeof(url), "file://%s", dir);
	if (mkdir(dir, 0700))
		bench_fail(dir);
	put(dir);
	errno = EIO;
	if (vf_bucket_open(url, NULL, &b))
		bench_fail(url);
	if (read_keys(b, cache))
		bench_fail(cache);
	vf_bucket_close(b);
	bench_run(argv);
}
