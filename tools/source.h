/*
 * Where the rows of a put come from: a .npy file with files of keys and
 * metadata beside it, or texts and an embedder.  Rows are handed out in
 * chunks, so that memory does not grow with the input.
 */
#ifndef VF_TOOLS_SOURCE_H
#define VF_TOOLS_SOURCE_H

#include "index/encoder.h"
#include "index/index.h"
#include "query/embed.h"
#include "tools/keyset.h"

struct vf_span {
	size_t off, len;
};

/*
 * Consecutive rows of one shard on their way from the source to the bucket.
 * Arrays have room for as many rows as the chunk was made for.
 */
struct vf_chunk {
	uint64_t row;	    /* number of the first */
	size_t n;	    /* rows */
	uint64_t first_key; /* automatic key of row 0 of the source */
	float *x;	    /* [n][dim], what is coded */
	uint8_t *raw;	    /* scratch of the source */
	uint16_t *half;	    /* [n][dim] stored bytes; NULL: x is stored */
	uint8_t *codes;
	struct vf_factors *factors;
	uint8_t *extra; /* extra bits and their factors; NULL: 1 bit */
	struct vf_extra_factors *extra_factors;
	uint32_t *leaf; /* of each row, in the tree; NULL: there is none */
	uint32_t *from; /* its number in the source; NULL: row, row + 1 ... */
	struct vf_builder_row *rows;
	struct vf_buf lines; /* their lines of records.jsonl */
	/* What claim read and fill will parse. */
	struct vf_buf text;
	struct vf_span *keys, *bodies; /* [n] in text */
	uint64_t *numbers;	       /* [n] line numbers, for messages */
	/* Set once something is wrong; said by whoever consumes in order. */
	int err;
	char reason[512];
};

/* Remember what is wrong with the chunk and return @err. */
int vf_chunk_fail(struct vf_chunk *c, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Append the record line of row @i and describe it in rows[i]. */
int vf_chunk_add_line(struct vf_chunk *c, size_t i, const char *key,
		      size_t key_len, const char *metadata,
		      size_t metadata_len);

/*
 * rows[i] of a record line that is there; the key is unescaped into @key only
 * to be hashed.  Returns 0; -EBADMSG, -ENOMEM.
 */
int vf_chunk_describe_line(struct vf_chunk *c, size_t i, const char *line,
			   size_t len, struct vf_buf *key);

struct vf_source;

struct vf_source_ops {
	/* Up to @max rows spread over all, float[*out_n][dim]. Blocks. */
	int (*sample)(struct vf_source *s, size_t max, float *out,
		      size_t *out_n);
	/* The next claim is of row 0 again. */
	void (*rewind)(struct vf_source *s);
	/* Read what must be read in order for rows row..row+n; may lower n.
	 * Threads: one at a time, chunks in order. */
	int (*claim)(struct vf_source *s, struct vf_chunk *c);
	/* Make x, lines and rows (but row_crc).  Errors go into the chunk.
	 * Threads: any. */
	int (*fill)(struct vf_source *s, struct vf_chunk *c);
	/* NULL, or vectors again by number, as they come (dtype): @n of them
	 * to @out.  Logged.  Threads: any. */
	int (*take)(struct vf_source *s, const uint32_t *rows, size_t n,
		    void *out);
	/* After the last claim: is the input used up?  Logged. */
	int (*finish)(struct vf_source *s);
	/* The key of row @row, caller's to free().  Slow.  Logged. */
	int (*key_at)(struct vf_source *s, uint64_t row, char **out_key,
		      size_t *out_len);
	void (*free)(struct vf_source *s);
};

struct vf_source {
	const struct vf_source_ops *ops;
	const char *name; /* of the input, for messages; owned by the rest */
	uint32_t dim;
	uint64_t n_rows;
	enum vf_dtype dtype;   /* as it comes */
	size_t raw_len;	       /* bytes of a row in vf_chunk.raw */
	bool has_keys;	       /* else keys are numbers */
	struct vf_keyset keys; /* of all keys, when has_keys */
};

/*
 * A .npy file; @keys and @metadata are paths or NULL.  All keys are read and
 * checked here.  Returns 0; -EINVAL and -errno, logged.
 */
int vf_source_npy_open(const char *path, const char *keys, const char *metadata,
		       struct vf_source **out);

/*
 * A file of lines {"key","text","metadata"}: every line is parsed here, and
 * learned when @learn.
 *
 * @e           borrowed for the life of the source
 * @skip_empty  pass over texts without a word instead of refusing them
 * @name        for messages, borrowed likewise
 * @fd          the source's from here on
 * Returns 0; -EINVAL and -errno, logged.
 */
struct vf_source_texts_options {
	struct vf_embedder *e;
	int fd;
	const char *name;
	bool learn, skip_empty, quiet;
};
int vf_source_texts_open(const struct vf_source_texts_options *opt,
			 struct vf_source **out, uint64_t *out_skipped);

void vf_source_free(struct vf_source *s); /* accepts NULL */

#endif
