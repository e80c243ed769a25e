/* See listed.h. */
#include "store/listed.h"
#include "store/commit_impl.h"

#include <stdio.h>

enum { PAGE = 1000 }; /* keys that servers give in one answer */

static int note_entry(void *arg, const struct vf_list_entry *e)
{
	struct vf_listed *l = arg;
	struct vf_listed_entry entry = {strdup(e->key), e->object};
	int err = entry.key ? vf_buf_append(&l->all, &entry, sizeof(entry))
			    : -ENOMEM;

	if (err) {
		free(entry.key);
		return err;
	}
	return vf_listed_count(l) == PAGE;
}

int vf_listed_new(struct vf_bucket *b, const char *index,
		  struct vf_listed **out)
{
	struct vf_listed *l = calloc(1, sizeof(*l));
	int rc;

	*out = NULL;
	if (!l)
		return -ENOMEM;
	l->refs = 1;
	l->seen_ns = vf_now_ns();
	l->seen_ms = vf_boot_ms();
	rc = asprintf(&l->prefix, "%s/", index);
	if (rc < 0)
		l->prefix = NULL;
	rc = rc < 0 ? -ENOMEM
		    : vf_bucket_list(b, l->prefix, false, NULL, note_entry, l);
	l->is_whole = !rc;
	if (rc < 0)
		vf_listed_put(l);
	else
		*out = l;
	return rc < 0 ? rc : 0;
}

struct vf_listed *vf_listed_get(struct vf_listed *l)
{
	atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

void vf_listed_put(struct vf_listed *l)
{
	/* acq_rel: who frees it has seen all uses of others */
	if (!l ||
	    atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (size_t i = 0; i < vf_listed_count(l); i++)
		free(vf_listed_at(l, i)->key);
	vf_buf_fini(&l->all);
	free(l->prefix);
	free(l);
}

size_t vf_listed_count(const struct vf_listed *l)
{
	return l->all.len / sizeof(struct vf_listed_entry);
}

const struct vf_listed_entry *vf_listed_at(const struct vf_listed *l, size_t i)
{
	return (const struct vf_listed_entry *)(const void *)l->all.data + i;
}

size_t vf_listed_lower(const struct vf_listed *l, const char *key)
{
	size_t lo = 0, hi = vf_listed_count(l);

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(vf_listed_at(l, mid)->key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct vf_object *vf_listed_find(const struct vf_listed *l,
				       const char *key)
{
	size_t i = vf_listed_lower(l, key);

	return i < vf_listed_count(l) && !strcmp(vf_listed_at(l, i)->key, key)
		       ? &vf_listed_at(l, i)->object
		       : NULL;
}

bool vf_listed_has_folder(const struct vf_listed *l, const char *path)
{
	VF_AUTO_FREE char *prefix = NULL;

	if (asprintf(&prefix, "%s/", path) < 0) {
		prefix = NULL;
		return false;
	}
	size_t i = vf_listed_lower(l, prefix);
	return i < vf_listed_count(l) &&
	       !strncmp(vf_listed_at(l, i)->key, prefix, strlen(prefix));
}

bool vf_listed_covers(const struct vf_listed *l, const char *prefix)
{
	size_t n = vf_listed_count(l), len = strlen(prefix);

	return l->is_whole ||
	       (n && strncmp(vf_listed_at(l, n - 1)->key, prefix, len) > 0);
}
