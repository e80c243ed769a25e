/*
 * NumPy's .npz: an archive of arrays.  We write two members,
 *
 *   vectors.npy     the rows
 *   records.jsonl   {"key":"...","metadata":{...}} per row, as in the bucket
 *
 * and read those, or a matrix of another name (the only one, or the one asked
 * for) with keys in keys.npy or ids.npy, as text or whole numbers.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "store/line.h"
#include "store/npy.h"
#include "tools/format.h"
#include "tools/jsonl.h"
#include "tools/rows.h"
#include "tools/scratchfile.h"
#include "tools/zip.h"

enum { HEAD_MAX = 1 << 16, KEY_LEN_MAX = 4 * VF_KEY_MAX };

enum key_kind { KEYS_NONE, KEYS_RECORDS, KEYS_NUMBERS, KEYS_BYTES, KEYS_UTF32 };

struct npz {
	struct vf_zip zip;
	struct vf_grid rows;
	enum key_kind kind;
	struct vf_line_table records;
	struct vf_grid keys; /* dim 1, or bytes of one text in stride */
};

/* ---- reading ------------------------------------------------------------------------- */

static bool probe_npz(const struct vf_format_head *h)
{
	return h->n >= 4 && vf_le32(h->p) == 0x04034b50;
}

static int open_member(struct vf_intake *in, const struct vf_zip_member *m,
		       int *out_fd, uint64_t *out_off, uint8_t *head, size_t *n)
{
	int err = vf_zip_extract(in->fd, in->len, in->name, m, out_fd, out_off);

	if (err)
		return err;
	*n = (size_t)VF_MIN(m->len, (uint64_t)HEAD_MAX);
	err = vf_pread_all(*out_fd, head, *n, *out_off);
	return err ? vf_fail(err, "%s: %s: %s", in->name, m->name,
			     vf_strerror(err))
		   : 0;
}

static bool is_array(const struct vf_zip_member *m)
{
	size_t n = strlen(m->name);

	return n > 4 && !strcmp(m->name + n - 4, ".npy");
}

static bool is_keys(const struct vf_zip_member *m)
{
	return !strcmp(m->name, "keys.npy") || !strcmp(m->name, "ids.npy");
}

/* The array that was asked for, that of ours, or the only one. */
static const struct vf_zip_member *find_vectors(const struct vf_intake *in,
						const struct vf_zip *z)
{
	const struct vf_zip_member *found = vf_zip_find(z, "vectors.npy");
	char name[VF_ZIP_NAME_MAX + 8];
	size_t n = 0;

	if (in->part) {
		snprintf(name, sizeof(name), "%.*s.npy", VF_ZIP_NAME_MAX,
			 in->part);
		return vf_zip_find(z, name);
	}
	for (size_t i = 0; !found && i < z->n; i++)
		if (is_array(&z->members[i]) && !is_keys(&z->members[i]))
			found = &z->members[i];
	for (size_t i = 0; found && i < z->n; i++)
		n += is_array(&z->members[i]) && !is_keys(&z->members[i]);
	return n == 1 || (found && !strcmp(found->name, "vectors.npy")) ? found
									: NULL;
}

static int open_vectors(struct vf_intake *in, struct npz *z, uint8_t *head)
{
	const struct vf_zip_member *m = find_vectors(in, &z->zip);
	uint64_t off = 0;
	size_t n = 0;

	if (!m && in->part)
		return vf_fail(-EINVAL, "%s: no array \"%s\" in it", in->name,
			       in->part);
	if (!m)
		return vf_intake_refuse(in,
					"no array \"vectors\", and not just "
					"one; --array NAME says which");
	int err = open_member(in, m, &z->rows.fd, &off, head, &n);
	if (err)
		return err;
	const char *why = vf_npy_grid(head, n, off, &z->rows, &in->n_rows);
	if (!why)
		why = vf_grid_check(&z->rows, in->n_rows, off + m->len);
	if (why)
		return vf_fail(-EINVAL, "%s: %s: %s", in->name, m->name, why);
	in->dim = z->rows.dim;
	in->is_half = z->rows.element == VF_EL_F16;
	return 0;
}

/* "<U12": code points of 4 bytes; "|S12": bytes; or whole numbers. */
static const char *learn_keys(const struct vf_intake *in, struct npz *z,
			      const uint8_t *head, size_t n, uint64_t off,
			      uint64_t len)
{
	struct vf_npy_array a;
	const char *why = "is cut short";

	if (vf_npy_parse_array(head, n, &a, &why))
		return why;
	if (a.n_shape != 1 || a.shape[0] != in->n_rows)
		return "is not one key per row";
	bool wide = !strncmp(a.descr, "<U", 2);
	z->keys.off = off + a.data_off;
	if (wide || !strncmp(a.descr, "|S", 2)) {
		unsigned long width = strtoul(a.descr + 2, NULL, 10);
		if (!width || width > KEY_LEN_MAX)
			return "its keys are too long";
		z->kind = wide ? KEYS_UTF32 : KEYS_BYTES;
		z->keys.stride = width * (wide ? 4 : 1);
	} else if (!vf_element_parse(a.descr, &z->keys.element) &&
		   z->keys.element >= VF_EL_U8) {
		z->kind = KEYS_NUMBERS;
		z->keys.stride = vf_element_size(z->keys.element);
	} else {
		return "its keys are neither text nor whole numbers";
	}
	return a.data_off > len ||
			       (len - a.data_off) / z->keys.stride < in->n_rows
		       ? "is cut short"
		       : NULL;
}

static int open_keys(struct vf_intake *in, struct npz *z, uint8_t *head)
{
	const struct vf_zip_member *m = vf_zip_find(&z->zip, "keys.npy");
	uint64_t off = 0;
	size_t n = 0;

	if (!m)
		m = vf_zip_find(&z->zip, "ids.npy");
	if (!m)
		return 0;
	int err = open_member(in, m, &z->keys.fd, &off, head, &n);
	if (err)
		return err;
	const char *why = learn_keys(in, z, head, n, off, m->len);
	return why ? vf_fail(-EINVAL, "%s: %s: %s", in->name, m->name, why) : 0;
}

/* Lines are read from a file of their own: the archive goes on behind them. */
static int copy_out(struct vf_intake *in, int *fd, uint64_t off, uint64_t len)
{
	VF_AUTO_FREE uint8_t *buf = malloc(HEAD_MAX);
	VF_AUTO_FD int to = -1;
	int err = buf ? vf_scratch_open(NULL, &to) : -ENOMEM;

	for (uint64_t at = 0; !err && at < len; at += HEAD_MAX) {
		size_t n = (size_t)VF_MIN(len - at, (uint64_t)HEAD_MAX);
		err = vf_pread_all(*fd, buf, n, off + at);
		if (!err)
			err = vf_pwrite_all(to, buf, n, at);
	}
	if (err)
		return vf_fail(err, "%s: %s", in->name, vf_strerror(err));
	close(*fd);
	*fd = to;
	to = -1;
	return 0;
}

static int open_records(struct vf_intake *in, struct npz *z, uint8_t *head)
{
	const struct vf_zip_member *m = vf_zip_find(&z->zip, "records.jsonl");
	uint64_t off = 0;
	size_t n = 0;
	int fd = -1;

	if (!m)
		return open_keys(in, z, head);
	int err = open_member(in, m, &fd, &off, head, &n);
	if (!err)
		err = copy_out(in, &fd, off, m->len);
	if (err) {
		if (fd >= 0)
			close(fd);
		return err;
	}
	z->kind = KEYS_RECORDS;
	in->has_metadata = true;
	err = vf_line_table_open(fd, in->name, 0, &z->records);
	if (!err && z->records.n != in->n_rows)
		err = vf_fail(-EINVAL,
			      "%s: records.jsonl has %" PRIu64
			      " lines for %" PRIu64 " rows",
			      in->name, z->records.n, in->n_rows);
	return err;
}

static int open_npz(struct vf_intake *in)
{
	struct npz *z = in->own = calloc(1, sizeof(*z));
	VF_AUTO_FREE uint8_t *head = malloc(HEAD_MAX);
	const char *why;

	if (!z || !head)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	z->rows.fd = z->keys.fd = -1;
	int err = vf_zip_open(in->fd, in->len, &z->zip, &why);
	if (err)
		return vf_fail(err, "%s: %s", in->name,
			       err == -EINVAL ? why : vf_strerror(err));
	err = open_vectors(in, z, head);
	if (!err)
		err = open_records(in, z, head);
	in->has_keys = z->kind != KEYS_NONE;
	return err;
}

static int read_npz(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	const struct npz *z = in->own;

	return vf_grid_rows(&z->rows, in->name, row, n, x);
}

static int append_utf8(struct vf_buf *out, uint32_t c)
{
	char b[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -EINVAL;
	if (n == 1)
		b[0] = (char)c;
	else
		b[0] = (char)(0xf00 >> n | c >> 6 * (n - 1));
	for (size_t i = 1; i < n; i++)
		b[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
	return vf_buf_append(out, b, n);
}

static int append_number(struct vf_buf *out, enum vf_element e,
			 const uint8_t *p)
{
	size_t size = vf_element_size(e);
	bool is_signed = e == VF_EL_I8 || e == VF_EL_I16 || e == VF_EL_I32 ||
			 e == VF_EL_I64;
	uint8_t b[8];

	memset(b, is_signed && p[size - 1] & 0x80 ? 0xff : 0, 8);
	memcpy(b, p, size);
	return is_signed ? vf_buf_printf(out, "%" PRId64, (int64_t)vf_le64(b))
			 : vf_buf_printf(out, "%" PRIu64, vf_le64(b));
}

static int read_key(const struct npz *z, uint64_t row, struct vf_buf *out)
{
	size_t len = z->keys.stride;
	VF_AUTO_FREE uint8_t *b = malloc(len);
	int err = b ? vf_pread_all(z->keys.fd, b, len, z->keys.off + row * len)
		    : -ENOMEM;

	if (err)
		return err;
	if (z->kind == KEYS_NUMBERS)
		return append_number(out, z->keys.element, b);
	if (z->kind == KEYS_BYTES)
		return vf_buf_append(out, b, strnlen((char *)b, len));
	for (size_t i = 0; !err && i < len && vf_le32(b + i); i += 4)
		err = append_utf8(out, vf_le32(b + i));
	return err;
}

static int read_record(struct npz *z, uint64_t row, struct vf_buf *key,
		       struct vf_buf *metadata)
{
	VF_AUTO_BUF struct vf_buf whole = {0};
	struct vf_line line;
	const char *s;
	size_t len;
	int err = vf_line_table_get(&z->records, row, &s, &len);

	/* With its newline, which the split wants to see. */
	if (!err)
		err = vf_buf_append(&whole, s, len);
	if (!err)
		err = vf_buf_append(&whole, "\n", 1);
	if (!err)
		err = vf_line_split((char *)whole.data, whole.len, &line);
	if (!err)
		err = vf_line_key(&line, key);
	return err ? err
		   : vf_buf_append(metadata, line.metadata, line.metadata_len);
}

static int text_npz(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		    struct vf_buf *metadata)
{
	struct npz *z = in->own;
	int err = 0;

	if (z->kind == KEYS_RECORDS)
		err = read_record(z, row, key, metadata);
	else if (z->kind != KEYS_NONE)
		err = read_key(z, row, key);
	return err ? vf_fail(err == -EBADMSG ? -EINVAL : err,
			     "%s: the key of row %" PRIu64 ": %s", in->name,
			     row, vf_strerror(err))
		   : 0;
}

static void close_npz(struct vf_intake *in)
{
	struct npz *z = in->own;

	if (!z)
		return;
	if (z->rows.fd >= 0)
		close(z->rows.fd);
	if (z->keys.fd >= 0)
		close(z->keys.fd);
	vf_line_table_close(&z->records);
	vf_zip_close(&z->zip);
	free(z);
}

/* ---- writing ----------------------------------------------------------------------------- */

struct writing {
	struct vf_zip_member members[2]; /* vectors, records */
	uint64_t off;			 /* of the next row */
	FILE *records;			 /* a nameless file */
	struct vf_buf line;
	uint16_t half[VF_DIM_MAX];
};

static size_t npz_row_len(const struct vf_outlet *out)
{
	return out->dim * vf_dtype_size(out->is_half ? VF_F16 : VF_F32);
}

static int begin_vectors(struct vf_outlet *out, struct writing *w)
{
	struct vf_npy npy = {.dtype = out->is_half ? VF_F16 : VF_F32,
			     .n_rows = out->n_rows,
			     .dim = out->dim};
	uint8_t header[VF_NPY_DATA_OFF], zip[VF_ZIP_HEADER_MAX];
	struct vf_zip_member *m = &w->members[0];

	strcpy(m->name, "vectors.npy");
	m->len = m->stored_len =
		VF_NPY_DATA_OFF + out->n_rows * npz_row_len(out);
	w->off = vf_zip_header(m, zip);
	vf_npy_header(&npy, header);
	m->crc = vf_zip_crc(0, header, sizeof(header));
	int err = vf_outlet_pwrite(out, header, sizeof(header), w->off);
	w->off += sizeof(header);
	return err;
}

static int create_npz(struct vf_outlet *out)
{
	struct writing *w = out->own = calloc(1, sizeof(*w));
	int fd = -1;

	if (!w)
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	int err = vf_scratch_open(NULL, &fd);
	if (err)
		return err;
	w->records = fdopen(fd, "w+");
	if (!w->records) {
		close(fd);
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	}
	strcpy(w->members[1].name, "records.jsonl");
	return begin_vectors(out, w);
}

static int write_npz(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	struct writing *w = out->own;
	size_t len = npz_row_len(out);
	const void *x = row->x;

	if (out->is_half) {
		vf_rows_to_f16(row->x, out->dim, w->half);
		x = w->half;
	}
	w->members[0].crc = vf_zip_crc(w->members[0].crc, x, len);
	int err = vf_outlet_pwrite(out, x, len, w->off);
	w->off += len;
	w->line.len = 0;
	if (!err && out->keys)
		err = vf_record_line_append(row->key, row->key_len,
					    row->metadata, row->metadata_len,
					    &w->line);
	if (!err &&
	    fwrite(w->line.data, 1, w->line.len, w->records) != w->line.len)
		err = vf_fail(-errno, "%s: scratch file: %s", out->name,
			      strerror(errno));
	w->members[1].len += w->line.len;
	w->members[1].crc =
		vf_zip_crc(w->members[1].crc, w->line.data, w->line.len);
	return err;
}

static int copy_records(struct vf_outlet *out, struct writing *w)
{
	VF_AUTO_FREE uint8_t *buf = malloc(HEAD_MAX);
	size_t n;
	int err = buf ? 0 : -ENOMEM;

	rewind(w->records);
	while (!err && (n = fread(buf, 1, HEAD_MAX, w->records))) {
		err = vf_outlet_pwrite(out, buf, n, w->off);
		w->off += n;
	}
	if (!err && ferror(w->records))
		err = vf_fail(-EIO, "%s: scratch file: %s", out->name,
			      strerror(EIO));
	return err;
}

static int finish_npz(struct vf_outlet *out)
{
	struct writing *w = out->own;
	VF_AUTO_BUF struct vf_buf directory = {0};
	uint8_t header[VF_ZIP_HEADER_MAX];
	struct vf_zip_member *m = &w->members[1];
	size_t n = vf_zip_header(&w->members[0], header);
	int err = vf_outlet_pwrite(out, header, n, 0);

	if (!err && out->keys) {
		m->stored_len = m->len;
		m->header_off = w->off;
		n = vf_zip_header(m, header);
		err = vf_outlet_pwrite(out, header, n, w->off);
		w->off += n;
		if (!err)
			err = copy_records(out, w);
	}
	if (!err &&
	    vf_zip_directory(w->members, out->keys ? 2 : 1, w->off, &directory))
		err = vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	return err ? err
		   : vf_outlet_pwrite(out, directory.data, directory.len,
				      w->off);
}

static void discard_npz(struct vf_outlet *out)
{
	struct writing *w = out->own;

	if (!w)
		return;
	if (w->records)
		fclose(w->records);
	vf_buf_fini(&w->line);
	free(w);
}

const struct vf_format vf_format_npz = {
	.name = "npz",
	.holds = "vectors, keys, metadata",
	.keeps_keys = true,
	.keeps_metadata = true,
	.probe = probe_npz,
	.open = open_npz,
	.rows = read_npz,
	.text = text_npz,
	.close = close_npz,
	.create = create_npz,
	.write = write_npz,
	.finish = finish_npz,
	.discard = discard_npz,
};
