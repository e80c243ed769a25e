/*
 * LMDB, one unnamed database; numbers in keys are big-endian, so that the
 * order of the keys is theirs:
 *
 *   'F' id               file      (values: disk_record.c)
 *   'G' id be32 number   group
 *   'U' be64 last_use id           order of last use; value: one byte
 *   'T'                  totals    0 magic  4 version  8 bytes  16 pinned
 *                                  24 unknown  32 generation  36 clean  40 crc
 *
 * The totals move in the transaction that moves the records they sum up.
 * LMDB has no checksums of its own: those of the values are ours, and the file
 * as a whole has a seal (disk_seal.h).
 */
#include "store/disk_index.h"
#include "store/disk_seal.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	VERSION = 1,
	TOTAL_LEN = 44,
	KEY_MAX = 32,
	PROVEN = 3, /* commits after which an opening was a success */
};
#define TOTAL_MAGIC 0x54444656u /* "VFDT" */

struct vf_disk_index {
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;			    /* between begin and commit */
	struct vf_disk_total total, before; /* before: of begin */
	unsigned n_commits;
	bool broken; /* its pages do not fit together: not to be opened again */
	bool recount; /* a damaged record was dropped: its share is not known */
	char path[4096], data[4096 + 16];
};

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

static bool is_damage(int rc)
{
	return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND ||
	       rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH ||
	       rc == MDB_PANIC || rc == -EBADMSG;
}

/* Numbers of LMDB end here. */
static int fail_with(struct vf_disk_index *ix, int rc, const char *what)
{
	if (!rc)
		return 0;
	if (rc == MDB_NOTFOUND)
		return -ENOENT;
	vf_log(VF_ERROR, "%s: %s: %s", ix->path, what, mdb_strerror(rc));
	ix->broken |= is_damage(rc);
	if (rc == MDB_MAP_FULL || rc == MDB_TXN_FULL)
		return -ENOSPC;
	return rc > 0 ? -rc : -EIO;
}

/* ---- totals ------------------------------------------------------------------- */

static int put_total(struct vf_disk_index *ix)
{
	uint8_t v[TOTAL_LEN] = {0};
	MDB_val key = {1, "T"}, val = {sizeof(v), v};

	vf_put_le32(v, TOTAL_MAGIC);
	vf_put_le32(v + 4, VERSION);
	vf_put_le64(v + 8, ix->total.bytes);
	vf_put_le64(v + 16, ix->total.pinned);
	vf_put_le64(v + 24, ix->total.unknown);
	vf_put_le32(v + 32, ix->total.generation);
	vf_put_le32(v + 36, ix->total.clean);
	vf_put_le32(v + 40, vf_crc32c(0, v, 40));
	return fail_with(ix, mdb_put(ix->txn, ix->dbi, &key, &val, 0),
			 "cannot write totals");
}

/* Returns 0; -ENOENT a new index; -EBADMSG. */
static int get_total(struct vf_disk_index *ix)
{
	MDB_val key = {1, "T"}, val;
	const uint8_t *v;
	int rc = mdb_get(ix->txn, ix->dbi, &key, &val);

	if (rc)
		return rc == MDB_NOTFOUND ? -ENOENT : -EBADMSG;
	v = val.mv_data;
	if (val.mv_size != TOTAL_LEN || vf_le32(v) != TOTAL_MAGIC ||
	    vf_le32(v + 4) != VERSION || vf_le32(v + 40) != vf_crc32c(0, v, 40))
		return -EBADMSG;
	ix->total = (struct vf_disk_total){
		.bytes = vf_le64(v + 8),
		.pinned = vf_le64(v + 16),
		.unknown = vf_le64(v + 24),
		.generation = vf_le32(v + 32),
		.clean = vf_le32(v + 36) == 1,
	};
	return 0;
}

void vf_disk_index_total(const struct vf_disk_index *ix,
			 struct vf_disk_total *out)
{
	*out = ix->total;
}

void vf_disk_index_set(struct vf_disk_index *ix, bool clean, uint64_t unknown,
		       uint32_t generation)
{
	ix->total.clean = clean;
	ix->total.unknown = unknown;
	ix->total.generation = generation;
}

/* ---- open --------------------------------------------------------------------- */

/*
 * A file cut short would raise SIGBUS in the map; pages of zeros are refused
 * as what they are.
 */
static int fill_end(struct vf_disk_index *ix)
{
	MDB_envinfo info;
	MDB_stat st;
	struct stat file;
	uint64_t want;
	int fd, rc = mdb_env_info(ix->env, &info);

	if (!rc)
		rc = mdb_env_stat(ix->env, &st);
	if (!rc)
		rc = mdb_env_get_fd(ix->env, &fd);
	if (rc)
		return rc;
	want = (info.me_last_pgno + 1) * (uint64_t)st.ms_psize;
	if (want > info.me_mapsize)
		return MDB_CORRUPTED;
	if (fstat(fd, &file))
		return errno;
	return (uint64_t)file.st_size < want && ftruncate(fd, (off_t)want)
		       ? errno
		       : 0;
}

static int open_total(struct vf_disk_index *ix)
{
	int rc = mdb_txn_begin(ix->env, NULL, 0, &ix->txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(ix->txn, NULL, 0, &ix->dbi);
	if (!rc)
		rc = get_total(ix);
	if (rc == -ENOENT)
		rc = put_total(ix);
	if (rc)
		mdb_txn_abort(ix->txn);
	else
		rc = mdb_txn_commit(ix->txn);
	ix->txn = NULL;
	return rc;
}

static int open_env(struct vf_disk_index *ix, size_t map_len)
{
	int rc = mdb_env_create(&ix->env);

	if (!rc)
		rc = mdb_env_set_mapsize(ix->env, map_len);
	/* no lock file: the tier's own lock keeps others out */
	if (!rc)
		rc = mdb_env_open(ix->env, ix->path, MDB_NOLOCK | MDB_NORDAHEAD,
				  0600);
	if (!rc)
		rc = fill_end(ix);
	return rc ? rc : open_total(ix);
}

static void close_env(struct vf_disk_index *ix)
{
	if (ix->txn)
		mdb_txn_abort(ix->txn);
	if (ix->env)
		mdb_env_close(ix->env);
	ix->txn = NULL;
	ix->env = NULL;
}

static int start_anew(struct vf_disk_index *ix, size_t map_len, int why)
{
	vf_log(VF_WARN, "%s: not usable (%s); starting it anew", ix->path,
	       why == -EBADMSG || why == -EIO ? "damaged" : mdb_strerror(why));
	close_env(ix);
	ix->broken = false;
	ix->total = (struct vf_disk_total){0};
	if (unlink(ix->data) && errno != ENOENT)
		return errno;
	return open_env(ix, map_len);
}

int vf_disk_index_open(const char *path, size_t map_len, bool *out_was_lost,
		       struct vf_disk_index **out)
{
	struct vf_disk_index *ix = calloc(1, sizeof(*ix));
	struct stat st = {0};
	int rc;

	*out = NULL;
	if (!ix)
		return -ENOMEM;
	snprintf(ix->path, sizeof(ix->path), "%s", path);
	snprintf(ix->data, sizeof(ix->data), "%s/data.mdb", path);
	*out_was_lost = stat(ix->data, &st) != 0;
	/* of a larger tier once: room to shrink in */
	map_len = VF_MAX(map_len, 2 * (size_t)st.st_size);
	rc = vf_disk_seal_break(ix->path);
	if (!rc)
		rc = open_env(ix, map_len);
	if (is_damage(rc) || ix->broken) {
		*out_was_lost = true;
		rc = start_anew(ix, map_len, rc);
	}
	if (rc) {
		rc = fail_with(ix, rc, "cannot open");
		vf_disk_index_close(ix);
		return rc == -ENOENT ? -EIO : rc;
	}
	*out = ix;
	return 0;
}

void vf_disk_index_close(struct vf_disk_index *ix)
{
	if (!ix)
		return;
	close_env(ix);
	if (ix->broken) {
		unlink(ix->data);
		vf_disk_seal_remove(ix->path);
	} else if (ix->total.clean) {
		vf_disk_seal_set(ix->path);
	}
	free(ix);
}

uint64_t vf_disk_index_allocated(const struct vf_disk_index *ix)
{
	struct stat st;
	int fd;

	if (mdb_env_get_fd(ix->env, &fd) || fstat(fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

uint64_t vf_disk_index_live(struct vf_disk_index *ix)
{
	MDB_stat st;

	if (mdb_env_stat(ix->env, &st))
		return 0;
	return (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) *
	       (uint64_t)st.ms_psize;
}

/* ---- writing ------------------------------------------------------------------ */

int vf_disk_index_begin(struct vf_disk_index *ix)
{
	assert(!ix->txn);
	ix->before = ix->total;
	return fail_with(ix, mdb_txn_begin(ix->env, NULL, 0, &ix->txn),
			 "cannot begin");
}

void vf_disk_index_abort(struct vf_disk_index *ix)
{
	if (ix->txn)
		mdb_txn_abort(ix->txn);
	ix->txn = NULL;
	ix->total = ix->before;
}

static int count_again(struct vf_disk_index *ix)
{
	MDB_val key = {1, "F"}, val;
	struct vf_disk_record r;
	MDB_cursor *c;
	int rc = mdb_cursor_open(ix->txn, ix->dbi, &c);

	if (rc)
		return fail_with(ix, rc, "cannot open a cursor");
	ix->total.bytes = ix->total.pinned = 0;
	rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	while (!rc && *(uint8_t *)key.mv_data == 'F') {
		if (!vf_disk_record_decode(val.mv_data, val.mv_size, &r)) {
			ix->total.bytes += r.bytes;
			ix->total.pinned += r.pinned;
		}
		rc = mdb_cursor_get(c, &key, &val, MDB_NEXT);
	}
	mdb_cursor_close(c);
	ix->recount = false;
	return rc == MDB_NOTFOUND ? 0 : fail_with(ix, rc, "cannot read");
}

int vf_disk_index_commit(struct vf_disk_index *ix)
{
	int err = ix->recount ? count_again(ix) : 0;

	if (!err)
		err = put_total(ix);

	if (err) {
		vf_disk_index_abort(ix);
		return err;
	}
	err = fail_with(ix, mdb_txn_commit(ix->txn), "cannot commit");
	ix->txn = NULL;
	if (err)
		ix->total = ix->before;
	else if (++ix->n_commits == PROVEN)
		vf_disk_seal_prove(ix->path);
	return err;
}

static int put_val(struct vf_disk_index *ix, struct key k, const void *p,
		   size_t len)
{
	MDB_val key = val_of(&k), val = {len, (void *)p};

	return fail_with(ix, mdb_put(ix->txn, ix->dbi, &key, &val, 0),
			 "cannot write");
}

static int del_val(struct vf_disk_index *ix, struct key k)
{
	MDB_val key = val_of(&k);
	int rc = mdb_del(ix->txn, ix->dbi, &key, NULL);

	return rc == MDB_NOTFOUND ? 0 : fail_with(ix, rc, "cannot delete");
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
		return fail_with(ix, rc, "cannot read");
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
		return fail_with(ix, rc, "cannot open a cursor");
	rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	while (!rc && key.mv_size == 21 && !memcmp(key.mv_data, prefix.p, 17)) {
		rc = mdb_cursor_del(c, 0);
		if (!rc) {
			key = val_of(&prefix);
			rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
		}
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0 : fail_with(ix, rc, "cannot delete");
}

/* ---- reading ------------------------------------------------------------------ */

static int begin_reading(struct vf_disk_index *ix, MDB_txn **txn)
{
	return fail_with(ix, mdb_txn_begin(ix->env, NULL, MDB_RDONLY, txn),
			 "cannot read");
}

int vf_disk_index_get_file(struct vf_disk_index *ix, const uint8_t id[16],
			   struct vf_disk_record *out)
{
	MDB_txn *txn;
	int err = begin_reading(ix, &txn);

	if (err)
		return err;
	err = read_file(ix, txn, id, out);
	mdb_txn_abort(txn);
	return err;
}

static int visit_group(struct vf_disk_index *ix, const struct vf_disk_record *r,
		       const MDB_val *key, const MDB_val *val,
		       vf_disk_group_fn *fn, void *arg)
{
	struct vf_disk_group_record g;
	uint32_t number;
	char hex[33];

	memcpy(&number, (const uint8_t *)key->mv_data + 17, 4);
	number = be32toh(number);
	if (!vf_disk_group_decode(r->id, val->mv_data, val->mv_size, &g) &&
	    g.number == number && g.generation == r->generation)
		return fn(arg, &g);
	vf_hex(r->id, 16, hex);
	return vf_fail(-EBADMSG, "%s: group %u of %s is damaged", ix->path,
		       number, hex);
}

int vf_disk_index_groups(struct vf_disk_index *ix,
			 const struct vf_disk_record *r, vf_disk_group_fn *fn,
			 void *arg)
{
	struct key prefix = key_of('G', r->id);
	MDB_val key = val_of(&prefix), val;
	MDB_cursor *c = NULL;
	MDB_txn *txn;
	int err = begin_reading(ix, &txn), rc;

	if (err)
		return err;
	rc = mdb_cursor_open(txn, ix->dbi, &c);
	if (!rc)
		rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	while (!rc && key.mv_size == 21 && !memcmp(key.mv_data, prefix.p, 17)) {
		err = visit_group(ix, r, &key, &val, fn, arg);
		if (err)
			break;
		rc = mdb_cursor_get(c, &key, &val, MDB_NEXT);
	}
	if (!err && rc != MDB_NOTFOUND)
		err = fail_with(ix, rc, "cannot read");
	if (c)
		mdb_cursor_close(c);
	mdb_txn_abort(txn);
	return err;
}

int vf_disk_index_oldest(struct vf_disk_index *ix,
			 bool (*skip)(void *arg, const uint8_t id[16]),
			 void *arg, uint8_t out_id[16], uint64_t *out_last_use)
{
	MDB_val key = {1, "U"}, val;
	MDB_cursor *c = NULL;
	MDB_txn *txn;
	int err = begin_reading(ix, &txn), rc;

	if (err)
		return err;
	rc = mdb_cursor_open(txn, ix->dbi, &c);
	if (!rc)
		rc = mdb_cursor_get(c, &key, &val, MDB_SET_RANGE);
	for (; !rc; rc = mdb_cursor_get(c, &key, &val, MDB_NEXT)) {
		if (key.mv_size != 25 || *(uint8_t *)key.mv_data != 'U') {
			rc = MDB_NOTFOUND;
			break;
		}
		memcpy(out_last_use, (uint8_t *)key.mv_data + 1, 8);
		*out_last_use = be64toh(*out_last_use);
		memcpy(out_id, (uint8_t *)key.mv_data + 9, 16);
		if (!skip(arg, out_id))
			break;
	}
	err = fail_with(ix, rc, "cannot read");
	if (c)
		mdb_cursor_close(c);
	mdb_txn_abort(txn);
	return err;
}
