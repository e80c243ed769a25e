/* The reads that bench_mount times, and how results are printed. */
#include "bench/mount_rig.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { PIECE_LEN = 1 << 20, PAGES_PER_BLOCK = BENCH_BLOCK / BENCH_PAGE };

/* ---- which pages ------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

uint64_t *bench_pick_pages(size_t n, uint64_t seed)
{
	size_t n_blocks = bench.len / BENCH_BLOCK;
	uint64_t *all = malloc(n_blocks * sizeof(*all));
	uint64_t x = 88172645463325252u + seed * 0x9e3779b97f4a7c15;

	if (!all || n > n_blocks) {
		errno = all ? EINVAL : ENOMEM;
		bench_fail("too few blocks in the object");
	}
	for (size_t i = 0; i < n_blocks; i++)
		all[i] =
			i * PAGES_PER_BLOCK + next_random(&x) % PAGES_PER_BLOCK;
	for (size_t i = n_blocks - 1; i > 0; i--) {
		size_t j = next_random(&x) % (i + 1);
		uint64_t t = all[i];
		all[i] = all[j];
		all[j] = t;
	}
	return all;
}

/* ---- reading ------------------------------------------------------------------------ */

struct file {
	const char *path;
	int fd;
	size_t len;
	const uint8_t *map; /* NULL: pread */
	uint8_t *buf;	    /* for pread; aligned for O_DIRECT */
	size_t read_len;
};

static void open_file(struct file *f, const char *path, int flags)
{
	struct stat st;

	*f = (struct file){.path = path, .read_len = BENCH_PAGE};
	f->fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	if (f->fd < 0 || fstat(f->fd, &st))
		bench_fail(path);
	f->len = (size_t)st.st_size;
	f->buf = aligned_alloc(BENCH_PAGE, BENCH_BLOCK);
	if (!f->buf)
		bench_fail("memory");
}

static void close_file(struct file *f)
{
	if (f->map)
		munmap((void *)f->map, f->len);
	close(f->fd);
	free(f->buf);
}

static void map_file(struct file *f)
{
	void *p = mmap(NULL, f->len, PROT_READ, MAP_SHARED, f->fd, 0);

	if (p == MAP_FAILED || madvise(p, f->len, MADV_RANDOM))
		bench_fail(f->path);
	f->map = p;
}

static uint64_t read_page(struct file *f, uint64_t page)
{
	uint64_t off = page * BENCH_PAGE;

	if (f->map)
		return vf_le64(f->map + off);
	if (f->read_len > BENCH_PAGE)
		off -= off % f->read_len;
	if (pread(f->fd, f->buf, f->read_len, (off_t)off) !=
	    (ssize_t)f->read_len)
		bench_fail(f->path);
	return vf_le64(f->buf);
}

static struct bench_times read_pages(struct file *f, const uint64_t *pages,
				     size_t n, bool check)
{
	VF_AUTO_FREE double *ns = malloc(n * sizeof(*ns));
	struct bench_times t = {0};
	uint64_t start, now, got;

	if (!ns)
		bench_fail("memory");
	start = vf_now_ns();
	now = start;
	for (size_t i = 0; i < n; i++) {
		got = read_page(f, pages[i]);
		uint64_t then = now;
		now = vf_now_ns();
		ns[i] = (double)(now - then);
		if (check && got != pages[i]) {
			errno = EBADMSG;
			bench_fail("wrong bytes");
		}
	}
	t.wall_ns = (double)(now - start);
	t.mean_ns = t.wall_ns / (double)n;
	t.p50_ns = bench_median(ns, n);
	return t;
}

void bench_drop_pages(const char *path)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		bench_fail(path);
}

struct bench_times bench_random(const char *path, enum bench_how how,
				const uint64_t *pages, size_t n, bool check)
{
	struct bench_times t;
	struct file f;

	bench_drop_pages(path);
	open_file(&f, path, 0);
	if (how == BENCH_FAULT)
		map_file(&f);
	else
		posix_fadvise(f.fd, 0, 0, POSIX_FADV_RANDOM);
	t = read_pages(&f, pages, n, check);
	close_file(&f);
	return t;
}

struct bench_times bench_direct(const char *path, const uint64_t *pages,
				size_t n, size_t len)
{
	struct bench_times t;
	struct file f;

	open_file(&f, path, O_DIRECT);
	f.read_len = len;
	t = read_pages(&f, pages, n, false);
	close_file(&f);
	return t;
}

double bench_sequential(const char *path)
{
	VF_AUTO_FREE uint8_t *piece = malloc(PIECE_LEN);
	uint64_t start, len = 0;
	ssize_t n;

	bench_drop_pages(path);
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !piece)
		bench_fail(path);
	memset(piece, 1, PIECE_LEN);
	start = vf_now_ns();
	while ((n = read(fd, piece, PIECE_LEN)) > 0)
		len += (uint64_t)n;
	if (n < 0 || len != bench.len)
		bench_fail(path);
	return (double)len * 1000 / (double)(vf_now_ns() - start);
}

/* ---- results ---------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double bench_median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

void bench_result(const char *what, double value, const char *unit,
		  enum bench_bar kind, double bar)
{
	static const char *const sign[] = {"<=", ">="};
	bool fine = kind == BENCH_AT_MOST ? value <= bar : value >= bar;

	printf("  %-46s %9.4g %-5s", what, value, unit);
	if (kind != BENCH_NO_BAR) {
		printf(" bar %s %g  %s", sign[kind], bar, fine ? "ok" : "MISS");
		bench.missed |= !fine;
	}
	putchar('\n');
	fflush(stdout);
}

void bench_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("  ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	va_end(ap);
	fflush(stdout);
}
