/*
 * Rows that are inline in records: held by the state, few, scored exactly.
 * Their numbers follow those of the shards' rows.
 */
#include "query/engine.h"
#include "store/line.h"

const struct vf_tail *vf_view_tail(const struct vf_view *v, uint64_t id,
				   uint64_t *out_row)
{
	const struct vf_tail *t = v->state->tail;

	for (id -= v->tail_base; id >= t->rows->n_rows; t++)
		id -= t->rows->n_rows;
	*out_row = id;
	return t;
}

int vf_stage_tail(const struct vf_view *v, const float *q, struct vf_topk *best)
{
	const struct vf_index_config *c = &v->state->config;
	uint64_t base = v->tail_base;

	for (size_t i = 0; i < v->state->n_tail; i++) {
		const struct vf_tail *t = &v->state->tail[i];
		uint64_t n = t->rows->n_rows;
		VF_AUTO_FREE float *dist = malloc(n * sizeof(*dist));
		if (!dist)
			return -ENOMEM;
		vf_exact_distances(c->metric, c->dtype, c->dim, q,
				   t->rows->vectors, n, dist);
		best->skip = best->skips ? best->skips[v->n_shards + i]
			     : t->dead	 ? t->dead->bits
					 : NULL;
		best->skip_from = base;
		for (uint64_t row = 0; row < n; row++)
			vf_topk_push(best, dist[row], base + row);
		base += n;
	}
	best->skip = NULL;
	return 0;
}

int vf_view_line(const struct vf_view *v, uint64_t id, char **out_line,
		 size_t *out_len)
{
	uint64_t row;

	if (id < v->tail_base) {
		const struct vf_shard *s = vf_view_shard(v, id);
		return vf_shard_line(s, id - s->base, out_line, out_len);
	}
	const struct vf_inline *r = vf_view_tail(v, id, &row)->rows;
	*out_len = r->line_offs[row + 1] - r->line_offs[row];
	*out_line = strndup(r->lines + r->line_offs[row], *out_len);
	return *out_line ? 0 : -ENOMEM;
}

/* 1: row @row has this key. */
static int has_key(const struct vf_inline *r, uint64_t row, const char *key,
		   struct vf_buf *scratch)
{
	size_t at = r->line_offs[row], len = r->line_offs[row + 1] - at;
	struct vf_line line;
	int err = vf_line_split(r->lines + at, len, &line);

	scratch->len = 0;
	if (!err)
		err = vf_line_key(&line, scratch);
	if (err)
		return err;
	return scratch->len == strlen(key) &&
	       !memcmp(scratch->data, key, scratch->len);
}

int vf_tail_vector(const struct vf_view *v, const char *key, float *out)
{
	const struct vf_index_config *c = &v->state->config;
	VF_AUTO_BUF struct vf_buf scratch = {0};

	for (size_t i = 0; i < v->state->n_tail; i++) {
		const struct vf_tail *t = &v->state->tail[i];
		for (uint64_t row = 0; row < t->rows->n_rows; row++) {
			int rc = vf_dead_has(t->dead, row)
					 ? 0
					 : has_key(t->rows, row, key, &scratch);
			if (rc < 0)
				return rc;
			if (!rc)
				continue;
			vf_widen(c->dtype,
				 t->rows->vectors + row * t->rows->row_len,
				 c->dim, out);
			return 0;
		}
	}
	return -ENOENT;
}
