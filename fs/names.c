/*
 * From a name in a folder to what it is.  The bucket's keys are the paths, but
 * for what is made up: .vecfs, live/ and the decompressed views of our .zst.
 */
#include "fs/fs.h"
#include "fs/listings.h"
#include "fs/live.h"
#include "store/npy.h"

#include <stdio.h>

enum { NAME_MAX_LEN = 255 };

static const double for_ever_s = 86400.0 * 365;

bool vf_name_ok(const char *name, size_t len)
{
	return len && len <= NAME_MAX_LEN && !memchr(name, '\0', len) &&
	       !(len == 1 && name[0] == '.') &&
	       !(len == 2 && name[0] == '.' && name[1] == '.');
}

void vf_found_fini(struct found *f)
{
	free(f->path);
	free(f->key);
	free(f->target);
	vf_dead_put(f->dead);
}

static int set_key(struct found *f, const char *key, const struct vf_object *o)
{
	f->inode.key = f->key = strdup(key);
	if (!f->key)
		return -ENOMEM;
	memcpy(f->inode.etag, o->etag, sizeof(o->etag));
	f->inode.size = f->inode.stored_len = o->size;
	f->inode.mtime_ns = o->mtime_ns;
	return 0;
}

/* ---- .vecfs and live/ --------------------------------------------------------------------- */

/* The file of an index's state is made when it is opened. */
static int find_state(struct fs *fs, const char *name, struct found *f)
{
	struct index_view *v;
	int err = vf_live_get_since(fs, name, UINT64_MAX, &v);

	vf_live_put(fs, v);
	f->inode.kind = STATE;
	f->ttl_s = 0;
	return err;
}

static int find_control(struct fs *fs, const struct inode *dir,
			const char *name, struct found *f)
{
	if (dir->kind == STATES)
		return find_state(fs, name, f);
	if (dir->kind != CONTROL)
		f->inode.kind = CONTROL;
	else if (!strcmp(name, "status.json"))
		f->inode.kind = STATUS;
	else if (!strcmp(name, "metrics"))
		f->inode.kind = METRICS;
	else if (!strcmp(name, "state"))
		f->inode.kind = STATES;
	else
		return -ENOENT;
	f->ttl_s = for_ever_s;
	return 0;
}

/* Rows of a shard only die, so their number names the version. */
static int name_alive(const struct vf_shard_ref *r, struct vf_dead *dead,
		      struct found *f)
{
	uint8_t header[128];

	f->inode.kind = ALIVE;
	f->inode.n_rows = r->n_rows;
	f->inode.size = vf_npy_bool_header(r->n_rows, header) + r->n_rows;
	f->inode.dead = f->dead = vf_dead_get(dead);
	snprintf(f->inode.etag, sizeof(f->inode.etag), "%s-%llu", r->name,
		 (unsigned long long)vf_dead_count(dead));
	return 0;
}

/* "NNN.npy", "NNN.jsonl", "NNN.alive.npy" of shard NNN. */
static int find_in_live(struct fs *fs, const struct vf_state *s,
			const char *name, struct found *f)
{
	char *end;
	unsigned long n = strtoul(name, &end, 10);
	size_t digits = (size_t)(end - name);
	char want[32];

	if (digits < 3 || n >= s->n_shards)
		return -ENOENT;
	snprintf(want, sizeof(want), "%03lu", n);
	if (strlen(want) != digits || strncmp(want, name, digits))
		return -ENOENT;
	const struct vf_shard_ref *r = &s->shards[n];
	if (!strcmp(end, ".alive.npy"))
		return name_alive(r, s->dead[n], f);
	if (strcmp(end, ".npy") && strcmp(end, ".jsonl"))
		return -ENOENT;
	f->inode.kind = LINK;
	if (asprintf(&f->target, "../shard/%s/%s", r->name,
		     strcmp(end, ".npy") ? "records.jsonl" : "vectors.npy") < 0)
		return -ENOMEM;
	f->inode.target = f->target;
	f->inode.size = strlen(f->target);
	return 0;
}

/* ---- shards -------------------------------------------------------------------------------- */

/* What is known of an object of the index that never changes, else asked. */
static int find_object(struct fs *fs, const char *key, struct vf_object *out)
{
	char index[VF_INDEX_NAME_MAX + 1];
	struct vf_listed *l;
	const struct vf_object *o = NULL;

	snprintf(index, sizeof(index), "%.*s", (int)strcspn(key, "/"), key);
	l = vf_listings_find(fs, index, fs->opt.name_ttl_ms);
	if (l)
		o = vf_listed_find(l, key);
	if (o)
		*out = *o;
	vf_listed_put(l);
	return o ? 0 : vf_bucket_head(fs->bucket, key, out);
}

/* Sizes come from the log, the ETag from a LIST. */
static int find_in_shard(struct fs *fs, const struct vf_state *s,
			 const char *dir, const char *shard, const char *name,
			 struct found *f)
{
	VF_AUTO_FREE char *key = NULL;
	struct vf_object object;
	bool view;
	const struct vf_object_ref *ref = vf_live_find(s, shard, name, &view);
	int err;

	if (!ref)
		return -ENOENT;
	if (asprintf(&key, "%s/%s", dir, ref->name) < 0) {
		key = NULL;
		return -ENOMEM;
	}
	err = find_object(fs, key, &object);
	if (err)
		return err;
	if (object.size != ref->stored_len)
		return vf_fail(-EBADMSG,
			       "%s: %llu bytes, but the log says %llu", key,
			       (unsigned long long)object.size,
			       (unsigned long long)ref->stored_len);
	err = set_key(f, key, &object);
	f->inode.kind = view ? VIEW : OBJECT;
	f->inode.size = ref->len;
	f->ttl_s = for_ever_s;
	return err;
}

/* ---- objects and folders ------------------------------------------------------------------- */

static int stop_at_first(void *arg, const struct vf_list_entry *e)
{
	return 1;
}

/* A folder wins over an object of the same name. */
static int find_in_bucket(struct fs *fs, const char *path, bool no_folder,
			  struct found *f)
{
	char prefix[VF_OBJECT_KEY_MAX + 2];
	struct vf_object object;
	int err = 0;

	if (strlen(path) > VF_OBJECT_KEY_MAX)
		return -ENAMETOOLONG;
	snprintf(prefix, sizeof(prefix), "%s/", path);
	if (!no_folder)
		err = vf_bucket_list(fs->bucket, prefix, false, NULL,
				     stop_at_first, NULL);
	if (err < 0)
		return err;
	if (err) {
		f->inode.kind = FOLDER;
		return 0;
	}
	err = vf_bucket_head(fs->bucket, path, &object);
	if (err)
		return err;
	f->inode.kind = OBJECT;
	return set_key(f, path, &object);
}

/* The parts of an index whose objects never change, nor does the log's order:
 * "shard/", "tree/", "embed/". */
static bool is_of_fixed(const char *rest)
{
	return !strncmp(rest, "shard/", 6) || !strncmp(rest, "tree/", 5) ||
	       !strncmp(rest, "embed/", 6);
}

/*
 * What a LIST of the index told: its folders, and objects that never change.
 * Of the index itself it is asked for: all that is opened in it comes next.
 * -ENOENT: it has to be looked for.
 * @out_no_folder  it is no folder
 */
static int find_listed(struct fs *fs, const char *path, struct found *f,
		       bool *out_no_folder)
{
	char index[VF_INDEX_NAME_MAX + 1], log[VF_INDEX_NAME_MAX + 5];
	size_t n = strcspn(path, "/");
	const struct vf_object *o = NULL;
	struct vf_listed *l = NULL;
	int err = 0;

	if (vf_bucket_dir(fs->bucket) || n > VF_INDEX_NAME_MAX)
		return -ENOENT;
	snprintf(index, sizeof(index), "%.*s", (int)n, path);
	if (!path[n] && vf_index_name_ok(path))
		err = vf_listings_ask(fs, index, fs->opt.name_ttl_ms, &l);
	else
		l = vf_listings_find(fs, index, fs->opt.name_ttl_ms);
	if (err || !l)
		return err ? err : -ENOENT;
	f->inode.kind = FOLDER;
	err = vf_listed_has_folder(l, path) ? 0 : -ENOENT;
	*out_no_folder = err && !path[n];
	snprintf(log, sizeof(log), "%s/log", index);
	if (err && path[n] && is_of_fixed(path + n + 1) &&
	    vf_listed_has_folder(l, log)) /* else it is no index */
		o = vf_listed_find(l, path);
	if (o) {
		f->inode.kind = OBJECT;
		err = set_key(f, path, o);
	}
	vf_listed_put(l);
	return err;
}

/* Parts of the log are asked for each time; the rest may be old. */
double vf_name_ttl_s(const struct fs *fs, const char *dir)
{
	const char *slash = strchr(dir, '/');

	if (slash && (!strcmp(slash, "/log") || !strcmp(slash, "/checkpoint") ||
		      !strcmp(slash, "/boundary")))
		return 0;
	return fs->opt.name_ttl_ms / 1000.0;
}

static int find(struct fs *fs, const struct inode *dir, const char *name,
		struct found *f)
{
	char index[VF_INDEX_NAME_MAX + 1];
	struct index_view *v;
	const char *shard;
	bool no_folder = false;
	int err;

	if (dir->kind == CONTROL || dir->kind == STATES ||
	    (dir == fs->root && !strcmp(name, ".vecfs")))
		return find_control(fs, dir, name, f);
	if (dir->kind == LIVE) {
		snprintf(index, sizeof(index), "%.*s",
			 (int)strcspn(dir->path, "/"), dir->path);
		err = vf_live_get(fs, index, &v);
		if (!err)
			err = find_in_live(fs, vf_live_state(v), name, f);
		vf_live_put(fs, v);
		return err;
	}
	if (vf_live_is_index_path(dir->path) && !strcmp(name, "live")) {
		err = vf_live_get(fs, dir->path, &v);
		vf_live_put(fs, v);
		f->inode.kind = LIVE;
		if (err != -ENOENT)
			return err;
	}
	if (vf_live_shard_path(dir->path, index, &shard)) {
		err = vf_live_get(fs, index, &v);
		if (!err)
			err = find_in_shard(fs, vf_live_state(v), dir->path,
					    shard, name, f);
		vf_live_put(fs, v);
		if (err != -ENOENT)
			return err;
	}
	err = find_listed(fs, f->path, f, &no_folder);
	return err != -ENOENT ? err : find_in_bucket(fs, f->path, no_folder, f);
}

int vf_find_name(struct fs *fs, const struct inode *dir, const char *name,
		 struct found *out)
{
	int err;

	*out = (struct found){.ttl_s = vf_name_ttl_s(fs, dir->path)};
	if (!vf_name_ok(name, strlen(name)))
		return strlen(name) > NAME_MAX_LEN ? -ENAMETOOLONG : -ENOENT;
	if (asprintf(&out->path, "%s%s%s", dir->path, *dir->path ? "/" : "",
		     name) < 0) {
		out->path = NULL;
		return -ENOMEM;
	}
	out->inode.path = out->path;
	err = find(fs, dir, name, out);
	if (err) {
		vf_found_fini(out);
		*out = (struct found){0};
	}
	return err;
}

int vf_find_path(struct fs *fs, const char *path, struct found *out)
{
	const char *slash = strrchr(path, '/');
	VF_AUTO_FREE char *up =
		slash ? strndup(path, (size_t)(slash - path)) : NULL;
	struct inode dir = {.kind = FOLDER, .path = up};

	if (!*path) {
		*out = (struct found){.inode = {.kind = FOLDER, .path = ""}};
		return 0;
	}
	if (slash && !up)
		return -ENOMEM;
	return vf_find_name(fs, slash ? &dir : fs->root,
			    slash ? slash + 1 : path, out);
}
