/*
 * Opening the index, its totals and its transactions; disk_index_records.c
 * has what is in it.
 */
#include "store/disk_index_impl.h"
#include "store/disk_seal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	VERSION = 1,
	TOTAL_LEN = 44,
	PROVEN = 3, /* commits after which an opening was a success */
};
#define TOTAL_MAGIC 0x54444656u /* "VFDT" */

static bool is_damage(int rc)
{
	return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND ||
	       rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH ||
	       rc == MDB_PANIC || rc == -EBADMSG;
}

int vf_disk_index_fail(struct vf_disk_index *ix, int rc, const char *what)
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
	return vf_disk_index_fail(ix, mdb_put(ix->txn, ix->dbi, &key, &val, 0),
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
		rc = vf_disk_index_fail(ix, rc, "cannot open");
		vf_disk_index_close(ix);
		return rc == -ENOENT ? -EIO : rc;
	}
	ix->mark = vf_disk_seal_mark(ix->path);
	vf_disk_index_mark(ix, false);
	*out = ix;
	return 0;
}

void vf_disk_index_close(struct vf_disk_index *ix)
{
	if (!ix)
		return;
	vf_disk_index_mark(ix, true);
	close_env(ix);
	vf_disk_index_mark(ix, false);
	vf_disk_seal_unmark(ix->mark);
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
	int err;

	assert(!ix->txn);
	ix->before = ix->total;
	vf_disk_index_mark(ix, true);
	err = vf_disk_index_fail(ix, mdb_txn_begin(ix->env, NULL, 0, &ix->txn),
				 "cannot begin");
	if (err)
		vf_disk_index_mark(ix, false);
	return err;
}

void vf_disk_index_abort(struct vf_disk_index *ix)
{
	if (ix->txn)
		mdb_txn_abort(ix->txn);
	ix->txn = NULL;
	ix->total = ix->before;
	vf_disk_index_mark(ix, false);
}

static int count_again(struct vf_disk_index *ix)
{
	MDB_val key = {1, "F"}, val;
	struct vf_disk_record r;
	MDB_cursor *c;
	int rc = mdb_cursor_open(ix->txn, ix->dbi, &c);

	if (rc)
		return vf_disk_index_fail(ix, rc, "cannot open a cursor");
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
	return rc == MDB_NOTFOUND ? 0
				  : vf_disk_index_fail(ix, rc, "cannot read");
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
	err = vf_disk_index_fail(ix, mdb_txn_commit(ix->txn), "cannot commit");
	ix->txn = NULL;
	vf_disk_index_mark(ix, false);
	if (err)
		ix->total = ix->before;
	else if (++ix->n_commits == PROVEN)
		vf_disk_seal_prove(ix->path);
	return err;
}
