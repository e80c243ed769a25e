/*
 * Reading a place that is new to the catalog: a row of metadata each, at once;
 * keys in sorted batches, so that neighbours share pages.
 */
#include "store/catalog_impl.h"
#include "store/line.h"
#include "store/postings.h"
#include "store/recordfile.h"

enum {
	READ_WINDOW = 8 << 20, /* bytes of records fetched at a time */
	BATCH_LEN = 16 << 20,  /* bytes of keys sorted together */
};

/* A key on its way in; the bytes are in the batch. */
struct pending {
	uint8_t hash[VF_CATALOG_HASH_LEN];
	uint32_t row, key_len;
	size_t key_off;
};

static int compare_pending(const void *a, const void *b)
{
	return memcmp(a, b, VF_CATALOG_HASH_LEN);
}

/* An entry behind those of other keys of the same hash, nearly always none. */
static int link_key(struct vf_catalog_work *w, MDB_cursor *cursor,
		    const struct pending *p)
{
	const struct entry_disk e = {w->place, p->row, p->key_len};
	MDB_val key = {sizeof(p->hash), (void *)p->hash}, val;
	struct vf_buf *b = &w->scratch;
	int rc = mdb_cursor_get(cursor, &key, &val, MDB_SET_KEY);

	b->len = 0;
	if (rc && rc != MDB_NOTFOUND)
		return vf_catalog_errno(rc);
	if (!rc && !vf_catalog_sound(&key, &val, 4))
		return -EUCLEAN;
	if (vf_buf_append(b, rc ? NULL : val.mv_data, rc ? 4 : val.mv_size) ||
	    vf_buf_append(b, &e, sizeof(e)) ||
	    vf_buf_append(b, w->keys.data + p->key_off, p->key_len))
		return -ENOMEM;
	key = (MDB_val){sizeof(p->hash), (void *)p->hash};
	vf_put_le32(b->data, vf_catalog_crc(&key, b->data, b->len));
	val = (MDB_val){b->len, b->data};
	return vf_catalog_errno(mdb_cursor_put(cursor, &key, &val, 0));
}

/* Sorted, so that neighbours share pages. */
static int link_batch(struct vf_catalog_work *w)
{
	struct pending *p = (struct pending *)w->pending.data;
	size_t n = w->pending.len / sizeof(*p);
	MDB_cursor *cursor;
	int err =
		vf_catalog_errno(mdb_cursor_open(w->txn, w->c->keys, &cursor));

	if (err)
		return err;
	if (n)
		qsort(p, n, sizeof(*p), compare_pending);
	for (size_t i = 0; !err && i < n; i++)
		err = link_key(w, cursor, &p[i]);
	mdb_cursor_close(cursor);
	w->pending.len = w->keys.len = 0;
	return err;
}

static int put_row(struct vf_catalog_work *w, MDB_cursor *rows,
		   const uint8_t *hash, uint32_t row,
		   const struct vf_line *line)
{
	struct vf_buf *b = &w->scratch;
	uint8_t bytes[8];
	MDB_val key = {sizeof(bytes), bytes}, val;

	vf_catalog_row_key(w->place, row, bytes);
	b->len = 0;
	if (vf_buf_append(b, NULL, 4) ||
	    vf_buf_append(b, hash, VF_CATALOG_HASH_LEN) ||
	    vf_buf_append(b, line->metadata, line->metadata_len))
		return -ENOMEM;
	vf_put_le32(b->data, vf_catalog_crc(&key, b->data, b->len));
	val = (MDB_val){b->len, b->data};
	/* Ids ascend, and so do the rows of one. */
	return vf_catalog_errno(mdb_cursor_put(rows, &key, &val, MDB_APPEND));
}

static struct vf_postings_to postings_of(const struct vf_catalog_work *w)
{
	return (struct vf_postings_to){w->txn, w->c->values, w->place};
}

static int add_row(struct vf_catalog_work *w, MDB_cursor *rows, uint32_t row,
		   const char *text, size_t len)
{
	struct vf_line line;
	struct pending p = {.row = row, .key_off = w->keys.len};
	const struct vf_postings_to to = postings_of(w);
	int err =
		len > VF_LINE_MAX ? -EBADMSG : vf_line_split(text, len, &line);

	if (!err)
		err = vf_line_key(&line, &w->keys);
	if (err)
		return err;
	p.key_len = (uint32_t)(w->keys.len - p.key_off);
	vf_catalog_hash(w->keys.data + p.key_off, p.key_len, p.hash);
	err = put_row(w, rows, p.hash, row, &line);
	if (!err)
		err = vf_postings_add(w->postings, &to, row, line.metadata,
				      line.metadata_len);
	if (!err)
		err = vf_buf_append(&w->pending, &p, sizeof(p));
	if (!err && w->keys.len > BATCH_LEN)
		err = link_batch(w);
	w->n_done++;
	if (!err && w->s->progress && w->n_done % 4096 == 0)
		err = w->s->progress(w->s->arg, w->n_done, w->n_total);
	return err;
}

static int read_tail(struct vf_catalog_work *w, MDB_cursor *rows,
		     const struct vf_catalog_wanted *want)
{
	const struct vf_inline *r = want->rows;
	int err = 0;

	for (uint64_t i = 0; !err && i < r->n_rows; i++)
		if (!vf_dead_has(want->dead, i))
			err = add_row(w, rows, (uint32_t)i,
				      r->lines + r->line_offs[i],
				      r->line_offs[i + 1] - r->line_offs[i]);
	return err;
}

/* The records of a shard on their way in. */
struct reader {
	struct vf_catalog_work *w;
	MDB_cursor *rows;
	const struct vf_catalog_wanted *want;
	struct vf_recordfile *file;
	uint32_t *crcs;	    /* of lines; NULL: frames had theirs */
	struct vf_buf rest; /* read ahead of the last whole line */
	uint64_t row;	    /* the next */
};

static int take_line(struct reader *r, const char *text, size_t len)
{
	uint64_t row = r->row++;
	int err = 0;

	if (row >= r->want->n_rows)
		return vf_recordfile_damaged(r->file, row);
	if (vf_dead_has(r->want->dead, row))
		return 0;
	if (r->crcs && vf_crc32c(0, text, len) != r->crcs[row])
		err = -EBADMSG;
	if (!err)
		err = add_row(r->w, r->rows, (uint32_t)row, text, len);
	return err == -EBADMSG ? vf_recordfile_damaged(r->file, row) : err;
}

/* Whole lines of what was read; what is behind them stays. */
static int take_lines(struct reader *r)
{
	struct vf_buf *rest = &r->rest;
	size_t at = 0;
	int err = 0;

	while (!err && at < rest->len) {
		const uint8_t *s = rest->data + at;
		const uint8_t *end = memchr(s, '\n', rest->len - at);
		if (!end)
			break;
		size_t len = (size_t)(end - s) + 1;
		err = take_line(r, (const char *)s, len);
		at += len;
	}
	memmove(rest->data, rest->data + at, rest->len - at);
	rest->len -= at;
	return !err && rest->len > VF_LINE_MAX
		       ? vf_recordfile_damaged(r->file, r->row)
		       : err;
}

static int read_lines(struct reader *r)
{
	uint64_t off = 0;
	int err = 0;

	while (!err && off < vf_recordfile_len(r->file)) {
		const uint8_t *p;
		size_t n;
		err = vf_recordfile_read(r->file, off, &p, &n);
		if (err || !n)
			break;
		off += n;
		err = vf_buf_append(&r->rest, p, n) ? -ENOMEM : take_lines(r);
	}
	if (!err && (r->rest.len || r->row != r->want->n_rows))
		err = vf_recordfile_damaged(r->file, r->row);
	return err;
}

/* Plain records are believed line by line. */
static int fetch_crcs(struct reader *r)
{
	const struct vf_catalog_sync *s = r->w->s;

	if (!vf_recordfile_is_plain(r->file))
		return 0;
	return s->line_crcs
		       ? s->line_crcs(s->bucket, s->state->name, r->want->shard,
				      &r->crcs)
		       : vf_fail(-EINVAL,
				 "%s: its records are not compressed, and "
				 "nothing was given to check their lines by",
				 r->want->shard->name);
}

static int read_shard(struct vf_catalog_work *w, MDB_cursor *rows,
		      const struct vf_catalog_wanted *want)
{
	struct reader r = {.w = w, .rows = rows, .want = want};
	int err = vf_recordfile_open(w->s->bucket, w->s->state->name,
				     want->shard, READ_WINDOW, &r.file);

	if (err)
		return err;
	err = fetch_crcs(&r);
	if (!err)
		err = read_lines(&r);
	vf_recordfile_close(r.file);
	vf_buf_fini(&r.rest);
	free(r.crcs);
	return err;
}

int vf_catalog_read_place(struct vf_catalog_work *w,
			  const struct vf_catalog_wanted *want)
{
	const struct vf_postings_to to = postings_of(w);
	MDB_cursor *rows;
	int err = vf_catalog_put_place(w, w->place, want);

	if (!err)
		err = vf_catalog_errno(
			mdb_cursor_open(w->txn, w->c->rows, &rows));
	if (err)
		return err;
	err = want->shard ? read_shard(w, rows, want)
			  : read_tail(w, rows, want);
	if (err == -EBADMSG && !want->shard)
		vf_log(VF_ERROR, "%s: inline rows of record %.20s are damaged",
		       w->s->state->name, want->name);
	mdb_cursor_close(rows);
	if (!err)
		err = vf_postings_finish(w->postings, &to);
	if (!err)
		err = link_batch(w);
	w->n_txn += want->n_rows;
	w->place++;
	return err;
}
