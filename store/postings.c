/*
 * Writing postings.  Values are gathered by key, then sorted and packed into
 * blocks of about a page of LMDB's overflow.
 */
#include "store/postings_impl.h"

enum {
	BLOCK_LEN = 2 * 4096 - 16, /* bytes; LMDB's header of two pages */
	RUN_LEN = 64 << 20,
	N_CHAINS = 1 << 14,
};

/* A value of a row. */
struct entry {
	uint64_t order; /* of a number; of a string its first 8 bytes */
	uint64_t text;	/* offset */
	uint32_t row, len;
	enum vf_value_kind kind;
};

struct field {
	uint8_t hash[VF_CATALOG_HASH_LEN];
	char *name;
	size_t name_len;
	struct vf_buf here;    /* uint32_t[], ascending: rows that have it */
	struct vf_buf entries; /* struct entry[] */
	struct field *chain;
};

struct vf_postings {
	const char *const *skip;
	size_t n_skip;
	uint32_t run, row;
	size_t len, run_len; /* bytes gathered, at most about */
	struct field *chains[N_CHAINS];
	size_t n_fields;
	struct field *field; /* that the last value was of */
	struct vf_buf texts;
	/* While writing: rows; the open block; those done, and their ends. */
	struct vf_buf scratch, block, blocks, ends;
};

/* ---- gathering ---------------------------------------------------------------------- */

int vf_postings_new(const char *const *skip, size_t n_skip, size_t run_len,
		    struct vf_postings **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	/* So that an empty text has an address. */
	if (vf_buf_reserve(&(*out)->texts, 1)) {
		free(VF_STEAL(*out));
		return -ENOMEM;
	}
	(*out)->skip = skip;
	(*out)->n_skip = n_skip;
	(*out)->run_len = run_len ? run_len : RUN_LEN;
	return 0;
}

static void free_field(struct field *f)
{
	vf_buf_fini(&f->here);
	vf_buf_fini(&f->entries);
	free(f->name);
	free(f);
}

static void empty_run(struct vf_postings *p)
{
	for (size_t i = 0; i < N_CHAINS && p->n_fields; i++)
		while (p->chains[i]) {
			struct field *f = p->chains[i];
			p->chains[i] = f->chain;
			free_field(f);
			p->n_fields--;
		}
	p->texts.len = p->len = 0;
}

void vf_postings_free(struct vf_postings *p)
{
	if (!p)
		return;
	empty_run(p);
	vf_buf_fini(&p->texts);
	vf_buf_fini(&p->scratch);
	vf_buf_fini(&p->block);
	vf_buf_fini(&p->blocks);
	vf_buf_fini(&p->ends);
	free(p);
}

static int new_field(struct vf_postings *p, const char *key, size_t len,
		     const uint8_t *hash, struct field **out)
{
	struct field *f = calloc(1, sizeof(*f));

	*out = f;
	if (!f)
		return -ENOMEM;
	memcpy(f->hash, hash, sizeof(f->hash));
	f->name = malloc(len + 1);
	if (!f->name) {
		free_field(f);
		return -ENOMEM;
	}
	memcpy(f->name, key, len);
	f->name_len = len;
	p->n_fields++;
	p->len += sizeof(*f) + len;
	return 0;
}

/* p->field: that of @key, NULL for one that is not wanted. */
static int find_field(struct vf_postings *p, const char *key, size_t len)
{
	uint8_t hash[VF_CATALOG_HASH_LEN];

	p->field = NULL;
	for (size_t i = 0; i < p->n_skip; i++)
		if (strlen(p->skip[i]) == len && !memcmp(p->skip[i], key, len))
			return 0;
	vf_catalog_hash(key, len, hash);
	struct field **at = &p->chains[vf_le32(hash) % N_CHAINS];
	while (*at && memcmp((*at)->hash, hash, sizeof(hash)))
		at = &(*at)->chain;
	if (!*at) {
		int err = new_field(p, key, len, hash, at);
		if (err)
			return err;
	}
	p->field = *at;
	return 0;
}

static uint64_t text_order(const char *s, size_t len)
{
	uint8_t first[8] = {0};

	memcpy(first, s, VF_MIN(len, sizeof(first)));
	uint64_t order;
	memcpy(&order, first, 8);
	return be64toh(order);
}

static int add_value(void *arg, const char *key, size_t key_len,
		     const struct vf_value *v)
{
	struct vf_postings *p = arg;
	struct entry e = {.row = p->row, .kind = v->kind};
	int err;

	if (v->kind == VF_VALUE_HERE) {
		err = find_field(p, key, key_len);
		if (err || !p->field)
			return err;
		p->len += 4;
		return vf_buf_append(&p->field->here, &p->row, 4);
	}
	if (!p->field)
		return 0;
	e.order = vf_number_order(v->number);
	if (v->kind == VF_VALUE_STRING) {
		e.order = text_order(v->text, v->len);
		e.text = p->texts.len;
		e.len = (uint32_t)v->len;
		err = vf_buf_append(&p->texts, v->text, v->len);
		if (err)
			return err;
	}
	p->len += sizeof(e) + v->len;
	return vf_buf_append(&p->field->entries, &e, sizeof(e));
}

/* ---- one key into blocks ------------------------------------------------------------- */

struct sorting {
	const uint8_t *texts;
};

static int compare_values(const struct entry *a, const struct entry *b,
			  const uint8_t *texts)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	if (a->kind != VF_VALUE_STRING)
		return 0;
	int c = memcmp(texts + a->text, texts + b->text,
		       VF_MIN(a->len, b->len));
	return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int compare_entries(const void *a, const void *b, void *arg)
{
	const struct entry *x = a, *y = b;
	int c = compare_values(x, y, ((struct sorting *)arg)->texts);

	return c ? c : (x->row > y->row) - (x->row < y->row);
}

static int put_varint(struct vf_buf *b, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	return vf_buf_append(b, bytes, n);
}

/* Bits where a byte a row would be longer. */
static enum vf_rows_form choose_form(const uint32_t *rows, size_t n)
{
	if (n == 1)
		return VF_ROWS_ONE;
	return rows[n - 1] / 8 - rows[0] / 8 + 1 < n ? VF_ROWS_BITS
						     : VF_ROWS_LIST;
}

static int put_rows(struct vf_buf *b, enum vf_rows_form form,
		    const uint32_t *rows, size_t n)
{
	int err = 0;

	if (form == VF_ROWS_ONE)
		return put_varint(b, rows[0]);
	if (form == VF_ROWS_LIST) {
		err = put_varint(b, n);
		for (size_t i = 0; !err && i < n; i++)
			err = put_varint(b, i ? rows[i] - rows[i - 1] : *rows);
		return err;
	}
	uint32_t first = rows[0] / 8, len = rows[n - 1] / 8 - first + 1;
	if (put_varint(b, first) || put_varint(b, len) ||
	    vf_buf_append(b, NULL, len))
		return -ENOMEM;
	uint8_t *bits = b->data + b->len - len;
	for (size_t i = 0; i < n; i++)
		bits[rows[i] / 8 - first] |= (uint8_t)(1 << rows[i] % 8);
	return 0;
}

static int put_number(struct vf_buf *b, uint64_t order, const uint64_t *before)
{
	unsigned shared = 0, n = 8;
	uint64_t rest = htobe64(order);

	while (before && shared < 8 &&
	       !((order ^ *before) >> (56 - 8 * shared) & 255))
		shared++;
	while (n > shared && !(order >> (64 - 8 * n) & 255))
		n--;
	uint8_t head = (uint8_t)(shared << 4 | (n - shared));
	return vf_buf_append(b, &head, 1)
		       ? -ENOMEM
		       : vf_buf_append(b, (uint8_t *)&rest + shared,
				       n - shared);
}

static int put_text(struct vf_buf *b, const uint8_t *texts,
		    const struct entry *e, const struct entry *before)
{
	size_t shared = 0;

	while (before && shared < e->len && shared < before->len &&
	       texts[e->text + shared] == texts[before->text + shared])
		shared++;
	if (put_varint(b, shared) || put_varint(b, e->len - shared))
		return -ENOMEM;
	return vf_buf_append(b, texts + e->text + shared, e->len - shared);
}

/* One entry appended to p->block; @before: that before it there, or NULL. */
static int pack_entry(struct vf_postings *p, const struct entry *e,
		      const struct entry *before, const uint32_t *rows,
		      size_t n)
{
	enum vf_rows_form form = choose_form(rows, n);
	uint8_t tag = (uint8_t)(e->kind | form << 2), bit;
	int err = vf_buf_append(&p->block, &tag, 1);

	if (before && before->kind != e->kind)
		before = NULL;
	if (!err && e->kind == VF_VALUE_BOOL) {
		bit = e->order == vf_number_order(1);
		err = vf_buf_append(&p->block, &bit, 1);
	} else if (!err && e->kind == VF_VALUE_NUMBER) {
		err = put_number(&p->block, e->order,
				 before ? &before->order : NULL);
	} else if (!err && e->kind == VF_VALUE_STRING) {
		err = put_text(&p->block, p->texts.data, e, before);
	}
	return err ? err : put_rows(&p->block, form, rows, n);
}

/* The first one holds the metadata key. */
static int begin_block(struct vf_postings *p, const struct field *f)
{
	uint8_t head[VF_POSTINGS_HEADER_LEN] = {0};
	size_t name_len = p->ends.len ? 0 : f->name_len;

	vf_put_le16(head + 8, (uint16_t)name_len);
	p->block.len = 0;
	if (vf_buf_append(&p->block, head, sizeof(head)))
		return -ENOMEM;
	return vf_buf_append(&p->block, f->name, name_len);
}

static int end_block(struct vf_postings *p)
{
	if (vf_buf_append(&p->blocks, p->block.data, p->block.len))
		return -ENOMEM;
	return vf_buf_append(&p->ends, &p->blocks.len, sizeof(p->blocks.len));
}

/* An entry, in a new block when the last one is full. */
static int place_entry(struct vf_postings *p, const struct field *f,
		       const struct entry *e, const struct entry **before,
		       const uint32_t *rows, size_t n)
{
	size_t from = p->block.len;
	int err = pack_entry(p, e, *before, rows, n);

	if (!err && p->block.len > BLOCK_LEN && *before) {
		p->block.len = from;
		err = end_block(p);
		if (!err)
			err = begin_block(p, f);
		if (!err)
			err = pack_entry(p, e, NULL, rows, n);
	}
	*before = e;
	return err;
}

/* The rows of the value at @e, each once, to p->scratch; how many entries. */
static size_t take_rows(struct vf_postings *p, const struct entry *e, size_t n)
{
	uint32_t *rows = (uint32_t *)p->scratch.data;
	size_t i = 0, n_rows = 0;

	for (; i < n && !compare_values(&e[i], e, p->texts.data); i++)
		if (!n_rows || rows[n_rows - 1] != e[i].row)
			rows[n_rows++] = e[i].row;
	p->scratch.len = n_rows * sizeof(*rows);
	return i;
}

static int pack_field(struct vf_postings *p, struct field *f)
{
	static const struct entry here = {.kind = VF_VALUE_HERE};
	struct entry *e = (struct entry *)f->entries.data;
	size_t n = f->entries.len / sizeof(*e);
	const struct entry *before = NULL;
	struct sorting s = {p->texts.data};
	int err;

	p->blocks.len = p->ends.len = p->scratch.len = 0;
	if (vf_buf_reserve(&p->scratch, (n + 1) * sizeof(uint32_t)))
		return -ENOMEM;
	if (n)
		qsort_r(e, n, sizeof(*e), compare_entries, &s);
	err = begin_block(p, f);
	if (!err)
		err = place_entry(p, f, &here, &before,
				  (const uint32_t *)f->here.data,
				  f->here.len / sizeof(uint32_t));
	for (size_t i = 0, took; !err && i < n; i += took) {
		took = take_rows(p, e + i, n - i);
		err = place_entry(p, f, &e[i], &before,
				  (const uint32_t *)p->scratch.data,
				  p->scratch.len / sizeof(uint32_t));
	}
	return err ? err : end_block(p);
}

/* ---- writing ------------------------------------------------------------------------- */

static int put_value(const struct vf_postings_to *to, uint8_t *key, void *p,
		     size_t len)
{
	MDB_val k = {VF_POSTINGS_KEY_LEN, key}, v = {len, p};

	vf_put_le32(p, vf_catalog_crc(&k, p, len));
	return vf_catalog_errno(mdb_put(to->txn, to->dbi, &k, &v, MDB_APPEND));
}

static int write_field(struct vf_postings *p, const struct vf_postings_to *to,
		       struct field *f)
{
	uint8_t key[VF_POSTINGS_KEY_LEN];
	int err = pack_field(p, f);
	const size_t *ends = (const size_t *)p->ends.data;
	uint32_t n = (uint32_t)(p->ends.len / sizeof(*ends));
	size_t from = 0;

	for (uint32_t i = 0; !err && i < n; i++) {
		uint8_t *block = p->blocks.data + from;
		vf_postings_key(to->place, p->run, f->hash, i, key);
		vf_put_le32(block + 4, n);
		err = put_value(to, key, block, ends[i] - from);
		from = ends[i];
	}
	return err;
}

static int compare_fields(const void *a, const void *b)
{
	struct field *const *x = a, *const *y = b;

	return memcmp((*x)->hash, (*y)->hash, VF_CATALOG_HASH_LEN);
}

/* In the order of their hashes, which is that of the environment. */
static int write_run(struct vf_postings *p, const struct vf_postings_to *to)
{
	VF_AUTO_FREE struct field **all =
		malloc((p->n_fields + 1) * sizeof(struct field *));
	size_t n = 0;
	int err = 0;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < N_CHAINS; i++)
		for (struct field *f = p->chains[i]; f; f = f->chain)
			all[n++] = f;
	qsort(all, n, sizeof(*all), compare_fields);
	for (size_t i = 0; !err && i < n; i++)
		err = write_field(p, to, all[i]);
	empty_run(p);
	p->run++;
	return err;
}

int vf_postings_add(struct vf_postings *p, const struct vf_postings_to *to,
		    uint32_t row, const char *metadata, size_t len)
{
	p->row = row;
	int err = vf_metadata_walk(metadata, len, &p->scratch, add_value, p);
	if (err)
		return err;
	return p->len > p->run_len ? write_run(p, to) : 0;
}

int vf_postings_finish(struct vf_postings *p, const struct vf_postings_to *to)
{
	uint8_t key[VF_POSTINGS_KEY_LEN], value[8] = {0};
	int err = p->n_fields ? write_run(p, to) : 0;

	vf_postings_key(to->place, UINT32_MAX, NULL, 0, key);
	vf_put_le32(value + 4, p->run);
	p->run = 0;
	return err ? err : put_value(to, key, value, sizeof(value));
}

int vf_postings_forget(const struct vf_postings_to *at)
{
	uint8_t first[VF_POSTINGS_KEY_LEN];
	MDB_val key = {sizeof(first), first}, val;
	uint32_t prefix = htobe32(at->place);
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(at->txn, at->dbi, &cursor);

	if (rc)
		return vf_catalog_errno(rc);
	vf_postings_key(at->place, 0, NULL, 0, first);
	rc = mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE);
	while (!rc && key.mv_size == VF_POSTINGS_KEY_LEN &&
	       !memcmp(key.mv_data, &prefix, 4)) {
		rc = mdb_cursor_del(cursor, 0);
		/* After a delete the cursor is at the next one. */
		if (!rc)
			rc = mdb_cursor_get(cursor, &key, &val,
					    MDB_GET_CURRENT);
	}
	mdb_cursor_close(cursor);
	/* EINVAL: the cursor went past the last one. */
	return rc == MDB_NOTFOUND || rc == EINVAL ? 0 : vf_catalog_errno(rc);
}
