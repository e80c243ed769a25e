/*
 * Search structures over one shard: build codes.vix, open it, scan it.
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
#include "store/util.h"

struct vf_index;   /* one shard's codes, in private memory */
struct vf_encoder; /* makes codes: rotation and origin of one shard */
struct vf_builder; /* gathers the sections of one codes.vix */
struct vf_rotation;
struct vf_tree; /* index/tree.h: what the leaves of many shards are of */

/* ---- building ---------------------------------------------------------------- */

struct vf_code_params {
	uint32_t dim;
	enum vf_metric metric;
	uint64_t rotation_seed;
	uint32_t bits; /* per dimension in all, 1..8; 0: 1 */
};

/* What is kept of a row besides its code; 16 bytes, also on disk. */
struct vf_factors {
	float add; /* estimate = query constant + add + mul * <s, q - o> */
	float mul;
	float err;     /* times eps * |q - c|: the bound; paper, theorem 3.2 */
	uint32_t ones; /* set bits of the code */
};

/* The same for all bits of a row; 16 bytes, also on disk. */
struct vf_extra_factors {
	float add, mul, err;
	uint32_t crc; /* CRC32C of the row's extra bits */
};

/*
 * @centroid  float[dim]: mean of the rows (of the unit rows under cosine), or
 *            of a sample of them; any point is right, a near one is sharp.
 * Returns 0; -EINVAL; -ENOMEM.
 */
VF_API int vf_encoder_new(const struct vf_code_params *params,
			  const float *centroid, struct vf_encoder **out);
/*
 * Of rows by leaf: each is coded against the centroid of its own.
 * @tree  borrowed for the life of the encoder; its dimension, metric and
 *        rotation are those of @params
 */
VF_API int vf_encoder_new_tree(const struct vf_code_params *params,
			       const struct vf_tree *tree,
			       struct vf_encoder **out);
VF_API void vf_encoder_free(struct vf_encoder *e);

/* Bytes of one code: padded dimension / 8, a multiple of 8. */
VF_API size_t vf_encoder_code_len(const struct vf_encoder *e);

/*
 * Code @n rows.
 * @x        float[n][dim] as put; finite; under cosine not zero (scaled here)
 * @codes    uint8_t[n][code_len], bit i of a row is bit i%8 of byte i/8
 * @factors  [n]
 * Returns 0; -ENOMEM.  Threads: any.
 */
VF_API int vf_encoder_rows(const struct vf_encoder *e, const float *x, size_t n,
			   uint8_t *codes, struct vf_factors *factors);

/* Bytes of the extra bits of one row; 0 when the index keeps none. */
VF_API size_t vf_encoder_extra_len(const struct vf_encoder *e);

/* Rows as coded, arrays of the caller. */
struct vf_coded {
	uint8_t *codes;		    /* [n][code_len] */
	struct vf_factors *factors; /* [n] */
	uint8_t *extra;		    /* [n][extra_len], or NULL: none wanted */
	struct vf_extra_factors *extra_factors; /* [n], or NULL likewise */
	const uint32_t *leaf; /* [n], given: of the tree; NULL: there is none */
};

/* As vf_encoder_rows, all that the encoder's parameters ask for. */
VF_API int vf_encoder_coded(const struct vf_encoder *e, const float *x,
			    size_t n, const struct vf_coded *out);

/*
 * Gather a shard in order.  Threads: one at a time per builder.
 * key_hash: vf_key_hash of the key.  line_len: bytes of its record line with
 * the newline.  row_crc, line_crc: CRC32C of the row in vectors.npy and of
 * the line with the newline.
 */
struct vf_builder_row {
	uint64_t key_hash;
	uint32_t line_len, row_crc, line_crc;
};

VF_API int vf_builder_new(const struct vf_encoder *e, enum vf_dtype dtype,
			  struct vf_builder **out);
VF_API void vf_builder_free(struct vf_builder *b);
VF_API int vf_builder_add(struct vf_builder *b, const uint8_t *codes,
			  const struct vf_factors *factors,
			  const struct vf_builder_row *rows, size_t n);
/*
 * The same with extra bits, which an encoder of several bits demands, and with
 * leaves, which that of a tree does: they ascend.
 */
VF_API int vf_builder_add_coded(struct vf_builder *b, const struct vf_coded *c,
				const struct vf_builder_row *rows, size_t n);
/* The bytes of codes.vix appended to @out; the builder is then spent. */
VF_API int vf_builder_finish(struct vf_builder *b, struct vf_buf *out);

/* XXH3-64 of the key's bytes. */
VF_API uint64_t vf_key_hash(const void *key, size_t len);

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
 * Let go of codes, factors and extra bits and read them from @map, which holds
 * the same file, by @copy: 0, or a negative errno where the mapping faults.
 * What is left in memory is small.  @map is borrowed until close.
 * Returns 0; -ENOMEM, nothing has changed.
 */
typedef int vf_index_copy_fn(void *dst, const void *src, size_t len);
VF_API int vf_index_unload(struct vf_index *ix, const void *map,
			   vf_index_copy_fn *copy);

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
