/*
 * Listings.  A folder is read whole when its first entries are asked for, so
 * that a reader sees one state of it and who only opens it costs nothing; what
 * a LIST says of objects is enough for their attributes
 * (readdirplus), so that `ls -l` asks nothing more.
 */
#include "fs/fs.h"
#include "fs/live.h"

#include <stdio.h>

struct entry {
	char *name; /* owned */
	enum kind kind;
	bool made_up; /* attributes have to be looked up */
	uint64_t shown_len;
	char *stored; /* owned: name in the bucket where it differs */
	struct vf_object object;
};

struct listing {
	struct fs *fs;
	const struct inode *dir;
	size_t prefix_len;
	const struct vf_state *state; /* while listing a shard's folder */
	const char *shard;
	struct entry *entries;
	size_t n, cap;
	bool in_index; /* a top-level folder: may hold log/, so live/ */
	bool is_read;
};

static void clear_listing(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->entries[i].name);
		free(l->entries[i].stored);
	}
	l->n = 0;
}

static void free_listing(struct listing *l)
{
	clear_listing(l);
	free(l->entries);
	free(l);
}

static struct entry *add(struct listing *l, const char *name, size_t len,
			 enum kind kind)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		void *p = realloc(l->entries, cap * sizeof(*l->entries));
		if (!p)
			return NULL;
		l->entries = p;
		l->cap = cap;
	}
	struct entry *e = &l->entries[l->n];
	*e = (struct entry){.kind = kind, .name = strndup(name, len)};
	if (!e->name)
		return NULL;
	l->n++;
	return e;
}

static int add_made_up(struct listing *l, const char *name, enum kind kind)
{
	struct entry *e = add(l, name, strlen(name), kind);

	if (!e)
		return -ENOMEM;
	e->made_up = true;
	return 0;
}

static bool is_hidden(const struct listing *l, const char *name, size_t len)
{
	if (!vf_name_ok(name, len))
		return true;
	return l->dir == l->fs->root && len == 6 && !memcmp(name, ".vecfs", 6);
}

/* "a" sorts before "a/", but others ("a-b") may stand between them. */
static void hide_object_named(struct listing *l, const char *name, size_t len)
{
	for (size_t i = l->n; i-- > 0;) {
		struct entry *e = &l->entries[i];
		if (strncmp(e->name, name, len))
			return; /* beyond all that begin with it */
		if (strlen(e->name) > len)
			continue;
		free(e->name);
		free(e->stored);
		memmove(e, e + 1, (--l->n - i) * sizeof(*e));
		atomic_fetch_add(&l->fs->n_hidden, 1);
		return;
	}
}

/* In a shard's folder our NAME.zst is shown as NAME. */
static int add_object(struct listing *l, const char *name, size_t len,
		      const struct vf_object *object)
{
	struct entry *e = add(l, name, len, OBJECT);

	if (!e)
		return -ENOMEM;
	e->object = *object;
	e->shown_len = object->size;
	if (!l->shard || len < 5 || strcmp(e->name + len - 4, ".zst"))
		return 0;
	const struct vf_object_ref *ref;
	bool view;
	e->name[len - 4] = '\0';
	ref = vf_live_find(l->state, l->shard, e->name, &view);
	if (!ref || !view || ref->stored_len != object->size) {
		e->name[len - 4] = '.';
		return 0;
	}
	e->kind = VIEW;
	e->shown_len = ref->len;
	e->stored = strndup(name, len);
	return e->stored ? 0 : -ENOMEM;
}

static int visit(void *arg, const struct vf_list_entry *e)
{
	struct listing *l = arg;
	const char *name = e->key + l->prefix_len;
	size_t len = strlen(name) - (e->folder ? 1 : 0);

	if (!e->folder && !len)
		return 0; /* the "folder/" objects that consoles make */
	if (is_hidden(l, name, len)) {
		atomic_fetch_add(&l->fs->n_hidden, 1);
		return 0;
	}
	if (l->in_index && len == 4 && !memcmp(name, "live", 4))
		return 0; /* ours has the name */
	if (!e->folder)
		return add_object(l, name, len, &e->object);
	hide_object_named(l, name, len);
	return add(l, name, len, FOLDER) ? 0 : -ENOMEM;
}

static int list_bucket(struct listing *l)
{
	VF_AUTO_FREE char *prefix = NULL;

	if (asprintf(&prefix, "%s%s", l->dir->path, *l->dir->path ? "/" : "") <
	    0) {
		prefix = NULL;
		return -ENOMEM;
	}
	l->prefix_len = strlen(prefix);
	return vf_bucket_list(l->fs->bucket, prefix, true, NULL, visit, l);
}

/* ---- what is made up -------------------------------------------------------- */

static int list_live(struct listing *l)
{
	static const char *const ends[] = {"alive.npy", "jsonl", "npy"};
	static const enum kind kinds[] = {ALIVE, LINK, LINK};
	struct index_view *v;
	char index[VF_INDEX_NAME_MAX + 1], name[40];
	int err;

	snprintf(index, sizeof(index), "%.*s", (int)strcspn(l->dir->path, "/"),
		 l->dir->path);
	err = vf_live_get(l->fs, index, &v);
	if (err)
		return err;
	for (size_t i = 0; !err && i < vf_live_state(v)->n_shards; i++)
		for (size_t j = 0; !err && j < VF_N(ends); j++) {
			snprintf(name, sizeof(name), "%03zu.%s", i, ends[j]);
			err = add_made_up(l, name, kinds[j]);
		}
	vf_live_put(l->fs, v);
	return err;
}

static int list_index(struct listing *l)
{
	struct index_view *v;
	int err = vf_live_get(l->fs, l->dir->path, &v);

	if (!err) {
		vf_live_put(l->fs, v);
		l->in_index = true;
		err = add_made_up(l, "live", LIVE);
	}
	return err && err != -ENOENT ? err : list_bucket(l);
}

static int list_shard(struct listing *l, const char *index)
{
	struct index_view *v;
	int err = vf_live_get(l->fs, index, &v);

	if (err == -ENOENT) {
		l->shard = NULL;
		return list_bucket(l);
	}
	if (err)
		return err;
	l->state = vf_live_state(v);
	err = list_bucket(l);
	vf_live_put(l->fs, v);
	return err;
}

/* Of indexes that somebody has asked for. */
static int list_states(struct listing *l)
{
	VF_AUTO_BUF struct vf_buf names = {0};
	struct fs *fs = l->fs;
	int err = 0;

	pthread_mutex_lock(&fs->mtx);
	for (const struct index_view *v = fs->indexes; !err && v;
	     v = vf_live_next(v))
		err = vf_buf_append(&names, vf_live_state(v)->name,
				    strlen(vf_live_state(v)->name) + 1);
	pthread_mutex_unlock(&fs->mtx);
	for (size_t at = 0; !err && at < names.len;) {
		const char *name = (const char *)names.data + at;
		err = add_made_up(l, name, STATE);
		at += strlen(name) + 1;
	}
	return err;
}

static int list(struct listing *l)
{
	const struct inode *dir = l->dir;
	char index[VF_INDEX_NAME_MAX + 1];
	int err;

	if (!add(l, ".", 1, FOLDER) || !add(l, "..", 2, FOLDER))
		return -ENOMEM;
	if (dir->kind == CONTROL) {
		err = add_made_up(l, "metrics", METRICS);
		if (!err)
			err = add_made_up(l, "state", STATES);
		return err ? err : add_made_up(l, "status.json", STATUS);
	}
	if (dir->kind == STATES)
		return list_states(l);
	if (dir->kind == LIVE)
		return list_live(l);
	if (dir == l->fs->root) {
		err = add_made_up(l, ".vecfs", CONTROL);
		return err ? err : list_bucket(l);
	}
	if (vf_live_is_index_path(dir->path))
		return list_index(l);
	if (vf_live_shard_path(dir->path, index, &l->shard))
		return list_shard(l, index);
	return list_bucket(l);
}

/* ---- operations ---------------------------------------------------------------- */

void vf_fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct listing *l = calloc(1, sizeof(*l));

	if (!l) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	l->fs = fs;
	l->dir = vf_inode(fs, ino);
	fi->fh = (uintptr_t)l;
	if (fuse_reply_open(req, fi))
		free_listing(l); /* interrupted: no release will come */
}

static mode_t mode_of(enum kind kind)
{
	if (kind == FOLDER || kind == LIVE || kind == CONTROL || kind == STATES)
		return S_IFDIR;
	return kind == LINK ? S_IFLNK : S_IFREG;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* The entry with its attributes; without a request where the LIST told. */
static int fill(const struct listing *l, const struct entry *e,
		struct fuse_entry_param *out)
{
	VF_AUTO_FREE char *path = NULL;
	VF_AUTO_FREE char *key = NULL;
	const char *dir = l->dir->path, *slash = *dir ? "/" : "";
	struct inode want = {.kind = e->kind};

	if (e->made_up) {
		struct found f;
		int err = vf_find_name(l->fs, l->dir, e->name, &f);
		if (!err)
			err = vf_fs_entry(l->fs, &f.inode, f.ttl_s, out);
		vf_found_fini(&f);
		return err;
	}
	if (asprintf(&path, "%s%s%s", dir, slash, e->name) < 0 ||
	    asprintf(&key, "%s%s%s", dir, slash,
		     e->stored ? e->stored : e->name) < 0)
		return -ENOMEM;
	want.path = path;
	want.key = e->kind == FOLDER ? NULL : key;
	want.size = e->shown_len;
	want.stored_len = e->object.size;
	want.mtime_ns = e->object.mtime_ns;
	memcpy(want.etag, e->object.etag, sizeof(want.etag));
	return vf_fs_entry(l->fs, &want, vf_name_ttl_s(l->fs, dir), out);
}

static void read_entries(fuse_req_t req, size_t size, off_t off, bool plus,
			 struct listing *l)
{
	VF_AUTO_FREE char *buf = malloc(size);
	size_t used = 0;

	if (!off && l->is_read) { /* rewinddir(3): what is there now */
		clear_listing(l);
		l->is_read = false;
	}
	int err = !buf ? -ENOMEM : l->is_read ? 0 : list(l);

	l->is_read |= !err;
	if (err) {
		clear_listing(l);
		fuse_reply_err(req, vf_fs_errno(err));
		return;
	}
	for (size_t i = (size_t)off; i < l->n; i++) {
		const struct entry *e = &l->entries[i];
		struct fuse_entry_param p = {.attr.st_mode = mode_of(e->kind)};
		size_t n = plus ? fuse_add_direntry_plus(req, NULL, 0, e->name,
							 NULL, 0)
				: fuse_add_direntry(req, NULL, 0, e->name, NULL,
						    0);
		if (n > size - used)
			break;
		/* Gone meanwhile: without attributes, a look-up will tell. */
		if (plus && (is_dots(e->name) || fill(l, e, &p)))
			p = (struct fuse_entry_param){
				.attr.st_mode = mode_of(e->kind),
				.attr.st_ino = 0xffffffff};
		if (plus)
			fuse_add_direntry_plus(req, buf + used, n, e->name, &p,
					       (off_t)i + 1);
		else {
			p.attr.st_ino = 0xffffffff; /* unknown, but not 0 */
			fuse_add_direntry(req, buf + used, n, e->name, &p.attr,
					  (off_t)i + 1);
		}
		used += n;
	}
	fuse_reply_buf(req, buf, used);
}

void vf_fs_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	read_entries(req, size, off, false,
		     (struct listing *)(uintptr_t)fi->fh);
}

void vf_fs_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	read_entries(req, size, off, true, (struct listing *)(uintptr_t)fi->fh);
}

void vf_fs_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	free_listing((struct listing *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}
