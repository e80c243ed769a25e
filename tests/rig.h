/*
 * What tests of buckets and of the log share: a file bucket in a scratch
 * directory, its objects as text, an index with a few records.
 */
#ifndef VF_TESTS_RIG_H
#define VF_TESTS_RIG_H

#include "store/commit.h"
#include "tests/test.h"

#include <stdio.h>

/* ---- buckets ---------------------------------------------------------------- */

static inline struct vf_bucket *open_bucket(const char *dir)
{
	struct vf_bucket *b = NULL;
	char url[256];

	snprintf(url, sizeof(url), "file://%s", dir);
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open(url, NULL, &b), 0);
	return b;
}

static inline struct vf_bucket *new_bucket(void)
{
	return open_bucket(vf_test_dir());
}

static inline void put(struct vf_bucket *b, const char *key, const char *text)
{
	CU_ASSERT_EQUAL(vf_bucket_put(b, key, text, strlen(text), 0, NULL), 0);
}

/* Whether the object holds exactly @text. */
static inline bool holds(struct vf_bucket *b, const char *key, const char *text)
{
	void *p = NULL;
	size_t len = 0;
	int err = vf_bucket_get_all(b, key, 1 << 20, &p, &len);
	bool same = !err && len == strlen(text) && !memcmp(p, text, len);

	free(p);
	return same;
}

struct listing {
	char text[4096]; /* keys with their sizes, '|' between them */
	int stop_after;
};

static inline int note(void *arg, const struct vf_list_entry *e)
{
	struct listing *l = arg;
	size_t n = strlen(l->text);

	if (e->folder)
		snprintf(l->text + n, sizeof(l->text) - n, "%s|", e->key);
	else
		snprintf(l->text + n, sizeof(l->text) - n, "%s=%llu|", e->key,
			 (unsigned long long)e->object.size);
	return l->stop_after && !--l->stop_after ? 7 : 0;
}

static inline const char *list(struct vf_bucket *b, const char *prefix,
			       bool folders, const char *after)
{
	static struct listing l;

	l = (struct listing){0};
	CU_ASSERT_EQUAL(vf_bucket_list(b, prefix, folders, after, note, &l), 0);
	return l.text;
}

/* ---- indexes ------------------------------------------------------------------ */

static inline struct vf_op configure_op(void)
{
	return (struct vf_op){.kind = VF_OP_CONFIGURE,
			      .configure = {.dim = 16,
					    .metric = VF_COSINE,
					    .dtype = VF_F32,
					    .rotation_seed = 7}};
}

static inline struct vf_op shard_op(uint64_t head, uint64_t n_rows,
				    uint64_t next_key)
{
	struct vf_op op = {.kind = VF_OP_ADD_SHARD,
			   .add_shard = {.n_rows = n_rows,
					 .vectors = {.name = "vectors.npy"},
					 .records = {.name = "records.jsonl"},
					 .codes = {.name = "codes.vix"},
					 .next_key = next_key}};

	vf_shard_name(head, op.add_shard.name);
	return op;
}

static inline struct vf_state *load(struct vf_bucket *b, const char *name)
{
	struct vf_state *s = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_state_load(b, name, &s), 0);
	return s;
}

/* Commit one operation on top of *s, which moves on. */
static inline int commit_one(struct vf_bucket *b, struct vf_state **s,
			     struct vf_op op)
{
	struct vf_state *next;
	int err = vf_commit(b, *s, &op, 1, &next);

	if (err) {
		CU_ASSERT_PTR_NULL(next);
		return err;
	}
	vf_state_free(*s);
	*s = next;
	return 0;
}

/* Index "i" with a configuration and @n shards of 10, 20, ... rows. */
static inline struct vf_state *make_index(struct vf_bucket *b, unsigned n)
{
	uint8_t uuid[16];

	CU_ASSERT_EQUAL(vf_index_create(b, "i", uuid), 0);
	struct vf_state *s = load(b, "i");
	CU_ASSERT(!memcmp(s->uuid, uuid, 16));
	CU_ASSERT_EQUAL(commit_one(b, &s, configure_op()), 0);
	for (unsigned k = 1; k <= n; k++)
		CU_ASSERT_EQUAL(commit_one(b, &s,
					   shard_op(s->head, 10 * k, 100 * k)),
				0);
	return s;
}

static inline bool same_state(const struct vf_state *a,
			      const struct vf_state *b)
{
	return !strcmp(a->name, b->name) && !memcmp(a->uuid, b->uuid, 16) &&
	       a->head == b->head && a->head_checksum == b->head_checksum &&
	       a->configured == b->configured &&
	       a->config.dim == b->config.dim && a->n_rows == b->n_rows &&
	       a->next_key == b->next_key && a->n_shards == b->n_shards &&
	       (!a->n_shards || !memcmp(a->shards, b->shards,
					a->n_shards * sizeof(*a->shards)));
}

#endif
