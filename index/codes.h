/*
 * The file codes.vix, version 1: everything about a shard's rows but the rows.
 *
 *   off  len
 *     0    8  magic "VFCODES1"
 *     8    4  version, 1
 *    12    4  length of header and section table
 *    16    8  length of the file
 *    24    8  rows
 *    32    4  dimension            36  4  padded dimension
 *    40    4  metric               44  4  element type of vectors.npy
 *    48    4  bits per dimension   52  4  leaves
 *             of section 4, 1
 *    56    8  rotation seed
 *    64    4  sections             68 56  zero
 *   124    4  CRC32C of header and table, this field zero
 *   128       table, 32 bytes a section: type u32, flags u32, offset u64,
 *             length u64, CRC32C u32, zero u32
 *             sections, each at a multiple of 64, zeros between them
 *
 * Sections that tell where the rest is come first: origin, leaves, centroids,
 * tree and checksums of leaves are one read from the beginning.
 *
 * Flag 1 of a section: a reader that does not know its type may pass over it.
 * Extra bits have it; how many there are follows from their section's length.
 */
#ifndef VF_INDEX_CODES_H
#define VF_INDEX_CODES_H

#include "index/index.h"

enum { VF_CODES_HEADER_LEN = 128, VF_CODES_SECTION_LEN = 32 };

enum vf_section {
	VF_SEC_ORIGIN,	   /* float[padded], rotated */
	VF_SEC_LEAVES,	   /* struct vf_leaf_disk[leaves] */
	VF_SEC_CENTROIDS,  /* float[leaves][padded], rotated */
	VF_SEC_CODES,	   /* uint8_t[rows][padded / 8] */
	VF_SEC_FACTORS,	   /* struct vf_factors[rows] */
	VF_SEC_KEY_HASHES, /* uint64_t[rows] */
	VF_SEC_LINE_OFFS,  /* uint64_t[rows + 1] */
	VF_SEC_ROW_CRCS,   /* uint32_t[rows] */
	VF_SEC_LINE_CRCS,  /* uint32_t[rows] */
	VF_N_SECTIONS,	   /* that every file has */
	/* Both or none, flag 1; index/refine.h has the layout of a row. */
	VF_SEC_EXTRA_CODES =
		VF_N_SECTIONS, /* uint8_t[rows][(bits - 1) * padded / 8] */
	VF_SEC_EXTRA_FACTORS,  /* struct vf_extra_factors[rows] */
	/*
	 * Of shards that follow a tree: which, and the tree's number of each
	 * leaf.  Their section of centroids is empty: the tree has them.
	 */
	VF_SEC_TREE, /* struct vf_tree_section */
	/*
	 * struct vf_leaf_crcs[leaves], flag 1: without it a file is read whole.
	 * It is not needed to be right, but to be sure of a part.
	 */
	VF_SEC_LEAF_CRCS,
	VF_N_SECTIONS_MAX,
};

/* CRC32C of what a leaf has of each section, besides its codes. */
struct vf_leaf_crcs {
	uint32_t factors, extra_factors;
	uint32_t line_offs; /* of its rows, and the end of the last */
	uint32_t row_crcs, line_crcs;
	uint32_t zero;
};
static_assert(sizeof(struct vf_leaf_crcs) == 24, "on disk");

struct vf_tree_section {
	uint8_t id[16];
	uint32_t leaves[]; /* [leaves], ascending */
};
static_assert(sizeof(struct vf_tree_section) == 16, "on disk");

struct vf_leaf_disk {
	uint64_t first_row, n_rows;
	uint32_t codes_crc; /* CRC32C of the leaf's codes */
	float radius;	    /* largest |x - c| */
	uint64_t zero;
};
static_assert(sizeof(struct vf_leaf_disk) == 32, "on disk");
static_assert(sizeof(struct vf_factors) == 16, "on disk");
static_assert(sizeof(struct vf_extra_factors) == 16, "on disk");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "sections are mapped as they are; a big-endian machine needs a "
	      "swapping reader");

/* What a file says, and where; views into its bytes. */
struct vf_codes {
	uint32_t dim, padded, n_leaves;
	uint32_t bits; /* per dimension, extra ones too */
	bool follows_tree;
	enum vf_metric metric;
	enum vf_dtype dtype;
	uint64_t n_rows, rotation_seed;
	const void *section[VF_N_SECTIONS_MAX]; /* NULL: not there */
};

/*
 * Check every byte and set @out to views into @p (16-byte aligned).
 * Returns 0; -EBADMSG; -ENOTSUP; @out_reason constant.  Threads: any.
 */
int vf_codes_validate(const void *p, size_t len, struct vf_codes *out,
		      const char **out_reason);

/* Where a section is, from the beginning of a file alone. */
struct vf_section_ref {
	uint64_t off, len;
	uint32_t crc; /* CRC32C */
};

/* Longest header and table that are read. */
enum { VF_CODES_TABLE_MAX = VF_CODES_HEADER_LEN + 64 * VF_CODES_SECTION_LEN };

/*
 * The header and the table alone of a file of @file_len bytes.
 * @p    its first @len bytes; all of it or VF_CODES_TABLE_MAX suffice
 * @out  no section is set
 * @ref  [VF_N_SECTIONS_MAX]: where each is, lengths checked; 0, 0: not there
 * Returns as vf_codes_validate.
 */
int vf_codes_table(const void *p, size_t len, uint64_t file_len,
		   struct vf_codes *out, struct vf_section_ref *ref,
		   const char **out_reason);

/*
 * Parts of what validate checks, of views that are set: of what is not by row,
 * of rows [@row, @row + @n), of extra bits of those; of where the lines of @n
 * rows from @row on are, uint64_t[n + 1].  NULL, or what is wrong.
 */
const char *vf_codes_check_leaves(const struct vf_codes *c);
const char *vf_codes_check_rows(const struct vf_codes *c, uint64_t row,
				uint64_t n);
const char *vf_codes_check_lines(const uint64_t *off, uint64_t row, uint64_t n);
const char *vf_codes_check_extra(const struct vf_codes *c, uint64_t row,
				 uint64_t n);

/*
 * @p  the first @len bytes of a file, its header and table at least
 * Returns 0; -ENOENT it has none; -EBADMSG.  Threads: any.
 */
int vf_codes_find(const void *p, size_t len, enum vf_section s,
		  struct vf_section_ref *out);

/* Append the file that @c describes to @out.  Returns 0; -ENOMEM. */
int vf_codes_encode(const struct vf_codes *c, struct vf_buf *out);

#endif
