/*
 * A tree is trained on a sample of what is put: 64 rows a leaf, fewer when
 * memory says so or when it has leaves for rows to come, drawn at even steps.
 */
#include "tools/follow.h"

#include <stdio.h>

#include "tools/progress.h"
#include "tools/rows.h"
#include "tools/writer.h"

enum {
	ROWS_PER_LEAF = 64,
	ROWS_PER_EARLY_LEAF = 16, /* of those more than the rows ask for */
	ROWS_PER_LEAF_MIN = 8,	  /* a sample of fewer makes no leaves */
	SHARE_ROWS = 1 << 14,	  /* that tell how rows divide among leaves */
	SHARE_OF = 16,		  /* and are not more than one of so many */
};

struct sample {
	float *x;
	size_t n;
};

/* ---- the sample ------------------------------------------------------------------ */

/* Bad rows are refused later, by number; here they are passed over. */
static void drop_bad(struct sample *s, uint32_t dim, enum vf_metric metric)
{
	const char *reason;
	size_t at = 0;

	for (size_t i = 0; i < s->n; i++) {
		const float *row = s->x + i * dim;
		if (vf_rows_check(row, 1, dim, metric, &reason) != 1)
			continue;
		memmove(s->x + at++ * dim, row, dim * sizeof(*row));
	}
	s->n = at;
}

static int take_sample(const struct vf_follow_options *o, size_t want,
		       struct sample *out)
{
	uint32_t dim = o->config->dim;

	want = (size_t)VF_MIN((uint64_t)want, o->source->n_rows);
	out->x = malloc(want * dim * sizeof(float));
	if (!out->x)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = o->source->ops->sample(o->source, want, out->x, &out->n);
	if (!err)
		drop_bad(out, dim, o->config->metric);
	return err;
}

/* ---- a new tree -------------------------------------------------------------------- */

static int upload_tree(const struct vf_follow_options *o, struct vf_follow *f,
		       const struct vf_buf *file)
{
	char name[VF_SHARD_NAME_LEN + 1];

	/* Garbage is told by the head in a name, as it is of shards. */
	vf_shard_name(o->head, name);
	snprintf(f->ref.object.name, sizeof(f->ref.object.name), "%s.vit",
		 name);
	f->ref.n_leaves = f->n_leaves;
	VF_AUTO_FREE char *key = vf_tree_key(o->index, &f->ref);
	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	f->is_new = true;
	return vf_object_write(o->bucket, key, file->data, file->len,
			       &f->ref.object);
}

static int take_tree(struct vf_follow *f, int err, struct vf_kept_tree *t)
{
	if (err)
		return err;
	f->kept = t;
	f->tree = t->tree;
	f->cluster = t->cluster;
	f->n_leaves = t->n_leaves;
	return 0;
}

static int train(const struct vf_follow_options *o, struct vf_follow *f,
		 const struct sample *s, uint32_t n_leaves)
{
	struct vf_cluster_options co = {.dim = o->config->dim,
					.metric = o->config->metric,
					.n_leaves = n_leaves,
					.seed = o->config->rotation_seed,
					.n_threads = o->n_threads};
	VF_AUTO_BUF struct vf_buf file = {0};
	struct vf_cluster_view view;
	struct vf_cluster *c;
	uint8_t id[16];
	int err = vf_cluster_train(&co, s->x, s->n, &c);

	if (err)
		return err;
	vf_random(id, sizeof(id));
	vf_cluster_view(c, &view);
	err = vf_tree_encode(&view, id, o->config->rotation_seed, &file);
	if (err)
		vf_fail(err, "%s: %s", o->index, vf_strerror(err));
	vf_cluster_free(c);
	/* From the bytes that will be read again, so that all see the same. */
	struct vf_kept_tree *t = NULL;
	if (!err)
		err = vf_kept_tree_parse(o->index, o->config, &f->ref,
					 file.data, file.len, &t);
	err = take_tree(f, err, t);
	return err ? err : upload_tree(o, f, &file);
}

/* Leaves of a new tree; 1: it would not pay. */
static uint32_t count_leaves(const struct vf_follow_options *o)
{
	uint64_t there = o->state ? o->state->n_rows : 0;
	uint64_t n = o->source->n_rows;

	/* The first large put brings it. */
	uint32_t by_rows =
		vf_cluster_n_leaves(n) > 1 ? vf_cluster_n_leaves(n + there) : 1;
	uint32_t want = o->n_leaves ? o->n_leaves : by_rows;
	return (uint32_t)VF_MIN((uint64_t)want, n);
}

static int make_tree(const struct vf_follow_options *o, struct vf_follow *f)
{
	uint32_t n_leaves = count_leaves(o);
	uint64_t row_len = o->config->dim * sizeof(float);
	uint64_t fit = o->ram / 2 / row_len;
	uint64_t by_rows = vf_cluster_n_leaves(o->source->n_rows);
	uint64_t want = VF_MAX(n_leaves * (uint64_t)ROWS_PER_EARLY_LEAF,
			       VF_MIN(n_leaves, by_rows) * ROWS_PER_LEAF);
	struct vf_progress progress;
	struct sample s = {0};

	if (n_leaves < 2)
		return 0;
	vf_progress_begin(&progress, "clustering", 0, 0, o->quiet);
	int err = take_sample(o, (size_t)VF_MIN(want, VF_MAX(fit, 1ull << 10)),
			      &s);
	vf_progress_update(&progress, s.n);
	n_leaves = (uint32_t)VF_MIN((uint64_t)n_leaves,
				    s.n / ROWS_PER_LEAF_MIN + 1);
	if (!err && s.n && n_leaves > 1)
		err = train(o, f, &s, n_leaves);
	vf_progress_end(&progress);
	free(s.x);
	return err;
}

/* ---- both ------------------------------------------------------------------------------ */

static int load_tree(const struct vf_follow_options *o, struct vf_follow *f)
{
	struct vf_kept_tree *t = NULL;

	f->ref = o->state->tree;
	int err = vf_kept_tree_get(o->keeper, o->bucket, o->index, o->config,
				   &f->ref, &t);
	return take_tree(f, err, t);
}

static int find_shares(const struct vf_follow_options *o, struct vf_follow *f)
{
	struct vf_cluster_assign ao = {.n_threads = o->n_threads};
	size_t want = (size_t)VF_MIN(o->source->n_rows / SHARE_OF + 1,
				     (uint64_t)SHARE_ROWS);
	struct sample s = {0};
	VF_AUTO_FREE uint32_t *leaf = malloc(want * sizeof(*leaf));

	f->shares = calloc(f->n_leaves, sizeof(*f->shares));
	if (!f->shares || !leaf)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	int err = take_sample(o, want, &s);
	if (!err)
		err = vf_cluster_assign(f->cluster, &ao, s.x, s.n, leaf, NULL);
	for (size_t i = 0; !err && i < s.n; i++)
		f->shares[leaf[i]]++;
	free(s.x);
	return err;
}

int vf_follow_open(const struct vf_follow_options *opt, struct vf_follow *out)
{
	bool is_there = opt->state && opt->state->has_tree;
	int err;

	*out = (struct vf_follow){0};
	if (is_there && opt->n_leaves)
		return vf_fail(-EINVAL,
			       "%s: it has a tree of %llu leaves, which "
			       "--leaves cannot change",
			       opt->index,
			       (unsigned long long)opt->state->tree.n_leaves);
	err = is_there ? load_tree(opt, out) : make_tree(opt, out);
	if (!err && out->tree)
		err = find_shares(opt, out);
	return err;
}

void vf_follow_fini(struct vf_follow *f)
{
	vf_kept_tree_put(f->kept);
	free(f->shares);
	*f = (struct vf_follow){0};
}

void vf_follow_remove(struct vf_bucket *b, const char *index,
		      const struct vf_follow *f)
{
	VF_AUTO_FREE char *key = f->is_new ? vf_tree_key(index, &f->ref) : NULL;

	if (key)
		vf_bucket_delete(b, key);
}
