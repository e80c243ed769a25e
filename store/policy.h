/*
 * A replacement policy: which block of a tier leaves when another needs its
 * place.  The tier owns the blocks; each embeds an entry that the policy links
 * and counts.  Policies also remember a bounded number of blocks that have
 * left (ghosts), by hash alone.
 *
 *   lru     least recent use
 *   lfu     least frequent use, counts halved as the tier turns over and when
 *           the hot set moves; the default (bench/bench_policy says why)
 *   s3fifo  small, main and ghost queues
 *
 * Source: Yang et al., "FIFO queues are all you need for cache eviction",
 * SOSP 2023, section 4 (s3fifo).
 *
 * Threads: the caller holds the lock of the tier.
 */
#ifndef VF_STORE_POLICY_H
#define VF_STORE_POLICY_H

#include "store/util.h"

struct vf_policy;

/* Private to the policy while inserted; zero before. */
struct vf_policy_entry {
	struct vf_policy_entry *newer, *older;
	struct vf_policy_entry *younger, *elder; /* by filling, for the ttl */
	uint64_t hash;				 /* of the block's identity */
	uint32_t freq;
	uint32_t time_s; /* when it was filled, for the ttl */
	uint8_t queue;	 /* 0: not inserted */
	uint8_t flags;
};

/* How a block came. */
enum { VF_POLICY_SCAN = 1 /* read-ahead of a long sequential read */ };

/*
 * @name      "lru", "lfu", "s3fifo"; NULL: the default
 * @n_blocks  that the tier can hold
 * @ttl_s     blocks filled longer ago leave first; 0: never
 * Returns 0; -EINVAL no such policy (not logged); -ENOMEM.
 */
int vf_policy_open(const char *name, size_t n_blocks, uint32_t ttl_s,
		   struct vf_policy **out);
/* Entries still inserted are simply forgotten.  Accepts NULL. */
void vf_policy_close(struct vf_policy *p);
const char *vf_policy_name(const struct vf_policy *p);

/*
 * A block has been filled.  @now_s: any clock that does not go back.
 * The read that missed counts as this fill, not also as a hit.  After
 * VF_POLICY_SCAN the first hit counts as the fill.
 */
void vf_policy_insert(struct vf_policy *p, struct vf_policy_entry *e,
		      uint64_t hash, unsigned flags, uint32_t now_s);
/* It was used @n times. */
void vf_policy_hit(struct vf_policy *p, struct vf_policy_entry *e, uint32_t n);
/* It leaves for another reason than replacement. */
void vf_policy_remove(struct vf_policy *p, struct vf_policy_entry *e);

/*
 * Choose who leaves and remove it; NULL when @may allows none.  O(1) amortised,
 * however many are refused; O(entries) when all are.
 * @may  whether this one can leave now (not pinned, nobody reads it)
 */
struct vf_policy_entry *
vf_policy_victim(struct vf_policy *p,
		 bool (*may)(void *arg, const struct vf_policy_entry *e),
		 void *arg, uint32_t now_s);

#endif
