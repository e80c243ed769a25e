/* Opening the catalog and looking into it; catalog_sync.c changes it. */
#include "store/catalog_impl.h"
#include "store/local_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <xxhash.h>

enum {
	MAP_LEN_LOG2 = 38,     /* bytes of address space; the file grows */
	VALUE_MAX = 256 << 10, /* bytes; ours are shorter */
	SLACK_LEN = 512 << 10, /* a hole at the end of the file */
	LOCK_FILE_LEN = 8192,  /* LMDB's for 126 readers, its default */
};

/* ---- shared ---------------------------------------------------------------------------- */

int vf_catalog_errno(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	case MDB_CURSOR_FULL:
	case MDB_BAD_VALSIZE:
		return -EUCLEAN;
	default:
		return rc > 0 ? -rc : -EIO;
	}
}

void vf_catalog_hash(const void *key, size_t len,
		     uint8_t out[VF_CATALOG_HASH_LEN])
{
	XXH128_hash_t h = XXH3_128bits(key, len);

	memcpy(out, &h.low64, 8);
	memcpy(out + 8, &h.high64, 8);
}

uint32_t vf_catalog_crc(const MDB_val *key, const void *val, size_t len)
{
	uint32_t crc = vf_crc32c(0, key->mv_data, key->mv_size);

	return vf_crc32c(crc, (const uint8_t *)val + 4, len - 4);
}

bool vf_catalog_sound(const MDB_val *key, const MDB_val *val, size_t min)
{
	return val->mv_size >= min && val->mv_size <= VALUE_MAX &&
	       vf_le32(val->mv_data) ==
		       vf_catalog_crc(key, val->mv_data, val->mv_size);
}

int vf_catalog_applied(struct vf_catalog *c, MDB_txn *txn,
		       struct applied_disk *out)
{
	MDB_val key = {7, (void *)"applied"}, val;
	int rc = mdb_get(txn, c->meta, &key, &val);

	*out = (struct applied_disk){0};
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc)
		return vf_catalog_errno(rc);
	if (val.mv_size != sizeof(*out) ||
	    !vf_catalog_sound(&key, &val, sizeof(*out)))
		return -EUCLEAN;
	memcpy(out, val.mv_data, sizeof(*out));
	return 0;
}

void vf_catalog_shard_name(const struct vf_shard_ref *r,
			   char out[VF_CATALOG_NAME_LEN])
{
	memset(out, 0, VF_CATALOG_NAME_LEN);
	strcpy(out, r->name);
}

void vf_catalog_tail_name(const struct vf_tail *t,
			  char out[VF_CATALOG_NAME_LEN])
{
	memset(out, 0, VF_CATALOG_NAME_LEN);
	snprintf(out, VF_CATALOG_NAME_LEN, "%020llu:%016llx",
		 (unsigned long long)t->record,
		 (unsigned long long)t->checksum);
}

int vf_catalog_lock(struct vf_catalog *c)
{
	while (flock(c->lock_fd, LOCK_EX))
		if (errno != EINTR)
			return vf_fail(-errno, "%s: cannot lock: %s", c->dir,
				       strerror(errno));
	return 0;
}

/*
 * Bytes of the file that may be touched: beyond its end that is SIGBUS.  A
 * damaged page makes offsets and lengths that lead beyond the last one.
 */
static off_t needed_len(struct vf_catalog *c, off_t *out_have)
{
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	int fd;

	*out_have = 0;
	if (mdb_env_info(c->env, &info) || mdb_env_stat(c->env, &stat) ||
	    mdb_env_get_fd(c->env, &fd) || fstat(fd, &st))
		return 0;
	*out_have = st.st_size;
	return (off_t)((info.me_last_pgno + 1) * stat.ms_psize) + SLACK_LEN;
}

static void fill_file(struct vf_catalog *c)
{
	off_t have, need = needed_len(c, &have);
	int fd;

	if (have < need && !mdb_env_get_fd(c->env, &fd) && ftruncate(fd, need))
		vf_log(VF_WARN, "%s: cannot be extended: %s", c->dir,
		       strerror(errno));
}

void vf_catalog_unlock(struct vf_catalog *c)
{
	if (c->env)
		fill_file(c);
	flock(c->lock_fd, LOCK_UN);
}

/* ---- opening --------------------------------------------------------------------------- */

/* A folder that is ours alone, made when absent. */
static int make_folder(const char *path)
{
	int fd = vf_private_folder(AT_FDCWD, path, path);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int default_dir(char **out)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	bool use_xdg = xdg && *xdg == '/';

	*out = NULL;
	if (!use_xdg && (!home || *home != '/'))
		return vf_fail(-ENOENT, "no HOME to keep a catalog in: name a "
					"folder (--cache-dir)");
	if (asprintf(out, "%s%s", use_xdg ? xdg : home,
		     use_xdg ? "" : "/.cache") < 0) {
		*out = NULL;
		return -ENOMEM;
	}
	/* Not only ours to judge: other programs keep things there. */
	if (mkdir(*out, 0700) && errno != EEXIST)
		return vf_fail(-errno, "%s: cannot make the folder: %s", *out,
			       strerror(errno));
	char *dir;
	int n = asprintf(&dir, "%s/vecfs", *out);
	free(*out);
	*out = n < 0 ? NULL : dir;
	return n < 0 ? -ENOMEM : 0;
}

static int open_dbs(struct vf_catalog *c)
{
	const struct {
		const char *name;
		MDB_dbi *dbi;
		unsigned flags;
	} dbs[] = {{"meta", &c->meta, 0},
		   {"places", &c->places, MDB_INTEGERKEY},
		   {"keys", &c->keys, 0},
		   {"rows", &c->rows, 0},
		   {"values", &c->values, 0}};
	uint32_t format = VF_CATALOG_FORMAT;
	MDB_val key = {6, (void *)"format"}, val = {sizeof(format), &format};
	MDB_txn *txn;
	int rc = mdb_txn_begin(c->env, NULL, 0, &txn);

	if (rc)
		return vf_catalog_errno(rc);
	for (size_t i = 0; !rc && i < VF_N(dbs); i++)
		rc = mdb_dbi_open(txn, dbs[i].name, dbs[i].flags | MDB_CREATE,
				  dbs[i].dbi);
	if (!rc)
		rc = mdb_put(txn, c->meta, &key, &val, MDB_NOOVERWRITE);
	if (rc == MDB_KEYEXIST)
		rc = val.mv_size == 4 &&
				     vf_le32(val.mv_data) == VF_CATALOG_FORMAT
			     ? 0
			     : MDB_INVALID;
	if (rc)
		mdb_txn_abort(txn);
	else
		rc = mdb_txn_commit(txn);
	return vf_catalog_errno(rc);
}

/*
 * LMDB maps its lock file, which it makes long but empty: on a disk that is
 * full the first write into it is SIGBUS.
 */
static int reserve_lock_file(const struct vf_catalog *c)
{
	VF_AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s/lock.mdb", c->dir) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	VF_AUTO_FD int fd =
		open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	/* Others may be in it: what is there already is not touched. */
	return st.st_blocks * 512 < LOCK_FILE_LEN
		       ? -posix_fallocate(fd, 0, LOCK_FILE_LEN)
		       : 0;
}

static int open_env(struct vf_catalog *c)
{
	int err = reserve_lock_file(c);

	if (err)
		return err;
	int rc = mdb_env_create(&c->env);
	if (!rc)
		rc = mdb_env_set_maxdbs(c->env, 5);
	if (!rc)
		rc = mdb_env_set_mapsize(c->env, (size_t)1 << MAP_LEN_LOG2);
	/* Synced but for the last commit: a crash of the machine costs that. */
	if (!rc)
		rc = mdb_env_open(c->env, c->dir,
				  MDB_NOTLS | MDB_NOMETASYNC | MDB_NORDAHEAD,
				  0600);
	if (rc)
		return vf_catalog_errno(rc);
	off_t have, need = needed_len(c, &have);
	if (have < need - SLACK_LEN)
		return -EUCLEAN; /* cut short */
	int dead;
	mdb_reader_check(c->env, &dead); /* of processes that were killed */
	return open_dbs(c);
}

static void remove_files(struct vf_catalog *c)
{
	static const char *const names[] = {"data.mdb", "lock.mdb"};

	for (size_t i = 0; i < VF_N(names); i++) {
		VF_AUTO_FREE char *path = NULL;
		if (asprintf(&path, "%s/%s", c->dir, names[i]) < 0)
			path = NULL;
		else
			unlink(path);
	}
}

int vf_catalog_replace(struct vf_catalog *c)
{
	mdb_env_close(VF_STEAL(c->env));
	remove_files(c);
	int err = open_env(c);
	if (err && c->env)
		mdb_env_close(VF_STEAL(c->env));
	return err;
}

/*
 * Under the lock: two processes that find it damaged must not remove each
 * other's new files, one of them between opening lock.mdb and data.mdb.
 */
static int open_or_replace(struct vf_catalog *c)
{
	int err = vf_catalog_lock(c);

	if (err)
		return err;
	err = open_env(c);

	if (err == -EUCLEAN) {
		vf_log(VF_WARN,
		       "%s: not a catalog of ours, or damaged: made "
		       "again",
		       c->dir);
		err = vf_catalog_replace(c);
	}
	if (err && c->env) /* there is nothing that could be asked of it */
		mdb_env_close(VF_STEAL(c->env));
	vf_catalog_unlock(c);
	return err ? vf_fail(err, "%s: cannot open the catalog: %s", c->dir,
			     vf_strerror(err))
		   : 0;
}

int vf_catalog_open(const char *dir, const uint8_t uuid[16],
		    struct vf_catalog **out)
{
	struct vf_catalog *c = calloc(1, sizeof(*c));
	VF_AUTO_FREE char *root = NULL, *lock = NULL;
	char hex[33];
	int err = c ? 0 : -ENOMEM;

	*out = NULL;
	if (err)
		return err;
	c->lock_fd = -1;
	vf_hex(uuid, 16, hex);
	err = dir ? ((root = strdup(dir)) ? 0 : -ENOMEM) : default_dir(&root);
	if (!err)
		err = make_folder(root);
	if (!err && asprintf(&c->dir, "%s/catalog-%s", root, hex) < 0) {
		c->dir = NULL;
		err = -ENOMEM;
	}
	if (!err)
		err = make_folder(c->dir);
	if (!err && asprintf(&lock, "%s/sync", c->dir) < 0) {
		lock = NULL;
		err = -ENOMEM;
	}
	if (!err) {
		c->lock_fd = open(
			lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (c->lock_fd < 0)
			err = vf_fail(-errno, "%s: %s", lock, strerror(errno));
	}
	if (!err)
		err = open_or_replace(c);
	if (err)
		vf_catalog_close(c);
	else
		*out = c;
	return err;
}

void vf_catalog_close(struct vf_catalog *c)
{
	if (!c)
		return;
	if (c->env)
		mdb_env_close(c->env);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	free(c->dir);
	free(c);
}

/* ---- looking ----------------------------------------------------------------------------- */

struct known {
	uint32_t id;
	uint64_t n_rows;
	const struct vf_dead *dead;
	bool tail;
	size_t at;
};

struct vf_catalog_view {
	struct vf_catalog *c;
	MDB_txn *txn;
	MDB_cursor *keys;
	size_t n_known;
	struct known *known; /* ascending ids */
};

static bool find_place(const struct vf_state *s, const char *name,
		       struct known *k)
{
	char have[VF_CATALOG_NAME_LEN];

	k->tail = false;
	k->at = vf_state_shard(s, name);
	if (k->at != SIZE_MAX) {
		k->n_rows = s->shards[k->at].n_rows;
		k->dead = s->dead[k->at];
		return true;
	}
	/* Its name begins with the number of the record. */
	k->tail = true;
	k->at = vf_state_tail(s, strtoull(name, NULL, 10));
	if (k->at == SIZE_MAX)
		return false;
	k->n_rows = s->tail[k->at].rows->n_rows;
	k->dead = s->tail[k->at].dead;
	vf_catalog_tail_name(&s->tail[k->at], have);
	return !strcmp(have, name);
}

static int read_places(struct vf_catalog_view *v, const struct vf_state *s)
{
	size_t cap = s->n_shards + s->n_tail;
	MDB_cursor *cursor = NULL; /* closing that is nothing */
	MDB_val key, val;
	int rc = mdb_cursor_open(v->txn, v->c->places, &cursor);

	v->known = malloc((cap + 1) * sizeof(*v->known));
	if (!rc && !v->known)
		rc = ENOMEM;
	while (!rc && !(rc = mdb_cursor_get(cursor, &key, &val, MDB_NEXT))) {
		const struct place_disk *p = val.mv_data;
		struct known *k = &v->known[v->n_known];
		if (v->n_known == cap || key.mv_size != 4 ||
		    !vf_catalog_sound(&key, &val, sizeof(*p)) ||
		    p->name[VF_CATALOG_NAME_LEN - 1] ||
		    !find_place(s, p->name, k)) {
			rc = MDB_CORRUPTED;
			break;
		}
		k->id = vf_le32(key.mv_data);
		v->n_known++;
	}
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : vf_catalog_errno(rc);
}

int vf_catalog_look(struct vf_catalog *c, const struct vf_state *s,
		    struct vf_catalog_view **out)
{
	struct vf_catalog_view *v = calloc(1, sizeof(*v));
	struct applied_disk applied;
	int err;

	*out = NULL;
	if (!v)
		return -ENOMEM;
	v->c = c;
	err = c->env ? vf_catalog_errno(
			       mdb_txn_begin(c->env, NULL, MDB_RDONLY, &v->txn))
		     : -EIO;
	if (!err)
		err = vf_catalog_applied(c, v->txn, &applied);
	if (!err &&
	    (applied.number != s->head || applied.checksum != s->head_checksum))
		err = -EAGAIN;
	if (!err)
		err = vf_catalog_errno(
			mdb_cursor_open(v->txn, c->keys, &v->keys));
	if (!err)
		err = read_places(v, s);
	if (err)
		vf_catalog_done(v);
	else
		*out = v;
	return err;
}

void vf_catalog_done(struct vf_catalog_view *v)
{
	if (!v)
		return;
	if (v->keys)
		mdb_cursor_close(v->keys);
	if (v->txn)
		mdb_txn_abort(v->txn);
	free(v->known);
	free(v);
}

static const struct known *find_known(const struct vf_catalog_view *v,
				      uint32_t id)
{
	size_t lo = 0, hi = v->n_known;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (v->known[mid].id == id)
			return &v->known[mid];
		if (v->known[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

int vf_catalog_find(struct vf_catalog_view *v, const void *key, size_t len,
		    struct vf_place *out)
{
	uint8_t hash[VF_CATALOG_HASH_LEN];
	MDB_val k = {sizeof(hash), hash}, val;
	struct entry_disk e;
	int rc;

	vf_catalog_hash(key, len, hash);
	rc = mdb_cursor_get(v->keys, &k, &val, MDB_SET_KEY);
	if (rc)
		return vf_catalog_errno(rc);
	if (!vf_catalog_sound(&k, &val, 4))
		return -EUCLEAN;
	const uint8_t *p = (const uint8_t *)val.mv_data + 4;
	const uint8_t *end = (const uint8_t *)val.mv_data + val.mv_size;
	for (; p < end; p += sizeof(e) + e.key_len) {
		if ((size_t)(end - p) < sizeof(e))
			return -EUCLEAN;
		memcpy(&e, p, sizeof(e));
		if (e.key_len > (size_t)(end - p) - sizeof(e))
			return -EUCLEAN;
		if (e.key_len != len || memcmp(p + sizeof(e), key, len))
			continue;
		const struct known *at = find_known(v, e.place);
		/* What it says must not outweigh the log. */
		if (!at || e.row >= at->n_rows || vf_dead_has(at->dead, e.row))
			return -EUCLEAN;
		*out = (struct vf_place){at->tail, e.row, at->at};
		return 0;
	}
	return -ENOENT;
}

int vf_catalog_metadata(struct vf_catalog_view *v, const struct vf_place *p,
			struct vf_buf *out)
{
	uint8_t bytes[8];
	MDB_val key = {sizeof(bytes), bytes}, val;

	for (size_t i = 0; i < v->n_known; i++) {
		const struct known *k = &v->known[i];
		if (k->tail != p->tail || k->at != p->at)
			continue;
		vf_catalog_row_key(k->id, p->row, bytes);
		int rc = mdb_get(v->txn, v->c->rows, &key, &val);
		if (rc)
			return rc == MDB_NOTFOUND ? -EUCLEAN
						  : vf_catalog_errno(rc);
		if (!vf_catalog_sound(&key, &val, sizeof(struct row_disk)))
			return -EUCLEAN;
		return vf_buf_append(
			out, (uint8_t *)val.mv_data + sizeof(struct row_disk),
			val.mv_size - sizeof(struct row_disk));
	}
	return -EUCLEAN;
}
