/*
 * Postings against the plain evaluator: whatever the metadata and the filter,
 * the same rows.
 */
#include "store/catalog_impl.h"
#include "store/postings.h"
#include "tests/random_filter.h"
#include "tests/test.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CASES = 5000 };
#else
enum { CASES = 100000 };
#endif
enum { ROWS_MAX = 6000 };

/* ---- a place ------------------------------------------------------------------------ */

struct rig {
	MDB_env *env;
	MDB_dbi dbi;
	struct vf_postings *p;
	uint32_t place, n_rows;
	struct vf_buf rows[ROWS_MAX]; /* metadata; empty: was dead */
};

static void open_rig(struct rig *r, size_t run_len)
{
	MDB_txn *txn;

	*r = (struct rig){0};
	CU_ASSERT_EQUAL_FATAL(mdb_env_create(&r->env), 0);
	mdb_env_set_mapsize(r->env, 256 << 20);
	CU_ASSERT_EQUAL_FATAL(
		mdb_env_open(r->env, vf_test_dir(), MDB_NOSYNC, 0600), 0);
	mdb_txn_begin(r->env, NULL, 0, &txn);
	mdb_dbi_open(txn, NULL, 0, &r->dbi);
	mdb_txn_commit(txn);
	CU_ASSERT_EQUAL_FATAL(vf_postings_new(NULL, 0, run_len, &r->p), 0);
}

static void close_rig(struct rig *r)
{
	for (uint32_t i = 0; i < ROWS_MAX; i++)
		vf_buf_fini(&r->rows[i]);
	vf_postings_free(r->p);
	mdb_env_close(r->env);
}

/* A new place of @n rows, one in ten of them dead. */
static void fill_place(struct rig *r, uint32_t n, uint64_t *seed)
{
	struct vf_postings_to to = {.dbi = r->dbi, .place = ++r->place};

	r->n_rows = n;
	mdb_txn_begin(r->env, NULL, 0, &to.txn);
	for (uint32_t i = 0; i < n; i++) {
		struct vf_buf *b = &r->rows[i];
		b->len = 0;
		if (vf_test_rand(seed) % 10 == 0)
			continue;
		vf_random_metadata(seed, b);
		CU_ASSERT_EQUAL_FATAL(vf_postings_add(r->p, &to, i,
						      (char *)b->data, b->len),
				      0);
	}
	CU_ASSERT_EQUAL_FATAL(vf_postings_finish(r->p, &to), 0);
	mdb_txn_commit(to.txn);
}

static int select_rows(struct rig *r, const struct vf_filter *f, uint64_t *bits)
{
	struct vf_postings_to at = {.dbi = r->dbi, .place = r->place};

	mdb_txn_begin(r->env, NULL, MDB_RDONLY, &at.txn);
	int err = vf_postings_select(&at, r->n_rows, f, bits);
	mdb_txn_abort(at.txn);
	return err;
}

/* Whether the two ways agree on every row that lives. */
static bool agree(struct rig *r, const char *json, size_t len,
		  struct vf_buf *scratch)
{
	uint64_t bits[ROWS_MAX / 64 + 1];
	char why[VF_FILTER_WHY_LEN];
	struct vf_filter *f;
	bool same = true;

	if (vf_filter_parse(json, len, &f, why)) {
		fprintf(stderr, "%.*s: %s\n", (int)len, json, why);
		return false;
	}
	if (select_rows(r, f, bits))
		same = false;
	for (uint32_t i = 0; same && i < r->n_rows; i++) {
		const struct vf_buf *b = &r->rows[i];
		if (!b->len)
			continue;
		int want = vf_filter_match(f, (char *)b->data, b->len, scratch);
		same = want == (int)(bits[i / 64] >> i % 64 & 1);
		if (!same)
			fprintf(stderr, "%.*s of %.*s: %d\n", (int)len, json,
				(int)b->len, b->data, want);
	}
	if (r->n_rows % 64)
		same &= !(bits[r->n_rows / 64] >> r->n_rows % 64);
	vf_filter_free(f);
	return same;
}

static uint32_t run_cases(struct rig *r, uint32_t n, uint64_t *seed)
{
	VF_AUTO_BUF struct vf_buf json = {0}, scratch = {0};
	uint32_t n_wrong = 0;

	for (uint32_t i = 0; i < n; i++) {
		json.len = 0;
		vf_random_filter(seed, &json);
		n_wrong += !agree(r, (char *)json.data, json.len, &scratch);
	}
	return n_wrong;
}

static void random_filters_agree(void)
{
	uint64_t seed = 7;
	struct rig r;

	open_rig(&r, 0);
	for (int i = 0; i < CASES / 500; i++) {
		uint32_t n = 1 + (uint32_t)(vf_test_rand(&seed) % 12);
		uint64_t from = seed;
		fill_place(&r, n, &seed);
		uint32_t n_wrong = run_cases(&r, 500, &seed);
		CU_ASSERT_EQUAL(n_wrong, 0);
		if (n_wrong)
			fprintf(stderr, "seed %llu\n",
				(unsigned long long)from);
	}
	close_rig(&r);
}

/* Many rows: several blocks a key, lists and bits of rows. */
static void large_places_agree(void)
{
	uint64_t seed = 11;
	struct rig r;

	open_rig(&r, 0);
	fill_place(&r, ROWS_MAX, &seed);
	CU_ASSERT_EQUAL(run_cases(&r, CASES / 1000, &seed), 0);
	close_rig(&r);
}

static void what_does_not_fit_in_memory_agrees(void)
{
	uint64_t seed = 13;
	struct rig r;

	open_rig(&r, 4096);
	for (int i = 0; i < 3; i++) {
		fill_place(&r, 700, &seed);
		CU_ASSERT_EQUAL(run_cases(&r, CASES / 500, &seed), 0);
	}
	close_rig(&r);
}

/* ---- the rest ------------------------------------------------------------------------ */

static size_t count_entries(struct rig *r)
{
	MDB_stat stat;
	MDB_txn *txn;

	mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn);
	mdb_stat(txn, r->dbi, &stat);
	mdb_txn_abort(txn);
	return stat.ms_entries;
}

static void a_forgotten_place_leaves_nothing(void)
{
	struct vf_postings_to to;
	uint64_t seed = 17;
	struct rig r;

	open_rig(&r, 4096);
	fill_place(&r, 50, &seed);
	size_t before = count_entries(&r);
	fill_place(&r, 900, &seed);
	to = (struct vf_postings_to){.dbi = r.dbi, .place = r.place};
	mdb_txn_begin(r.env, NULL, 0, &to.txn);
	CU_ASSERT_EQUAL(vf_postings_forget(&to), 0);
	mdb_txn_commit(to.txn);
	CU_ASSERT_EQUAL(count_entries(&r), before);
	close_rig(&r);
}

/* Flip a byte of one value after another: an error, or what is right. */
static void damage_is_found(void)
{
	uint64_t seed = 19, bits[ROWS_MAX / 64 + 1], want[ROWS_MAX / 64 + 1];
	static const char json[] = "{\"n\":{\"$gte\":0},\"s\":{\"$ne\":\"a\"}}";
	char why[VF_FILTER_WHY_LEN];
	struct vf_filter *f;
	struct rig r;

	open_rig(&r, 0);
	fill_place(&r, 200, &seed);
	CU_ASSERT_EQUAL_FATAL(vf_filter_parse(json, sizeof(json) - 1, &f, why),
			      0);
	CU_ASSERT_EQUAL(select_rows(&r, f, want), 0);
	for (int i = 0; i < 200; i++) {
		MDB_cursor *cursor;
		MDB_txn *txn;
		MDB_val k, v;
		mdb_txn_begin(r.env, NULL, 0, &txn);
		mdb_cursor_open(txn, r.dbi, &cursor);
		mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
		for (uint64_t n = vf_test_rand(&seed) % 8; n; n--)
			mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
		VF_AUTO_FREE uint8_t *p = malloc(v.mv_size);
		memcpy(p, v.mv_data, v.mv_size);
		size_t at = vf_test_rand(&seed) % v.mv_size;
		v.mv_data = p;
		p[at] ^= (uint8_t)(1 << i % 8);
		mdb_cursor_put(cursor, &k, &v, MDB_CURRENT);
		mdb_cursor_close(cursor);
		mdb_txn_commit(txn);
		int err = select_rows(&r, f, bits);
		CU_ASSERT(err == -EUCLEAN ||
			  (!err && !memcmp(bits, want, 200 / 8)));
		p[at] ^= (uint8_t)(1 << i % 8);
		mdb_txn_begin(r.env, NULL, 0, &txn);
		mdb_put(txn, r.dbi, &k, &v, 0);
		mdb_txn_commit(txn);
	}
	vf_filter_free(f);
	close_rig(&r);
}

static void unwanted_keys_are_left_out(void)
{
	const char *const skip[] = {"n", "s"};
	uint64_t seed = 23;
	struct rig r;

	open_rig(&r, 0);
	fill_place(&r, 100, &seed);
	size_t all = count_entries(&r);
	vf_postings_free(r.p);
	CU_ASSERT_EQUAL_FATAL(vf_postings_new(skip, 2, 0, &r.p), 0);
	fill_place(&r, 100, &seed);
	CU_ASSERT_EQUAL(count_entries(&r), 2 * all - 2);
	close_rig(&r);
}

static CU_TestInfo tests[] = {
	{"random filters agree with the evaluator", random_filters_agree},
	{"large places agree", large_places_agree},
	{"what does not fit in memory agrees",
	 what_does_not_fit_in_memory_agrees},
	{"a forgotten place leaves nothing", a_forgotten_place_leaves_nothing},
	{"damage is found", damage_is_found},
	{"unwanted keys are left out", unwanted_keys_are_left_out},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/postings", tests);
