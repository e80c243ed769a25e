/*
 * Making the catalog say what a state says.  What it holds is known by its
 * places, each with the rows that were dead when it was last looked at; so the
 * difference to any state can be told without the records in between:
 *
 *   1. places the state does not have, or in which rows rose again, are
 *      forgotten
 *   2. rows that died since are forgotten
 *   3. places that are new are read
 *
 * In the state a key lives in one place only, so the order of these does not
 * matter, and entries name the place they are of.
 */
#include "store/catalog_impl.h"
#include "store/postings.h"

enum { TXN_ROWS = 100000 }; /* about so many in one transaction */

/* ---- places ---------------------------------------------------------------------------- */

static int list_wanted(struct vf_catalog_work *w)
{
	const struct vf_state *s = w->s->state;

	w->wanted = calloc(s->n_shards + s->n_tail + 1, sizeof(*w->wanted));
	if (!w->wanted)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_shards; i++) {
		struct vf_catalog_wanted *to = &w->wanted[w->n_wanted++];
		to->n_rows = s->shards[i].n_rows;
		to->dead = s->dead[i];
		to->shard = &s->shards[i];
		vf_catalog_shard_name(to->shard, to->name);
	}
	for (size_t i = 0; i < s->n_tail; i++) {
		struct vf_catalog_wanted *to = &w->wanted[w->n_wanted++];
		to->n_rows = s->tail[i].rows->n_rows;
		to->dead = s->tail[i].dead;
		to->rows = s->tail[i].rows;
		vf_catalog_tail_name(&s->tail[i], to->name);
	}
	return 0;
}

static struct vf_catalog_wanted *
find_wanted(struct vf_catalog_work *w, const char name[VF_CATALOG_NAME_LEN])
{
	for (size_t i = 0; i < w->n_wanted; i++)
		if (!memcmp(w->wanted[i].name, name, VF_CATALOG_NAME_LEN))
			return &w->wanted[i];
	return NULL;
}

/*
 * Dead rows are compared by 64: every commit looks at all rows of the index.
 * @bits  of a place as stored, (n_rows + 7) / 8 bytes
 */
static uint64_t stored_word(const uint8_t *bits, uint64_t n_rows, uint64_t word)
{
	size_t len = (size_t)VF_MIN((n_rows + 7) / 8 - 8 * word, UINT64_C(8));
	uint8_t bytes[8] = {0};

	memcpy(bytes, bits + 8 * word, len);
	return vf_le64(bytes);
}

static uint64_t dead_word(const struct vf_dead *d, uint64_t word)
{
	return d ? d->bits[word] : 0;
}

static uint32_t first_bit(uint64_t word)
{
	return (uint32_t)__builtin_ctzll(word);
}

/* A row that was dead lives: another history, the place is read again. */
static bool rose_again(const struct place_disk *p,
		       const struct vf_catalog_wanted *want)
{
	for (uint64_t i = 0; i < (want->n_rows + 63) / 64; i++)
		if (stored_word(p->dead, want->n_rows, i) &
		    ~dead_word(want->dead, i))
			return true;
	return false;
}

int vf_catalog_put_place(struct vf_catalog_work *w, uint32_t id,
			 const struct vf_catalog_wanted *want)
{
	struct vf_buf *b = &w->scratch;
	size_t bits = (want->n_rows + 7) / 8;
	MDB_val key = {sizeof(id), &id}, val;

	b->len = 0;
	if (vf_buf_append(b, NULL, sizeof(struct place_disk) + bits))
		return -ENOMEM;
	struct place_disk *p = (struct place_disk *)b->data;
	p->n_rows = (uint32_t)want->n_rows;
	memcpy(p->name, want->name, sizeof(p->name));
	for (uint64_t i = 0; want->dead && i < bits; i++)
		p->dead[i] = (uint8_t)(want->dead->bits[i / 8] >> i % 8 * 8);
	p->crc = vf_catalog_crc(&key, p, b->len);
	val = (MDB_val){b->len, p};
	return vf_catalog_errno(mdb_put(w->txn, w->c->places, &key, &val, 0));
}

/* ---- forgetting ---------------------------------------------------------------------------- */

/* Take the entry of (place, row) out of the value of its key's hash. */
static int unlink_key(struct vf_catalog_work *w, const uint8_t *hash,
		      uint32_t place, uint32_t row)
{
	MDB_val key = {VF_CATALOG_HASH_LEN, (void *)hash}, val;
	struct vf_buf *b = &w->scratch;
	struct entry_disk e;
	int rc = mdb_get(w->txn, w->c->keys, &key, &val);

	if (rc || !vf_catalog_sound(&key, &val, 4))
		return rc && rc != MDB_NOTFOUND ? vf_catalog_errno(rc)
						: -EUCLEAN;
	b->len = 0;
	if (vf_buf_append(b, val.mv_data, val.mv_size))
		return -ENOMEM;
	for (size_t at = 4; at + sizeof(e) <= b->len;) {
		memcpy(&e, b->data + at, sizeof(e));
		size_t len = sizeof(e) + e.key_len;
		if (len > b->len - at)
			break;
		if (e.place != place || e.row != row) {
			at += len;
			continue;
		}
		memmove(b->data + at, b->data + at + len, b->len - at - len);
		b->len -= len;
		if (b->len == 4)
			return vf_catalog_errno(
				mdb_del(w->txn, w->c->keys, &key, NULL));
		vf_put_le32(b->data, vf_catalog_crc(&key, b->data, b->len));
		val = (MDB_val){b->len, b->data};
		return vf_catalog_errno(
			mdb_put(w->txn, w->c->keys, &key, &val, 0));
	}
	return -EUCLEAN;
}

/* The row under the cursor, its key included. */
static int forget_row(struct vf_catalog_work *w, MDB_cursor *cursor,
		      const MDB_val *key, const MDB_val *val)
{
	const uint8_t *k = key->mv_data;
	struct row_disk r;

	if (key->mv_size != 8 || !vf_catalog_sound(key, val, sizeof(r)))
		return -EUCLEAN;
	memcpy(&r, val->mv_data, sizeof(r));
	uint32_t place, row;
	memcpy(&place, k, 4);
	memcpy(&row, k + 4, 4);
	int err = unlink_key(w, r.hash, be32toh(place), be32toh(row));
	return err ? err : vf_catalog_errno(mdb_cursor_del(cursor, 0));
}

static int forget_place(struct vf_catalog_work *w, uint32_t id)
{
	MDB_cursor *cursor;
	uint8_t first[8];
	MDB_val key = {sizeof(first), first}, val;
	MDB_val place = {sizeof(id), &id};
	const struct vf_postings_to postings = {w->txn, w->c->values, id};
	uint32_t prefix = htobe32(id);
	int err =
		vf_catalog_errno(mdb_cursor_open(w->txn, w->c->rows, &cursor));

	if (err)
		return err;
	vf_catalog_row_key(id, 0, first);
	int rc = mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE);
	while (!rc && !err && key.mv_size == 8 &&
	       !memcmp(key.mv_data, &prefix, 4)) {
		err = forget_row(w, cursor, &key, &val);
		/* After a delete the cursor is at the next one. */
		if (!err)
			rc = mdb_cursor_get(cursor, &key, &val,
					    MDB_GET_CURRENT);
	}
	mdb_cursor_close(cursor);
	/* EINVAL: the cursor went past the last row. */
	if (!err && rc && rc != MDB_NOTFOUND && rc != EINVAL)
		err = vf_catalog_errno(rc);
	if (!err)
		err = vf_postings_forget(&postings);
	return err ? err
		   : vf_catalog_errno(
			     mdb_del(w->txn, w->c->places, &place, NULL));
}

static int forget_dead_row(struct vf_catalog_work *w, MDB_cursor *cursor,
			   uint32_t id, uint32_t row)
{
	uint8_t bytes[8];
	MDB_val key = {sizeof(bytes), bytes}, val;

	vf_catalog_row_key(id, row, bytes);
	int rc = mdb_cursor_get(cursor, &key, &val, MDB_SET_KEY);
	if (rc)
		return rc == MDB_NOTFOUND ? -EUCLEAN : vf_catalog_errno(rc);
	return forget_row(w, cursor, &key, &val);
}

/* Rows that died since the catalog looked at the place last. */
static int forget_dead(struct vf_catalog_work *w, uint32_t id,
		       const struct place_disk *p,
		       const struct vf_catalog_wanted *want)
{
	size_t bits = (want->n_rows + 7) / 8;
	VF_AUTO_FREE uint8_t *was = malloc(bits + 1);
	MDB_cursor *cursor;
	bool any = false;
	int err;

	if (!was)
		return -ENOMEM;
	memcpy(was, p->dead, bits); /* writing moves what LMDB gave us */
	err = vf_catalog_errno(mdb_cursor_open(w->txn, w->c->rows, &cursor));
	if (err)
		return err;
	for (uint64_t i = 0; !err && i < (want->n_rows + 63) / 64; i++) {
		uint64_t died = dead_word(want->dead, i) &
				~stored_word(was, want->n_rows, i);
		any |= died != 0;
		for (; !err && died; died &= died - 1)
			err = forget_dead_row(w, cursor, id,
					      (uint32_t)(64 * i) +
						      first_bit(died));
	}
	mdb_cursor_close(cursor);
	return err || !any ? err : vf_catalog_put_place(w, id, want);
}

static int compare_place(struct vf_catalog_work *w, const MDB_val *key,
			 const MDB_val *val)
{
	const struct place_disk *p = val->mv_data;

	if (key->mv_size != 4 || !vf_catalog_sound(key, val, sizeof(*p)) ||
	    val->mv_size != sizeof(*p) + ((size_t)p->n_rows + 7) / 8)
		return -EUCLEAN;
	uint32_t id = vf_le32(key->mv_data);
	struct vf_catalog_wanted *want = find_wanted(w, p->name);
	if (want && want->n_rows != p->n_rows)
		return -EUCLEAN;
	if (!want || rose_again(p, want))
		return forget_place(w, id);
	want->there = true;
	return forget_dead(w, id, p, want);
}

/* Steps 1 and 2; gives the id that a new place gets. */
static int compare_places(struct vf_catalog_work *w)
{
	MDB_cursor *cursor;
	MDB_val key, val;
	uint32_t id = 0;
	int rc, err = vf_catalog_errno(
			mdb_cursor_open(w->txn, w->c->places, &cursor));

	if (err)
		return err;
	w->place = 0;
	rc = mdb_cursor_get(cursor, &key, &val, MDB_FIRST);
	while (!rc && !err) {
		if (key.mv_size != 4) {
			err = -EUCLEAN;
			break;
		}
		id = vf_le32(key.mv_data);
		w->place = id + 1;
		err = compare_place(w, &key, &val);
		/* The tree changed below the cursor: find the next anew. */
		uint32_t next = id + 1;
		key = (MDB_val){sizeof(next), &next};
		if (!err)
			rc = mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE);
	}
	mdb_cursor_close(cursor);
	if (!err && rc && rc != MDB_NOTFOUND)
		err = vf_catalog_errno(rc);
	return err;
}

/* ---- transactions -------------------------------------------------------------------------- */

static int set_applied(struct vf_catalog_work *w, uint64_t number,
		       uint64_t checksum)
{
	struct applied_disk a = {.number = number, .checksum = checksum};
	MDB_val key = {7, (void *)"applied"}, val = {sizeof(a), &a};

	a.crc = vf_catalog_crc(&key, &a, sizeof(a));
	return vf_catalog_errno(mdb_put(w->txn, w->c->meta, &key, &val, 0));
}

static int begin(struct vf_catalog_work *w)
{
	if (!w->c->env)
		return -EIO;
	return vf_catalog_errno(mdb_txn_begin(w->c->env, NULL, 0, &w->txn));
}

static int commit(struct vf_catalog_work *w)
{
	w->n_txn = 0;
	return vf_catalog_errno(mdb_txn_commit(VF_STEAL(w->txn)));
}

static int read_places(struct vf_catalog_work *w)
{
	int err = 0;

	for (size_t i = 0; i < w->n_wanted; i++)
		if (!w->wanted[i].there)
			w->n_total += w->wanted[i].n_rows -
				      vf_dead_count(w->wanted[i].dead);
	for (size_t i = 0; !err && i < w->n_wanted; i++) {
		if (w->wanted[i].there)
			continue;
		/* Between two commits: nobody may look meanwhile. */
		if (w->n_txn > TXN_ROWS) {
			err = set_applied(w, 0, 0);
			if (!err)
				err = commit(w);
			if (!err)
				err = begin(w);
		}
		if (!err)
			err = vf_catalog_read_place(w, &w->wanted[i]);
	}
	return err;
}

static int change(struct vf_catalog_work *w)
{
	const struct vf_state *s = w->s->state;
	struct applied_disk applied;
	int err = begin(w);

	if (!err)
		err = vf_catalog_applied(w->c, w->txn, &applied);
	if (!err && applied.number == s->head &&
	    applied.checksum == s->head_checksum)
		return 0; /* by somebody else, while we waited */
	if (!err && applied.number > s->head && !w->s->newest)
		return -EAGAIN;
	if (!err)
		err = list_wanted(w);
	if (!err)
		err = compare_places(w);
	if (!err)
		err = read_places(w);
	if (!err)
		err = set_applied(w, s->head, s->head_checksum);
	return err ? err : commit(w);
}

static int drop_all(struct vf_catalog *c)
{
	const MDB_dbi dbs[] = {c->places, c->keys, c->rows, c->values};
	MDB_val key = {7, (void *)"applied"};
	MDB_txn *txn;
	int rc = c->env ? mdb_txn_begin(c->env, NULL, 0, &txn) : EIO;

	if (rc)
		return vf_catalog_errno(rc);
	for (size_t i = 0; !rc && i < VF_N(dbs); i++)
		rc = mdb_drop(txn, dbs[i], 0);
	if (!rc)
		rc = mdb_del(txn, c->meta, &key, NULL);
	if (rc && rc != MDB_NOTFOUND) {
		mdb_txn_abort(txn);
		return vf_catalog_errno(rc);
	}
	return vf_catalog_errno(mdb_txn_commit(txn));
}

/* Holding the lock. */
static int reset(struct vf_catalog *c)
{
	int err = drop_all(c);

	if (err == -EUCLEAN)
		err = vf_catalog_replace(c);
	return err ? vf_fail(err == -EUCLEAN ? -EIO : err,
			     "%s: the catalog is damaged and cannot be "
			     "emptied: remove the folder",
			     c->dir)
		   : 0;
}

int vf_catalog_reset(struct vf_catalog *c)
{
	int err = vf_catalog_lock(c);

	if (err)
		return err;
	err = reset(c);
	vf_catalog_unlock(c);
	return err;
}

static int run(struct vf_catalog *c, const struct vf_catalog_sync *s)
{
	const struct vf_index_config *config = &s->state->config;
	struct vf_catalog_work w = {.c = c, .s = s};

	for (uint32_t i = 0; i < config->n_non_filterable; i++)
		w.non_filterable[i] = config->non_filterable[i];
	int err = vf_postings_new(w.non_filterable, config->n_non_filterable, 0,
				  &w.postings);
	if (!err)
		err = change(&w);

	if (w.txn)
		mdb_txn_abort(w.txn);
	free(w.wanted);
	vf_postings_free(w.postings);
	vf_buf_fini(&w.keys);
	vf_buf_fini(&w.scratch);
	vf_buf_fini(&w.pending);
	return err;
}

int vf_catalog_sync(struct vf_catalog *c, const struct vf_catalog_sync *s)
{
	struct vf_catalog_view *v;
	int err = vf_catalog_look(c, s->state, &v);

	vf_catalog_done(v);
	if (!err)
		return 0;
	err = vf_catalog_lock(c);
	if (err)
		return err;
	err = run(c, s);
	if (err == -EUCLEAN) {
		vf_log(VF_WARN, "%s: the catalog is damaged: built again",
		       c->dir);
		err = reset(c);
		if (!err)
			err = run(c, s);
	}
	vf_catalog_unlock(c);
	if (err == -ENOSPC || err == -ENOMEM || err == -EUCLEAN || err == -EIO)
		vf_log(VF_ERROR, "%s: cannot be written: %s", c->dir,
		       vf_strerror(err));
	return err;
}
