#include "tools/plain.h"

#include "query/shard_codes.h"
#include "store/line.h"
#include "store/npy.h"
#include "store/recordfile.h"
#include "tools/interrupt.h"

enum { WINDOW = 4 << 20 };

struct plain {
	const struct vf_index *codes;
	const struct vf_index_config *config;
	struct vf_recordfile *file;
	struct vf_buf bytes; /* of one row, line or header */
	uint64_t n_rows;
};

/* The next of the rows, or lines, against its checksum. */
static int check_piece(struct plain *p, uint64_t off, size_t len, uint32_t crc)
{
	p->bytes.len = 0;
	int err = vf_interrupted()
			  ? -ECANCELED
			  : vf_recordfile_copy(p->file, off, len, &p->bytes);

	return !err && vf_crc32c(0, p->bytes.data, len) != crc ? -EBADMSG : err;
}

static int check_lines(struct plain *p)
{
	uint64_t off = 0, end = 0;
	uint32_t len, crc;
	int err = 0;

	for (uint64_t row = 0; !err && row < p->n_rows; row++) {
		err = vf_index_line(p->codes, row, &off, &len, &crc);
		if (!err && len > VF_LINE_MAX)
			err = -EBADMSG;
		if (!err)
			err = check_piece(p, off, len, crc);
		end = off + len;
	}
	return !err && end != vf_recordfile_len(p->file) ? -EBADMSG : err;
}

static int check_header(struct plain *p)
{
	const struct vf_npy npy = {.dtype = p->config->dtype,
				   .n_rows = p->n_rows,
				   .dim = p->config->dim};
	uint8_t header[VF_NPY_DATA_OFF];

	vf_npy_header(&npy, header);
	p->bytes.len = 0;
	int err = vf_recordfile_copy(p->file, 0, sizeof(header), &p->bytes);
	return !err && memcmp(p->bytes.data, header, sizeof(header)) ? -EBADMSG
								     : err;
}

static int check_vectors(struct plain *p)
{
	size_t len = p->config->dim * vf_dtype_size(p->config->dtype);
	uint32_t crc;
	int err = check_header(p);

	for (uint64_t row = 0; !err && row < p->n_rows; row++) {
		err = vf_index_row_crc(p->codes, row, &crc);
		if (!err)
			err = check_piece(p, VF_NPY_DATA_OFF + row * len, len,
					  crc);
	}
	return err;
}

int vf_plain_verify(struct vf_bucket *b, const struct vf_state *s,
		    const struct vf_shard_ref *r,
		    const struct vf_object_ref *object)
{
	struct plain p = {.config = &s->config, .n_rows = r->n_rows};
	struct vf_shard_ref of = *r;
	struct vf_index *codes = NULL;
	int err = vf_shard_codes_open(b, s->name, r, &codes);

	p.codes = codes;
	of.records = *object; /* bytes of any object are read the same way */
	if (!err)
		err = vf_recordfile_open(b, s->name, &of, WINDOW, &p.file);
	if (!err)
		err = object == &r->records ? check_lines(&p)
					    : check_vectors(&p);
	vf_recordfile_close(p.file);
	vf_index_close(codes);
	vf_buf_fini(&p.bytes);
	return err;
}
