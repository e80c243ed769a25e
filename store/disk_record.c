/*
 * The values of the disk tier's index (little-endian; the last four bytes are
 * the CRC32C of the id and all before them, so that a value which strays to
 * another file's key is refused):
 *
 *   file    0 magic  4 version  6 label_len  8 id[16]  24 size  32 block_len
 *           36 generation  40 last_use  48 bytes  56 pinned  64 label  crc
 *   group   0 magic  4 number  8 present  12 pinned  16 generation  20 n_crc
 *           24 crc of each 4096 bytes of each present block  crc
 */
#include "store/disk_index.h"

enum {
	VERSION = 1,
	FILE_HEAD = 64,
	GROUP_HEAD = 24,
	N_CRC_MAX = 4096, /* blocks of 16 MiB */
};
#define FILE_MAGIC  0x46444656u /* "VFDF" */
#define GROUP_MAGIC 0x47444656u /* "VFDG" */

static int append_crc(const uint8_t id[16], struct vf_buf *b, size_t from)
{
	uint8_t crc[4];

	vf_put_le32(crc, vf_crc32c(vf_crc32c(0, id, 16), b->data + from,
				   b->len - from));
	return vf_buf_append(b, crc, sizeof(crc));
}

static bool is_intact(const uint8_t id[16], const uint8_t *p, size_t len)
{
	return vf_crc32c(vf_crc32c(0, id, 16), p, len - 4) ==
	       vf_le32(p + len - 4);
}

int vf_disk_record_encode(const struct vf_disk_record *r, struct vf_buf *out)
{
	size_t label_len = strlen(r->label), from = out->len;
	uint8_t h[FILE_HEAD];
	int err;

	vf_put_le32(h, FILE_MAGIC);
	vf_put_le16(h + 4, VERSION);
	vf_put_le16(h + 6, (uint16_t)label_len);
	memcpy(h + 8, r->id, 16);
	vf_put_le64(h + 24, r->size);
	vf_put_le32(h + 32, r->block_len);
	vf_put_le32(h + 36, r->generation);
	vf_put_le64(h + 40, r->last_use);
	vf_put_le64(h + 48, r->bytes);
	vf_put_le64(h + 56, r->pinned);
	err = vf_buf_append(out, h, sizeof(h));
	if (!err)
		err = vf_buf_append(out, r->label, label_len);
	return err ? err : append_crc(r->id, out, from);
}

int vf_disk_record_decode(const void *value, size_t len,
			  struct vf_disk_record *out)
{
	const uint8_t *p = value;
	size_t label_len;

	if (len < FILE_HEAD + 4 || vf_le32(p) != FILE_MAGIC ||
	    vf_le16(p + 4) != VERSION)
		return -EBADMSG;
	label_len = vf_le16(p + 6);
	if (label_len > VF_DISK_LABEL_MAX || len != FILE_HEAD + label_len + 4)
		return -EBADMSG;
	memcpy(out->id, p + 8, 16);
	if (!is_intact(out->id, p, len))
		return -EBADMSG;
	out->size = vf_le64(p + 24);
	out->block_len = vf_le32(p + 32);
	out->generation = vf_le32(p + 36);
	out->last_use = vf_le64(p + 40);
	out->bytes = vf_le64(p + 48);
	out->pinned = vf_le64(p + 56);
	memcpy(out->label, p + FILE_HEAD, label_len);
	out->label[label_len] = '\0';
	return 0;
}

int vf_disk_group_encode(const uint8_t id[16],
			 const struct vf_disk_group_record *g,
			 struct vf_buf *out)
{
	size_t from = out->len,
	       n = (size_t)__builtin_popcount(g->present) * g->n_crc;
	uint8_t h[GROUP_HEAD];
	int err;

	vf_put_le32(h, GROUP_MAGIC);
	vf_put_le32(h + 4, g->number);
	vf_put_le32(h + 8, g->present);
	vf_put_le32(h + 12, g->pinned);
	vf_put_le32(h + 16, g->generation);
	vf_put_le32(h + 20, g->n_crc);
	err = vf_buf_append(out, h, sizeof(h));
	if (!err && n)
		err = vf_buf_append(out, g->crcs, 4 * n);
	return err ? err : append_crc(id, out, from);
}

int vf_disk_group_decode(const uint8_t id[16], const void *value, size_t len,
			 struct vf_disk_group_record *out)
{
	const uint8_t *p = value;
	size_t n;

	if (len < GROUP_HEAD + 4 || vf_le32(p) != GROUP_MAGIC)
		return -EBADMSG;
	out->number = vf_le32(p + 4);
	out->present = vf_le32(p + 8);
	out->pinned = vf_le32(p + 12);
	out->generation = vf_le32(p + 16);
	out->n_crc = vf_le32(p + 20);
	out->crcs = p + GROUP_HEAD;
	if (out->n_crc > N_CRC_MAX ||
	    (out->present | out->pinned) >> VF_DISK_GROUP)
		return -EBADMSG;
	n = (size_t)__builtin_popcount(out->present) * out->n_crc;
	if (len != GROUP_HEAD + 4 * n + 4 || !is_intact(id, p, len))
		return -EBADMSG;
	return 0;
}
