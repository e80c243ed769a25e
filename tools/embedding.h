/*
 * The texts of a file as vectors: a window of its rows at a time goes through
 * an embedder, once, into a nameless file.
 */
#ifndef VF_TOOLS_EMBEDDING_H
#define VF_TOOLS_EMBEDDING_H

#include "query/embed.h"
#include "tools/format.h"

struct vf_embedding {
	const struct vf_embedder *e; /* borrowed, as all here */
	struct vf_intake *in;	     /* of vf_intake_open_texts */
	const char *scratch;	     /* folder; NULL: the usual one */
	const uint64_t *rows; /* which of the file's there are; NULL: all */
	bool keep;	      /* what was embedded before the window, too */
	bool quiet;
	/* Its own; zero to begin with, but fd, which is -1. */
	int fd;
	uint64_t from, n;    /* the window */
	uint64_t base;	     /* row at byte 0 of the file */
	uint64_t begin, end; /* rows that the file has */
};

void vf_embedding_fini(struct vf_embedding *m);

/*
 * Embed rows from..from+n, with progress.  Returns 0; -EINVAL a text that
 * cannot be embedded; -EREMOTEIO; -ECANCELED; -errno; logged, naming the rows.
 */
int vf_embedding_window(struct vf_embedding *m, uint64_t from, uint64_t n);

/* Whether a row is in the window or, when all are kept, was in one.  When they
 * are, windows follow each other, but that the one before the first may come
 * last. */
bool vf_embedding_has(const struct vf_embedding *m, uint64_t row);

/* Such rows into float[n][dim].  0; -errno, logged. */
int vf_embedding_rows(struct vf_embedding *m, uint64_t row, size_t n, float *x);

#endif
