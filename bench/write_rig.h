/*
 * What the sections of bench_write share; see bench_write.c.
 */
#ifndef VF_BENCH_WRITE_RIG_H
#define VF_BENCH_WRITE_RIG_H

#include "bench/mount_rig.h"

enum { UPSERTS_PER_S = 5000 }; /* beside queries */

struct write_set {
	uint32_t rows;	    /* of the bulk put */
	uint32_t base;	    /* of the index that is upserted into */
	uint32_t dim, bits; /* bits: of its codes */
	uint32_t batch;	    /* rows */
	uint32_t in_flight; /* batches handed over and not acknowledged */
	uint32_t seconds;   /* of upserts */
	uint32_t queries;
	uint64_t n_x;	/* base, and rows to be put */
	const float *x; /* [n_x][dim] */
	const float *q; /* [queries][dim] */
};
extern struct write_set set;

void write_path(const char *name, char out[BENCH_PATH]);
/* The rows of a .npy file, mapped for good. */
const float *write_map(const char *path, uint64_t *out_rows);

void write_bulk(void);	  /* write_bulk.c: a put of many rows, and its keys */
void write_upserts(void); /* write_upsert.c: batches, and a stream of lines */
void write_queries(void); /* write_query.c: what queries cost beside them */

/* ---- a writer of its own process --------------------------------------------- */

struct writer_result {
	double rows_per_s, p50_ms, p99_ms, max_ms;
	uint64_t n_batches, n_commits;
	uint64_t head; /* [atomic] of the last commit, while it runs */
	bool failed;
};
struct writer {
	pid_t pid;
	struct writer_result *result; /* shared with it */
};
/*
 * Upsert batches into index "v" for set.seconds: one row of ten replaces one of
 * the base.  @rows_per_s: no faster; 0: as fast as it goes.
 */
struct writer writer_start(uint32_t rows_per_s);
/* Waits for its end. */
struct writer_result writer_end(struct writer *w);
bool writer_runs(const struct writer *w);

#endif
