/* Which shards are worth writing anew. */
#include "store/compact.h"
#include "tests/test.h"

enum { CAPACITY = 100000, SHARDS_MAX = 256 };

static bool taken[SHARDS_MAX];

static struct vf_compact_plan choose(const struct vf_compact_shard *shards,
				     size_t n, struct vf_compact_view v)
{
	struct vf_compact_plan plan;

	v.capacity = CAPACITY;
	v.shards = shards;
	v.n_shards = n;
	vf_compact_choose(&v, taken, &plan);
	return plan;
}

static const struct vf_compact_view eager = {.eager = true}, lazy;

static void nothing_is_worth_it(void)
{
	const struct vf_compact_shard full = {CAPACITY, 0, false};
	const struct vf_compact_shard small = {10, 0, false};
	const struct vf_compact_shard two[] = {full, small};

	CU_ASSERT_EQUAL(choose(NULL, 0, eager).n_shards, 0);
	CU_ASSERT_EQUAL(choose(&full, 1, eager).n_shards, 0);
	CU_ASSERT_EQUAL(choose(&small, 1, eager).n_shards, 0);
	CU_ASSERT_EQUAL(choose(two, 2, eager).n_shards, 0);
	CU_ASSERT_EQUAL(choose(two, 2, lazy).n_shards, 0);
}

static void small_shards_become_fewer(void)
{
	struct vf_compact_shard s[] = {{CAPACITY, 0, false},
				       {CAPACITY / 3, 0, false},
				       {10, 0, false},
				       {CAPACITY * 6 / 10, 0, false}};
	struct vf_compact_plan p = choose(s, 4, eager);

	CU_ASSERT(p.n_shards == 2 && taken[1] && taken[2]);
	CU_ASSERT_EQUAL(p.n_rows, CAPACITY / 3 + 10);
	CU_ASSERT(!p.new_tree && !p.tail);
	CU_ASSERT_EQUAL(choose(s, 4, lazy).n_shards, 0);
}

static void half_dead_shards_are_taken(void)
{
	struct vf_compact_shard s[] = {
		{CAPACITY, CAPACITY / 2 - 1, false},
		{CAPACITY, CAPACITY / 2, false},
		{CAPACITY, CAPACITY, false},
	};
	struct vf_compact_plan p = choose(s, 3, eager);

	CU_ASSERT(p.n_shards == 2 && taken[1] && taken[2]);
	CU_ASSERT_EQUAL(p.n_rows, CAPACITY / 2);
}

static void a_tail_takes_a_small_shard_along(void)
{
	struct vf_compact_shard s[] = {{CAPACITY, 0, false}, {1000, 0, false}};
	struct vf_compact_view v = eager;

	v.tail_rows = 5;
	struct vf_compact_plan p = choose(s, 2, v);
	CU_ASSERT(p.tail && p.n_shards == 1 && taken[1]);
	CU_ASSERT_EQUAL(p.n_rows, 1005);
	p = choose(s, 1, v);
	CU_ASSERT(p.tail && !p.n_shards && p.n_rows == 5);
}

static void a_tree_that_is_outgrown_takes_all(void)
{
	struct vf_compact_shard s[] = {{CAPACITY, 0, false},
				       {CAPACITY, 0, true}};
	struct vf_compact_view v = eager;

	v.want_leaves = 1264;
	CU_ASSERT(choose(s, 2, v).new_tree && taken[0] && taken[1]);
	v.n_leaves = 632;
	CU_ASSERT(choose(s, 2, v).new_tree);
	v.n_leaves = 633;
	CU_ASSERT(!choose(s, 2, v).new_tree && !taken[0] && taken[1]);
	v.eager = false;
	v.n_leaves = 0;
	CU_ASSERT_EQUAL(choose(s, 2, v).n_shards, 0);
}

/* Ten puts of one size once needed 3.9 times the rows of one put. */
static void puts_outgrow_the_tree_of_the_first(void)
{
	struct vf_compact_shard s[8];
	struct vf_compact_view v = {
		.n_leaves = 400, .want_leaves = 2529, .grows = true};

	for (int i = 0; i < 8; i++)
		s[i] = (struct vf_compact_shard){.n_rows = CAPACITY / 10};
	CU_ASSERT_EQUAL(choose(s, 3, v).n_shards, 0); /* too few rows */
	struct vf_compact_plan p = choose(s, 4, v);
	CU_ASSERT(p.new_tree && p.n_shards == 4 && !p.tail);
	CU_ASSERT_EQUAL(p.n_rows, CAPACITY / 10 * 4);
	v.n_leaves = 0;
	CU_ASSERT_EQUAL(choose(s, 4, v).n_shards, 4);
	v.n_leaves = 1265; /* leaves enough */
	CU_ASSERT_EQUAL(choose(s, 4, v).n_shards, 0);
	v.n_leaves = 400;
	s[0].n_rows = CAPACITY * 4 / 10; /* most are of one put */
	CU_ASSERT_EQUAL(choose(s, 5, v).n_shards, 0);
	for (int i = 0; i < 8; i++)
		s[i].n_rows = CAPACITY / 7;
	CU_ASSERT_EQUAL(choose(s, 7, v).n_shards, 7);
	CU_ASSERT_EQUAL(choose(s, 8, v).n_shards, 0); /* more than a shard */
	v.grows = false;
	CU_ASSERT_EQUAL(choose(s, 7, v).n_shards, 0);
}

static void writers_merge_what_is_alike(void)
{
	struct vf_compact_shard s[] = {
		{70, 0, false},	 {80, 0, false},   {5000, 0, false},
		{255, 0, false}, {5000, 0, false}, {5000, 0, false},
	};
	struct vf_compact_view v = lazy;

	CU_ASSERT_EQUAL(choose(s, 6, v).n_shards, 0);
	v.tail_rows = 100;
	struct vf_compact_plan p = choose(s, 6, v);
	CU_ASSERT(p.n_shards == 3 && taken[0] && taken[1] && taken[3]);
	/* What came of it is like others in turn. */
	v.tail_rows = 4096;
	p = choose(s, 6, v);
	CU_ASSERT(p.n_shards == 3 && taken[2] && taken[4] && taken[5]);
	/* Never more than a quarter of a shard on the way. */
	s[2].n_rows = CAPACITY / 5;
	s[4].n_rows = CAPACITY / 5;
	s[5].n_rows = CAPACITY / 5;
	v.tail_rows = CAPACITY / 5;
	CU_ASSERT_EQUAL(choose(s, 6, v).n_shards, 0);
}

/* Batches of one size for ever: what is written again grows like a logarithm. */
static void writing_again_is_bounded(void)
{
	struct vf_compact_shard s[SHARDS_MAX];
	uint64_t written = 0, put = 0;
	size_t n = 0;

	while (put < 20 * CAPACITY) {
		struct vf_compact_view v = {.tail_rows = 500};
		struct vf_compact_plan p = choose(s, n, v);
		size_t kept = 0;
		for (size_t i = 0; i < n; i++)
			if (!taken[i])
				s[kept++] = s[i];
		s[kept++] = (struct vf_compact_shard){.n_rows = p.n_rows};
		n = kept;
		put += 500;
		written += p.n_rows;
		CU_ASSERT_FATAL(n < SHARDS_MAX);
	}
	CU_ASSERT(written <= 5 * put);
	/* Those too large to be merged on the way: a 16th of a shard. */
	CU_ASSERT(n <= 20 * 16);
}

/* Any index: a plan carried out leaves no plan. */
static void once_is_enough(void)
{
	uint64_t seed = 4;

	for (int round = 0; round < 200; round++) {
		struct vf_compact_shard s[SHARDS_MAX], next[SHARDS_MAX];
		size_t n = vf_test_rand(&seed) % 40, kept = 0;
		struct vf_compact_view v = eager;
		v.tail_rows = vf_test_rand(&seed) % 3 * 100;
		for (size_t i = 0; i < n; i++) {
			s[i].n_rows = 1 + vf_test_rand(&seed) % CAPACITY;
			s[i].n_dead = vf_test_rand(&seed) % (s[i].n_rows + 1);
			s[i].flat = false;
		}
		struct vf_compact_plan p = choose(s, n, v);
		for (size_t i = 0; i < n; i++)
			if (!taken[i])
				next[kept++] = s[i];
		for (uint64_t left = p.n_rows, part; left; left -= part) {
			part = VF_MIN(left, (uint64_t)CAPACITY);
			next[kept++] =
				(struct vf_compact_shard){.n_rows = part};
		}
		p = choose(next, kept, eager);
		CU_ASSERT_EQUAL(p.n_shards, 0);
	}
}

static CU_TestInfo tests[] = {
	{"full shards, one small one: nothing to do", nothing_is_worth_it},
	{"small shards become fewer", small_shards_become_fewer},
	{"shards half of whose rows died are taken",
	 half_dead_shards_are_taken},
	{"a tail takes a small shard along", a_tail_takes_a_small_shard_along},
	{"a tree that is outgrown takes all",
	 a_tree_that_is_outgrown_takes_all},
	{"puts outgrow the tree of the first",
	 puts_outgrow_the_tree_of_the_first},
	{"writers merge shards that are alike", writers_merge_what_is_alike},
	{"rows are written again a few times only", writing_again_is_bounded},
	{"a plan carried out leaves no plan", once_is_enough},
	CU_TEST_INFO_NULL};
VF_SUITE("store/compact", tests);
