/*
 * The file codes.vix, version 2: everything about a shard's rows but the rows.
 *
 *   off  len
 *     0    8  magic "VFCODES1"
 *     8    4  version, 2
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
 * tree and checksums of leaves are one read from the beginning.  What a leaf
 * has for a scan lies side by side, so that it is one range to be fetched.
 *
 * Version 1 has a section for each of the things that version 2 keeps by leaf,
 * with those of all rows.
 *
 * Flag 1 of a section: a reader that does not know its type may pass over it.
 * Extra bits have it; how many there are follows from their section's length.
 */
#ifndef VF_INDEX_CODES_H
#define VF_INDEX_CODES_H

#include "index/encoder.h"
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
	/* Both or none, flag 1; index/refine.h has the layout of a row. */
	VF_SEC_EXTRA_CODES,   /* uint8_t[rows][(bits - 1) * padded / 8] */
	VF_SEC_EXTRA_FACTORS, /* struct vf_extra_factors[rows] */
	/*
	 * Of shards that follow a tree: which, and the tree's number of each
	 * leaf.  Their section of centroids is empty: the tree has them.
	 */
	VF_SEC_TREE, /* struct vf_tree_section */
	/*
	 * struct vf_leaf_sums[leaves], flag 1: without it a file is read whole.
	 * It is not needed to be right, but to be sure of a part.  Version 1:
	 * struct vf_leaf_crcs[leaves].
	 */
	VF_SEC_LEAF_CRCS,
	/*
	 * Of version 2, leaf after leaf: codes, factors, line offsets (rows + 1
	 * of them), checksums of rows and of lines, in the form that version 1
	 * has in sections; and, flag 1, extra bits and their factors.
	 */
	VF_SEC_ROWS_BY_LEAF,
	VF_SEC_EXTRA_BY_LEAF,
	VF_N_SECTIONS_MAX,
};

/*
 * Checksums of what a leaf has: of all for a scan; of the factors of extra bits,
 * which have those of the bits.
 */
struct vf_leaf_sums {
	uint32_t rows, extra_factors;
};
static_assert(sizeof(struct vf_leaf_sums) == 8, "on disk");

/* Version 1: CRC32C of what a leaf has of each section, besides its codes. */
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

/*
 * What a file says, and where; views into its bytes.  What lies by leaf has no
 * view of its own, but vf_codes_leaf finds it.
 */
struct vf_codes {
	bool by_leaf; /* version 2 */
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

/* Bytes that a section of all rows has, in a file or in memory; 0: none. */
uint64_t vf_codes_len(const struct vf_codes *c, enum vf_section s);
/* Sections that have something for each row and are kept by leaf. */
bool vf_codes_is_by_leaf(enum vf_section s);

/* Where what @leaf has of @s is, in a section of the file, and how much. */
struct vf_piece {
	enum vf_section section;
	uint64_t off, len;
};
/*
 * @leaf  the entry of leaf @i
 * @s     one that is kept by leaf
 */
struct vf_piece vf_codes_piece(const struct vf_codes *c,
			       const struct vf_leaf_disk *leaf, uint32_t i,
			       enum vf_section s);
/* The same as a view, of sections and leaves that are set. */
const void *vf_codes_leaf(const struct vf_codes *c, uint32_t i,
			  enum vf_section s);

/*
 * Parts of what validate checks: of what is not by row, of views that are set;
 * of factors of @n rows; of where the lines of @n rows from @row on are,
 * uint64_t[n + 1]; of factors of extra bits.  NULL, or what is wrong.
 */
const char *vf_codes_check_leaves(const struct vf_codes *c);
const char *vf_codes_check_rows(const struct vf_codes *c,
				const struct vf_factors *f, uint64_t n);
const char *vf_codes_check_lines(const uint64_t *off, uint64_t row, uint64_t n);
const char *vf_codes_check_extra(const struct vf_extra_factors *f, uint64_t n);

/*
 * @p  the first @len bytes of a file, its header and table at least
 * Returns 0; -ENOENT it has none; -EBADMSG.  Threads: any.
 */
int vf_codes_find(const void *p, size_t len, enum vf_section s,
		  struct vf_section_ref *out);

/*
 * Append the file that @c describes, whose sections are of all rows, to @out.
 * Returns 0; -ENOMEM.
 */
int vf_codes_encode(const struct vf_codes *c, struct vf_buf *out);

#endif
