/*
 * A file of any format that is known, with files of keys and metadata beside
 * it, as a source; also a part of its rows, so that many are put bit by bit.
 */
#ifndef VF_TOOLS_SOURCE_FILE_H
#define VF_TOOLS_SOURCE_FILE_H

#include "tools/format.h"
#include "tools/source.h"

struct vf_source_file_options {
	const char *path;
	const char *name;     /* for messages; NULL: the path */
	const char *part;     /* array or data set; NULL: the usual one */
	const char *keys;     /* file, a key per line; NULL: the format's */
	const char *metadata; /* file, a JSON object per line; likewise */
	/* Texts instead of vectors: what embeds them, and the column or member
	 * that they are; NULL: vectors. */
	const struct vf_embedder *embedder;
	const char *words;
	const char *scratch; /* folder for their vectors; NULL: default */
	bool skip_empty;     /* pass over texts without a word */
	bool keep;	     /* vectors of windows before, to be compared */
	bool quiet;
};

/*
 * All keys are read and checked here: 16 bytes of memory and more per row.
 * Strings of @opt are borrowed.  Returns 0; -EINVAL and others, logged.
 */
int vf_source_file_open(const struct vf_source_file_options *opt,
			struct vf_source **out);

/*
 * From now on the source is rows from..from+n of the file; samples are still
 * of all, but of texts, which are embedded here.  Returns 0; -errno, logged.
 */
int vf_source_file_window(struct vf_source *s, uint64_t from, uint64_t n);

/* Of the file, without texts that were passed over. */
uint64_t vf_source_file_rows(const struct vf_source *s);
const struct vf_intake *vf_source_file_intake(const struct vf_source *s);
bool vf_source_file_has_metadata(const struct vf_source *s);
uint64_t vf_source_file_skipped(const struct vf_source *s);
/* Of a text: whether it was embedded, and is kept. */
bool vf_source_file_has_vector(const struct vf_source *s, uint64_t row);

/* One row of the file: vector (NULL: unwanted), and appended its key (none when there are no
 * keys) and metadata as it is there.  Returns 0; -errno, logged. */
int vf_source_file_row(struct vf_source *s, uint64_t row, float *x,
		       struct vf_buf *key, struct vf_buf *metadata);

#endif
