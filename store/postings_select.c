/*
 * Reading postings: each condition of a filter becomes the rows of a range of
 * entries, and $and, $or and not are words of bits.
 */
#include "store/postings_impl.h"

#include <math.h>

struct select {
	const struct vf_postings_to *at;
	const struct vf_filter *f;
	uint64_t n_rows;
	size_t n_words;
	uint32_t n_runs;
	struct vf_buf text; /* of the entry being read */
};

/* ---- entries ------------------------------------------------------------------------- */

/* A block being read: entries one after the other. */
struct block {
	const uint8_t *p, *end;
	struct vf_value v; /* of the entry */
	enum vf_rows_form form;
	uint64_t order; /* of the number before */
	struct vf_buf *text;
};

static int take_varint(struct block *b, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && b->p < b->end; shift += 7) {
		uint8_t byte = *b->p++;
		v |= (uint64_t)(byte & 127) << shift;
		if (byte < 128) {
			*out = v;
			return 0;
		}
	}
	return -EUCLEAN;
}

static int take_number(struct block *b)
{
	if (b->p == b->end)
		return -EUCLEAN;
	unsigned shared = *b->p >> 4, n = *b->p & 15;
	uint8_t bytes[8] = {0};
	uint64_t before = htobe64(b->order), order;

	b->p++;
	if (shared + n > 8 || n > (size_t)(b->end - b->p))
		return -EUCLEAN;
	memcpy(bytes, &before, shared);
	memcpy(bytes + shared, b->p, n);
	b->p += n;
	memcpy(&order, bytes, 8);
	b->order = be64toh(order);
	b->v.number = vf_number_of_order(b->order);
	return isnan(b->v.number) ? -EUCLEAN : 0;
}

static int take_text(struct block *b)
{
	uint64_t shared, n;

	if (take_varint(b, &shared) || take_varint(b, &n) ||
	    shared > b->text->len || n > (size_t)(b->end - b->p))
		return -EUCLEAN;
	b->text->len = shared;
	if (vf_buf_append(b->text, b->p, n))
		return -ENOMEM;
	b->p += n;
	b->v.text = (const char *)b->text->data;
	b->v.len = b->text->len;
	return 0;
}

/* The next entry up to its rows.  -ENOENT: there is none. */
static int take_entry(struct block *b)
{
	if (b->p == b->end)
		return -ENOENT;
	uint8_t tag = *b->p++;
	b->v = (struct vf_value){.kind = tag & 3};
	b->form = tag >> 2;
	if (b->form > VF_ROWS_BITS)
		return -EUCLEAN;
	if (b->v.kind == VF_VALUE_NUMBER)
		return take_number(b);
	if (b->v.kind == VF_VALUE_STRING)
		return take_text(b);
	if (b->v.kind == VF_VALUE_BOOL) {
		if (b->p == b->end)
			return -EUCLEAN;
		b->v.number = *b->p++ != 0;
	}
	return 0;
}

/* ---- rows ---------------------------------------------------------------------------- */

static void set_bit(uint64_t *bits, uint64_t row)
{
	bits[row / 64] |= (uint64_t)1 << row % 64;
}

static int take_list(struct block *b, uint64_t n_rows, uint64_t *bits)
{
	uint64_t n, row = 0, step;

	if (take_varint(b, &n))
		return -EUCLEAN;
	while (n--) {
		if (take_varint(b, &step) || step >= n_rows - row)
			return -EUCLEAN;
		row += step;
		if (bits)
			set_bit(bits, row);
	}
	return 0;
}

static int take_bits(struct block *b, uint64_t n_rows, uint64_t *bits)
{
	uint64_t first, n;

	if (take_varint(b, &first) || take_varint(b, &n) ||
	    n > (size_t)(b->end - b->p) || first > n_rows / 8 ||
	    n > (n_rows + 7) / 8 - first)
		return -EUCLEAN;
	for (uint64_t i = 0; bits && i < n; i++)
		bits[(first + i) / 8] |= (uint64_t)b->p[i]
					 << (first + i) % 8 * 8;
	b->p += n;
	return 0;
}

/* The rows of the entry, into @bits unless it is NULL. */
static int take_rows(struct block *b, uint64_t n_rows, uint64_t *bits)
{
	uint64_t row;

	if (b->form == VF_ROWS_LIST)
		return take_list(b, n_rows, bits);
	if (b->form == VF_ROWS_BITS)
		return take_bits(b, n_rows, bits);
	if (take_varint(b, &row) || row >= n_rows)
		return -EUCLEAN;
	if (bits)
		set_bit(bits, row);
	return 0;
}

/* ---- blocks -------------------------------------------------------------------------- */

/* Blocks of one metadata key in one run. */
struct blocks {
	struct select *s;
	uint32_t run, n;
	uint8_t hash[VF_CATALOG_HASH_LEN];
};

static int get_value(const struct select *s, const uint8_t *key, size_t min,
		     MDB_val *out)
{
	MDB_val k = {VF_POSTINGS_KEY_LEN, (void *)key};
	int rc = mdb_get(s->at->txn, s->at->dbi, &k, out);

	if (rc)
		return vf_catalog_errno(rc);
	return vf_catalog_sound(&k, out, min) ? 0 : -EUCLEAN;
}

static int open_block(struct blocks *bs, uint32_t number, MDB_val *v,
		      struct block *out)
{
	uint8_t key[VF_POSTINGS_KEY_LEN];

	vf_postings_key(bs->s->at->place, bs->run, bs->hash, number, key);
	int err = get_value(bs->s, key, VF_POSTINGS_HEADER_LEN, v);
	if (err)
		return err;
	size_t head = VF_POSTINGS_HEADER_LEN +
		      (size_t)vf_le16((uint8_t *)v->mv_data + 8);
	if (head > v->mv_size)
		return -EUCLEAN;
	*out = (struct block){.p = (uint8_t *)v->mv_data + head,
			      .end = (uint8_t *)v->mv_data + v->mv_size,
			      .text = &bs->s->text};
	out->text->len = 0;
	return 0;
}

/* -ENOENT: no row of the run has the metadata key. */
static int open_blocks(struct blocks *bs, const struct vf_filter_node *n)
{
	struct block b;
	MDB_val v;

	vf_catalog_hash(n->key, n->key_len, bs->hash);
	int err = open_block(bs, 0, &v, &b);
	if (err)
		return err;
	const uint8_t *p = v.mv_data;
	bs->n = vf_le32(p + 4);
	return bs->n && vf_le16(p + 8) == n->key_len &&
			       !memcmp(p + VF_POSTINGS_HEADER_LEN, n->key,
				       n->key_len)
		       ? 0
		       : -EUCLEAN;
}

/* The last block that begins at or before @from, where it would be. */
static int find_block(struct blocks *bs, const struct vf_value *from,
		      uint32_t *out)
{
	uint32_t lo = 0, hi = bs->n;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		struct block b;
		MDB_val v;
		int err = open_block(bs, mid, &v, &b);
		if (!err)
			err = take_entry(&b);
		if (err)
			return err == -ENOENT ? -EUCLEAN : err;
		if (vf_value_compare(&b.v, from) <= 0)
			lo = mid;
		else
			hi = mid;
	}
	*out = lo;
	return 0;
}

/*
 * Rows of entries from @from on, as long as they fulfil the condition.  -ENOENT
 * the block is at its end, which asks for the next.
 */
static int scan_block(struct block *b, const struct select *s,
		      const struct vf_filter_node *n,
		      const struct vf_value *from, uint64_t *bits)
{
	int err;

	while (!(err = take_entry(b))) {
		int c = vf_value_compare(&b->v, from);
		bool holds = c >= 0 && b->v.kind == from->kind &&
			     vf_filter_holds(s->f, n, &b->v);
		if (c > 0 && !holds)
			return 0;
		err = take_rows(b, s->n_rows, holds ? bits : NULL);
		if (err)
			return err;
	}
	return err;
}

static int scan_from(struct blocks *bs, const struct vf_filter_node *n,
		     const struct vf_value *from, uint64_t *bits)
{
	uint32_t i;
	int err = find_block(bs, from, &i);

	if (err)
		return err;
	for (err = -ENOENT; err == -ENOENT && i < bs->n; i++) {
		struct block b;
		MDB_val v;
		err = open_block(bs, i, &v, &b);
		if (err)
			return err == -ENOENT ? -EUCLEAN : err;
		err = scan_block(&b, bs->s, n, from, bits);
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- conditions ---------------------------------------------------------------------- */

/* In one run.  Entries that fulfil a condition follow each other. */
static int select_run(struct select *s, const struct vf_filter_node *n,
		      uint32_t run, uint64_t *bits)
{
	const struct vf_value *v = s->f->values + n->first;
	const struct vf_value least = {VF_VALUE_NUMBER, -INFINITY, NULL, 0},
			      here = {0};
	struct blocks bs = {.s = s, .run = run};
	int err = open_blocks(&bs, n);

	if (err)
		return err == -ENOENT ? 0 : err;
	switch (n->kind) {
	case VF_FILTER_EXISTS:
	case VF_FILTER_NOT_EXISTS:
		return scan_from(&bs, n, &here, bits);
	case VF_FILTER_LT:
	case VF_FILTER_LTE:
		return scan_from(&bs, n, &least, bits);
	case VF_FILTER_IN:
	case VF_FILTER_NOT_IN:
		for (uint32_t i = 0; !err && i < n->n; i++)
			err = scan_from(&bs, n, &v[i], bits);
		return err;
	default:
		return scan_from(&bs, n, v, bits);
	}
}

/* The rows beyond the last stay zero. */
static void flip(const struct select *s, uint64_t *bits)
{
	for (size_t i = 0; i < s->n_words; i++)
		bits[i] = ~bits[i];
	if (s->n_rows % 64)
		bits[s->n_words - 1] &= ((uint64_t)1 << s->n_rows % 64) - 1;
}

static int select_node(struct select *s, uint32_t i, uint64_t *bits);

static int select_children(struct select *s, const struct vf_filter_node *n,
			   uint64_t *bits)
{
	VF_AUTO_FREE uint64_t *one = malloc((s->n_words + 1) * sizeof(*one));
	bool is_or = n->kind == VF_FILTER_OR;
	int err = one ? 0 : -ENOMEM;

	if (!is_or)
		flip(s, bits);
	for (uint32_t c = n->child; !err && c; c = s->f->nodes[c].next) {
		memset(one, 0, s->n_words * sizeof(*one));
		err = select_node(s, c, one);
		for (size_t i = 0; i < s->n_words; i++)
			bits[i] = is_or ? bits[i] | one[i] : bits[i] & one[i];
	}
	return err;
}

/* Into @bits, which are zero. */
static int select_node(struct select *s, uint32_t i, uint64_t *bits)
{
	const struct vf_filter_node *n = &s->f->nodes[i];
	int err = 0;

	if (n->kind < VF_FILTER_IN)
		return select_children(s, n, bits);
	for (uint32_t run = 0; !err && run < s->n_runs; run++)
		err = select_run(s, n, run, bits);
	if (n->kind == VF_FILTER_NOT_IN || n->kind == VF_FILTER_NOT_EXISTS)
		flip(s, bits);
	return err;
}

int vf_postings_select(const struct vf_postings_to *at, uint64_t n_rows,
		       const struct vf_filter *f, uint64_t *bits)
{
	struct select s = {.at = at,
			   .f = f,
			   .n_rows = n_rows,
			   .n_words = (n_rows + 63) / 64};
	uint8_t key[VF_POSTINGS_KEY_LEN];
	MDB_val v;

	vf_postings_key(at->place, UINT32_MAX, NULL, 0, key);
	int err = get_value(&s, key, 8, &v);
	if (err)
		return err == -ENOENT ? -EUCLEAN : err;
	s.n_runs = vf_le32((uint8_t *)v.mv_data + 4);
	memset(bits, 0, s.n_words * sizeof(*bits));
	/* So that an empty text has an address. */
	err = vf_buf_reserve(&s.text, 1);
	if (!err)
		err = select_node(&s, 0, bits);
	vf_buf_fini(&s.text);
	return err;
}
