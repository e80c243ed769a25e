/*
 * A row on its way, in the bytes of its bucket:
 *
 *   struct entry, code, extra bits, stored vector (where it is held), record line
 *
 * at no alignment.  A bucket is what its file holds, then its buffer.  Where
 * not everything will fit in memory, a bucket goes to its file a few MiB at a
 * time: its buffer stays in the cache and is used again.
 */
#include "tools/sorter.h"

#include <inttypes.h>
#include <stdio.h>

#include "tools/interrupt.h"
#include "tools/relay.h"
#include "tools/scratchfile.h"

enum {
	BUCKETS_MAX = 256,
	WINDOW = 4 << 20,     /* bytes of a file read at a time */
	SPILL = 8 << 20,      /* of a bucket written at a time */
	LINE_GUESS = 128,     /* of a record line, before any was seen */
	CHUNK_BYTES = 1 << 20 /* of the vectors of one chunk handed out */
};

struct entry {
	uint32_t leaf;
	uint32_t number; /* of the row, as it came */
	struct vf_builder_row row;
	struct vf_factors factors;
	struct vf_extra_factors extra;
};

struct bucket {
	struct vf_buf buf;   /* not written yet */
	int fd;		     /* -1: no file */
	uint64_t len;	     /* of the file */
	uint32_t first, end; /* leaves */
};

struct vf_sorter {
	struct vf_sorter_options opt;
	size_t row_len;		  /* stored vector */
	size_t held_len;	  /* of it in an entry */
	size_t fixed_len;	  /* an entry without line */
	uint32_t *bucket_of;	  /* [n_leaves] */
	uint64_t *counts, *bytes; /* [n_leaves] rows and bytes so far */
	size_t n_buckets;
	struct bucket *buckets;
	uint64_t buffered;
	size_t spill_len; /* a bucket's buffer that is written; 0: none yet */
};

/* ---- making ---------------------------------------------------------------------- */

/* Consecutive leaves with about as many rows each. */
static void deal_leaves(struct vf_sorter *s)
{
	uint32_t n = s->opt.n_leaves;
	uint64_t total = 0, seen = 0;

	for (uint32_t i = 0; i < n; i++)
		total += s->opt.shares[i] + 1;
	for (uint32_t i = 0; i < n; i++) {
		size_t b = (size_t)(seen * s->n_buckets / total);
		s->bucket_of[i] = (uint32_t)b;
		s->buckets[b].end = i + 1;
		seen += s->opt.shares[i] + 1;
	}
	for (size_t b = 0; b < s->n_buckets; b++) {
		uint32_t before = b ? s->buckets[b - 1].end : 0;
		s->buckets[b].first = before;
		s->buckets[b].end = VF_MAX(s->buckets[b].end, before);
	}
}

int vf_sorter_new(const struct vf_sorter_options *opt, struct vf_sorter **out)
{
	struct vf_sorter *s = calloc(1, sizeof(*s));
	double total;

	if (!s)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	s->opt = *opt;
	s->row_len = opt->dim * vf_dtype_size(opt->dtype);
	s->held_len = opt->source ? 0 : s->row_len;
	s->fixed_len = sizeof(struct entry) + opt->code_len + opt->extra_len +
		       s->held_len;
	total = (double)opt->n_rows * (double)(s->fixed_len + LINE_GUESS);
	s->n_buckets = 1;
	if (total > (double)opt->ram / 2)
		s->n_buckets = (size_t)(total / ((double)opt->ram / 3)) + 1;
	s->n_buckets = VF_MIN(s->n_buckets, (size_t)BUCKETS_MAX);
	s->n_buckets = VF_MIN(s->n_buckets, (size_t)opt->n_leaves);
	s->buckets = calloc(s->n_buckets, sizeof(*s->buckets));
	s->bucket_of = calloc(opt->n_leaves, sizeof(*s->bucket_of));
	s->counts = calloc(opt->n_leaves, sizeof(*s->counts));
	s->bytes = calloc(opt->n_leaves, sizeof(*s->bytes));
	for (size_t i = 0; s->buckets && i < s->n_buckets; i++)
		s->buckets[i].fd = -1;
	if (!s->buckets || !s->bucket_of || !s->counts || !s->bytes) {
		vf_sorter_free(s);
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	}
	if (s->n_buckets > 1)
		s->spill_len = VF_MIN((size_t)opt->ram / 2 / s->n_buckets,
				      (size_t)SPILL);
	deal_leaves(s);
	*out = s;
	return 0;
}

void vf_sorter_free(struct vf_sorter *s)
{
	if (!s)
		return;
	for (size_t i = 0; s->buckets && i < s->n_buckets; i++) {
		vf_buf_fini(&s->buckets[i].buf);
		if (s->buckets[i].fd >= 0)
			close(s->buckets[i].fd);
	}
	free(s->buckets);
	free(s->bucket_of);
	free(s->counts);
	free(s->bytes);
	free(s);
}

const uint64_t *vf_sorter_counts(const struct vf_sorter *s)
{
	return s->counts;
}

/* ---- scratch files ------------------------------------------------------------------ */

static int write_out(const struct vf_sorter *s, struct bucket *b)
{
	int err = 0;

	if (b->buf.len && b->fd < 0)
		err = vf_scratch_open(s->opt.scratch, &b->fd);
	if (!err) {
		err = vf_pwrite_all(b->fd, b->buf.data, b->buf.len, b->len);
		if (err)
			return vf_fail(err, "%s: scratch file: %s",
				       vf_scratch_dir(s->opt.scratch),
				       strerror(-err));
		b->len += b->buf.len;
	}
	b->buf.len = 0;
	return err;
}

/* More than was expected: everything, and from now on a little at a time. */
static int spill(struct vf_sorter *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->n_buckets; i++) {
		err = write_out(s, &s->buckets[i]);
		vf_buf_fini(&s->buckets[i].buf);
	}
	s->spill_len = SPILL;
	return err;
}

/* ---- adding -------------------------------------------------------------------------- */

static int add_entry(struct vf_sorter *s, const struct vf_chunk *c, size_t i,
		     const uint8_t *line)
{
	struct bucket *b = &s->buckets[s->bucket_of[c->leaf[i]]];
	const uint8_t *x = c->half ? (const void *)c->half : (void *)c->x;
	struct entry e = {.leaf = c->leaf[i],
			  .number = (uint32_t)(c->row + i),
			  .row = c->rows[i],
			  .factors = c->factors[i]};
	size_t len = s->fixed_len + e.row.line_len;
	int err = vf_buf_reserve(&b->buf, len);

	if (err)
		return vf_fail(err, "%s", vf_strerror(err));
	if (s->opt.extra_len)
		e.extra = c->extra_factors[i];
	vf_buf_append(&b->buf, &e, sizeof(e));
	vf_buf_append(&b->buf, c->codes + i * s->opt.code_len, s->opt.code_len);
	if (s->opt.extra_len)
		vf_buf_append(&b->buf, c->extra + i * s->opt.extra_len,
			      s->opt.extra_len);
	vf_buf_append(&b->buf, x + i * s->row_len, s->held_len);
	vf_buf_append(&b->buf, line, e.row.line_len);
	s->counts[e.leaf]++;
	s->bytes[e.leaf] += len;
	s->buffered += len;
	return s->spill_len && b->buf.len >= s->spill_len ? write_out(s, b) : 0;
}

int vf_sorter_add(struct vf_sorter *s, const struct vf_chunk *c)
{
	const uint8_t *line = c->lines.data;
	int err = 0;

	for (size_t i = 0; !err && i < c->n; i++) {
		err = add_entry(s, c, i, line);
		line += c->rows[i].line_len;
	}
	return !err && !s->spill_len && s->buffered > s->opt.ram / 2 ? spill(s)
								     : err;
}

/* ---- handing out --------------------------------------------------------------------- */

enum { CHUNKS = 3 }; /* one is filled, one consumed */

struct output {
	const struct vf_sorter *s;
	struct vf_buf part; /* of a bucket that comes from its file */
	struct vf_chunk chunks[CHUNKS];
	struct vf_chunk *c; /* that is being filled */
	struct vf_relay *relay;
	size_t cap;   /* rows of a chunk */
	uint64_t row; /* of the next chunk's first */
	const uint64_t *cuts;
	size_t n_cuts;
	int (*consume)(void *arg, const struct vf_chunk *c);
	void *arg;
};

static int alloc_chunk(const struct vf_sorter_options *opt, size_t row_len,
		       size_t cap, struct vf_chunk *c)
{
	void *vectors = malloc(cap * row_len);

	if (opt->dtype == VF_F16)
		c->half = vectors;
	else
		c->x = vectors;
	c->codes = malloc(cap * opt->code_len);
	c->factors = malloc(cap * sizeof(*c->factors));
	c->rows = malloc(cap * sizeof(*c->rows));
	c->leaf = malloc(cap * sizeof(*c->leaf));
	c->from = malloc(cap * sizeof(*c->from));
	if (opt->extra_len) {
		c->extra = malloc(cap * opt->extra_len);
		c->extra_factors = malloc(cap * sizeof(*c->extra_factors));
	}
	return vectors && c->codes && c->factors && c->rows && c->leaf &&
			       c->from &&
			       (!opt->extra_len ||
				(c->extra && c->extra_factors))
		       ? 0
		       : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

static void free_chunk(struct vf_chunk *c)
{
	free(c->x);
	free(c->half);
	free(c->codes);
	free(c->factors);
	free(c->rows);
	free(c->leaf);
	free(c->from);
	free(c->extra);
	free(c->extra_factors);
	vf_buf_fini(&c->lines);
}

static int consume_slot(void *arg, size_t slot)
{
	struct output *o = arg;

	return o->consume(o->arg, &o->chunks[slot]);
}

/* Go on with an empty chunk. */
static int begin_chunk(struct output *o)
{
	size_t slot;
	int err = vf_relay_take(o->relay, &slot);

	if (err)
		return err;
	o->c = &o->chunks[slot];
	o->c->row = o->row;
	o->c->n = 0;
	o->c->lines.len = 0;
	return 0;
}

static int open_output(struct output *o)
{
	int err = 0;

	o->cap = VF_MAX(CHUNK_BYTES / o->s->row_len, (size_t)16);
	for (size_t i = 0; !err && i < CHUNKS; i++)
		err = alloc_chunk(&o->s->opt, o->s->row_len, o->cap,
				  &o->chunks[i]);
	if (!err)
		err = vf_relay_open(CHUNKS, consume_slot, o, &o->relay);
	return err ? err : begin_chunk(o);
}

/* All that was handed out is consumed then. */
static int close_output(struct output *o)
{
	int err = vf_relay_close(o->relay);

	for (size_t i = 0; i < CHUNKS; i++)
		free_chunk(&o->chunks[i]);
	vf_buf_fini(&o->part);
	return err;
}

/* Vectors that stayed in the source: they are those that were coded. */
static int take_vectors(struct output *o)
{
	const struct vf_sorter *s = o->s;
	struct vf_source *source = s->opt.source;
	struct vf_chunk *c = o->c;
	uint8_t *x = c->half ? (void *)c->half : (void *)c->x;
	int err = source->ops->take(source, c->from, c->n, x);

	for (size_t i = 0; !err && i < c->n; i++)
		if (vf_crc32c(0, x + i * s->row_len, s->row_len) !=
		    c->rows[i].row_crc)
			err = vf_fail(-ESTALE,
				      "%s: row %" PRIu32
				      " has changed while it was read",
				      source->name, c->from[i]);
	return err;
}

static int flush_output(struct output *o)
{
	int err = vf_interrupted() ? -ECANCELED : 0;

	if (err || !o->c->n)
		return err;
	if (o->s->opt.source)
		err = take_vectors(o);
	if (err)
		return err;
	o->row += o->c->n;
	while (o->n_cuts && *o->cuts <= o->row) {
		o->cuts++;
		o->n_cuts--;
	}
	vf_relay_give(o->relay);
	return begin_chunk(o);
}

/* Append one entry; a full chunk, or one that ends at a cut, goes out. */
static int put_entry(struct output *o, const uint8_t *p)
{
	const struct vf_sorter *s = o->s;
	struct vf_chunk *c = o->c;
	uint8_t *x = c->half ? (void *)c->half : (void *)c->x;
	struct entry e;
	size_t i = c->n;

	memcpy(&e, p, sizeof(e));
	p += sizeof(e);
	c->leaf[i] = e.leaf;
	c->from[i] = e.number;
	c->rows[i] = e.row;
	c->factors[i] = e.factors;
	memcpy(c->codes + i * s->opt.code_len, p, s->opt.code_len);
	p += s->opt.code_len;
	if (s->opt.extra_len) {
		c->extra_factors[i] = e.extra;
		memcpy(c->extra + i * s->opt.extra_len, p, s->opt.extra_len);
		p += s->opt.extra_len;
	}
	memcpy(x + i * s->row_len, p, s->held_len);
	p += s->held_len;
	int err = vf_buf_append(&c->lines, p, e.row.line_len);
	if (err)
		return vf_fail(err, "%s", vf_strerror(err));
	c->n++;
	if (c->n == o->cap || (o->n_cuts && c->row + c->n == *o->cuts))
		return flush_output(o);
	return 0;
}

/* Bytes of the entry at @p, of which @have are there; 0: not all of it. */
static size_t entry_len(const struct vf_sorter *s, const uint8_t *p,
			size_t have)
{
	struct entry e;

	if (have < sizeof(e))
		return 0;
	memcpy(&e, p, sizeof(e));
	size_t len = s->fixed_len + e.row.line_len;
	return len <= have ? len : 0;
}

typedef int entry_fn(void *arg, const uint8_t *p, size_t len);

/* Call @fn with each entry of @buf whose leaf is in the range. */
static int visit_bytes(const struct vf_sorter *s, const struct vf_buf *buf,
		       uint32_t first, uint32_t end, entry_fn *fn, void *arg,
		       size_t *out_used)
{
	size_t at = 0, len;
	int err = 0;

	while (!err && (len = entry_len(s, buf->data + at, buf->len - at))) {
		uint32_t leaf;
		memcpy(&leaf, buf->data + at, sizeof(leaf));
		if (leaf >= first && leaf < end)
			err = fn(arg, buf->data + at, len);
		at += len;
	}
	*out_used = at;
	return err;
}

/* Append @n bytes of a bucket's file. */
static int read_file(const struct vf_sorter *s, const struct bucket *b,
		     uint64_t off, size_t n, struct vf_buf *out)
{
	if (vf_buf_reserve(out, n))
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = vf_pread_all(b->fd, out->data + out->len, n, off);
	if (err)
		return vf_fail(err, "%s: scratch file: %s",
			       vf_scratch_dir(s->opt.scratch),
			       vf_strerror(err));
	out->len += n;
	return 0;
}

/* The same of a whole bucket, a window of its file at a time. */
static int visit_bucket(const struct vf_sorter *s, const struct bucket *b,
			uint32_t first, uint32_t end, entry_fn *fn, void *arg)
{
	VF_AUTO_BUF struct vf_buf w = {0};
	uint64_t off = 0;
	size_t used;
	int err = 0;

	while (!err && off < b->len) {
		size_t n = VF_MIN(b->len - off, (uint64_t)WINDOW);
		err = read_file(s, b, off, n, &w);
		if (err)
			return err;
		off += n;
		err = visit_bytes(s, &w, first, end, fn, arg, &used);
		w.len -= used;
		memmove(w.data, w.data + used, w.len);
	}
	return err ? err : visit_bytes(s, &b->buf, first, end, fn, arg, &used);
}

static int put_visited(void *arg, const uint8_t *p, size_t len)
{
	return put_entry(arg, p);
}

static int gather_visited(void *arg, const uint8_t *p, size_t len)
{
	return vf_buf_append(arg, p, len);
}

struct placing {
	const uint8_t *base;
	uint32_t first;
	uint64_t *next; /* [leaves of the range]: where its next entry goes */
	uint64_t *offs;
};

static int place_visited(void *arg, const uint8_t *p, size_t len)
{
	struct placing *g = arg;
	uint32_t leaf;

	memcpy(&leaf, p, sizeof(leaf));
	g->offs[g->next[leaf - g->first]++] = (uint64_t)(p - g->base);
	return 0;
}

/* Entries of @buf, which are all of leaves @first..@end - 1, in order. */
static int put_sorted(struct output *o, const struct vf_buf *buf,
		      uint32_t first, uint32_t end)
{
	const struct vf_sorter *s = o->s;
	VF_AUTO_FREE uint64_t *next = malloc((end - first) * sizeof(*next));
	VF_AUTO_FREE uint64_t *offs = NULL;
	struct placing g = {buf->data, first, next, NULL};
	uint64_t n = 0;
	size_t used;
	int err;

	for (uint32_t i = first; next && i < end; n += s->counts[i++])
		next[i - first] = n;
	g.offs = offs = malloc((n + 1) * sizeof(*offs));
	if (!next || !offs)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	err = visit_bytes(s, buf, first, end, place_visited, &g, &used);
	for (uint64_t i = 0; !err && i < n; i++)
		err = put_entry(o, buf->data + offs[i]);
	return err;
}

/* As many leaves from @first on as fit in memory, or one. */
static uint32_t fit_leaves(const struct vf_sorter *s, const struct bucket *b,
			   uint32_t first, uint64_t *out_len)
{
	uint32_t end = first;
	uint64_t len = 0;

	while (end < b->end &&
	       (end == first || len + s->bytes[end] <= s->opt.ram / 2))
		len += s->bytes[end++];
	*out_len = len;
	return end;
}

static int put_bucket(struct output *o, const struct bucket *b)
{
	const struct vf_sorter *s = o->s;
	struct vf_buf *part = &o->part;
	uint32_t end;
	uint64_t len;
	int err = 0;

	if (!b->len) /* all in memory already */
		return b->end > b->first
			       ? put_sorted(o, &b->buf, b->first, b->end)
			       : 0;
	for (uint32_t i = b->first; !err && i < b->end; i = end) {
		end = fit_leaves(s, b, i, &len);
		if (len > s->opt.ram / 2) { /* one leaf: in order as it is */
			err = visit_bucket(s, b, i, end, put_visited, o);
			continue;
		}
		part->len = 0;
		if (vf_buf_reserve(part, len))
			return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		err = i == b->first && end == b->end
			      ? read_file(s, b, 0, b->len, part)
			      : visit_bucket(s, b, i, end, gather_visited,
					     part);
		if (!err && len)
			err = put_sorted(o, part, i, end);
	}
	return err;
}

int vf_sorter_run(struct vf_sorter *s, const uint64_t *cuts, size_t n_cuts,
		  int (*consume)(void *arg, const struct vf_chunk *c),
		  void *arg)
{
	struct output o = {.s = s,
			   .cuts = cuts,
			   .n_cuts = n_cuts,
			   .consume = consume,
			   .arg = arg};
	int err = open_output(&o);

	/* What is half on disk goes there whole: memory is for reading it. */
	for (size_t i = 0; !err && i < s->n_buckets; i++)
		if (s->buckets[i].len) {
			err = write_out(s, &s->buckets[i]);
			vf_buf_fini(&s->buckets[i].buf);
		}
	for (size_t i = 0; !err && i < s->n_buckets; i++) {
		struct bucket *b = &s->buckets[i];
		err = put_bucket(&o, b);
		vf_buf_fini(&b->buf);
		if (b->fd >= 0)
			close(b->fd);
		b->fd = -1;
		b->len = 0;
	}
	if (!err)
		err = flush_output(&o);
	int consumed = close_output(&o);
	return err ? err : consumed;
}
