/*
 * One round: choose, read, write shards, commit.
 *
 *   - inputs stay in the index, and in the bucket, until the record lands
 *   - a row that died after it was read is born dead: the record kills it in
 *     its new place
 *   - the tail's rows die in their record's place, as many as live there when
 *     ours lands
 */
#include "tools/compaction.h"

#include <inttypes.h>
#include <stdio.h>

#include "tools/attempt.h"
#include "tools/codes_head.h"
#include "tools/interrupt.h"
#include "tools/stored.h"

enum { ROUNDS = 5, COMMITS = 50 };

struct vf_round {
	struct vf_compact c;
	struct vf_ingest in;	 /* what the attempt is told */
	struct vf_attempt a;	 /* its state moves on */
	struct vf_tree_ref tree; /* of the state that was chosen from */
	bool had_tree;
	size_t n_old; /* shards of that state */
	char (*old)[VF_SHARD_NAME_LEN + 1];
	struct vf_compact_plan plan;
	bool *take, *codeless;
	struct vf_source *source;
	const struct vf_stored_place *places; /* of the source */
	size_t n_places;
	bool is_committed; /* what was uploaded is to stay */
};

/* ---- choosing ------------------------------------------------------------------- */

static int describe_shards(const struct vf_round *r,
			   struct vf_compact_shard *to)
{
	const struct vf_state *s = r->a.state;
	int err = 0;

	for (size_t i = 0; !err && i < s->n_shards; i++) {
		to[i].n_rows = s->shards[i].n_rows;
		to[i].n_dead = vf_dead_count(s->dead[i]);
		if (!r->c.eager || !s->has_tree)
			continue;
		struct vf_shard_codes_head head;
		err = vf_shard_codes_head(r->c.bucket, r->c.index,
					  &s->shards[i], &head);
		to[i].flat = !err && head.flat;
	}
	return err;
}

/* A shard that is gone meanwhile needs no repair. */
static void choose_lost(struct vf_round *r)
{
	const struct vf_state *s = r->a.state;

	for (size_t i = 0; i < r->c.n_lost_codes; i++) {
		size_t at = vf_state_shard(s, r->c.lost_codes[i]);
		if (at != SIZE_MAX)
			r->take[at] = r->codeless[at] = true;
	}
	r->plan.new_tree = r->c.lost_tree;
	/* As many leaves as there were, also where few rows ask for none. */
	if (r->c.lost_tree)
		r->in.n_leaves = s->tree.n_leaves;
	for (size_t i = 0; i < s->n_shards; i++) {
		r->take[i] |= r->c.lost_tree;
		if (!r->take[i])
			continue;
		r->plan.n_shards++;
		r->plan.n_rows +=
			s->shards[i].n_rows - vf_dead_count(s->dead[i]);
	}
}

static int choose(struct vf_round *r)
{
	const struct vf_state *s = r->a.state;
	VF_AUTO_FREE struct vf_compact_shard *shards =
		calloc(s->n_shards + 1, sizeof(*shards));
	struct vf_state_counts n;

	r->take = calloc(s->n_shards + 1, sizeof(*r->take));
	r->codeless = calloc(s->n_shards + 1, sizeof(*r->codeless));
	r->old = calloc(s->n_shards + 1, sizeof(*r->old));
	if (!shards || !r->take || !r->codeless || !r->old)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	vf_state_count(s, &n);
	bool tail = r->c.eager || (!r->c.shards_only && vf_tail_is_long(s));
	uint64_t ahead = r->c.grows ? VF_COMPACT_AHEAD : 1;
	struct vf_compact_view v = {
		.capacity = r->a.shard_rows,
		.shards = shards,
		.n_shards = r->c.tail_only ? 0 : s->n_shards,
		.tail_rows = tail ? n.tail_rows : 0,
		.n_leaves = s->has_tree ? s->tree.n_leaves : 0,
		.want_leaves = vf_cluster_n_leaves(s->n_rows * ahead),
		.eager = r->c.eager,
		.grows = r->c.grows};
	int err = r->c.repair ? 0 : describe_shards(r, shards);
	if (err)
		return err;
	if (r->c.repair)
		choose_lost(r);
	else
		vf_compact_choose(&v, r->take, &r->plan);
	if (r->c.grows)
		r->in.n_leaves = (uint32_t)v.want_leaves;
	r->had_tree = s->has_tree;
	r->tree = s->tree;
	for (; r->n_old < s->n_shards; r->n_old++)
		strcpy(r->old[r->n_old], s->shards[r->n_old].name);
	return 0;
}

/* ---- do our inputs fit what is there now? ------------------------------------------ */

/* No tree has no name. */
static bool same_tree(const struct vf_round *r)
{
	return !strcmp(r->a.state->tree.object.name, r->tree.object.name);
}

static bool was_there(const struct vf_round *r, const char *shard)
{
	for (size_t i = 0; i < r->n_old; i++)
		if (!strcmp(r->old[i], shard))
			return true;
	return false;
}

/* A new tree leaves no shard behind that follows the old one. */
static bool all_follow(const struct vf_round *r)
{
	const struct vf_state *s = r->a.state;

	if (!r->a.follow.is_new || !r->had_tree)
		return true;
	for (size_t i = 0; i < s->n_shards; i++)
		if (!was_there(r, s->shards[i].name))
			return false;
	return true;
}

static int check_fit(const struct vf_round *r)
{
	const struct vf_state *s = r->a.state;

	if (!vf_attempt_fits(&r->a, s) || (r->a.follow.tree && !same_tree(r)) ||
	    !all_follow(r))
		return VF_START_OVER;
	for (size_t i = 0; i < r->n_places; i++)
		if (r->places[i].shard[0] &&
		    vf_state_shard(s, r->places[i].shard) == SIZE_MAX)
			return VF_START_OVER;
	return 0;
}

/* ---- the record ---------------------------------------------------------------------- */

static int no_memory(void)
{
	return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

/* Its operations, and what those point into. */
struct draft {
	struct vf_op *ops;
	struct vf_buf *stores; /* [n_stores] */
	size_t n_ops, n_stores;
	uint64_t *dead; /* a bit per row of the source */
	uint64_t n_born_dead;
};

static int alloc_draft(const struct vf_round *r, struct draft *d)
{
	size_t n = r->n_places + 2 * r->a.n_shards + 1;

	d->ops = calloc(n, sizeof(*d->ops));
	d->stores = calloc(n, sizeof(*d->stores));
	d->dead = calloc(r->source->n_rows / 64 + 1, sizeof(*d->dead));
	return d->ops && d->stores && d->dead ? 0 : no_memory();
}

static void free_draft(struct draft *d)
{
	for (size_t i = 0; i < d->n_stores; i++)
		vf_buf_fini(&d->stores[i]);
	free(d->stores);
	free(d->ops);
	free(d->dead);
}

static struct vf_op *add_op(struct draft *d, enum vf_op_kind kind)
{
	struct vf_op *op = &d->ops[d->n_ops++];

	op->kind = kind;
	return op;
}

/* Mark the rows of @p that died since they were read; all when it is gone. */
static void note_dead(const struct vf_round *r, const struct vf_stored_place *p,
		      const struct vf_dead *dead, bool gone, struct draft *d)
{
	for (uint64_t i = p->first; i < p->first + p->n; i++) {
		if (!gone && !vf_dead_has(dead, vf_stored_row(r->source, i)))
			continue;
		d->dead[i / 64] |= UINT64_C(1) << i % 64;
		d->n_born_dead++;
	}
}

static int add_kill(struct draft *d, const uint32_t *rows, size_t n,
		    const char *shard, uint64_t record)
{
	struct vf_op *op = add_op(d, VF_OP_KILL);

	strcpy(op->kill.shard, shard);
	op->kill.record = record;
	return vf_kill_pack(rows, n, &op->kill, &d->stores[d->n_stores++])
		       ? no_memory()
		       : 0;
}

/* Whoever lives in the record still: we read all of them. */
static int kill_tail(const struct vf_tail *t, struct draft *d)
{
	VF_AUTO_FREE uint32_t *rows =
		malloc((t->rows->n_rows + 1) * sizeof(*rows));
	size_t n = 0;

	if (!rows)
		return no_memory();
	for (uint64_t i = 0; i < t->rows->n_rows; i++)
		if (!vf_dead_has(t->dead, i))
			rows[n++] = (uint32_t)i;
	return add_kill(d, rows, n, "", t->record);
}

static int end_place(const struct vf_round *r, const struct vf_stored_place *p,
		     struct draft *d)
{
	const struct vf_state *s = r->a.state;

	if (p->shard[0]) {
		size_t at = vf_state_shard(s, p->shard);
		note_dead(r, p, s->dead[at], false, d);
		strcpy(add_op(d, VF_OP_REMOVE_SHARD)->remove_shard, p->shard);
		return 0;
	}
	size_t at = vf_state_tail(s, p->record);
	bool gone = at == SIZE_MAX;
	note_dead(r, p, gone ? NULL : s->tail[at].dead, gone, d);
	return gone ? 0 : kill_tail(&s->tail[at], d);
}

/* Rows of shard @i that nobody is to see. */
static int kill_born_dead(const struct vf_round *r, size_t i, struct draft *d)
{
	uint64_t first = r->a.starts[i], end = r->a.starts[i + 1];
	const uint32_t *from = (const uint32_t *)r->a.from.data;
	VF_AUTO_FREE uint32_t *rows = malloc((end - first) * sizeof(*rows));
	size_t n = 0;

	if (!rows)
		return no_memory();
	for (uint64_t row = first; row < end; row++)
		if (d->dead[from[row] / 64] >> from[row] % 64 & 1)
			rows[n++] = (uint32_t)(row - first);
	return n ? add_kill(d, rows, n, r->a.shards[i].name, 0) : 0;
}

static int write_draft(const struct vf_round *r, struct draft *d)
{
	int err = alloc_draft(r, d);

	for (size_t i = 0; !err && i < r->n_places; i++)
		err = end_place(r, &r->places[i], d);
	if (!err && r->a.follow.is_new)
		add_op(d, VF_OP_SET_TREE)->set_tree = r->a.follow.ref;
	for (size_t i = 0; !err && i < r->a.n_shards; i++)
		add_op(d, VF_OP_ADD_SHARD)->add_shard = r->a.shards[i];
	for (size_t i = 0; !err && d->n_born_dead && i < r->a.n_shards; i++)
		err = kill_born_dead(r, i, d);
	return err;
}

static int try_commit(struct vf_round *r, struct vf_compacted *out)
{
	struct vf_changer ch = {.bucket = r->c.bucket,
				.index = r->c.index,
				.state = r->a.state};
	const struct vf_kills none = {0};
	struct draft d = {0};
	int err = check_fit(r);

	if (!err)
		err = write_draft(r, &d);
	if (!err) {
		err = vf_changer_commit(&ch, d.ops, d.n_ops, &none);
		r->a.state = ch.state;
	}
	if (!err) {
		out->n_born_dead = d.n_born_dead;
		out->head = r->a.state->head;
	}
	if (err == -EFBIG)
		vf_log(VF_ERROR,
		       "%s: what is to be said of it takes more than "
		       "one record",
		       r->c.target);
	free_draft(&d);
	return err;
}

/* ---- one round --------------------------------------------------------------------------- */

/* A tail that is folded alone has no codes: those of the newest shard. */
static int find_bits(const struct vf_round *r, uint32_t *out)
{
	const struct vf_state *s = r->a.state;
	struct vf_shard_codes_head head = {0};
	int err = 0;

	if (s->n_shards)
		err = vf_shard_codes_head(r->c.bucket, r->c.index,
					  &s->shards[s->n_shards - 1], &head);
	*out = head.bits;
	return err;
}

/* Lost codes had as many bits as others have: their own may be unreadable. */
static uint32_t most_bits(const struct vf_round *r)
{
	const struct vf_state *s = r->a.state;
	uint32_t bits = 0;

	for (size_t i = 0; i < s->n_shards; i++) {
		uint32_t n = vf_shard_codes_bits(r->c.bucket, r->c.index,
						 &s->shards[i]);
		bits = VF_MAX(bits, n);
	}
	return bits;
}

static int open_source(struct vf_round *r)
{
	const struct vf_stored_options opt = {.bucket = r->c.bucket,
					      .name = r->c.target,
					      .state = r->a.state,
					      .take = r->take,
					      .codeless = r->codeless,
					      .tail = r->plan.tail,
					      .ram = r->a.ram,
					      .scratch = r->c.scratch,
					      .quiet = r->c.quiet};
	struct vf_stored_traits traits;
	int err = vf_stored_open(&opt, &r->source);

	if (err)
		return err;
	vf_stored_traits(r->source, &traits);
	if (r->c.repair)
		traits.bits = most_bits(r);
	else if (!traits.bits)
		err = find_bits(r, &traits.bits);
	if (err)
		return err;
	r->places = vf_stored_places(r->source, &r->n_places);
	r->in.source = r->source;
	r->in.compress = traits.compress;
	r->in.wish.bits = traits.bits;
	r->a.moved_next_key = traits.next_key;
	return 0;
}

static int write_rows(struct vf_round *r)
{
	r->a.moves = true;
	r->a.new_tree = r->plan.new_tree;
	return r->source->n_rows ? vf_attempt_upload(&r->a) : 0;
}

static int commit(struct vf_round *r, struct vf_compacted *out)
{
	int err = -EEXIST;

	for (int i = 0; err == -EEXIST && i < COMMITS; i++)
		err = vf_interrupted() ? -ECANCELED : try_commit(r, out);
	return err == -EEXIST
		       ? vf_fail(-EBUSY,
				 "%s: %d others committed first; try again",
				 r->c.target, COMMITS)
		       : err;
}

/* Somebody else's compaction, and its garbage collection, was quicker. */
static bool lost_inputs(struct vf_round *r)
{
	struct vf_state *next = NULL;

	if (vf_state_refresh(r->c.bucket, r->a.state, &next) || !next)
		return false;
	vf_state_free(r->a.state);
	r->a.state = next;
	for (size_t i = 0; i < r->n_old; i++)
		if (r->take[i] && vf_state_shard(next, r->old[i]) == SIZE_MAX)
			return true;
	return false;
}

static int write_round(struct vf_round *r, struct vf_compacted *out)
{
	int err = open_source(r);

	if (!err)
		err = write_rows(r);
	out->n_written = r->a.n_shards;
	out->n_leaves = r->a.follow.n_leaves;
	return err == -ENOENT && lost_inputs(r) ? VF_START_OVER : err;
}

void vf_round_free(struct vf_round *r)
{
	if (!r)
		return;
	if (!r->is_committed)
		vf_attempt_remove(&r->a);
	vf_attempt_fini(&r->a);
	vf_source_free(r->source);
	free(r->take);
	free(r->codeless);
	free(r->old);
	free(r);
}

static struct vf_round *new_round(const struct vf_compact *c,
				  const struct vf_state *from)
{
	struct vf_round *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->c = *c;
	r->in = (struct vf_ingest){.bucket = c->bucket,
				   .target = c->target,
				   .index = c->index,
				   .scratch = c->scratch,
				   .keeper = c->keeper,
				   .quiet = c->quiet,
				   .n_threads = c->n_threads};
	r->a.in = &r->in;
	r->a.config = from->config;
	r->a.ram = vf_attempt_ram(c->ram);
	r->a.shard_rows = c->shard_rows
				  ? c->shard_rows
				  : vf_shard_rows_default(from->config.dim,
							  from->config.dtype);
	r->a.state = vf_state_copy(from);
	if (r->a.state)
		return r;
	free(r);
	return NULL;
}

int vf_round_prepare(const struct vf_compact *c, const struct vf_state *from,
		     struct vf_compacted *out, struct vf_round **out_round)
{
	struct vf_state_counts n;

	*out = (struct vf_compacted){0};
	*out_round = NULL;
	if (!from->configured)
		return 0;
	struct vf_round *r = new_round(c, from);
	if (!r)
		return no_memory();
	int err = choose(r);
	vf_state_count(from, &n);
	*out = (struct vf_compacted){.plan = r->plan,
				     .n_tail = r->plan.tail ? n.tail_rows : 0};
	bool any = r->plan.n_shards || r->plan.tail;
	if (!err && any && !c->dry_run)
		err = write_round(r, out);
	if (err || !any || c->dry_run)
		vf_round_free(r);
	else
		*out_round = r;
	return err;
}

int vf_round_commit(struct vf_round *r, struct vf_state **state,
		    struct vf_compacted *out)
{
	vf_state_free(r->a.state);
	r->a.state = VF_STEAL(*state);
	int err = commit(r, out);
	*state = VF_STEAL(r->a.state);
	/* What may have landed is named by a record, perhaps. */
	r->is_committed = !err || err == -EINPROGRESS;
	return err;
}

static int refresh(struct vf_bucket *b, struct vf_state **state)
{
	struct vf_state *next;
	int err = vf_state_refresh(b, *state, &next);

	if (!err && next) {
		vf_state_free(*state);
		*state = next;
	}
	return err;
}

/* From *state, which moves on to what is there then. */
static int run_rounds(const struct vf_compact *c, struct vf_state **state,
		      struct vf_compacted *out)
{
	int err = VF_START_OVER;

	for (int i = 0; err == VF_START_OVER && i < ROUNDS; i++) {
		struct vf_round *r = NULL;
		err = i ? refresh(c->bucket, state) : 0;
		if (!err)
			err = vf_round_prepare(c, *state, out, &r);
		if (r)
			err = vf_round_commit(r, state, out);
		vf_round_free(r);
	}
	if (err == VF_START_OVER)
		err = vf_fail(-EBUSY,
			      "%s: others keep compacting it; try again",
			      c->target);
	if (err == -ECANCELED)
		vf_log(VF_ERROR, "interrupted; %s is as it was", c->target);
	return err;
}

int vf_compact_run(const struct vf_compact *c, struct vf_compacted *out)
{
	struct vf_state *state = NULL;
	int err = vf_state_load(c->bucket, c->index, &state);

	if (err == -ENOENT)
		return vf_fail(err, "%s: no such index", c->target);
	if (!err)
		err = run_rounds(c, &state, out);
	vf_state_free(state);
	return err;
}

/* Beside what a writer came for: it goes on when this fails. */
int vf_tend(const struct vf_tender *t, enum vf_tending what,
	    struct vf_state **state)
{
	static const char *const left[] = {
		[VF_TEND_TAIL] = "its log stays long",
		[VF_TEND_TREE] = "it keeps the tree of fewer rows",
		[VF_TEND_SHARDS] = "its small shards stay"};
	struct vf_compact c = {.bucket = t->bucket,
			       .target = t->target,
			       .index = t->index,
			       .shard_rows = t->shard_rows,
			       .ram = t->ram,
			       .scratch = t->scratch,
			       .grows = what == VF_TEND_TREE,
			       .shards_only = what != VF_TEND_TAIL,
			       .n_threads = t->n_threads,
			       .quiet = t->quiet};
	struct vf_compacted done;

	if (what == VF_TEND_TAIL && !vf_tail_is_long(*state))
		return 0;
	int err = run_rounds(&c, state, &done);
	if (!err || err == -ECANCELED || err == -EINPROGRESS)
		return err;
	vf_log(VF_WARN, "%s: %s", t->target, left[what]);
	return refresh(t->bucket, state);
}
