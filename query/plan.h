/*
 * Which leaves a query looks into; private to the folder.
 *
 * Threads: as the view's (query.h).
 */
#ifndef VF_QUERY_PLAN_H
#define VF_QUERY_PLAN_H

#include "index/tree.h"
#include "query/query.h"

struct vf_view;
struct vf_rowset;

/* The leaves that a query looks into. */
struct vf_plan {
	struct vf_scan_scratch *scratch; /* what a query needs once */
	struct vf_probe *probes;	 /* [n], nearest first; NULL: no tree */
	uint32_t n;
	bool all;	       /* every leaf */
	bool is_last;	       /* after these none is left */
	struct vf_probe *done; /* [n_done], scanned before */
	uint32_t n_done;
};

/*
 * @set  NULL: no filter
 * Returns 0; -ENOMEM; fini is due in any case.
 */
int vf_stage_plan(struct vf_view *v, const float *q, const struct vf_search *s,
		  const struct vf_rowset *set, struct vf_plan *out);
/*
 * Whether leaves that come after these may well have rows nearer than @dist,
 * the distance of the k-th nearest so far (INFINITY: there are not k yet).
 */
bool vf_plan_is_open(const struct vf_view *v, const struct vf_plan *p,
		     const struct vf_rowset *set, float dist);
/*
 * Whether these leaves, the first, are hardly nearer than others, so that rows
 * anywhere may be among the nearest: @dist is that of the tenth nearest so far.
 */
bool vf_plan_is_flat(const struct vf_view *v, const struct vf_plan *p,
		     float dist);
/*
 * The leaves after these, which have been scanned: some, or @at_once as many as
 * there may be.
 */
int vf_plan_widen(struct vf_view *v, const float *q, bool at_once,
		  struct vf_plan *p);
/* All that were scanned, these included, once more. */
int vf_plan_repeat(struct vf_plan *p);
/* Where every leaf is to be scanned: name them.  @v has a tree. */
int vf_plan_spell_out(struct vf_view *v, const float *q, struct vf_plan *p);
void vf_plan_fini(struct vf_plan *p);
/*
 * Leave leaves whose codes are beyond the limits of @s, which may take half of
 * what it has for them.  Indexes without a tree are read as they are.
 * @gets  of max_gets, spent: on entry before, on return with the others'
 * Returns 0; -ENOMEM; as vf_stage_codes.  May wait until the deadline.
 */
int vf_plan_limit(struct vf_view *v, const float *q, const struct vf_search *s,
		  uint64_t start_ns, struct vf_plan *p, struct vf_cost *cost,
		  uint32_t *gets);

#endif
