/*
 * Garbage of an index: versions that nobody is to read any more, and what only
 * they, or uploads that were given up, have in the bucket.
 *
 * The order is what makes it safe (DESIGN.md, "Garbage"): a commit says below
 * which version nothing is kept, so that no later one needs it; a boundary says
 * it to whoever slept; then, after longer than anybody trusts a state or a
 * request can be on its way, objects are deleted.  Each step may be the last of
 * a process: the next run goes on.
 */
#ifndef VF_STORE_GC_H
#define VF_STORE_GC_H

#include "store/commit.h"

/*
 * From the boundary to the deletes: longer than a signed request is valid (15
 * minutes), and than any writer trusts what it saw (commit.c).
 */
enum { VF_GC_WAIT_S = 16 * 60 };

/*
 * Let nothing below version @below (1 to head) be kept: its checkpoint, the
 * commit unless there was such a one, the boundary.  *s moves on.
 * Returns 0; as vf_commit; -EBADMSG the checkpoint there is another.
 */
VF_API int vf_gc_begin(struct vf_bucket *b, struct vf_state **s,
		       uint64_t below);

struct vf_gc_counts {
	uint64_t n_objects, bytes; /* deleted, or to be */
	uint64_t n_shards, n_records;
};

/* Return not 0 to stop: sweep then returns that. */
typedef int vf_gc_progress(void *arg, const struct vf_gc_counts *sum);

struct vf_gc_sweep {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *index;
	uint64_t below;		  /* a version there is */
	bool dry_run;		  /* count only */
	vf_gc_progress *progress; /* may be NULL */
	void *arg;
};

/*
 * Delete what only versions below @below have.  To be called VF_GC_WAIT_S
 * after begin.  Returns 0; as vf_state_load_at; as delete.
 */
VF_API int vf_gc_sweep(const struct vf_gc_sweep *g, struct vf_gc_counts *out);

#endif
