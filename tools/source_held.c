/* Rows in memory as a source; their lines stay as they are. */
#include "tools/source_held.h"

#include "tools/rows.h"

struct held {
	struct vf_source base;
	const struct vf_upsert *rows; /* borrowed */
	size_t off;		      /* of the lines not claimed yet */
};

static struct held *of(struct vf_source *s)
{
	return (struct held *)s;
}

static const uint8_t *row_at(struct vf_source *s, uint64_t row)
{
	return of(s)->rows->vectors + row * s->raw_len;
}

static int held_sample(struct vf_source *s, size_t max, float *out,
		       size_t *out_n)
{
	size_t n = (size_t)VF_MIN(s->n_rows, (uint64_t)max);

	for (size_t i = 0; i < n; i++)
		vf_rows_to_f32(s->dtype, row_at(s, i * s->n_rows / n), s->dim,
			       out + i * s->dim);
	*out_n = n;
	return 0;
}

static void held_rewind(struct vf_source *s)
{
	of(s)->off = 0;
}

static int held_claim(struct vf_source *s, struct vf_chunk *c)
{
	struct held *h = of(s);

	for (size_t i = 0; i < c->n; i++) {
		size_t len = vf_le32(h->rows->line_lens + 4 * (c->row + i));
		c->bodies[i] = (struct vf_span){h->off, len};
		h->off += len;
	}
	return 0;
}

static int held_fill(struct vf_source *s, struct vf_chunk *c)
{
	void *to = s->dtype == VF_F32 ? (void *)c->x : c->raw;
	const char *lines = of(s)->rows->lines;
	VF_AUTO_BUF struct vf_buf key = {0};
	int err = 0;

	memcpy(to, row_at(s, c->row), c->n * s->raw_len);
	if (to != c->x)
		vf_rows_to_f32(s->dtype, to, c->n * s->dim, c->x);
	c->lines.len = 0;
	for (size_t i = 0; !err && i < c->n; i++) {
		const struct vf_span *b = &c->bodies[i];
		err = vf_chunk_describe_line(c, i, lines + b->off, b->len,
					     &key);
		if (!err)
			err = vf_buf_append(&c->lines, lines + b->off, b->len);
	}
	return err ? vf_chunk_fail(c, err, "%s: a record line: %s", s->name,
				   vf_strerror(err))
		   : 0;
}

static int held_take(struct vf_source *s, const uint32_t *rows, size_t n,
		     void *out)
{
	for (size_t i = 0; i < n; i++)
		memcpy((uint8_t *)out + i * s->raw_len, row_at(s, rows[i]),
		       s->raw_len);
	return 0;
}

static int held_finish(struct vf_source *s)
{
	return 0;
}

/* Nobody asks: keys come once. */
static int held_key_at(struct vf_source *s, uint64_t row, char **out_key,
		       size_t *out_len)
{
	return -ENOTSUP;
}

static void held_free(struct vf_source *s)
{
	free(of(s));
}

static const struct vf_source_ops held_ops = {.sample = held_sample,
					      .rewind = held_rewind,
					      .claim = held_claim,
					      .fill = held_fill,
					      .take = held_take,
					      .finish = held_finish,
					      .key_at = held_key_at,
					      .free = held_free};

int vf_source_held_open(const char *name, const struct vf_index_config *config,
			const struct vf_upsert *rows, struct vf_source **out)
{
	struct held *h = calloc(1, sizeof(*h));

	*out = NULL;
	if (!h)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	h->base = (struct vf_source){.ops = &held_ops,
				     .name = name,
				     .dim = config->dim,
				     .n_rows = rows->n_rows,
				     .dtype = config->dtype,
				     .raw_len = rows->row_len,
				     .has_keys = true};
	h->rows = rows;
	*out = &h->base;
	return 0;
}
