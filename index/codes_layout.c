/*
 * How long sections of codes.vix are, and where a leaf has its part of them.
 */
#include "index/codes_layout.h"
#include "index/refine.h"

/* What lies by leaf, in its order there. */
static const enum vf_section rows_parts[] = {VF_SEC_CODES, VF_SEC_FACTORS,
					     VF_SEC_LINE_OFFS, VF_SEC_ROW_CRCS,
					     VF_SEC_LINE_CRCS};
static_assert(VF_N(rows_parts) == VF_CODES_PARTS_MAX, "the most");
static const enum vf_section extra_parts[] = {VF_SEC_EXTRA_CODES,
					      VF_SEC_EXTRA_FACTORS};

bool vf_codes_is_extra(enum vf_section s)
{
	return s == VF_SEC_EXTRA_CODES || s == VF_SEC_EXTRA_FACTORS;
}

bool vf_codes_is_by_leaf(enum vf_section s)
{
	for (size_t i = 0; i < VF_N(rows_parts); i++)
		if (s == rows_parts[i])
			return true;
	return vf_codes_is_extra(s);
}

bool vf_codes_has_rows(const struct vf_codes *c, enum vf_section s,
		       bool has_section)
{
	if (!c->by_leaf || !vf_codes_is_by_leaf(s))
		return has_section && s != VF_SEC_ROWS_BY_LEAF &&
		       s != VF_SEC_EXTRA_BY_LEAF;
	return c->bits > 1 || !vf_codes_is_extra(s);
}

uint64_t vf_codes_row_len(const struct vf_codes *c, enum vf_section s)
{
	switch (s) {
	case VF_SEC_CODES:
		return c->padded / 8;
	case VF_SEC_FACTORS:
		return sizeof(struct vf_factors);
	case VF_SEC_KEY_HASHES:
	case VF_SEC_LINE_OFFS:
		return sizeof(uint64_t);
	case VF_SEC_ROW_CRCS:
	case VF_SEC_LINE_CRCS:
		return sizeof(uint32_t);
	case VF_SEC_EXTRA_CODES:
		return vf_extra_len(c->bits, c->padded);
	case VF_SEC_EXTRA_FACTORS:
		return sizeof(struct vf_extra_factors);
	default:
		return 0;
	}
}

uint64_t vf_codes_rows_len(const struct vf_codes *c, enum vf_section s,
			   uint64_t n)
{
	return (n + (s == VF_SEC_LINE_OFFS)) * vf_codes_row_len(c, s);
}

const enum vf_section *vf_codes_parts(bool extra, size_t *out_n)
{
	*out_n = extra ? VF_N(extra_parts) : VF_N(rows_parts);
	return extra ? extra_parts : rows_parts;
}

/* What all parts up to @end have of @n rows in @leaves leaves. */
static uint64_t parts_len(const struct vf_codes *c, bool extra,
			  enum vf_section end, uint64_t n, uint64_t leaves)
{
	size_t n_parts;
	const enum vf_section *p = vf_codes_parts(extra, &n_parts);
	uint64_t len = 0;

	for (size_t i = 0; i < n_parts && p[i] != end; i++)
		len += n * vf_codes_row_len(c, p[i]) +
		       (p[i] == VF_SEC_LINE_OFFS ? leaves * sizeof(uint64_t)
						 : 0);
	return len;
}

uint64_t vf_codes_len(const struct vf_codes *c, enum vf_section s)
{
	uint64_t floats = (uint64_t)c->padded * sizeof(float);

	switch (s) {
	case VF_SEC_ORIGIN:
		return floats;
	case VF_SEC_LEAVES:
		return (uint64_t)c->n_leaves * sizeof(struct vf_leaf_disk);
	case VF_SEC_CENTROIDS:
		return c->follows_tree ? 0 : c->n_leaves * floats;
	case VF_SEC_TREE:
		return sizeof(struct vf_tree_section) +
		       (uint64_t)c->n_leaves * sizeof(uint32_t);
	case VF_SEC_LEAF_CRCS:
		return (uint64_t)c->n_leaves *
		       (c->by_leaf ? sizeof(struct vf_leaf_sums)
				   : sizeof(struct vf_leaf_crcs));
	case VF_SEC_ROWS_BY_LEAF:
	case VF_SEC_EXTRA_BY_LEAF:
		return parts_len(c, s == VF_SEC_EXTRA_BY_LEAF,
				 VF_N_SECTIONS_MAX, c->n_rows, c->n_leaves);
	default:
		return vf_codes_rows_len(c, s, c->n_rows);
	}
}

struct vf_piece vf_codes_piece(const struct vf_codes *c,
			       const struct vf_leaf_disk *leaf, uint32_t i,
			       enum vf_section s)
{
	bool extra = vf_codes_is_extra(s);
	struct vf_piece p = {s, leaf->first_row * vf_codes_row_len(c, s),
			     vf_codes_rows_len(c, s, leaf->n_rows)};

	if (!c->by_leaf)
		return p;
	p.section = extra ? VF_SEC_EXTRA_BY_LEAF : VF_SEC_ROWS_BY_LEAF;
	p.off = parts_len(c, extra, VF_N_SECTIONS_MAX, leaf->first_row, i) +
		parts_len(c, extra, s, leaf->n_rows, 1);
	return p;
}

const void *vf_codes_leaf(const struct vf_codes *c, uint32_t i,
			  enum vf_section s)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	struct vf_piece p = vf_codes_piece(c, &leaf[i], i, s);
	const uint8_t *from = c->section[p.section];

	return from ? from + p.off : NULL;
}
