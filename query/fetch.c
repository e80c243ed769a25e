/*
 * Full-precision rows: hinted all together, so that the bucket sees one round,
 * then copied out under the guard, checked and scored.
 *
 * Record lines of the candidates are hinted in the same round: which of them
 * are wanted is known only after scoring, and asking then would be a second
 * round.  Lines are small and lie close together, rows are neither.
 */
#include "query/engine.h"
#include "store/npy.h"

enum {
	ROW_GAP = 4096,	     /* bytes between rows that are read along */
	LINE_GAP = 64 << 10, /* one block of a mount's cache */
	LINES_MAX = 4 << 20, /* more than this is not hinted for lines */
	CHUNK = 1 << 20,     /* bytes of one read of an exact search */
};

struct range {
	const struct vf_file *file;
	uint64_t off, end;
};

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->off > y->off) - (x->off < y->off);
}

/* Sort and merge in place; returns how many are left. */
static size_t merge_ranges(struct range *r, size_t n, uint64_t gap)
{
	size_t out = 0;

	qsort(r, n, sizeof(*r), compare_ranges);
	for (size_t i = 1; i < n; i++) {
		if (r[i].file == r[out].file && r[i].off <= r[out].end + gap)
			r[out].end = VF_MAX(r[out].end, r[i].end);
		else
			r[++out] = r[i];
	}
	return n ? out + 1 : 0;
}

static int hint_ranges(const struct range *r, size_t n, struct vf_cost *cost)
{
	VF_AUTO_FREE struct vf_span *spans = malloc((n + 1) * sizeof(*spans));
	size_t first = 0;

	if (!spans)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		spans[i] = (struct vf_span){r[i].off, r[i].end};
		cost->bytes += r[i].end - r[i].off;
		if (i + 1 < n && r[i + 1].file == r[i].file)
			continue;
		vf_file_hint_all(r[i].file, spans + first, i + 1 - first);
		first = i + 1;
	}
	cost->ranges += n;
	return 0;
}

static int hint_rows(struct vf_view *v, const struct vf_topk *c,
		     struct vf_cost *cost)
{
	VF_AUTO_FREE struct range *rows = malloc((c->n + 1) * sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->n; i++) {
		struct vf_shard *s = vf_view_shard(v, c->hits[i].id);
		uint64_t row = c->hits[i].id - s->base;
		uint64_t off = VF_NPY_DATA_OFF + row * v->row_len;
		rows[i] = (struct range){&s->vectors, off, off + v->row_len};
	}
	return hint_ranges(rows, merge_ranges(rows, c->n, ROW_GAP), cost);
}

int vf_stage_hint_lines(struct vf_view *v, const struct vf_topk *hits,
			struct vf_cost *cost)
{
	VF_AUTO_FREE struct range *lines =
		malloc((hits->n + 1) * sizeof(*lines));
	uint64_t total = 0;
	size_t n;

	if (!lines)
		return -ENOMEM;
	for (uint32_t i = 0; i < hits->n; i++) {
		struct vf_shard *s = vf_view_shard(v, hits->hits[i].id);
		uint64_t off;
		uint32_t len, crc;
		vf_index_line(s->ix, hits->hits[i].id - s->base, &off, &len,
			      &crc);
		lines[i] = (struct range){&s->records, off, off + len};
	}
	n = merge_ranges(lines, hits->n, LINE_GAP);
	for (size_t i = 0; i < n; i++)
		total += lines[i].end - lines[i].off;
	return total <= LINES_MAX ? hint_ranges(lines, n, cost) : 0;
}

int vf_stage_fetch(struct vf_view *v, const float *q,
		   const struct vf_topk *candidates, struct vf_topk *best,
		   struct vf_cost *cost)
{
	const struct vf_index_config *c = &v->state->config;
	VF_AUTO_FREE void *row = malloc(v->row_len);
	int err = row ? hint_rows(v, candidates, cost) : -ENOMEM;

	if (!err)
		err = vf_stage_hint_lines(v, candidates, cost);

	/* In the order of the file, which is the order of arrival. */
	qsort(candidates->hits, candidates->n, sizeof(*candidates->hits),
	      vf_hit_compare_ids);
	for (uint32_t i = 0; !err && i < candidates->n; i++) {
		uint64_t id = candidates->hits[i].id;
		struct vf_shard *s = vf_view_shard(v, id);
		float d;
		err = vf_shard_row(v, s, id - s->base, row);
		if (err)
			break;
		vf_exact_distances(c->metric, c->dtype, c->dim, q, row, 1, &d);
		vf_topk_push(best, d, id);
		cost->rows_read++;
	}
	return err;
}

/* ---- every row --------------------------------------------------------------------------- */

static int score_chunk(struct vf_view *v, const struct vf_shard *s,
		       uint64_t row, size_t n, const float *q,
		       const uint8_t *rows, float *dist, struct vf_topk *best)
{
	const struct vf_index_config *c = &v->state->config;

	for (size_t i = 0; i < n; i++)
		if (vf_crc32c(0, rows + i * v->row_len, v->row_len) !=
		    vf_index_row_crc(s->ix, row + i))
			return vf_fail(-EBADMSG, "%s: row %llu is damaged",
				       s->vectors.path,
				       (unsigned long long)(row + i));
	vf_exact_distances(c->metric, c->dtype, c->dim, q, rows, n, dist);
	for (size_t i = 0; i < n; i++)
		vf_topk_push(best, dist[i], s->base + row + i);
	return 0;
}

int vf_stage_exact(struct vf_view *v, const float *q, struct vf_topk *best,
		   struct vf_cost *cost)
{
	size_t n_chunk = VF_MAX(CHUNK / v->row_len, (size_t)1);
	VF_AUTO_FREE uint8_t *rows = malloc(n_chunk * v->row_len);
	VF_AUTO_FREE float *dist = malloc(n_chunk * sizeof(*dist));
	int err = rows && dist ? 0 : -ENOMEM;

	for (size_t i = 0; i < v->n_shards; i++) {
		const struct vf_shard *s = &v->shards[i];
		vf_view_skip(v, i, best);
		for (uint64_t row = 0; !err && row < s->n_rows;
		     row += n_chunk) {
			size_t n = VF_MIN((uint64_t)n_chunk, s->n_rows - row);
			uint64_t off = VF_NPY_DATA_OFF + row * v->row_len;
			/* The next chunk travels while this one is scored. */
			vf_file_hint(&s->vectors, off,
				     VF_MIN(s->vectors.len - off,
					    (uint64_t)2 * n * v->row_len));
			err = vf_file_read(&s->vectors, off, n * v->row_len,
					   rows);
			if (!err)
				err = score_chunk(v, s, row, n, q, rows, dist,
						  best);
			cost->rows_read += n;
			cost->bytes += n * v->row_len;
			cost->ranges++;
		}
	}
	return err;
}
