/*
 * Proof that a file and an index hold the same rows: key, vector and, where
 * the file keeps it, metadata, by 64-bit digests.  Vectors of texts that were
 * embedded by another run are left out.
 */
#ifndef VF_TOOLS_COMPARE_H
#define VF_TOOLS_COMPARE_H

#include "store/commit.h"
#include "tools/source.h"

struct vf_compare {
	struct vf_bucket *bucket;     /* borrowed, as all below */
	const struct vf_state *state; /* of the index */
	const char *target;	      /* for messages */
	struct vf_source *source;     /* of vf_source_file_open; its window does
					 not matter */
	uint64_t first_key;	      /* of row 0, when keys are numbers */
	bool whole;		      /* the index has no other rows */
	bool quiet;
};

/*
 * 24 bytes of memory per row of the file; both are read once.
 * Returns 0 every row of the file is in the index, as it is; -EILSEQ not so,
 * naming the first row; -errno; logged.
 */
int vf_compare_run(const struct vf_compare *c);

#endif
