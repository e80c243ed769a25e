/*
 * Rows of shards that are merged once four are alike are written again about
 * log4(rows of a shard / rows of a batch) times in their life.
 */
#include "store/compact.h"

enum {
	GROWTH = 2, /* a tree of so many times the leaves is worth a new one */
	GROWN_ROWS = 40000, /* fewer are soon scanned */
};

struct choice {
	const struct vf_compact_view *v;
	bool *take;
	struct vf_compact_plan *plan;
};

static uint64_t live_rows(const struct vf_compact_shard *s)
{
	return s->n_rows - s->n_dead;
}

static void take(struct choice *c, size_t i)
{
	if (c->take[i])
		return;
	c->take[i] = true;
	c->plan->n_shards++;
	c->plan->n_rows += live_rows(&c->v->shards[i]);
}

static bool is_half_dead(const struct vf_compact_shard *s)
{
	return s->n_dead >= s->n_rows - s->n_dead;
}

static bool is_small(const struct choice *c, size_t i)
{
	return live_rows(&c->v->shards[i]) < c->v->capacity / 2;
}

/* Rows grew so much that another tree is worth reading all of them. */
static bool wants_tree(const struct vf_compact_view *v)
{
	return v->want_leaves > 1 && v->want_leaves >= GROWTH * v->n_leaves;
}

/* ---- whatever is not full ---------------------------------------------------- */

/* Small shards too, when fewer come out than go in. */
static void take_small(struct choice *c)
{
	uint64_t rows = c->plan->n_rows, cap = c->v->capacity;
	uint64_t pieces = c->plan->n_shards + c->plan->tail;

	for (size_t i = 0; i < c->v->n_shards; i++) {
		if (c->take[i] || !is_small(c, i))
			continue;
		rows += live_rows(&c->v->shards[i]);
		pieces++;
	}
	if ((rows + cap - 1) / cap >= pieces)
		return;
	for (size_t i = 0; i < c->v->n_shards; i++)
		if (is_small(c, i))
			take(c, i);
}

static void choose_eagerly(struct choice *c)
{
	const struct vf_compact_view *v = c->v;

	c->plan->new_tree = wants_tree(v);
	for (size_t i = 0; i < v->n_shards; i++)
		if (c->plan->new_tree || is_half_dead(&v->shards[i]) ||
		    (v->n_leaves && v->shards[i].flat))
			take(c, i);
	take_small(c);
}

/* ---- on the way ---------------------------------------------------------------- */

/*
 * A put that comes upon four times the rows of the largest shard, which those
 * before it have left: all become one shard, along a tree that is made for
 * VF_COMPACT_AHEAD times as many, so that its leaves are enough for long.
 *
 * Measured, generated rows of 1024 dimensions, rows scanned at recall .92: a
 * million along a tree made of 40 k / 160 k of them for ten times as many 21.5 /
 * under 12.8 k, along one of all 10.9 k; 100 k along that of 40 k 4.4 k, along
 * one of all 4.8 k.
 */
static void choose_growth(struct choice *c)
{
	const struct vf_compact_view *v = c->v;
	uint64_t rows = 0, largest = 0;

	for (size_t i = 0; i < v->n_shards; i++) {
		rows += live_rows(&v->shards[i]);
		largest = VF_MAX(largest, live_rows(&v->shards[i]));
	}
	c->plan->new_tree = rows >= GROWN_ROWS && rows <= v->capacity &&
			    rows >= VF_COMPACT_ALIKE * largest && wants_tree(v);
	for (size_t i = 0; c->plan->new_tree && i < v->n_shards; i++)
		take(c, i);
}

static unsigned tier_of(uint64_t rows)
{
	unsigned tier = 0;

	while (rows >>= 2)
		tier++;
	return tier;
}

/* Shards of one tier, with what is taken already when it would be one. */
static void take_tier(struct choice *c, unsigned tier)
{
	const struct vf_compact_view *v = c->v;
	uint64_t rows = c->plan->n_rows, limit = v->capacity / 4;
	size_t n = rows && tier_of(rows) == tier;

	for (size_t i = 0; i < v->n_shards; i++) {
		uint64_t live = live_rows(&v->shards[i]);
		if (!c->take[i] && tier_of(live) == tier) {
			rows += live;
			n++;
		}
	}
	if (n < VF_COMPACT_ALIKE || rows > limit)
		return;
	for (size_t i = 0; i < v->n_shards; i++)
		if (tier_of(live_rows(&v->shards[i])) == tier)
			take(c, i);
}

void vf_compact_choose(const struct vf_compact_view *v, bool *out_take,
		       struct vf_compact_plan *out)
{
	struct choice c = {v, out_take, out};

	*out = (struct vf_compact_plan){.tail = v->tail_rows > 0,
					.n_rows = v->tail_rows};
	if (v->n_shards)
		memset(out_take, 0, v->n_shards * sizeof(*out_take));
	if (v->eager || v->grows) {
		if (v->eager)
			choose_eagerly(&c);
		else
			choose_growth(&c);
		return;
	}
	for (unsigned tier = 0; tier <= tier_of(v->capacity); tier++)
		take_tier(&c, tier);
}

bool vf_tail_exceeds(const struct vf_state *s, uint64_t times)
{
	struct vf_state_counts n;

	vf_state_count(s, &n);
	return n.tail_len > times * VF_TAIL_LEN ||
	       s->n_tail > times * VF_TAIL_RECORDS;
}

bool vf_tail_is_long(const struct vf_state *s)
{
	return vf_tail_exceeds(s, 1);
}
