/* vectool delete: rows by their keys. */
#include <stdio.h>

#include "index/index.h"
#include "query/shard_codes.h"
#include "store/change.h"
#include "store/filter.h"
#include "store/line.h"
#include "tools/compaction.h"
#include "tools/each_record.h"
#include "tools/interrupt.h"
#include "tools/keyfile.h"
#include "tools/keyset.h"
#include "tools/progress.h"
#include "tools/target.h"
#include "tools/verb.h"

/* Bytes of keys in one record: it has to carry the kills too. */
enum { KEYS_LEN = 4 << 20 };

static struct {
	const char *keys, *cache_dir, *filter;
	uint64_t if_version;
} opt = {.if_version = UINT64_MAX};

static const struct vf_arg options[] = {
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"filter", 0, VF_ARG_STRING, &opt.filter, 0, 0},
	{"if-version", 0, VF_ARG_COUNT, &opt.if_version, 0, UINT64_MAX - 1},
	{"cache-dir", 0, VF_ARG_STRING, &opt.cache_dir, 0, 0},
	{0}};

static struct vf_progress progress;

/* ---- keys that a filter means ------------------------------------------------- */

struct gather {
	struct vf_filter *filter;
	struct vf_buf *keys;
	struct vf_buf key, scratch;
	uint64_t n_keys;
};

static int gather_key(void *arg, const char *place, const char *line,
		      size_t len)
{
	struct gather *g = arg;
	struct vf_line l;
	int rc = vf_line_split(line, len, &l);

	if (!rc)
		rc = vf_filter_match(g->filter, l.metadata, l.metadata_len,
				     &g->scratch);
	if (rc == 1) {
		g->key.len = 0;
		rc = vf_line_key(&l, &g->key);
		if (!rc)
			rc = vf_keys_append(g->keys, g->key.data, g->key.len);
		g->n_keys++;
	}
	return rc == -EBADMSG ? vf_fail(rc, "%s: a damaged record line", place)
			      : rc;
}

/*
 * They are those of the state, and deleted only as long as nobody else has
 * written: what has new metadata may be meant no more.
 */
static int find_keys(const struct vf_target *t, const struct vf_state *s,
		     struct vf_buf *store, struct vf_delete *out)
{
	struct gather g = {.keys = store};
	int err = vf_filter_open(opt.filter, t->name, &s->config, &g.filter);

	if (err == -EINVAL)
		err = VF_ERR_USAGE;
	if (!err)
		err = vf_records_each(t, s, gather_key, &g);
	*out = (struct vf_delete){g.n_keys, store->data, store->len};
	vf_filter_free(g.filter);
	vf_buf_fini(&g.key);
	vf_buf_fini(&g.scratch);
	return err;
}

/* ---- deleting ------------------------------------------------------------------ */

/* As many keys as one record takes, from @cursor on. */
static struct vf_delete next_part(const struct vf_delete *all, size_t *cursor)
{
	struct vf_delete part = {.keys = all->keys + *cursor};
	const char *key;
	size_t len, at = *cursor;

	while (part.len < KEYS_LEN && vf_delete_next(all, &at, &key, &len)) {
		part.n_keys++;
		part.len = at - *cursor;
	}
	*cursor = at;
	return part;
}

static int delete_all(struct vf_changer *c, const struct vf_delete *keys,
		      struct vf_changed *sum)
{
	struct vf_condition cond = {
		.at_version = opt.filter || opt.if_version != UINT64_MAX,
		.version = opt.if_version != UINT64_MAX ? opt.if_version
							: c->state->head};
	size_t cursor = 0;
	int err = 0;

	while (!err && cursor < keys->len) {
		struct vf_delete part = next_part(keys, &cursor);
		struct vf_changed done;
		if (vf_interrupted())
			return -ECANCELED;
		err = vf_changer_delete(c, &part, &cond, &done);
		if (!err)
			sum->n_killed += done.n_killed;
		sum->head = done.head ? done.head : sum->head;
		cond.version = c->state->head; /* the next follows ours */
	}
	return err;
}

struct same_key {
	const struct vf_delete *keys;
	const char *key;
	size_t len;
};

/* @off: of another key of the same hash */
static int compare_key(void *arg, uint64_t off)
{
	const struct same_key *s = arg;
	size_t cursor = off, len;
	const char *key;

	return vf_delete_next(s->keys, &cursor, &key, &len) && len == s->len &&
	       !memcmp(key, s->key, len);
}

/* How many keys there are, each counted once. */
static int count_keys(const struct vf_delete *keys, uint64_t *out)
{
	struct same_key s = {.keys = keys};
	struct vf_keyset set = {0};
	size_t cursor = 0, off = 0;
	uint64_t same;
	int err = 0;

	for (*out = 0; !err && vf_delete_next(keys, &cursor, &s.key, &s.len);
	     off = cursor) {
		uint64_t hash = vf_key_hash(s.key, s.len);
		if (vf_keyset_each(&set, hash, compare_key, &s))
			continue;
		++*out;
		err = vf_keyset_add(&set, hash, off, &same);
	}
	vf_keyset_fini(&set);
	return err ? vf_fail(err, "%s", vf_strerror(err)) : 0;
}

/* A long tail first: whoever finds it folds it. */
static int fold_tail(const struct vf_args *a, const struct vf_target *t,
		     struct vf_changer *c)
{
	struct vf_tender f = {.bucket = t->bucket,
			      .target = t->name,
			      .index = t->index,
			      .n_threads = (unsigned)a->common.n_threads,
			      .quiet = a->common.quiet};

	/* Not where a version is asked for, as a filter does. */
	return opt.filter || opt.if_version != UINT64_MAX
		       ? 0
		       : vf_tend(&f, VF_TEND_TAIL, &c->state);
}

/* After an error: what was deleted before it stays deleted. */
static void say_so_far(const struct vf_changed *sum, int err, const char *name)
{
	if (sum->head)
		vf_log(VF_WARN,
		       "%s: %llu rows were deleted before that, up to version "
		       "%llu",
		       name, (unsigned long long)sum->n_killed,
		       (unsigned long long)sum->head);
	else if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted; %s is as it was", name);
}

/* With a filter they are found later. */
static int read_keys(const struct vf_args *a, struct vf_buf *store,
		     struct vf_delete *out)
{
	*out = (struct vf_delete){0};
	if (!opt.filter)
		return vf_keyfile_read(a->operands + 1, a->n_operands - 1,
				       opt.keys, store, out);
	if (a->n_operands > 1 || opt.keys)
		return vf_fail(VF_ERR_USAGE,
			       "delete: give keys or --filter, not both");
	return 0;
}

static void print_summary(const struct vf_changed *sum, uint64_t n_keys,
			  uint64_t head, const char *name)
{
	uint64_t n = sum->n_killed, absent = n_keys - VF_MIN(n, n_keys);

	printf("%llu row%s deleted, %llu key%s not there: version %llu of "
	       "%s\n",
	       (unsigned long long)n, vf_plural(n), (unsigned long long)absent,
	       absent == 1 ? " was" : "s were", (unsigned long long)head, name);
}

static int run_delete(const struct vf_args *a)
{
	VF_AUTO_BUF struct vf_buf store = {0};
	struct vf_delete keys;
	struct vf_target t;
	struct vf_changed sum = {0};
	uint64_t n_keys = 0;
	int err = read_keys(a, &store, &keys);

	if (!err)
		err = vf_target_open(a->operands[0], &a->common, &t);
	if (err)
		return err;
	struct vf_changer c = {.bucket = t.bucket,
			       .index = t.index,
			       .cache_dir = opt.cache_dir,
			       .line_crcs = vf_shard_line_crcs,
			       .progress = vf_progress_reading,
			       .arg = &progress};
	vf_progress_begin(&progress, "reading keys", 0, 0, a->common.quiet);
	err = vf_target_state(&t, &c.state);
	if (!err && opt.filter)
		err = find_keys(&t, c.state, &store, &keys);
	if (!err)
		err = count_keys(&keys, &n_keys);
	if (!err)
		err = fold_tail(a, &t, &c);
	if (!err)
		err = delete_all(&c, &keys, &sum);
	vf_progress_end(&progress);
	if (err)
		say_so_far(&sum, err, t.name);
	if (!err && !a->common.quiet)
		print_summary(&sum, n_keys, c.state->head, t.name);
	vf_changer_fini(&c);
	vf_target_close(&t);
	return err;
}

const struct vf_verb vf_verb_delete = {
	.name = "delete",
	.summary = "delete rows by their keys",
	.help = "usage: vectool delete TARGET KEY... [OPTIONS]\n"
		"       vectool delete TARGET --keys FILE [OPTIONS]\n"
		"       vectool delete TARGET --filter JSON [OPTIONS]\n\n"
		"Deletes the rows of these keys; keys that are not there are "
		"counted, not refused.\n"
		"More than fits into one record (4 MiB of keys) takes several "
		"commits.\n\n"
		"  --keys FILE        one key per line\n"
		"  --filter JSON      rows whose metadata match, see "
		"vecfs-filters(7); refused\n"
		"                     when somebody else writes meanwhile\n"
		"  --if-version N     refuse unless the index is at version N\n"
		"  --cache-dir DIR    of the map from keys to rows "
		"(~/.cache/vecfs)\n\n"
		"Examples:\n"
		"  vectool delete /data/bucket/products 4711 4712\n"
		"  vectool delete s3://bucket/prefix/products --keys gone.txt\n"
		"  vectool delete /data/bucket/films --filter "
		"'{\"year\":{\"$lt\":1930}}'\n",
	.min_operands = 1,
	.max_operands = VF_ARGS_OPERANDS_MAX,
	.options = options,
	.run = run_delete,
};
