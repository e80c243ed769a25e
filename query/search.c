/*
 * Queries from plan to answer.  Several queries go through the stages together:
 * they share passes over the codes, and what each of them lacks is asked of the
 * bucket before the first waits for it.
 */
#include "query/engine.h"
#include "query/results.h"

#include <float.h>
#include <math.h>

enum {
	THREADS_MAX = 64,
	/* What a scan keeps for bounds to choose from. */
	BOUNDED_MIN = 300,
	BOUNDED_PER_K = 20,
	/* Where that was too few, once: so many times as many. */
	BOUNDED_MORE = 8,
	BOUNDED_MAX = 1 << 18,
	/* Of those nearest so far, the one that tells whether rows are flat. */
	TENTH = 10,
};

static double ms_since(uint64_t from_ns)
{
	return (double)(vf_now_ns() - from_ns) / 1e6;
}

/* ---- one query ------------------------------------------------------------------------- */

struct searching {
	struct vf_view *v;
	const float *q;
	const struct vf_search *s;
	/* The query and its distances are longer by 2^scale than asked for. */
	int scale;
	float *scaled; /* owned: q; NULL: as given */
	float good_enough;
	struct vf_search own;	     /* what s is then */
	uint64_t start_ns, fetch_ns; /* when it, and its fetch, began */
	uint32_t gets_spent;	     /* on codes, of max_gets */
	struct vf_rowset *set;	     /* NULL: no filter */
	struct vf_plan plan;
	struct vf_topk candidates, best; /* their hits are owned */
	struct vf_open open;
	struct vf_fetch fetch;
	struct vf_answer *a;
	bool is_cut;  /* leaves were left for a limit */
	bool is_done; /* answered from the results kept */
	int err;
};

static bool uses_bounds(const struct vf_search *s)
{
	return !s->candidates && !s->hamming && !s->exact &&
	       s->rerank == VF_RERANK_EXACT;
}

/* Whether its scan can be shared with other queries'. */
static bool is_shared(const struct searching *x)
{
	return !x->err && !x->is_done && !x->s->exact && !x->s->hamming;
}

/* Its distances are numbers of bits. */
static bool counts_bits(const struct searching *x)
{
	return x->s->hamming && !x->s->exact && x->v->n_shards &&
	       x->s->rerank == VF_RERANK_NONE;
}

/* Codes and checksums of every row, for who reads them all. */
static int load_codes(struct searching *x)
{
	const struct vf_scan_job all = {0};

	return x->s->exact || x->s->hamming
		       ? vf_stage_codes(x->v, &all, 1, false, &x->a->cost)
		       : 0;
}

/* A list that is full was cut: of all rows it is longer than they are. */
static uint32_t fit_list(const struct vf_view *v, uint64_t n)
{
	uint64_t rows = v->state->n_rows;

	return (uint32_t)(n < rows ? n : rows + 1);
}

/* How many candidates the scan keeps. */
static uint32_t count_candidates(const struct vf_view *v,
				 const struct vf_search *s, uint32_t k)
{
	uint64_t n = s->candidates    ? s->candidates
		     : uses_bounds(s) ? VF_MAX((uint64_t)BOUNDED_MIN,
					       (uint64_t)BOUNDED_PER_K * k)
				      : VF_MAX((uint64_t)100, 10ull * k);

	n = VF_MAX(n, (uint64_t)k);
	return fit_list(v, n);
}

/* How many another scan keeps, where those were too few. */
static uint32_t longer_list(const struct searching *x)
{
	uint64_t n = (uint64_t)BOUNDED_MORE * x->candidates.k;

	return fit_list(x->v, VF_MIN(n, (uint64_t)BOUNDED_MAX));
}

/* How many results there can be, and no others; none: it is answered. */
static int apply_filter(struct searching *x, uint64_t *out_rows)
{
	int err =
		x->s->filter ? vf_view_filter(x->v, x->s->filter, &x->set) : 0;

	if (err || !x->set)
		return err;
	*out_rows = x->set->n_rows;
	x->best.skips = x->candidates.skips =
		(const uint64_t *const *)x->set->skips;
	x->is_done = !x->set->n_rows;
	return 0;
}

/* Everything before the scan. */
static int plan_query(struct searching *x)
{
	uint64_t rows = x->v->state->n_rows;
	int err = apply_filter(x, &rows);
	uint32_t k = (uint32_t)VF_MIN((uint64_t)x->s->k, rows);
	uint32_t n = count_candidates(x->v, x->s, k);

	if (err)
		return err;
	x->candidates.hits = malloc((n + 1) * sizeof(struct vf_hit));
	x->candidates.k = n;
	x->best.hits = malloc((k + 1) * sizeof(struct vf_hit));
	x->best.k = k;
	x->a = calloc(1, sizeof(*x->a));
	if (!x->candidates.hits || !x->best.hits || !x->a)
		return -ENOMEM;
	x->a->version = x->v->state->head;
	x->a->cost.bound_met = true;
	if (x->is_done)
		return 0;
	if (!x->s->exact)
		err = vf_stage_plan(x->v, x->q, x->s, x->set, &x->plan);
	if (!err)
		err = load_codes(x);
	/* The tail first: what it has bounds the others. */
	if (!err)
		err = vf_stage_tail(x->v, x->q, &x->best);
	x->a->cost.leaves = x->plan.n;
	x->a->cost.plan_ms = ms_since(x->start_ns);
	return err;
}

/* Candidates in their final order by codes alone. */
static int rank_by_codes(struct searching *x)
{
	struct vf_topk *c = &x->candidates;
	int err = 0;

	x->a->cost.bound_met = false;
	if (x->s->rerank == VF_RERANK_FAST)
		err = vf_stage_refine(x->v, x->q, &x->plan,
				      x->s->max_gets || x->s->max_ms, c,
				      &x->best);
	else
		for (uint32_t i = 0; i < c->n; i++)
			vf_topk_push(&x->best, c->hits[i].dist, c->hits[i].id);
	return err;
}

static uint64_t deadline_of(const struct searching *x)
{
	return x->s->max_ms ? x->start_ns + (uint64_t)x->s->max_ms * 1000000
			    : UINT64_MAX;
}

static int bound_query(struct searching *x)
{
	uint64_t at = vf_now_ns();
	int err = vf_stage_bound(x->v, x->q, &x->plan, &x->candidates, &x->best,
				 &x->open, &x->a->cost);

	x->a->cost.refine_ms += ms_since(at);
	x->a->cost.bound_met = !x->open.was_cut;
	return err;
}

static int scan_shared(struct vf_view *v, struct searching *x, size_t n);

/* All leaves so far once more, for the longer list. */
static int scan_again(struct searching *x)
{
	uint32_t n = VF_MAX(longer_list(x), x->candidates.k);
	struct vf_hit *hits = malloc(n * sizeof(*hits));
	int err = hits ? vf_plan_repeat(&x->plan) : -ENOMEM;

	if (err) {
		free(hits);
		return err;
	}
	free(x->candidates.hits);
	x->candidates.hits = hits;
	x->candidates.k = n;
	x->candidates.n = 0;
	return scan_shared(x->v, x, 1);
}

/*
 * A list that was cut at rows that can be answers is made again, longer, unless
 * there is a limit to what those may cost.  Structured rows never are: bounds
 * exclude most of their lists.
 */
static int bound_candidates(struct searching *x)
{
	bool is_long = x->open.is_flat || longer_list(x) <= x->candidates.k;
	int err = bound_query(x);
	uint64_t at = vf_now_ns();

	if (err || !x->open.is_flat || is_long || x->s->max_gets ||
	    x->s->max_ms)
		return err;
	err = scan_again(x);
	x->a->cost.scan_ms += ms_since(at);
	return err ? err : bound_query(x);
}

static int begin_fetch(struct searching *x)
{
	struct vf_cost *cost = &x->a->cost;
	int err;

	if (uses_bounds(x->s)) {
		err = bound_candidates(x);
	} else {
		cost->bound_met =
			x->candidates.n ==
			(x->set ? x->set->n_shard_rows : x->v->tail_base);
		err = vf_stage_open(&x->candidates, &x->open);
	}
	cost->candidates = x->candidates.n;
	x->fetch = (struct vf_fetch){.v = x->v,
				     .q = x->q,
				     .s = x->s,
				     .deadline_ns = deadline_of(x),
				     .gets_spent = x->gets_spent,
				     .open = &x->open,
				     .best = &x->best,
				     .cost = cost};
	x->fetch_ns = vf_now_ns();
	return err ? err : vf_fetch_begin(&x->fetch);
}

/* After the scan, up to what has to be waited for. */
static int rank_query(struct searching *x)
{
	x->a->cost.candidates =
		x->s->exact ? x->v->state->n_rows : x->candidates.n;
	x->fetch_ns = vf_now_ns();
	if (x->s->exact)
		return vf_stage_exact(x->v, x->q, &x->best, &x->a->cost);
	if (x->s->rerank != VF_RERANK_EXACT)
		return rank_by_codes(x);
	return begin_fetch(x);
}

/* Exact, as is what it undoes. */
static void scale_back(const struct searching *x)
{
	if (!x->scale || counts_bits(x))
		return;
	for (size_t i = 0; i < x->a->n_hits; i++)
		x->a->hits[i].distance =
			ldexpf(x->a->hits[i].distance, -x->scale);
}

static int answer_query(struct searching *x)
{
	bool fetches = !x->s->exact && x->s->rerank == VF_RERANK_EXACT;
	struct vf_lines_limit limit = {deadline_of(x), UINT64_MAX};
	int err = fetches ? vf_fetch_end(&x->fetch) : 0;

	/* What was fetched of the bucket was so within the limit. */
	if (x->s->max_gets && !x->fetch.is_away)
		limit.gets_left =
			x->s->max_gets - VF_MIN(x->s->max_gets, x->gets_spent);
	if (!err)
		err = vf_stage_answer(x->v, x->s, limit, &x->open, &x->best,
				      x->a);
	scale_back(x);
	x->a->cost.bound_met &= !x->is_cut;
	x->a->partial = x->a->n_hits < x->best.k || x->a->cost.errors;
	x->a->cost.fetch_ms = ms_since(x->fetch_ns);
	x->a->cost.total_ms = ms_since(x->start_ns);
	return err;
}

static void fini_query(struct searching *x, struct vf_answer **out)
{
	vf_plan_fini(&x->plan);
	vf_rowset_put(x->set);
	vf_fetch_fini(&x->fetch);
	free(x->candidates.hits);
	free(x->best.hits);
	free(x->open.rows);
	free(x->scaled);
	*out = NULL;
	if (x->err)
		vf_answer_free(x->a);
	else
		*out = x->a;
}

/* ---- several ----------------------------------------------------------------------------- */

static int limit_codes(struct searching *x)
{
	uint32_t n = x->plan.n;
	int err = vf_plan_limit(x->v, x->q, x->s, x->start_ns, &x->plan,
				&x->a->cost, &x->gets_spent);

	x->is_cut |= x->plan.n < n;
	x->a->cost.leaves = x->plan.n;
	return err;
}

static void note_scan(struct vf_cost *cost, uint64_t n_rows)
{
	cost->scanned += n_rows;
	cost->scans++;
}

static int scan_shared(struct vf_view *v, struct searching *x, size_t n)
{
	VF_AUTO_FREE struct vf_scan_job *jobs = calloc(n + 1, sizeof(*jobs));
	unsigned n_threads = 1;
	bool limited = v->tree; /* all are, so their leaves were asked for */
	struct vf_cost *cost = NULL; /* the first pays for all */
	size_t n_jobs = 0;

	if (!jobs)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (is_shared(&x[i]))
			x[i].err = limit_codes(&x[i]);
		if (!is_shared(&x[i]))
			continue;
		cost = cost ? cost : &x[i].a->cost;
		jobs[n_jobs++] = (struct vf_scan_job){
			.q = x[i].q,
			.scratch = x[i].plan.scratch,
			.probes = x[i].plan.all ? NULL : x[i].plan.probes,
			.n_probes = x[i].plan.n,
			.top = &x[i].candidates};
		n_threads = VF_MAX(n_threads, x[i].s->threads);
		limited &= x[i].s->max_gets || x[i].s->max_ms;
	}
	int err = n_jobs ? vf_stage_codes(v, jobs, n_jobs, limited, cost) : 0;
	if (!err && n_jobs)
		err = vf_stage_scan(v, jobs, n_jobs,
				    VF_MIN(n_threads, (unsigned)THREADS_MAX));
	n_jobs = 0;
	for (size_t i = 0; i < n; i++)
		if (is_shared(&x[i]))
			note_scan(&x[i].a->cost, jobs[n_jobs++].n_rows);
	return err;
}

static void scan_all(struct vf_view *v, struct searching *x, size_t n)
{
	uint64_t at = vf_now_ns();
	int err = scan_shared(v, x, n);

	for (size_t i = 0; i < n; i++) {
		if (x[i].err || x[i].is_done)
			continue;
		if (is_shared(&x[i])) {
			x[i].err = err;
		} else if (x[i].s->hamming && !x[i].s->exact) {
			x[i].err = vf_stage_scan_hamming(v, x[i].q, &x[i].plan,
							 &x[i].candidates);
			note_scan(&x[i].a->cost, v->tail_base);
		}
		x[i].a->cost.scan_ms = ms_since(at);
	}
}

/* The distance of the @k-th nearest so far, by estimates; INFINITY: there is none. */
static int find_kth(const struct searching *x, uint32_t k, float *out)
{
	const struct vf_topk *c = &x->candidates, *b = &x->best;
	VF_AUTO_FREE struct vf_hit *hits = malloc((k + 1) * sizeof(*hits));
	struct vf_topk near = {.hits = hits, .k = k};

	if (!hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->n; i++)
		vf_topk_push(&near, b->hits[i].dist, b->hits[i].id);
	for (uint32_t i = 0; i < c->n; i++)
		vf_topk_push(&near, c->hits[i].dist, c->hits[i].id);
	*out = vf_topk_limit(&near);
	return 0;
}

/*
 * Whether to look into more leaves.  Who says how many, or what they may cost,
 * gets more only when there are too few rows in them.
 */
static int is_open(const struct searching *x, bool *out)
{
	bool free = !x->s->probes && !x->s->max_gets && !x->s->max_ms;
	uint32_t found = x->candidates.n + x->best.n;
	float dist = 0;
	int err = 0;

	*out = false;
	if (x->is_cut || x->plan.all || (!x->set && !free))
		return 0;
	err = find_kth(x, x->set ? x->best.k : VF_MIN(found, (uint32_t)TENTH),
		       &dist);
	if (!free && !isinf(dist))
		dist = 0;
	*out = !err && (x->set ? vf_plan_is_open(x->v, &x->plan, x->set, dist)
			       : vf_plan_is_flat(x->v, &x->plan, dist));
	return err;
}

/* Flat rows would be cut: they have the longer list at once. */
static int scan_wider(struct searching *x)
{
	if (x->set || !uses_bounds(x->s))
		return scan_shared(x->v, x, 1);
	x->open.is_flat = true;
	return scan_again(x);
}

/*
 * A filter's rows may be in other leaves than the nearest, and those without
 * structure in any.  Most queries need few leaves and some need very many, so
 * each goes on as long as it has reason.
 */
static int widen_scan(struct searching *x)
{
	uint64_t at = vf_now_ns(), leaves = x->plan.n;
	bool open = false;
	int err = is_open(x, &open);

	while (!err && open) {
		err = vf_plan_widen(x->v, x->q, !x->set, &x->plan);
		leaves += x->plan.n;
		if (!err)
			err = scan_wider(x);
		if (!err)
			err = is_open(x, &open);
	}
	x->a->cost.leaves = leaves;
	x->a->cost.scan_ms += ms_since(at);
	return err;
}

static void run_stages(struct vf_view *v, struct searching *x, size_t n)
{
	int (*const stages[])(struct searching *) = {rank_query, answer_query};

	for (size_t i = 0; i < n; i++)
		if (!x[i].err && !x[i].is_done)
			x[i].err = plan_query(&x[i]);
	if (!v->state->n_rows)
		return;
	scan_all(v, x, n);
	for (size_t i = 0; i < n; i++)
		if (is_shared(&x[i]))
			x[i].err = widen_scan(&x[i]);
	for (size_t j = 0; j < VF_N(stages); j++)
		for (size_t i = 0; i < n; i++)
			if (!x[i].err && !x[i].is_done)
				x[i].err = stages[j](&x[i]);
}

static int scale_query(struct searching *x)
{
	uint32_t dim = x->v->state->config.dim;

	x->scale = vf_stage_scale(x->v, x->q);
	if (!x->scale)
		return 0;
	x->scaled = malloc(dim * sizeof(float));
	if (!x->scaled)
		return -ENOMEM;
	for (uint32_t i = 0; i < dim; i++)
		x->scaled[i] = ldexpf(x->q[i], x->scale);
	x->q = x->scaled;
	x->own = *x->s;
	if (x->own.good_enough) {
		x->good_enough = ldexpf(*x->own.good_enough, x->scale);
		x->own.good_enough = &x->good_enough;
	}
	x->s = &x->own;
	return 0;
}

static void begin_query(struct vf_view *v, const struct vf_query *q,
			struct searching *x)
{
	*x = (struct searching){
		.v = v, .q = q->q, .s = &q->search, .start_ns = vf_now_ns()};
	char why[VF_SEARCH_WHY_LEN];
	x->err = vf_view_check(v, q->q, &q->search, why);
	if (x->err)
		vf_fail(x->err, "%s", why);
	if (!x->err)
		x->a = vf_results_get(v->results, v->state->head, q->q,
				      v->state->config.dim, &q->search);
	x->is_done = x->a;
	if (x->is_done)
		x->a->cost =
			(struct vf_cost){.is_repeated = true,
					 .bound_met = x->a->cost.bound_met,
					 .total_ms = ms_since(x->start_ns)};
	if (!x->err && !x->is_done)
		x->err = scale_query(x);
}

int vf_view_search_many(struct vf_view *v, struct vf_query *queries, size_t n)
{
	VF_AUTO_FREE struct searching *x = calloc(n + 1, sizeof(*x));
	int err = 0;

	if (!x)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		begin_query(v, &queries[i], &x[i]);
	run_stages(v, x, n);
	for (size_t i = 0; i < n; i++) {
		if (!x[i].err && !x[i].is_done)
			vf_results_put(v->results, v->state->head, queries[i].q,
				       v->state->config.dim, &queries[i].search,
				       x[i].a);
		queries[i].err = x[i].err;
		err = err ? err : x[i].err;
		fini_query(&x[i], &queries[i].answer);
	}
	return err;
}

int vf_view_search(struct vf_view *v, const float *q, const struct vf_search *s,
		   struct vf_answer **out)
{
	struct vf_query one = {.q = q, .search = *s};
	int err = vf_view_search_many(v, &one, 1);

	*out = one.answer;
	return err;
}
