#include "tools/kept_tree.h"

#include <xxhash.h>

#include "store/bucket.h"

enum { TREE_LEN_MAX = 1 << 30 };

/* ---- one tree ---------------------------------------------------------------------- */

static struct vf_kept_tree *hold(struct vf_kept_tree *t)
{
	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

void vf_kept_tree_put(struct vf_kept_tree *t)
{
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL))
		return;
	vf_tree_free(t->tree);
	vf_cluster_free(t->cluster);
	free(t);
}

static int fill(struct vf_kept_tree *t, const struct vf_tree_file *file,
		const struct vf_index_config *config)
{
	int err = vf_tree_new(file, config->rotation_seed, &t->tree);

	if (!err)
		err = vf_cluster_new(&file->view, &t->cluster);
	t->n_leaves = file->view.n_leaves;
	return err;
}

int vf_kept_tree_parse(const char *index, const struct vf_index_config *config,
		       const struct vf_tree_ref *ref, const void *p, size_t len,
		       struct vf_kept_tree **out)
{
	struct vf_tree_file file;
	const char *why;
	int err = vf_tree_validate(p, len, &file, &why);

	*out = NULL;
	if (!err && (file.view.dim != config->dim ||
		     file.view.metric != config->metric)) {
		err = -EBADMSG;
		why = "it belongs to another index";
	}
	if (err)
		return vf_fail(err, "%s: tree %s: %s", index, ref->object.name,
			       why);
	struct vf_kept_tree *t = calloc(1, sizeof(*t));
	if (!t)
		return vf_fail(-ENOMEM, "%s: %s", index, strerror(ENOMEM));
	t->refs = 1;
	t->ref = *ref;
	err = fill(t, &file, config);
	if (err)
		vf_kept_tree_put(t);
	else
		*out = t;
	return err;
}

/* ---- that of the bucket -------------------------------------------------------------- */

static int load(struct vf_bucket *b, const char *index,
		const struct vf_index_config *config,
		const struct vf_tree_ref *ref, struct vf_kept_tree **out)
{
	VF_AUTO_FREE char *key = vf_tree_key(index, ref);
	void *p = NULL;
	size_t len;

	if (!key)
		return vf_fail(-ENOMEM, "%s: %s", index, strerror(ENOMEM));
	int err = vf_bucket_get_all(b, key, TREE_LEN_MAX, &p, &len);
	if (err == -ENOENT)
		return vf_fail(err, "%s: is not there", key);
	if (err)
		return err;
	if (len != ref->object.stored_len ||
	    XXH3_64bits(p, len) != ref->object.checksum)
		err = vf_fail(-EBADMSG, "%s: its checksum is wrong", key);
	if (!err)
		err = vf_kept_tree_parse(index, config, ref, p, len, out);
	free(p);
	return err;
}

void vf_tree_keeper_init(struct vf_tree_keeper *k)
{
	pthread_mutex_init(&k->mtx, NULL);
	k->newest = NULL;
}

void vf_tree_keeper_fini(struct vf_tree_keeper *k)
{
	vf_kept_tree_put(k->newest);
	pthread_mutex_destroy(&k->mtx);
}

static struct vf_kept_tree *find(struct vf_tree_keeper *k,
				 const struct vf_tree_ref *ref)
{
	struct vf_kept_tree *t = NULL;

	pthread_mutex_lock(&k->mtx);
	if (k->newest &&
	    !strcmp(k->newest->ref.object.name, ref->object.name) &&
	    k->newest->ref.object.checksum == ref->object.checksum)
		t = hold(k->newest);
	pthread_mutex_unlock(&k->mtx);
	return t;
}

static void keep(struct vf_tree_keeper *k, struct vf_kept_tree *t)
{
	struct vf_kept_tree *old;

	pthread_mutex_lock(&k->mtx);
	old = k->newest;
	k->newest = hold(t);
	pthread_mutex_unlock(&k->mtx);
	vf_kept_tree_put(old);
}

int vf_kept_tree_get(struct vf_tree_keeper *k, struct vf_bucket *b,
		     const char *index, const struct vf_index_config *config,
		     const struct vf_tree_ref *ref, struct vf_kept_tree **out)
{
	*out = k ? find(k, ref) : NULL;
	if (*out)
		return 0;
	int err = load(b, index, config, ref, out);
	if (!err && k)
		keep(k, *out);
	return err;
}
