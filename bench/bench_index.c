/*
 * The index against its bars, all in one run.  `bench_index --help` tells the
 * rest.  Times are of one thread, everything in the page cache; a time without
 * its recall says nothing, so each is that of the fewest leaves that reach it.
 */
#include "bench/index_rig.h"

#include <getopt.h>
#include <stdio.h>

#include "index/index.h"
#include "index/kernels.h"

static const char help[] =
	"usage: bench_index [options]\n"
	"\n"
	"Makes vectors as vectool gen does, puts them into a local bucket and asks;\n"
	"each result stands beside its bar, the exit status is 1 when one is missed.\n"
	"\n"
	"  --rows N     (100000; bars of times are for 100000 and 1000000)\n"
	"  --full       100000 rows, then 1000000: every bar there is; takes some\n"
	"               15 minutes, 12 GB and memory for the larger index\n"
	"  --dim N      (1024)\n"
	"  --queries N  (200)\n"
	"  --data DIR   folders of real sets, each with base.npy, queries.npy,\n"
	"               gt_cosine.npy and gt_l2.npy (../shared/data, if there)\n"
	"  --only PART  sets, speed, flat, shards, order or build\n"
	"  --dir DIR    for everything that is made (TMPDIR, /tmp)\n"
	"  --help\n";

static struct {
	uint64_t rows, dim, queries;
	const char *data, *only, *dir;
	bool full;
} opt = {100000, 1024, 200, "../shared/data", NULL, NULL, false};

static char base[BENCH_PATH];
static struct bench_exam exam;

static bool wants(const char *part)
{
	return !opt.only || !strcmp(opt.only, part);
}

/* ---- the generated set ------------------------------------------------------------------- */

static void make_base(void)
{
	char queries[BENCH_PATH], rows[24], dim[24], n[24];

	bench_path("base.npy", base);
	bench_path("queries.npy", queries);
	snprintf(rows, sizeof(rows), "%llu", (unsigned long long)opt.rows);
	snprintf(dim, sizeof(dim), "%llu", (unsigned long long)opt.dim);
	snprintf(n, sizeof(n), "%llu", (unsigned long long)opt.queries);
	bench_tool((const char *const[]){
		"gen", "--rows", rows, "--dim", dim, "--seed", "7", "--queries",
		n, "--queries-out", queries, "-q", base, NULL});
	errno = EIO;
	if (vf_matrix_read(queries, SIZE_MAX, &exam.q))
		bench_fail(queries);
	bench_truth(base, VF_COSINE, &exam);
}

/* Rows @order[0..n) of the base, or its n from @first, as a file. */
static void write_rows(const char *name, const float *x, const uint32_t *order,
		       uint64_t first, uint64_t n)
{
	struct vf_npy npy = {.dtype = VF_F32, .n_rows = n, .dim = opt.dim};
	uint8_t header[VF_NPY_DATA_OFF];
	char path[BENCH_PATH];

	bench_path(name, path);
	FILE *f = fopen(path, "we");
	if (!f)
		bench_fail(path);
	vf_npy_header(&npy, header);
	fwrite(header, 1, sizeof(header), f);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t row = order ? order[first + i] : first + i;
		fwrite(x + row * opt.dim, sizeof(float), opt.dim, f);
	}
	if (fclose(f))
		bench_fail(path);
}

/* ---- parts --------------------------------------------------------------------------------- */

static void build(void)
{
	bool full = opt.rows >= 1000000;
	double s[3];
	long rss = 0;

	for (int i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof(name), i ? "again%d" : "tree", i);
		struct bench_put p = bench_put(
			name, base, (const char *const[]){"--seed", "7", NULL});
		s[i] = p.s;
		rss = VF_MAX(rss, p.rss_kib);
		if (full) {
			s[1] = s[2] = s[0];
			break;
		}
	}
	bench_result("build with two threads, committed", bench_median(s, 3),
		     "s", BENCH_AT_MOST, full ? 50 : 5);
	bench_result("  peak RSS", (double)rss / 1024, "MiB", BENCH_AT_MOST,
		     2048);
}

/* GB/s of one thread that sums memory far larger than the caches. */
static double read_bandwidth(void)
{
	enum { LEN = 256 << 20 };
	VF_AUTO_FREE uint8_t *p = malloc(LEN);
	double best = 0;

	if (!p)
		bench_fail("memory");
	memset(p, 1, LEN);
	for (int round = 0; round < 5; round++) {
		uint64_t start = vf_now_ns();
		const uint64_t *at = (const uint64_t *)p;
		uint64_t sum = 0;
		for (size_t i = 0; i < LEN / sizeof(*at); i += 8)
			sum += at[i];
		double s = (double)(vf_now_ns() - start) / 1e9;
		if (sum) /* else it would not be read */
			best = VF_MAX(best, LEN / s / 1e9);
	}
	return best;
}

static void scan_all(struct vf_view *v)
{
	const struct vf_search all = {.probes = VF_PROBES_ALL,
				      .candidates = 50};
	struct bench_found f = bench_ask(v, &exam, all, 3);
	double gb = (double)opt.rows * (double)(opt.dim / 8 + 16) / 1e9;
	double ms = gb / read_bandwidth() * 1e3;

	bench_note("codes and factors of all rows: %.1f MB, read in %.2f ms",
		   gb * 1e3, ms);
	if (opt.rows >= 1000000)
		bench_result("all rows scanned, times the reading of memory",
			     f.scan_ms / ms, "x", BENCH_AT_MOST, 1.2);
	else
		bench_result("all rows scanned, one thread", f.scan_ms, "ms",
			     BENCH_AT_MOST, 1.8 * (double)opt.rows / 1e5);
}

static void reach_all(struct vf_view *v)
{
	static const double small[][2] = {{.90, .5}, {.93, 1}};
	static const double large[][2] = {{.92, .5}, {.945, .9}, {.955, 1.6}};
	bool full = opt.rows >= 1000000;
	size_t n = full ? VF_N(large) : VF_N(small);

	for (size_t i = 0; i < n; i++) {
		double recall = full ? large[i][0] : small[i][0];
		struct bench_found best = {0};
		char what[64];
		for (uint32_t c = 20; c <= 50; c += 10) {
			struct bench_found f = bench_reach(v, &exam, recall, c);
			if (f.recall >= recall &&
			    (!best.p50_ms || f.p50_ms < best.p50_ms))
				best = f;
		}
		snprintf(what, sizeof(what), "recall %.3f: p50", recall);
		bench_note(
			"recall %.4f: %.0f rows scanned, %.0f read; rows and "
			"keys took %.2f ms",
			best.recall, best.scanned, best.read, best.fetch_ms);
		bench_result(what, best.p50_ms, "ms", BENCH_AT_MOST,
			     full ? large[i][1] : small[i][1]);
	}
}

/* Rows scanned for .92 of the true ten, a query's median with it. */
static struct bench_found find_92(const char *name)
{
	struct vf_view *v = bench_view(name);
	struct bench_found f = bench_reach(v, &exam, .92, 50);

	bench_note("%s: recall %.4f with %.0f rows scanned, p50 %.2f ms", name,
		   f.recall, f.scanned, f.p50_ms);
	vf_view_close(v);
	return f;
}

/* Of --full, when both sizes have been asked. */
static void compare_sizes(void)
{
	static double small;
	double scanned = find_92("tree").scanned;

	if (small > 0)
		bench_result("rows scanned at .92, 1000000 rows to 100000",
			     scanned / small, "x", BENCH_AT_MOST, 2);
	small = scanned;
}

static void speed(void)
{
	struct vf_view *v = bench_view("tree");
	struct vf_view_info info;

	scan_all(v);
	reach_all(v);
	vf_view_info(v, &info); /* of what all these queries have loaded */
	bench_result("RAM per row, tree included",
		     (double)info.ram_len / (double)info.n_rows, "B",
		     opt.rows >= 1000000 ? BENCH_AT_MOST : BENCH_NO_BAR, 150);
	vf_view_close(v);
	if (opt.full)
		compare_sizes();
}

static void shards(const float *x)
{
	struct bench_found one = find_92("tree"), f;
	enum { PART_ROWS = 10000 };
	char rows[24];

	snprintf(rows, sizeof(rows), "%llu",
		 (unsigned long long)(opt.rows / 16 + 1));
	bench_put("sixteen", base,
		  (const char *const[]){"--seed", "7", "--shard-rows", rows,
					NULL});
	f = find_92("sixteen");
	bench_result("rows scanned at .92, 16 shards to 1",
		     f.scanned / one.scanned, "x", BENCH_AT_MOST, 1.05);
	for (uint64_t i = 0; i < opt.rows / PART_ROWS; i++) {
		char part[BENCH_PATH];
		write_rows("part.npy", x, NULL, i * PART_ROWS, PART_ROWS);
		bench_path("part.npy", part);
		bench_put("parts", part,
			  (const char *const[]){i ? NULL : "--seed", "7",
						NULL});
	}
	f = find_92("parts");
	bench_result("rows scanned at .92, puts of 10000 rows to one",
		     f.scanned / one.scanned, "x", BENCH_AT_MOST, 1.5);
}

/* ---- cluster order ------------------------------------------------------------------------- */

struct placed {
	float nearness;
	uint32_t pivot, row;
};

static int compare_placed(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	if (x->pivot != y->pivot)
		return x->pivot < y->pivot ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* Rows grouped by the nearest of a hundred of them: ten puts that differ. */
static uint32_t *order_by_cluster(const float *x)
{
	enum { PIVOTS = 100 };
	struct placed *p = calloc(opt.rows, sizeof(*p));
	uint32_t *order = malloc(opt.rows * sizeof(*order));
	float d[64];

	if (!p || !order)
		bench_fail("memory");
	for (uint64_t row = 0; row < opt.rows; row += 64) {
		size_t n = VF_MIN((uint64_t)64, opt.rows - row);
		for (uint32_t k = 0; k < PIVOTS; k++) {
			vf_exact_distances(VF_COSINE, VF_F32, (uint32_t)opt.dim,
					   x + k * (opt.rows / PIVOTS) *
							   opt.dim,
					   x + row * opt.dim, n, d);
			for (size_t i = 0; i < n; i++)
				if (!k || d[i] < p[row + i].nearness)
					p[row + i] = (struct placed){
						d[i], k, (uint32_t)(row + i)};
		}
	}
	qsort(p, opt.rows, sizeof(*p), compare_placed);
	for (uint64_t i = 0; i < opt.rows; i++)
		order[i] = p[i].row;
	free(p);
	return order;
}

/* Right rows by their places in @order: that is how keys count. */
static struct bench_exam reorder(const uint32_t *order)
{
	struct bench_exam e = {exam.q, exam.right};
	VF_AUTO_FREE uint32_t *place = malloc(opt.rows * sizeof(*place));
	size_t n = e.right.n * e.right.k;

	e.right.id = malloc(n * sizeof(*e.right.id));
	if (!place || !e.right.id)
		bench_fail("memory");
	for (uint64_t i = 0; i < opt.rows; i++)
		place[order[i]] = (uint32_t)i;
	for (size_t i = 0; i < n; i++)
		e.right.id[i] = place[exam.right.id[i]];
	return e;
}

static void put_in_order(const float *x)
{
	VF_AUTO_FREE uint32_t *order = order_by_cluster(x);
	struct bench_exam moved = reorder(order), unmoved = exam;
	struct bench_found one = find_92("tree"), f;

	for (uint64_t i = 0; i < 10; i++) {
		char part[BENCH_PATH];
		write_rows("part.npy", x, order, i * (opt.rows / 10),
			   opt.rows / 10);
		bench_path("part.npy", part);
		bench_put("ordered", part,
			  (const char *const[]){i ? NULL : "--seed", "7",
						NULL});
	}
	exam = moved;
	f = find_92("ordered");
	exam = unmoved;
	free(moved.right.id);
	bench_result("p50 at .92, ten puts in cluster order to one",
		     f.p50_ms / one.p50_ms, "x", BENCH_AT_MOST, 2);
	bench_result("  rows scanned", f.scanned / one.scanned, "x",
		     BENCH_NO_BAR, 0);
}

/* ---- against flat k-means ------------------------------------------------------------------ */

/* The share at 3.2 % of the rows, of the line that begins with @name. */
static double share_of(const char *output, const char *name)
{
	const char *line = strstr(output, name);
	const char *at = line ? strstr(line, " 3.2%: ") : NULL;

	return at ? strtod(at + 7, NULL) : 0;
}

static void flat(void)
{
	char command[4 * BENCH_PATH], queries[BENCH_PATH], output[8192];
	size_t n;

	bench_path("queries.npy", queries);
	snprintf(command, sizeof(command),
		 "'%s/bench_cluster' -t 2 -f '%s' '%s'", bench.bin, base,
		 queries);
	FILE *f = popen(command, "re");
	if (!f)
		bench_fail("bench_cluster");
	n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = 0;
	if (pclose(f))
		bench_fail("bench_cluster");
	double ours = share_of(output, "\ndefault "),
	       theirs = share_of(output, "\nflat  ");
	bench_note("true ten in 3.2 %% of the rows: %.4f; flat k-means %.4f",
		   ours, theirs);
	bench_result("hierarchical k-means below flat", theirs - ours, "",
		     BENCH_AT_MOST, .01);
}

/* ---- options -------------------------------------------------------------------------------- */

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"rows", required_argument, NULL, 'n'},
		{"full", no_argument, NULL, 'f'},
		{"dim", required_argument, NULL, 'd'},
		{"queries", required_argument, NULL, 'q'},
		{"data", required_argument, NULL, 'D'},
		{"only", required_argument, NULL, 'o'},
		{"dir", required_argument, NULL, 't'},
		{"help", no_argument, NULL, 'h'},
		{0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			opt.rows = bench_number(optarg, 20000, 10000000);
			break;
		case 'f':
			opt.full = true;
			break;
		case 'd':
			opt.dim = bench_number(optarg, VF_DIM_MIN, VF_DIM_MAX);
			break;
		case 'q':
			opt.queries = bench_number(optarg, 20, 10000);
			break;
		case 'D':
			opt.data = optarg;
			break;
		case 'o':
			opt.only = optarg;
			break;
		case 't':
			opt.dir = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			exit(0);
		default:
			exit(2);
		}
	}
}

/* A million rows for what has a bar of its own there. */
static void run_larger(void)
{
	opt.rows = 1000000;
	bench_note("1000000 rows:");
	bench_stage("large-");
	make_base();
	build();
	if (wants("speed"))
		speed();
}

static void run_generated(void)
{
	struct vf_npy npy;

	make_base();
	const float *x = bench_map(base, &npy);
	build();
	if (wants("speed"))
		speed();
	if (wants("shards"))
		shards(x);
	if (wants("order"))
		put_in_order(x);
	if (wants("flat"))
		flat();
	if (opt.full)
		run_larger();
}

int main(int argc, char **argv)
{
	const char *kernels = vf_kernels()->name;

	parse_options(argc, argv);
	if (opt.full)
		opt.rows = 100000;
	vf_log_name("bench_index");
	if (vf_guard_install())
		bench_fail("SIGBUS");
	bench_open(opt.dir);
	printf("%llu rows of %llu dimensions, %llu queries; kernels: %s\n",
	       (unsigned long long)opt.rows, (unsigned long long)opt.dim,
	       (unsigned long long)opt.queries, kernels);
	if (!strstr(kernels, "vpopcntdq"))
		bench_note("no AVX-512 VPOPCNTDQ here: bars of times were set "
			   "with it");
	if (!opt.only || strcmp(opt.only, "sets"))
		run_generated();
	if (wants("sets") && !access(opt.data, F_OK))
		bench_sets(opt.data);
	return bench.missed;
}
