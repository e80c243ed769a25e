/*
 * What LISTs of indexes told, for as long as a name may be answered from
 * memory: who opens an index looks up a dozen names in it, and all that are of
 * objects which never change are in the first page.
 *
 * Only what is there is answered: what is not may have come since.  Of a local
 * directory nothing is kept, a look-up there costs nothing.
 */
#include "fs/listings.h"

enum { LISTINGS_MAX = 64 };

struct listing_kept {
	struct vf_listed *l;
	struct listing_kept *next;
};

static bool is_of(const struct vf_listed *l, const char *index)
{
	size_t n = strlen(index);

	return !strncmp(l->prefix, index, n) && !strcmp(l->prefix + n, "/");
}

static bool is_fresh(const struct vf_listed *l, uint64_t max_age_ms)
{
	return (vf_now_ns() - l->seen_ns) / 1000000 < max_age_ms;
}

static void drop_locked(struct listing_kept **at)
{
	struct listing_kept *k = *at;

	*at = k->next;
	vf_listed_put(k->l);
	free(k);
}

/* Newest first; those of the same index and the oldest go. */
static void keep(struct fs *fs, struct vf_listed *l)
{
	struct listing_kept *k = malloc(sizeof(*k)), **at;
	size_t n = 0;

	if (!k)
		return;
	pthread_mutex_lock(&fs->mtx);
	for (at = &fs->listings; *at;) {
		if (++n >= LISTINGS_MAX || !strcmp((*at)->l->prefix, l->prefix))
			drop_locked(at);
		else
			at = &(*at)->next;
	}
	*k = (struct listing_kept){vf_listed_get(l), fs->listings};
	fs->listings = k;
	pthread_mutex_unlock(&fs->mtx);
}

struct vf_listed *vf_listings_find(struct fs *fs, const char *index,
				   uint64_t max_age_ms)
{
	struct vf_listed *l = NULL;

	pthread_mutex_lock(&fs->mtx);
	for (struct listing_kept *k = fs->listings; k && !l; k = k->next)
		if (is_of(k->l, index) && is_fresh(k->l, max_age_ms))
			l = vf_listed_get(k->l);
	pthread_mutex_unlock(&fs->mtx);
	return l;
}

int vf_listings_ask(struct fs *fs, const char *index, uint64_t max_age_ms,
		    struct vf_listed **out)
{
	int err;

	*out = vf_listings_find(fs, index, max_age_ms);
	if (*out)
		return 0;
	err = vf_listed_new(fs->bucket, index, out);
	if (!err)
		keep(fs, *out);
	return err;
}

void vf_listings_fini(struct fs *fs)
{
	while (fs->listings)
		drop_locked(&fs->listings);
}
