/*
 * How the codes of one shard come to be: rows are coded, then gathered in
 * order into the bytes of codes.vix, which index/index.h opens.
 *
 * What a code and its factors are is told there.
 */
#ifndef VF_INDEX_ENCODER_H
#define VF_INDEX_ENCODER_H

#include "store/util.h"

struct vf_encoder; /* makes codes: rotation and origin of one shard */
struct vf_builder; /* gathers the sections of one codes.vix */
struct vf_tree;	   /* index/tree.h: what the leaves of many shards are of */

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

#endif
