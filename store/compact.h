/*
 * Which rows of an index are worth writing anew.  Pure; Threads: any.
 */
#ifndef VF_STORE_COMPACT_H
#define VF_STORE_COMPACT_H

#include "store/state.h"

/* A tail of more is folded by the next writer. */
enum { VF_TAIL_LEN = 8 << 20, VF_TAIL_RECORDS = 256 };

/* Small shards of like size that a writer merges, and so do we. */
enum { VF_COMPACT_ALIKE = 4 };

struct vf_compact_shard {
	uint64_t n_rows, n_dead;
	bool flat; /* follows no tree */
};

struct vf_compact_view {
	uint64_t capacity; /* rows of a full shard */
	const struct vf_compact_shard *shards;
	size_t n_shards;
	uint64_t tail_rows; /* that live; 0: the tail stays as it is */
	uint64_t n_leaves;  /* of the tree; 0: none */
	/* Of a tree made for all the rows, and for those to come when it grows;
	 * <= 1: none. */
	uint64_t want_leaves;
	/*
	 * Somebody asked: whatever is not full.  Else what a writer does on its
	 * way: the tail, and small shards once several are alike, up to a
	 * quarter of a shard.
	 */
	bool eager;
	/* Whether rows of many puts are to be one shard, and nothing else. */
	bool grows;
};

/* So many times the rows that are there is a tree made for that grows. */
enum { VF_COMPACT_AHEAD = 10 };

struct vf_compact_plan {
	bool tail, new_tree;
	size_t n_shards; /* taken; 0 and no tail: nothing is worth it */
	uint64_t n_rows; /* that live in what is taken */
};

/*
 * @out_take  [n_shards]: whether the shard is written anew
 *
 * A plan carried out leaves nothing to be done: an eager choice takes shards
 * that are not full only when fewer come out.
 */
void vf_compact_choose(const struct vf_compact_view *v, bool *out_take,
		       struct vf_compact_plan *out);

/* Is the tail of @s what the next writer folds? */
VF_API bool vf_tail_is_long(const struct vf_state *s);
/* Is it so many times as long as that? */
VF_API bool vf_tail_exceeds(const struct vf_state *s, uint64_t times);

#endif
