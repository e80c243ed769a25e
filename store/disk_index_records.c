/* The records of the index: written in a transaction, read at any time. */
#include "store/disk_index_impl.h"

enum { KEY_MAX = 32 };

struct key {
	uint8_t p[KEY_MAX];
	size_t len;
};

static struct key key_of(char kind, const uint8_t id[16])
{
	struct key k = {.len = 17};

	k.p[0] = (uint8_t)kind;
	memcpy(k.p + 1, id, 16);
	return k;
}

static struct key group_key(const uint8_t id[16], uint32_t number)
{
	struct key k = key_of('G', id);
	uint32_t be = htobe32(number);

	memcpy(k.p + 17, &be, 4);
	k.len = 21;
	return k;
}

static struct key use_key(const uint8_t id[16], uint64_t last_use)
{
	struct key k = {.len = 25};
	uint64_t be = htobe64(last_use);

	k.p[0] = 'U';
	memcpy(k.p + 1, &be, 8);
	memcpy(k.p + 9, id, 16);
	return k;
}

static MDB_val val_of(struct key *k)
{
	return (MDB_val){k->len, k->p};
}

/* ---- writing ------------------------------------------------------------------ */

static int put_val(struct vf_disk_index *ix, struct key k, const void *p,
		   size_t len)
{
	MDB_val key = val_of(&k), val = {len, (void *)p};

	return vf_disk_index_fail(ix, mdb_put(ix->txn, ix->dbi, &key, &val, 0),
				  "cannot write");
}

static int del_val(struct vf_disk_index *ix, struct key k)
{
	MDB_val key = val_of(&k);
	int rc = mdb_del(ix->txn, ix->dbi, &key, NULL);

	return rc == MDB_NOTFOUND ? 0
				  : vf_disk_index_fail(ix, rc, "cannot delete");
}

/* The record as it is within the transaction. */
static int read_file(struct vf_disk_index *ix, MDB_txn *txn,
		     const uint8_t id[16], struct vf_disk_record *out)
{
	struct key k = key_of('F', id);
	MDB_val key = val_of(&k), val;
	char hex[33];
	int rc = mdb_get(txn, ix->dbi, &key, &val);

	if (rc)
		return vf_disk_index_fail(ix, rc, "cannot read");
	if (vf_disk_record_decode(val.mv_data, val.mv_size, out) ||
	    memcmp(out->id, id, 16)) {
		vf_hex(id, 16, hex);
		return vf_fail(-EBADMSG, "%s: record of %s is damaged",
			       ix->path, hex);
	}
	return 0;
}

/* Take the old record out of the totals and of the order of use. */
static int forget_old(struct vf_disk_index *ix, const uint8_t id[16])
{
	struct vf_disk_record old;
	int err = read_file(ix, ix->txn, id, &old);

	if (err == -EBADMSG)
		ix->recount = true;
	if (err == -ENOENT || err == -EBADMSG)
		return 0;
	if (err)
		return err;
	ix->total.bytes -= VF_MIN(ix->total.bytes, old.bytes);
	ix->total.pinned -= VF_MIN(ix->total.pinned, old.pinned);
	return del_val(ix, use_key(old.id, old.last_use));
}

int vf_disk_index_put_file(struct vf_disk_index *ix,
			   const struct vf_disk_record *r)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	int err = vf_disk_record_encode(r, &b);

	if (!err)
		err = forget_old(ix, r->id);
	if (!err)
		err = put_val(ix, key_of('F', r->id), b.data, b.len);
	if (!err)
		err = put_val(ix, use_key(r->id, r->last_use), "", 1);
	ix->total.bytes += r->bytes;
	ix->total.pinned += r->pinned;
	return err;
}

int vf_disk_index_put_group(struct vf_disk_index *ix, const uint8_t id[16],
			    uint32_t number, const void *value, size_t len)
{
	struct key k = group_key(id, number);

	return len ? put_val(ix, k, value, len) : del_val(ix, k);
}

int vf_disk_index_drop_use(struct vf_disk_index *ix, const uint8_t id[16],
			   uint64_t last_use)
{
	return del_val(ix, use_key(id, last_use));
}

int vf_disk_index_drop_file(struct vf_disk_index *ix, const uint8_t id[16])
{
	struct key prefix = key_of('G', id);
	MDB_val key = val_of(&prefix), val;
	MDB_cursor *c;
	int err = forget_old(ix, id), rc;

	if (!err)
		err = del_val(ix, key_of('F', id));
	if (err)
		return err;
	rc = mdb_cursor_open(ix->txn, ix->dbi, &c);
	if (rc)
		return vf_disk_index_fail(ix, rc, "cannot open a cursor");
	rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	while (!rc && key.mv_size == 21 && !memcmp(key.mv_data, prefix.p, 17)) {
		rc = mdb_cursor_del(c, 0);
		if (!rc) {
			key = val_of(&prefix);
			rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
		}
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0
				  : vf_disk_index_fail(ix, rc, "cannot delete");
}

/* ---- reading ------------------------------------------------------------------ */

static int begin_reading(struct vf_disk_index *ix, MDB_txn **txn)
{
	int err;

	vf_disk_index_mark(ix, true);
	err = vf_disk_index_fail(ix,
				 mdb_txn_begin(ix->env, NULL, MDB_RDONLY, txn),
				 "cannot read");
	if (err)
		vf_disk_index_mark(ix, false);
	return err;
}

static void end_reading(struct vf_disk_index *ix, MDB_txn *txn, MDB_cursor *c)
{
	if (c)
		mdb_cursor_close(c);
	mdb_txn_abort(txn);
	vf_disk_index_mark(ix, false);
}

int vf_disk_index_get_file(struct vf_disk_index *ix, const uint8_t id[16],
			   struct vf_disk_record *out)
{
	MDB_txn *txn;
	int err = begin_reading(ix, &txn);

	if (err)
		return err;
	err = read_file(ix, txn, id, out);
	end_reading(ix, txn, NULL);
	return err;
}

/*
 * Records with keys of @key_len bytes that begin with @prefix, in order, until
 * @visit returns another value than 0: that.  -ENOENT: to the end.
 */
static int walk(struct vf_disk_index *ix, const struct key *prefix,
		size_t key_len,
		int (*visit)(void *arg, const uint8_t *key, const MDB_val *val),
		void *arg)
{
	struct key from = *prefix;
	MDB_val key = val_of(&from), val;
	MDB_cursor *c = NULL;
	MDB_txn *txn;
	int rc, err = begin_reading(ix, &txn);

	if (err)
		return err;
	rc = mdb_cursor_open(txn, ix->dbi, &c);
	if (!rc)
		rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	while (!rc && !err) {
		if (key.mv_size != key_len ||
		    memcmp(key.mv_data, prefix->p, prefix->len) != 0)
			rc = MDB_NOTFOUND;
		else if (!(err = visit(arg, key.mv_data, &val)))
			rc = mdb_cursor_get(c, &key, &val, MDB_NEXT);
	}
	if (!err)
		err = vf_disk_index_fail(ix, rc, "cannot read");
	end_reading(ix, txn, c);
	return err;
}

struct groups {
	struct vf_disk_index *index;
	const struct vf_disk_record *record;
	vf_disk_group_fn *fn;
	void *arg;
};

static int visit_group(void *arg, const uint8_t *key, const MDB_val *val)
{
	const struct groups *w = arg;
	struct vf_disk_group_record g;
	uint32_t number;
	char hex[33];

	memcpy(&number, key + 17, 4);
	number = be32toh(number);
	if (!vf_disk_group_decode(w->record->id, val->mv_data, val->mv_size,
				  &g) &&
	    g.number == number && g.generation == w->record->generation)
		return w->fn(w->arg, &g);
	vf_hex(w->record->id, 16, hex);
	return vf_fail(-EBADMSG, "%s: group %u of %s is damaged",
		       w->index->path, number, hex);
}

int vf_disk_index_groups(struct vf_disk_index *ix,
			 const struct vf_disk_record *r, vf_disk_group_fn *fn,
			 void *arg)
{
	struct key prefix = key_of('G', r->id);
	struct groups w = {ix, r, fn, arg};
	int err = walk(ix, &prefix, 21, visit_group, &w);

	return err == -ENOENT ? 0 : err;
}

struct oldest {
	bool (*skip)(void *arg, const uint8_t id[16]);
	void *arg;
	uint8_t *out_id;
	uint64_t *out_last_use;
};

static int visit_use(void *arg, const uint8_t *key, const MDB_val *val)
{
	const struct oldest *w = arg;
	uint64_t be;

	memcpy(&be, key + 1, 8);
	*w->out_last_use = be64toh(be);
	memcpy(w->out_id, key + 9, 16);
	return !w->skip(w->arg, w->out_id);
}

int vf_disk_index_oldest(struct vf_disk_index *ix,
			 bool (*skip)(void *arg, const uint8_t id[16]),
			 void *arg, uint8_t out_id[16], uint64_t *out_last_use)
{
	const struct key prefix = {.p = "U", .len = 1};
	struct oldest w = {skip, arg, out_id, out_last_use};
	int err = walk(ix, &prefix, 25, visit_use, &w);

	return err > 0 ? 0 : err;
}
