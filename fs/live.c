/*
 * Indexes of the bucket as the mount sees them: a state per index, refreshed
 * when it is asked for and older than a name may live.
 *
 * A view is handed out with a reference; a refresh makes a new one and leaves
 * the old to those who hold it.
 */
#include "fs/live.h"
#include "fs/listings.h"
#include "store/checkpoint.h"

struct index_view {
	char name[VF_INDEX_NAME_MAX + 1]; /* [fixed] */
	struct vf_state *state;		  /* [fixed] */
	atomic_uint_fast64_t seen_ns;	  /* when it was the newest */
	unsigned refs;			  /* [fs.mtx] the list's included */
	struct index_view *next;	  /* [fs.mtx] */
};

static void put_locked(struct index_view *v)
{
	if (--v->refs)
		return;
	vf_state_free(v->state);
	free(v);
}

void vf_live_put(struct fs *fs, struct index_view *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&fs->mtx);
	put_locked(v);
	pthread_mutex_unlock(&fs->mtx);
}

static struct index_view *find_locked(struct fs *fs, const char *name)
{
	struct index_view *v = fs->indexes;

	while (v && strcmp(v->name, name))
		v = v->next;
	return v;
}

/*
 * Put @state, the newest at @seen_ns, at the place of what is known by its
 * name; a reference to what is newest now.
 */
static struct index_view *remember(struct fs *fs, const char *name,
				   struct vf_state *state, uint64_t seen_ns)
{
	struct index_view *v = calloc(1, sizeof(*v)), **at;

	if (!v) {
		vf_state_free(state);
		return NULL;
	}
	strcpy(v->name, name);
	v->state = state;
	v->seen_ns = seen_ns;
	v->refs = 2;
	pthread_mutex_lock(&fs->mtx);
	for (at = &fs->indexes; *at && strcmp((*at)->name, name);)
		at = &(*at)->next;
	if (*at) {
		struct index_view *old = *at;
		/* That look began later, and was faster: no way back. */
		if (old->seen_ns > seen_ns && old->state->head > state->head) {
			old->refs++;
			pthread_mutex_unlock(&fs->mtx);
			vf_state_free(state);
			free(v);
			return old;
		}
		*at = old->next;
		put_locked(old);
	}
	v->next = fs->indexes;
	fs->indexes = v;
	pthread_mutex_unlock(&fs->mtx);
	vf_log(VF_INFO, "%s: at commit %llu", name,
	       (unsigned long long)state->head);
	vf_pins_commit(fs, name);
	return v;
}

/* A LIST that told of all names tells of the log too. */
static int load(struct fs *fs, const char *name, uint64_t max_age_ms,
		struct index_view **out)
{
	struct vf_listed *l = NULL;
	uint64_t seen_ns = vf_now_ns();
	struct vf_state *s = NULL;
	int err;

	if (vf_bucket_dir(fs->bucket)) {
		err = vf_state_load(fs->bucket, name, &s);
	} else {
		err = vf_listings_ask(fs, name, max_age_ms, &l);
		if (!err)
			err = vf_state_load_listed(fs->bucket, name, l, &s);
		if (!err)
			seen_ns = VF_MIN(seen_ns, l->seen_ns);
		vf_listed_put(l);
	}
	if (err)
		return err;
	*out = remember(fs, name, s, seen_ns);
	return *out ? 0 : -ENOMEM;
}

static int refresh(struct fs *fs, struct index_view *v, struct index_view **out)
{
	uint64_t now_ns = vf_now_ns();
	struct vf_state *next;
	int err = vf_state_refresh(fs->bucket, v->state, &next);

	if (err)
		return err;
	if (!next) {
		pthread_mutex_lock(&fs->mtx);
		v->seen_ns = VF_MAX(v->seen_ns, now_ns);
		pthread_mutex_unlock(&fs->mtx);
		*out = v;
		return 0;
	}
	*out = remember(fs, v->name, next, now_ns);
	vf_live_put(fs, v);
	return *out ? 0 : -ENOMEM;
}

int vf_live_get(struct fs *fs, const char *name, struct index_view **out)
{
	return vf_live_get_since(fs, name, fs->opt.name_ttl_ms, out);
}

int vf_live_get_since(struct fs *fs, const char *name, uint64_t max_age_ms,
		      struct index_view **out)
{
	struct index_view *v;
	bool fresh = false;

	*out = NULL;
	if (!vf_index_name_ok(name))
		return -ENOENT;
	pthread_mutex_lock(&fs->mtx);
	v = find_locked(fs, name);
	if (v) {
		v->refs++;
		fresh = (vf_now_ns() - v->seen_ns) / 1000000 < max_age_ms;
	}
	pthread_mutex_unlock(&fs->mtx);
	if (!v)
		return load(fs, name, max_age_ms, out);
	*out = v;
	if (fresh)
		return 0;
	int err = refresh(fs, v, out);
	if (err) {
		vf_live_put(fs, v);
		*out = NULL;
	}
	return err;
}

const struct vf_state *vf_live_state(const struct index_view *v)
{
	return v->state;
}

uint64_t vf_live_age_ms(const struct index_view *v)
{
	return (vf_now_ns() - v->seen_ns) / 1000000;
}

int vf_live_text(struct fs *fs, const char *path, struct vf_buf *out)
{
	struct index_view *v;
	int err = vf_live_get_since(fs, strrchr(path, '/') + 1, UINT64_MAX, &v);

	if (!err && v->state->head)
		err = vf_checkpoint_encode_whole(v->state, out);
	vf_live_put(fs, v);
	return err;
}

const struct index_view *vf_live_next(const struct index_view *v)
{
	return v->next;
}

void vf_live_fini(struct fs *fs)
{
	while (fs->indexes) {
		struct index_view *v = fs->indexes;
		fs->indexes = v->next;
		put_locked(v);
	}
}

bool vf_live_is_index_path(const char *path)
{
	return !strchr(path, '/') && vf_index_name_ok(path);
}

bool vf_live_shard_path(const char *path, char index[VF_INDEX_NAME_MAX + 1],
			const char **out_shard)
{
	const char *slash = strchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (!n || n > VF_INDEX_NAME_MAX || strncmp(slash, "/shard/", 7) ||
	    !vf_shard_name_ok(slash + 7))
		return false;
	memcpy(index, path, n);
	index[n] = '\0';
	*out_shard = slash + 7;
	return true;
}

static const struct vf_object_ref *match(const struct vf_object_ref *ref,
					 const char *name, bool *out_view)
{
	size_t n = strlen(ref->name);

	*out_view = ref->zstd && n > 4 && !strcmp(ref->name + n - 4, ".zst");
	if (*out_view)
		n -= 4;
	return strlen(name) == n && !memcmp(name, ref->name, n) ? ref : NULL;
}

const struct vf_object_ref *vf_live_find(const struct vf_state *s,
					 const char *shard, const char *name,
					 bool *out_view)
{
	for (size_t i = 0; i < s->n_shards; i++) {
		const struct vf_shard_ref *r = &s->shards[i];
		const struct vf_object_ref *o;
		if (strcmp(r->name, shard))
			continue;
		o = match(&r->vectors, name, out_view);
		if (!o)
			o = match(&r->records, name, out_view);
		return o ? o : match(&r->codes, name, out_view);
	}
	return NULL;
}
