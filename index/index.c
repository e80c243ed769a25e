/*
 * One shard's codes in memory: opened from codes.vix, its small sections
 * looked up, its large ones left where they are mapped.
 *
 * index  bytes owned, validated once, then trusted; [fixed] after open, or
 *        filled leaf by leaf (lazy.c)
 */
#include "index/index_impl.h"

#include <math.h>

/* ---- opening --------------------------------------------------------------------------- */

int vf_index_open(void *p, size_t len, struct vf_index **out,
		  const char **out_reason)
{
	struct vf_index *ix = calloc(1, sizeof(*ix));
	int err;

	*out = NULL;
	*out_reason = "no memory";
	if (!ix) {
		free(p);
		return -ENOMEM;
	}
	ix->bytes = p;
	ix->len = len;
	err = vf_codes_validate(p, len, &ix->c, out_reason);
	if (!err)
		err = vf_rotation_new(ix->c.dim, ix->c.rotation_seed,
				      &ix->rotation);
	if (err)
		vf_index_close(ix);
	else
		*out = ix;
	return err;
}

int vf_index_attach(struct vf_index *ix, struct vf_tree *t)
{
	const struct vf_tree_section *own = ix->c.section[VF_SEC_TREE];
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	struct vf_tree_info info;

	if (!own)
		return 0;
	if (!t)
		return -EINVAL;
	vf_tree_info(t, &info);
	if (info.dim != ix->c.dim || info.metric != ix->c.metric ||
	    info.rotation_seed != ix->c.rotation_seed ||
	    memcmp(info.id, own->id, sizeof(info.id)) ||
	    own->leaves[ix->c.n_leaves - 1] >= info.n_leaves)
		return -EINVAL;
	ix->tree = t;
	for (uint32_t i = 0; i < ix->c.n_leaves; i++)
		if (isfinite(leaf[i].radius))
			vf_tree_learn(t, own->leaves[i], leaf[i].radius);
	return 0;
}

bool vf_index_has_tree(const struct vf_index *ix)
{
	return ix->c.section[VF_SEC_TREE];
}

void vf_index_close(struct vf_index *ix)
{
	if (!ix)
		return;
	vf_rotation_free(ix->rotation);
	if (ix->lazy)
		vf_lazy_free(ix);
	free(ix->bytes);
	free(ix);
}

void vf_index_info(const struct vf_index *ix, struct vf_index_info *out)
{
	*out = (struct vf_index_info){
		.dim = ix->c.dim,
		.padded_dim = ix->c.padded,
		.n_leaves = ix->c.n_leaves,
		.bits = ix->c.bits,
		.n_rows = ix->c.n_rows,
		.rotation_seed = ix->c.rotation_seed,
		.metric = ix->c.metric,
		.dtype = ix->c.dtype,
		.has_tree = ix->tree,
		.ram_len = ix->lazy ? vf_lazy_len(ix->lazy) : ix->len};
}

/* Elements [@i, @i + @n) of a section by row; they may lie in the file. */
static int read_elements(const struct vf_index *ix, enum vf_section section,
			 uint64_t i, size_t n, size_t each, void *out)
{
	const uint8_t *p = ix->c.section[section];

	if (ix->lazy)
		return vf_lazy_peek(ix->lazy, section, i * each, n * each, out);
	memcpy(out, p + i * each, n * each);
	return 0;
}

int vf_index_row_crc(const struct vf_index *ix, uint64_t row, uint32_t *out)
{
	*out = 0;
	return read_elements(ix, VF_SEC_ROW_CRCS, row, 1, sizeof(*out), out);
}

int vf_index_line(const struct vf_index *ix, uint64_t row, uint64_t *out_off,
		  uint32_t *out_len, uint32_t *out_crc)
{
	uint64_t off[2];
	uint32_t crc;
	int err =
		read_elements(ix, VF_SEC_LINE_OFFS, row, 2, sizeof(*off), off);

	*out_off = 0;
	*out_len = *out_crc = 0;
	if (!err)
		err = read_elements(ix, VF_SEC_LINE_CRCS, row, 1, sizeof(crc),
				    &crc);
	if (!err && (off[1] <= off[0] || off[1] - off[0] > UINT32_MAX))
		err = -EBADMSG; /* it was checked, and has changed since */
	if (err)
		return err;
	*out_off = off[0];
	*out_len = (uint32_t)(off[1] - off[0]);
	*out_crc = crc;
	return 0;
}

const uint64_t *vf_index_key_hashes(const struct vf_index *ix)
{
	return ix->c.section[VF_SEC_KEY_HASHES];
}

int vf_index_find_hash(const struct vf_index *ix, uint64_t hash,
		       int (*fn)(void *arg, uint64_t row), void *arg)
{
	const uint64_t *h = vf_index_key_hashes(ix);
	int rc = 0;

	for (uint64_t i = 0; !rc && i < ix->c.n_rows; i++)
		if (h[i] == hash)
			rc = fn(arg, i);
	return rc;
}

/* ---- codes that are mapped ------------------------------------------------------------- */

/* Sections with many bytes for each row. */
static bool is_large(int section)
{
	return section == VF_SEC_CODES || section == VF_SEC_FACTORS ||
	       section == VF_SEC_EXTRA_CODES || section == VF_SEC_EXTRA_FACTORS;
}

/* Sections are not longer than the way to the next, or to the end. */
static size_t section_room(const struct vf_index *ix, int section)
{
	const uint8_t *from = ix->c.section[section];
	const uint8_t *to = ix->bytes + ix->len;

	for (int i = 0; i < VF_N_SECTIONS_MAX; i++) {
		const uint8_t *p = ix->c.section[i];
		if (p > from && p < to)
			to = p;
	}
	return (size_t)(to - from);
}

int vf_index_unload(struct vf_index *ix, const void *map,
		    vf_index_copy_fn *copy)
{
	struct vf_codes c = ix->c;
	size_t len = 0, at = 0;
	uint8_t *small;

	for (int i = 0; i < VF_N_SECTIONS_MAX; i++)
		if (ix->c.section[i] && !is_large(i))
			len += vf_round_up(section_room(ix, i), 64);
	small = aligned_alloc(64, len);
	if (!small)
		return -ENOMEM;
	for (int i = 0; i < VF_N_SECTIONS_MAX; i++) {
		const uint8_t *p = ix->c.section[i];
		if (!p)
			continue;
		if (is_large(i)) {
			c.section[i] = (const uint8_t *)map + (p - ix->bytes);
			continue;
		}
		memcpy(small + at, p, section_room(ix, i));
		c.section[i] = small + at;
		at += vf_round_up(section_room(ix, i), 64);
	}
	free(ix->bytes);
	ix->bytes = small;
	ix->len = len;
	ix->c = c;
	ix->copy = copy;
	return 0;
}
