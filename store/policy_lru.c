/*
 * Least recent use.  Blocks that a sequential read brought wait in probation
 * until they are used again, and hold at most PROBATION percent of the tier
 * once others want the place.
 *
 * freq is the time of the last use, counted in uses of the whole tier, so that
 * the old ends of both queues compare.  It wraps; a block that slept for 2^31
 * uses may then leave in the wrong order.
 */
#include "store/policy_impl.h"

enum { HOT, SCANNED, N_QUEUES };
enum { PROBATION = 10 /* percent */ };

struct lru {
	struct vf_policy base;
	struct vf_policy_list queues[N_QUEUES];
	uint32_t now; /* uses so far */
};

static struct lru *lru_of(struct vf_policy *p)
{
	return (struct lru *)p;
}

static int init_lru(struct vf_policy *p)
{
	return 0;
}

static void fini_lru(struct vf_policy *p)
{
}

static void push_newest(struct lru *l, struct vf_policy_entry *e,
			unsigned queue)
{
	e->freq = l->now++;
	e->queue = (uint8_t)(queue + 1);
	vf_policy_list_push(&l->queues[queue], e);
}

static void insert_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	push_newest(lru_of(p), e, e->flags & VF_POLICY_SCAN ? SCANNED : HOT);
}

static void unlink_lru(struct vf_policy *p, struct vf_policy_entry *e)
{
	vf_policy_list_unlink(&lru_of(p)->queues[e->queue - 1], e);
}

static void hit_entry(struct vf_policy *p, struct vf_policy_entry *e,
		      uint32_t n)
{
	e->flags &= (uint8_t)~VF_POLICY_SCAN;
	if (e->queue == VF_POLICY_PARKED)
		return;
	unlink_lru(p, e);
	push_newest(lru_of(p), e, HOT);
}

/* It was parked when it was the oldest, so it still is unless used since. */
static void restore_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct lru *l = lru_of(p);
	unsigned queue = e->flags & VF_POLICY_SCAN ? SCANNED : HOT;

	if (e->flags & VF_POLICY_WOKEN) {
		push_newest(l, e, HOT);
		return;
	}
	e->queue = (uint8_t)(queue + 1);
	vf_policy_list_push_oldest(&l->queues[queue], e);
}

static struct vf_policy_entry *pick_entry(struct vf_policy *p)
{
	const struct vf_policy_list *q = lru_of(p)->queues;
	struct vf_policy_entry *hot = q[HOT].oldest, *scan = q[SCANNED].oldest;

	if (!hot || !scan)
		return hot ? hot : scan;
	if (q[SCANNED].n > vf_policy_share(p, PROBATION))
		return scan;
	return (int32_t)(scan->freq - hot->freq) < 0 ? scan : hot;
}

static void forget_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
}

static const struct vf_policy_list *queue_at(const struct vf_policy *p,
					     size_t i)
{
	return i < N_QUEUES ? &((const struct lru *)p)->queues[i] : NULL;
}

static size_t queue_of(const struct vf_policy *p,
		       const struct vf_policy_entry *e)
{
	return e->queue - 1u;
}

const struct vf_policy_ops vf_policy_lru = {
	.name = "lru",
	.size = sizeof(struct lru),
	.init = init_lru,
	.fini = fini_lru,
	.insert = insert_entry,
	.hit = hit_entry,
	.restore = restore_entry,
	.unlink = unlink_lru,
	.pick = pick_entry,
	.evicted = forget_entry,
	.queue = queue_at,
	.queue_of = queue_of,
};
