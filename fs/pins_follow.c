/*
 * Pins follow what their paths lead to: a new version, new files of a folder, a
 * new commit of an index.  Names that are looked up and commits that are met
 * tell when to look; one thread looks, so that nobody waits.  Where nobody
 * looks nothing is asked of the bucket.
 */
#include "fs/pins_impl.h"
#include "store/thread.h"

#include <inttypes.h>

enum { RETRY_S = 10, AGAIN_S = 1 };

/* ---- asking ------------------------------------------------------------------------------- */

/* Is @path @dir itself or beneath it? */
static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !n || (!strncmp(path, dir, n) && (!path[n] || path[n] == '/'));
}

size_t vf_pins_count(struct vf_pins *p)
{
	return p ? atomic_load(&p->n_held) : 0;
}

int vf_pins_text(struct fs *fs, const char *path, struct vf_buf *out)
{
	struct vf_pins *p = fs->pins;
	bool whole = false;
	int err = 0;

	if (!vf_pins_count(p))
		return -ENODATA;
	pthread_mutex_lock(&p->mtx);
	for (const struct vf_pin *x = p->list; x && !err; x = x->next) {
		if (!vf_pin_holds(x) || !is_below(path, x->path))
			continue;
		if (x->end == VF_PIN_WHOLE && !x->off)
			whole = true;
		else if (x->end == VF_PIN_WHOLE)
			err = vf_buf_printf(out, "%s%" PRIu64 "-",
					    out->len ? "," : "", x->off);
		else
			err = vf_buf_printf(out, "%s%" PRIu64 "-%" PRIu64,
					    out->len ? "," : "", x->off,
					    x->end);
	}
	pthread_mutex_unlock(&p->mtx);
	if (!err && whole) {
		out->len = 0;
		err = vf_buf_printf(out, "1");
	}
	return err ? err : out->len ? 0 : -ENODATA;
}

/* ---- following what paths lead to ----------------------------------------------------------- */

static void look_again(struct vf_pins *p, struct vf_pin *pin, uint64_t at_ns)
{
	if (!pin->look_ns || pin->look_ns > at_ns)
		pin->look_ns = at_ns;
	pthread_cond_signal(&p->wake);
}

/* Is this version what the pin holds of this key?  Parts of shards come and go
 * with commits alone. */
static bool is_known(const struct vf_pin *x, const char *key, const char *etag)
{
	const struct vf_stored *s = vf_stored_search(&x->list, key);
	char index[VF_INDEX_NAME_MAX + 1], shard[VF_SHARD_NAME_LEN + 1];

	if (s < x->list.all + x->list.n && !strcmp(s->key, key))
		return !strcmp(s->etag, etag);
	return vf_stored_in_shard(key, index, shard);
}

void vf_pins_seen(struct fs *fs, const char *path, const char *key,
		  const char *etag)
{
	struct vf_pins *p = fs->pins;
	uint64_t at = vf_now_ns() + AGAIN_S * UINT64_C(1000000000);

	if (!vf_pins_count(p))
		return;
	pthread_mutex_lock(&p->mtx);
	for (struct vf_pin *x = p->list; x; x = x->next)
		if (vf_pin_holds(x) && is_below(path, x->path) &&
		    !is_known(x, key, etag))
			look_again(p, x, at);
	pthread_mutex_unlock(&p->mtx);
}

void vf_pins_commit(struct fs *fs, const char *index)
{
	struct vf_pins *p = fs->pins;

	if (!vf_pins_count(p))
		return;
	pthread_mutex_lock(&p->mtx);
	for (struct vf_pin *x = p->list; x; x = x->next)
		if (vf_pin_holds(x) &&
		    (is_below(x->path, index) || is_below(index, x->path)))
			look_again(p, x, vf_now_ns());
	pthread_mutex_unlock(&p->mtx);
}

void vf_pins_retry(struct fs *fs, const char *path)
{
	struct vf_pins *p = fs->pins;
	uint64_t at = vf_now_ns() + RETRY_S * UINT64_C(1000000000);

	if (!vf_pins_count(p))
		return;
	pthread_mutex_lock(&p->mtx);
	for (struct vf_pin *x = p->list; x; x = x->next)
		if (vf_pin_holds(x) && !strcmp(x->path, path))
			look_again(p, x, at);
	pthread_mutex_unlock(&p->mtx);
}

/* What was found at the path, for the pin if it still is one. */
static void take_found(struct vf_pins *p, const char *path, uint64_t off,
		       uint64_t end, int err, struct vf_stored_list *list)
{
	struct vf_stored_list copy = {0};
	struct vf_pin *pin;

	pthread_mutex_lock(&p->change);
	pin = vf_pins_find(p, path, off, end);
	if (pin && (!err || err == -ENOENT))
		err = vf_stored_copy(list, &copy);
	if (pin && !err)
		err = vf_pin_follow(p, pin, list);
	pthread_mutex_unlock(&p->change);
	if (pin && !err)
		err = vf_warm_start(p->fs, path, &copy, 0, VF_WARM_FOR_PIN);
	vf_stored_fini(&copy);
	/* Too large now: not before something changes. */
	if (pin && err && err != -ENOSPC && err != -EINVAL)
		vf_pins_retry(p->fs, path);
}

/* A pin whose time has come; else when the next one's does (0: none). */
static struct vf_pin *find_due(struct vf_pins *p, uint64_t *out_ns)
{
	uint64_t now = vf_now_ns();

	*out_ns = 0;
	for (struct vf_pin *x = p->list; x; x = x->next) {
		if (!x->look_ns || !vf_pin_holds(x))
			continue;
		if (x->look_ns <= now)
			return x;
		if (!*out_ns || x->look_ns < *out_ns)
			*out_ns = x->look_ns;
	}
	return NULL;
}

/* Caller holds mtx, which is let go of meanwhile. */
static void look(struct vf_pins *p, struct vf_pin *pin)
{
	VF_AUTO_FREE char *path = strdup(pin->path);
	uint64_t off = pin->off, end = pin->end;
	struct vf_stored_list list = {0};
	int err;

	pin->look_ns = 0;
	pthread_mutex_unlock(&p->mtx);
	err = path ? vf_stored_find_path(p->fs, path, off, end, &list)
		   : -ENOMEM;
	if (path)
		take_found(p, path, off, end, err, &list);
	vf_stored_fini(&list);
	pthread_mutex_lock(&p->mtx);
}

void *vf_pins_run(void *arg)
{
	struct vf_pins *p = arg;

	pthread_mutex_lock(&p->mtx);
	while (!p->stopped) {
		uint64_t until;
		struct vf_pin *pin = find_due(p, &until);
		if (pin)
			look(p, pin);
		else
			vf_cond_wait(&p->wake, &p->mtx, until);
	}
	pthread_mutex_unlock(&p->mtx);
	return NULL;
}
