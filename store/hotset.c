/*
 * The bytes of a hot set, all little-endian:
 *
 *   0   8  "vecfsHOT"
 *   8   4  version: 1
 *   12  4  block_len
 *   16  4  number of objects
 *   20  4  bytes of them
 *   24     objects: u16 key_len, u16 etag_len, u32 n_ranges, u64 size, key,
 *          etag, then n_ranges times u32 first, u32 n
 *   end 4  CRC32C of all before
 *
 * Ranges ascend, do not overlap, are not empty and lie within the object.
 */
#include "store/hotset.h"

enum {
	VERSION = 1,
	HEAD_LEN = 24,
	OBJECT_LEN = 16,
	RANGE_LEN = 8,
	TAIL_LEN = 4,
	BLOCK_LEN_MAX = 1 << 24,
};

static const char magic[8] = "vecfsHOT";

/* ---- write ------------------------------------------------------------------------- */

int vf_hotset_begin(struct vf_buf *out, uint32_t block_len)
{
	uint8_t head[HEAD_LEN] = {0};

	memcpy(head, magic, sizeof(magic));
	vf_put_le32(head + 8, VERSION);
	vf_put_le32(head + 12, block_len);
	return vf_buf_append(out, head, sizeof(head));
}

int vf_hotset_add(struct vf_buf *out, const struct vf_hot_object *o)
{
	size_t key_len = strlen(o->key), etag_len = strlen(o->etag);
	size_t len = OBJECT_LEN + key_len + etag_len +
		     (size_t)o->n_ranges * RANGE_LEN;
	uint8_t head[OBJECT_LEN], range[RANGE_LEN];
	int err;

	if (!key_len || key_len > VF_HOTSET_KEY_MAX || !o->n_ranges)
		return -EINVAL;
	if (out->len + len + TAIL_LEN > VF_HOTSET_MAX)
		return 0;
	vf_put_le16(head, (uint16_t)key_len);
	vf_put_le16(head + 2, (uint16_t)etag_len);
	vf_put_le32(head + 4, o->n_ranges);
	vf_put_le64(head + 8, o->size);
	err = vf_buf_reserve(out, len); /* whole or not at all */
	if (err)
		return err;
	vf_buf_append(out, head, sizeof(head));
	vf_buf_append(out, o->key, key_len);
	vf_buf_append(out, o->etag, etag_len);
	for (uint32_t i = 0; i < o->n_ranges; i++) {
		vf_put_le32(range, o->ranges[i].first);
		vf_put_le32(range + 4, o->ranges[i].n);
		vf_buf_append(out, range, sizeof(range));
	}
	vf_put_le32(out->data + 16, vf_le32(out->data + 16) + 1);
	return 0;
}

int vf_hotset_end(struct vf_buf *out)
{
	uint8_t tail[TAIL_LEN];

	vf_put_le32(out->data + 20, (uint32_t)(out->len - HEAD_LEN));
	vf_put_le32(tail, vf_crc32c(0, out->data, out->len));
	return vf_buf_append(out, tail, sizeof(tail));
}

/* ---- read --------------------------------------------------------------------------- */

static bool ranges_fit(const struct vf_hot_object *o, uint32_t block_len)
{
	uint64_t end = 0,
		 n_blocks = o->size / block_len + (o->size % block_len != 0);

	for (uint32_t i = 0; i < o->n_ranges; i++) {
		const struct vf_hot_range *r = &o->ranges[i];
		if (r->first < end || !r->n || r->first >= n_blocks ||
		    r->n > n_blocks - r->first)
			return false;
		end = (uint64_t)r->first + r->n;
	}
	return o->n_ranges > 0;
}

/* One object at *@at; moves past it.  Owned parts are freed by the caller. */
static int parse_object(const uint8_t **at, const uint8_t *end,
			uint32_t block_len, struct vf_hot_object *o)
{
	const uint8_t *p = *at;
	size_t key_len, etag_len, left = (size_t)(end - p);

	if (left < OBJECT_LEN)
		return -EBADMSG;
	key_len = vf_le16(p);
	etag_len = vf_le16(p + 2);
	o->n_ranges = vf_le32(p + 4);
	o->size = vf_le64(p + 8);
	p += OBJECT_LEN;
	left -= OBJECT_LEN;
	if (!key_len || key_len > VF_HOTSET_KEY_MAX ||
	    etag_len >= sizeof(o->etag) || key_len + etag_len > left ||
	    (left - key_len - etag_len) / RANGE_LEN < o->n_ranges ||
	    memchr(p, 0, key_len + etag_len))
		return -EBADMSG;
	o->key = strndup((const char *)p, key_len);
	o->ranges = calloc((size_t)o->n_ranges + 1, sizeof(*o->ranges));
	if (!o->key || !o->ranges)
		return -ENOMEM;
	memcpy(o->etag, p + key_len, etag_len);
	p += key_len + etag_len;
	for (uint32_t i = 0; i < o->n_ranges; i++, p += RANGE_LEN)
		o->ranges[i] =
			(struct vf_hot_range){vf_le32(p), vf_le32(p + 4)};
	*at = p;
	return ranges_fit(o, block_len) ? 0 : -EBADMSG;
}

static int parse_objects(const uint8_t *p, const uint8_t *end, uint32_t n,
			 struct vf_hotset *s)
{
	int err = 0;

	if (n > (size_t)(end - p) / OBJECT_LEN)
		return -EBADMSG;
	s->all = calloc((size_t)n + 1, sizeof(*s->all));
	if (!s->all)
		return -ENOMEM;
	while (!err && s->n < n)
		err = parse_object(&p, end, s->block_len, &s->all[s->n++]);
	return err ? err : p == end ? 0 : -EBADMSG;
}

int vf_hotset_parse(const uint8_t *p, size_t len, struct vf_hotset *out)
{
	const uint8_t *end;
	int err;

	*out = (struct vf_hotset){0};
	if (len < HEAD_LEN + TAIL_LEN || len > VF_HOTSET_MAX ||
	    memcmp(p, magic, sizeof(magic)))
		return -EBADMSG;
	if (vf_le32(p + 8) != VERSION)
		return -ENOTSUP;
	end = p + len - TAIL_LEN;
	out->block_len = vf_le32(p + 12);
	if (vf_crc32c(0, p, len - TAIL_LEN) != vf_le32(end) ||
	    vf_le32(p + 20) != len - HEAD_LEN - TAIL_LEN || !out->block_len ||
	    out->block_len > BLOCK_LEN_MAX)
		return -EBADMSG;
	err = parse_objects(p + HEAD_LEN, end, vf_le32(p + 16), out);
	if (err)
		vf_hotset_fini(out);
	return err;
}

void vf_hotset_fini(struct vf_hotset *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->all[i].key);
		free(s->all[i].ranges);
	}
	free(s->all);
	*s = (struct vf_hotset){0};
}
