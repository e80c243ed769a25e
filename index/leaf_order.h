/*
 * An order of leaves in which those that queries open together lie together,
 * so that they are few ranges of the files that have them in that order.
 */
#ifndef VF_INDEX_LEAF_ORDER_H
#define VF_INDEX_LEAF_ORDER_H

#include "index/centroids.h"

/*
 * @l    leaves, derived; time grows with the square of their number: for
 *       4000 of 1024 dimensions half a second of one core
 * @p    the same as points
 * @out  [l->n] leaves, in their order
 * The same for any number of threads.  Returns 0; -ENOMEM.
 */
int vf_leaves_order(const struct vf_centroids *l, const struct vf_points *p,
		    unsigned n_threads, uint32_t *out);

#endif
