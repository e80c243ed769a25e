#include "index/codes_layout.h"
#include "index/refine.h"
#include "index/rotate.h"

#include <math.h>

enum { VERSION = 2, ALIGN = 64, CRC_OFF = 124, MAY_IGNORE = 1, MANY = 64 };

static const char magic[8] = {'V', 'F', 'C', 'O', 'D', 'E', 'S', '1'};

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
	if (vf_codes_is_by_leaf(s) && c->by_leaf)
		return false;
	switch (s) {
	case VF_SEC_EXTRA_CODES:
	case VF_SEC_EXTRA_FACTORS:
		return c->bits > 1;
	case VF_SEC_TREE:
		return c->follows_tree;
	case VF_SEC_ROWS_BY_LEAF:
		return c->by_leaf;
	case VF_SEC_EXTRA_BY_LEAF:
		return c->by_leaf && c->bits > 1;
	}
	return true;
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
	return vf_codes_is_extra(s) || s == VF_SEC_LEAF_CRCS ||
			       s == VF_SEC_EXTRA_BY_LEAF
		       ? MAY_IGNORE
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

/* Leaf after leaf what each of them has. */
static void append_by_leaf(const struct vf_codes *c, bool extra,
			   struct vf_buf *out)
{
	size_t n_parts;
	const enum vf_section *part = vf_codes_parts(extra, &n_parts);
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];

	for (uint32_t i = 0; i < c->n_leaves; i++)
		for (size_t j = 0; j < n_parts; j++)
			vf_buf_append(
				out,
				(const uint8_t *)c->section[part[j]] +
					leaf[i].first_row *
						vf_codes_row_len(c, part[j]),
				vf_codes_rows_len(c, part[j], leaf[i].n_rows));
}

/* @slot: in the table of sections */
static void append_section(const struct vf_codes *c, enum vf_section s,
			   int slot, size_t start, struct vf_buf *out)
{
	uint64_t at = vf_round_up(out->len - start, ALIGN);
	uint64_t len = vf_codes_len(c, s);
	uint8_t *e = out->data + start + VF_CODES_HEADER_LEN +
		     slot * VF_CODES_SECTION_LEN;

	vf_buf_append(out, NULL, at - (out->len - start));
	if (s == VF_SEC_ROWS_BY_LEAF || s == VF_SEC_EXTRA_BY_LEAF)
		append_by_leaf(c, s == VF_SEC_EXTRA_BY_LEAF, out);
	else
		vf_buf_append(out, c->section[s], len);
	vf_put_le32(e, (uint32_t)s + 1); /* 0 is no type */
	vf_put_le32(e + 4, section_flags(s));
	vf_put_le64(e + 8, at);
	vf_put_le64(e + 16, len);
	vf_put_le32(e + 24, vf_crc32c(0, out->data + start + at, len));
}

/* The order in the file. */
static const enum vf_section order[] = {
	VF_SEC_ORIGIN,	   VF_SEC_LEAVES,	VF_SEC_CENTROIDS,
	VF_SEC_TREE,	   VF_SEC_LEAF_CRCS,	VF_SEC_ROWS_BY_LEAF,
	VF_SEC_KEY_HASHES, VF_SEC_EXTRA_BY_LEAF};

static uint32_t sum_part(const struct vf_codes *c,
			 const struct vf_leaf_disk *leaf, enum vf_section s,
			 uint32_t crc)
{
	const uint8_t *p = c->section[s];

	return p ? vf_crc32c(crc, p + leaf->first_row * vf_codes_row_len(c, s),
			     vf_codes_rows_len(c, s, leaf->n_rows))
		 : crc;
}

static struct vf_leaf_sums *sum_leaves(const struct vf_codes *c)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	struct vf_leaf_sums *sums = calloc(c->n_leaves, sizeof(*sums));
	size_t n_parts;
	const enum vf_section *part = vf_codes_parts(false, &n_parts);

	for (uint32_t i = 0; sums && i < c->n_leaves; i++) {
		for (size_t j = 0; j < n_parts; j++)
			sums[i].rows =
				sum_part(c, &leaf[i], part[j], sums[i].rows);
		sums[i].extra_factors =
			sum_part(c, &leaf[i], VF_SEC_EXTRA_FACTORS, 0);
	}
	return sums;
}

int vf_codes_encode(const struct vf_codes *codes, struct vf_buf *out)
{
	VF_AUTO_FREE struct vf_leaf_sums *sums = sum_leaves(codes);
	struct vf_codes all = *codes, *c = &all;
	uint64_t start = out->len;

	if (!sums)
		return -ENOMEM;
	c->by_leaf = true;
	int n = count_sections(c), err;
	uint32_t head = VF_CODES_HEADER_LEN + n * VF_CODES_SECTION_LEN;
	uint64_t total = head;
	c->section[VF_SEC_LEAF_CRCS] = sums;
	for (size_t i = 0; i < VF_N(order); i++)
		if (has_section(c, order[i]))
			total = vf_round_up(total, ALIGN) +
				vf_codes_len(c, order[i]);
	err = vf_buf_reserve(out, total);
	if (err)
		return err;
	vf_buf_append(out, NULL, head);
	for (int i = 0, slot = 0; i < (int)VF_N(order); i++)
		if (has_section(c, order[i]))
			append_section(c, order[i], slot++, start, out);
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

static const char *check_header(const uint8_t *b, size_t len, uint64_t file_len,
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
	if (vf_le64(b + 16) != file_len)
		return "it is cut short";
	if (vf_le32(b + CRC_OFF) != header_crc(b, header_len))
		return "its header is damaged";
	*c = (struct vf_codes){.by_leaf = vf_le32(b + 8) > 1,
			       .n_rows = vf_le64(b + 24),
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
	if (!vf_le32(b + 8) || c->bits != 1 || c->metric < VF_COSINE ||
	    c->metric > VF_DOT || (c->dtype != VF_F32 && c->dtype != VF_F16) ||
	    !all_zero(b + 68, CRC_OFF - 68))
		return "it uses what this version does not know";
	*out_err = 0;
	return NULL;
}

/* The one section whose length says something: how many bits there are. */
static void learn_bits(struct vf_codes *c, uint64_t len)
{
	uint64_t fixed = c->by_leaf ? sizeof(struct vf_extra_factors) : 0;
	uint64_t each = len / c->n_rows, plane = vf_extra_len(2, c->padded);

	if (len % c->n_rows || each <= fixed || (each - fixed) % plane)
		return;
	if ((each - fixed) / plane < VF_BITS_MAX)
		c->bits = 1 + (uint32_t)((each - fixed) / plane);
}

/* Both of extra bits or neither; of 1 bit there are none. */
static const char *check_all_there(const struct vf_codes *c,
				   const struct vf_section_ref *ref)
{
	for (int s = 0; s < VF_N_SECTIONS_MAX; s++)
		if (s != VF_SEC_LEAF_CRCS && !ref[s].off == has_section(c, s))
			return vf_codes_is_extra(s)
				       ? "a section of extra bits is missing"
				       : "a section is missing";
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

/* Entry @i of the table; its type is not known when it is none of ours. */
static uint32_t read_entry(const uint8_t *b, uint32_t i,
			   struct vf_section_ref *out)
{
	const uint8_t *e = b + VF_CODES_HEADER_LEN + i * VF_CODES_SECTION_LEN;

	*out = (struct vf_section_ref){vf_le64(e + 8), vf_le64(e + 16),
				       vf_le32(e + 24)};
	return vf_le32(e) - 1;
}

static bool is_known(const uint8_t *b, uint32_t i, uint32_t type)
{
	const uint8_t *e = b + VF_CODES_HEADER_LEN + i * VF_CODES_SECTION_LEN;
	uint32_t flags = vf_le32(e + 4);

	return type < VF_N_SECTIONS_MAX
		       ? flags == section_flags((int)type) && !vf_le32(e + 28)
		       : flags & MAY_IGNORE;
}

/* Sections in the order of the file, each at the next place it can be. */
static const char *check_table(const uint8_t *b, uint64_t file_len,
			       struct vf_codes *c, struct vf_section_ref *ref,
			       int *out_err)
{
	uint64_t end = vf_le32(b + 12);
	struct vf_section_ref r;

	*out_err = -EBADMSG;
	c->follows_tree = is_listed(b, VF_SEC_TREE);
	for (uint32_t i = 0; i < vf_le32(b + 64); i++) {
		uint32_t type = read_entry(b, i, &r);
		if (r.off != vf_round_up(end, ALIGN) || r.off > file_len ||
		    r.len > file_len - r.off)
			return "its sections do not add up";
		end = r.off + r.len;
		if (!is_known(b, i, type)) {
			*out_err = -ENOTSUP;
			return "it has a section this version does not know";
		}
		if (type >= VF_N_SECTIONS_MAX)
			continue;
		if (type == (c->by_leaf ? VF_SEC_EXTRA_BY_LEAF
					: VF_SEC_EXTRA_CODES) &&
		    !ref[type].off)
			learn_bits(c, r.len);
		if (ref[type].off || r.len != vf_codes_len(c, type))
			return "a section has the wrong length";
		ref[type] = r;
	}
	if (end != file_len)
		return "it has a tail";
	const char *missing = check_all_there(c, ref);
	*out_err = missing ? -EBADMSG : 0;
	return missing;
}

int vf_codes_table(const void *p, size_t len, uint64_t file_len,
		   struct vf_codes *out, struct vf_section_ref *ref,
		   const char **out_reason)
{
	int err;

	memset(ref, 0, VF_N_SECTIONS_MAX * sizeof(*ref));
	*out_reason = check_header(p, len, file_len, out, &err);
	if (!err)
		*out_reason = check_table(p, file_len, out, ref, &err);
	return err;
}

/* Checksums of all sections, and nothing but zeros between them. */
static const char *check_bytes(const uint8_t *b)
{
	uint64_t end = vf_le32(b + 12);
	struct vf_section_ref r;

	for (uint32_t i = 0; i < vf_le32(b + 64); i++) {
		read_entry(b, i, &r);
		if (!all_zero(b + end, r.off - end))
			return "its sections do not add up";
		if (vf_crc32c(0, b + r.off, r.len) != r.crc)
			return "a section is damaged";
		end = r.off + r.len;
	}
	return NULL;
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
	for (uint32_t i = 0; i < n; i++)
		if (read_entry(b, i, out) == (uint32_t)s)
			return 0;
	return -ENOENT;
}

static bool all_finite(const float *x, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return false;
	return true;
}

const char *vf_codes_check_extra(const struct vf_extra_factors *f, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(f[i].add) || !isfinite(f[i].mul) ||
		    !isfinite(f[i].err) || f[i].err < 0)
			return "its factors of extra bits are off";
	return NULL;
}

static bool leaves_ascend(const struct vf_codes *c)
{
	const struct vf_tree_section *t = c->section[VF_SEC_TREE];

	for (uint32_t i = 1; t && i < c->n_leaves; i++)
		if (t->leaves[i] <= t->leaves[i - 1])
			return false;
	return true;
}

const char *vf_codes_check_leaves(const struct vf_codes *c)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	uint64_t row = 0;

	for (uint32_t i = 0; i < c->n_leaves; i++, leaf++) {
		if (leaf->first_row != row || leaf->n_rows > c->n_rows - row ||
		    leaf->zero || !isfinite(leaf->radius))
			return "its leaves do not cover its rows";
		row += leaf->n_rows;
	}
	if (row != c->n_rows)
		return "its leaves do not cover its rows";
	if (!leaves_ascend(c))
		return "its leaves are in no order";
	return all_finite(c->section[VF_SEC_ORIGIN], c->padded) &&
			       all_finite(c->section[VF_SEC_CENTROIDS],
					  vf_codes_len(c, VF_SEC_CENTROIDS) /
						  sizeof(float))
		       ? NULL
		       : "its centroids are off";
}

/* What the inner loops trust: offsets ascend, no NaN. */
const char *vf_codes_check_rows(const struct vf_codes *c,
				const struct vf_factors *f, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (!isfinite(f[i].add) || !isfinite(f[i].mul) ||
		    !isfinite(f[i].err) || f[i].err < 0 ||
		    f[i].ones > c->padded)
			return "its factors are off";
	return NULL;
}

const char *vf_codes_check_lines(const uint64_t *off, uint64_t row, uint64_t n)
{
	if (!row && off[0])
		return "its line offsets are off";
	for (uint64_t i = 0; i < n; i++)
		if (off[i + 1] <= off[i] || off[i + 1] - off[i] > UINT32_MAX)
			return "its line offsets are off";
	return NULL;
}

/* The lines of a leaf begin where those before it end. */
static const char *check_leaf_lines(const struct vf_codes *c, uint32_t i,
				    uint64_t *end)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	const uint64_t *off = vf_codes_leaf(c, i, VF_SEC_LINE_OFFS);

	if (off[0] != *end)
		return "its line offsets are off";
	*end = off[leaf[i].n_rows];
	return vf_codes_check_lines(off, leaf[i].first_row, leaf[i].n_rows);
}

static const char *check_leaf(const struct vf_codes *c, uint32_t i,
			      uint64_t *end)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	uint64_t n = leaf[i].n_rows;
	const char *why =
		vf_codes_check_rows(c, vf_codes_leaf(c, i, VF_SEC_FACTORS), n);

	if (!why)
		why = check_leaf_lines(c, i, end);
	if (!why && vf_crc32c(0, vf_codes_leaf(c, i, VF_SEC_CODES),
			      vf_codes_rows_len(c, VF_SEC_CODES, n)) !=
			    leaf[i].codes_crc)
		why = "the codes of a leaf are damaged";
	if (!why && c->bits > 1)
		why = vf_codes_check_extra(
			vf_codes_leaf(c, i, VF_SEC_EXTRA_FACTORS), n);
	return why;
}

static const char *check_contents(const struct vf_codes *c)
{
	const char *why = vf_codes_check_leaves(c);
	uint64_t end = 0;

	for (uint32_t i = 0; !why && i < c->n_leaves; i++)
		why = check_leaf(c, i, &end);
	return why;
}

int vf_codes_validate(const void *p, size_t len, struct vf_codes *out,
		      const char **out_reason)
{
	struct vf_section_ref ref[VF_N_SECTIONS_MAX];
	int err = vf_codes_table(p, len, len, out, ref, out_reason);

	for (int s = 0; !err && s < VF_N_SECTIONS_MAX; s++)
		out->section[s] =
			ref[s].off ? (const uint8_t *)p + ref[s].off : NULL;
	if (!err) {
		*out_reason = check_bytes(p);
		if (!*out_reason)
			*out_reason = check_contents(out);
		err = *out_reason ? -EBADMSG : 0;
	}
	return err;
}
