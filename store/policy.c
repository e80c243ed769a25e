/*
 * The front of the replacement policies: names, parked entries, the ttl, and
 * the ghost table they share.
 *
 * An entry is in one of three states:
 *
 *   out     queue == VF_POLICY_OUT
 *   linked  in one queue of the policy; with a ttl also in filling order
 *   parked  in the parked list: may() refused it when its turn had come
 *
 * Pinned entries are so met once, not at every replacement.  Each replacement
 * looks again at REVIEW of the parked, and at all of them only when nothing is
 * linked any more; so the cost is O(1) amortised however many are pinned, and
 * O(entries) when all are refused.
 *
 * The ghost table is a set-associative hash table of 64-byte sets; in each set
 * the oldest slot is overwritten.  A slot, 0 when never used:
 *
 *   bits 32..63  tag, never 0    bits 12..31  stamp    bits 0..11  note
 *
 * Source: Yang et al., SOSP 2023, section 4.2 (ghosts as fingerprints with a
 * time of eviction in a bucketed table).
 */
#include "store/policy_impl.h"

enum {
	REVIEW = 2, /* parked entries looked at per replacement */
	WAYS = 8,
	STAMP_BITS = 20,
	STAMP_MASK = (1 << STAMP_BITS) - 1,
	NOTE_MASK = (1 << VF_POLICY_NOTE_BITS) - 1,
};

/* 256 TiB of blocks of 64 KiB. */
#define SLOTS_MAX (UINT64_C(1) << 32)

static_assert(WAYS * sizeof(uint64_t) == 64, "a set is a cache line");
static_assert(32 + STAMP_BITS + VF_POLICY_NOTE_BITS == 64, "slot layout");

/*
 * The first is the default.  Hit rates of bench/bench_policy, Zipf 0.9 over
 * 1 M blocks, caches of 1, 5, 10, 20 %; a perfect choice of blocks once and
 * for all reaches 51.6, 66.1, 73.0, 80.5:
 *
 *   lru     39.5  55.4  63.7  73.1
 *   lfu     51.1  65.2  71.8  78.9
 *   s3fifo  49.7  63.6  70.3  77.6
 */
static const struct vf_policy_ops *const all[] = {
	&vf_policy_lfu, &vf_policy_s3fifo, &vf_policy_lru};

/* ---- lists --------------------------------------------------------------- */

void vf_policy_list_push(struct vf_policy_list *l, struct vf_policy_entry *e)
{
	e->newer = NULL;
	e->older = l->newest;
	*(l->newest ? &l->newest->newer : &l->oldest) = e;
	l->newest = e;
	l->n++;
}

void vf_policy_list_push_oldest(struct vf_policy_list *l,
				struct vf_policy_entry *e)
{
	e->older = NULL;
	e->newer = l->oldest;
	*(l->oldest ? &l->oldest->older : &l->newest) = e;
	l->oldest = e;
	l->n++;
}

void vf_policy_list_unlink(struct vf_policy_list *l, struct vf_policy_entry *e)
{
	assert(l->n);
	*(e->newer ? &e->newer->older : &l->newest) = e->older;
	*(e->older ? &e->older->newer : &l->oldest) = e->newer;
	e->newer = e->older = NULL;
	l->n--;
}

void vf_policy_list_join(struct vf_policy_list *l, struct vf_policy_list *from)
{
	if (!from->n)
		return;
	from->oldest->older = l->newest;
	*(l->newest ? &l->newest->newer : &l->oldest) = from->oldest;
	l->newest = from->newest;
	l->n += from->n;
	*from = (struct vf_policy_list){0};
}

/* ---- ghosts -------------------------------------------------------------- */

int vf_policy_ghosts_init(struct vf_policy_ghosts *g, size_t n_ghosts)
{
	size_t n_slots;

	/* A third more slots than ghosts: few sets overflow before age. */
	if (VF_ADD(n_ghosts, n_ghosts / 3 + 2 * WAYS, &n_slots) ||
	    n_slots > SLOTS_MAX)
		return -ENOMEM;
	*g = (struct vf_policy_ghosts){.n_sets = n_slots / WAYS};
	while (n_ghosts >> g->age_shift > STAMP_MASK / 4)
		g->age_shift++;
	g->age_max = (uint32_t)(n_ghosts >> g->age_shift);
	g->slots = calloc(g->n_sets, WAYS * sizeof(uint64_t));
	return g->slots ? 0 : -ENOMEM;
}

void vf_policy_ghosts_fini(struct vf_policy_ghosts *g)
{
	free(g->slots);
	g->slots = NULL;
}

/* Of hashes mixed again, for callers' may be weak: the set comes from the upper
 * bits, the tag from the lower. */
static uint64_t *find_set(const struct vf_policy_ghosts *g, uint64_t mixed)
{
	return g->slots +
	       (size_t)((unsigned __int128)mixed * g->n_sets >> 64) * WAYS;
}

static uint32_t ghost_tag(uint64_t mixed)
{
	return (uint32_t)mixed ? (uint32_t)mixed : 1;
}

static uint32_t ghost_stamp(const struct vf_policy_ghosts *g)
{
	return (uint32_t)(g->n_added >> g->age_shift) & STAMP_MASK;
}

static uint32_t ghost_age(uint64_t slot, uint32_t now)
{
	return (now - (uint32_t)(slot >> VF_POLICY_NOTE_BITS)) & STAMP_MASK;
}

void vf_policy_ghosts_add(struct vf_policy_ghosts *g, uint64_t hash,
			  unsigned note)
{
	uint64_t mixed = vf_mix64(hash), *set = find_set(g, mixed);
	uint32_t now = ghost_stamp(g), tag = ghost_tag(mixed);
	unsigned worst = 0;

	for (unsigned i = 0; i < WAYS; i++) {
		if (!set[i] || (uint32_t)(set[i] >> 32) == tag) {
			worst = i;
			break;
		}
		if (ghost_age(set[i], now) > ghost_age(set[worst], now))
			worst = i;
	}
	assert(note <= NOTE_MASK);
	set[worst] = (uint64_t)tag << 32 |
		     (uint64_t)now << VF_POLICY_NOTE_BITS | note;
	g->n_added++;
}

int vf_policy_ghosts_take(struct vf_policy_ghosts *g, uint64_t hash)
{
	uint64_t mixed = vf_mix64(hash), *set = find_set(g, mixed);
	uint32_t now = ghost_stamp(g), tag = ghost_tag(mixed);

	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t slot = set[i];
		if (slot >> 32 != tag)
			continue;
		set[i] = 0;
		return ghost_age(slot, now) <= g->age_max
			       ? (int)(slot & NOTE_MASK)
			       : -1;
	}
	return -1;
}

/* ---- the order of filling ------------------------------------------------ */

static void age_link(struct vf_policy *p, struct vf_policy_entry *e)
{
	if (!p->ttl_s)
		return;
	e->younger = NULL;
	e->elder = p->youngest;
	*(p->youngest ? &p->youngest->younger : &p->eldest) = e;
	p->youngest = e;
}

static void age_unlink(struct vf_policy *p, struct vf_policy_entry *e)
{
	if (!p->ttl_s)
		return;
	*(e->younger ? &e->younger->elder : &p->youngest) = e->elder;
	*(e->elder ? &e->elder->younger : &p->eldest) = e->younger;
	e->younger = e->elder = NULL;
}

static bool is_expired(const struct vf_policy *p,
		       const struct vf_policy_entry *e, uint32_t now_s)
{
	return p->ttl_s && now_s > e->time_s && now_s - e->time_s > p->ttl_s;
}

/* ---- states -------------------------------------------------------------- */

static void unlink_entry(struct vf_policy *p, struct vf_policy_entry *e)
{
	if (e->queue == VF_POLICY_PARKED) {
		vf_policy_list_unlink(&p->parked, e);
	} else {
		p->ops->unlink(p, e);
		age_unlink(p, e);
		p->n_linked--;
	}
	e->queue = VF_POLICY_OUT;
}

static void park(struct vf_policy *p, struct vf_policy_entry *e)
{
	unlink_entry(p, e);
	e->flags &= (uint8_t)~VF_POLICY_WOKEN;
	e->queue = VF_POLICY_PARKED;
	vf_policy_list_push(&p->parked, e);
}

/* Its place in the order of filling is lost: it may outlive its ttl once. */
static void unpark(struct vf_policy *p, struct vf_policy_entry *e)
{
	unlink_entry(p, e);
	p->n_linked++;
	p->ops->restore(p, e);
	age_link(p, e);
}

/* ---- the front ----------------------------------------------------------- */

static const struct vf_policy_ops *find_policy(const char *name)
{
	for (size_t i = 0; i < VF_N(all); i++)
		if (!name || !strcmp(name, all[i]->name))
			return all[i];
	return NULL;
}

int vf_policy_open(const char *name, size_t n_blocks, uint32_t ttl_s,
		   struct vf_policy **out)
{
	const struct vf_policy_ops *ops = find_policy(name);
	struct vf_policy *p;

	*out = NULL;
	if (!ops)
		return -EINVAL;
	p = calloc(1, ops->size);
	if (!p)
		return vf_fail(-ENOMEM, "policy %s: no memory", ops->name);
	p->ops = ops;
	p->n_blocks = n_blocks;
	p->ttl_s = ttl_s;
	if (ops->init(p)) {
		vf_policy_close(p);
		return vf_fail(-ENOMEM, "policy %s: no memory for %zu blocks",
			       ops->name, n_blocks);
	}
	*out = p;
	return 0;
}

void vf_policy_close(struct vf_policy *p)
{
	if (!p)
		return;
	p->ops->fini(p);
	free(p);
}

const char *vf_policy_name(const struct vf_policy *p)
{
	return p->ops->name;
}

void vf_policy_insert(struct vf_policy *p, struct vf_policy_entry *e,
		      uint64_t hash, unsigned flags, uint32_t now_s)
{
	assert(e->queue == VF_POLICY_OUT);
	*e = (struct vf_policy_entry){
		.hash = hash, .time_s = now_s, .flags = flags & VF_POLICY_SCAN};
	p->n_linked++;
	p->ops->insert(p, e);
	age_link(p, e);
}

void vf_policy_hit(struct vf_policy *p, struct vf_policy_entry *e, uint32_t n)
{
	assert(e->queue != VF_POLICY_OUT);
	if (!n)
		return;
	/* A block read ahead is then read: that is one use, not two. */
	if (e->flags & VF_POLICY_SCAN && !(e->flags & VF_POLICY_READ)) {
		e->flags |= VF_POLICY_READ;
		return;
	}
	e->flags |= e->queue == VF_POLICY_PARKED ? VF_POLICY_WOKEN : 0;
	p->ops->hit(p, e, n);
}

void vf_policy_remove(struct vf_policy *p, struct vf_policy_entry *e)
{
	assert(e->queue != VF_POLICY_OUT);
	unlink_entry(p, e);
}

typedef bool may_fn(void *arg, const struct vf_policy_entry *e);

/* An expired entry that can leave; it is no ghost afterwards. */
static struct vf_policy_entry *take_expired(struct vf_policy *p, may_fn *may,
					    void *arg, uint32_t now_s)
{
	struct vf_policy_entry *e;

	while ((e = p->eldest) && is_expired(p, e, now_s)) {
		if (may(arg, e)) {
			unlink_entry(p, e);
			return e;
		}
		park(p, e);
	}
	return NULL;
}

/* Look again at some of the parked; an expired one is returned, unlinked. */
static struct vf_policy_entry *review_parked(struct vf_policy *p, may_fn *may,
					     void *arg, uint32_t now_s)
{
	size_t n = VF_MIN(p->parked.n, (size_t)REVIEW);

	while (n--) {
		struct vf_policy_entry *e = p->parked.oldest;
		if (!may(arg, e)) {
			vf_policy_list_unlink(&p->parked, e);
			vf_policy_list_push(&p->parked, e);
		} else if (is_expired(p, e, now_s)) {
			unlink_entry(p, e);
			return e;
		} else {
			unpark(p, e);
		}
	}
	return NULL;
}

static struct vf_policy_entry *take_picked(struct vf_policy *p, may_fn *may,
					   void *arg)
{
	struct vf_policy_entry *e;

	while ((e = p->ops->pick(p))) {
		if (may(arg, e)) {
			p->ops->evicted(p, e);
			unlink_entry(p, e);
			return e;
		}
		park(p, e);
	}
	return NULL;
}

static struct vf_policy_entry *take_parked(struct vf_policy *p, may_fn *may,
					   void *arg)
{
	struct vf_policy_entry *e = p->parked.oldest;

	while (e && !may(arg, e))
		e = e->newer;
	if (e)
		unlink_entry(p, e);
	return e;
}

struct vf_policy_entry *vf_policy_victim(struct vf_policy *p, may_fn *may,
					 void *arg, uint32_t now_s)
{
	struct vf_policy_entry *e = take_expired(p, may, arg, now_s);

	if (!e)
		e = review_parked(p, may, arg, now_s);
	if (!e)
		e = take_picked(p, may, arg);
	if (!e)
		e = take_parked(p, may, arg);
	return e;
}

/* ---- validation ---------------------------------------------------------- */

size_t vf_policy_count(const struct vf_policy *p)
{
	return p->n_linked + p->parked.n;
}

/* Links agree both ways and with the count. */
static bool is_sound(const struct vf_policy_list *l)
{
	const struct vf_policy_entry *e, *newer = NULL;
	size_t n = 0;

	for (e = l->newest; e; newer = e, e = e->older)
		if (e->newer != newer || ++n > l->n)
			return false;
	return n == l->n && l->oldest == newer;
}

static bool is_age_order_sound(const struct vf_policy *p)
{
	const struct vf_policy_entry *e, *elder = NULL;
	size_t n = 0;

	for (e = p->eldest; e; elder = e, e = e->younger)
		if (e->elder != elder || e->queue == VF_POLICY_PARKED ||
		    ++n > p->n_linked)
			return false;
	return p->youngest == elder && n == (p->ttl_s ? p->n_linked : 0);
}

bool vf_policy_validate(const struct vf_policy *p, const char **out_reason)
{
	const struct vf_policy_list *l;
	const struct vf_policy_entry *e;
	size_t n = 0;

	*out_reason = "the parked list is broken";
	if (!is_sound(&p->parked))
		return false;
	for (e = p->parked.oldest; e; e = e->newer)
		if (e->queue != VF_POLICY_PARKED)
			return false;
	*out_reason = "the order of filling is broken";
	if (!is_age_order_sound(p))
		return false;
	*out_reason = "a queue is broken or holds another's entry";
	for (size_t i = 0; (l = p->ops->queue(p, i)); n += l->n, i++) {
		if (!is_sound(l))
			return false;
		for (e = l->oldest; e; e = e->newer)
			if (e->queue == VF_POLICY_OUT ||
			    e->queue == VF_POLICY_PARKED ||
			    p->ops->queue_of(p, e) != i)
				return false;
	}
	*out_reason = "the queues do not hold every entry";
	return n == p->n_linked;
}
