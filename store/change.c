/*
 * A change is resolved and committed in a loop: every round sees one state from
 * its first look-up to its record, or is done again.  What a commit would be
 * refused by needs no commit: that it is so may only be said of a state that is
 * no older than the call.
 */
#include "store/change.h"
#include "store/line.h"

enum { ROUNDS = 50 }; /* lost to other writers before we give up */

int vf_changer_load(struct vf_changer *c)
{
	vf_state_free(c->state);
	c->fresh = true;
	return vf_state_load(c->bucket, c->index, &c->state);
}

void vf_changer_fini(struct vf_changer *c)
{
	vf_state_free(VF_STEAL(c->state));
	vf_catalog_close(VF_STEAL(c->catalog));
}

int vf_keys_append(struct vf_buf *keys, const void *key, size_t len)
{
	uint8_t n[4];

	vf_put_le32(n, (uint32_t)len);
	if (vf_buf_reserve(keys, len + 4))
		return -ENOMEM;
	vf_buf_append(keys, n, 4);
	return vf_buf_append(keys, key, len);
}

/* ---- resolving ----------------------------------------------------------------------------- */

/* A row found; places of the tail are counted behind the shards. */
struct found {
	uint32_t place, row;
};

static int compare_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

void vf_kills_fini(struct vf_kills *k)
{
	for (size_t i = 0; i < k->n_ops; i++)
		vf_buf_fini(&k->stores[i]);
	free(k->stores);
	free(k->ops);
	*k = (struct vf_kills){0};
}

static int kill_place(const struct vf_state *s, const struct found *f, size_t n,
		      struct vf_kills *out)
{
	VF_AUTO_FREE uint32_t *rows = malloc(n * sizeof(*rows));
	struct vf_op *op = &out->ops[out->n_ops];

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		rows[i] = f[i].row;
	op->kind = VF_OP_KILL;
	if (f->place < s->n_shards)
		strcpy(op->kill.shard, s->shards[f->place].name);
	else
		op->kill.record = s->tail[f->place - s->n_shards].record;
	out->n_rows += n;
	return vf_kill_pack(rows, n, &op->kill, &out->stores[out->n_ops++]);
}

/* Sorted, without those found twice; an operation per place. */
static int make_kills(const struct vf_state *s, struct found *f, size_t n,
		      struct vf_kills *out)
{
	size_t n_places = 0, n_rows = 0;
	int err = 0;

	if (!n)
		return 0;
	qsort(f, n, sizeof(*f), compare_found);
	for (size_t i = 0; i < n; i++) {
		if (i && !compare_found(&f[i], &f[n_rows - 1]))
			continue;
		n_places += !n_rows || f[n_rows - 1].place != f[i].place;
		f[n_rows++] = f[i];
	}
	out->ops = calloc(n_places, sizeof(*out->ops));
	out->stores = calloc(n_places, sizeof(*out->stores));
	if (!out->ops || !out->stores)
		return -ENOMEM;
	for (size_t i = 0, end; !err && i < n_rows; i = end) {
		for (end = i; end < n_rows && f[end].place == f[i].place;)
			end++;
		err = kill_place(s, f + i, end - i, out);
	}
	return err;
}

/* What is to be resolved, and which key was there that should not. */
struct ask {
	const struct vf_delete *keys;
	const struct vf_condition *cond;
	const char *there;
	size_t there_len;
};

static int find_keys(struct vf_changer *c, struct vf_catalog_view *v,
		     struct ask *a, struct vf_buf *found)
{
	size_t cursor = 0, len;
	const char *key;

	while (vf_delete_next(a->keys, &cursor, &key, &len)) {
		struct vf_place p;
		int err = vf_catalog_find(v, key, len, &p);
		if (err == -ENOENT)
			continue;
		if (err)
			return err;
		if (a->cond->if_absent) {
			a->there = key;
			a->there_len = len;
			return -EEXIST;
		}
		struct found f = {
			(uint32_t)(p.at + (p.tail ? c->state->n_shards : 0)),
			p.row};
		if (vf_buf_append(found, &f, sizeof(f)))
			return -ENOMEM;
	}
	return 0;
}

/* Replace the state by a newer one, when there is one. */
static int refresh(struct vf_changer *c, bool *out_moved)
{
	struct vf_state *next;
	int err = vf_state_refresh(c->bucket, c->state, &next);

	*out_moved = !err && next;
	if (*out_moved) {
		vf_state_free(c->state);
		c->state = next;
	}
	return err;
}

/* Bring state and catalog to the same commit. */
int vf_changer_look(struct vf_changer *c, struct vf_catalog_view **out)
{
	struct vf_catalog_sync s = {.bucket = c->bucket,
				    .progress = c->progress,
				    .arg = c->arg,
				    .line_crcs = c->line_crcs};
	int err = c->catalog ? 0
			     : vf_catalog_open(c->cache_dir, c->state->uuid,
					       &c->catalog);

	for (int i = 0; !err && i < ROUNDS; i++) {
		bool moved = false;
		s.state = c->state;
		err = vf_catalog_sync(c->catalog, &s);
		if (!err)
			err = vf_catalog_look(c->catalog, c->state, out);
		if (err == -EUCLEAN) {
			err = vf_catalog_reset(c->catalog);
			continue;
		}
		if (err != -EAGAIN)
			return err;
		/* Another process is ahead, or was before the log went back. */
		err = refresh(c, &moved);
		s.newest = !moved;
	}
	return err ? err
		   : vf_fail(-EBUSY,
			     "%s: the catalog keeps changing; try again",
			     c->index);
}

static int find_all(struct vf_changer *c, struct ask *a, struct vf_buf *found)
{
	struct vf_catalog_view *v = NULL;
	int err = -EUCLEAN;

	for (int i = 0; err == -EUCLEAN && i < 2; i++) {
		err = i ? vf_catalog_reset(c->catalog) : 0;
		if (!err)
			err = vf_changer_look(c, &v);
		if (err)
			return err;
		found->len = 0;
		err = find_keys(c, v, a, found);
		vf_catalog_done(v);
	}
	return err == -EUCLEAN
		       ? vf_fail(-EIO, "%s: the catalog is damaged", c->index)
		       : err;
}

/* A refusal by the condition is not logged yet. */
static int resolve(struct vf_changer *c, struct ask *a, struct vf_kills *out)
{
	VF_AUTO_BUF struct vf_buf found = {0};
	int err = 0;

	*out = (struct vf_kills){0};
	a->there = NULL;
	/* Nothing lives, nothing is to be found. */
	if (a->keys->n_keys && c->state->n_rows)
		err = find_all(c, a, &found);
	if (!err && a->cond->at_version && c->state->head != a->cond->version)
		return -ESTALE;
	if (!err)
		err = make_kills(c->state, (struct found *)found.data,
				 found.len / sizeof(struct found), out);
	if (err == -ENOMEM)
		vf_log(VF_ERROR, "%s: %s", c->index, strerror(ENOMEM));
	if (err)
		vf_kills_fini(out);
	return err;
}

static bool is_refused(int err, const struct ask *a)
{
	return (err == -EEXIST && a->there) ||
	       (err == -ESTALE && a->cond->at_version);
}

/* Log a refusal; @err. */
static int say_refused(const struct vf_changer *c, int err, const struct ask *a)
{
	if (!is_refused(err, a))
		return err;
	if (err == -EEXIST)
		return vf_fail(err, "%s: key \"%.*s\" is there already",
			       c->index, (int)a->there_len, a->there);
	return vf_fail(err, "%s: is at version %llu, not %llu", c->index,
		       (unsigned long long)c->state->head,
		       (unsigned long long)a->cond->version);
}

int vf_changer_resolve(struct vf_changer *c, const struct vf_delete *keys,
		       const struct vf_condition *cond, struct vf_kills *out)
{
	struct ask a = {.keys = keys, .cond = cond};

	return say_refused(c, resolve(c, &a, out), &a);
}

/* ---- committing ---------------------------------------------------------------------------- */

int vf_changer_commit(struct vf_changer *c, const struct vf_op *ops,
		      size_t n_ops, const struct vf_kills *kills)
{
	VF_AUTO_FREE struct vf_op *all =
		calloc(n_ops + kills->n_ops + 1, sizeof(*all));
	struct vf_state *after;
	bool moved;

	if (!all)
		return vf_fail(-ENOMEM, "%s: %s", c->index, strerror(ENOMEM));
	if (n_ops)
		memcpy(all, ops, n_ops * sizeof(*all));
	if (kills->n_ops)
		memcpy(all + n_ops, kills->ops, kills->n_ops * sizeof(*all));
	int err = vf_commit(c->bucket, c->state, all, n_ops + kills->n_ops,
			    &after);
	if (!err) {
		vf_state_free(c->state);
		c->state = after;
		return 0;
	}
	if (err != -EEXIST)
		return err;
	err = refresh(c, &moved);
	return err ? err : -EEXIST;
}

/*
 * One round of a change.  -EEXIST: somebody else came first.
 * @out_idle  it is refused, or there is nothing to do: err says which
 */
static int try_change(struct vf_changer *c, const struct vf_op *op,
		      struct ask *a, struct vf_changed *out, bool *out_idle)
{
	struct vf_kills kills;
	int err = resolve(c, a, &kills);

	*out_idle = is_refused(err, a);
	if (err)
		return err;
	out->n_killed = kills.n_rows;
	*out_idle = !kills.n_rows && op->kind == VF_OP_DELETE;
	if (!*out_idle)
		err = vf_changer_commit(c, op, 1, &kills);
	vf_kills_fini(&kills);
	return err;
}

static int change(struct vf_changer *c, const struct vf_op *op,
		  const struct vf_delete *keys, const struct vf_condition *cond,
		  struct vf_changed *out)
{
	struct ask a = {.keys = keys, .cond = cond};
	bool fresh = c->fresh, idle, moved;
	int err;

	*out = (struct vf_changed){0};
	c->fresh = false;
	for (int i = 0; i < ROUNDS; i++) {
		err = try_change(c, op, &a, out, &idle);
		if (!err && !idle)
			out->head = c->state->head;
		if (!idle && err != -EEXIST)
			return err;
		if (idle && !fresh) {
			int look = refresh(c, &moved);
			if (look)
				return look;
			idle = !moved;
		}
		if (idle)
			return say_refused(c, err, &a);
		fresh = true;
	}
	return vf_fail(-EBUSY, "%s: %d others committed first; try again",
		       c->index, ROUNDS);
}

int vf_changer_delete(struct vf_changer *c, const struct vf_delete *keys,
		      const struct vf_condition *cond, struct vf_changed *out)
{
	struct vf_op op = {.kind = VF_OP_DELETE, .delete = *keys};

	return change(c, &op, keys, cond, out);
}

static int keys_of(const struct vf_upsert *rows, struct vf_buf *out)
{
	VF_AUTO_BUF struct vf_buf key = {0};
	size_t off = 0;

	for (uint64_t i = 0; i < rows->n_rows; i++) {
		size_t len = vf_le32(rows->line_lens + 4 * i);
		struct vf_line line;
		key.len = 0;
		int err = vf_line_split(rows->lines + off, len, &line);
		if (!err)
			err = vf_line_key(&line, &key);
		if (!err)
			err = vf_keys_append(out, key.data, key.len);
		if (err)
			return err;
		off += len;
	}
	return 0;
}

int vf_changer_upsert(struct vf_changer *c, const struct vf_upsert *rows,
		      const struct vf_condition *cond, struct vf_changed *out)
{
	VF_AUTO_BUF struct vf_buf text = {0};
	struct vf_op op = {.kind = VF_OP_UPSERT, .upsert = *rows};
	int err = keys_of(rows, &text);

	if (err)
		return vf_fail(err, "%s: rows to be put are malformed: %s",
			       c->index, vf_strerror(err));
	struct vf_delete keys = {rows->n_rows, text.data, text.len};
	return change(c, &op, &keys, cond, out);
}
