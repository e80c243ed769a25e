/*
 * One query from plan to answer, and look-ups by key.
 */
#include "query/engine.h"

#include <jansson.h>
#include <math.h>

enum { K_MAX = 10000, CANDIDATES_MAX = 1 << 20 };

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

int vf_stage_answer(struct vf_view *v, const struct vf_search *s,
		    struct vf_topk *best, struct vf_answer *a)
{
	vf_topk_sort(best);
	a->hits = calloc(best->n + 1, sizeof(*a->hits));
	if (!a->hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < best->n; i++) {
		char *key = NULL, *metadata = NULL;
		uint64_t id = best->hits[i].id;
		int err = parse_line(v, id, &key, &metadata);
		a->hits[a->n_hits++] = (struct vf_answer_hit){
			.key = key,
			.distance = best->hits[i].dist,
			.exact = s->exact || s->rerank == VF_RERANK_EXACT ||
				 id >= v->tail_base,
			.metadata = metadata};
		name_place(v, id, &a->hits[i]);
		if (err)
			return err;
		if (s->no_metadata)
			strcpy(metadata, "{}"); /* any object is as long */
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

/* Candidates in their final order, as the search wants it. */
static int rank(struct vf_view *v, const float *q, const struct vf_search *s,
		const struct vf_plan *plan, struct vf_topk *candidates,
		struct vf_topk *best, struct vf_cost *cost)
{
	int err = 0;

	if (s->exact)
		return vf_stage_exact(v, q, best, cost);
	if (s->rerank == VF_RERANK_EXACT)
		return vf_stage_fetch(v, q, candidates, best, cost);
	if (s->rerank == VF_RERANK_FAST)
		err = vf_stage_refine(v, q, plan, candidates, best);
	else
		for (uint32_t i = 0; i < candidates->n; i++)
			vf_topk_push(best, candidates->hits[i].dist,
				     candidates->hits[i].id);
	return err ? err : vf_stage_hint_lines(v, best, cost);
}

static int run_stages(struct vf_view *v, const float *q,
		      const struct vf_search *s, struct vf_topk *candidates,
		      struct vf_topk *best, struct vf_answer *a)
{
	VF_CLEANUP(vf_plan_fini) struct vf_plan plan = {0};
	uint64_t at = vf_now_ns();
	int err = s->exact ? 0 : vf_stage_plan(v, q, s, &plan);

	a->cost.plan_ms += ms_since(at);
	at = vf_now_ns();
	if (!err && !s->exact)
		err = vf_stage_scan(v, q, &plan, s->hamming, candidates,
				    &a->cost);
	a->cost.scan_ms = ms_since(at);
	at = vf_now_ns();
	a->cost.candidates = s->exact ? v->state->n_rows : candidates->n;
	if (!err)
		err = rank(v, q, s, &plan, candidates, best, &a->cost);
	if (!err)
		err = vf_stage_tail(v, q, best);
	if (!err)
		err = vf_stage_answer(v, s, best, a);
	a->cost.fetch_ms = ms_since(at);
	return err;
}

int vf_view_search(struct vf_view *v, const float *q, const struct vf_search *s,
		   struct vf_answer **out)
{
	uint64_t start = vf_now_ns(), rows = v->state->n_rows;
	uint32_t wanted =
		s->candidates ? s->candidates : VF_MAX(100u, 10 * s->k);
	int err = check_query(v, q, s);

	*out = NULL;
	if (err)
		return err;
	uint32_t k = (uint32_t)VF_MIN((uint64_t)s->k, rows);
	uint32_t n = (uint32_t)VF_MIN((uint64_t)VF_MAX(wanted, k), rows);
	VF_AUTO_FREE struct vf_hit *a_hits = malloc((n + 1) * sizeof(*a_hits));
	VF_AUTO_FREE struct vf_hit *b_hits = malloc((k + 1) * sizeof(*b_hits));
	struct vf_answer *a = calloc(1, sizeof(*a));
	if (!a || !a_hits || !b_hits) {
		free(a);
		return -ENOMEM;
	}
	struct vf_topk candidates = {.hits = a_hits, .k = n},
		       best = {.hits = b_hits, .k = k};
	a->version = v->state->head;
	a->cost.plan_ms = ms_since(start);
	if (rows)
		err = run_stages(v, q, s, &candidates, &best, a);
	a->partial = a->n_hits < k;
	a->cost.total_ms = ms_since(start);
	if (err)
		vf_answer_free(a);
	else
		*out = a;
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
