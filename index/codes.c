#include "index/codes.h"
#include "index/refine.h"
#include "index/rotate.h"

#include <math.h>

enum { VERSION = 1, ALIGN = 64, CRC_OFF = 124, MAY_IGNORE = 1, MANY = 64 };

static const char magic[8] = {'V', 'F', 'C', 'O', 'D', 'E', 'S', '1'};

static uint64_t section_len(const struct vf_codes *c, enum vf_section s)
{
	uint64_t floats = (uint64_t)c->padded * sizeof(float);

	switch (s) {
	case VF_SEC_ORIGIN:
		return floats;
	case VF_SEC_LEAVES:
		return (uint64_t)c->n_leaves * sizeof(struct vf_leaf_disk);
	case VF_SEC_CENTROIDS:
		return c->follows_tree ? 0 : c->n_leaves * floats;
	case VF_SEC_CODES:
		return c->n_rows * (c->padded / 8);
	case VF_SEC_FACTORS:
		return c->n_rows * sizeof(struct vf_factors);
	case VF_SEC_KEY_HASHES:
		return c->n_rows * 8;
	case VF_SEC_LINE_OFFS:
		return (c->n_rows + 1) * 8;
	case VF_SEC_ROW_CRCS:
	case VF_SEC_LINE_CRCS:
		return c->n_rows * 4;
	case VF_SEC_EXTRA_CODES:
		return c->n_rows * vf_extra_len(c->bits, c->padded);
	case VF_SEC_EXTRA_FACTORS:
		return c->n_rows * sizeof(struct vf_extra_factors);
	case VF_SEC_TREE:
		return sizeof(struct vf_tree_section) +
		       (uint64_t)c->n_leaves * sizeof(uint32_t);
	case VF_N_SECTIONS_MAX:
		break;
	}
	return 0;
}

/* ---- writing --------------------------------------------------------------------------- */

static uint32_t header_crc(const uint8_t *b, size_t len)
{
	static const uint8_t zero[4];
	uint32_t crc = vf_crc32c(0, b, CRC_OFF);

	crc = vf_crc32c(crc, zero, sizeof(zero));
	return vf_crc32c(crc, b + CRC_OFF + 4, len - CRC_OFF - 4);
}

static bool has_section(const struct vf_codes *c, int s)
{
	return s < VF_N_SECTIONS ||
	       (s == VF_SEC_TREE ? c->follows_tree : c->bits > 1);
}

static int count_sections(const struct vf_codes *c)
{
	int n = 0;

	for (int s = 0; s < VF_N_SECTIONS_MAX; s++)
		n += has_section(c, s);
	return n;
}

/* Extra bits may be passed over: all is found without them, less sharply. */
static uint32_t section_flags(int s)
{
	return s == VF_SEC_EXTRA_CODES || s == VF_SEC_EXTRA_FACTORS ? MAY_IGNORE
								    : 0;
}

static void put_header(const struct vf_codes *c, uint64_t file_len, uint8_t *b,
		       uint32_t header_len)
{
	memcpy(b, magic, sizeof(magic));
	vf_put_le32(b + 8, VERSION);
	vf_put_le32(b + 12, header_len);
	vf_put_le64(b + 16, file_len);
	vf_put_le64(b + 24, c->n_rows);
	vf_put_le32(b + 32, c->dim);
	vf_put_le32(b + 36, c->padded);
	vf_put_le32(b + 40, c->metric);
	vf_put_le32(b + 44, c->dtype);
	vf_put_le32(b + 48, 1);
	vf_put_le32(b + 52, c->n_leaves);
	vf_put_le64(b + 56, c->rotation_seed);
	vf_put_le32(b + 64, (uint32_t)count_sections(c));
}

/* @slot: in the table of sections */
static void append_section(const struct vf_codes *c, enum vf_section s,
			   int slot, size_t start, struct vf_buf *out)
{
	uint64_t at = vf_round_up(out->len - start, ALIGN);
	uint64_t len = section_len(c, s);
	uint8_t *e = out->data + start + VF_CODES_HEADER_LEN +
		     slot * VF_CODES_SECTION_LEN;

	vf_put_le32(e, (uint32_t)s + 1); /* 0 is no type */
	vf_put_le32(e + 4, section_flags(s));
	vf_put_le64(e + 8, at);
	vf_put_le64(e + 16, len);
	vf_put_le32(e + 24, vf_crc32c(0, c->section[s], len));
	vf_buf_append(out, NULL, at - (out->len - start));
	vf_buf_append(out, c->section[s], len);
}

int vf_codes_encode(const struct vf_codes *c, struct vf_buf *out)
{
	int n = count_sections(c), err;
	uint32_t head = VF_CODES_HEADER_LEN + n * VF_CODES_SECTION_LEN;
	uint64_t total = head, start = out->len;

	for (int s = 0; s < VF_N_SECTIONS_MAX; s++)
		if (has_section(c, s))
			total = vf_round_up(total, ALIGN) + section_len(c, s);
	err = vf_buf_reserve(out, total);
	if (err)
		return err;
	vf_buf_append(out, NULL, head);
	for (int s = 0, slot = 0; s < VF_N_SECTIONS_MAX; s++)
		if (has_section(c, s))
			append_section(c, s, slot++, start, out);
	put_header(c, total, out->data + start, head);
	vf_put_le32(out->data + start + CRC_OFF,
		    header_crc(out->data + start, head));
	return 0;
}

/* ---- reading --------------------------------------------------------------------------- */

static bool all_zero(const uint8_t *b, size_t len)
{
	while (len && !*b)
		b++, len--;
	return !len;
}

static const char *check_header(const uint8_t *b, size_t len,
				struct vf_codes *c, int *out_err)
{
	uint32_t header_len, n_sections;

	*out_err = -EBADMSG;
	if (len < VF_CODES_HEADER_LEN || memcmp(b, magic, sizeof(magic)))
		return "it is no file of codes";
	if (vf_le32(b + 8) > VERSION) {
		*out_err = -ENOTSUP;
		return "a newer version of vecfs wrote it";
	}
	header_len = vf_le32(b + 12);
	n_sections = vf_le32(b + 64);
	if (n_sections > MANY || header_len > len ||
	    header_len !=
		    VF_CODES_HEADER_LEN + n_sections * VF_CODES_SECTION_LEN)
		return "its header is damaged";
	if (vf_le64(b + 16) != len)
		return "it is cut short";
	if (vf_le32(b + CRC_OFF) != header_crc(b, header_len))
		return "its header is damaged";
	*c = (struct vf_codes){.n_rows = vf_le64(b + 24),
			       .dim = vf_le32(b + 32),
			       .padded = vf_le32(b + 36),
			       .metric = vf_le32(b + 40),
			       .dtype = vf_le32(b + 44),
			       .bits = vf_le32(b + 48),
			       .n_leaves = vf_le32(b + 52),
			       .rotation_seed = vf_le64(b + 56)};
	if (!c->n_rows || c->n_rows > VF_SHARD_ROWS_MAX ||
	    c->dim < VF_DIM_MIN || c->dim > VF_DIM_MAX ||
	    c->padded != vf_padded_dim(c->dim) || !c->n_leaves ||
	    c->n_leaves > c->n_rows)
		return "its sizes are out of range";
	*out_err = -ENOTSUP;
	if (vf_le32(b + 8) != VERSION || c->bits != 1 ||
	    c->metric < VF_COSINE || c->metric > VF_DOT ||
	    (c->dtype != VF_F32 && c->dtype != VF_F16) ||
	    !all_zero(b + 68, CRC_OFF - 68))
		return "it uses what this version does not know";
	*out_err = 0;
	return NULL;
}

/* The one section whose length says something: how many bits there are. */
static void learn_bits(struct vf_codes *c, uint64_t len)
{
	uint64_t plane = c->n_rows * vf_extra_len(2, c->padded);

	if (len && len % plane == 0 && len / plane < VF_BITS_MAX)
		c->bits = 1 + (uint32_t)(len / plane);
}

/* Both of extra bits or neither; of 1 bit there are none. */
static const char *check_all_there(const struct vf_codes *c)
{
	for (int s = 0; s < VF_N_SECTIONS; s++)
		if (!c->section[s])
			return "a section is missing";
	for (int s = VF_N_SECTIONS; s < VF_N_SECTIONS_MAX; s++)
		if (!c->section[s] == has_section(c, s))
			return "a section of extra bits is missing";
	return NULL;
}

static bool is_listed(const uint8_t *b, enum vf_section s)
{
	for (uint32_t i = 0; i < vf_le32(b + 64); i++)
		if (vf_le32(b + VF_CODES_HEADER_LEN +
			    i * VF_CODES_SECTION_LEN) == (uint32_t)s + 1)
			return true;
	return false;
}

/* Sections in the order of the file, nothing but zeros between them. */
static const char *check_sections(const uint8_t *b, size_t len,
				  struct vf_codes *c, int *out_err)
{
	uint64_t end = vf_le32(b + 12);

	*out_err = -EBADMSG;
	c->follows_tree = is_listed(b, VF_SEC_TREE);
	for (uint32_t i = 0; i < vf_le32(b + 64); i++) {
		const uint8_t *e =
			b + VF_CODES_HEADER_LEN + i * VF_CODES_SECTION_LEN;
		uint32_t type = vf_le32(e) - 1, flags = vf_le32(e + 4);
		uint64_t off = vf_le64(e + 8), n = vf_le64(e + 16);

		if (off != vf_round_up(end, ALIGN) || off > len ||
		    n > len - off || !all_zero(b + end, off - end))
			return "its sections do not add up";
		if (vf_crc32c(0, b + off, n) != vf_le32(e + 24))
			return "a section is damaged";
		end = off + n;
		bool known = type < VF_N_SECTIONS_MAX;
		if (known ? flags != section_flags((int)type) || vf_le32(e + 28)
			  : !(flags & MAY_IGNORE)) {
			*out_err = -ENOTSUP;
			return "it has a section this version does not know";
		}
		if (!known)
			continue;
		if (type == VF_SEC_EXTRA_CODES && !c->section[type])
			learn_bits(c, n);
		if (c->section[type] || n != section_len(c, type))
			return "a section has the wrong length";
		c->section[type] = b + off;
	}
	if (end != len)
		return "it has a tail";
	const char *missing = check_all_there(c);
	*out_err = missing ? -EBADMSG : 0;
	return missing;
}

int vf_codes_find(const void *p, size_t len, enum vf_section s,
		  struct vf_section_ref *out)
{
	const uint8_t *b = p;
	uint32_t n;

	if (len < VF_CODES_HEADER_LEN || memcmp(b, magic, sizeof(magic)))
		return -EBADMSG;
	n = vf_le32(b + 64);
	if (n > MANY ||
	    vf_le32(b + 12) != VF_CODES_HEADER_LEN + n * VF_CODES_SECTION_LEN ||
	    vf_le32(b + 12) > len ||
	    vf_le32(b + CRC_OFF) != header_crc(b, vf_le32(b + 12)))
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *e =
			b + VF_CODES_HEADER_LEN + i * VF_CODES_SECTION_LEN;
		if (vf_le32(e) != (uint32_t)s + 1)
			continue;
		*out = (struct vf_section_ref){vf_le64(e + 8), vf_le64(e + 16),
					       vf_le32(e + 24)};
		return 0;
	}
	return -ENOENT;
}

static bool all_finite(const float *x, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return false;
	return true;
}

static bool extra_is_good(const struct vf_codes *c)
{
	const struct vf_extra_factors *f = c->section[VF_SEC_EXTRA_FACTORS];

	for (uint64_t i = 0; f && i < c->n_rows; i++)
		if (!isfinite(f[i].add) || !isfinite(f[i].mul) ||
		    !isfinite(f[i].err) || f[i].err < 0)
			return false;
	return true;
}

static bool leaves_ascend(const struct vf_codes *c)
{
	const struct vf_tree_section *t = c->section[VF_SEC_TREE];

	for (uint32_t i = 1; t && i < c->n_leaves; i++)
		if (t->leaves[i] <= t->leaves[i - 1])
			return false;
	return true;
}

/* What the inner loops trust: offsets ascend, leaves cover rows, no NaN. */
static const char *check_contents(const struct vf_codes *c)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	const uint64_t *off = c->section[VF_SEC_LINE_OFFS];
	const struct vf_factors *f = c->section[VF_SEC_FACTORS];
	const uint8_t *codes = c->section[VF_SEC_CODES];
	uint64_t row = 0;

	if (off[0])
		return "its line offsets are off";
	for (uint64_t i = 0; i < c->n_rows; i++) {
		if (off[i + 1] <= off[i] || off[i + 1] - off[i] > UINT32_MAX)
			return "its line offsets are off";
		if (!isfinite(f[i].add) || !isfinite(f[i].mul) ||
		    !isfinite(f[i].err) || f[i].err < 0 ||
		    f[i].ones > c->padded)
			return "its factors are off";
	}
	for (uint32_t i = 0; i < c->n_leaves; i++, leaf++) {
		if (leaf->first_row != row || leaf->n_rows > c->n_rows - row ||
		    leaf->zero || !isfinite(leaf->radius))
			return "its leaves do not cover its rows";
		if (vf_crc32c(0, codes + row * (c->padded / 8),
			      leaf->n_rows * (c->padded / 8)) !=
		    leaf->codes_crc)
			return "the codes of a leaf are damaged";
		row += leaf->n_rows;
	}
	if (row != c->n_rows)
		return "its leaves do not cover its rows";
	if (!extra_is_good(c))
		return "its factors of extra bits are off";
	if (!leaves_ascend(c))
		return "its leaves are in no order";
	return all_finite(c->section[VF_SEC_ORIGIN], c->padded) &&
			       all_finite(c->section[VF_SEC_CENTROIDS],
					  section_len(c, VF_SEC_CENTROIDS) /
						  sizeof(float))
		       ? NULL
		       : "its centroids are off";
}

int vf_codes_validate(const void *p, size_t len, struct vf_codes *out,
		      const char **out_reason)
{
	int err;

	*out_reason = check_header(p, len, out, &err);
	if (!err)
		*out_reason = check_sections(p, len, out, &err);
	if (!err) {
		*out_reason = check_contents(out);
		err = *out_reason ? -EBADMSG : 0;
	}
	return err;
}
