/*
 * What bench_mount measures with: an S3 server beside it, mounts, reads that
 * are timed one by one, and the table of results.  Whatever fails ends the
 * program with a message; mounts and files are removed on every way out.
 *
 * Threads: one, but for what a function starts and ends itself.
 */
#ifndef VF_BENCH_MOUNT_RIG_H
#define VF_BENCH_MOUNT_RIG_H

#include <limits.h>

#include "store/util.h"

enum {
	BENCH_PAGE = 4096,
	BENCH_BLOCK = 64 << 10,
	BENCH_PATH = 4096 + 300,
	BENCH_ROUNDS_MAX = 101,
};

struct bench {
	char dir[PATH_MAX];   /* everything of a run is below it */
	char mnt[PATH_MAX];   /* of vecfs, or of another */
	char null[PATH_MAX];  /* of null_fs */
	char cache[PATH_MAX]; /* for disk tiers */
	char bin[PATH_MAX];   /* where our programs are */
	char data[PATH_MAX];  /* of s3sim, to be kept; "": in its memory */
	char file[PATH_MAX];  /* the object, in the mount */
	char url[512];	      /* of the bucket */
	uint64_t len;	      /* of the object, bytes */
	unsigned rounds;      /* repetitions; medians are printed */
	unsigned latency_ms;  /* of a GET, where the section has one */
	bool sim;	      /* the server is s3sim: it counts and delays */
	bool missed;	      /* a bar */
};

extern struct bench bench;

/* The object: the page's number in its first 8 bytes, noise after. */
#define BENCH_KEY "data"

_Noreturn void bench_fail(const char *what); /* with errno */
/* Returns the exit status; -1 killed or not started. */
int bench_run(char *const argv[]);
/* vectool @args..., a list that ends in NULL; it has to succeed. */
void bench_tool(const char *const args[]);
/* Before bench_serve: the server's data are kept, as @dir/bucket. */
void bench_keep(const char *dir);

/* @disk_dir: where mounts, caches and files are; NULL: TMPDIR or /tmp. */
void bench_open(const char *disk_dir);
/* The server of the environment, if @real and there is one, else s3sim; with
 * the object in it. */
void bench_serve(bool real);

/* ---- s3sim; all do nothing for another server ------------------------------- */

struct bench_counts {
	uint64_t get, bytes; /* since the reset; bytes of bodies */
	uint64_t all;	     /* requests of any kind */
	/* Rounds of GETs, none in flight between them; and as if each other
	 * request was waited for by itself. */
	uint64_t rounds;
};
void bench_set_latency(unsigned ms);
void bench_reset_counts(void);
struct bench_counts bench_counts(void);

/* ---- mounts ------------------------------------------------------------------- */

void bench_mount(const char *options);
/* Somebody else's mount is there now: to be taken down like ours. */
void bench_adopt_mount(void);
void bench_unmount(void);
void bench_mount_null(void);
void bench_unmount_null(void);
/* A line of .vecfs/metrics; 0 when it is not there. */
uint64_t bench_metric(const char *name);
/* The daemon saves its disk tier's index after the mount is gone; then its
 * lock is free. */
void bench_await_tier(void);
/* Read the object until all of it is in the disk tier.  False: it does not
 * stay there, as is printed. */
bool bench_fill_disk(void); /* mount_warm.c */
/* Remove what is in the cache's folder, when its daemon has ended. */
void bench_empty_cache(void);

/* ---- reads: nanoseconds --------------------------------------------------------- */

/* One page of each of @n different blocks, shuffled; the caller's to free. */
uint64_t *bench_pick_pages(size_t n, uint64_t seed);

enum bench_how { BENCH_FAULT, BENCH_PREAD };

struct bench_times {
	double p50_ns, mean_ns, wall_ns;
};
/*
 * Read the pages one after the other, @path's pages of the page cache dropped
 * before.  @check: the bytes are the object's.
 */
struct bench_times bench_random(const char *path, enum bench_how how,
				const uint64_t *pages, size_t n, bool check);
/* O_DIRECT preads of @len bytes at the pages' blocks. */
struct bench_times bench_direct(const char *path, const uint64_t *pages,
				size_t n, size_t len);
/* All of it in pieces of 1 MiB; what is cached dropped before.  MB/s. */
double bench_sequential(const char *path);
void bench_drop_pages(const char *path);

double bench_median(double *v, size_t n); /* sorts */

/* ---- results --------------------------------------------------------------------- */

/* One line: "what  value unit  bar  ok|MISS". */
enum bench_bar { BENCH_AT_MOST, BENCH_AT_LEAST, BENCH_NO_BAR };
void bench_result(const char *what, double value, const char *unit,
		  enum bench_bar kind, double bar);
void bench_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- options --------------------------------------------------------------------- */

/* @s as a number of @min to @max; else usage: a message, exit status 2. */
uint32_t bench_number(const char *s, uint32_t min, uint32_t max);

/* ---- the sections ------------------------------------------------------------------ */

void bench_faults(void);      /* mount_cold.c */
void bench_hinted(void);      /* mount_cold.c */
void bench_cold_stream(void); /* mount_cold.c */
void bench_ram(void);	      /* mount_warm.c */
void bench_disk(void);	      /* mount_warm.c */
void bench_whole(void);	      /* mount_warm.c */
void bench_ready(void);	      /* mount_ready.c */
void bench_others(void);      /* mount_others.c */
void bench_cold_query(void);  /* mount_query.c */

#endif
