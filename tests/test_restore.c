/*
 * Restoring: after the operations of a plan an index is what it was, whatever
 * happened since, and whatever was restored before.
 */
#include "store/restore.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

enum { STEPS = 60, DIM = 16 };

static struct vf_state *history[2 * STEPS];

static uint32_t below(uint64_t *seed, uint64_t n)
{
	return (uint32_t)(vf_splitmix64(seed) % n);
}

/* A row of a place that lives; -1: none does. */
static int64_t pick_row(uint64_t *seed, uint64_t n_rows,
			const struct vf_dead *dead)
{
	for (int i = 0; i < 20; i++) {
		uint32_t row = below(seed, n_rows);
		if (!vf_dead_has(dead, row))
			return row;
	}
	return -1;
}

/* Kill a row somewhere, put some inline, add a shard or remove one. */
static void change(struct vf_state *s, uint64_t *seed)
{
	VF_AUTO_BUF struct vf_buf store = {0};
	struct vf_op op = {.kind = VF_OP_KILL};
	uint32_t what = below(seed, 10), row32;
	int64_t row = -1;

	if (what < 3 && s->n_shards) {
		size_t i = below(seed, s->n_shards);
		row = pick_row(seed, s->shards[i].n_rows, s->dead[i]);
		strcpy(op.kill.shard, s->shards[i].name);
	} else if (what < 6 && s->n_tail) {
		size_t i = below(seed, s->n_tail);
		row = pick_row(seed, s->tail[i].rows->n_rows, s->tail[i].dead);
		op.kill.record = s->tail[i].record;
	}
	row32 = (uint32_t)row;
	if (row >= 0)
		vf_kill_pack(&row32, 1, &op.kill, &store);
	else if (what == 9 && s->n_shards) {
		op.kind = VF_OP_REMOVE_SHARD;
		strcpy(op.remove_shard, s->shards[0].name);
	} else if (what % 2)
		op = shard_op(s->head, 5 + below(seed, 90), 0);
	else
		op = rows_op(DIM, (uint32_t)(1000 * s->head), 4, 0, &store);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
}

static bool has_line(const struct vf_state *s, const char *line, size_t len)
{
	for (size_t i = 0; i < s->n_tail; i++) {
		const struct vf_inline *r = s->tail[i].rows;
		for (uint64_t k = 0; k < r->n_rows; k++)
			if (!vf_dead_has(s->tail[i].dead, k) &&
			    r->line_offs[k + 1] - r->line_offs[k] == len &&
			    !memcmp(r->lines + r->line_offs[k], line, len))
				return true;
	}
	return false;
}

/* The same rows live: in the same shards, and the same ones inline. */
static bool same_rows(const struct vf_state *a, const struct vf_state *b)
{
	if (a->n_rows != b->n_rows || a->n_shards != b->n_shards ||
	    a->configured != b->configured || a->config.dim != b->config.dim)
		return false;
	for (size_t i = 0; i < a->n_shards; i++) {
		size_t at = vf_state_shard(b, a->shards[i].name);
		for (uint64_t k = 0; k < a->shards[i].n_rows; k++)
			if (at == SIZE_MAX ||
			    vf_dead_has(a->dead[i], k) !=
				    vf_dead_has(b->dead[at], k))
				return false;
	}
	for (size_t i = 0; i < a->n_tail; i++) {
		const struct vf_inline *r = a->tail[i].rows;
		for (uint64_t k = 0; k < r->n_rows; k++)
			if (!vf_dead_has(a->tail[i].dead, k) &&
			    !has_line(b, r->lines + r->line_offs[k],
				      r->line_offs[k + 1] - r->line_offs[k]))
				return false;
	}
	return true;
}

static void restore(struct vf_state *s, const struct vf_state *then)
{
	struct vf_restore plan;

	CU_ASSERT_EQUAL(vf_restore_plan(s, then, &plan), 0);
	if (plan.n_ops)
		CU_ASSERT_PTR_NULL(fold_ops(s, plan.ops, plan.n_ops));
	vf_restore_fini(&plan);
	CU_ASSERT(same_rows(s, then));
	/* Nothing is left to be done, where no record carries rows anew. */
	CU_ASSERT_EQUAL(vf_restore_plan(s, then, &plan), 0);
	CU_ASSERT(!plan.n_ops || then->n_tail);
	vf_restore_fini(&plan);
}

static void any_version_comes_back_from_any_other(void)
{
	static const uint8_t uuid[16] = {1};
	struct vf_op configure = configure_op(), drop = {.kind = VF_OP_DROP};

	for (uint64_t seed0 = 1; seed0 <= 20; seed0++) {
		struct vf_state *s = vf_state_new("i", uuid);
		uint64_t seed = seed0;
		size_t n = 0;
		CU_ASSERT_PTR_NULL(fold_ops(s, &configure, 1));
		while (n < STEPS) {
			uint32_t what = below(&seed, 12);
			if (what == 0 && n)
				restore(s, history[below(&seed, n)]);
			else if (what == 1 && s->configured)
				CU_ASSERT_PTR_NULL(fold_ops(s, &drop, 1));
			if (!s->configured)
				CU_ASSERT_PTR_NULL(fold_ops(s, &configure, 1));
			change(s, &seed);
			history[n++] = vf_state_copy(s);
		}
		for (size_t i = 0; i < n; i++)
			vf_state_free(history[i]);
		vf_state_free(s);
	}
}

static void what_was_collected_does_not_come_back(void)
{
	static const uint8_t uuid[16] = {1};
	struct vf_state *s = vf_state_new("i", uuid), *then;
	struct vf_op configure = configure_op(), add = shard_op(0, 9, 0), op;
	struct vf_restore plan;

	CU_ASSERT_PTR_NULL(fold_ops(s, &configure, 1));
	CU_ASSERT_PTR_NULL(fold_ops(s, &add, 1));
	then = vf_state_copy(s); /* 2 */
	op = (struct vf_op){.kind = VF_OP_REMOVE_SHARD};
	strcpy(op.remove_shard, add.add_shard.name);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	op = (struct vf_op){.kind = VF_OP_COLLECT, .collect_below = 2};
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	struct vf_state *kept = vf_state_copy(s);
	CU_ASSERT_EQUAL(vf_restore_plan(kept, then, &plan), 0);
	CU_ASSERT_PTR_NULL(fold_ops(kept, plan.ops, plan.n_ops));
	CU_ASSERT(same_rows(kept, then));
	/* Without the word nobody may add what is so old. */
	CU_ASSERT_PTR_NOT_NULL(fold_ops(kept, &add, 1));
	op.collect_below = 3;
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	CU_ASSERT_PTR_NOT_NULL(fold_ops(s, plan.ops, plan.n_ops));
	vf_restore_fini(&plan);
	vf_state_free(kept);
	vf_state_free(then);
	vf_state_free(s);
}

static CU_TestInfo tests[] = {
	{"any version comes back from any other",
	 any_version_comes_back_from_any_other},
	{"what was collected does not come back",
	 what_was_collected_does_not_come_back},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/restore", tests);
