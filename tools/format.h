/*
 * Files of vectors that other programs write and read: one table of formats,
 * one file format_<name>.c each.  What a file is, is told from its content.
 *
 * Rows are floats here whatever the file holds; files of keys and metadata
 * beside it are source_file.c's and cmd_export.c's.
 */
#ifndef VF_TOOLS_FORMAT_H
#define VF_TOOLS_FORMAT_H

#include <stdio.h>

#include "store/util.h"

enum { VF_FORMAT_HEAD_LEN = 4096 }; /* bytes that tell what a file is */

/* ---- reading ------------------------------------------------------------------- */

struct vf_format;

struct vf_intake {
	const struct vf_format *format;
	const char *name;  /* of the file, for messages; borrowed */
	const char *part;  /* array or data set wanted; NULL: the usual one */
	const char *words; /* column or member with the text of a row, which is
			      wanted instead of vectors; NULL: vectors */
	int fd;
	uint64_t len; /* bytes of the file */
	/* Set by the format's open. */
	uint32_t dim;
	uint64_t n_rows;
	bool is_half;  /* its numbers are float16 */
	bool has_keys; /* text gives keys; metadata likewise */
	bool has_metadata;
	bool has_metric;
	enum vf_metric metric; /* that it was made for */
	void *own;
};

/* The start of a file, and its length. */
struct vf_format_head {
	uint8_t p[VF_FORMAT_HEAD_LEN + 1]; /* NUL behind */
	size_t n;
	uint64_t len;
	int fd;
};

/*
 * Find out what @fd, which is the intake's from here on, holds, and open it.
 * @part  borrowed for its life
 * Returns 0; -EINVAL no format of ours, or a file that is not what it looks
 * like; -errno; logged, naming the file.
 */
int vf_intake_open(int fd, const char *name, const char *part,
		   struct vf_intake *out);
/* The same for a file of texts, in its column or member @words, borrowed
 * likewise.  Its rows have no vectors: dim is 0. */
int vf_intake_open_texts(int fd, const char *name, const char *words,
			 struct vf_intake *out);
void vf_intake_close(struct vf_intake *in);

/*
 * @n rows from @row on into float[n][dim].  Any order, but forward is fast.
 * Returns 0; -EINVAL a number float32 cannot hold; -errno; logged.
 * Threads: one at a time per file, as all here.
 */
int vf_intake_rows(struct vf_intake *in, uint64_t row, size_t n, float *out);
/*
 * Append key and metadata object (as JSON, not checked) of a row; nothing for
 * what the format does not hold.  Returns as rows.
 */
int vf_intake_text(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		   struct vf_buf *metadata);
/* Append the text of a row.  Returns as rows; -EINVAL it has none. */
int vf_intake_words(struct vf_intake *in, uint64_t row, struct vf_buf *out);

/* ---- writing ------------------------------------------------------------------- */

struct vf_outlet {
	const struct vf_format *format;
	const char *name; /* for messages; borrowed */
	int fd;
	const char *tmp; /* path that the file has until it is finished */
	uint32_t dim;
	uint64_t n_rows;
	enum vf_metric metric;
	bool is_half; /* rows have come from float16: all can be kept so */
	bool keys;    /* wanted, where the format holds any */
	FILE *stream; /* of fd, for text */
	void *own;
};

struct vf_outlet_row {
	uint64_t at; /* its number in the file: formats without keys */
	const float *x;
	const char *key;
	size_t key_len;
	const char *metadata; /* compact JSON object */
	size_t metadata_len;
};

/*
 * Rows come in order of @at, or, where the format keeps no keys, in any order.
 * Every function: 0; -EINVAL what the format cannot hold; -errno; logged.
 */
int vf_outlet_begin(struct vf_outlet *out);
int vf_outlet_write(struct vf_outlet *out, const struct vf_outlet_row *row);
int vf_outlet_finish(struct vf_outlet *out);
/* Frees own, whatever went before. */
void vf_outlet_discard(struct vf_outlet *out);

/* ---- formats --------------------------------------------------------------------- */

struct vf_format {
	const char *name;  /* "fvecs" */
	const char *holds; /* of --help: what of a row it keeps */
	const char *doubt; /* what may be wrong with a file named so */
	bool keeps_keys, keeps_metadata;
	bool by_row; /* rows and text of one row are parsed together */
	/* Does the file look like one?  NULL: never by itself. */
	bool (*probe)(const struct vf_format_head *h);
	int (*open)(struct vf_intake *in);
	int (*rows)(struct vf_intake *in, uint64_t row, size_t n, float *x);
	int (*text)(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		    struct vf_buf *metadata);
	/* Of formats that can hold texts; else NULL. */
	int (*words)(struct vf_intake *in, uint64_t row, struct vf_buf *out);
	void (*close)(struct vf_intake *in); /* accepts a half-opened one */
	/* All but write may be NULL: there is nothing to be done. */
	int (*create)(struct vf_outlet *out);
	int (*write)(struct vf_outlet *out, const struct vf_outlet_row *row);
	int (*finish)(struct vf_outlet *out);
	void (*discard)(struct vf_outlet *out);
};

extern const struct vf_format vf_format_npy, vf_format_npz, vf_format_fvecs,
	vf_format_bvecs, vf_format_ivecs, vf_format_hdf5, vf_format_faiss,
	vf_format_jsonl, vf_format_csv;

/* In the order they are tried; ends in NULL. */
extern const struct vf_format *const vf_formats[];

/* By its name or by the end of a file's name; NULL: none. */
const struct vf_format *vf_format_find(const char *name);
const struct vf_format *vf_format_of_file(const char *path);

/* ---- what formats share ------------------------------------------------------------ */

enum vf_element {
	VF_EL_F32,
	VF_EL_F16,
	VF_EL_F64,
	VF_EL_U8,
	VF_EL_I8,
	VF_EL_U16,
	VF_EL_I16,
	VF_EL_U32,
	VF_EL_I32,
	VF_EL_U64,
	VF_EL_I64,
};

size_t vf_element_size(enum vf_element e);
/* From NumPy's "<f4"; -EINVAL another. */
int vf_element_parse(const char *descr, enum vf_element *out);

/*
 * @n elements at @p, any alignment.  Float64 are rounded; returns the first
 * integer that float32 cannot hold, or @n.
 */
size_t vf_element_to_f32(enum vf_element e, const void *p, size_t n,
			 float *out);

/* Log that row @row of the file @name holds the integer at @p, which float32
 * cannot, and return -EINVAL. */
int vf_element_refuse(const char *name, uint64_t row, enum vf_element e,
		      const void *p);

/* Rows of one length at one distance: row i is at off + i * stride. */
struct vf_grid {
	int fd;
	uint64_t off, stride;
	enum vf_element element;
	uint32_t dim;
};

/*
 * Whether @n_rows fit into @len bytes, and dim into what vectors may have.
 * Returns NULL or why not, a constant.
 */
const char *vf_grid_check(const struct vf_grid *g, uint64_t n_rows,
			  uint64_t len);
/* Rows of @g.  @name for messages.  Returns as vf_intake_rows. */
int vf_grid_rows(const struct vf_grid *g, const char *name, uint64_t row,
		 size_t n, float *x);

/* The grid of a matrix in NumPy's format whose file begins at @base.
 * @head, @n  its first bytes.  Returns NULL or why not, a constant. */
const char *vf_npy_grid(const uint8_t *head, size_t n, uint64_t base,
			struct vf_grid *out, uint64_t *out_rows);

/* Log "NAME: why" and return -EINVAL. */
int vf_intake_refuse(const struct vf_intake *in, const char *why);

/* Write at an offset of an outlet's file; logged. */
int vf_outlet_pwrite(const struct vf_outlet *out, const void *p, size_t len,
		     uint64_t off);
/* Has all that went to its stream gone well?  0; -errno, logged. */
int vf_outlet_check_stream(const struct vf_outlet *out);
int vf_outlet_refuse(const struct vf_outlet *out,
		     const struct vf_outlet_row *row, const char *why);

/* Where each line of a text file begins: 8 bytes of memory per line. */
struct vf_lines;
struct vf_line_table {
	struct vf_lines *lines;
	uint64_t *offs;
	uint64_t n, first; /* lines; those before row 0 */
};

/* Lines of @fd, which is the table's from here on.  0; -errno, logged. */
int vf_line_table_open(int fd, const char *name, uint64_t first,
		       struct vf_line_table *out);
void vf_line_table_close(struct vf_line_table *t);
/* Line of row @row (< n), valid until the next call.  0; -errno, logged. */
int vf_line_table_get(struct vf_line_table *t, uint64_t row, const char **out,
		      size_t *out_len);

#endif
