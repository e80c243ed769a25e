/*
 * Three queues: new blocks enter the small one, those used more than once
 * there move to the main one, others leave and are remembered as ghosts; a
 * ghost that comes back enters the main queue.  The main queue gives a block
 * another round for every use, up to FREQ_MAX.
 *
 * Blocks of a sequential read leave no ghost: the next such read would
 * otherwise fill the main queue.
 *
 * Source: Yang et al., "FIFO queues are all you need for cache eviction",
 * SOSP 2023, section 4.1, algorithm 1.
 */
#include "store/policy_impl.h"

enum { SMALL, MAIN, N_QUEUES };
enum {
	SMALL_SHARE = 10, /* percent */
	FREQ_MAX = 3,
	TO_MAIN = 2, /* uses in the small queue */
};

struct s3fifo {
	struct vf_policy base;
	struct vf_policy_list queues[N_QUEUES];
	struct vf_policy_ghosts ghosts;
};

static struct s3fifo *s3fifo_of(struct vf_policy *p)
{
	return (struct s3fifo *)p;
}

static int init_s3fifo(struct vf_policy *p)
{
	return vf_policy_ghosts_init(&s3fifo_of(p)->ghosts,
				     p->n_blocks - p->n_blocks / 10);
}

static void fini_s3fifo(struct vf_policy *p)
{
	vf_policy_ghosts_fini(&s3fifo_of(p)->ghosts);
}

static void push_newest(struct s3fifo *s, struct vf_policy_entry *e,
			unsigned queue)
{
	e->queue = (uint8_t)(queue + 1);
	vf_policy_list_push(&s->queues[queue], e);
}

static void insert_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct s3fifo *s = s3fifo_of(p);
	bool was_here = vf_policy_ghosts_take(&s->ghosts, e->hash) >= 0;

	push_newest(s, e, was_here ? MAIN : SMALL);
}

static void hit_entry(struct vf_policy *p, struct vf_policy_entry *e,
		      uint32_t n)
{
	e->flags &= (uint8_t)~VF_POLICY_SCAN;
	e->freq = n < FREQ_MAX - e->freq ? e->freq + n : FREQ_MAX;
}

/* Somebody held it when its turn came: that is a use. */
static void restore_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	push_newest(s3fifo_of(p), e, MAIN);
}

static void unlink_s3fifo(struct vf_policy *p, struct vf_policy_entry *e)
{
	vf_policy_list_unlink(&s3fifo_of(p)->queues[e->queue - 1], e);
}

static struct vf_policy_entry *pick_small(struct s3fifo *s, size_t down_to)
{
	struct vf_policy_list *q = &s->queues[SMALL];

	while (q->n && q->n >= down_to) {
		struct vf_policy_entry *e = q->oldest;
		if (e->freq < TO_MAIN)
			return e;
		vf_policy_list_unlink(q, e);
		e->freq = 0;
		push_newest(s, e, MAIN);
	}
	return NULL;
}

/* Ends: every round takes one use from an entry. */
static struct vf_policy_entry *pick_main(struct s3fifo *s)
{
	struct vf_policy_list *q = &s->queues[MAIN];
	struct vf_policy_entry *e;

	while ((e = q->oldest) && e->freq) {
		e->freq--;
		vf_policy_list_unlink(q, e);
		push_newest(s, e, MAIN);
	}
	return e;
}

static struct vf_policy_entry *pick_entry(struct vf_policy *p)
{
	struct s3fifo *s = s3fifo_of(p);
	struct vf_policy_entry *e =
		pick_small(s, vf_policy_share(p, SMALL_SHARE));

	if (!e)
		e = pick_main(s);
	return e ? e : pick_small(s, 1);
}

/* What leaves the main queue was known well enough: no ghost. */
static void keep_ghost(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct s3fifo *s = s3fifo_of(p);

	if (e->queue == SMALL + 1 && !(e->flags & VF_POLICY_SCAN))
		vf_policy_ghosts_add(&s->ghosts, e->hash, 0);
}

static const struct vf_policy_list *queue_at(const struct vf_policy *p,
					     size_t i)
{
	return i < N_QUEUES ? &((const struct s3fifo *)p)->queues[i] : NULL;
}

static size_t queue_of(const struct vf_policy *p,
		       const struct vf_policy_entry *e)
{
	return e->queue - 1u;
}

const struct vf_policy_ops vf_policy_s3fifo = {
	.name = "s3fifo",
	.size = sizeof(struct s3fifo),
	.init = init_s3fifo,
	.fini = fini_s3fifo,
	.insert = insert_entry,
	.hit = hit_entry,
	.restore = restore_entry,
	.unlink = unlink_s3fifo,
	.pick = pick_entry,
	.evicted = keep_ghost,
	.queue = queue_at,
	.queue_of = queue_of,
};
