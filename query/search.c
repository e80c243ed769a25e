/*
 * One query from plan to answer, and look-ups by key.
 */
#include "query/engine.h"

#include <jansson.h>
#include <math.h>

enum {
	K_MAX = 10000,
	CANDIDATES_MAX = 1 << 20,
	/* What a scan keeps for bounds to choose from. */
	BOUNDED_MIN = 1000,
	BOUNDED_PER_K = 20,
};

static double ms_since(uint64_t from_ns)
{
	return (double)(vf_now_ns() - from_ns) / 1e6;
}

/* ---- answers --------------------------------------------------------------------------- */

void vf_answer_free(struct vf_answer *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_hits; i++) {
		free((char *)a->hits[i].key);
		free((char *)a->hits[i].metadata);
	}
	free(a->hits);
	free(a);
}

/*
 * Where the metadata of a line is: {"key":"...","metadata":{...}}\n, as the
 * checksum says that one of ours wrote it.  Its text is handed on as it is,
 * since numbers of any size are allowed in it and parsing would round them.
 */
static const char *find_metadata(const char *line, size_t len, size_t *out_len)
{
	static const char head[] = "{\"key\":\"", mid[] = ",\"metadata\":{";
	const char *s = line + sizeof(head) - 1, *end = line + len - 2;

	if (len < sizeof(head) + sizeof(mid) + 2 ||
	    memcmp(line, head, sizeof(head) - 1) || memcmp(end, "}\n", 2))
		return NULL;
	for (; s < end && *s != '"'; s++)
		s += *s == '\\';
	if (s >= end || (size_t)(end - ++s) < sizeof(mid) ||
	    memcmp(s, mid, sizeof(mid) - 1) || end[-1] != '}')
		return NULL;
	s += sizeof(mid) - 2;
	*out_len = (size_t)(end - s);
	return s;
}

static int parse_line(const struct vf_view *v, uint64_t id, char **out_key,
		      char **out_metadata)
{
	VF_AUTO_FREE char *line = NULL;
	size_t len, metadata_len = 0;
	int err = vf_view_line(v, id, &line, &len);

	if (err)
		return err;
	const char *metadata = find_metadata(line, len, &metadata_len);
	json_t *j = json_loadb(line, len, JSON_DECODE_INT_AS_REAL, NULL);
	const char *key = json_string_value(json_object_get(j, "key"));
	if (key && metadata) {
		*out_key = strdup(key);
		*out_metadata = strndup(metadata, metadata_len);
	}
	json_decref(j);
	if (!key || !metadata)
		return vf_fail(-EBADMSG,
			       "%s/%s: the line of row %llu is no "
			       "record",
			       vf_bucket_url(v->bucket), v->state->name,
			       (unsigned long long)id);
	return *out_key && *out_metadata ? 0 : -ENOMEM;
}

/* Places of the tail are counted behind the shards. */
static void name_place(const struct vf_view *v, uint64_t id,
		       struct vf_answer_hit *out)
{
	size_t place;

	if (id >= v->tail_base) {
		place = v->n_shards + (size_t)(vf_view_tail(v, id, &out->row) -
					       v->state->tail);
	} else {
		const struct vf_shard *s = vf_view_shard(v, id);
		place = (size_t)(s - v->shards);
		out->row = id - s->base;
	}
	out->shard = (uint32_t)place;
}

/* The row of a hit was read, or it is of the tail. */
static bool is_exact(const struct vf_view *v, const struct vf_search *s,
		     const struct vf_open *open, uint64_t id)
{
	const struct vf_open_row want = {.id = id}, *r;

	if (s->exact || id >= v->tail_base)
		return true;
	r = open->n ? bsearch(&want, open->rows, open->n, sizeof(want),
			      vf_open_compare)
		    : NULL;
	return r && r->is_read;
}

static int add_hit(struct vf_view *v, const struct vf_search *s,
		   const struct vf_open *open, const struct vf_hit *hit,
		   struct vf_answer *a)
{
	struct vf_answer_hit *h = &a->hits[a->n_hits];
	char *key = NULL, *metadata = NULL;
	int err = parse_line(v, hit->id, &key, &metadata);

	if (err) {
		free(key);
		free(metadata);
		return err;
	}
	*h = (struct vf_answer_hit){.key = key,
				    .distance = hit->dist,
				    .exact = is_exact(v, s, open, hit->id),
				    .metadata = metadata};
	name_place(v, hit->id, h);
	if (s->no_metadata)
		strcpy(metadata, "{}"); /* any object is as long */
	a->n_hits++;
	return 0;
}

int vf_stage_answer(struct vf_view *v, const struct vf_search *s,
		    uint64_t deadline_ns, const struct vf_open *open,
		    struct vf_topk *best, struct vf_answer *a)
{
	vf_topk_sort(best);
	a->hits = calloc(best->n + 1, sizeof(*a->hits));
	if (!a->hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < best->n; i++) {
		if (!vf_line_wait(v, best->hits[i].id, deadline_ns))
			continue;
		int err = add_hit(v, s, open, &best->hits[i], a);
		if (err && (err == -ENOMEM || !s->on_error_partial))
			return err;
		a->cost.errors += err != 0;
	}
	return 0;
}

/* ---- searching ------------------------------------------------------------------------- */

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
	uint64_t start_ns, deadline_ns;
	struct vf_plan plan;
	struct vf_topk candidates, best;
	struct vf_open open;
	struct vf_answer *a;
};

static bool uses_bounds(const struct vf_search *s)
{
	return !s->candidates && !s->hamming && !s->exact &&
	       s->rerank == VF_RERANK_EXACT;
}

/* Candidates in their final order, as the search wants it. */
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

static int rank(struct searching *x)
{
	struct vf_cost *cost = &x->a->cost;
	uint64_t at = vf_now_ns();
	int err;

	if (x->s->exact)
		return vf_stage_exact(x->v, x->q, &x->best, cost);
	if (x->s->rerank != VF_RERANK_EXACT)
		return rank_by_codes(x);
	if (uses_bounds(x->s)) {
		err = vf_stage_bound(x->v, x->q, &x->plan, &x->candidates,
				     &x->best, &x->open, cost);
	} else {
		cost->bound_met = x->candidates.n == x->v->tail_base;
		err = vf_stage_open(&x->candidates, &x->open);
	}
	cost->refine_ms = ms_since(at);
	return err ? err
		   : vf_stage_fetch(x->v, x->q, x->s, x->deadline_ns, &x->open,
				    &x->best, cost);
}

static int run_stages(struct searching *x)
{
	struct vf_cost *cost = &x->a->cost;
	uint64_t at = vf_now_ns();
	int err = x->s->exact ? 0 : vf_stage_plan(x->v, x->q, x->s, &x->plan);

	cost->plan_ms += ms_since(at);
	at = vf_now_ns();
	/* The tail first: what it has bounds the others. */
	if (!err)
		err = vf_stage_tail(x->v, x->q, &x->best);
	if (!err && !x->s->exact)
		err = vf_stage_scan(x->v, x->q, &x->plan, x->s->hamming,
				    &x->candidates, cost);
	cost->scan_ms = ms_since(at);
	at = vf_now_ns();
	cost->candidates = x->s->exact ? x->v->state->n_rows : x->candidates.n;
	cost->bound_met = true;
	if (!err)
		err = rank(x);
	if (!err)
		err = vf_stage_answer(x->v, x->s, x->deadline_ns, &x->open,
				      &x->best, x->a);
	cost->fetch_ms = ms_since(at) - cost->refine_ms;
	return err;
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

static int search(struct searching *x)
{
	uint64_t rows = x->v->state->n_rows;
	uint32_t k = (uint32_t)VF_MIN((uint64_t)x->s->k, rows);
	uint32_t n = count_candidates(x->v, x->s, k);
	VF_AUTO_FREE struct vf_hit *a_hits = malloc((n + 1) * sizeof(*a_hits));
	VF_AUTO_FREE struct vf_hit *b_hits = malloc((k + 1) * sizeof(*b_hits));
	int err = 0;

	if (!a_hits || !b_hits)
		return -ENOMEM;
	x->candidates = (struct vf_topk){.hits = a_hits, .k = n};
	x->best = (struct vf_topk){.hits = b_hits, .k = k};
	x->a->version = x->v->state->head;
	if (rows)
		err = run_stages(x);
	x->a->partial = x->a->n_hits < k || x->a->cost.errors;
	x->a->cost.total_ms = ms_since(x->start_ns);
	vf_plan_fini(&x->plan);
	free(x->open.rows);
	return err;
}

int vf_view_search(struct vf_view *v, const float *q, const struct vf_search *s,
		   struct vf_answer **out)
{
	struct searching x = {.v = v,
			      .q = q,
			      .s = s,
			      .start_ns = vf_now_ns(),
			      .deadline_ns = UINT64_MAX};
	int err = check_query(v, q, s);

	*out = NULL;
	if (err)
		return err;
	if (s->max_ms)
		x.deadline_ns = x.start_ns + (uint64_t)s->max_ms * 1000000;
	x.a = calloc(1, sizeof(*x.a));
	if (!x.a)
		return -ENOMEM;
	err = search(&x);
	if (err)
		vf_answer_free(x.a);
	else
		*out = x.a;
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
		err = parse_line(l->v, l->s->base + row, &key, &metadata);

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
		int rc = vf_index_find_hash(l.s->ix, hash, try_row, &l);
		if (rc)
			return rc < 0 ? rc : 0;
	}
	return vf_tail_vector(v, key, out);
}
