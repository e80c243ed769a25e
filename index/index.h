/*
 * Search structures over one shard: open its codes.vix, scan it, refine.
 * How codes come to be is in index/encoder.h.
 *
 * A row's code is the sign of each rotated dimension of its residual to the
 * leaf's centroid, with the factors of the RaBitQ estimator (Gao and Long,
 * SIGMOD 2024, section 3).  A query is rotated and quantised once, to 4 bits
 * in bit planes, relative to the shard's origin; <code, centroid - origin> is
 * folded into the row's additive factor.
 *
 * Where an index keeps extra bits (index/refine.h), candidates of a scan are
 * refined with them: the same estimator, a much smaller error, no row read.
 *
 * Estimated distances are in the metric's own unit: cosine 1 - cos, euclidean
 * squared, dot -<x,y>; ascending is nearer.
 */
#ifndef VF_INDEX_INDEX_H
#define VF_INDEX_INDEX_H

#include "index/topk.h"
#include "store/vecfs.h"

struct vf_index; /* one shard's codes, in private memory */
struct vf_tree;	 /* index/tree.h: what the leaves of many shards are of */

/* ---- opening ------------------------------------------------------------------- */

/*
 * Validate @len bytes of codes.vix and take them over: @p must come from
 * malloc and is freed by close, or by this call when it fails.
 * Returns 0; -EBADMSG damaged; -ENOTSUP newer; -ENOMEM; @out_reason constant.
 */
VF_API int vf_index_open(void *p, size_t len, struct vf_index **out,
			 const char **out_reason);
VF_API void vf_index_close(struct vf_index *ix);

/*
 * The same of a mapped file.  Codes, factors and extra bits stay there and are
 * read by @copy; what is held is small, at any time.  Bytes are checked within
 * @call, which may give up.  Both: 0, or negative where the mapping faults.
 * @map is borrowed until close.  Returns as above; -EREMOTEIO it faulted.
 */
struct vf_index_mapping {
	const void *map;
	size_t len;
	int (*copy)(void *dst, const void *src, size_t len);
	int (*call)(void (*fn)(void *arg), void *arg);
	/* Begin to read what copy will be asked for; NULL: nothing is gained. */
	void (*want)(const void *p, size_t len);
};
VF_API int vf_index_open_mapped(const struct vf_index_mapping *m,
				struct vf_index **out, const char **out_reason);

/*
 * Give a shard that follows a tree its tree, before it is searched; others
 * need none.  @t is borrowed until close, and learns how large its leaves are.
 * Returns 0; -EINVAL another tree.
 */
VF_API int vf_index_attach(struct vf_index *ix, struct vf_tree *t);
VF_API bool vf_index_has_tree(const struct vf_index *ix);

struct vf_index_info {
	uint32_t dim, padded_dim, n_leaves;
	uint32_t bits; /* per dimension, in all */
	uint64_t n_rows, rotation_seed;
	enum vf_metric metric;
	enum vf_dtype dtype;
	size_t ram_len; /* bytes held */
	bool has_tree;	/* attached */
};
VF_API void vf_index_info(const struct vf_index *ix, struct vf_index_info *out);
/*
 * About the length of the longest row of a shard that follows no tree, 0 of
 * others: that of its origin and the largest residual.
 */
VF_API double vf_index_reach(const struct vf_index *ix);

/*
 * What was stored for row @row (< n_rows): its checksum; where its record line
 * is in records.jsonl, and that line's checksum.
 *
 * Returns 0, as always of an index that was opened whole; -EBADMSG; what the
 * source's peek returns.  Outputs are 0 on error.  Threads: any.
 */
VF_API int vf_index_row_crc(const struct vf_index *ix, uint64_t row,
			    uint32_t *out);
VF_API int vf_index_line(const struct vf_index *ix, uint64_t row,
			 uint64_t *out_off, uint32_t *out_len,
			 uint32_t *out_crc);
/* XXH3-64 of the key's bytes. */
VF_API uint64_t vf_key_hash(const void *key, size_t len);
/*
 * Call @fn with each row whose key hashes to @hash; a hit is only a hint until
 * its line has been read.  Non-zero from @fn stops and is returned.
 */
VF_API int vf_index_find_hash(const struct vf_index *ix, uint64_t hash,
			      int (*fn)(void *arg, uint64_t row), void *arg);
/* uint64_t[n_rows], in row order; valid until close. */
VF_API const uint64_t *vf_index_key_hashes(const struct vf_index *ix);

/* ---- searching -------------------------------------------------------------------- */

/*
 * Estimate every row's distance to @q and push the best into @top as
 * (estimate, base + row): the heap's own k decides how many stay.
 *
 * @q        float[dim] as given (scaled here under cosine; not zero then)
 * @scratch  from vf_scan_scratch_new, one per thread
 * Returns 0; -EINVAL a dimension that is not the index's; -EREMOTEIO a mapped
 * shard cannot be read.
 * Threads: any, with scratch of its own.
 */
struct vf_scan_scratch;
VF_API int vf_scan_scratch_new(uint32_t dim, struct vf_scan_scratch **out);
VF_API void vf_scan_scratch_free(struct vf_scan_scratch *s);
VF_API int vf_index_scan(const struct vf_index *ix, const float *q,
			 struct vf_scan_scratch *scratch, uint64_t base,
			 struct vf_topk *top);

/*
 * A leaf that a query looks into, made by vf_tree_choose.
 */
struct vf_probe {
	uint32_t leaf;	/* of the tree */
	float base;	/* its share of the distance of each of its rows */
	float distance; /* |q - centroid|, for bounds */
	float score;	/* leaves in this order, ascending, hold the nearest */
};

/*
 * The same, of those leaves alone; the shard follows the tree they are of.
 * @out_rows  rows estimated
 * Returns 0; -EINVAL also for a flat shard.
 */
VF_API int vf_index_scan_probes(const struct vf_index *ix, const float *q,
				struct vf_scan_scratch *scratch, uint64_t base,
				const struct vf_probe *probes, uint32_t n,
				struct vf_topk *top, uint64_t *out_rows);

/* One of several queries that are scanned for together. */
struct vf_scan_job {
	const float *q;
	struct vf_scan_scratch *scratch; /* its own */
	const struct vf_probe *probes;	 /* [n_probes]; NULL: every leaf */
	uint32_t n_probes;
	struct vf_topk *top;
	uint64_t n_rows; /* out: estimated */
};

/* A share of the rows: the number-th of so many. */
struct vf_scan_part {
	uint32_t number, of;
};

/*
 * Scan for all of @jobs in one pass over the codes: a block of rows is in the
 * nearest cache for all queries but the first.  Flat shards ignore probes.
 * Returns as vf_index_scan; -ENOMEM.
 */
VF_API int vf_index_scan_jobs(const struct vf_index *ix, uint64_t base,
			      struct vf_scan_part part,
			      struct vf_scan_job *jobs, size_t n);

/*
 * The same by plain Hamming distance between the codes of rows and of the
 * query, unweighted: the baseline.  Distances are counts of differing bits.
 */
VF_API int vf_index_scan_hamming(const struct vf_index *ix, const float *q,
				 struct vf_scan_scratch *scratch, uint64_t base,
				 struct vf_topk *top);

/* A row and what is known of its distance. */
struct vf_refined {
	uint32_t row;
	uint32_t bits; /* out: that were used */
	float dist;    /* estimate, in the metric's unit */
	float err; /* times eps: its bound; eps 1.9 holds for 94 % or more */
	float scan_err; /* the same of the estimate by 1 bit */
};

/*
 * Estimate rows (< n_rows, any order) again, with all bits the index has and a
 * query that is not rounded to 4 bits; without extra bits by the 1-bit code.
 * Rows of one leaf should follow each other.
 * Returns 0; -EINVAL a dimension that is not the index's; -EREMOTEIO a mapped
 * shard cannot be read.
 * Threads: any, with scratch of its own.
 */
VF_API int vf_index_refine(const struct vf_index *ix, const float *q,
			   struct vf_scan_scratch *scratch,
			   struct vf_refined *rows, size_t n);

/*
 * Exact distances of @n rows of vectors.npy (any alignment) to @q.
 * @rows  n rows of dim elements of @dtype, contiguous
 * NaN never comes out: damage shows as -EBADMSG from the row's CRC before.
 * Threads: any.
 */
VF_API void vf_exact_distances(enum vf_metric metric, enum vf_dtype dtype,
			       uint32_t dim, const float *q, const void *rows,
			       size_t n, float *out_dist);

/* @n elements of any type to floats, exactly.  Threads: any. */
VF_API void vf_widen(enum vf_dtype dtype, const void *x, size_t n, float *out);

/*
 * Floats to halves, nearest even.  Returns 0; -ERANGE and the element's number
 * when one is too large for a half.  Threads: any.
 */
VF_API int vf_narrow(const float *x, size_t n, void *out_halves,
		     size_t *out_bad);

#endif
