/*
 * Coded rows into the order of their leaves, in bounded memory.
 *
 * Rows are dealt to buckets of consecutive leaves; buckets that do not fit in
 * memory are nameless files in a scratch folder.  Each is then read again and
 * ordered.  Rows of one leaf keep the order they came in.  Vectors that their
 * source can give again stay there: what is sorted are codes and lines.
 */
#ifndef VF_TOOLS_SORTER_H
#define VF_TOOLS_SORTER_H

#include "tools/source.h"

struct vf_sorter;

struct vf_sorter_options {
	uint32_t n_leaves;
	const uint32_t *shares; /* [n_leaves]: rows of each in a sample, to
				   make buckets of one size; borrowed by new */
	uint64_t n_rows;	/* about so many will come */
	uint32_t dim;
	enum vf_dtype dtype;	  /* as stored */
	struct vf_source *source; /* borrowed: takes vectors; NULL: held here */
	size_t code_len, extra_len;
	uint64_t ram;	     /* bytes for rows held, about */
	const char *scratch; /* folder, borrowed; NULL: $TMPDIR or /var/tmp */
};

/* Returns 0; -ENOMEM, logged. */
int vf_sorter_new(const struct vf_sorter_options *opt, struct vf_sorter **out);
void vf_sorter_free(struct vf_sorter *s); /* accepts NULL */

/*
 * Add the rows of @c, which has leaves.  Threads: one at a time.
 * Returns 0; -ENOSPC and others of the scratch folder, logged.
 */
int vf_sorter_add(struct vf_sorter *s, const struct vf_chunk *c);

/* Rows of each leaf so far: [n_leaves], valid until free. */
const uint64_t *vf_sorter_counts(const struct vf_sorter *s);

/*
 * Hand out all rows in order, in chunks that never span a cut.  While @consume
 * has one, on a thread of its own, the next is gathered.
 * @cuts  ascending numbers of rows, in the order of leaves, at which shards
 *        begin, besides 0
 * Returns 0; what @consume returned; -errno, logged.
 */
int vf_sorter_run(struct vf_sorter *s, const uint64_t *cuts, size_t n_cuts,
		  int (*consume)(void *arg, const struct vf_chunk *c),
		  void *arg);

#endif
