/*
 * A row that died does not rise: a shard with such rows leaves and comes again,
 * rows of a record are carried again by the record that restores.
 */
#include "store/restore.h"

/* ---- operations ---------------------------------------------------------------------------- */

static int add_op(struct vf_restore *r, const struct vf_op *op)
{
	struct vf_op *p = realloc(r->ops, (r->n_ops + 1) * sizeof(*p));

	if (!p)
		return -ENOMEM;
	r->ops = p;
	p[r->n_ops++] = *op;
	return 0;
}

/* Bytes that stay where they are; NULL without memory. */
static struct vf_buf *add_store(struct vf_restore *r)
{
	struct vf_buf *b = calloc(1, sizeof(*b));

	if (!b || vf_buf_append(&r->stores, &b, sizeof(b))) {
		free(b);
		return NULL;
	}
	return b;
}

void vf_restore_fini(struct vf_restore *r)
{
	for (size_t at = 0; at < r->stores.len; at += sizeof(void *)) {
		struct vf_buf *b;
		memcpy(&b, r->stores.data + at, sizeof(b));
		vf_buf_fini(b);
		free(b);
	}
	vf_buf_fini(&r->stores);
	free(r->ops);
	*r = (struct vf_restore){0};
}

/* Kill what lives under @was and not under @is. */
static int add_kill(struct vf_restore *r, struct vf_op *op, uint64_t n_rows,
		    const struct vf_dead *was, const struct vf_dead *is)
{
	VF_AUTO_FREE uint32_t *rows = malloc((n_rows + 1) * sizeof(*rows));
	struct vf_buf *store;
	size_t n = 0;

	if (!rows)
		return -ENOMEM;
	for (uint64_t i = 0; i < n_rows; i++)
		if (vf_dead_has(is, i) && !vf_dead_has(was, i))
			rows[n++] = (uint32_t)i;
	if (!n)
		return 0;
	store = add_store(r);
	op->kind = VF_OP_KILL;
	if (!store || vf_kill_pack(rows, n, &op->kill, store))
		return -ENOMEM;
	return add_op(r, op);
}

/* ---- shards ---------------------------------------------------------------------------------- */

static bool rises(uint64_t n_rows, const struct vf_dead *was,
		  const struct vf_dead *is)
{
	for (uint64_t i = 0; vf_dead_count(was) && i < n_rows; i++)
		if (vf_dead_has(was, i) && !vf_dead_has(is, i))
			return true;
	return false;
}

/* Whether shard @at of @then can stay as it is, but for rows that die. */
static bool stays(const struct vf_state *now, const struct vf_state *then,
		  size_t at)
{
	size_t i = vf_state_shard(now, then->shards[at].name);

	return i != SIZE_MAX &&
	       !rises(then->shards[at].n_rows, now->dead[i], then->dead[at]);
}

static int remove_shards(const struct vf_state *now,
			 const struct vf_state *then, struct vf_restore *r)
{
	int err = 0;

	for (size_t i = 0; !err && i < now->n_shards; i++) {
		size_t at = vf_state_shard(then, now->shards[i].name);
		struct vf_op op = {.kind = VF_OP_REMOVE_SHARD};
		if (at != SIZE_MAX && stays(now, then, at))
			continue;
		strcpy(op.remove_shard, now->shards[i].name);
		err = add_op(r, &op);
	}
	return err;
}

static int add_shards(const struct vf_state *now, const struct vf_state *then,
		      struct vf_restore *r)
{
	int err = 0;

	for (size_t at = 0; !err && at < then->n_shards; at++) {
		const struct vf_shard_ref *ref = &then->shards[at];
		const struct vf_dead *was = NULL;
		struct vf_op add = {.kind = VF_OP_ADD_SHARD, .add_shard = *ref};
		struct vf_op kill = {0};
		strcpy(kill.kill.shard, ref->name);
		if (stays(now, then, at))
			was = now->dead[vf_state_shard(now, ref->name)];
		else
			err = add_op(r, &add);
		if (!err)
			err = add_kill(r, &kill, ref->n_rows, was,
				       then->dead[at]);
	}
	return err;
}

/* ---- rows of records --------------------------------------------------------------------------- */

/* Rows of @now's records that do not live in @then. */
static int kill_tail(const struct vf_state *now, const struct vf_state *then,
		     struct vf_restore *r)
{
	int err = 0;

	for (size_t i = 0; !err && i < now->n_tail; i++) {
		const struct vf_tail *t = &now->tail[i];
		VF_AUTO_FREE struct vf_dead *all = NULL;
		size_t at = vf_state_tail(then, t->record);
		struct vf_op kill = {.kill.record = t->record};
		const struct vf_dead *is =
			at == SIZE_MAX ? NULL : then->tail[at].dead;
		if (at == SIZE_MAX) {
			size_t len = (t->rows->n_rows + 63) / 64 * 8;
			all = malloc(sizeof(*all) + len);
			if (!all)
				return -ENOMEM;
			memset(all->bits, 0xff, len);
			is = all;
		}
		err = add_kill(r, &kill, t->rows->n_rows, t->dead, is);
	}
	return err;
}

struct carrier {
	struct vf_buf *vectors, *lens, *lines;
	uint64_t n_rows, next_key;
	bool chosen; /* some keys are not automatic */
};

static int carry_row(struct carrier *c, const struct vf_inline *in,
		     uint64_t row)
{
	uint32_t off = in->line_offs[row], len = in->line_offs[row + 1] - off;
	uint8_t le[4];

	vf_put_le32(le, len);
	c->n_rows++;
	c->chosen |= !in->next_key;
	c->next_key = VF_MAX(c->next_key, in->next_key);
	if (vf_buf_append(c->vectors, in->vectors + row * in->row_len,
			  in->row_len) ||
	    vf_buf_append(c->lens, le, 4))
		return -ENOMEM;
	return vf_buf_append(c->lines, in->lines + off, len);
}

/* Rows of @then's records that do not live in @now. */
static int carry_tail(const struct vf_state *now, const struct vf_state *then,
		      struct carrier *c)
{
	int err = 0;

	for (size_t i = 0; i < then->n_tail; i++) {
		const struct vf_tail *t = &then->tail[i];
		size_t at = vf_state_tail(now, t->record);
		for (uint64_t row = 0; !err && row < t->rows->n_rows; row++)
			if (!vf_dead_has(t->dead, row) &&
			    (at == SIZE_MAX ||
			     vf_dead_has(now->tail[at].dead, row)))
				err = carry_row(c, t->rows, row);
	}
	return err;
}

static int add_rows(const struct vf_state *now, const struct vf_state *then,
		    struct vf_restore *r)
{
	struct carrier c = {.vectors = add_store(r),
			    .lens = add_store(r),
			    .lines = add_store(r)};

	if (!c.vectors || !c.lens || !c.lines)
		return -ENOMEM;
	int err = carry_tail(now, then, &c);
	if (err || !c.n_rows)
		return err;
	struct vf_op op = {.kind = VF_OP_UPSERT};
	op.upsert = (struct vf_upsert){.n_rows = c.n_rows,
				       .row_len = c.vectors->len / c.n_rows,
				       .next_key = c.chosen ? 0 : c.next_key,
				       .vectors = c.vectors->data,
				       .line_lens = c.lens->data,
				       .lines = (const char *)c.lines->data,
				       .lines_len = c.lines->len};
	return add_op(r, &op);
}

/* ---- the whole ----------------------------------------------------------------------------------- */

static bool same_config(const struct vf_index_config *a,
			const struct vf_index_config *b)
{
	return a->dim == b->dim && a->metric == b->metric &&
	       a->dtype == b->dtype && a->rotation_seed == b->rotation_seed &&
	       !strcmp(a->embedder, b->embedder);
}

/* Another configuration is another index: nothing of the one there stays. */
static int begin(const struct vf_state *now, const struct vf_state *then,
		 bool *out_empty, struct vf_restore *r)
{
	struct vf_op drop = {.kind = VF_OP_DROP};
	struct vf_op configure = {.kind = VF_OP_CONFIGURE,
				  .configure = then->config};
	bool same = now->configured && then->configured &&
		    same_config(&now->config, &then->config);
	int err = 0;

	*out_empty = !same;
	if (now->configured && !same)
		err = add_op(r, &drop);
	if (!err && then->configured && !same)
		err = add_op(r, &configure);
	return err;
}

static int add_tree(const struct vf_state *now, const struct vf_state *then,
		    struct vf_restore *r)
{
	struct vf_op op = {.kind = VF_OP_SET_TREE, .set_tree = then->tree};

	if (!then->has_tree ||
	    (now->has_tree &&
	     !strcmp(now->tree.object.name, then->tree.object.name)))
		return 0;
	return add_op(r, &op);
}

int vf_restore_plan(const struct vf_state *now, const struct vf_state *then,
		    struct vf_restore *out)
{
	static const struct vf_state nothing;
	struct vf_op restore = {.kind = VF_OP_RESTORE, .restore = then->head};
	bool empty;

	*out = (struct vf_restore){0};
	int err = add_op(out, &restore);
	if (!err)
		err = begin(now, then, &empty, out);
	if (err)
		return err;
	const struct vf_state *from = empty ? &nothing : now;
	err = remove_shards(from, then, out);
	if (!err)
		err = add_tree(from, then, out);
	if (!err)
		err = add_shards(from, then, out);
	if (!err)
		err = kill_tail(from, then, out);
	if (!err)
		err = add_rows(from, then, out);
	if (out->n_ops == 1)
		out->n_ops = 0;
	return err;
}
