/*
 * Queries from plan to answer, and look-ups by key.  Several queries go through
 * the stages together: they share passes over the codes, and what each of them
 * lacks is asked of the bucket before the first waits for it.
 */
#include "query/engine.h"
#include "query/results.h"

#include <math.h>

enum {
	K_MAX = 10000,
	CANDIDATES_MAX = 1 << 20,
	THREADS_MAX = 64,
	/* What a scan keeps for bounds to choose from. */
	BOUNDED_MIN = 300,
	BOUNDED_PER_K = 20,
};

static double ms_since(uint64_t from_ns)
{
	return (double)(vf_now_ns() - from_ns) / 1e6;
}

/* ---- one query ------------------------------------------------------------------------- */

static int check_query(const struct vf_view *v, const float *q,
		       const struct vf_search *s)
{
	bool zero = true;

	if (!s->k || s->k > K_MAX)
		return vf_fail(-EINVAL, "k is %u; it must be 1 to %d", s->k,
			       K_MAX);
	if (s->rerank < VF_RERANK_EXACT || s->rerank > VF_RERANK_NONE)
		return vf_fail(-EINVAL, "rerank is %d; it must be 0 to %d",
			       (int)s->rerank, VF_RERANK_NONE);
	if (s->candidates > CANDIDATES_MAX)
		return vf_fail(-EINVAL, "%u candidates; at most %d",
			       s->candidates, CANDIDATES_MAX);
	for (uint32_t i = 0; i < v->state->config.dim; i++) {
		if (!isfinite(q[i]))
			return vf_fail(-EINVAL,
				       "the query's element %u is not finite",
				       i);
		zero &= q[i] == 0;
	}
	if (zero && v->state->config.metric == VF_COSINE)
		return vf_fail(-EINVAL,
			       "the query is zero, which has no cosine");
	return 0;
}

struct searching {
	struct vf_view *v;
	const float *q;
	const struct vf_search *s;
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

/* Codes and checksums of every row, for who reads them all. */
static int load_codes(struct searching *x)
{
	const struct vf_scan_job all = {0};

	return x->s->exact || x->s->hamming
		       ? vf_stage_codes(x->v, &all, 1, false, &x->a->cost)
		       : 0;
}

/* How many candidates the scan keeps. */
static uint32_t count_candidates(const struct vf_view *v,
				 const struct vf_search *s, uint32_t k)
{
	uint64_t n = s->candidates    ? s->candidates
		     : uses_bounds(s) ? VF_MAX((uint64_t)BOUNDED_MIN,
					       (uint64_t)BOUNDED_PER_K * k)
				      : VF_MAX((uint64_t)100, 10ull * k);

	return (uint32_t)VF_MIN(VF_MAX(n, (uint64_t)k), v->state->n_rows);
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
		err = vf_stage_refine(x->v, x->q, &x->plan, c, &x->best);
	else
		for (uint32_t i = 0; i < c->n; i++)
			vf_topk_push(&x->best, c->hits[i].dist, c->hits[i].id);
	return err ? err : vf_stage_hint_lines(x->v, &x->best, &x->a->cost);
}

static int begin_fetch(struct searching *x)
{
	struct vf_cost *cost = &x->a->cost;
	uint64_t at = vf_now_ns();
	int err;

	if (uses_bounds(x->s)) {
		err = vf_stage_bound(x->v, x->q, &x->plan, &x->candidates,
				     &x->best, &x->open, cost);
	} else {
		cost->bound_met =
			x->candidates.n ==
			(x->set ? x->set->n_shard_rows : x->v->tail_base);
		err = vf_stage_open(&x->candidates, &x->open);
	}
	cost->refine_ms = ms_since(at);
	x->fetch = (struct vf_fetch){.v = x->v,
				     .q = x->q,
				     .s = x->s,
				     .deadline_ns = UINT64_MAX,
				     .gets_spent = x->gets_spent,
				     .open = &x->open,
				     .best = &x->best,
				     .cost = cost};
	if (x->s->max_ms)
		x->fetch.deadline_ns =
			x->start_ns + (uint64_t)x->s->max_ms * 1000000;
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

static int answer_query(struct searching *x)
{
	bool fetches = !x->s->exact && x->s->rerank == VF_RERANK_EXACT;
	uint64_t deadline_ns = fetches ? x->fetch.deadline_ns : UINT64_MAX;
	int err = fetches ? vf_fetch_end(&x->fetch) : 0;

	if (!err)
		err = vf_stage_answer(x->v, x->s, deadline_ns, &x->open,
				      &x->best, x->a);
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
			x[i].a->cost.scanned = jobs[n_jobs++].n_rows;
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
			x[i].a->cost.scanned = v->tail_base;
		}
		x[i].a->cost.scan_ms = ms_since(at);
	}
}

/* A filter's rows may be in other leaves than the nearest. */
static int widen_scan(struct searching *x)
{
	uint64_t at = vf_now_ns(), scanned = x->a->cost.scanned;
	uint64_t want = VF_MIN((uint64_t)x->best.k, x->set->n_shard_rows);
	int err = 0;

	while (!err && !x->plan.all && !x->is_cut && x->candidates.n < want) {
		err = vf_plan_widen(x->v, x->q, &x->plan);
		x->candidates.n = 0;
		if (!err)
			err = scan_shared(x->v, x, 1);
		scanned += x->a->cost.scanned;
	}
	x->a->cost.scanned = scanned;
	x->a->cost.leaves = x->plan.n;
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
		if (is_shared(&x[i]) && x[i].set)
			x[i].err = widen_scan(&x[i]);
	for (size_t j = 0; j < VF_N(stages); j++)
		for (size_t i = 0; i < n; i++)
			if (!x[i].err && !x[i].is_done)
				x[i].err = stages[j](&x[i]);
}

static void begin_query(struct vf_view *v, const struct vf_query *q,
			struct searching *x)
{
	*x = (struct searching){
		.v = v, .q = q->q, .s = &q->search, .start_ns = vf_now_ns()};
	x->err = check_query(v, q->q, &q->search);
	if (!x->err)
		x->a = vf_results_get(v->results, v->state->head, q->q,
				      v->state->config.dim, &q->search);
	x->is_done = x->a;
	if (x->is_done)
		x->a->cost =
			(struct vf_cost){.is_repeated = true,
					 .bound_met = x->a->cost.bound_met,
					 .total_ms = ms_since(x->start_ns)};
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
			vf_results_put(v->results, v->state->head, x[i].q,
				       v->state->config.dim, x[i].s, x[i].a);
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

/* ---- by key ---------------------------------------------------------------------------- */

struct lookup {
	struct vf_view *v;
	const struct vf_shard *s;
	const char *key;
	float *out;
};

/* 1: found and read; 0: another key of the same hash. */
static int try_row(void *arg, uint64_t row)
{
	struct lookup *l = arg;
	VF_AUTO_FREE char *key = NULL, *metadata = NULL;
	VF_AUTO_FREE void *bytes = malloc(l->v->row_len);
	int err = bytes ? 0 : -ENOMEM;

	if (!err && vf_dead_has(l->v->state->dead[l->s - l->v->shards], row))
		return 0;
	if (!err)
		err = vf_stage_row(l->s, row);
	if (!err)
		err = vf_view_record(l->v, l->s->base + row, &key, &metadata);

	if (err || strcmp(key, l->key))
		return err;
	err = vf_shard_row(l->v, l->s, row, bytes);
	if (err)
		return err;
	vf_widen(l->v->state->config.dtype, bytes, l->v->state->config.dim,
		 l->out);
	return 1;
}

int vf_view_vector(struct vf_view *v, const char *key, float *out)
{
	struct lookup l = {.v = v, .key = key, .out = out};
	uint64_t hash = vf_key_hash(key, strlen(key));

	for (size_t i = 0; i < v->n_shards; i++) {
		l.s = &v->shards[i];
		int rc = vf_stage_hashes(l.s);
		if (rc)
			return rc;
		rc = vf_index_find_hash(l.s->ix, hash, try_row, &l);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	return vf_tail_vector(v, key, out);
}
