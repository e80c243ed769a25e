/*
 * Folding: what records say about rows that live and die, against a plain
 * model; what cannot be is refused.
 */
#include "store/line.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

static const uint8_t uuid[16] = {1, 2, 3};

static struct vf_state *new_state(void)
{
	struct vf_state *s = vf_state_new("i", uuid);
	struct vf_op op = configure_op();

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	return s;
}

static struct vf_op kill_of(const struct vf_op *shard, uint64_t record,
			    uint32_t from, uint32_t n, struct vf_buf *store)
{
	struct vf_op op = {.kind = VF_OP_KILL, .kill.record = record};
	uint32_t rows[64];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = from + i;
	if (shard)
		strcpy(op.kill.shard, shard->add_shard.name);
	CU_ASSERT_EQUAL_FATAL(vf_kill_pack(rows, n, &op.kill, store), 0);
	return op;
}

static void kills_are_counted_and_seen(void)
{
	VF_AUTO_BUF struct vf_buf a = {0}, b = {0};
	struct vf_state *s = new_state(), *old;
	struct vf_op shard = shard_op(0, 100, 0), ops[2];

	ops[0] = shard;
	ops[1] = kill_of(&shard, 0, 90, 10, &a); /* born dead */
	CU_ASSERT_PTR_NULL(fold_ops(s, ops, 2));
	CU_ASSERT_EQUAL(s->n_rows, 90);
	old = vf_state_copy(s);
	ops[0] = kill_of(&shard, 0, 5, 3, &b);
	CU_ASSERT_PTR_NULL(fold_ops(s, ops, 1));
	CU_ASSERT_EQUAL(s->n_rows, 87);
	CU_ASSERT(vf_dead_has(s->dead[0], 5) && vf_dead_has(s->dead[0], 99));
	CU_ASSERT(!vf_dead_has(s->dead[0], 8));
	/* Whoever held the state before sees what it saw. */
	CU_ASSERT(old->n_rows == 90 && !vf_dead_has(old->dead[0], 5));
	vf_state_free(s);
	CU_ASSERT_EQUAL(vf_dead_count(old->dead[0]), 10);
	vf_state_free(old);
}

static void inline_rows_live_until_the_last_dies(void)
{
	VF_AUTO_BUF struct vf_buf a = {0}, b = {0}, c = {0}, rows = {0};
	struct vf_state *s = new_state();
	struct vf_op op = rows_op(16, 0, 5, 0, &rows);
	struct vf_state_counts n;

	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	CU_ASSERT(s->n_tail == 1 && s->tail[0].record == 2);
	CU_ASSERT(s->n_rows == 5 && s->tail[0].rows->line_offs[5] > 100);
	op = kill_of(NULL, 2, 1, 2, &a);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	vf_state_count(s, &n);
	CU_ASSERT(s->n_rows == 3 && n.tail_rows == 3 && n.tail_len > 5 * 64);
	op = kill_of(NULL, 2, 0, 1, &b);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	op = kill_of(NULL, 2, 3, 2, &c);
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	CU_ASSERT(s->n_tail == 0 && s->n_rows == 0);
	vf_state_free(s);
}

static void a_record_may_kill_its_own_rows(void)
{
	VF_AUTO_BUF struct vf_buf a = {0}, rows = {0};
	struct vf_state *s = new_state();
	struct vf_op ops[2] = {rows_op(16, 0, 5, 77, &rows)};

	ops[1] = kill_of(NULL, 2, 4, 1, &a);
	CU_ASSERT_PTR_NULL(fold_ops(s, ops, 2));
	CU_ASSERT(s->n_rows == 4 && s->next_key == 77);
	vf_state_free(s);
}

static void removed_shards_take_their_rows_along(void)
{
	VF_AUTO_BUF struct vf_buf a = {0};
	struct vf_state *s = new_state();
	struct vf_op one = shard_op(0, 10, 0), two = shard_op(0, 20, 0);
	struct vf_op ops[3] = {one, two};

	ops[2] = kill_of(&two, 0, 0, 1, &a);
	CU_ASSERT_PTR_NULL(fold_ops(s, ops, 3));
	CU_ASSERT_EQUAL(s->n_rows, 29);
	ops[0] = (struct vf_op){.kind = VF_OP_REMOVE_SHARD};
	strcpy(ops[0].remove_shard, one.add_shard.name);
	CU_ASSERT_PTR_NULL(fold_ops(s, ops, 1));
	CU_ASSERT(s->n_rows == 19 && s->n_shards == 1);
	CU_ASSERT_EQUAL(vf_dead_count(s->dead[0]), 1);
	CU_ASSERT_PTR_NOT_NULL(fold_ops(s, ops, 1));
	vf_state_free(s);
}

static void a_dropped_index_begins_again(void)
{
	struct vf_state *s = new_state();
	struct vf_op op = shard_op(0, 10, 50);

	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	op = (struct vf_op){.kind = VF_OP_DROP};
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	CU_ASSERT(s->dropped && !s->configured && !s->n_rows && !s->n_shards);
	op = configure_op();
	CU_ASSERT_PTR_NULL(fold_ops(s, &op, 1));
	CU_ASSERT(s->configured && !s->dropped && s->head == 4);
	CU_ASSERT_EQUAL(s->next_key, 0);
	vf_state_free(s);
}

/* gc may have deleted it already; only a restore knows that it did not. */
static void an_embedder_older_than_what_is_kept_is_refused(void)
{
	struct vf_op op, gone[] = {{.kind = VF_OP_DROP},
				   {.kind = VF_OP_COLLECT, .collect_below = 2}};

	for (unsigned head = 1; head <= 2; head++) {
		struct vf_state *s = new_state();
		CU_ASSERT_PTR_NULL(fold_ops(s, &gone[0], 1));
		CU_ASSERT_PTR_NULL(fold_ops(s, &gone[1], 1));
		op = configure_op();
		vf_shard_name(head, op.configure.embedder_data.name);
		strcat(op.configure.embedder_data.name, ".vfe");
		strcpy(op.configure.embedder, "hash:16");
		CU_ASSERT_EQUAL(!fold_ops(s, &op, 1), head == 2);
		vf_state_free(s);
	}
}

/* Apply @n operations to a fresh index of one shard; it must be refused. */
static void must_refuse(const struct vf_op *ops, size_t n,
			const struct vf_op *shard)
{
	struct vf_state *s = new_state();

	CU_ASSERT_PTR_NULL(fold_ops(s, shard, 1));
	CU_ASSERT_PTR_NOT_NULL(fold_ops(s, ops, n));
	vf_state_free(s);
}

static void what_cannot_be_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf a = {0}, b = {0}, c = {0}, rows = {0},
				  wide = {0};
	struct vf_op shard = shard_op(0, 10, 0), other = shard_op(0, 10, 0),
		     ops[2];

	ops[0] = kill_of(&shard, 0, 9, 2, &a); /* beyond its rows */
	must_refuse(ops, 1, &shard);
	ops[0] = ops[1] = kill_of(&shard, 0, 3, 2, &b); /* twice */
	must_refuse(ops, 2, &shard);
	ops[0] = kill_of(&other, 0, 0, 1, &c); /* of a stranger */
	must_refuse(ops, 1, &shard);
	ops[0].kill.shard[0] = '\0'; /* of a record without rows */
	ops[0].kill.record = 1;
	must_refuse(ops, 1, &shard);
	ops[0] = rows_op(17, 0, 1, 0, &wide);
	must_refuse(ops, 1, &shard);
	ops[0] = ops[1] = rows_op(16, 0, 1, 0, &rows);
	must_refuse(ops, 2, &shard);
	ops[0] = (struct vf_op){.kind = VF_OP_COLLECT, .collect_below = 3};
	must_refuse(ops, 1, &shard);
	ops[0].collect_below = 0;
	must_refuse(ops, 1, &shard);
	ops[0].collect_below = 2; /* shards begun before are too late */
	ops[1] = other;
	must_refuse(ops, 2, &shard);
}

/* ---- lines --------------------------------------------------------------------- */

static int key_of(const char *text, char out[64])
{
	VF_AUTO_BUF struct vf_buf key = {0};
	struct vf_line line;
	int err = vf_line_split(text, strlen(text), &line);

	if (!err)
		err = vf_line_key(&line, &key);
	if (!err)
		snprintf(out, 64, "%.*s", (int)key.len, (char *)key.data);
	return err;
}

static void lines_of_ours_are_read(void)
{
	char key[64];

	CU_ASSERT_EQUAL(key_of("{\"key\":\"a\",\"metadata\":{}}\n", key), 0);
	CU_ASSERT_STRING_EQUAL(key, "a");
	CU_ASSERT_EQUAL(key_of("{\"key\":\"\\\"\\\\\\u0009,\",\"metadata\":"
			       "{\"metadata\":{}}}\n",
			       key),
			0);
	CU_ASSERT_STRING_EQUAL(key, "\"\\\t,");
}

static void other_lines_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"\n",
		"{\"key\":\"a\"}\n",
		"{\"key\":\"\",\"metadata\":{}}\n",
		"{\"key\":\"a\",\"metadata\":{}}",
		"{\"key\":\"a\",\"metadata\":{}\n",
		"{\"key\":\"a\",\"metadata\":[]}\n",
		"{\"key\":\"a\n\",\"metadata\":{}}\n",
		"{\"key\":\"\\u0000\",\"metadata\":{}}\n",
		"{\"key\":\"\\u00g9\",\"metadata\":{}}\n",
		"{\"key\":\"\\u00\",\"metadata\":{}}\n",
		"{\"key\":\"\\n\",\"metadata\":{}}\n",
		"{\"key\":\"a\\\",\"metadata\":{}}\n",
		"{\"key\": \"a\",\"metadata\":{}}\n",
	};
	char key[64];

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(key_of(bad[i], key), -EBADMSG);
}

static CU_TestInfo tests[] = {
	{"kills are counted and seen", kills_are_counted_and_seen},
	{"inline rows live until the last dies",
	 inline_rows_live_until_the_last_dies},
	{"a record may kill its own rows", a_record_may_kill_its_own_rows},
	{"removed shards take their rows along",
	 removed_shards_take_their_rows_along},
	{"a dropped index begins again", a_dropped_index_begins_again},
	{"what cannot be is refused", what_cannot_be_is_refused},
	{"an embedder older than what is kept is refused",
	 an_embedder_older_than_what_is_kept_is_refused},
	{"lines of ours are read", lines_of_ours_are_read},
	{"other lines are refused", other_lines_are_refused},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/state", tests);
