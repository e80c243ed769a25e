/*
 * From a path to the stored objects behind it.  A folder is one LIST; of the
 * shards of an index only those of its newest commit count, because the others
 * wait for nobody but the garbage collector.
 */
#include "fs/fs.h"
#include "fs/live.h"

#include <stdio.h>

enum { OBJECTS_MAX = 1 << 20 };

/* ---- the list ---------------------------------------------------------------------- */

int vf_stored_add(struct vf_stored_list *l, const struct vf_stored *s,
		  uint64_t off, uint64_t end)
{
	if (l->n == OBJECTS_MAX)
		return vf_fail(-E2BIG, "%s: more than %d files in one folder",
			       s->key, OBJECTS_MAX);
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		void *p = realloc(l->all, cap * sizeof(*l->all));
		if (!p)
			return -ENOMEM;
		l->all = p;
		l->cap = cap;
	}
	l->all[l->n] = *s;
	l->all[l->n].off = off;
	l->all[l->n].end = end;
	l->all[l->n].key = strdup(s->key);
	if (!l->all[l->n].key)
		return -ENOMEM;
	l->n++;
	l->bytes += end - off;
	return 0;
}

int vf_stored_copy(const struct vf_stored_list *l, struct vf_stored_list *out)
{
	int err = 0;

	*out = (struct vf_stored_list){0};
	for (size_t i = 0; !err && i < l->n; i++)
		err = vf_stored_add(out, &l->all[i], l->all[i].off,
				    l->all[i].end);
	if (err)
		vf_stored_fini(out);
	return err;
}

bool vf_stored_equal(const struct vf_stored_list *a,
		     const struct vf_stored_list *b)
{
	if (a->n != b->n || a->bytes != b->bytes)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct vf_stored *x = &a->all[i], *y = &b->all[i];
		if (x->off != y->off || x->end != y->end ||
		    memcmp(x->id, y->id, sizeof(x->id)))
			return false;
	}
	return true;
}

void vf_stored_fini(struct vf_stored_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->all[i].key);
	free(l->all);
	*l = (struct vf_stored_list){0};
}

const struct vf_stored *vf_stored_search(const struct vf_stored_list *l,
					 const char *key)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(l->all[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return l->all + lo;
}

/* ---- a file -------------------------------------------------------------------------- */

static struct vf_stored whole_of(const struct fs *fs, const char *key,
				 const char *etag, uint64_t size)
{
	struct vf_stored s = {.key = (char *)key, .size = size};

	snprintf(s.etag, sizeof(s.etag), "%s", etag);
	vf_fs_stored_id(vf_bucket_identity(fs->bucket), key, etag, size, s.id);
	return s;
}

/* The frames that a part of a view comes from, and their table. */
static int find_view(struct fs *fs, const struct inode *i, uint64_t off,
		     uint64_t end, struct vf_stored_list *out)
{
	struct vf_stored s = whole_of(fs, i->key, i->etag, i->stored_len);
	uint64_t table;
	int err = vf_fs_view_part(fs, i, &off, &end, &table);

	if (!err)
		err = vf_stored_add(out, &s, off, end);
	if (!err)
		err = vf_stored_add(out, &s, table, s.size);
	return err;
}

static int find_file(struct fs *fs, const struct inode *i, uint64_t off,
		     uint64_t end, struct vf_stored_list *out)
{
	struct vf_stored s = whole_of(fs, i->key, i->etag, i->stored_len);

	end = VF_MIN(end, i->size);
	if (off >= end)
		return off ? -EINVAL : 0; /* an empty file is no mistake */
	if (off == 0 && end == i->size)
		return vf_stored_add(out, &s, 0, s.size);
	if (i->kind == VIEW)
		return find_view(fs, i, off, end, out);
	return vf_stored_add(out, &s, off, end);
}

/* ---- a folder ------------------------------------------------------------------------ */

struct visit {
	const struct fs *fs;
	struct vf_stored_list *list;
};

static int visit(void *arg, const struct vf_list_entry *e)
{
	const struct visit *v = arg;
	struct vf_stored s;

	if (!e->object.size)
		return 0;
	s = whole_of(v->fs, e->key, e->object.etag, e->object.size);
	return vf_stored_add(v->list, &s, 0, s.size);
}

bool vf_stored_in_shard(const char *key, char index[VF_INDEX_NAME_MAX + 1],
			char shard[VF_SHARD_NAME_LEN + 1])
{
	const char *slash = strchr(key, '/'), *end;
	size_t n = slash ? (size_t)(slash - key) : 0;

	if (!n || n > VF_INDEX_NAME_MAX || strncmp(slash, "/shard/", 7))
		return false;
	end = strchr(slash + 7, '/');
	if (!end || end - (slash + 7) != VF_SHARD_NAME_LEN)
		return false;
	snprintf(index, VF_INDEX_NAME_MAX + 1, "%.*s", (int)n, key);
	snprintf(shard, VF_SHARD_NAME_LEN + 1, "%s", slash + 7);
	return vf_index_name_ok(index) && vf_shard_name_ok(shard);
}

static bool is_live(const struct vf_state *s, const char *shard)
{
	for (size_t i = 0; i < s->n_shards; i++)
		if (!strcmp(s->shards[i].name, shard))
			return true;
	return false;
}

/* Let go of what is in shards that are not live; keys are sorted, so that one
 * state at a time is enough. */
static int keep_live(struct fs *fs, struct vf_stored_list *l)
{
	char index[VF_INDEX_NAME_MAX + 1], shard[VF_SHARD_NAME_LEN + 1];
	char now[VF_INDEX_NAME_MAX + 1] = "";
	struct index_view *v = NULL;
	size_t n = 0;
	int err = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct vf_stored *s = &l->all[i];
		bool in_shard =
			!err && vf_stored_in_shard(s->key, index, shard);
		if (in_shard && strcmp(now, index)) {
			vf_live_put(fs, v);
			err = vf_live_get(fs, index, &v);
			err = err == -ENOENT ? 0 : err;
			strcpy(now, index);
		}
		if (in_shard && v && !is_live(vf_live_state(v), shard)) {
			l->bytes -= s->end - s->off;
			free(s->key);
		} else {
			l->all[n++] = *s;
		}
	}
	l->n = n;
	vf_live_put(fs, v);
	return err;
}

static int find_folder(struct fs *fs, const struct inode *i,
		       struct vf_stored_list *out)
{
	VF_AUTO_FREE char *prefix = NULL;
	int n, err;

	if (i->kind == LIVE) /* the same shards by other names */
		n = asprintf(&prefix, "%.*s/shard/", (int)strcspn(i->path, "/"),
			     i->path);
	else
		n = asprintf(&prefix, "%s%s", i->path, *i->path ? "/" : "");
	if (n < 0) {
		prefix = NULL;
		return -ENOMEM;
	}
	err = vf_bucket_list(fs->bucket, prefix, false, NULL, visit,
			     &(struct visit){fs, out});
	return err ? err : keep_live(fs, out);
}

int vf_stored_find(struct fs *fs, const struct inode *i, uint64_t off,
		   uint64_t end, struct vf_stored_list *out)
{
	bool folder = i->kind == FOLDER || i->kind == LIVE;
	int err = -EOPNOTSUPP;

	*out = (struct vf_stored_list){0};
	if (folder && (off || end != VF_PIN_WHOLE))
		return -EINVAL;
	if (folder)
		err = find_folder(fs, i, out);
	else if (i->kind == OBJECT || i->kind == VIEW)
		err = find_file(fs, i, off, end, out);
	if (err)
		vf_stored_fini(out);
	return err;
}

int vf_stored_find_path(struct fs *fs, const char *path, uint64_t off,
			uint64_t end, struct vf_stored_list *out)
{
	struct found f;
	int err = vf_find_path(fs, path, &f);

	*out = (struct vf_stored_list){0};
	if (err)
		return err;
	err = vf_stored_find(fs, &f.inode, off, end, out);
	vf_found_fini(&f);
	return err;
}
