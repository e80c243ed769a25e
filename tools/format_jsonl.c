/*
 * JSON lines, one object per row, as vectool get --json writes them:
 *
 *   {"key": "...", "metadata": {...}, "vector": [...]}
 *
 * Read as well: "id" for the key, "values" or "embedding" for the vector, keys
 * that are whole numbers, and no metadata.  Other members are passed over.
 * A file of texts has a string where another has the vector.
 */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>

#include "tools/format.h"
#include "tools/jsonl.h"
#include "tools/lines.h"

enum {
	PARSE = JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL |
		JSON_ALLOW_NUL
};

struct jsonl {
	struct vf_line_table table;
	/* The row parsed last. */
	bool any;
	uint64_t row;
	const char *line; /* of the table */
	size_t len;
	json_t *object;
	/* Its vector, when that was cut out of the line: then rest is line. */
	bool is_cut;
	float *x; /* [dim], once the first row has said what dim is */
	struct vf_buf rest;
};

static bool probe_jsonl(const struct vf_format_head *h)
{
	size_t i = vf_lines_mark_len(h->p, h->n);

	while (i < h->n && isspace(h->p[i]))
		i++;
	return i + 1 < h->n && h->p[i] == '{' &&
	       (h->p[i + 1] == '"' || isspace(h->p[i + 1]));
}

static int refuse_line(const struct vf_intake *in, uint64_t row,
		       const char *why)
{
	return vf_fail(-EINVAL, "%s: line %" PRIu64 " %s", in->name, row + 1,
		       why);
}

/* Numbers are most of a line, and jansson makes a value in memory of each. */
static int cut_vector(struct vf_intake *in)
{
	struct jsonl *j = in->own;
	struct vf_row_cut cut;
	int err = j->x ? vf_row_line_cut(j->line, j->len, in->dim, j->x,
					 &j->rest, &cut)
		       : -EINVAL;

	j->is_cut = !err;
	if (err == -ENOMEM)
		return vf_fail(err, "%s: %s", in->name, strerror(ENOMEM));
	if (!err) {
		j->line = (const char *)j->rest.data;
		j->len = j->rest.len;
	}
	return 0;
}

static int parse_row(struct vf_intake *in, uint64_t row)
{
	struct jsonl *j = in->own;
	json_error_t e;

	if (j->any && j->row == row)
		return 0;
	json_decref(VF_STEAL(j->object));
	j->any = false;
	int err = vf_line_table_get(&j->table, row, &j->line, &j->len);
	if (!err)
		err = cut_vector(in);
	if (err)
		return err;
	j->object = json_loadb(j->line, j->len, PARSE, &e);
	if (!j->object)
		return vf_fail(-EINVAL, "%s: line %" PRIu64 " is not JSON: %s",
			       in->name, row + 1, e.text);
	if (!json_is_object(j->object))
		return refuse_line(in, row, "is no object");
	j->any = true;
	j->row = row;
	return 0;
}

static const json_t *find_vector(const json_t *o)
{
	static const char *const names[] = {"vector", "values", "embedding"};

	for (size_t i = 0; i < VF_N(names); i++) {
		json_t *v = json_object_get(o, names[i]);
		if (json_is_array(v))
			return v;
	}
	return NULL;
}

static int open_jsonl(struct vf_intake *in)
{
	struct jsonl *j = in->own = calloc(1, sizeof(*j));
	int fd = in->fd;

	if (!j)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	in->fd = -1;
	int err = vf_line_table_open(fd, in->name, 0, &j->table);
	in->n_rows = j->table.n;
	if (err || !in->n_rows)
		return err;
	err = parse_row(in, 0);
	if (err)
		return err;
	const json_t *v = in->words ? NULL : find_vector(j->object);
	if (!v && !in->words)
		return refuse_line(in, 0,
				   "has no list \"vector\" (nor \"values\", "
				   "\"embedding\")");
	in->dim = (uint32_t)VF_MIN(json_array_size(v), (size_t)UINT32_MAX);
	in->has_keys = json_object_get(j->object, "key") ||
		       json_object_get(j->object, "id");
	in->has_metadata = true;
	if (in->dim < VF_DIM_MIN || in->dim > VF_DIM_MAX)
		return 0; /* refused by who called */
	j->x = malloc(in->dim * sizeof(float));
	return j->x ? 0
		    : vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
}

static int take_vector(struct vf_intake *in, uint64_t row, float *x)
{
	const struct jsonl *j = in->own;
	const json_t *v = find_vector(j->object);

	if (j->is_cut) {
		memcpy(x, j->x, in->dim * sizeof(float));
		return 0;
	}
	if (!v)
		return refuse_line(in, row, "has no list \"vector\"");
	if (json_array_size(v) != in->dim)
		return vf_fail(-EINVAL,
			       "%s: line %" PRIu64
			       " has a vector of %zu elements, the first has "
			       "%u",
			       in->name, row + 1, json_array_size(v), in->dim);
	for (uint32_t i = 0; i < in->dim; i++) {
		const json_t *e = json_array_get(v, i);
		double d = json_number_value(e);
		if (!json_is_number(e) || fabs(d) > 3.4028235677973366e38)
			return refuse_line(in, row,
					   "has a vector with something that "
					   "is no float32");
		x[i] = (float)d;
	}
	return 0;
}

static int read_jsonl(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		err = parse_row(in, row + i);
		if (!err)
			err = take_vector(in, row + i, x + i * in->dim);
	}
	return err;
}

static int take_key(struct vf_intake *in, struct vf_buf *key)
{
	const struct jsonl *j = in->own;
	const char *name = json_object_get(j->object, "key") ? "key" : "id";
	const json_t *k = json_object_get(j->object, name);
	size_t len = 0, digits;

	if (json_is_string(k))
		return vf_buf_append(key, json_string_value(k),
				     json_string_length(k));
	const char *s = json_is_number(k)
				? vf_json_member(j->line, j->len, name, &len)
				: NULL;
	while (s && len && isspace((unsigned char)*s))
		s++, len--;
	while (s && len && isspace((unsigned char)s[len - 1]))
		len--;
	digits = s && len && *s == '-';
	while (s && digits < len && isdigit((unsigned char)s[digits]))
		digits++;
	if (!s || !len || digits < len)
		return refuse_line(in, j->row,
				   "has a \"key\" that is neither text nor a "
				   "whole number");
	return vf_buf_append(key, s, len);
}

static int text_jsonl(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		      struct vf_buf *metadata)
{
	const struct jsonl *j = in->own;
	int err = parse_row(in, row);

	if (!err && in->has_keys)
		err = take_key(in, key);
	const json_t *m = err ? NULL : json_object_get(j->object, "metadata");
	if (!m || json_is_null(m))
		return err;
	size_t len = 0;
	const char *s = vf_json_member(j->line, j->len, "metadata", &len);
	if (!s)
		return refuse_line(in, row, "spells \"metadata\" with escapes");
	return vf_buf_append(metadata, s, len);
}

static int words_jsonl(struct vf_intake *in, uint64_t row, struct vf_buf *out)
{
	const struct jsonl *j = in->own;
	int err = parse_row(in, row);
	const json_t *t = err ? NULL : json_object_get(j->object, in->words);

	if (err)
		return err;
	if (!json_is_string(t))
		return vf_fail(-EINVAL,
			       "%s: line %" PRIu64 " has no string \"%s\"",
			       in->name, row + 1, in->words);
	err = vf_buf_append(out, json_string_value(t), json_string_length(t));
	return err ? vf_fail(err, "%s: %s", in->name, vf_strerror(err)) : 0;
}

static void close_jsonl(struct vf_intake *in)
{
	struct jsonl *j = in->own;

	if (!j)
		return;
	json_decref(j->object);
	vf_buf_fini(&j->rest);
	free(j->x);
	vf_line_table_close(&j->table);
	free(j);
}

/* ---- writing ----------------------------------------------------------------------- */

static int write_jsonl(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	VF_AUTO_BUF struct vf_buf line = {0};
	int err = vf_record_line_append(row->key, row->key_len, row->metadata,
					row->metadata_len, &line);

	if (err)
		return vf_fail(err, "%s: %s", out->name, vf_strerror(err));
	/* The record line without its last brace, then the vector. */
	fwrite(line.data, 1, line.len - 2, out->stream);
	fputs(",\"vector\":", out->stream);
	for (uint32_t i = 0; i < out->dim; i++)
		fprintf(out->stream, "%c%.9g", i ? ',' : '[',
			(double)row->x[i]);
	fputs("]}\n", out->stream);
	return vf_outlet_check_stream(out);
}

const struct vf_format vf_format_jsonl = {
	.name = "jsonl",
	.holds = "keys, metadata, vectors (9 digits: exact)",
	.keeps_keys = true,
	.keeps_metadata = true,
	.by_row = true,
	.probe = probe_jsonl,
	.open = open_jsonl,
	.rows = read_jsonl,
	.text = text_jsonl,
	.words = words_jsonl,
	.close = close_jsonl,
	.write = write_jsonl,
};
