/*
 * Answers kept for queries that are asked again: of the same commit, with the
 * same knobs, equal to the bit.  The longest unused go when the limit is met.
 */
#ifndef VF_QUERY_RESULTS_H
#define VF_QUERY_RESULTS_H

#include "query/query.h"

struct vf_results;

/* @max_len  bytes of all that is kept.  Returns 0; -ENOMEM. */
int vf_results_new(size_t max_len, struct vf_results **out);
void vf_results_free(struct vf_results *r); /* accepts NULL */

/*
 * A copy of the answer, or NULL when there is none; its cost is that of the
 * first time.  @r may be NULL: nothing is kept.  Threads: any.
 */
struct vf_answer *vf_results_get(struct vf_results *r, uint64_t version,
				 const float *q, uint32_t dim,
				 const struct vf_search *s);

/*
 * Keep a copy of @a; not if it is partial or was cut short by a limit, when
 * asking again may find more, nor without memory for it.
 */
void vf_results_put(struct vf_results *r, uint64_t version, const float *q,
		    uint32_t dim, const struct vf_search *s,
		    const struct vf_answer *a);

#endif
