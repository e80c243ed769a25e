/*
 * What bench_index measures with: indexes in a local bucket below bench.dir,
 * asked in this process by one thread.  Whatever fails ends the program.
 */
#ifndef VF_BENCH_INDEX_RIG_H
#define VF_BENCH_INDEX_RIG_H

#include "bench/mount_rig.h"
#include "query/query.h"
#include "store/npy.h"
#include "tools/matrix.h"

enum { BENCH_TOP = 10 };

/* Queries and the numbers, which are keys, of the rows nearest to them. */
struct bench_exam {
	struct vf_matrix q;
	struct vf_ids right;
};

/* bench.dir/@name */
void bench_path(const char *name, char out[BENCH_PATH]);
/* From now on names are of another set of files and indexes; lent. */
void bench_stage(const char *prefix);
/* What bench_tool took. */
struct bench_put {
	double s;
	long rss_kib; /* at most */
};
struct bench_put bench_tool_timed(const char *const args[]);

/* put of @npy as index @name, with more @args (NULL at the end). */
struct bench_put bench_put(const char *name, const char *npy,
			   const char *const args[]);
/* Opened with its lines of records as a mount shows them, not compressed. */
struct vf_view *bench_view(const char *name);

/* The rows of a .npy file, mapped. */
const void *bench_map(const char *path, struct vf_npy *out);

/* The nearest of all rows of @npy. */
void bench_truth(const char *npy, enum vf_metric metric, struct bench_exam *e);

struct bench_found {
	double recall, scanned, read, p50_ms, scan_ms;
	double fetch_ms; /* of p50: rows, and lines of records for keys */
};
/* All queries once; the least of @rounds medians. */
struct bench_found bench_ask(struct vf_view *v, const struct bench_exam *e,
			     struct vf_search s, unsigned rounds);

/* Fewest leaves that reach @recall with @candidates; all when none do. */
struct bench_found bench_reach(struct vf_view *v, const struct bench_exam *e,
			       double recall, uint32_t candidates);

/* index_sets.c: everything on real vectors; @dir holds the sets. */
void bench_sets(const char *dir);

#endif
