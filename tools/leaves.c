#include "tools/leaves.h"

#include <stdio.h>

#include "index/codes.h"
#include "index/tree.h"

enum { HEAD_LEN = 4096 };

struct counting {
	struct vf_bucket *bucket;
	uint64_t n_leaves, flat_rows;
	uint64_t *rows; /* [n_leaves] */
};

static int damaged(const char *key)
{
	return vf_fail(-EBADMSG, "%s: damaged", key);
}

/* Section @s of @key, caller's to free(). */
static int read_section(const struct counting *c, const char *key,
			const uint8_t *head, size_t head_len, enum vf_section s,
			void **out, size_t *out_len)
{
	struct vf_section_ref ref;
	size_t got = 0;
	int err = vf_codes_find(head, head_len, s, &ref);

	*out = NULL;
	if (err)
		return err == -ENOENT ? err : damaged(key);
	if (ref.len > (uint64_t)VF_SHARD_ROWS_MAX * sizeof(struct vf_leaf_disk))
		return damaged(key);
	VF_AUTO_FREE uint8_t *p = malloc(ref.len + 1);
	if (!p)
		return vf_fail(-ENOMEM, "%s: %s", key, strerror(ENOMEM));
	err = vf_bucket_get(c->bucket, key, NULL, ref.off, ref.len, p, &got,
			    NULL);
	if (err)
		return err;
	if (got != ref.len || vf_crc32c(0, p, got) != ref.crc)
		return damaged(key);
	*out = VF_STEAL(p);
	*out_len = got;
	return 0;
}

static int add_leaves(struct counting *c, const char *key,
		      const struct vf_leaf_disk *leaf, size_t leaf_len,
		      const struct vf_tree_section *tree, size_t tree_len)
{
	size_t n = leaf_len / sizeof(*leaf);

	if (tree_len != sizeof(*tree) + n * sizeof(tree->leaves[0]))
		return damaged(key);
	for (size_t i = 0; i < n; i++) {
		if (tree->leaves[i] >= c->n_leaves)
			return damaged(key);
		c->rows[tree->leaves[i]] += leaf[i].n_rows;
	}
	return 0;
}

static int count_shard(struct counting *c, const char *index,
		       const struct vf_shard_ref *r)
{
	VF_AUTO_FREE char *key = vf_shard_key(index, r->name, r->codes.name);
	VF_AUTO_FREE void *leaf = NULL, *tree = NULL;
	uint8_t head[HEAD_LEN];
	size_t n = 0, leaf_len, tree_len;

	if (!key)
		return vf_fail(-ENOMEM, "%s: %s", index, strerror(ENOMEM));
	int err = vf_bucket_get(c->bucket, key, NULL, 0,
				VF_MIN(sizeof(head), r->codes.stored_len), head,
				&n, NULL);
	if (err)
		return err == -ENOENT ? vf_fail(err, "%s: is not there", key)
				      : err;
	err = read_section(c, key, head, n, VF_SEC_TREE, &tree, &tree_len);
	if (err == -ENOENT) {
		c->flat_rows += r->n_rows;
		return 0;
	}
	if (!err)
		err = read_section(c, key, head, n, VF_SEC_LEAVES, &leaf,
				   &leaf_len);
	return err ? err : add_leaves(c, key, leaf, leaf_len, tree, tree_len);
}

static int compare_rows(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void sum_up(struct counting *c, struct vf_leaves *out)
{
	double sum = 0, sq = 0;
	size_t n = c->n_leaves;

	qsort(c->rows, n, sizeof(*c->rows), compare_rows);
	*out = (struct vf_leaves){.n_leaves = n,
				  .flat_rows = c->flat_rows,
				  .min = c->rows[0],
				  .median = c->rows[n / 2],
				  .p99 = c->rows[n - 1 - n / 100],
				  .max = c->rows[n - 1]};
	for (size_t i = 0; i < n; i++) {
		sum += (double)c->rows[i];
		sq += (double)c->rows[i] * (double)c->rows[i];
		out->n_used += c->rows[i] > 0;
	}
	out->mean = sum / (double)n;
	out->balance = sum > 0 ? sq * (double)n / (sum * sum) : 0;
}

int vf_leaves_count(struct vf_bucket *b, const struct vf_state *s,
		    struct vf_leaves *out)
{
	struct counting c = {.bucket = b, .n_leaves = s->tree.n_leaves};
	VF_AUTO_FREE uint64_t *rows = NULL;
	int err = 0;

	if (!c.n_leaves || c.n_leaves > VF_TREE_LEAVES_MAX)
		return vf_fail(-EBADMSG, "%s: a tree of %llu leaves", s->name,
			       (unsigned long long)c.n_leaves);
	c.rows = rows = calloc(c.n_leaves, sizeof(*rows));
	if (!rows)
		return vf_fail(-ENOMEM, "%s: %s", s->name, strerror(ENOMEM));
	for (size_t i = 0; !err && i < s->n_shards; i++)
		err = count_shard(&c, s->name, &s->shards[i]);
	if (!err)
		sum_up(&c, out);
	return err;
}
