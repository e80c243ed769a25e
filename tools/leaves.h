/*
 * How many rows each leaf of an index's tree has, from the directories of its
 * shards' codes: a few kilobytes of each are read.
 */
#ifndef VF_TOOLS_LEAVES_H
#define VF_TOOLS_LEAVES_H

#include "store/commit.h"

struct vf_leaves {
	uint64_t n_leaves, n_used;	/* of the tree; with rows */
	uint64_t flat_rows;		/* of shards that follow no tree */
	uint64_t min, median, p99, max; /* rows of a leaf */
	double mean;
	double balance; /* mean size of a row's leaf / mean size; 1 is best */
};

/*
 * Rows that died are counted too.
 * Returns 0; -EBADMSG and others, logged; @s has a tree.
 */
int vf_leaves_count(struct vf_bucket *b, const struct vf_state *s,
		    struct vf_leaves *out);

#endif
