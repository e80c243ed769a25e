/*
 * Index files of FAISS that hold vectors as they are: flat ones, alone or below
 * a map of ids.  Little-endian, no padding:
 *
 *   header   char[4] "IxFI" (inner product), "IxF2" (L2), "IxFl" (other),
 *            i32 dimension, i64 rows, i64 twice 2^20, u8 trained,
 *            i32 metric (0 inner product, 1 L2), f32 its argument when > 1
 *   flat     header, u64 floats, float[rows][dimension]
 *   id map   header with "IxMp" or "IxM2", flat, u64 rows, i64[rows]
 */
#include <inttypes.h>

#include "tools/format.h"

enum {
	HEADER_LEN = 33,
	HEADERS_MAX = 2 * (HEADER_LEN + 4) + 8,
	METRIC_DOT = 0,
	METRIC_L2 = 1,
	DUMMY = 1 << 20,
};

struct header {
	char kind[4];
	uint32_t dim;
	uint64_t n_rows;
	int32_t metric;
	size_t len;
};

struct faiss {
	struct vf_grid grid;
	uint64_t ids_off; /* 0: rows have no ids */
};

static bool is_kind(const char *kind, const char *name)
{
	return !memcmp(kind, name, 4);
}

static bool is_flat(const char *kind)
{
	return is_kind(kind, "IxFI") || is_kind(kind, "IxF2") ||
	       is_kind(kind, "IxFl");
}

static bool is_map(const char *kind)
{
	return is_kind(kind, "IxMp") || is_kind(kind, "IxM2");
}

/* Any index file, so that one of another kind is called by its name. */
static bool probe_faiss(const struct vf_format_head *h)
{
	return h->n >= HEADER_LEN && h->p[0] == 'I' &&
	       (h->p[1] == 'x' || h->p[1] == 'w' || h->p[1] == 'H' ||
		h->p[1] == 'v') &&
	       vf_le64(h->p + 16) == DUMMY && vf_le64(h->p + 24) == DUMMY;
}

/* ---- reading --------------------------------------------------------------------- */

static bool parse_header(const uint8_t *p, size_t n, struct header *out)
{
	if (n < HEADER_LEN + 4)
		return false;
	memcpy(out->kind, p, 4);
	out->dim = vf_le32(p + 4);
	out->n_rows = vf_le64(p + 8);
	out->metric = (int32_t)vf_le32(p + 33);
	out->len = out->metric > 1 ? HEADER_LEN + 8 : HEADER_LEN + 4;
	return out->len <= n && out->n_rows <= INT64_MAX;
}

static const char *find_ids(const struct vf_intake *in, struct faiss *f)
{
	uint64_t off = f->grid.off + in->n_rows * f->grid.stride;
	uint8_t b[8];

	if (off > in->len || in->len - off < 8 ||
	    vf_pread_all(in->fd, b, 8, off))
		return "is cut short before its ids";
	if (vf_le64(b) != in->n_rows)
		return "has another number of ids than of rows";
	if ((in->len - off - 8) / 8 < in->n_rows)
		return "is cut short within its ids";
	f->ids_off = off + 8;
	return NULL;
}

static const char *find_rows(struct vf_intake *in, struct faiss *f)
{
	uint8_t head[HEADERS_MAX + 16];
	size_t n = (size_t)VF_MIN(in->len, (uint64_t)sizeof(head)), at = 0;
	struct header h, outer = {0};
	uint64_t floats;

	if (vf_pread_all(in->fd, head, n, 0) || !parse_header(head, n, &h))
		return "is cut short within its header";
	if (is_map(h.kind)) {
		outer = h;
		at = h.len;
		if (!parse_header(head + at, n - at, &h))
			return "is cut short within its header";
	}
	if (!is_flat(h.kind))
		return "an index of FAISS that does not hold vectors as they "
		       "are; flat ones and id maps of them do";
	at += h.len;
	if (n - at < 8)
		return "is cut short within its header";
	floats = vf_le64(head + at);
	if (h.dim < 1 || h.dim > VF_DIM_MAX || floats / h.dim != h.n_rows ||
	    floats % h.dim)
		return "its sizes do not agree";
	if (at != h.len && (outer.dim != h.dim || outer.n_rows != h.n_rows))
		return "its sizes do not agree";
	in->dim = h.dim;
	in->n_rows = h.n_rows;
	in->has_metric = h.metric == METRIC_DOT || h.metric == METRIC_L2;
	in->metric = h.metric == METRIC_DOT ? VF_DOT : VF_EUCLIDEAN;
	f->grid = (struct vf_grid){.fd = in->fd,
				   .off = at + 8,
				   .stride = h.dim * sizeof(float),
				   .element = VF_EL_F32,
				   .dim = h.dim};
	const char *why = vf_grid_check(&f->grid, in->n_rows, in->len);
	return why || !outer.dim ? why : find_ids(in, f);
}

static int open_faiss(struct vf_intake *in)
{
	struct faiss *f = in->own = calloc(1, sizeof(*f));

	if (!f)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	const char *why = find_rows(in, f);
	in->has_keys = f->ids_off != 0;
	return why ? vf_intake_refuse(in, why) : 0;
}

static int read_faiss(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	return vf_grid_rows(in->own, in->name, row, n, x);
}

static int read_id(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		   struct vf_buf *metadata)
{
	const struct faiss *f = in->own;
	uint8_t b[8];

	if (!f->ids_off)
		return 0;
	int err = vf_pread_all(in->fd, b, 8, f->ids_off + 8 * row);
	if (!err)
		err = vf_buf_printf(key, "%" PRId64, (int64_t)vf_le64(b));
	return err ? vf_fail(err, "%s: id of row %" PRIu64 ": %s", in->name,
			     row, vf_strerror(err))
		   : 0;
}

static void close_faiss(struct vf_intake *in)
{
	free(in->own);
}

/* ---- writing ------------------------------------------------------------------------ */

/* FAISS has no cosine: rows of a cosine index go in as they are, under the
 * inner product, which is the same for rows of unit length. */
static size_t put_header(const struct vf_outlet *out, const char *kind,
			 uint8_t *to)
{
	bool l2 = out->metric == VF_EUCLIDEAN;

	memcpy(to, kind ? kind : l2 ? "IxF2" : "IxFI", 4);
	vf_put_le32(to + 4, out->dim);
	vf_put_le64(to + 8, out->n_rows);
	vf_put_le64(to + 16, DUMMY);
	vf_put_le64(to + 24, DUMMY);
	to[32] = 1;
	vf_put_le32(to + 33, l2 ? METRIC_L2 : METRIC_DOT);
	return HEADER_LEN + 4;
}

static uint64_t rows_off(const struct vf_outlet *out)
{
	return (out->keys ? 2 : 1) * (HEADER_LEN + 4) + 8;
}

static uint64_t ids_off(const struct vf_outlet *out)
{
	return rows_off(out) + out->n_rows * out->dim * sizeof(float);
}

static int create_faiss(struct vf_outlet *out)
{
	uint8_t head[HEADERS_MAX], b[8];
	size_t n = out->keys ? put_header(out, "IxMp", head) : 0;

	n += put_header(out, NULL, head + n);
	vf_put_le64(head + n, out->n_rows * out->dim);
	int err = vf_outlet_pwrite(out, head, n + 8, 0);
	vf_put_le64(b, out->n_rows);
	return err || !out->keys ? err
				 : vf_outlet_pwrite(out, b, 8, ids_off(out));
}

/* Only the one spelling that comes back from the number. */
static bool parse_id(const struct vf_outlet_row *row, int64_t *out)
{
	char text[24], again[24];
	char *end;

	if (row->key_len >= sizeof(text))
		return false;
	memcpy(text, row->key, row->key_len);
	text[row->key_len] = '\0';
	errno = 0;
	*out = strtoll(text, &end, 10);
	snprintf(again, sizeof(again), "%" PRId64, *out);
	return !errno && !strcmp(text, again);
}

static int write_faiss(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	size_t len = out->dim * sizeof(float);
	uint8_t b[8];
	int64_t id;
	int err = vf_outlet_pwrite(out, row->x, len,
				   rows_off(out) + row->at * len);

	if (err || !out->keys)
		return err;
	if (!parse_id(row, &id))
		return vf_outlet_refuse(out, row,
					"is no whole number, which ids of "
					"FAISS are; --keys FILE keeps keys "
					"beside it");
	vf_put_le64(b, (uint64_t)id);
	return vf_outlet_pwrite(out, b, 8, ids_off(out) + 8 + 8 * row->at);
}

const struct vf_format vf_format_faiss = {
	.name = "faiss",
	.holds = "vectors, keys that are whole numbers",
	.keeps_keys = true,
	.probe = probe_faiss,
	.open = open_faiss,
	.rows = read_faiss,
	.text = read_id,
	.close = close_faiss,
	.create = create_faiss,
	.write = write_faiss,
};
