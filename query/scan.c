/*
 * The stages that need nothing but codes in RAM: 1-bit codes of the leaves
 * that the plan names, or of all, into one heap of candidates, and candidates again by all bits.
 */
#include "index/crew.h"
#include "query/engine.h"

/* Fewer are scanned about as soon as a parked thread has begun with half. */
enum { SPLIT_ROWS_MIN = 32768 };

int vf_stage_scan_hamming(struct vf_view *v, const float *q,
			  const struct vf_plan *plan, struct vf_topk *top)
{
	int err = 0;

	for (size_t i = 0; !err && i < v->n_shards; i++) {
		vf_view_skip(v, i, top);
		err = vf_index_scan_hamming(v->shards[i].ix, q, plan->scratch,
					    v->shards[i].base, top);
	}
	return err;
}

static int scan_part(struct vf_view *v, struct vf_scan_part part,
		     struct vf_scan_job *jobs, size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < v->n_shards; i++) {
		for (size_t j = 0; j < n; j++)
			vf_view_skip(v, i, jobs[j].top);
		err = vf_index_scan_jobs(v->shards[i].ix, v->shards[i].base,
					 part, jobs, n);
		if (err == -EREMOTEIO)
			vf_fail(err, "%s: its codes cannot be read",
				v->shards[i].codes.path);
	}
	return err;
}

/* ---- on several threads ---------------------------------------------------------------- */

struct split {
	struct vf_view *v;
	const struct vf_scan_job *job; /* the one */
	uint32_t n_parts;
	struct vf_topk *tops; /* [n_parts] */
	uint64_t *n_rows;     /* [n_parts] */
};

static int run_part(void *arg, size_t item)
{
	struct split *s = arg;
	struct vf_scan_job job = *s->job;
	int err = vf_scan_scratch_new(s->v->state->config.dim, &job.scratch);

	if (err)
		return err;
	job.top = &s->tops[item];
	job.n_rows = 0;
	err = scan_part(s->v, (struct vf_scan_part){(uint32_t)item, s->n_parts},
			&job, 1);
	s->n_rows[item] = job.n_rows;
	vf_scan_scratch_free(job.scratch);
	return err;
}

static int scan_split(struct vf_view *v, struct vf_scan_job *job, uint32_t n)
{
	uint32_t k = job->top->k;
	VF_AUTO_FREE struct vf_hit *hits =
		malloc((size_t)n * k * sizeof(*hits));
	VF_AUTO_FREE struct vf_topk *tops = calloc(n, sizeof(*tops));
	VF_AUTO_FREE uint64_t *n_rows = calloc(n, sizeof(*n_rows));
	struct split s = {v, job, n, tops, n_rows};

	if (!hits || !tops || !n_rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		tops[i] = (struct vf_topk){.hits = hits + (size_t)i * k,
					   .k = k,
					   .skips = job->top->skips};
	int err = vf_crew_run(n, n, run_part, &s);
	for (uint32_t i = 0; !err && i < n; i++) {
		job->n_rows += n_rows[i];
		for (uint32_t j = 0; j < tops[i].n; j++)
			vf_topk_push(job->top, tops[i].hits[j].dist,
				     tops[i].hits[j].id);
	}
	return err;
}

int vf_stage_scan(struct vf_view *v, struct vf_scan_job *jobs, size_t n,
		  unsigned n_threads)
{
	const struct vf_scan_part all = {0, 1};
	uint64_t rows = v->tail_base;
	struct vf_tree_info info;

	if (n == 1 && n_threads > 1 && jobs->probes) {
		vf_tree_info(v->tree, &info);
		rows = rows * jobs->n_probes / info.n_leaves;
	}
	if (n == 1 && n_threads > 1 && rows >= SPLIT_ROWS_MIN)
		return scan_split(v, jobs, n_threads);
	return scan_part(v, all, jobs, n);
}

int vf_stage_refine(struct vf_view *v, const float *q,
		    const struct vf_plan *plan, bool near,
		    const struct vf_topk *candidates, struct vf_topk *best)
{
	const struct vf_hit *hit = candidates->hits;
	uint32_t left = candidates->n;
	VF_AUTO_FREE struct vf_refined *r = malloc((left + 1) * sizeof(*r));
	int err = r ? 0 : -ENOMEM;

	/* Those of one shard, and in it of one leaf, come together. */
	qsort(candidates->hits, left, sizeof(*hit), vf_hit_compare_ids);
	while (!err && left) {
		const struct vf_shard *s = vf_view_shard(v, hit->id);
		uint32_t n = 0;
		for (; n < left && hit[n].id - s->base < s->n_rows; n++)
			r[n].row = (uint32_t)(hit[n].id - s->base);
		err = vf_stage_extra(s, r, n, near);
		if (!err)
			err = vf_index_refine(s->ix, q, plan->scratch, r, n);
		for (uint32_t i = 0; !err && i < n; i++)
			vf_topk_push(best, r[i].dist, hit[i].id);
		hit += n;
		left -= n;
	}
	return err;
}
