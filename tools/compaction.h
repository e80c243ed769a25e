/*
 * Compaction: living rows of small and half-dead shards and of the tail become
 * full shards, in one record that removes what they were in.
 */
#ifndef VF_TOOLS_COMPACTION_H
#define VF_TOOLS_COMPACTION_H

#include "store/compact.h"
#include "tools/ingest.h"

struct vf_tree_keeper;

struct vf_compact {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *target;	  /* for messages */
	const char *index;
	uint64_t shard_rows;	     /* of a full one; 0: default */
	uint64_t ram;		     /* bytes; 0: default */
	const char *scratch;	     /* folder; NULL: default */
	bool eager, dry_run, quiet;  /* eager: struct vf_compact_view */
	bool tail_only, shards_only; /* of what is chosen when not eager */
	bool grows;		     /* struct vf_compact_view */
	/* Nothing but a repair: what is written anew are shards whose codes are
	 * lost, or, along a new tree, all. */
	bool repair, lost_tree;
	const char *const *lost_codes; /* [n_lost_codes] names of shards */
	size_t n_lost_codes;
	struct vf_tree_keeper *keeper; /* NULL: none */
	unsigned n_threads;
};

struct vf_compacted {
	struct vf_compact_plan plan;
	size_t n_written;     /* shards */
	uint64_t n_tail;      /* rows of the tail among the plan's */
	uint64_t n_born_dead; /* replaced or deleted while they were written */
	uint32_t n_leaves;    /* of the tree they follow; 0: none */
	uint64_t head;	      /* 0: nothing was to be done, or a dry run */
};

/*
 * Writers that commit meanwhile go on; only when one of our inputs was removed
 * do we start over.
 * Returns 0; -EBUSY others keep compacting; -EINPROGRESS; -ECANCELED after a
 * signal; -errno.  All logged; but for -EINPROGRESS the index is as before.
 */
int vf_compact_run(const struct vf_compact *c, struct vf_compacted *out);

/*
 * One round in two halves, so that a writer can go on beside the first, which
 * takes long: read and upload what is to be written anew as of @from, then name
 * it in a record on top of whatever is there.
 */
struct vf_round;

/*
 * *out_round is NULL when nothing is worth it, or in a dry run.
 * Returns 0; -ERESTART (not logged) an input is gone: begin again, from a newer
 * state; else as vf_compact_run.  Threads: any.
 */
int vf_round_prepare(const struct vf_compact *c, const struct vf_state *from,
		     struct vf_compacted *out, struct vf_round **out_round);
/*
 * *state moves on to the commit, or to those of others.  Returns as prepare.
 * Threads: that of the state.
 */
int vf_round_commit(struct vf_round *r, struct vf_state **state,
		    struct vf_compacted *out);
/* What no record names is removed; accepts NULL. */
void vf_round_free(struct vf_round *r);

/* What a writer does on its way, for all that come after it. */
struct vf_tender {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *target;	  /* for messages */
	const char *index;
	uint64_t shard_rows; /* of a full one; 0: default */
	uint64_t ram;
	const char *scratch;
	unsigned n_threads;
	bool quiet;
};

enum vf_tending {
	VF_TEND_TAIL, /* a long one is folded, with small shards alike */
	/* Rows of many puts and no more than a shard become one, along a new
	 * tree that is made for what is to come. */
	VF_TEND_TREE,
	VF_TEND_SHARDS, /* VF_COMPACT_ALIKE small ones alike are merged */
};

/*
 * When @what is worth it: do it, and set *state to what is there then.  What
 * fails is said, and left to the next writer.
 * Returns 0; -ECANCELED after a signal; -EINPROGRESS; -errno of reading the
 * state again; logged.
 */
int vf_tend(const struct vf_tender *t, enum vf_tending what,
	    struct vf_state **state);

#endif
