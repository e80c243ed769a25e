/*
 * One shard's codes in memory: opened from codes.vix, its small sections
 * looked up, its large ones left where they are mapped.
 *
 * index  bytes owned, validated once, then trusted; [fixed] after open, or
 *        filled leaf by leaf (lazy.c)
 */
#include "index/codes_layout.h"
#include "index/index_impl.h"
#include "index/lazy.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

static int spread_leaves(struct vf_index *ix);

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
	if (!err && ix->c.by_leaf)
		err = spread_leaves(ix);
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

double vf_index_reach(const struct vf_index *ix)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	const float *origin = ix->c.section[VF_SEC_ORIGIN];
	double sq = 0;

	if (ix->c.section[VF_SEC_TREE])
		return 0;
	for (uint32_t i = 0; i < ix->c.padded; i++)
		sq += (double)origin[i] * origin[i];
	return sqrt(sq) + (isfinite(leaf->radius) ? (double)leaf->radius : 0);
}

/* Elements [@i, @i + @n) of a section by row; they may lie in the file. */
static int read_elements(const struct vf_index *ix, enum vf_section section,
			 uint64_t i, size_t n, size_t each, void *out)
{
	const uint8_t *p = ix->c.section[section];

	if (ix->lazy)
		return vf_lazy_peek(ix, section, i, n * each, out);
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

/* ---- large sections ------------------------------------------------------------- */

/* Sections with many bytes for each row. */
static bool is_large(int section)
{
	return section == VF_SEC_CODES || section == VF_SEC_FACTORS ||
	       section == VF_SEC_EXTRA_CODES || section == VF_SEC_EXTRA_FACTORS;
}

void vf_index_expect_all(const struct vf_index *ix)
{
	static const enum vf_section sections[] = {VF_SEC_CODES, VF_SEC_FACTORS,
						   VF_SEC_EXTRA_CODES};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	for (size_t i = 0; ix->lazy && i < VF_N(sections); i++) {
		uint8_t *p = (uint8_t *)ix->c.section[sections[i]];
		if (!p)
			continue;
		size_t skip = (size_t)(-(uintptr_t)p & (page - 1));
		size_t len = vf_codes_len(&ix->c, sections[i]);
		if (len > skip)
			madvise(p + skip, len - skip, MADV_HUGEPAGE);
	}
}

static int copy_plain(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	return 0;
}

/*
 * A section, which may lie by leaf, side by side to @to.
 * @leaf  of memory that nobody else changes
 */
static int gather_section(const struct vf_codes *c, enum vf_section s,
			  const struct vf_leaf_disk *leaf,
			  int (*copy)(void *, const void *, size_t),
			  uint8_t *to)
{
	struct vf_codes by_row = *c;
	int err = 0;

	if (!c->by_leaf || !vf_codes_is_by_leaf(s))
		return copy(to, c->section[s], vf_codes_len(c, s));
	by_row.by_leaf = false;
	for (uint32_t i = 0; !err && i < c->n_leaves; i++, leaf++) {
		struct vf_piece from = vf_codes_piece(c, leaf, i, s),
				at = vf_codes_piece(&by_row, leaf, i, s);
		const uint8_t *p = c->section[from.section];
		if (leaf->first_row > c->n_rows ||
		    leaf->n_rows > c->n_rows - leaf->first_row)
			return -EBADMSG; /* changed since it was checked */
		err = copy(to + at.off, p + from.off, from.len);
	}
	return err;
}

/*
 * Copies of sections, so that nothing can change them any more and those by
 * leaf lie by row.
 * @large  of large ones too
 */
static int hold_sections(struct vf_index *ix, bool large,
			 int (*copy)(void *, const void *, size_t))
{
	const struct vf_codes c = ix->c;
	uint8_t *bytes;
	size_t at = 0;

	for (int i = 0; i < VF_N_SECTIONS_MAX; i++)
		if (vf_codes_has_rows(&c, i, c.section[i]) &&
		    (large || !is_large(i)))
			at += vf_round_up(vf_codes_len(&c, i), 64);
	bytes = aligned_alloc(64, at);
	if (!bytes)
		return -ENOMEM;
	ix->bytes = bytes;
	ix->len = at;
	at = 0;
	for (int i = 0; i < VF_N_SECTIONS_MAX; i++) {
		if (!vf_codes_has_rows(&c, i, c.section[i]) ||
		    (is_large(i) && !large))
			continue;
		if (gather_section(&c, i, ix->c.section[VF_SEC_LEAVES], copy,
				   bytes + at))
			return -EREMOTEIO;
		ix->c.section[i] = bytes + at;
		at += vf_round_up(vf_codes_len(&c, i), 64);
	}
	return 0;
}

/* What is in memory has no leaves to be read one by one. */
static int spread_leaves(struct vf_index *ix)
{
	VF_AUTO_FREE uint8_t *file = ix->bytes;
	int err = hold_sections(ix, true, copy_plain);

	if (err) {
		ix->bytes = NULL;
		return err;
	}
	ix->c.by_leaf = false;
	ix->c.section[VF_SEC_ROWS_BY_LEAF] = NULL;
	ix->c.section[VF_SEC_EXTRA_BY_LEAF] = NULL;
	return 0;
}

/* Where a mapping has @row of a section, and how many lie together from there. */
static const uint8_t *locate_row(const struct vf_index *ix,
				 enum vf_section section, uint64_t row,
				 size_t each, uint64_t *out_n)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	const uint8_t *p = ix->c.section[section];

	if (!ix->c.by_leaf) {
		*out_n = ix->c.n_rows - row;
		return p + row * each;
	}
	uint32_t i = vf_index_row_leaf(ix, row);
	uint64_t skip = row - leaf[i].first_row;
	*out_n = leaf[i].n_rows - skip;
	p = vf_codes_leaf(&ix->c, i, section);
	return p + skip * each;
}

const void *vf_index_rows(const struct vf_index *ix, enum vf_section section,
			  uint64_t row, size_t n, size_t each, void *room)
{
	const uint8_t *p = ix->c.section[section];
	uint8_t *to = room;
	uint64_t m;

	if (!ix->copy)
		return p + row * each;
	for (; n; row += m, n -= m, to += m * each) {
		p = locate_row(ix, section, row, each, &m);
		m = VF_MIN((uint64_t)n, m);
		if (ix->copy(to, p, m * each))
			return NULL;
	}
	return room;
}

void vf_index_want(const struct vf_index *ix, enum vf_section section,
		   uint64_t row, size_t n, size_t each)
{
	for (uint64_t m; ix->want && n; row += m, n -= m) {
		const uint8_t *p = locate_row(ix, section, row, each, &m);
		m = VF_MIN((uint64_t)n, m);
		ix->want(p, m * each);
	}
}

struct validating {
	const struct vf_index_mapping *m;
	struct vf_codes c;
	const char *reason;
	int err;
};

static void validate(void *arg)
{
	struct validating *v = arg;

	v->err = vf_codes_validate(v->m->map, v->m->len, &v->c, &v->reason);
}

int vf_index_open_mapped(const struct vf_index_mapping *m,
			 struct vf_index **out, const char **out_reason)
{
	struct validating v = {.m = m, .reason = "no memory"};
	struct vf_index *ix = calloc(1, sizeof(*ix));
	int err = ix ? 0 : -ENOMEM;

	*out = NULL;
	if (!err && m->call(validate, &v))
		err = -EREMOTEIO;
	if (!err)
		err = v.err;
	if (!err) {
		ix->c = v.c;
		ix->copy = m->copy;
		ix->want = m->want;
		err = vf_rotation_new(ix->c.dim, ix->c.rotation_seed,
				      &ix->rotation);
	}
	if (!err)
		err = hold_sections(ix, false, m->copy);
	*out_reason = err == -EREMOTEIO ? "it cannot be read" : v.reason;
	if (err)
		vf_index_close(ix);
	else
		*out = ix;
	return err;
}
