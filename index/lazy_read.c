/*
 * Leaves of a shard read from its file, some of them at once, and checked: each
 * part to where memory has it, what stays in the file to a room of its own.
 */
#include "index/lazy_impl.h"
#include "index/refine.h"

enum {
	RUN_LEAVES = 32, /* read at once, of so many rows */
	RUN_ROWS = 1 << 14,
	LEFT_LEN = 16, /* bytes of a row that stay in the file */
};

struct vf_extent vf_lazy_extent(const struct vf_index *ix, uint32_t leaf,
				enum vf_section s)
{
	struct vf_piece p =
		vf_codes_piece(&ix->c, vf_lazy_leaf(ix, leaf), leaf, s);

	return (struct vf_extent){ix->lazy->ref[p.section].off + p.off, p.len};
}

/* Some leaves in a row that are read together. */
struct run {
	const struct vf_index *ix;
	enum vf_lazy_kind kind;
	uint32_t first, end;
	uint8_t *left; /* of what stays in the file, leaf after leaf */
};

/* Where what is read of a leaf's part goes. */
static uint8_t *part_room(const struct run *r, uint32_t i, size_t part)
{
	size_t n;
	const enum vf_section *p = vf_lazy_parts(r->kind, &n);
	const struct vf_codes *c = &r->ix->c;
	const struct vf_leaf_disk *leaf = vf_lazy_leaf(r->ix, i);
	struct vf_codes by_row = *c;
	uint64_t rows =
		leaf->first_row - vf_lazy_leaf(r->ix, r->first)->first_row;
	uint8_t *at = r->left + rows * LEFT_LEN + (i - r->first) * 8;

	by_row.by_leaf = false;
	if (!vf_lazy_is_left(p[part]))
		return (uint8_t *)c->section[p[part]] +
		       vf_codes_piece(&by_row, leaf, i, p[part]).off;
	for (size_t j = 0; j < part; j++)
		if (vf_lazy_is_left(p[j]))
			at += vf_lazy_extent(r->ix, i, p[j]).len;
	return at;
}

/* Pieces that follow each other in the file are one read. */
static int read_pieces(const struct run *r, struct iovec *iov)
{
	const struct vf_codes_source *src = &r->ix->lazy->src;
	size_t n_parts, n = 0;
	const enum vf_section *p = vf_lazy_parts(r->kind, &n_parts);
	uint64_t off = 0, end = 0;
	int err = 0;

	for (uint32_t i = r->first; !err && i < r->end; i++)
		for (size_t j = 0; !err && j < n_parts; j++) {
			struct vf_extent e = vf_lazy_extent(r->ix, i, p[j]);
			if (n && e.off != end) {
				err = src->readv(src->arg, off, iov, (int)n);
				n = 0;
			}
			off = n ? off : e.off;
			end = e.off + e.len;
			iov[n++] = (struct iovec){part_room(r, i, j), e.len};
			if (!vf_lazy_is_left(p[j]))
				atomic_fetch_add_explicit(&r->ix->lazy->len,
							  e.len,
							  memory_order_relaxed);
		}
	return err || !n ? err : src->readv(src->arg, off, iov, (int)n);
}

static uint32_t sum_part(const struct run *r, uint32_t i, size_t part,
			 uint32_t crc)
{
	size_t n;
	const enum vf_section *p = vf_lazy_parts(r->kind, &n);

	return vf_crc32c(crc, part_room(r, i, part),
			 vf_lazy_extent(r->ix, i, p[part]).len);
}

static bool codes_are_whole(const struct run *r, uint32_t i)
{
	const void *sums = r->ix->c.section[VF_SEC_LEAF_CRCS];
	uint32_t crc = 0;

	if (r->ix->c.by_leaf) {
		for (size_t j = 0; j < VF_CODES_PARTS_MAX; j++)
			crc = sum_part(r, i, j, crc);
		return crc == ((const struct vf_leaf_sums *)sums)[i].rows;
	}
	const struct vf_leaf_crcs *c = (const struct vf_leaf_crcs *)sums + i;
	const uint32_t want[VF_CODES_PARTS_MAX] = {
		vf_lazy_leaf(r->ix, i)->codes_crc, c->factors, c->line_offs,
		c->row_crcs, c->line_crcs};
	for (size_t j = 0; j < VF_CODES_PARTS_MAX; j++)
		if (sum_part(r, i, j, 0) != want[j])
			return false;
	return true;
}

static const char *check_codes(const struct run *r, uint32_t i)
{
	const struct vf_leaf_disk *leaf = vf_lazy_leaf(r->ix, i);
	const char *why;

	if (!codes_are_whole(r, i))
		return "the codes of a leaf are damaged";
	why = vf_codes_check_rows(&r->ix->c, (const void *)part_room(r, i, 1),
				  leaf->n_rows);
	return why ? why
		   : vf_codes_check_lines((const void *)part_room(r, i, 2),
					  leaf->first_row, leaf->n_rows);
}

/* Extra bits of each row have a checksum among their factors. */
static const char *check_extra(const struct run *r, uint32_t i)
{
	const void *sums = r->ix->c.section[VF_SEC_LEAF_CRCS];
	uint32_t want =
		r->ix->c.by_leaf
			? ((const struct vf_leaf_sums *)sums)[i].extra_factors
			: ((const struct vf_leaf_crcs *)sums)[i].extra_factors;
	const uint8_t *bits = part_room(r, i, 0);
	const struct vf_extra_factors *f = (const void *)part_room(r, i, 1);
	uint64_t n = vf_lazy_leaf(r->ix, i)->n_rows;
	size_t len = vf_extra_len(r->ix->c.bits, r->ix->c.padded);

	if (sum_part(r, i, 1, 0) != want)
		return "the extra bits of a leaf are damaged";
	for (uint64_t row = 0; row < n; row++)
		if (vf_crc32c(0, bits + row * len, len) != f[row].crc)
			return "the extra bits of a leaf are damaged";
	return vf_codes_check_extra(f, n);
}

static int read_run(struct run *r, const char **out_reason)
{
	const struct vf_leaf_disk *first = vf_lazy_leaf(r->ix, r->first),
				  *last = vf_lazy_leaf(r->ix, r->end - 1);
	uint64_t rows = last->first_row + last->n_rows - first->first_row;
	struct iovec iov[RUN_LEAVES * VF_CODES_PARTS_MAX];
	int err;

	/* 16 bytes of each row, and where the last line of a leaf ends */
	r->left = malloc(rows * LEFT_LEN + RUN_LEAVES * 8);
	err = r->left ? read_pieces(r, iov) : -ENOMEM;
	for (uint32_t i = r->first; !err && i < r->end; i++) {
		*out_reason = r->kind == VF_LAZY_CODES ? check_codes(r, i)
						       : check_extra(r, i);
		err = *out_reason ? -EBADMSG : 0;
	}
	free(r->left);
	return err;
}

int vf_lazy_read(const struct vf_index *ix, enum vf_lazy_kind k,
		 const bool *mine, const char **out_reason)
{
	struct run r = {.ix = ix, .kind = k};
	struct vf_lazy *z = ix->lazy;
	int err = 0;

	for (; !err && r.first < z->n_leaves; r.first = r.end) {
		uint64_t rows = 0;
		for (r.end = r.first; r.end < z->n_leaves && mine[r.end] &&
				      r.end - r.first < RUN_LEAVES;
		     r.end++) {
			rows += vf_lazy_leaf(ix, r.end)->n_rows;
			if (rows > RUN_ROWS && r.end > r.first)
				break;
		}
		if (r.end == r.first) {
			r.end++;
			continue;
		}
		err = read_run(&r, out_reason);
	}
	return err;
}
