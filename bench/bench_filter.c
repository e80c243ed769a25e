/*
 * Filters: postings built from the records of an index, then the same queries
 * under filters that leave less and less.
 *
 *     bench_filter DIR/INDEX QUERIES.npy [CACHE_DIR]
 *
 * The metadata have a number "r", evenly spread over 0..999: {"r":{"$lt":100}}
 * leaves a tenth.  Prints, for each share, the time to make the set of rows
 * once, latencies over the unfiltered ones, recall of ten against every row
 * scored exactly, whether there were always min(k, matching) hits, and, of an
 * index in a mount that nobody has read yet, the GETs of a query whose codes are
 * in memory and whose rows are not.  Exit status: 0 all at their bars, 1 not.
 */
#include <lmdb.h>
#include <stdio.h>

#include "index/index.h"
#include "query/query.h"
#include "store/catalog.h"
#include "store/npy.h"

enum { K = 10, QUERIES_MAX = 200, EXACT_MAX = 50, ROUNDS = 3 };

static double ms_since(uint64_t from_ns)
{
	return (double)(vf_now_ns() - from_ns) / 1e6;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* ---- building ------------------------------------------------------------------------ */

/* Bytes of the pages of the database of values. */
static size_t values_len(const char *dir)
{
	MDB_env *env = NULL;
	MDB_txn *txn = NULL;
	MDB_dbi dbi;
	MDB_stat st = {0};

	if (!mdb_env_create(&env) && !mdb_env_set_maxdbs(env, 5) &&
	    !mdb_env_open(env, dir, MDB_RDONLY, 0600) &&
	    !mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) &&
	    !mdb_dbi_open(txn, "values", 0, &dbi))
		mdb_stat(txn, dbi, &st);
	if (txn)
		mdb_txn_abort(txn);
	mdb_env_close(env);
	return (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) *
	       st.ms_psize;
}

static int build(const char *path, const char *cache_dir)
{
	VF_AUTO_FREE char *url = NULL, *index = NULL;
	char dir[512], hex[33];
	struct vf_bucket *b = NULL;
	struct vf_state *s = NULL;
	struct vf_catalog *c = NULL;
	int err = vf_target_split(path, &url, &index);

	if (!err)
		err = vf_bucket_open(url, NULL, &b);
	if (!err)
		err = vf_state_load(b, index, &s);
	if (!err)
		err = vf_catalog_open(cache_dir, s->uuid, &c);
	if (!err)
		err = vf_catalog_reset(c);
	uint64_t start = vf_now_ns();
	if (!err)
		err = vf_catalog_sync(c, &(struct vf_catalog_sync){.bucket = b,
								   .state = s});
	double built_ms = ms_since(start);
	vf_catalog_close(c);
	if (!err) {
		vf_hex(s->uuid, 16, hex);
		snprintf(dir, sizeof(dir), "%s/catalog-%s", cache_dir, hex);
		double each = (double)values_len(dir) / (double)s->n_rows;
		/* 20 s are of a million rows */
		double bar_s = 20e-6 * VF_MAX((double)s->n_rows, 1e6);
		printf("%llu rows: catalog with postings built in %.1f s (bar "
		       "%.0f), postings %.1f bytes per row (bar 64)  %s\n",
		       (unsigned long long)s->n_rows, built_ms / 1e3, bar_s,
		       each,
		       built_ms / 1e3 <= bar_s && each <= 64 ? "ok" : "MISS");
	}
	vf_state_free(s);
	vf_bucket_close(b);
	return err;
}

/* ---- searching ----------------------------------------------------------------------- */

struct queries {
	uint32_t n, dim;
	float *q;
};

static int read_queries(const char *path, struct queries *out)
{
	uint8_t head[VF_NPY_HEADER_MAX];
	const char *why = "cannot be read";
	struct vf_npy npy;
	FILE *f = fopen(path, "rb");
	size_t n = f ? fread(head, 1, sizeof(head), f) : 0;

	if (!n || vf_npy_parse(head, n, &npy, &why) || npy.dtype != VF_F32) {
		fprintf(stderr, "%s: %s\n", path, why);
		return -EINVAL;
	}
	out->n = (uint32_t)VF_MIN(npy.n_rows, (uint64_t)QUERIES_MAX);
	out->dim = npy.dim;
	size_t len = (size_t)out->n * npy.dim * sizeof(float);
	out->q = malloc(len);
	if (fseek(f, (long)npy.data_off, SEEK_SET) ||
	    fread(out->q, 1, len, f) != len)
		return -EIO;
	fclose(f);
	return 0;
}

struct outcome {
	double p50_ms, p99_ms, set_ms, recall;
	double rows, scanned;
	bool counts_right;
};

static double count_shared(const struct vf_answer *a, const struct vf_answer *b)
{
	double n = 0;

	for (size_t i = 0; i < a->n_hits; i++)
		for (size_t j = 0; j < b->n_hits; j++)
			n += !strcmp(a->hits[i].key, b->hits[j].key);
	return n;
}

static int measure_recall(struct vf_view *v, const struct queries *qs,
			  const char *filter, struct outcome *o)
{
	struct vf_search fast = {.k = K, .filter = filter}, exact = fast;
	uint32_t n = VF_MIN(qs->n, (uint32_t)EXACT_MAX);
	double found = 0, there = 0;

	exact.exact = true;
	o->counts_right = true;
	for (uint32_t i = 0; i < n; i++) {
		const float *q = qs->q + (size_t)i * qs->dim;
		struct vf_answer *a, *b;
		int err = vf_view_search(v, q, &fast, &a);
		if (!err)
			err = vf_view_search(v, q, &exact, &b);
		if (err)
			return err;
		found += count_shared(a, b);
		there += (double)b->n_hits;
		o->counts_right &= a->n_hits == b->n_hits && !a->partial;
		vf_answer_free(a);
		vf_answer_free(b);
	}
	o->recall = there ? found / there : 1;
	return 0;
}

static int measure(struct vf_view *v, const struct queries *qs,
		   const char *filter, struct outcome *o)
{
	struct vf_search s = {.k = K, .filter = filter};
	double ms[QUERIES_MAX];
	struct vf_answer *a;
	uint64_t at = vf_now_ns();
	int err = vf_view_search(v, qs->q, &s, &a);

	*o = (struct outcome){.set_ms = ms_since(at)};
	if (err)
		return err;
	vf_answer_free(a);
	err = measure_recall(v, qs, filter, o);
	for (int r = 0; !err && r < ROUNDS; r++)
		for (uint32_t i = 0; !err && i < qs->n; i++) {
			at = vf_now_ns();
			err = vf_view_search(v, qs->q + (size_t)i * qs->dim, &s,
					     &a);
			ms[i] = ms_since(at);
			if (err)
				break;
			o->rows += (double)a->cost.rows_read / qs->n / ROUNDS;
			o->scanned += (double)a->cost.scanned / qs->n / ROUNDS;
			vf_answer_free(a);
		}
	if (err)
		return err;
	qsort(ms, qs->n, sizeof(*ms), compare_doubles);
	o->p50_ms = ms[qs->n / 2];
	o->p99_ms = ms[qs->n * 99 / 100];
	return 0;
}

struct line {
	const char *share, *filter;
	double gets;
};

/* Each line's queries are its own: their rows have not been read before. */
static int count_gets(struct vf_view *v, const struct queries *qs,
		      struct line *line, size_t n_lines)
{
	uint32_t each = qs->n / (uint32_t)n_lines;
	int err = vf_view_load(v);

	for (size_t i = 0; i < n_lines; i++) {
		struct vf_search s = {.k = K, .filter = line[i].filter};
		for (uint32_t k = 0; !err && k < each; k++) {
			const float *q = qs->q + (i * each + k) * qs->dim;
			struct vf_answer *a;
			err = vf_view_search(v, q, &s, &a);
			if (err)
				return err;
			line[i].gets += (double)a->cost.gets / each;
			vf_answer_free(a);
		}
	}
	return err;
}

/* What misses its bar: "ok" when nothing does. */
static const char *judge(const struct line *l, const struct outcome *o,
			 double base_ms)
{
	if (!o->counts_right)
		return "MISS: not min(k, matching)";
	if (l->filter && o->recall < .97)
		return "MISS: recall .97";
	if (o->p50_ms > 2 * base_ms)
		return "MISS: 2 x";
	return l->gets > 30 ? "MISS: 30 GETs" : "ok";
}

static int run(struct vf_view *v, const struct queries *qs)
{
	struct line lines[] = {{"all", NULL, 0},
			       {"50 %", "{\"r\":{\"$lt\":500}}", 0},
			       {"10 %", "{\"r\":{\"$lt\":100}}", 0},
			       {"1 %", "{\"r\":{\"$gte\":500,\"$lt\":510}}", 0},
			       {"0.1 %", "{\"r\":7}", 0}};
	int err = count_gets(v, qs, lines, VF_N(lines)), missed = 0;
	double base_ms = 0;

	printf("%-6s %9s %8s %8s %6s %8s %8s %7s %6s\n", "share", "first ms",
	       "p50 ms", "p99 ms", "ratio", "recall", "scanned", "rows",
	       "GETs");
	for (size_t i = 0; !err && i < VF_N(lines); i++) {
		struct outcome o;
		err = measure(v, qs, lines[i].filter, &o);
		if (err)
			break;
		base_ms = i ? base_ms : o.p50_ms;
		const char *verdict = judge(&lines[i], &o, base_ms);
		printf("%-6s %9.2f %8.3f %8.3f %6.2f %8.4f %8.0f %7.1f %6.1f  "
		       "%s\n",
		       lines[i].share, o.set_ms, o.p50_ms, o.p99_ms,
		       o.p50_ms / base_ms, o.recall, o.scanned, o.rows,
		       lines[i].gets, verdict);
		missed |= strcmp(verdict, "ok") != 0;
	}
	return err ? 1 : missed;
}

int main(int argc, char **argv)
{
	struct vf_view_options opt = {.cache_dir = argc > 3 ? argv[3] : ""};
	struct queries qs = {0};
	struct vf_view *v = NULL;
	int rc;

	if (argc < 3 || argc > 4) {
		fputs("usage: bench_filter DIR/INDEX QUERIES.npy "
		      "[CACHE_DIR]\n",
		      stderr);
		return 2;
	}
	rc = argc > 3 ? build(argv[1], argv[3]) : 0;
	if (!rc)
		rc = vf_guard_install();
	if (!rc)
		rc = vf_view_open(argv[1], &opt, &v);
	if (!rc)
		rc = read_queries(argv[2], &qs);
	if (!rc)
		rc = run(v, &qs);
	vf_view_close(v);
	free(qs.q);
	return rc ? 1 : 0;
}
