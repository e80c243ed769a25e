/*
 * Full-precision rows.  Those at hand are scored first: what they show closes
 * others.  The rest is hinted all together, so that the bucket sees one round,
 * then copied out under the guard, checked and scored.
 *
 * Record lines of all that may become hits are hinted in the same round: which
 * of them are wanted is known only after scoring, and asking then would be a
 * second round.  Lines are small and lie close together, rows are neither.
 *
 * An open row is read, or closed by a bound, or left with its estimate because
 * a limit of the search forbids to wait for it.
 */
#include "query/engine.h"
#include "store/npy.h"
#include "store/ranges.h"

#include <math.h>

enum {
	ROW_GAP = 4096,	     /* bytes between rows that are read along */
	LINE_GAP = 64 << 10, /* one block of a mount's cache */
	LINES_MAX = 4 << 20, /* more than this is not hinted for lines */
	CHUNK = 1 << 20,     /* bytes of one read of an exact search */
	POLL_US = 500,	     /* between two looks at what has come */
};

/* ---- ranges ---------------------------------------------------------------------------- */

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
		spans[i] = (struct vf_span){r[i].off, r[i].end, 0};
		cost->bytes += r[i].end - r[i].off;
		if (i + 1 < n && r[i + 1].file == r[i].file)
			continue;
		vf_file_hint_all(r[i].file, spans + first, i + 1 - first, cost);
		first = i + 1;
	}
	cost->ranges += n;
	return 0;
}

static struct range line_range(const struct vf_view *v, uint64_t id)
{
	const struct vf_shard *s = vf_view_shard(v, id);
	uint64_t off;
	uint32_t len, crc;

	vf_index_line(s->ix, id - s->base, &off, &len, &crc);
	if (off > s->records.len || len > s->records.len - off)
		off = len = 0; /* reading it will say so */
	return (struct range){&s->records, off, off + len};
}

static struct range row_range(const struct vf_view *v, uint64_t id)
{
	const struct vf_shard *s = vf_view_shard(v, id);
	uint64_t off = VF_NPY_DATA_OFF + (id - s->base) * v->row_len;

	return (struct range){&s->vectors, off, off + v->row_len};
}

static enum vf_where locate(const struct range *r)
{
	struct vf_span s = {r->off, r->end, 0};

	vf_file_locate(r->file, &s, 1, false);
	return (enum vf_where)s.where;
}

bool vf_line_wait(const struct vf_view *v, uint64_t id, uint64_t deadline_ns)
{
	if (deadline_ns == UINT64_MAX || id >= v->tail_base)
		return true;
	struct range r = line_range(v, id);
	while (locate(&r) == VF_IN_BUCKET) {
		if (vf_now_ns() >= deadline_ns)
			return false;
		usleep(POLL_US);
	}
	return true;
}

bool vf_line_is_away(const struct vf_view *v, uint64_t id)
{
	struct range r = line_range(v, id);

	return locate(&r) == VF_IN_BUCKET;
}

int vf_stage_hint_lines(struct vf_view *v, const struct vf_hit *hits, size_t n,
			struct vf_cost *cost)
{
	VF_AUTO_FREE struct range *lines = malloc((n + 1) * sizeof(*lines));
	uint64_t gets = cost->gets;

	if (!lines)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		lines[i] = line_range(v, hits[i].id);
	int err = hint_ranges(lines, merge_ranges(lines, n, LINE_GAP), cost);
	cost->rounds += cost->gets > gets;
	return err;
}

/* ---- open rows --------------------------------------------------------------------------- */

/* Ask every file once where its open rows are. */
static int locate_rows(struct vf_fetch *f)
{
	struct vf_open *o = f->open;
	VF_AUTO_FREE struct vf_span *spans =
		malloc((o->n + 1) * sizeof(*spans));
	uint32_t first = 0;

	if (!spans)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->n; i++) {
		struct range r = row_range(f->v, o->rows[i].id);
		spans[i] = (struct vf_span){r.off, r.end, 0};
		if (i + 1 < o->n &&
		    row_range(f->v, o->rows[i + 1].id).file == r.file)
			continue;
		vf_file_locate(r.file, spans + first, i + 1 - first, true);
		for (; first <= i; first++)
			o->rows[first].where = spans[first].where;
	}
	return 0;
}

static bool is_away(const struct vf_open_row *r)
{
	return r->where == VF_IN_BUCKET;
}

static uint32_t count_away(const struct vf_open *o)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < o->n; i++)
		n += !o->rows[i].is_read && is_away(&o->rows[i]);
	return n;
}

/* Not read yet, nor given up. */
static bool is_wanted(const struct vf_open_row *r, bool away)
{
	return !r->is_read && !r->is_left && is_away(r) == away;
}

static bool may_be_hit(const struct vf_fetch *f, const struct vf_open_row *r)
{
	return !r->is_line_away &&
	       (!r->is_read || r->dist <= vf_topk_limit(f->best));
}

/* Lines of all that may become hits, unless those are too many to guess. */
static int hint_lines(struct vf_fetch *f)
{
	struct vf_open *o = f->open;
	struct range *lines = f->ranges;
	uint64_t total = 0;
	size_t n = 0;

	for (uint32_t i = 0; i < o->n; i++)
		if (may_be_hit(f, &o->rows[i]))
			lines[n++] = line_range(f->v, o->rows[i].id);
	n = merge_ranges(lines, n, LINE_GAP);
	for (size_t i = 0; i < n; i++)
		total += lines[i].end - lines[i].off;
	if (total > LINES_MAX)
		return 0;
	for (uint32_t i = 0; i < o->n; i++)
		o->rows[i].has_line = may_be_hit(f, &o->rows[i]);
	return hint_ranges(lines, n, f->cost);
}

/* A row in the mount's memory: its pages are asked for, of nobody else. */
static void hint_near(struct vf_fetch *f, const struct range *r)
{
	vf_file_hint(r->file, r->off, r->end - r->off);
	f->cost->ranges++;
	f->cost->bytes += r->end - r->off;
}

/* Hint rows that are (not) away; with their lines, and those of hits so far. */
static int hint_round(struct vf_fetch *f, bool away, bool lines)
{
	const struct vf_open *o = f->open;
	struct range *ranges = f->ranges;
	uint64_t gets = f->cost->gets;
	size_t n = 0;
	int err;

	for (uint32_t i = 0; i < o->n; i++) {
		if (!is_wanted(&o->rows[i], away))
			continue;
		ranges[n] = row_range(f->v, o->rows[i].id);
		if (o->rows[i].where == VF_IN_RAM)
			hint_near(f, &ranges[n]);
		else
			n++;
	}
	err = hint_ranges(ranges, merge_ranges(ranges, n, ROW_GAP), f->cost);
	if (!err && lines)
		err = hint_lines(f);
	f->cost->rounds += f->cost->gets > gets;
	return err;
}

/* Leave out rows that bounds exclude, given what has been read. */
static int close_rows(struct vf_fetch *f)
{
	struct vf_open *o = f->open;
	VF_AUTO_FREE struct vf_hit *hits =
		malloc((f->best->k + 1) * sizeof(*hits));
	struct vf_topk upper = {.hits = hits, .k = f->best->k};
	uint32_t n = 0;

	if (!hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->best->n; i++)
		vf_topk_push(&upper, f->best->hits[i].dist,
			     f->best->hits[i].id);
	for (uint32_t i = 0; i < o->n; i++)
		if (!o->rows[i].is_read)
			vf_topk_push(&upper, vf_open_most(&o->rows[i]),
				     o->rows[i].id);
	for (uint32_t i = 0; i < o->n; i++)
		if (o->rows[i].is_read ||
		    o->rows[i].least <= vf_topk_limit(&upper))
			o->rows[n++] = o->rows[i];
	o->n = n;
	return 0;
}

/* Read one row; -EAGAIN: it did not come in time. */
static int score_row(struct vf_fetch *f, struct vf_open_row *r)
{
	const struct vf_index_config *c = &f->v->state->config;
	struct vf_shard *s = vf_view_shard(f->v, r->id);
	struct range range = row_range(f->v, r->id);
	enum vf_where was = (enum vf_where)r->where;
	float d;

	while (is_away(r) && f->deadline_ns != UINT64_MAX) {
		r->where = locate(&range);
		if (!is_away(r))
			break;
		if (vf_now_ns() >= f->deadline_ns)
			return -EAGAIN;
		usleep(POLL_US);
	}
	int err = vf_shard_row(f->v, s, r->id - s->base, f->row);
	if (err)
		return err;
	vf_exact_distances(c->metric, c->dtype, c->dim, f->q, f->row, 1, &d);
	vf_topk_push(f->best, d, r->id);
	r->dist = d;
	r->is_read = true;
	f->cost->rows_read++;
	f->cost->from_ram += was == VF_IN_RAM;
	f->cost->from_disk += was == VF_ON_DISK;
	f->cost->from_bucket += was == VF_IN_BUCKET;
	return 0;
}

/* In the order of the file, which is the order of arrival. */
static int score_rows(struct vf_fetch *f, bool away)
{
	for (uint32_t i = 0; i < f->open->n; i++) {
		struct vf_open_row *r = &f->open->rows[i];
		if (!is_wanted(r, away))
			continue;
		int err = score_row(f, r);
		if (err == -EAGAIN) {
			r->is_left = true;
		} else if (err) {
			if (err == -ENOMEM || !f->s->on_error_partial)
				return err;
			f->cost->errors++;
		}
	}
	return 0;
}

/* ---- limits -------------------------------------------------------------------------------- */

static int compare_estimates(const void *a, const void *b)
{
	const struct vf_open_row *x = *(struct vf_open_row *const *)a,
				 *y = *(struct vf_open_row *const *)b;

	return (x->dist > y->dist) - (x->dist < y->dist);
}

/*
 * Leave rows that are too many for max_gets, farthest first.  A row is one
 * request, its line another, neighbours or not.
 */
static int spend_gets(struct vf_fetch *f)
{
	struct vf_open *o = f->open;
	VF_AUTO_FREE struct vf_open_row **by =
		malloc((o->n + 1) * sizeof(struct vf_open_row *));
	uint64_t left = f->s->max_gets - VF_MIN(f->s->max_gets, f->gets_spent);

	if (!by)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->n; i++)
		by[i] = &o->rows[i];
	qsort(by, o->n, sizeof(struct vf_open_row *), compare_estimates);
	for (uint32_t i = 0; i < o->n; i++) {
		struct vf_open_row *r = by[i];
		bool line_away = vf_line_is_away(f->v, r->id);
		uint64_t gets = (!r->is_read && is_away(r)) + line_away;
		if (gets <= left) {
			left -= gets;
		} else {
			r->is_left = !r->is_read;
			r->is_line_away = line_away;
		}
	}
	return 0;
}

/* Rows at hand are near enough: the others are not worth a request. */
static bool is_good_enough(const struct vf_fetch *f)
{
	const struct vf_topk *b = f->best;

	return f->s->good_enough && b->n == b->k &&
	       vf_topk_limit(b) <= *f->s->good_enough;
}

/* Rows that a limit leaves take part with their estimates. */
static void push_left(struct vf_fetch *f)
{
	for (uint32_t i = 0; i < f->open->n; i++) {
		const struct vf_open_row *r = &f->open->rows[i];
		if (r->is_left && !r->is_line_away && !f->s->hamming)
			vf_topk_push(f->best, r->dist, r->id);
	}
}

/* ---- the round ------------------------------------------------------------------------------ */

static int begin_away(struct vf_fetch *f)
{
	int err = close_rows(f);

	if (!err && f->s->max_gets)
		err = spend_gets(f);
	if (!err)
		err = hint_round(f, true, true);
	f->is_away = true;
	return err;
}

/* Whether bounds exclude every row that was not read. */
static bool is_bound_met(const struct vf_open *o, const struct vf_topk *best)
{
	for (uint32_t i = 0; i < o->n; i++)
		if (!o->rows[i].is_read &&
		    o->rows[i].least <= vf_topk_limit(best))
			return false;
	return true;
}

int vf_fetch_begin(struct vf_fetch *f)
{
	uint32_t n = f->open->n;

	f->row = malloc(f->v->row_len);
	f->ranges = malloc((2 * (size_t)n + 1) * sizeof(struct range));
	int err = f->row && f->ranges ? locate_rows(f) : -ENOMEM;
	bool all_here = !err && !count_away(f->open) && !f->s->max_gets;

	if (!err)
		err = hint_round(f, false, all_here);
	if (!err)
		err = score_rows(f, false);
	if (err || is_good_enough(f) || all_here)
		return err;
	return begin_away(f);
}

int vf_fetch_end(struct vf_fetch *f)
{
	int err = f->is_away ? score_rows(f, true) : 0;

	if (f->is_away)
		push_left(f);
	f->cost->bound_met &= !err && is_bound_met(f->open, f->best);
	return err;
}

void vf_fetch_fini(struct vf_fetch *f)
{
	free(f->row);
	free(f->ranges);
}

/* ---- every row --------------------------------------------------------------------------- */

static int score_chunk(struct vf_view *v, const struct vf_shard *s,
		       uint64_t row, size_t n, const float *q,
		       const uint8_t *rows, float *dist, struct vf_topk *best)
{
	const struct vf_index_config *c = &v->state->config;

	for (size_t i = 0; i < n; i++) {
		uint32_t crc;
		int err = vf_index_row_crc(s->ix, row + i, &crc);
		if (err)
			return err;
		if (vf_crc32c(0, rows + i * v->row_len, v->row_len) != crc)
			return vf_fail(-EBADMSG, "%s: row %llu is damaged",
				       s->vectors.path,
				       (unsigned long long)(row + i));
	}
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
			if (!vf_topk_wants(best, s->base + row, n))
				continue;
			/* The next chunk travels while this one is scored. */
			struct vf_span two = {.off = off};
			two.end = VF_MIN(s->vectors.len,
					 off + (uint64_t)2 * n * v->row_len);
			vf_file_hint_all(&s->vectors, &two, 1, cost);
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
