/*
 * Rows that a filter leaves (rowset.c); private to the folder.
 */
#ifndef VF_QUERY_FILTERED_H
#define VF_QUERY_FILTERED_H

#include <stdatomic.h>

#include "query/query.h"

struct vf_filters; /* sets that were asked for, kept */

/* Never changed. */
struct vf_rowset {
	atomic_uint refs;
	char *filter;	       /* its text */
	uint64_t n_rows;       /* that live and match, */
	uint64_t n_shard_rows; /* and of them those of shards */
	size_t n_places;       /* shards, then records of the tail */
	uint64_t **skips;      /* [n_places]: bits of the rows left out */
};

/*
 * @opt  of the view, NULL: none; where the catalog is
 * Returns 0; -ENOMEM, and free is due.
 */
int vf_filters_new(const struct vf_view_options *opt, struct vf_filters **out);
void vf_filters_free(struct vf_filters *f); /* accepts NULL */
/*
 * The set of the filter @text (JSON); release with vf_rowset_put.
 * Returns 0; -EINVAL; -EBADMSG; -EREMOTEIO; -ENOMEM; logged.  Threads: any.
 * Blocks: it may read all records.
 */
int vf_view_filter(const struct vf_view *v, const char *text,
		   struct vf_rowset **out);
void vf_rowset_put(struct vf_rowset *r); /* accepts NULL */

#endif
