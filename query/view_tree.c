/*
 * The tree of a view: what a search needs of it, which its file begins with.
 */
#include "query/engine.h"

enum { TREE_MAX = 1 << 30 };

/* Of files of version 1, all of which is needed. */
static int read_whole(struct vf_view *v, const char *key, void **p,
		      struct vf_tree_file *f, const char **why)
{
	const struct vf_object_ref *ref = &v->state->tree.object;
	int err = vf_view_read_whole(v, key, ref, TREE_MAX, p);

	*why = NULL;
	return err ? err : vf_tree_validate(*p, ref->stored_len, f, why);
}

static int read_head(struct vf_view *v, const char *key, void **p,
		     struct vf_tree_file *f, const char **why)
{
	const struct vf_tree_ref *ref = &v->state->tree;
	uint64_t len = ref->object.stored_len;
	struct vf_file file;
	int err = vf_file_open(vf_bucket_dir(v->bucket), key, &ref->object,
			       &file);

	*why = NULL;
	if (err)
		return err;
	if (ref->n_leaves <= VF_TREE_LEAVES_MAX)
		len = VF_MIN(len, vf_tree_head_len(v->state->config.dim,
						   ref->n_leaves));
	err = vf_file_load_first(&file, len, p);
	if (!err)
		err = vf_tree_validate_head(*p, len, ref->object.stored_len, f,
					    why);
	vf_file_close(&file);
	return err;
}

static bool is_of(const struct vf_state *st, const struct vf_tree_file *f)
{
	return f->view.dim == st->config.dim &&
	       f->view.metric == st->config.metric &&
	       f->view.n_leaves == st->tree.n_leaves &&
	       (!f->codes.origin ||
		f->codes.rotation_seed == st->config.rotation_seed);
}

int vf_view_open_tree(struct vf_view *v)
{
	const struct vf_object_ref *ref = &v->state->tree.object;
	VF_AUTO_FREE char *key = NULL;
	VF_AUTO_FREE void *p = NULL;
	struct vf_tree_file f;
	const char *why = "it is not like its kind";
	int err = 0;

	if (!v->state->has_tree)
		return 0;
	key = vf_tree_key(v->state->name, &v->state->tree);
	if (!key)
		return -ENOMEM;
	err = ref->zstd || ref->stored_len > TREE_MAX
		      ? -EBADMSG
		      : read_head(v, key, &p, &f, &why);
	if (err == -ENOENT && why) {
		free(VF_STEAL(p));
		err = read_whole(v, key, &p, &f, &why);
	}
	if (!err && !is_of(v->state, &f)) {
		err = -EBADMSG;
		why = "it belongs to another index";
	}
	if (err)
		return why ? vf_fail(err, "%s/%s: %s", vf_bucket_url(v->bucket),
				     key, why)
			   : err;
	err = vf_tree_new(&f, v->state->config.rotation_seed, &v->tree);
	if (!err)
		vf_tree_trim(v->tree);
	return err;
}
