/*
 * Filters against their bars: postings built from the records of an index, and
 * the same queries under filters that leave less and less.
 * `bench_filter --help` tells the rest.
 *
 * Warm, the index lies in a local folder.  Cold, it lies in s3sim and is read
 * through a mount; the catalog, which is a local file, is warm in both.  The
 * metadata have a number "r", random in 0..999: {"r":{"$lt":100}}
 * leaves a tenth.
 */
#include <fcntl.h>
#include <getopt.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bench/mount_rig.h"
#include "query/query.h"
#include "store/catalog.h"
#include "tools/matrix.h"

static const char help[] =
	"usage: bench_filter [options]\n"
	"\n"
	"Makes vectors with five fields of metadata, puts them into a local bucket\n"
	"and into s3sim, and searches under filters that leave 50, 10, 1 and .1 %;\n"
	"each result stands beside its bar, the exit status is 1 when one is missed.\n"
	"\n"
	"  --rows N         (100000)\n"
	"  --dim N          (1024)\n"
	"  --bits N         of the codes (5)\n"
	"  --queries N      warm, each three times (200)\n"
	"  --exact N        of them are compared with every row scored (50)\n"
	"  --cold N         queries of each filter where the rows are cold (20)\n"
	"  --rounds N       of a cold process, medians are printed (3)\n"
	"  --latency-ms N   of a GET, where the bucket is asked (30)\n"
	"  --dir DIR        for everything that is made (TMPDIR, /tmp)\n"
	"  --keep DIR       keep vectors, metadata and both buckets there; what is\n"
	"                   there is used, so say the same --rows and --dim\n"
	"  --help\n";

#define INDEX "filtered"

enum { K = 10, QUERIES_MAX = 1000, ROUNDS = 3 };

static struct {
	uint32_t rows, dim, bits, exact, cold;
	uint32_t queries;
	struct vf_matrix q;
	const char *keep; /* folder of what is made, or NULL */
} set = {100000, 1024, 5, 50, 20, 200, {0}, NULL};

/* ---- making ------------------------------------------------------------------------------- */

static void path_in(const char *name, char out[BENCH_PATH])
{
	snprintf(out, BENCH_PATH, "%s/%s", set.keep ? set.keep : bench.dir,
		 name);
}

static void make_vectors(const char *base, const char *queries)
{
	char rows[16], dim[16], n[16];

	snprintf(rows, sizeof(rows), "%u", set.rows);
	snprintf(dim, sizeof(dim), "%u", set.dim);
	snprintf(n, sizeof(n), "%u", set.queries);
	bench_tool((const char *const[]){
		"gen", "--rows", rows, "--dim", dim, "--queries", n, "--seed",
		"7", "--queries-out", queries, "-q", base, NULL});
}

static void make_metadata(const char *path)
{
	static const char *const colors[] = {"red",   "green", "blue",
					     "white", "black", "grey"};
	FILE *f = fopen(path, "we");
	uint64_t seed = 7;

	if (!f)
		bench_fail(path);
	for (uint32_t i = 0; i < set.rows; i++) {
		uint64_t z = vf_splitmix64(&seed);
		fprintf(f,
			"{\"r\":%u,\"color\":\"%s\",\"year\":%u,\"new\":%s,"
			"\"tags\":[\"t%u\",\"t%u\"]}\n",
			(unsigned)(z % 1000), colors[z / 1000 % VF_N(colors)],
			(unsigned)(1900 + (z >> 20) % 125),
			z >> 30 & 1 ? "true" : "false",
			(unsigned)((z >> 32) % 11),
			(unsigned)(11 + (z >> 40) % 13));
	}
	if (ferror(f) | fclose(f))
		bench_fail(path);
}

static void put_set(const char *bucket, const char *base, const char *metadata)
{
	char index[BENCH_PATH + 16], bits[16], cache[BENCH_PATH];

	snprintf(index, sizeof(index), "%s/" INDEX, bucket);
	snprintf(bits, sizeof(bits), "%u", set.bits);
	path_in("put-cache", cache);
	bench_tool((const char *const[]){
		"put", index, base, "--metadata", metadata, "--bits", bits,
		"--seed", "1", "--cache-dir", cache, "-q", NULL});
}

static void make_set(void)
{
	char base[BENCH_PATH], queries[BENCH_PATH], metadata[BENCH_PATH];
	char local[BENCH_PATH];

	path_in("base.npy", base);
	path_in("queries.npy", queries);
	path_in("metadata.jsonl", metadata);
	path_in("local", local);
	if (access(local, R_OK)) {
		make_vectors(base, queries);
		make_metadata(metadata);
		if (mkdir(local, 0700))
			bench_fail(local);
		put_set(local, base, metadata);
		put_set(bench.url, base, metadata);
		unlink(metadata);
		unlink(base);
	}
	errno = EINVAL;
	if (vf_matrix_read(queries, set.queries, &set.q))
		bench_fail(queries);
	if (set.q.dim != set.dim || set.q.n < set.queries)
		bench_fail(queries);
}

/* ---- postings --------------------------------------------------------------------------- */

static double ms_since(uint64_t from_ns)
{
	return (double)(vf_now_ns() - from_ns) / 1e6;
}

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

static int build_catalog(const char *path, const char *cache_dir,
			 struct vf_state **out, double *out_ms)
{
	VF_AUTO_FREE char *url = NULL, *index = NULL;
	struct vf_bucket *b = NULL;
	struct vf_catalog *c = NULL;
	int err = vf_target_split(path, &url, &index);

	if (!err)
		err = vf_bucket_open(url, NULL, &b);
	if (!err)
		err = vf_state_load(b, index, out);
	if (!err)
		err = vf_catalog_open(cache_dir, (*out)->uuid, &c);
	if (!err)
		err = vf_catalog_reset(c);
	uint64_t start = vf_now_ns();
	if (!err)
		err = vf_catalog_sync(c, &(struct vf_catalog_sync){
						 .bucket = b, .state = *out});
	*out_ms = ms_since(start);
	vf_catalog_close(c);
	vf_bucket_close(b);
	return err;
}

static void postings(const char *path, const char *cache_dir)
{
	struct vf_state *s = NULL;
	char dir[BENCH_PATH], hex[33];
	double ms;

	errno = EIO;
	if (build_catalog(path, cache_dir, &s, &ms))
		bench_fail(path);
	vf_hex(s->uuid, 16, hex);
	snprintf(dir, sizeof(dir), "%.4000s/catalog-%s", cache_dir, hex);
	/* The bar of 20 s is of a million rows. */
	bench_result("catalog with postings built in", ms / 1e3, "s",
		     BENCH_AT_MOST, 20e-6 * VF_MAX((double)s->n_rows, 1e6));
	bench_result("postings, bytes of a row",
		     (double)values_len(dir) / (double)s->n_rows, "",
		     BENCH_AT_MOST, 64);
	vf_state_free(s);
}

/* ---- asking ------------------------------------------------------------------------------- */

struct share {
	const char *name, *filter;
};

static const struct share shares[] = {
	{"all", NULL},
	{"50 %", "{\"r\":{\"$lt\":500}}"},
	{"10 %", "{\"r\":{\"$lt\":100}}"},
	{"1 %", "{\"r\":{\"$gte\":500,\"$lt\":510}}"},
	{"0.1 %", "{\"r\":7}"},
};

static struct vf_view *open_view(const char *folder, const char *cache_dir)
{
	const struct vf_view_options opt = {.cache_dir = cache_dir};
	char path[BENCH_PATH + 16];
	struct vf_view *v;

	snprintf(path, sizeof(path), "%s/" INDEX, folder);
	errno = EIO;
	if (vf_view_open(path, &opt, &v))
		bench_fail(path);
	return v;
}

static struct vf_answer *ask(struct vf_view *v, size_t query,
			     struct vf_search s)
{
	struct vf_answer *a;

	s.k = K;
	errno = EIO;
	if (vf_view_search(v, set.q.x + query % set.q.n * set.dim, &s, &a))
		bench_fail("search");
	return a;
}

/* ---- warm --------------------------------------------------------------------------------- */

static double count_shared(const struct vf_answer *a, const struct vf_answer *b)
{
	double n = 0;

	for (size_t i = 0; i < a->n_hits; i++)
		for (size_t j = 0; j < b->n_hits; j++)
			n += !strcmp(a->hits[i].key, b->hits[j].key);
	return n;
}

static void warm_recall(struct vf_view *v, const struct share *share)
{
	struct vf_search fast = {.filter = share->filter}, exact = fast;
	double found = 0, there = 0, wrong = 0;

	exact.exact = true;
	for (uint32_t i = 0; i < set.exact; i++) {
		struct vf_answer *a = ask(v, i, fast), *b = ask(v, i, exact);
		found += count_shared(a, b);
		there += (double)b->n_hits;
		wrong += a->n_hits != b->n_hits || a->partial;
		vf_answer_free(a);
		vf_answer_free(b);
	}
	bench_result("  recall of ten", there ? found / there : 1, "",
		     share->filter ? BENCH_AT_LEAST : BENCH_NO_BAR, .97);
	if (share->filter)
		bench_result("  queries without min(k, matching) hits", wrong,
			     "", BENCH_AT_MOST, 0);
}

/* p50 of all queries; @base_ms: that of no filter, 0: this is it. */
static double warm_times(struct vf_view *v, const struct share *share,
			 double base_ms)
{
	double *ms = calloc(set.queries, sizeof(*ms)), rows = 0, scanned = 0;

	if (!ms)
		bench_fail("memory");
	for (int r = 0; r < ROUNDS; r++)
		for (uint32_t i = 0; i < set.queries; i++) {
			struct vf_search s = {.filter = share->filter};
			uint64_t at = vf_now_ns();
			struct vf_answer *a = ask(v, i, s);
			ms[i] = ms_since(at);
			rows += (double)a->cost.rows_read;
			scanned += (double)a->cost.scanned;
			vf_answer_free(a);
		}
	double p50 = bench_median(ms, set.queries), n = ROUNDS * set.queries;
	bench_note("  p50 %.3f, p99 %.3f ms; %.0f rows scanned, %.1f read", p50,
		   ms[set.queries * 99 / 100], scanned / n, rows / n);
	if (base_ms > 0)
		bench_result("  p50, times that of no filter", p50 / base_ms,
			     "", BENCH_AT_MOST, 2);
	free(ms);
	return p50;
}

static void warm(const char *local, const char *cache_dir)
{
	struct vf_view *v = open_view(local, cache_dir);
	double base_ms = 0;

	for (size_t i = 0; i < VF_N(shares); i++) {
		struct vf_search s = {.filter = shares[i].filter};
		uint64_t at = vf_now_ns();
		vf_answer_free(ask(v, 0, s));
		bench_note("warm, %s: the first took %.2f ms", shares[i].name,
			   ms_since(at));
		warm_recall(v, &shares[i]);
		double ms = warm_times(v, &shares[i], base_ms);
		base_ms = i ? base_ms : ms;
	}
	vf_view_close(v);
}

/* ---- cold --------------------------------------------------------------------------------- */

/* Rows in the bucket, codes and catalog at hand; each share anew. */
static double cold_rows(const struct share *share, const char *cache_dir,
			double base_ms)
{
	double *ms = calloc(set.cold, sizeof(*ms)), most = 0, rounds = 0;
	struct vf_search s = {.filter = share->filter};

	if (!ms)
		bench_fail("memory");
	bench_mount("name_ttl_ms=60000,ram=2G");
	struct vf_view *v = open_view(bench.mnt, cache_dir);
	if (vf_view_load(v))
		bench_fail("codes");
	bench_set_latency(bench.latency_ms);
	bench_reset_counts();
	for (uint32_t i = 0; i < set.cold; i++) {
		struct vf_answer *a = ask(v, i, s);
		ms[i] = a->cost.total_ms;
		most = VF_MAX(most, (double)a->cost.gets);
		rounds = VF_MAX(rounds, (double)a->cost.rounds);
		vf_answer_free(a);
	}
	double gets = (double)bench_counts().get / set.cold;
	double p50 = bench_median(ms, set.cold);
	bench_set_latency(0);
	bench_note("rows cold, codes warm, %s: p50 %.1f ms, %.0f GETs at most, "
		   "%.0f rounds at most",
		   share->name, p50, most, rounds);
	bench_result("  GETs that the server saw, mean", gets, "",
		     BENCH_AT_MOST, 30);
	if (base_ms > 0)
		bench_result("  p50, times that of no filter", p50 / base_ms,
			     "", BENCH_AT_MOST, 2);
	vf_view_close(v);
	bench_unmount();
	free(ms);
	return p50;
}

/* Mount, codes and rows cold, opening included; there is no bar. */
static void cold_process(const struct share *share, const char *cache_dir)
{
	double ms[BENCH_ROUNDS_MAX], requests = 0, bytes = 0;

	for (unsigned i = 0; i < bench.rounds; i++) {
		bench_mount("name_ttl_ms=60000");
		bench_set_latency(bench.latency_ms);
		bench_reset_counts();
		uint64_t at = vf_now_ns();
		struct vf_view *v = open_view(bench.mnt, cache_dir);
		struct vf_search s = {.filter = share->filter};
		vf_answer_free(ask(v, i, s));
		vf_view_close(v);
		ms[i] = ms_since(at);
		struct bench_counts c = bench_counts();
		requests = VF_MAX(requests, (double)c.all);
		bytes = VF_MAX(bytes, (double)c.bytes / 1e6);
		bench_set_latency(0);
		bench_unmount();
	}
	bench_note("all cold, opening included, %s: p50 %.0f ms, %.0f requests "
		   "and %.1f MB at most",
		   share->name, bench_median(ms, bench.rounds), requests,
		   bytes);
}

static void cold(const char *cache_dir)
{
	double base_ms = 0;

	bench_mount("");
	struct vf_view *v = open_view(bench.mnt, cache_dir);
	vf_answer_free(ask(v, 0, (struct vf_search){.filter = "{\"r\":7}"}));
	vf_view_close(v);
	bench_unmount();
	for (size_t i = 0; i < VF_N(shares); i++) {
		double ms = cold_rows(&shares[i], cache_dir, base_ms);
		base_ms = i ? base_ms : ms;
	}
	for (size_t i = 0; i < VF_N(shares); i++)
		cold_process(&shares[i], cache_dir);
}

/* ---- options ------------------------------------------------------------------------------ */

static const struct option options[] = {
	{"rows", required_argument, NULL, 'n'},
	{"dim", required_argument, NULL, 'd'},
	{"bits", required_argument, NULL, 'b'},
	{"queries", required_argument, NULL, 'q'},
	{"exact", required_argument, NULL, 'e'},
	{"cold", required_argument, NULL, 'c'},
	{"rounds", required_argument, NULL, 'r'},
	{"latency-ms", required_argument, NULL, 'l'},
	{"dir", required_argument, NULL, 'D'},
	{"keep", required_argument, NULL, 'k'},
	{"help", no_argument, NULL, 'h'},
	{0}};

static const char *parse_options(int argc, char **argv)
{
	const char *dir = NULL;
	int opt;

	bench.rounds = 3;
	bench.latency_ms = 30;
	bench.len = 1 << 20;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (opt) {
		case 'n':
			set.rows = bench_number(optarg, 10000, 10000000);
			break;
		case 'd':
			set.dim = bench_number(optarg, VF_DIM_MIN, VF_DIM_MAX);
			break;
		case 'b':
			set.bits = bench_number(optarg, 1, 8);
			break;
		case 'q':
			set.queries = bench_number(optarg, 10, QUERIES_MAX);
			break;
		case 'e':
			set.exact = bench_number(optarg, 1, QUERIES_MAX);
			break;
		case 'c':
			set.cold = bench_number(optarg, 1, QUERIES_MAX);
			break;
		case 'r':
			bench.rounds =
				bench_number(optarg, 1, BENCH_ROUNDS_MAX);
			break;
		case 'l':
			bench.latency_ms = bench_number(optarg, 0, 10000);
			break;
		case 'D':
			dir = optarg;
			break;
		case 'k':
			set.keep = optarg;
			bench_keep(optarg);
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	return dir;
}

int main(int argc, char **argv)
{
	char local[BENCH_PATH], index[BENCH_PATH + 16], cache[BENCH_PATH];
	const char *dir = parse_options(argc, argv);

	vf_log_name("bench_filter");
	if (vf_guard_install())
		bench_fail("SIGBUS");
	bench_open(dir);
	bench_serve(false);
	printf("%u rows of %u dimensions, %u bits, 5 fields; %u queries, GETs "
	       "of %u ms\n",
	       set.rows, set.dim, set.bits, set.queries, bench.latency_ms);
	fflush(stdout);
	make_set();
	path_in("local", local);
	path_in("cache", cache);
	snprintf(index, sizeof(index), "%s/" INDEX, local);
	postings(index, cache);
	warm(local, cache);
	cold(cache);
	free(set.q.x);
	return bench.missed;
}
