/*
 * `vectool put` into a file:// bucket, without a tree (`--leaves 1`), against cp
 * and fsync of the same file: pairs that alternate, so that both meet the same
 * disk.  Beside it the same put with the tree that it builds by default.
 *
 *     bench_put [ROWS DIM PAIRS [DIR]]     100000 1024 5 and TMPDIR or /tmp
 *
 * vectool is looked for beside this program.  Prints each pair, the median
 * ratio (cp's time / put's time: 0.5 means put takes twice as long) and the
 * peak RSS of put.
 */
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/util.h"

enum { PAIRS_MAX = 100 };

static char vectool[PATH_MAX];

/* Run a program to its end; seconds and peak RSS in KiB. */
static double run(char *const argv[], long *out_rss_kib)
{
	uint64_t start = vf_now_ns();
	struct rusage usage;
	int status;
	pid_t pid = fork();

	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status) {
		fprintf(stderr, "bench_put: %s %s failed\n", argv[0], argv[1]);
		exit(1);
	}
	if (out_rss_kib)
		*out_rss_kib = usage.ru_maxrss;
	return (double)(vf_now_ns() - start) / 1e9;
}

static double copy_and_sync(char *from, char *to)
{
	char *argv[] = {"cp", from, to, NULL};
	uint64_t start = vf_now_ns();

	run(argv, NULL);
	VF_AUTO_FD int fd = open(to, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fsync(fd)) {
		perror(to);
		exit(1);
	}
	return (double)(vf_now_ns() - start) / 1e9;
}

static int remove_entry(const char *path, const struct stat *st, int flag,
			struct FTW *ftw)
{
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	sync(); /* what is left to write must not fall into the next run */
}

/* @leaves: NULL, the default of the rows. */
static double put(const char *dir, char *base, char *leaves, long *out_rss_kib)
{
	VF_AUTO_FREE char *bucket = NULL, *target = NULL;

	if (asprintf(&bucket, "%s/bucket", dir) < 0 ||
	    asprintf(&target, "%s/bucket/index", dir) < 0 ||
	    mkdir(bucket, 0700)) {
		perror("bench_put");
		exit(1);
	}
	char *argv[] = {vectool, "put", target,
			base,	 "-q",	leaves ? "--leaves" : NULL,
			leaves,	 NULL};
	double s = run(argv, out_rss_kib);
	remove_tree(bucket);
	return s;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void run_pairs(const char *dir, char *base, unsigned n)
{
	VF_AUTO_FREE char *copy = NULL;
	double ratio[PAIRS_MAX], copy_s[PAIRS_MAX], put_s[PAIRS_MAX],
		tree_s[PAIRS_MAX];
	long rss_kib = 0, peak_kib = 0, tree_kib = 0;

	if (asprintf(&copy, "%s/copy.npy", dir) < 0)
		exit(1);
	for (unsigned i = 0; i < n; i++) {
		copy_s[i] = copy_and_sync(base, copy);
		remove_tree(copy);
		put_s[i] = put(dir, base, "1", &rss_kib);
		ratio[i] = copy_s[i] / put_s[i];
		peak_kib = VF_MAX(peak_kib, rss_kib);
		tree_s[i] = put(dir, base, NULL, &rss_kib);
		tree_kib = VF_MAX(tree_kib, rss_kib);
		printf("cp + fsync %6.3f s   put %6.3f s   ratio %.2f   with a "
		       "tree %6.3f s\n",
		       copy_s[i], put_s[i], ratio[i], tree_s[i]);
		fflush(stdout);
	}
	qsort(ratio, n, sizeof(*ratio), compare);
	qsort(copy_s, n, sizeof(*copy_s), compare);
	qsort(put_s, n, sizeof(*put_s), compare);
	qsort(tree_s, n, sizeof(*tree_s), compare);
	printf("median: cp + fsync %.3f s, put %.3f s, ratio %.2f (of pairs "
	       "%.2f), peak RSS %.0f MiB; with a tree %.3f s, %.0f MiB\n",
	       copy_s[n / 2], put_s[n / 2], copy_s[n / 2] / put_s[n / 2],
	       ratio[n / 2], (double)peak_kib / 1024, tree_s[n / 2],
	       (double)tree_kib / 1024);
}

int main(int argc, char **argv)
{
	char *rows = argc > 1 ? argv[1] : "100000";
	char *dim = argc > 2 ? argv[2] : "1024";
	unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 5;
	const char *tmp = getenv("TMPDIR");
	char self[PATH_MAX] = "", dir[PATH_MAX], base[PATH_MAX + 16];

	if (argc > 4)
		tmp = argv[4];
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || !n ||
	    n > PAIRS_MAX) {
		fprintf(stderr, "usage: bench_put [ROWS DIM PAIRS [DIR]]\n");
		return 2;
	}
	snprintf(vectool, sizeof(vectool), "%.4000s/vectool", dirname(self));
	snprintf(dir, sizeof(dir), "%s/vecfs-bench-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	snprintf(base, sizeof(base), "%s/base.npy", dir);
	char *gen[] = {vectool,	 "gen", "--rows", rows, "--dim", dim,
		       "--seed", "7",	base,	  "-q", NULL};
	run(gen, NULL);
	sync();
	run_pairs(dir, base, n);
	remove_tree(dir);
	return 0;
}
