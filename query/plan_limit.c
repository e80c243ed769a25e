/*
 * Codes within limits.  Leaves come nearest first, so of those that have to be
 * fetched as many of the nearest are as the limit of requests allows; those at
 * hand cost nothing.  What has not come in time is left too.
 */
#include "query/engine.h"

enum { POLL_US = 500, SHARE = 2 /* of a limit, for codes: one in so many */ };

/* Of shards that follow the tree: others are small, and read whole. */
static int ask_shards(struct vf_view *v, const struct vf_probe *probes,
		      uint32_t n, struct vf_codes_ask *ask)
{
	const struct vf_scan_job job = {.probes = probes, .n_probes = n};
	struct vf_index_info info;
	int err = 0;

	for (size_t i = 0; n && !err && i < v->n_shards; i++) {
		vf_index_info(v->shards[i].ix, &info);
		if (info.has_tree)
			err = vf_index_hint_leaves(v->shards[i].ix, &job, 1,
						   ask);
	}
	return err;
}

/* Requests that the leaves of probes [0, n) cost. */
static int count_away(struct vf_view *v, const struct vf_probe *probes,
		      uint32_t n, uint32_t *out)
{
	struct vf_codes_ask ask = {0};
	int err = ask_shards(v, probes, n, &ask);

	*out = ask.n_away;
	return err;
}

/* The most of the nearest that cost no more than @max. */
static int count_within(struct vf_view *v, const struct vf_plan *p,
			uint32_t max, uint32_t *out)
{
	uint32_t lo = 0, hi = p->n, away;
	int err = 0;

	while (!err && lo < hi) {
		uint32_t mid = lo + (hi - lo + 1) / 2;
		err = count_away(v, p->probes, mid, &away);
		if (away <= max)
			lo = mid;
		else
			hi = mid - 1;
	}
	*out = lo;
	return err;
}

/* Of leaves from @first on keep those at hand. */
static int keep_near(struct vf_view *v, struct vf_plan *p, uint32_t first)
{
	uint32_t n = first, away;

	for (uint32_t i = first; i < p->n; i++) {
		int err = count_away(v, &p->probes[i], 1, &away);
		if (err)
			return err;
		if (!away)
			p->probes[n++] = p->probes[i];
	}
	p->n = n;
	return 0;
}

static int limit_gets(struct vf_view *v, const struct vf_search *s,
		      struct vf_plan *p, uint32_t *gets)
{
	uint32_t max = s->max_gets / SHARE, n, more = 0;
	int err = count_within(v, p, max - VF_MIN(max, *gets), &n);

	if (!err)
		err = count_away(v, p->probes, n, &more);
	*gets += more;
	return err ? err : keep_near(v, p, n);
}

static int fetch(struct vf_view *v, struct vf_plan *p, struct vf_cost *cost)
{
	struct vf_codes_ask ask = {.cost = cost, .no_pages = true};
	uint64_t gets = cost->gets;
	int err = ask_shards(v, p->probes, p->n, &ask);

	cost->rounds += cost->gets > gets;
	return err;
}

/* Leave what has not come by then. */
static int limit_time(struct vf_view *v, uint64_t until_ns, struct vf_plan *p)
{
	uint32_t away = 1;
	int err = 0;

	while (!err && away && vf_now_ns() < until_ns) {
		err = count_away(v, p->probes, p->n, &away);
		if (!err && away)
			usleep(POLL_US);
	}
	return err || !away ? err : keep_near(v, p, 0);
}

int vf_plan_limit(struct vf_view *v, const float *q, const struct vf_search *s,
		  uint64_t start_ns, struct vf_plan *p, struct vf_cost *cost,
		  uint32_t *gets)
{
	uint64_t ns = (uint64_t)s->max_ms * 1000000 / SHARE;
	int err;

	if (!v->tree || !(s->max_gets || s->max_ms))
		return 0;
	err = vf_plan_spell_out(v, q, p);
	if (!err && s->max_gets)
		err = limit_gets(v, s, p, gets);
	if (!err)
		err = fetch(v, p, cost);
	if (!err && s->max_ms)
		err = limit_time(v, start_ns + ns, p);
	return err;
}
