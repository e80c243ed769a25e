/*
 * What is kept is what versions from the boundary to the newest name:
 *
 *   log/         records from the boundary on, and those whose rows live there
 *                and are in no shard
 *   checkpoint/  boundary/   from the boundary on
 *   shard/ tree/ embed/
 *                what the state at the boundary has, or a later record adds;
 *                and what began to be uploaded at the boundary or later
 *
 * Anything whose name is not ours is left alone.
 */
#include "store/gc.h"
#include "store/checkpoint.h"
#include "store/commit_impl.h"

#include <stdio.h>

/* ---- beginning ----------------------------------------------------------------------------- */

/* The same state gives the same bytes: any others are not to be built upon. */
static int check_checkpoint(struct vf_bucket *b, const struct vf_state *s)
{
	VF_AUTO_BUF struct vf_buf want = {0};
	VF_AUTO_FREE void *found = NULL;
	char key[VF_LOG_KEY_LEN];
	size_t len;
	int err = vf_checkpoint_encode(s, &want);

	vf_log_key(s->name, "checkpoint", s->head, key);
	if (!err)
		err = vf_bucket_get_all(b, key, VF_CHECKPOINT_MAX, &found,
					&len);
	if (err)
		return err;
	if (len == want.len && !memcmp(found, want.data, len))
		return 0;
	return vf_fail(-EBADMSG,
		       "%s/%s: it is not what the log says; nothing is deleted",
		       vf_bucket_url(b), key);
}

static int make_checkpoint(struct vf_bucket *b, const char *name, uint64_t at)
{
	struct vf_state *s;
	int err = vf_state_load_at(b, name, at, &s);

	if (err)
		return err;
	err = vf_log_checkpoint(b, s);
	if (!err)
		err = check_checkpoint(b, s);
	vf_state_free(s);
	return err;
}

/* Somebody may have collected more meanwhile: that is as good. */
static int commit_collect(struct vf_bucket *b, struct vf_state **s,
			  uint64_t below)
{
	struct vf_op op = {.kind = VF_OP_COLLECT, .collect_below = below};
	struct vf_state *next;
	int err = 0;

	while (!err && (*s)->oldest < below) {
		err = vf_commit(b, *s, &op, 1, &next);
		if (err == -EEXIST)
			err = vf_state_refresh(b, *s, &next);
		if (err || !next)
			continue;
		vf_state_free(*s);
		*s = next;
	}
	return err;
}

int vf_gc_begin(struct vf_bucket *b, struct vf_state **s, uint64_t below)
{
	char key[VF_LOG_KEY_LEN];
	int err = make_checkpoint(b, (*s)->name, below);

	if (!err)
		err = commit_collect(b, s, below);
	if (err)
		return err;
	vf_log_key((*s)->name, "boundary", (*s)->oldest, key);
	err = vf_bucket_put(b, key, "", 0, VF_PUT_IF_ABSENT, NULL);
	return err == -EEXIST ? 0 : err;
}

/* ---- what is kept ---------------------------------------------------------------------------- */

typedef char name_t[VF_OBJECT_NAME_MAX + 1];

/* Names of shards, trees and embedders, sorted; numbers of records. */
struct kept {
	struct vf_buf names;   /* name_t each */
	struct vf_buf records; /* uint64_t each, ascending */
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int keep_name(struct kept *k, const char *name)
{
	name_t n = "";

	memcpy(n, name, strlen(name));
	return vf_buf_append(&k->names, n, sizeof(n));
}

/*
 * Every record of the tail, not only those which the checkpoint here names: a
 * later one has other rows to carry, and may name what this one carries.
 */
static int keep_tail(struct kept *k, const struct vf_state *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->n_tail; i++)
		err = vf_buf_append(&k->records, &s->tail[i].record,
				    sizeof(s->tail[i].record));
	return err;
}

static int keep_state(struct kept *k, const struct vf_state *s)
{
	int err = keep_tail(k, s);

	for (size_t i = 0; !err && i < s->n_shards; i++)
		err = keep_name(k, s->shards[i].name);
	if (!err && s->has_tree)
		err = keep_name(k, s->tree.object.name);
	if (!err && s->configured)
		err = keep_name(k, s->config.embedder_data.name);
	return err;
}

static int keep_record(struct kept *k, const struct vf_record *r)
{
	int err = 0;

	for (size_t i = 0; !err && i < r->n_ops; i++)
		if (r->ops[i].kind == VF_OP_ADD_SHARD)
			err = keep_name(k, r->ops[i].add_shard.name);
		else if (r->ops[i].kind == VF_OP_SET_TREE)
			err = keep_name(k, r->ops[i].set_tree.object.name);
		else if (r->ops[i].kind == VF_OP_CONFIGURE)
			err = keep_name(k,
					r->ops[i].configure.embedder_data.name);
	return err;
}

/* Record after record: what came and went between is kept as well. */
static int keep_list(struct kept *k, const struct vf_gc_sweep *g,
		     const struct vf_log_number *list, size_t n)
{
	struct vf_log_fetch *f;
	int err = vf_log_fetch_open(g->bucket, g->index, "log", list, n, &f);

	for (size_t i = 0; !err && i < n; i++) {
		VF_AUTO_FREE void *bytes = NULL;
		const char *why = "a record is missing";
		struct vf_record r;
		size_t len;
		err = list[i].number == g->below + 1 + i
			      ? vf_log_fetch_next(f, &bytes, &len)
			      : -ENOENT;
		if (!err)
			err = vf_record_parse(bytes, len, &r, &why);
		if (err == -ENOENT || err == -EBADMSG || err == -ENOTSUP) {
			err = vf_fail(err == -ENOENT ? -EBADMSG : err,
				      "%s/%s: record %llu: %s",
				      vf_bucket_url(g->bucket), g->index,
				      (unsigned long long)(g->below + 1 + i),
				      why);
			break;
		}
		if (err)
			break;
		err = keep_record(k, &r);
		vf_record_fini(&r);
	}
	vf_log_fetch_close(f);
	return err;
}

static int keep_since(struct kept *k, const struct vf_gc_sweep *g)
{
	VF_AUTO_BUF struct vf_buf numbers = {0};
	int err = vf_log_numbers(g->bucket, g->index, "log", g->below + 1,
				 &numbers);

	return err ? err
		   : keep_list(k, g, (struct vf_log_number *)numbers.data,
			       numbers.len / sizeof(struct vf_log_number));
}

static int find_kept(struct kept *k, const struct vf_gc_sweep *g)
{
	struct vf_state *s;
	int err = vf_state_load_at(g->bucket, g->index, g->below, &s);

	if (err)
		return err;
	err = keep_state(k, s);
	vf_state_free(s);
	if (!err)
		err = keep_since(k, g);
	if (!err && k->names.len)
		qsort(k->names.data, k->names.len / sizeof(name_t),
		      sizeof(name_t), compare_names);
	return err;
}

static bool is_kept(const struct kept *k, const char *name)
{
	return k->names.len &&
	       bsearch(name, k->names.data, k->names.len / sizeof(name_t),
		       sizeof(name_t), compare_names);
}

/* ---- sweeping -------------------------------------------------------------------------------- */

enum { BATCH = 1000 }; /* objects deleted at once */

struct sweep {
	const struct vf_gc_sweep *g;
	struct kept kept;
	struct vf_gc_counts *sum;
	size_t dir_len;	      /* of the folder at hand */
	struct vf_buf shards; /* name_t each, that go */
	struct vf_buf keys;   /* that go next, each with its NUL */
	size_t n_keys;
};

/* Delete what was gathered. */
static int flush(struct sweep *w)
{
	const char *keys[BATCH], *key = (const char *)w->keys.data;
	int err = 0;

	for (size_t i = 0; i < w->n_keys; i++) {
		keys[i] = key;
		key += strlen(key) + 1;
	}
	if (w->n_keys && !w->g->dry_run)
		err = vf_bucket_delete_many(w->g->bucket, keys, w->n_keys);
	w->keys.len = w->n_keys = 0;
	return err;
}

static int sweep_object(struct sweep *w, const struct vf_list_entry *e)
{
	int err = vf_buf_append(&w->keys, e->key, strlen(e->key) + 1);

	if (err)
		return err;
	if (++w->n_keys == BATCH)
		err = flush(w);
	w->sum->n_objects++;
	w->sum->bytes += e->object.size;
	if (err || !w->g->progress)
		return err;
	return w->g->progress(w->g->arg, w->sum);
}

static int sweep_list(struct sweep *w, const char *folder, vf_list_fn *fn)
{
	VF_AUTO_FREE char *prefix = NULL;
	int n = asprintf(&prefix, "%s/%s", w->g->index, folder);

	if (n < 0) {
		prefix = NULL;
		return -ENOMEM;
	}
	w->dir_len = (size_t)n;
	return vf_bucket_list(w->g->bucket, prefix, !strcmp(folder, "shard/"),
			      NULL, fn, w);
}

static int visit_number(void *arg, const struct vf_list_entry *e)
{
	struct sweep *w = arg;
	const char *digits = e->key + w->dir_len;
	bool is_record = w->dir_len == strlen(w->g->index) + strlen("/log/");
	uint64_t n;

	if (strlen(digits) != 20 || strspn(digits, "0123456789") != 20)
		return 0;
	n = strtoull(digits, NULL, 10);
	if (n >= w->g->below)
		return 0;
	if (is_record && w->kept.records.len &&
	    bsearch(&n, w->kept.records.data, w->kept.records.len / 8, 8,
		    compare_numbers))
		return 0;
	w->sum->n_records += is_record;
	return sweep_object(w, e);
}

/* In tree/ and embed/. */
static int visit_head(void *arg, const struct vf_list_entry *e)
{
	struct sweep *w = arg;
	const char *name = e->key + w->dir_len;

	return vf_object_head(name) >= w->g->below || is_kept(&w->kept, name)
		       ? 0
		       : sweep_object(w, e);
}

static int visit_shard(void *arg, const struct vf_list_entry *e)
{
	struct sweep *w = arg;
	name_t name = "";
	size_t len = strlen(e->key + w->dir_len);

	if (!e->folder || len != VF_SHARD_NAME_LEN + 1)
		return 0;
	memcpy(name, e->key + w->dir_len, VF_SHARD_NAME_LEN);
	if (!vf_shard_name_ok(name) || vf_shard_head(name) >= w->g->below ||
	    is_kept(&w->kept, name))
		return 0;
	return vf_buf_append(&w->shards, name, sizeof(name));
}

static int visit_any(void *arg, const struct vf_list_entry *e)
{
	return sweep_object(arg, e);
}

static int sweep_shards(struct sweep *w)
{
	int err = sweep_list(w, "shard/", visit_shard);

	for (size_t i = 0; !err && i < w->shards.len; i += sizeof(name_t)) {
		char folder[VF_OBJECT_NAME_MAX + 16];
		snprintf(folder, sizeof(folder), "shard/%s/",
			 (const char *)w->shards.data + i);
		err = sweep_list(w, folder, visit_any);
		w->sum->n_shards += !err;
	}
	return err;
}

int vf_gc_sweep(const struct vf_gc_sweep *g, struct vf_gc_counts *out)
{
	struct sweep w = {.g = g, .sum = out};

	*out = (struct vf_gc_counts){0};
	int err = find_kept(&w.kept, g);
	if (!err)
		err = sweep_shards(&w);
	if (!err)
		err = sweep_list(&w, "tree/", visit_head);
	if (!err)
		err = sweep_list(&w, "embed/", visit_head);
	if (!err)
		err = sweep_list(&w, "log/", visit_number);
	if (!err)
		err = sweep_list(&w, "checkpoint/", visit_number);
	if (!err)
		err = sweep_list(&w, "boundary/", visit_number);
	if (!err)
		err = flush(&w);
	vf_buf_fini(&w.keys);
	vf_buf_fini(&w.kept.names);
	vf_buf_fini(&w.kept.records);
	vf_buf_fini(&w.shards);
	return err;
}
