/*
 * Least frequent use, with a window in front and a memory behind.
 *
 *   window   new blocks, first in first out, WINDOW percent: a block read
 *            ahead is not the next to leave, and short bursts count as one
 *   counted  one queue per count 0..FREQ_MAX, in each the most recently
 *            touched at the newer end; the oldest of the lowest leaves
 *   ghosts   the counts of blocks that have left: one that comes back goes on
 *            counting where it was, so that a new hot set wins its place
 *
 * Counts are halved when uses reach AGE_USES per block of the tier (an epoch),
 * and early when the hot set moves (watch_returns).  Halving joins queues 2i
 * and 2i + 1 to queue i and touches no entry: an entry keeps the epoch of its
 * count and is reckoned when it is next looked at.
 *
 *   freq, and a ghost's note:  bits 0..5 count, the others epoch, wrapping
 *
 * An epoch counts only uses of what is or was here: blocks seen once, a scan,
 * do not age the others.
 *
 * Source: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache
 * admission policy", TOS 2017, sections 3.2 (reset) and 4.2 (window); counts
 * are exact here instead of sketched.
 */
#include "store/policy_impl.h"

enum { IN_WINDOW = 1, COUNTED }; /* of vf_policy_entry.queue */
enum {
	WINDOW = 4, /* percent */
	AGE_USES = 24,
	FREQ_BITS = 6,
	FREQ_MAX = (1 << FREQ_BITS) - 1,
	NOTE_MASK = (1 << VF_POLICY_NOTE_BITS) - 1,
	WATCH_MIN = 1024, /* uses: fewer say nothing about a share */
	LEARN = 16,	  /* watches until the usual share is known */
};

struct lfu {
	struct vf_policy base;
	struct vf_policy_list window;
	struct vf_policy_list counted[FREQ_MAX + 1];
	uint64_t filled; /* bit i: counted[i] is not empty */
	uint64_t epoch;
	uint64_t n_uses;		/* in this epoch */
	uint64_t n_watched, n_returned; /* uses of this watch; of ghosts */
	uint32_t usual_share;		/* of returns among uses, in 1024ths */
	uint32_t n_learned;
	struct vf_policy_ghosts ghosts;
};

static_assert(FREQ_MAX < 64, "a bit each");

static struct lfu *lfu_of(struct vf_policy *p)
{
	return (struct lfu *)p;
}

static int init_lfu(struct vf_policy *p)
{
	return vf_policy_ghosts_init(&lfu_of(p)->ghosts, p->n_blocks);
}

static void fini_lfu(struct vf_policy *p)
{
	vf_policy_ghosts_fini(&lfu_of(p)->ghosts);
}

/* ---- counts -------------------------------------------------------------- */

static uint32_t pack_count(const struct lfu *l, unsigned count)
{
	return (uint32_t)(l->epoch << FREQ_BITS) | count;
}

/* @mask  the bits that were kept of @packed */
static unsigned count_now(const struct lfu *l, uint32_t packed, uint32_t mask)
{
	uint32_t age =
		(pack_count(l, 0) - (packed & ~(uint32_t)FREQ_MAX)) & mask;

	age >>= FREQ_BITS;
	return age <= FREQ_BITS ? (packed & FREQ_MAX) >> age : 0;
}

static unsigned count_of(const struct lfu *l, const struct vf_policy_entry *e)
{
	return count_now(l, e->freq, UINT32_MAX);
}

static void halve_counts(struct lfu *l)
{
	l->epoch++;
	l->n_uses = 0;
	l->filled = 0;
	for (unsigned i = 0; i <= FREQ_MAX; i++) {
		if (i)
			vf_policy_list_join(&l->counted[i / 2], &l->counted[i]);
		if (l->counted[i / 2].n)
			l->filled |= UINT64_C(1) << i / 2;
	}
}

/*
 * When many more blocks come back than used to, the hot set has moved: the
 * counts of the old one are worth less than their age says.  Measured where
 * all ranks of a Zipf stream change places every 50 turnovers: 57 % of hits
 * without this, 65 % with it.
 */
static void watch_returns(struct lfu *l)
{
	uint32_t share = (uint32_t)(l->n_returned * 1024 / l->n_watched);

	if (l->n_learned < LEARN) {
		l->usual_share = share;
		l->n_learned += share > 0;
	} else if (share > l->usual_share * 5 / 4 + 24) {
		halve_counts(l);
	}
	if (share < l->usual_share)
		l->usual_share -= (l->usual_share - share + 15) / 16;
	else
		l->usual_share += (share - l->usual_share) / 16;
	l->n_watched = l->n_returned = 0;
}

static void count_uses(struct lfu *l, uint32_t n, bool returned)
{
	size_t n_blocks = l->base.n_blocks;

	l->n_uses += n;
	if (l->n_uses / AGE_USES >= VF_MAX(n_blocks, (size_t)1))
		halve_counts(l);
	l->n_watched += n;
	l->n_returned += returned;
	if (l->n_watched >= VF_MAX(n_blocks, (size_t)WATCH_MIN))
		watch_returns(l);
}

/* ---- queues -------------------------------------------------------------- */

static void push_counted(struct lfu *l, struct vf_policy_entry *e)
{
	unsigned count = count_of(l, e);

	e->queue = COUNTED;
	vf_policy_list_push(&l->counted[count], e);
	l->filled |= UINT64_C(1) << count;
}

static void unlink_lfu(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct lfu *l = lfu_of(p);
	unsigned count = count_of(l, e);

	if (e->queue == IN_WINDOW) {
		vf_policy_list_unlink(&l->window, e);
		return;
	}
	vf_policy_list_unlink(&l->counted[count], e);
	if (!l->counted[count].n)
		l->filled &= ~(UINT64_C(1) << count);
}

static void insert_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct lfu *l = lfu_of(p);
	int note = vf_policy_ghosts_take(&l->ghosts, e->hash);
	unsigned count = 0;

	if (note >= 0) {
		count_uses(l, 1, true);
		count = count_now(l, (uint32_t)note, NOTE_MASK);
		count = VF_MIN(count + 1, (unsigned)FREQ_MAX);
	}
	e->freq = pack_count(l, count);
	e->queue = IN_WINDOW;
	vf_policy_list_push(&l->window, e);
}

static void hit_entry(struct vf_policy *p, struct vf_policy_entry *e,
		      uint32_t n)
{
	struct lfu *l = lfu_of(p);
	unsigned count;

	n = VF_MIN(n, (uint32_t)FREQ_MAX);
	count_uses(l, n, false);
	count = VF_MIN(count_of(l, e) + n, (unsigned)FREQ_MAX);
	e->flags &= (uint8_t)~VF_POLICY_SCAN;
	if (e->queue == COUNTED)
		unlink_lfu(p, e);
	e->freq = pack_count(l, count);
	if (e->queue == COUNTED)
		push_counted(l, e);
}

static void restore_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	push_counted(lfu_of(p), e);
}

static struct vf_policy_entry *pick_entry(struct vf_policy *p)
{
	struct lfu *l = lfu_of(p);

	while (l->window.n > vf_policy_share(p, WINDOW)) {
		struct vf_policy_entry *e = l->window.oldest;
		vf_policy_list_unlink(&l->window, e);
		push_counted(l, e);
	}
	if (!l->filled)
		return l->window.oldest;
	return l->counted[__builtin_ctzll(l->filled)].oldest;
}

static void keep_ghost(struct vf_policy *p, struct vf_policy_entry *e)
{
	struct lfu *l = lfu_of(p);

	if (!(e->flags & VF_POLICY_SCAN))
		vf_policy_ghosts_add(&l->ghosts, e->hash,
				     pack_count(l, count_of(l, e)) & NOTE_MASK);
}

/* ---- validation ---------------------------------------------------------- */

static const struct vf_policy_list *queue_at(const struct vf_policy *p,
					     size_t i)
{
	const struct lfu *l = (const struct lfu *)p;

	if (!i)
		return &l->window;
	return i <= VF_N(l->counted) ? &l->counted[i - 1] : NULL;
}

static size_t queue_of(const struct vf_policy *p,
		       const struct vf_policy_entry *e)
{
	const struct lfu *l = (const struct lfu *)p;

	return e->queue == IN_WINDOW ? 0 : count_of(l, e) + 1;
}

const struct vf_policy_ops vf_policy_lfu = {
	.name = "lfu",
	.size = sizeof(struct lfu),
	.init = init_lfu,
	.fini = fini_lfu,
	.insert = insert_entry,
	.hit = hit_entry,
	.restore = restore_entry,
	.unlink = unlink_lfu,
	.pick = pick_entry,
	.evicted = keep_ghost,
	.queue = queue_at,
	.queue_of = queue_of,
};
