/* A file codes.vix as version 1 had it, made of one of today. */
#ifndef VF_TESTS_OLD_CODES_H
#define VF_TESTS_OLD_CODES_H

#include "index/codes.h"

#include <stdlib.h>

/* Of all rows, as sections of version 1 are; the caller's to free(). */
static inline uint8_t *old_section(const struct vf_codes *c, enum vf_section s,
				   uint64_t *out_len)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	struct vf_codes old = *c;
	uint8_t *p;

	old.by_leaf = false;
	*out_len = vf_codes_len(&old, s);
	p = calloc(1, *out_len + 1);
	if (!p)
		abort();
	for (uint32_t i = 0; i < c->n_leaves && vf_codes_is_by_leaf(s); i++) {
		struct vf_piece at = vf_codes_piece(&old, &leaf[i], i, s);
		memcpy(p + at.off, vf_codes_leaf(c, i, s), at.len);
	}
	if (s != VF_SEC_LEAF_CRCS && !vf_codes_is_by_leaf(s))
		memcpy(p, c->section[s], *out_len);
	return p;
}

static inline void old_sums(const struct vf_codes *c, struct vf_leaf_crcs *out)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	struct vf_codes old = *c;

	old.by_leaf = false;
	for (uint32_t i = 0; i < c->n_leaves; i++) {
		const enum vf_section s[] = {VF_SEC_FACTORS, VF_SEC_LINE_OFFS,
					     VF_SEC_ROW_CRCS, VF_SEC_LINE_CRCS,
					     VF_SEC_EXTRA_FACTORS};
		uint32_t crc[5] = {0};
		for (size_t j = 0; j < 5 - (c->bits == 1); j++)
			crc[j] = vf_crc32c(
				0, vf_codes_leaf(c, i, s[j]),
				vf_codes_piece(&old, &leaf[i], i, s[j]).len);
		out[i] = (struct vf_leaf_crcs){crc[0], crc[4], crc[1],
					       crc[2], crc[3], 0};
	}
}

/* Append the file @p of @len bytes, of version 2, to @out in version 1. */
static inline void old_codes(const uint8_t *p, size_t len, struct vf_buf *out)
{
	static const enum vf_section order[] = {
		VF_SEC_ORIGIN,	     VF_SEC_LEAVES,	VF_SEC_CENTROIDS,
		VF_SEC_TREE,	     VF_SEC_LEAF_CRCS,	VF_SEC_CODES,
		VF_SEC_FACTORS,	     VF_SEC_KEY_HASHES, VF_SEC_LINE_OFFS,
		VF_SEC_ROW_CRCS,     VF_SEC_LINE_CRCS,	VF_SEC_EXTRA_CODES,
		VF_SEC_EXTRA_FACTORS};
	size_t start = out->len, n = 0, head;
	struct vf_codes c;
	const char *why;

	if (vf_codes_validate(p, len, &c, &why))
		abort();
	for (size_t i = 0; i < VF_N(order); i++)
		n += (order[i] != VF_SEC_TREE || c.follows_tree) &&
		     (order[i] < VF_SEC_EXTRA_CODES ||
		      order[i] > VF_SEC_EXTRA_FACTORS || c.bits > 1);
	head = VF_CODES_HEADER_LEN + n * VF_CODES_SECTION_LEN;
	vf_buf_append(out, p, VF_CODES_HEADER_LEN);
	vf_buf_append(out, NULL, n * VF_CODES_SECTION_LEN);
	for (size_t i = 0, slot = 0; i < VF_N(order); i++) {
		uint64_t s_len;
		if ((order[i] == VF_SEC_TREE && !c.follows_tree) ||
		    ((order[i] == VF_SEC_EXTRA_CODES ||
		      order[i] == VF_SEC_EXTRA_FACTORS) &&
		     c.bits == 1))
			continue;
		VF_AUTO_FREE uint8_t *s = old_section(&c, order[i], &s_len);
		if (order[i] == VF_SEC_LEAF_CRCS)
			old_sums(&c, (void *)s);
		vf_buf_append(out, NULL, (size_t)(-(out->len - start) & 63));
		uint8_t *e = out->data + start + VF_CODES_HEADER_LEN +
			     slot++ * VF_CODES_SECTION_LEN;
		vf_put_le32(e, (uint32_t)order[i] + 1);
		vf_put_le32(e + 4, order[i] == VF_SEC_LEAF_CRCS ||
					   order[i] == VF_SEC_EXTRA_CODES ||
					   order[i] == VF_SEC_EXTRA_FACTORS);
		vf_put_le64(e + 8, out->len - start);
		vf_put_le64(e + 16, s_len);
		vf_put_le32(e + 24, vf_crc32c(0, s, s_len));
		vf_buf_append(out, s, s_len);
	}
	uint8_t *b = out->data + start;
	vf_put_le32(b + 8, 1);
	vf_put_le32(b + 12, (uint32_t)head);
	vf_put_le64(b + 16, out->len - start);
	vf_put_le32(b + 64, (uint32_t)n);
	vf_put_le32(b + 124, 0);
	vf_put_le32(b + 124, vf_crc32c(0, b, head));
}

#endif
