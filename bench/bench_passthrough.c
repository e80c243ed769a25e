/*
 * A passed-through file of a mount against the local file behind it: pairs that
 * alternate and swap, so that both meet the same machine.
 *
 *     bench_passthrough [MIB PAIRS [DIR]]     512 9 and TMPDIR or /tmp
 *     bench_passthrough --between RAW FILE MOUNT [PAIRS]
 *         of a mount that is there: FILE of it, and what is behind that
 *
 *   random      pages of a fresh mapping, in the page cache, one of each 64 KiB
 *               in random order: a fault maps its neighbours along
 *   sequential  read(2) of the whole file in pieces of 1 MiB, in the page cache
 *   cold        the same two with the file dropped from the page cache before;
 *               what the disk does weighs most there
 *
 * vecfs is looked for beside this program.  A ratio is the raw file's time over
 * the mount's, the median of pairs; the bar is 0.9, and no read reaches the
 * daemon.  Exit status 1 when the warm ratios miss it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/util.h"

enum { PAIRS_MAX = 101, PAGE_LEN = 4096, PIECE_LEN = 1 << 20, AROUND = 16 };

static const double bar = 0.9;

static char dir[PATH_MAX], raw[PATH_MAX + 16], mnt[PATH_MAX + 16],
	through[PATH_MAX + 16], bucket[PATH_MAX + 16];
static uint32_t *order; /* of pages, one per AROUND, shuffled */
static size_t n_pages;
static uint64_t sink; /* keeps what is read from being left out */

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "bench_passthrough: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int run(char *const argv[])
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid ? -1 : status;
}

static void unmount(void)
{
	char *argv[] = {"fusermount3", "-u", mnt, NULL};

	run(argv);
	unlink(raw);
	rmdir(bucket);
	rmdir(mnt);
	rmdir(dir);
}

/* ---- set-up ---------------------------------------------------------------------- */

static void write_file(uint64_t len)
{
	VF_AUTO_FREE uint64_t *piece = malloc(PIECE_LEN);
	VF_AUTO_FD int fd =
		open(raw, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || !piece)
		fail(raw);
	for (uint64_t off = 0; off < len; off += PIECE_LEN) {
		vf_random(piece, PIECE_LEN);
		if (vf_write_all(fd, piece, PIECE_LEN))
			fail(raw);
	}
	if (fsync(fd))
		fail(raw);
}

static void shuffle_pages(uint64_t len)
{
	uint64_t x = 88172645463325252u;

	n_pages = len / PAGE_LEN / AROUND;
	order = malloc(n_pages * sizeof(*order));
	if (!order)
		fail("memory");
	for (size_t i = 0; i < n_pages; i++)
		order[i] = (uint32_t)(i * AROUND + i * 7 % AROUND);
	for (size_t i = n_pages - 1; i > 0; i--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		size_t j = x % (i + 1);
		uint32_t t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
}

static void mount_bucket(const char *tmp)
{
	char self[PATH_MAX] = "", vecfs[PATH_MAX], url[PATH_MAX + 32];

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		fail("/proc/self/exe");
	snprintf(vecfs, sizeof(vecfs), "%.4000s/vecfs", dirname(self));
	snprintf(url, sizeof(url), "file://%s", bucket);
	char *argv[] = {vecfs, url, mnt, NULL};
	if (run(argv)) {
		fprintf(stderr, "bench_passthrough: cannot mount\n");
		unmount();
		exit(1);
	}
}

static void make_paths(const char *tmp)
{
	snprintf(dir, sizeof(dir), "%.3900s/vecfs-bench-XXXXXX", tmp);
	if (!mkdtemp(dir))
		fail(dir);
	snprintf(bucket, sizeof(bucket), "%s/bucket", dir);
	snprintf(mnt, sizeof(mnt), "%s/mnt", dir);
	snprintf(raw, sizeof(raw), "%.4090s/file", bucket);
	snprintf(through, sizeof(through), "%.4090s/file", mnt);
	if (mkdir(bucket, 0700) || mkdir(mnt, 0700))
		fail(dir);
}

/* ---- what is measured ------------------------------------------------------------ */

static void drop_pages(void)
{
	VF_AUTO_FD int fd = open(raw, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		fail(raw);
}

/* Nanoseconds per page. */
static double touch_pages(const char *path, size_t n)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint64_t start;
	double ns;

	if (fd < 0 || fstat(fd, &st))
		fail(path);
	const uint8_t *p =
		mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		fail(path);
	madvise((void *)p, (size_t)st.st_size, MADV_RANDOM);
	start = vf_now_ns();
	for (size_t i = 0; i < n; i++)
		sink += p[(size_t)order[i] * PAGE_LEN];
	ns = (double)(vf_now_ns() - start) / (double)n;
	munmap((void *)p, (size_t)st.st_size);
	return ns;
}

/* Nanoseconds per MiB. */
static double read_all(const char *path)
{
	VF_AUTO_FREE uint8_t *piece = malloc(PIECE_LEN);
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t start, pieces = 0;
	ssize_t n;

	if (fd < 0 || !piece)
		fail(path);
	memset(piece, 1, PIECE_LEN);
	start = vf_now_ns();
	while ((n = read(fd, piece, PIECE_LEN)) > 0) {
		sink += piece[n - 1];
		pieces++;
	}
	if (n < 0 || !pieces)
		fail(path);
	return (double)(vf_now_ns() - start) / (double)pieces;
}

static uint64_t read_metric(const char *name)
{
	VF_AUTO_FREE char *path = NULL;
	char line[256];
	uint64_t value = 0;
	size_t n = strlen(name);

	if (asprintf(&path, "%s/.vecfs/metrics", mnt) < 0)
		fail("memory");
	FILE *f = fopen(path, "re");
	if (!f)
		fail(path);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ' ')
			value = strtoull(line + n, NULL, 10);
	fclose(f);
	return value;
}

struct kind {
	const char *name;
	bool sequential, cold;
	size_t pages;
};

static double measure(const struct kind *k, const char *path)
{
	if (k->cold)
		drop_pages();
	return k->sequential ? read_all(path)
			     : touch_pages(path, VF_MIN(k->pages, n_pages));
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* The median ratio of the pairs. */
static double run_pairs(const struct kind *k, unsigned n)
{
	double ratio[PAIRS_MAX], a[PAIRS_MAX], b[PAIRS_MAX];
	double scale = k->sequential ? 1048576.0 : 1e-3; /* GB/s; us */

	measure(k, raw); /* both warm, and the mount's names known */
	measure(k, through);
	for (unsigned i = 0; i < n; i++) {
		if (i % 2) {
			b[i] = measure(k, through);
			a[i] = measure(k, raw);
		} else {
			a[i] = measure(k, raw);
			b[i] = measure(k, through);
		}
		ratio[i] = a[i] / b[i];
	}
	qsort(ratio, n, sizeof(*ratio), compare);
	qsort(a, n, sizeof(*a), compare);
	qsort(b, n, sizeof(*b), compare);
	if (k->sequential)
		printf("%-18s raw %6.2f GB/s   mount %6.2f GB/s  ", k->name,
		       scale / a[n / 2], scale / b[n / 2]);
	else
		printf("%-18s raw %6.2f us     mount %6.2f us    ", k->name,
		       a[n / 2] * scale, b[n / 2] * scale);
	printf(" ratio %.3f (%.3f to %.3f, %u pairs)\n", ratio[n / 2], ratio[0],
	       ratio[n - 1], n);
	fflush(stdout);
	return ratio[n / 2];
}

static bool run_all(unsigned n)
{
	static const struct kind all[] = {
		{"random", false, false, SIZE_MAX},
		{"sequential", true, false, 0},
		{"random, cold", false, true, 2000},
		{"sequential, cold", true, true, 0},
	};
	uint64_t before = read_metric("vecfs_cache_asked_bytes_total"), after;
	bool fine = true;

	for (size_t i = 0; i < VF_N(all); i++) {
		double ratio = run_pairs(&all[i], n);
		fine = fine && (all[i].cold || ratio >= bar);
	}
	after = read_metric("vecfs_cache_asked_bytes_total");
	printf("bytes asked of the daemon: %" PRIu64 "\n", after - before);
	return fine && after == before;
}

/* Both are there: nothing is made, and nothing removed. */
static int run_between(int argc, char **argv)
{
	unsigned n = argc > 5 ? (unsigned)atoi(argv[5]) : 9;
	struct stat st;

	if (argc < 5 || !n || n > PAIRS_MAX) {
		fprintf(stderr, "usage: bench_passthrough --between RAW FILE "
				"MOUNT [PAIRS]\n");
		return 2;
	}
	snprintf(raw, sizeof(raw), "%s", argv[2]);
	snprintf(through, sizeof(through), "%s", argv[3]);
	snprintf(mnt, sizeof(mnt), "%s", argv[4]);
	if (stat(raw, &st))
		fail(raw);
	shuffle_pages((uint64_t)st.st_size);
	read_all(through);
	if (!read_metric("vecfs_passthrough_opens_total")) {
		puts("passthrough is off here; .vecfs/status.json says why");
		return 0;
	}
	return run_all(n) ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--between"))
		return run_between(argc, argv);
	unsigned mib = argc > 1 ? (unsigned)atoi(argv[1]) : 512;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 9;
	const char *tmp = getenv("TMPDIR");
	bool fine;

	if (!mib || mib > 1 << 20 || !n || n > PAIRS_MAX) {
		fprintf(stderr, "usage: bench_passthrough [MIB PAIRS [DIR]]\n");
		return 2;
	}
	if (argc > 3)
		tmp = argv[3];
	make_paths(tmp ? tmp : "/tmp");
	write_file((uint64_t)mib << 20);
	shuffle_pages((uint64_t)mib << 20);
	mount_bucket(dir);
	drop_pages();
	read_all(through);
	if (!read_metric("vecfs_passthrough_opens_total")) {
		puts("passthrough is off here; .vecfs/status.json says why");
		unmount();
		return 0;
	}
	fine = run_all(n);
	unmount();
	free(order);
	return fine ? 0 : 1;
}
