/*
 * One window of a shard's records in memory at a time.  A position that tells
 * where its line begins is reached with one read; without, the lines of its
 * shard before it are counted.
 */
#include "tools/each_record.h"

#include "query/shard_codes.h"
#include "store/recordfile.h"
#include "tools/interrupt.h"

enum { WINDOW = 4 << 20 };

struct walk {
	const struct vf_target *t;
	const struct vf_state *s;
	struct vf_records_pos *pos;
	vf_records_fn *fn;
	void *arg;
	struct vf_recordfile *file; /* of the shard that is being read */
	uint32_t *crcs;		    /* of its lines; NULL: frames had theirs */
};

/* ---- positions ----------------------------------------------------------------- */

static uint64_t n_places(const struct vf_state *s)
{
	return s->n_shards + s->n_tail;
}

static uint64_t rows_of(const struct vf_state *s, uint64_t place)
{
	return place < s->n_shards ? s->shards[place].n_rows
				   : s->tail[place - s->n_shards].rows->n_rows;
}

static uint64_t n_rows_all(const struct vf_state *s)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < n_places(s); i++)
		n += rows_of(s, i);
	return n;
}

struct vf_records_pos vf_records_part(const struct vf_state *s, uint64_t i,
				      uint64_t n)
{
	uint64_t total = n_rows_all(s), first = total * i / n;
	struct vf_records_pos pos = {.row = first,
				     .left = total * (i + 1) / n - first};

	while (pos.left && pos.row >= rows_of(s, pos.place))
		pos.row -= rows_of(s, pos.place++);
	return pos;
}

bool vf_records_at_end(const struct vf_state *s,
		       const struct vf_records_pos *pos)
{
	uint64_t n = n_places(s);

	return !pos->left || pos->place >= n ||
	       (pos->place == n - 1 && pos->row >= rows_of(s, n - 1));
}

bool vf_records_pos_ok(const struct vf_state *s,
		       const struct vf_records_pos *pos)
{
	return pos->place < n_places(s) && pos->row <= rows_of(s, pos->place) &&
	       pos->left <= n_rows_all(s) &&
	       (!pos->off || (pos->row && pos->place < s->n_shards));
}

/* ---- walking --------------------------------------------------------------------- */

/* The next line, of @len bytes: dead, or @fn's. */
static int visit_line(const struct walk *w, const struct vf_dead *dead,
		      const char *place, const char *line, size_t len)
{
	bool lives = !vf_dead_has(dead, w->pos->row);

	w->pos->row++;
	w->pos->off += len;
	w->pos->left--;
	return lives ? w->fn(w->arg, place, line, len) : 0;
}

/* Is the line of the next row, if it lives, the one that was written? */
static int check_line(const struct walk *w, const char *line, size_t len)
{
	uint64_t row = w->pos->row;

	if (!w->crcs || vf_dead_has(w->s->dead[w->pos->place], row) ||
	    vf_crc32c(0, line, len) == w->crcs[row])
		return 0;
	return vf_recordfile_damaged(w->file, row);
}

/* Visit whole lines of @text and drop them from it; @skip lines are not. */
static int visit_lines(const struct walk *w, struct vf_buf *text,
		       uint64_t *skip)
{
	const struct vf_shard_ref *ref = &w->s->shards[w->pos->place];
	const char *s = (const char *)text->data, *end = s + text->len;
	const char *newline;
	int rc = 0;

	while (!rc && w->pos->left && w->pos->row < ref->n_rows &&
	       (newline = memchr(s, '\n', (size_t)(end - s)))) {
		size_t len = (size_t)(newline - s) + 1;
		if (*skip) {
			w->pos->off += len;
			--*skip;
		} else {
			rc = check_line(w, s, len);
			if (!rc)
				rc = visit_line(w, w->s->dead[w->pos->place],
						ref->name, s, len);
		}
		s += len;
	}
	text->len = (size_t)(end - s);
	memmove(text->data, s, text->len);
	return rc;
}

static int read_shard(const struct walk *w)
{
	const struct vf_shard_ref *ref = &w->s->shards[w->pos->place];
	uint64_t off = w->pos->off, skip = off ? 0 : w->pos->row;
	VF_AUTO_BUF struct vf_buf text = {0};
	int rc = 0;

	while (!rc && w->pos->left && w->pos->row < ref->n_rows &&
	       off < vf_recordfile_len(w->file)) {
		const uint8_t *p;
		size_t n;
		rc = vf_recordfile_read(w->file, off, &p, &n);
		if (!rc && vf_buf_append(&text, p, n))
			rc = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		off += n;
		if (!rc)
			rc = visit_lines(w, &text, &skip);
		if (!rc && vf_interrupted())
			rc = -ECANCELED;
	}
	return !rc && w->pos->left && w->pos->row < ref->n_rows
		       ? vf_recordfile_damaged(w->file, w->pos->row)
		       : rc;
}

static int visit_shard(const struct walk *all)
{
	const struct vf_shard_ref *ref = &all->s->shards[all->pos->place];
	struct walk w = *all;
	int rc = vf_recordfile_open(w.t->bucket, w.t->index, ref, WINDOW,
				    &w.file);

	if (rc)
		return rc;
	if (vf_recordfile_is_plain(w.file))
		rc = vf_shard_line_crcs(w.t->bucket, w.t->index, ref, &w.crcs);
	if (!rc)
		rc = read_shard(&w);
	vf_recordfile_close(w.file);
	free(w.crcs);
	return rc;
}

static int visit_tail(const struct walk *w)
{
	const struct vf_tail *t = &w->s->tail[w->pos->place - w->s->n_shards];
	const struct vf_inline *r = t->rows;
	int rc = 0;

	while (!rc && w->pos->left && w->pos->row < r->n_rows) {
		uint64_t i = w->pos->row;
		rc = visit_line(w, t->dead, "the log",
				r->lines + r->line_offs[i],
				r->line_offs[i + 1] - r->line_offs[i]);
		w->pos->off = 0;
	}
	return rc;
}

int vf_records_walk(const struct vf_target *t, const struct vf_state *s,
		    struct vf_records_pos *pos, vf_records_fn *fn, void *arg)
{
	const struct walk w = {
		.t = t, .s = s, .pos = pos, .fn = fn, .arg = arg};
	int rc = 0;

	while (!rc && pos->left && pos->place < n_places(s)) {
		rc = pos->place < s->n_shards ? visit_shard(&w)
					      : visit_tail(&w);
		if (!rc) {
			pos->place++;
			pos->row = pos->off = 0;
		}
	}
	return rc;
}

int vf_records_each(const struct vf_target *t, const struct vf_state *s,
		    vf_records_fn *fn, void *arg)
{
	struct vf_records_pos all = vf_records_part(s, 0, 1);

	return vf_records_walk(t, s, &all, fn, arg);
}
