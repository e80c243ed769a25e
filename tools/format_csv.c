/*
 * Comma-separated values (RFC 4180), a line per row.  The first line names the
 * columns: "key" (or "id"), "metadata" (a JSON object), every other one is an
 * element of the vector; without names, a first column that is no number is
 * the key.  Quoted fields end on their line.  In a file of texts the columns are
 * named, and those that are wanted for nothing are passed over.
 */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>

#include "tools/format.h"

enum { COLUMNS_MAX = VF_DIM_MAX + 2, NONE = UINT32_MAX };

struct field {
	const char *at; /* quotes stripped; "" inside are still double */
	size_t len;
	bool quoted;
};

struct csv {
	struct vf_line_table table;
	uint32_t key, metadata, words; /* columns, or NONE */
	uint32_t n_columns;
	struct field *fields; /* [n_columns + 1] of the last row */
	bool any;
	uint64_t row;
};

/* ---- one line ---------------------------------------------------------------------- */

/* The field at *at; moves behind its comma.  NULL or what is wrong. */
static const char *next_field(const char **at, const char *end,
			      struct field *out)
{
	const char *s = *at, *comma;

	out->quoted = s < end && *s == '"';
	if (!out->quoted) {
		comma = memchr(s, ',', (size_t)(end - s));
		out->at = s;
		out->len = (size_t)((comma ? comma : end) - s);
		*at = comma ? comma + 1 : end + 1;
		return NULL;
	}
	out->at = ++s;
	while (s < end && (*s != '"' || (s + 1 < end && s[1] == '"')))
		s += *s == '"' ? 2 : 1;
	if (s >= end)
		return "has a quoted field that does not end on it";
	out->len = (size_t)(s - out->at);
	if (s + 1 < end && s[1] != ',')
		return "has text behind a closing quote";
	*at = s + 2;
	return NULL;
}

/* Up to @max fields; *out_n how many there are. */
static const char *split_line(const char *line, size_t len,
			      struct field *fields, size_t max, size_t *out_n)
{
	const char *end, *at = line, *why;

	while (len && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	end = line + len;
	for (*out_n = 0; at <= end; ++*out_n) {
		if (*out_n == max)
			return "has more columns than the first";
		why = next_field(&at, end, &fields[*out_n]);
		if (why)
			return why;
	}
	return NULL;
}

/* strtod does not stop at the end of a field, but a comma stops it. */
static bool parse_number(const struct field *f, float *out)
{
	char text[64], *end;
	double d;

	if (!f->len || f->len >= sizeof(text))
		return false;
	memcpy(text, f->at, f->len);
	text[f->len] = '\0';
	d = strtod(text, &end);
	while (isspace((unsigned char)*end))
		end++;
	*out = (float)d;
	return !*end && end != text && fabs(d) <= 3.4028235677973366e38;
}

static bool is_named(const struct field *f, const char *name)
{
	return f->len == strlen(name) && !strncasecmp(f->at, name, f->len);
}

/* ---- reading ------------------------------------------------------------------------- */

/* Text of at least three columns in its first line. */
static bool probe_csv(const struct vf_format_head *h)
{
	size_t commas = 0, i;

	for (i = 0; i < h->n && h->p[i] != '\n'; i++) {
		if (h->p[i] < ' ' && h->p[i] != '\t' && h->p[i] != '\r')
			return false;
		commas += h->p[i] == ',';
	}
	return i && commas >= 1;
}

static int refuse_line(const struct vf_intake *in, uint64_t row,
		       const char *why)
{
	const struct csv *c = in->own;

	return vf_fail(-EINVAL, "%s: line %" PRIu64 " %s", in->name,
		       c->table.first + row + 1, why);
}

/* What the columns are, from the first line; *out_names: it names them. */
static int learn_columns(struct vf_intake *in, const char *line, size_t len,
			 bool *out_names)
{
	struct csv *c = in->own;
	size_t n;
	float x;
	const char *why = split_line(line, len, c->fields, COLUMNS_MAX, &n);

	if (why)
		return refuse_line(in, 0, why);
	c->key = c->metadata = c->words = NONE;
	c->n_columns = (uint32_t)n;
	*out_names = false;
	for (uint32_t i = 0; i < n; i++) {
		const struct field *f = &c->fields[i];
		if (is_named(f, "key") || is_named(f, "id"))
			c->key = i;
		else if (is_named(f, "metadata"))
			c->metadata = i;
		else if (in->words && is_named(f, in->words))
			c->words = i;
		*out_names |= i && !parse_number(f, &x);
	}
	if (in->words && c->words == NONE)
		return vf_fail(-EINVAL, "%s: line 1 names no column \"%s\"",
			       in->name, in->words);
	*out_names |= c->key != NONE || c->metadata != NONE || in->words;
	if (!*out_names && !parse_number(&c->fields[0], &x))
		c->key = 0;
	in->has_keys = c->key != NONE;
	in->has_metadata = c->metadata != NONE;
	if (!in->words)
		in->dim = c->n_columns - in->has_keys - in->has_metadata;
	return 0;
}

static int open_csv(struct vf_intake *in)
{
	struct csv *c = in->own = calloc(1, sizeof(*c));
	const char *line;
	size_t len;
	bool names = false;
	int fd = in->fd;

	if (!c)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	in->fd = -1;
	c->fields = malloc((COLUMNS_MAX + 1) * sizeof(*c->fields));
	int err = vf_line_table_open(fd, in->name, 0, &c->table);
	if (!err && !c->fields)
		err = vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	if (err || !c->table.n)
		return err;
	err = vf_line_table_get(&c->table, 0, &line, &len);
	if (!err)
		err = learn_columns(in, line, len, &names);
	if (err)
		return err;
	/* A line of names is no row. */
	if (names) {
		c->table.n--;
		c->table.first = 1;
		memmove(c->table.offs, c->table.offs + 1,
			c->table.n * sizeof(*c->table.offs));
	}
	in->n_rows = c->table.n;
	return 0;
}

static int parse_row(struct vf_intake *in, uint64_t row)
{
	struct csv *c = in->own;
	const char *line;
	size_t len, n;

	if (c->any && c->row == row)
		return 0;
	c->any = false;
	int err = vf_line_table_get(&c->table, row, &line, &len);
	if (err)
		return err;
	const char *why = split_line(line, len, c->fields, c->n_columns, &n);
	if (!why && n < c->n_columns)
		why = "has fewer columns than the first";
	if (why)
		return refuse_line(in, row, why);
	c->any = true;
	c->row = row;
	return 0;
}

static int take_vector(struct vf_intake *in, uint64_t row, float *x)
{
	const struct csv *c = in->own;

	for (uint32_t i = 0; i < c->n_columns; i++)
		if (i != c->key && i != c->metadata &&
		    !parse_number(&c->fields[i], x++))
			return vf_fail(-EINVAL,
				       "%s: line %" PRIu64
				       ", column %u: no float32",
				       in->name, c->table.first + row + 1,
				       i + 1);
	return 0;
}

static int read_csv(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		err = parse_row(in, row + i);
		if (!err)
			err = take_vector(in, row + i, x + i * in->dim);
	}
	return err;
}

static int append_field(const struct field *f, struct vf_buf *out)
{
	int err = vf_buf_reserve(out, f->len + 1);

	for (size_t i = 0; !err && i < f->len; i++) {
		out->data[out->len++] = (uint8_t)f->at[i];
		i += f->quoted && f->at[i] == '"';
	}
	return err;
}

static int text_csv(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		    struct vf_buf *metadata)
{
	const struct csv *c = in->own;
	int err = parse_row(in, row);

	if (!err && c->key != NONE)
		err = append_field(&c->fields[c->key], key);
	if (!err && c->metadata != NONE)
		err = append_field(&c->fields[c->metadata], metadata);
	return err;
}

static int words_csv(struct vf_intake *in, uint64_t row, struct vf_buf *out)
{
	const struct csv *c = in->own;
	int err = parse_row(in, row);

	if (err)
		return err;
	err = append_field(&c->fields[c->words], out);
	return err ? vf_fail(err, "%s: %s", in->name, vf_strerror(err)) : 0;
}

static void close_csv(struct vf_intake *in)
{
	struct csv *c = in->own;

	if (!c)
		return;
	vf_line_table_close(&c->table);
	free(c->fields);
	free(c);
}

/* ---- writing ----------------------------------------------------------------------------- */

static int create_csv(struct vf_outlet *out)
{
	fputs("key,metadata", out->stream);
	for (uint32_t i = 0; i < out->dim; i++)
		fprintf(out->stream, ",x%u", i);
	fputc('\n', out->stream);
	return 0;
}

static void put_quoted(FILE *to, const char *s, size_t len)
{
	fputc('"', to);
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '"')
			fputc('"', to);
		fputc(s[i], to);
	}
	fputc('"', to);
}

static int write_csv(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	if (memchr(row->key, '\n', row->key_len))
		return vf_outlet_refuse(out, row,
					"holds a line break, which our CSV "
					"does not");
	put_quoted(out->stream, row->key, row->key_len);
	fputc(',', out->stream);
	put_quoted(out->stream, row->metadata, row->metadata_len);
	for (uint32_t i = 0; i < out->dim; i++)
		fprintf(out->stream, ",%.9g", (double)row->x[i]);
	fputc('\n', out->stream);
	return vf_outlet_check_stream(out);
}

const struct vf_format vf_format_csv = {
	.name = "csv",
	.holds = "keys, metadata, vectors (9 digits: exact)",
	.keeps_keys = true,
	.keeps_metadata = true,
	.by_row = true,
	.probe = probe_csv,
	.open = open_csv,
	.rows = read_csv,
	.text = text_csv,
	.words = words_csv,
	.close = close_csv,
	.create = create_csv,
	.write = write_csv,
};
