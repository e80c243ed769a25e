/*
 * Replacement policies: orders, scans, pins, the ttl, a model under random
 * operations, and hit rates on a seeded Zipf stream.
 */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

#include "store/policy_impl.h"

static const char *const names[] = {"lru", "lfu", "s3fifo"};

static bool may_any(void *arg, const struct vf_policy_entry *e)
{
	return true;
}

/* Entries with an odd hash are pinned. */
static bool may_even(void *arg, const struct vf_policy_entry *e)
{
	return e->hash % 2 == 0;
}

static struct vf_policy *open_policy(const char *name, size_t n_blocks,
				     uint32_t ttl_s)
{
	struct vf_policy *p = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_policy_open(name, n_blocks, ttl_s, &p), 0);
	return p;
}

/* The hash is the entry's number. */
static void insert_numbered(struct vf_policy *p, struct vf_policy_entry *e,
			    size_t from, size_t to, unsigned flags)
{
	for (size_t i = from; i < to; i++)
		vf_policy_insert(p, &e[i], i, flags, 0);
}

static bool next_is(struct vf_policy *p, const struct vf_policy_entry *e)
{
	return vf_policy_victim(p, may_any, NULL, 0) == e;
}

static bool is_valid(const struct vf_policy *p, size_t n)
{
	const char *reason;

	if (!vf_policy_validate(p, &reason)) {
		fprintf(stderr, "%s: %s\n", vf_policy_name(p), reason);
		return false;
	}
	return vf_policy_count(p) == n;
}

/* ---- names --------------------------------------------------------------- */

static void test_names(void)
{
	struct vf_policy *p;

	for (size_t i = 0; i < VF_N(names); i++) {
		p = open_policy(names[i], 10, 0);
		CU_ASSERT_STRING_EQUAL(vf_policy_name(p), names[i]);
		CU_ASSERT_PTR_NULL(vf_policy_victim(p, may_any, NULL, 0));
		vf_policy_close(p);
	}
	CU_ASSERT_EQUAL(vf_policy_open("mru", 10, 0, &p), -EINVAL);
	CU_ASSERT_PTR_NULL(p);
	vf_policy_close(NULL);
}

static void test_no_memory(void)
{
	struct vf_policy *p;

	CU_ASSERT_EQUAL(vf_policy_open("lfu", SIZE_MAX, 0, &p), -ENOMEM);
	CU_ASSERT_EQUAL(vf_policy_open("s3fifo", SIZE_MAX / 64, 0, &p),
			-ENOMEM);
	CU_ASSERT_PTR_NULL(p);
}

/* ---- orders -------------------------------------------------------------- */

static void test_lru_order(void)
{
	struct vf_policy_entry e[8] = {0};
	struct vf_policy *p = open_policy("lru", 8, 0);

	insert_numbered(p, e, 0, 8, 0);
	vf_policy_hit(p, &e[0], 1);
	vf_policy_hit(p, &e[3], 5);
	vf_policy_remove(p, &e[4]);
	static const int order[] = {1, 2, 5, 6, 7, 0, 3};
	for (size_t i = 0; i < VF_N(order); i++)
		CU_ASSERT(next_is(p, &e[order[i]]));
	CU_ASSERT(next_is(p, NULL));
	vf_policy_close(p);
}

/* With few blocks the window is one: the newest. */
static void test_lfu_order(void)
{
	struct vf_policy_entry e[6] = {0};
	struct vf_policy *p = open_policy("lfu", 1000, 0);

	insert_numbered(p, e, 0, 6, 0);
	vf_policy_hit(p, &e[0], 3);
	vf_policy_hit(p, &e[1], 1);
	vf_policy_hit(p, &e[2], 2);
	vf_policy_hit(p, &e[3], 1);
	static const int order[] = {4, 1, 3, 2, 0, 5};
	for (size_t i = 0; i < VF_N(order); i++)
		CU_ASSERT(next_is(p, &e[order[i]]));
	vf_policy_close(p);
}

static void test_lfu_ghost_keeps_count(void)
{
	struct vf_policy_entry e[3] = {0};
	struct vf_policy *p = open_policy("lfu", 100, 0);

	insert_numbered(p, e, 0, 2, 0);
	vf_policy_hit(p, &e[0], 2);
	vf_policy_hit(p, &e[1], 4);
	CU_ASSERT(next_is(p, &e[0]));
	/* Back with its third use: more than the two of e[2]. */
	insert_numbered(p, e, 0, 1, 0);
	insert_numbered(p, e, 2, 3, 0);
	vf_policy_hit(p, &e[2], 2);
	vf_policy_remove(p, &e[1]);
	insert_numbered(p, e, 1, 2, 0);
	CU_ASSERT(next_is(p, &e[2]));
	CU_ASSERT(next_is(p, &e[0]));
	vf_policy_close(p);
}

/* A block used much long ago leaves before one used some of late. */
static void test_lfu_ages(void)
{
	struct vf_policy_entry e[4] = {0};
	struct vf_policy *p = open_policy("lfu", 4, 0);

	insert_numbered(p, e, 0, 4, 0);
	vf_policy_hit(p, &e[0], 16);
	for (int i = 0; i < 1000; i++)
		vf_policy_hit(p, &e[1 + i % 3], 1);
	CU_ASSERT(is_valid(p, 4));
	CU_ASSERT(next_is(p, &e[0]));
	vf_policy_close(p);
}

static void test_s3fifo_promotes(void)
{
	struct vf_policy_entry e[10] = {0};
	struct vf_policy *p = open_policy("s3fifo", 10, 0);

	insert_numbered(p, e, 0, 10, 0);
	vf_policy_hit(p, &e[0], 2); /* to main */
	vf_policy_hit(p, &e[1], 1); /* once is not enough */
	CU_ASSERT(next_is(p, &e[1]));
	insert_numbered(p, e, 1, 2, 0); /* a ghost: to main */
	for (size_t i = 2; i < 10; i++)
		CU_ASSERT(i == 9 ? e[i].queue : next_is(p, &e[i]));
	CU_ASSERT(e[0].queue && e[1].queue && e[0].queue == e[1].queue);
	CU_ASSERT(e[9].queue != e[0].queue);
	CU_ASSERT(is_valid(p, 3));
	vf_policy_close(p);
}

static void test_ghosts_are_bounded(void)
{
	struct vf_policy_ghosts g;
	unsigned n_found = 0, n_stale = 0;

	CU_ASSERT_EQUAL_FATAL(vf_policy_ghosts_init(&g, 1000), 0);
	for (unsigned i = 0; i < 3000; i++)
		vf_policy_ghosts_add(&g, i, i % 4096);
	for (unsigned i = 0; i < 1900; i++)
		n_stale += vf_policy_ghosts_take(&g, i) >= 0;
	for (unsigned i = 2100; i < 3000; i++)
		n_found += vf_policy_ghosts_take(&g, i) == (int)i;
	CU_ASSERT_EQUAL(n_stale, 0);
	CU_ASSERT(n_found > 850);
	CU_ASSERT_EQUAL(vf_policy_ghosts_take(&g, 2999), -1);
	vf_policy_ghosts_fini(&g);
}

/* ---- scans, ttl, pins ---------------------------------------------------- */

/* 900 used blocks stay while 5000 scanned and once read pass. */
static void test_scan(void)
{
	VF_AUTO_FREE struct vf_policy_entry *e = calloc(6000, sizeof(*e));
	CU_ASSERT_PTR_NOT_NULL_FATAL(e);

	for (size_t i = 0; i < VF_N(names); i++) {
		struct vf_policy *p = open_policy(names[i], 1000, 0);
		size_t n_hot = 0;
		memset(e, 0, 6000 * sizeof(*e));
		insert_numbered(p, e, 0, 1000, 0);
		for (size_t k = 0; k < 900; k++)
			vf_policy_hit(p, &e[k], 2);
		for (size_t k = 1000; k < 6000; k++) {
			vf_policy_victim(p, may_any, NULL, 0);
			insert_numbered(p, e, k, k + 1, VF_POLICY_SCAN);
			vf_policy_hit(p, &e[k], 1);
		}
		for (size_t k = 0; k < 900; k++)
			n_hot += e[k].queue != VF_POLICY_OUT;
		CU_ASSERT(n_hot >= 890);
		CU_ASSERT(is_valid(p, 1000));
		vf_policy_close(p);
	}
}

static void test_ttl(void)
{
	for (size_t i = 0; i < VF_N(names); i++) {
		struct vf_policy_entry e[4] = {0};
		struct vf_policy *p = open_policy(names[i], 4, 60);
		for (uint32_t k = 0; k < 4; k++)
			vf_policy_insert(p, &e[k], k, 0, 1000 + k * 30);
		vf_policy_hit(p, &e[0], 9);
		vf_policy_hit(p, &e[1], 9);
		/* 1091 - 1000 and 1091 - 1030 are over 60. */
		CU_ASSERT_PTR_EQUAL(vf_policy_victim(p, may_any, NULL, 1091),
				    &e[0]);
		/* e[1] is pinned: it is passed over, and not forgotten. */
		CU_ASSERT_PTR_EQUAL(vf_policy_victim(p, may_even, NULL, 1091),
				    &e[2]);
		CU_ASSERT(is_valid(p, 2));
		CU_ASSERT_PTR_EQUAL(vf_policy_victim(p, may_any, NULL, 1091),
				    &e[1]);
		vf_policy_close(p);
	}
}

static bool may_counted(void *arg, const struct vf_policy_entry *e)
{
	++*(size_t *)arg;
	return e->hash >= 900;
}

/* 900 of 1000 are pinned: they are met once, then cost two looks a victim. */
static void test_many_pinned(void)
{
	VF_AUTO_FREE struct vf_policy_entry *e = calloc(11000, sizeof(*e));
	CU_ASSERT_PTR_NOT_NULL_FATAL(e);

	for (size_t i = 0; i < VF_N(names); i++) {
		struct vf_policy *p = open_policy(names[i], 1000, 0);
		size_t n_looks = 0, n_wrong = 0;
		memset(e, 0, 11000 * sizeof(*e));
		insert_numbered(p, e, 0, 1000, 0);
		for (size_t k = 1000; k < 11000; k++) {
			struct vf_policy_entry *v =
				vf_policy_victim(p, may_counted, &n_looks, 0);
			n_wrong += !v || v->hash < 900;
			insert_numbered(p, e, k, k + 1, 0);
			vf_policy_hit(p, &e[k % 900], 1);
		}
		CU_ASSERT_EQUAL(n_wrong, 0);
		CU_ASSERT(n_looks <= 900 + 3 * 10000);
		CU_ASSERT(is_valid(p, 1000));
		vf_policy_close(p);
	}
}

static bool may_none(void *arg, const struct vf_policy_entry *e)
{
	return false;
}

static void test_all_pinned(void)
{
	for (size_t i = 0; i < VF_N(names); i++) {
		struct vf_policy_entry e[50] = {0};
		struct vf_policy *p = open_policy(names[i], 50, 0);
		insert_numbered(p, e, 0, 50, 0);
		for (int k = 0; k < 3; k++)
			CU_ASSERT_PTR_NULL(
				vf_policy_victim(p, may_none, NULL, 0));
		CU_ASSERT(is_valid(p, 50));
		for (int k = 0; k < 50; k++)
			CU_ASSERT_PTR_NOT_NULL(
				vf_policy_victim(p, may_any, NULL, 0));
		CU_ASSERT(is_valid(p, 0));
		vf_policy_close(p);
	}
}

/* ---- the model ----------------------------------------------------------- */

enum { N_MODEL = 400, N_TIER = 100 };

struct model {
	struct vf_policy *p;
	struct vf_policy_entry e[N_MODEL];
	bool in[N_MODEL], pinned[N_MODEL];
	size_t n_in;
	uint64_t seed;
	uint32_t now_s;
};

static bool may_model(void *arg, const struct vf_policy_entry *e)
{
	const struct model *m = arg;

	return !m->pinned[e - m->e];
}

static bool drop_victim(struct model *m)
{
	struct vf_policy_entry *v =
		vf_policy_victim(m->p, may_model, m, m->now_s);
	bool any = false;

	for (size_t i = 0; i < N_MODEL; i++)
		any |= m->in[i] && !m->pinned[i];
	if (!v)
		return !any;
	size_t i = (size_t)(v - m->e);
	if (!m->in[i] || m->pinned[i] || v->queue)
		return false;
	m->in[i] = false;
	m->n_in--;
	return true;
}

static bool step_model(struct model *m)
{
	uint64_t r = vf_test_rand(&m->seed);
	size_t i = r % N_MODEL * (r >> 40) % N_MODEL;
	unsigned op = r >> 20 & 15;

	m->now_s += (r >> 24 & 7) == 0;
	if (op == 0) {
		m->pinned[i] ^= true;
	} else if (op == 1 && m->in[i]) {
		vf_policy_remove(m->p, &m->e[i]);
		m->in[i] = false;
		m->n_in--;
	} else if (op == 2) {
		return drop_victim(m);
	} else if (m->in[i]) {
		vf_policy_hit(m->p, &m->e[i], (uint32_t)(r >> 32 & 3));
	} else {
		if (m->n_in >= N_TIER && !drop_victim(m))
			return false;
		vf_policy_insert(m->p, &m->e[i], i * 64, r >> 36 & 1, m->now_s);
		m->in[i] = true;
		m->n_in++;
	}
	return true;
}

static void run_model(const char *name, uint32_t ttl_s, uint64_t seed)
{
	VF_AUTO_FREE struct model *m = calloc(1, sizeof(*m));
	CU_ASSERT_PTR_NOT_NULL_FATAL(m);

	m->p = open_policy(name, N_TIER, ttl_s);
	m->seed = seed;
	for (int k = 0; k < 30000; k++)
		if (!step_model(m) || !is_valid(m->p, m->n_in)) {
			fprintf(stderr, "%s: seed %lu, step %d\n", name,
				(unsigned long)seed, k);
			CU_FAIL("the policy left its model");
			break;
		}
	vf_policy_close(m->p);
}

static void test_model(void)
{
	for (size_t i = 0; i < VF_N(names); i++)
		for (uint64_t seed = 1; seed <= 4; seed++)
			run_model(names[i], seed % 2 ? 0 : 200, seed);
}

/* ---- hit rates ----------------------------------------------------------- */

enum { N_ZIPF = 50000, N_CACHE = N_ZIPF / 10, N_REQUESTS = 1000000 };

struct replay {
	struct vf_policy *p;
	struct vf_policy_entry *e; /* [N_ZIPF + 5 * N_CACHE] */
	double *sum;		   /* [N_ZIPF], of the weights (i + 1)^-0.9 */
	size_t n;
	uint64_t seed;
};

static size_t draw_zipf(struct replay *r)
{
	double x = (double)(vf_test_rand(&r->seed) >> 11) / 0x1p53 *
		   r->sum[N_ZIPF - 1];
	size_t low = 0, high = N_ZIPF - 1;

	while (low < high) {
		size_t mid = (low + high) / 2;
		if (r->sum[mid] > x)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static void fill(struct replay *r, size_t i, unsigned flags)
{
	if (r->n == N_CACHE)
		vf_policy_victim(r->p, may_any, NULL, 0);
	else
		r->n++;
	vf_policy_insert(r->p, &r->e[i], i, flags, 0);
}

static double hit_rate(struct replay *r, size_t n_requests)
{
	size_t n_hit = 0;

	for (size_t k = 0; k < n_requests; k++) {
		size_t i = draw_zipf(r);
		if (r->e[i].queue) {
			vf_policy_hit(r->p, &r->e[i], 1);
			n_hit++;
		} else {
			fill(r, i, 0);
		}
	}
	return 100. * (double)n_hit / (double)n_requests;
}

static void start_replay(struct replay *r, const char *name)
{
	double total = 0;

	*r = (struct replay){.p = open_policy(name, N_CACHE, 0), .seed = 7};
	r->e = calloc(N_ZIPF + 5 * N_CACHE, sizeof(*r->e));
	r->sum = calloc(N_ZIPF, sizeof(*r->sum));
	CU_ASSERT_FATAL(r->e && r->sum);
	for (size_t i = 0; i < N_ZIPF; i++)
		r->sum[i] = total += pow((double)(i + 1), -0.9);
	hit_rate(r, N_REQUESTS / 2);
}

static void end_replay(struct replay *r)
{
	vf_policy_close(r->p);
	free(r->e);
	free(r->sum);
}

/* The bar of the cache: 8 points on Zipf 0.9 where a tenth fits. */
static void test_default_beats_lru(void)
{
	struct replay r;
	double def, lru;

	start_replay(&r, NULL);
	def = hit_rate(&r, N_REQUESTS);
	end_replay(&r);
	start_replay(&r, "lru");
	lru = hit_rate(&r, N_REQUESTS);
	end_replay(&r);
	if (def < lru + 8)
		fprintf(stderr, "default %.2f, lru %.2f\n", def, lru);
	CU_ASSERT(def >= lru + 8);
}

static double rate_after_scan(const char *name, bool scan, unsigned flags)
{
	struct replay r;
	double rate;

	start_replay(&r, name);
	for (size_t i = N_ZIPF; scan && i < N_ZIPF + 5 * N_CACHE; i++) {
		fill(&r, i, flags);
		vf_policy_hit(r.p, &r.e[i], flags ? 1 : 0);
	}
	rate = hit_rate(&r, N_CACHE);
	end_replay(&r);
	return rate;
}

static void test_scan_costs_little(void)
{
	for (size_t i = 0; i < VF_N(names); i++) {
		double usual = rate_after_scan(names[i], false, 0);
		double marked = rate_after_scan(names[i], true, VF_POLICY_SCAN);
		CU_ASSERT(usual - marked < 5);
		if (strcmp(names[i], "lru"))
			CU_ASSERT(usual - rate_after_scan(names[i], true, 0) <
				  5);
	}
}

static CU_TestInfo tests[] = {
	{"opens by name and refuses others", test_names},
	{"says so when there is no memory", test_no_memory},
	{"lru: least recent use leaves first", test_lru_order},
	{"lfu: least frequent use leaves first, then least recent",
	 test_lfu_order},
	{"lfu: a block that comes back goes on counting",
	 test_lfu_ghost_keeps_count},
	{"lfu: counts age", test_lfu_ages},
	{"s3fifo: used twice or come back goes to main", test_s3fifo_promotes},
	{"ghosts are bounded in number and age", test_ghosts_are_bounded},
	{"a marked scan leaves the hot set", test_scan},
	{"what is older than the ttl leaves first", test_ttl},
	{"many pinned blocks cost a bounded number of looks", test_many_pinned},
	{"all pinned: none leaves, until they may", test_all_pinned},
	{"random operations agree with a model", test_model},
	{"the default beats lru by 8 points on Zipf 0.9",
	 test_default_beats_lru},
	{"a scan of five caches costs under 5 points", test_scan_costs_little},
	CU_TEST_INFO_NULL};

VF_SUITE("store/policy", tests)
