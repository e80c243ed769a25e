/*
 * The table of formats, and what those made of fixed-length rows share.
 */
#include "tools/format.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "tools/lines.h"
#include "tools/rows.h"

/*
 * Those with a magic come first; the vecs have none and are told from lengths
 * that agree; text comes last.
 */
const struct vf_format *const vf_formats[] = {
	&vf_format_npy,	  &vf_format_npz,
	&vf_format_hdf5,  &vf_format_faiss,
	&vf_format_jsonl, &vf_format_fvecs,
	&vf_format_bvecs, &vf_format_ivecs,
	&vf_format_csv,	  NULL};

const struct vf_format *vf_format_find(const char *name)
{
	for (size_t i = 0; vf_formats[i]; i++)
		if (!strcasecmp(vf_formats[i]->name, name))
			return vf_formats[i];
	if (!strcasecmp(name, "h5"))
		return &vf_format_hdf5;
	if (!strcasecmp(name, "index"))
		return &vf_format_faiss;
	if (!strcasecmp(name, "json") || !strcasecmp(name, "ndjson"))
		return &vf_format_jsonl;
	return NULL;
}

const struct vf_format *vf_format_of_file(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && !strchr(dot, '/') ? vf_format_find(dot + 1) : NULL;
}

/* ---- intakes ---------------------------------------------------------------------- */

int vf_intake_refuse(const struct vf_intake *in, const char *why)
{
	return vf_fail(-EINVAL, "%s: %s", in->name, why);
}

static int read_head(struct vf_intake *in, struct vf_format_head *h)
{
	struct stat st;

	if (fstat(in->fd, &st))
		return vf_fail(-errno, "%s: %s", in->name, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return vf_intake_refuse(in, S_ISDIR(st.st_mode)
						    ? "is a folder"
						    : "not a regular file");
	if (!st.st_size)
		return vf_intake_refuse(in, "is empty");
	h->len = in->len = (uint64_t)st.st_size;
	h->fd = in->fd;
	h->n = (size_t)VF_MIN(h->len, (uint64_t)VF_FORMAT_HEAD_LEN);
	h->p[h->n] = '\0';
	int err = vf_pread_all(in->fd, h->p, h->n, 0);
	return err ? vf_fail(err, "%s: %s", in->name, vf_strerror(err)) : 0;
}

/* A name that promises another format than the content is a mistake. */
static int check_name(const struct vf_intake *in)
{
	const struct vf_format *named = vf_format_of_file(in->name);

	if (!named || named == in->format)
		return 0;
	return vf_fail(-EINVAL, "%s: named as %s, but its content is %s%s",
		       in->name, named->name,
		       in->format ? in->format->name : "of no known format",
		       !in->format && named->doubt ? named->doubt : "");
}

static int probe_all(struct vf_intake *in)
{
	struct vf_format_head h;
	int err = read_head(in, &h);

	for (size_t i = 0; !err && !in->format && vf_formats[i]; i++)
		if (vf_formats[i]->probe(&h))
			in->format = vf_formats[i];
	if (!err)
		err = check_name(in);
	if (!err && !in->format)
		err = vf_intake_refuse(in, "none of the formats that are known "
					   "(see: vectool help import)");
	return err;
}

static int open_rows(struct vf_intake *in)
{
	int err = in->format->open(in);

	if (!err && !in->n_rows)
		err = vf_intake_refuse(in, "holds no rows");
	if (!err && !in->words &&
	    (in->dim < VF_DIM_MIN || in->dim > VF_DIM_MAX))
		err = vf_fail(-EINVAL,
			      "%s: rows have %u elements; %d to %d are "
			      "possible",
			      in->name, in->dim, VF_DIM_MIN, VF_DIM_MAX);
	return err;
}

int vf_intake_open(int fd, const char *name, const char *part,
		   struct vf_intake *out)
{
	*out = (struct vf_intake){.fd = fd, .name = name, .part = part};
	int err = probe_all(out);

	if (!err)
		err = open_rows(out);
	if (err)
		vf_intake_close(out);
	return err;
}

int vf_intake_open_texts(int fd, const char *name, const char *words,
			 struct vf_intake *out)
{
	*out = (struct vf_intake){.fd = fd, .name = name, .words = words};
	int err = probe_all(out);

	if (!err && !out->format->words)
		err = vf_fail(-EINVAL,
			      "%s: is %s, which holds no texts; JSON lines and "
			      "CSV do",
			      name, out->format->name);
	if (!err)
		err = open_rows(out);
	if (err)
		vf_intake_close(out);
	return err;
}

void vf_intake_close(struct vf_intake *in)
{
	if (in->format)
		in->format->close(in);
	if (in->fd >= 0)
		close(in->fd);
	*in = (struct vf_intake){.fd = -1};
}

int vf_intake_rows(struct vf_intake *in, uint64_t row, size_t n, float *out)
{
	return in->format->rows(in, row, n, out);
}

int vf_intake_text(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		   struct vf_buf *metadata)
{
	return in->format->text ? in->format->text(in, row, key, metadata) : 0;
}

int vf_intake_words(struct vf_intake *in, uint64_t row, struct vf_buf *out)
{
	return in->format->words(in, row, out);
}

int vf_outlet_begin(struct vf_outlet *out)
{
	return out->format->create ? out->format->create(out) : 0;
}

int vf_outlet_finish(struct vf_outlet *out)
{
	return out->format->finish ? out->format->finish(out) : 0;
}

void vf_outlet_discard(struct vf_outlet *out)
{
	if (out->format->discard)
		out->format->discard(out);
}

int vf_outlet_check_stream(const struct vf_outlet *out)
{
	return ferror(out->stream)
		       ? vf_fail(-errno, "%s: %s", out->name, strerror(errno))
		       : 0;
}

int vf_outlet_write(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	return out->format->write(out, row);
}

int vf_outlet_pwrite(const struct vf_outlet *out, const void *p, size_t len,
		     uint64_t off)
{
	int err = vf_pwrite_all(out->fd, p, len, off);

	return err ? vf_fail(err, "%s: %s", out->name, vf_strerror(err)) : 0;
}

int vf_outlet_refuse(const struct vf_outlet *out,
		     const struct vf_outlet_row *row, const char *why)
{
	return vf_fail(-EINVAL, "%s: key \"%.*s\": %s", out->name,
		       (int)row->key_len, row->key, why);
}

/* ---- lines ------------------------------------------------------------------------- */

enum { LINE_MAX_LEN = 16 << 20 };

static int note_line(struct vf_line_table *t, uint64_t *cap, uint64_t off)
{
	if (t->n == *cap) {
		uint64_t more = *cap ? 2 * *cap : 4096;
		uint64_t *p = realloc(t->offs, more * sizeof(*p));
		if (!p)
			return -ENOMEM;
		t->offs = p;
		*cap = more;
	}
	t->offs[t->n++] = off;
	return 0;
}

int vf_line_table_open(int fd, const char *name, uint64_t first,
		       struct vf_line_table *out)
{
	uint64_t cap = 0;
	const char *line = NULL;
	size_t len;

	*out = (struct vf_line_table){.first = first};
	int err = vf_lines_open_fd(fd, name, LINE_MAX_LEN, &out->lines);
	for (uint64_t i = 0; !err; i++) {
		err = vf_lines_next(out->lines, &line, &len);
		if (err || !line)
			break;
		if (i < first)
			continue;
		err = note_line(out, &cap, vf_lines_off(out->lines));
		if (err)
			vf_log(VF_ERROR, "%s: %s", name, vf_strerror(err));
	}
	if (!err && out->n)
		vf_lines_seek(out->lines, out->offs[0], first + 1);
	return err;
}

void vf_line_table_close(struct vf_line_table *t)
{
	vf_lines_close(t->lines);
	free(t->offs);
	*t = (struct vf_line_table){0};
}

int vf_line_table_get(struct vf_line_table *t, uint64_t row, const char **out,
		      size_t *out_len)
{
	if (vf_lines_number(t->lines) != t->first + row)
		vf_lines_seek(t->lines, t->offs[row], t->first + row + 1);
	int err = vf_lines_next(t->lines, out, out_len);
	if (!err && !*out)
		err = vf_fail(-EINVAL, "%s: it changed meanwhile",
			      vf_lines_name(t->lines));
	return err;
}

/* ---- elements ------------------------------------------------------------------------ */

static const struct {
	const char *descr;
	size_t size;
} elements[] = {
	[VF_EL_F32] = {"<f4", 4}, [VF_EL_F16] = {"<f2", 2},
	[VF_EL_F64] = {"<f8", 8}, [VF_EL_U8] = {"|u1", 1},
	[VF_EL_I8] = {"|i1", 1},  [VF_EL_U16] = {"<u2", 2},
	[VF_EL_I16] = {"<i2", 2}, [VF_EL_U32] = {"<u4", 4},
	[VF_EL_I32] = {"<i4", 4}, [VF_EL_U64] = {"<u8", 8},
	[VF_EL_I64] = {"<i8", 8},
};

size_t vf_element_size(enum vf_element e)
{
	return elements[e].size;
}

int vf_element_parse(const char *descr, enum vf_element *out)
{
	for (size_t i = 0; i < VF_N(elements); i++)
		if (!strcmp(elements[i].descr, descr)) {
			*out = (enum vf_element)i;
			return 0;
		}
	return -EINVAL;
}

static int64_t get_integer(enum vf_element e, const uint8_t *p)
{
	switch (e) {
	case VF_EL_U8:
		return p[0];
	case VF_EL_I8:
		return (int8_t)p[0];
	case VF_EL_U16:
		return vf_le16(p);
	case VF_EL_I16:
		return (int16_t)vf_le16(p);
	case VF_EL_U32:
		return vf_le32(p);
	case VF_EL_I32:
		return (int32_t)vf_le32(p);
	default:
		return (int64_t)vf_le64(p);
	}
}

static void doubles_to_f32(const uint8_t *p, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t bits = vf_le64(p + 8 * i);
		double d;
		memcpy(&d, &bits, 8);
		out[i] = (float)d;
	}
}

size_t vf_element_to_f32(enum vf_element e, const void *p, size_t n, float *out)
{
	const uint8_t *b = p;

	if (e == VF_EL_F32)
		memcpy(out, p, n * sizeof(float));
	else if (e == VF_EL_F16)
		vf_rows_to_f32(VF_F16, p, n, out);
	else if (e == VF_EL_F64)
		doubles_to_f32(b, n, out);
	else
		for (size_t i = 0; i < n; i++) {
			int64_t v = get_integer(e, b + i * elements[e].size);
			out[i] = (float)v;
			/* Beyond 2^53 no vector means an exact number. */
			if (v > INT64_C(1) << 53 || v < -(INT64_C(1) << 53) ||
			    (e == VF_EL_U64 && v < 0) || (int64_t)out[i] != v)
				return i;
		}
	return n;
}

int vf_element_refuse(const char *name, uint64_t row, enum vf_element e,
		      const void *p)
{
	uint64_t v = (uint64_t)get_integer(e, p);
	bool minus = e != VF_EL_U64 && v >> 63;

	return vf_fail(-EINVAL,
		       "%s: row %" PRIu64
		       " holds a number that float32 cannot: %s%" PRIu64,
		       name, row, minus ? "-" : "", minus ? -v : v);
}

/* ---- grids ----------------------------------------------------------------------------- */

const char *vf_grid_check(const struct vf_grid *g, uint64_t n_rows,
			  uint64_t len)
{
	uint64_t row_len = g->dim * vf_element_size(g->element), need;

	if (g->dim < VF_DIM_MIN || g->dim > VF_DIM_MAX)
		return "its rows have a length that no vector may have";
	if (!n_rows)
		return "holds no rows";
	if (VF_MUL(n_rows - 1, g->stride, &need) ||
	    VF_ADD(need, g->off, &need) || VF_ADD(need, row_len, &need) ||
	    need > len)
		return "is cut short: fewer bytes than its rows need";
	return NULL;
}

enum { GRID_BYTES = 1 << 20 }; /* of one read */

static int read_some(const struct vf_grid *g, const char *name, uint64_t row,
		     size_t n, uint8_t *buf, float *x)
{
	size_t row_len = g->dim * vf_element_size(g->element);
	int err = vf_pread_all(g->fd, buf, (n - 1) * g->stride + row_len,
			       g->off + row * g->stride);

	if (err)
		return vf_fail(err, "%s: row %" PRIu64 ": %s", name, row,
			       vf_strerror(err));
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = buf + i * g->stride;
		size_t at = vf_element_to_f32(g->element, p, g->dim,
					      x + i * g->dim);
		if (at < g->dim)
			return vf_element_refuse(
				name, row + i, g->element,
				p + at * vf_element_size(g->element));
	}
	return 0;
}

int vf_grid_rows(const struct vf_grid *g, const char *name, uint64_t row,
		 size_t n, float *x)
{
	size_t step = VF_MAX((size_t)1, (size_t)(GRID_BYTES / g->stride));
	VF_AUTO_FREE uint8_t *buf = malloc(VF_MIN(n, step) * g->stride);
	int err = 0;

	if (!buf)
		return vf_fail(-ENOMEM, "%s: %s", name, strerror(ENOMEM));
	for (size_t i = 0; !err && i < n; i += step)
		err = read_some(g, name, row + i, VF_MIN(step, n - i), buf,
				x + i * g->dim);
	return err;
}
