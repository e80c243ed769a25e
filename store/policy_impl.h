/*
 * What a replacement policy is made of; private to policy*.c and their tests.
 *
 * policy.c keeps what is the same for all: the count, the order of filling
 * (for the ttl) and the parked entries, which may() refused.  A policy keeps
 * queues and says which entry it would let go; it never asks may().
 *
 * Threads: the caller holds the lock of the tier.
 */
#ifndef VF_STORE_POLICY_IMPL_H
#define VF_STORE_POLICY_IMPL_H

#include "store/policy.h"

struct vf_policy_list {
	struct vf_policy_entry *newest, *oldest;
	size_t n;
};

void vf_policy_list_push(struct vf_policy_list *l, struct vf_policy_entry *e);
void vf_policy_list_push_oldest(struct vf_policy_list *l,
				struct vf_policy_entry *e);
void vf_policy_list_unlink(struct vf_policy_list *l, struct vf_policy_entry *e);
/* Put all of @from at the newer end of @l. */
void vf_policy_list_join(struct vf_policy_list *l, struct vf_policy_list *from);

/* Values of vf_policy_entry.queue; others are the policy's own. */
enum { VF_POLICY_OUT = 0, VF_POLICY_PARKED = 255 };

/* More of vf_policy_entry.flags, beside VF_POLICY_SCAN. */
enum {
	VF_POLICY_READ = 2,  /* a scanned block was read once */
	VF_POLICY_WOKEN = 4, /* was used while parked */
};

/*
 * Hashes of blocks that have left, each with a small note.  Bounded in number
 * and in age: what left more than @n_ghosts others ago is not found.
 */
struct vf_policy_ghosts {
	uint64_t *slots; /* [n_sets][8], owned; layout in policy.c */
	uint64_t n_sets;
	uint64_t n_added;
	unsigned age_shift; /* stamps count 1 << age_shift additions */
	uint32_t age_max;   /* in stamps */
};

enum { VF_POLICY_NOTE_BITS = 12 };

int vf_policy_ghosts_init(struct vf_policy_ghosts *g, size_t n_ghosts);
void vf_policy_ghosts_fini(struct vf_policy_ghosts *g);
/* @note  below 1 << VF_POLICY_NOTE_BITS */
void vf_policy_ghosts_add(struct vf_policy_ghosts *g, uint64_t hash,
			  unsigned note);
/* Forget it too.  Returns its note; -1 when it is not there. */
int vf_policy_ghosts_take(struct vf_policy_ghosts *g, uint64_t hash);

struct vf_policy_ops {
	const char *name;
	size_t size; /* of the struct that begins with struct vf_policy */

	int (*init)(struct vf_policy *p); /* 0; -ENOMEM */
	void (*fini)(struct vf_policy *p);
	/* Link a new entry; freq is 0. */
	void (*insert)(struct vf_policy *p, struct vf_policy_entry *e);
	/* Count a use; a parked entry is counted, not moved. */
	void (*hit)(struct vf_policy *p, struct vf_policy_entry *e, uint32_t n);
	/* Link what was parked. */
	void (*restore)(struct vf_policy *p, struct vf_policy_entry *e);
	void (*unlink)(struct vf_policy *p, struct vf_policy_entry *e);
	/* Who should leave, still linked; NULL when nothing is linked. */
	struct vf_policy_entry *(*pick)(struct vf_policy *p);
	/* It is about to be replaced, still linked: make it a ghost. */
	void (*evicted)(struct vf_policy *p, struct vf_policy_entry *e);
	/* The @i'th queue, for validation; NULL past the last. */
	const struct vf_policy_list *(*queue)(const struct vf_policy *p,
					      size_t i);
	/* In which queue this linked entry should be found. */
	size_t (*queue_of)(const struct vf_policy *p,
			   const struct vf_policy_entry *e);
};

struct vf_policy {
	const struct vf_policy_ops *ops;
	size_t n_blocks;
	size_t n_linked; /* in queues of the policy, so without the parked */
	uint32_t ttl_s;
	struct vf_policy_list parked;
	/* Linked entries in the order of filling; empty without a ttl. */
	struct vf_policy_entry *youngest, *eldest;
};

/* A share of the linked entries, at least one. */
static inline size_t vf_policy_share(const struct vf_policy *p, size_t percent)
{
	return VF_MAX(p->n_linked * percent / 100, (size_t)1);
}

extern const struct vf_policy_ops vf_policy_lru, vf_policy_lfu,
	vf_policy_s3fifo;

/* Entries inserted. */
size_t vf_policy_count(const struct vf_policy *p);

/* Every entry is in exactly the queue it should be in; O(entries). */
bool vf_policy_validate(const struct vf_policy *p, const char **out_reason);

#endif
