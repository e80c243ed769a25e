/*
 * The query engine against its bars, through a mount of s3sim.
 * `bench_query --help` tells the rest.
 *
 * Answers are compared with a search of every row of the file that was put; a
 * time without its recall says nothing.
 */
#include "bench/mount_rig.h"
#include "index/index.h"
#include "query/query.h"
#include "store/npy.h"

#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const char help[] =
	"usage: bench_query [options]\n"
	"\n"
	"Makes vectors, puts them into s3sim, mounts it and searches; each result\n"
	"stands beside its bar, the exit status is 1 when one is missed.\n"
	"\n"
	"  --rows N         (100000)\n"
	"  --dim N          (1024)\n"
	"  --bits N         of the codes (5)\n"
	"  --queries N      (100)\n"
	"  --rounds N       of a cold process, medians are printed (3)\n"
	"  --latency-ms N   of a GET, where the bucket is asked (30)\n"
	"  --seconds N      that clients ask, for each number of them (2)\n"
	"  --dir DIR        for everything that is made (TMPDIR, /tmp)\n"
	"  --keep DIR       keep base.npy, queries.npy and the bucket there; what\n"
	"                   is there is used, so say the same --rows and --dim\n"
	"  --help\n";

#define INDEX "big"

enum {
	K = 10,
	CLIENTS_MAX = 32,
	MIB = 1 << 20,
	/* Of a large index a cold query may look into less: the bar is .92. */
	COLD_PROBES = 64,
	COLD_PROBES_ROWS = 500000,
};

static struct {
	uint32_t rows, dim, bits, queries, seconds;
	const float *q;	      /* [queries][dim] */
	uint64_t (*truth)[K]; /* [queries] */
	const char *keep;     /* folder of vectors and bucket, or NULL */
} set = {100000, 1024, 5, 100, 2, NULL, NULL, NULL};

/* ---- the index ---------------------------------------------------------------------------- */

static void path_in(const char *name, char out[BENCH_PATH])
{
	snprintf(out, BENCH_PATH, "%s/%s", set.keep ? set.keep : bench.dir,
		 name);
}

static const uint8_t *map_file(const char *path, size_t *out_len)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t len = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	void *p = len > VF_NPY_DATA_OFF ? mmap(NULL, (size_t)len, PROT_READ,
					       MAP_SHARED, fd, 0)
					: MAP_FAILED;

	if (p == MAP_FAILED)
		bench_fail(path);
	*out_len = (size_t)len;
	return p;
}

/* The nearest rows of every query, by reading all rows. */
static void find_truth(const uint8_t *rows)
{
	enum { CHUNK = 256 };
	struct vf_hit *hits = calloc((size_t)set.queries * K, sizeof(*hits));
	struct vf_topk *top = calloc(set.queries, sizeof(*top));
	float dist[CHUNK];
	size_t row_len = set.dim * sizeof(float);

	set.truth = calloc(set.queries, sizeof(*set.truth));
	if (!hits || !top || !set.truth)
		bench_fail("memory");
	for (uint32_t i = 0; i < set.queries; i++)
		top[i] = (struct vf_topk){.hits = hits + (size_t)i * K, .k = K};
	for (uint64_t row = 0; row < set.rows; row += CHUNK) {
		size_t n = VF_MIN((uint64_t)CHUNK, set.rows - row);
		for (uint32_t i = 0; i < set.queries; i++) {
			vf_exact_distances(VF_COSINE, VF_F32, set.dim,
					   set.q + (size_t)i * set.dim,
					   rows + row * row_len, n, dist);
			for (size_t j = 0; j < n; j++)
				vf_topk_push(&top[i], dist[j], row + j);
		}
	}
	for (uint32_t i = 0; i < set.queries; i++)
		for (uint32_t j = 0; j < K; j++)
			set.truth[i][j] = top[i].hits[j].id;
	free(hits);
	free(top);
}

static void make_set(const char *base, const char *queries)
{
	char rows[16], dim[16], n[16];

	snprintf(rows, sizeof(rows), "%u", set.rows);
	snprintf(dim, sizeof(dim), "%u", set.dim);
	snprintf(n, sizeof(n), "%u", set.queries);
	bench_tool((const char *const[]){"gen", "--rows", rows, "--dim", dim,
					 "--queries", n, "--queries-out",
					 queries, "-q", base, NULL});
}

static void put_set(const char *base)
{
	char index[600], bits[16];

	snprintf(index, sizeof(index), "%s/" INDEX, bench.url);
	snprintf(bits, sizeof(bits), "%u", set.bits);
	bench_tool((const char *const[]){"put", index, base, "--bits", bits,
					 "-q", NULL});
}

/* What was kept is as long as what would be made, or of more queries. */
static const uint8_t *map_rows(const char *path, uint32_t n, bool or_more)
{
	size_t len, want = VF_NPY_DATA_OFF + (size_t)n * set.dim * 4;
	const uint8_t *p = map_file(path, &len);

	if (len != want && !(or_more && len > want)) {
		fprintf(stderr, "bench_query: %s: not %u rows of %u\n", path, n,
			set.dim);
		exit(2);
	}
	return p + VF_NPY_DATA_OFF;
}

static void make_index(void)
{
	char base[BENCH_PATH], queries[BENCH_PATH];

	path_in("base.npy", base);
	path_in("queries.npy", queries);
	if (access(base, R_OK)) {
		make_set(base, queries);
		put_set(base);
	}
	set.q = (const float *)map_rows(queries, set.queries, true);
	find_truth(map_rows(base, set.rows, false));
}

/* ---- asking ------------------------------------------------------------------------------ */

static struct vf_view *open_view(size_t results_len)
{
	const struct vf_view_options opt = {.results_len = results_len};
	char path[BENCH_PATH];
	struct vf_view *v;

	snprintf(path, sizeof(path), "%s/" INDEX, bench.mnt);
	errno = EIO;
	if (vf_view_open(path, &opt, &v))
		bench_fail(path);
	return v;
}

static struct vf_answer *ask(struct vf_view *v, uint32_t query,
			     struct vf_search s)
{
	struct vf_answer *a;

	s.k = K;
	errno = EIO;
	if (vf_view_search(v, set.q + (size_t)query * set.dim, &s, &a))
		bench_fail("search");
	return a;
}

/* What all queries of one pass have in common. */
struct pass {
	double p50_ms, p95_rows, mean_rows, recall, mean_gets, max_rounds;
	double plan_ms, scan_ms, refine_ms, fetch_ms; /* means */
};

static uint32_t count_right(uint32_t query, const struct vf_answer *a)
{
	uint32_t n = 0;

	for (size_t i = 0; i < a->n_hits; i++)
		for (uint32_t j = 0; j < K; j++)
			n += strtoull(a->hits[i].key, NULL, 10) ==
			     set.truth[query][j];
	return n;
}

static void add_stages(struct pass *p, const struct vf_cost *c)
{
	p->plan_ms += c->plan_ms / set.queries;
	p->scan_ms += c->scan_ms / set.queries;
	p->refine_ms += c->refine_ms / set.queries;
	p->fetch_ms += c->fetch_ms / set.queries;
}

static struct pass run_pass(struct vf_view *v, struct vf_search s)
{
	double *ms = calloc(set.queries, sizeof(*ms));
	double *rows = calloc(set.queries, sizeof(*rows));
	struct pass p = {0};

	if (!ms || !rows)
		bench_fail("memory");
	for (uint32_t i = 0; i < set.queries; i++) {
		struct vf_answer *a = ask(v, i, s);
		ms[i] = a->cost.total_ms;
		rows[i] = (double)a->cost.rows_read;
		add_stages(&p, &a->cost);
		p.mean_rows += rows[i] / set.queries;
		p.mean_gets += (double)a->cost.gets / set.queries;
		p.recall += count_right(i, a) / (double)K / set.queries;
		p.max_rounds = VF_MAX(p.max_rounds, (double)a->cost.rounds);
		vf_answer_free(a);
	}
	p.p50_ms = bench_median(ms, set.queries);
	bench_median(rows, set.queries);
	p.p95_rows = rows[(size_t)(set.queries * 95 / 100)];
	free(ms);
	free(rows);
	return p;
}

/* ---- the sections ------------------------------------------------------------------------- */

/* Each query once, the codes in memory: most of its rows are in the bucket. */
static void cold_rows(void)
{
	bench_mount("name_ttl_ms=60000,ram=2G");
	struct vf_view *v = open_view(0);
	if (vf_view_load(v))
		bench_fail("codes");
	bench_set_latency(bench.latency_ms);
	bench_reset_counts();
	struct pass p = run_pass(v, (struct vf_search){0});
	double gets = (double)bench_counts().get / set.queries;
	bool one_bit = set.bits == 1;

	bench_set_latency(0);
	bench_result("recall of ten, default knobs", p.recall, "",
		     BENCH_AT_LEAST, .95);
	bench_result("rows read, mean", p.mean_rows, "", BENCH_AT_MOST,
		     one_bit ? 60 : 14);
	bench_result("rows read, p95", p.p95_rows, "",
		     one_bit ? BENCH_NO_BAR : BENCH_AT_MOST, 20);
	bench_result("rows cold, codes warm: p50", p.p50_ms, "ms",
		     BENCH_AT_MOST, 75);
	bench_result("  dependent rounds, most", p.max_rounds, "",
		     BENCH_AT_MOST, 1);
	bench_result("  GETs that the server saw, mean", gets, "",
		     BENCH_AT_MOST, 30);
	vf_view_close(v);
	bench_unmount();
}

/* @right: hits that are right, of K */
static void ask_cold(uint32_t query, uint32_t probes, uint32_t *right)
{
	struct vf_view *v = open_view(0);
	struct vf_answer *a =
		ask(v, query, (struct vf_search){.probes = probes});

	*right += count_right(query, a);
	vf_answer_free(a);
	vf_view_close(v);
}

/* @probes: 0: the default */
static void cold_process(uint32_t probes)
{
	double ms[101], requests = 0, bytes = 0, rounds = 0;
	uint32_t right = 0;

	if (probes)
		bench_note("the same with --probes %u:", probes);
	for (unsigned i = 0; i < bench.rounds; i++) {
		bench_mount("name_ttl_ms=60000");
		bench_set_latency(bench.latency_ms);
		bench_reset_counts();
		uint64_t at = vf_now_ns();
		ask_cold(i % set.queries, probes, &right);
		ms[i] = (double)(vf_now_ns() - at) / 1e6;
		struct bench_counts c = bench_counts();
		requests = VF_MAX(requests, (double)c.all);
		rounds = VF_MAX(rounds, (double)c.rounds);
		bytes = VF_MAX(bytes, (double)c.bytes / 1e6);
		bench_set_latency(0);
		bench_unmount();
	}
	bench_result("all cold, opening included: p50",
		     bench_median(ms, bench.rounds), "ms", BENCH_AT_MOST, 300);
	bench_result("  recall of ten", (double)right / K / bench.rounds, "",
		     BENCH_AT_LEAST, .92);
	bench_result("  rounds of requests, opening included, most", rounds, "",
		     BENCH_AT_MOST, 5);
	bench_result("  requests of any kind, most", requests, "",
		     BENCH_AT_MOST, 80);
	bench_result("  of bytes, most", bytes, "MB", BENCH_AT_MOST, 32);
}

/* ---- clients ------------------------------------------------------------------------------- */

struct client {
	struct vf_view *view;
	uint32_t next;
	uint64_t until_ns, n_done;
};

static void *ask_on(void *arg)
{
	struct client *c = arg;

	while (vf_now_ns() < c->until_ns) {
		vf_answer_free(ask(c->view, c->next++ % set.queries,
				   (struct vf_search){0}));
		c->n_done++;
	}
	return NULL;
}

/* Queries per second of so many threads. */
static double measure_rate(struct vf_view *v, unsigned n)
{
	struct client c[CLIENTS_MAX];
	pthread_t threads[CLIENTS_MAX];
	uint64_t start = vf_now_ns(), done = 0;

	for (unsigned i = 0; i < n; i++) {
		c[i] = (struct client){v, i * 7,
				       start + set.seconds * 1000000000ull, 0};
		if (pthread_create(&threads[i], NULL, ask_on, &c[i]))
			bench_fail("pthread_create");
	}
	for (unsigned i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		done += c[i].n_done;
	}
	return (double)done / ((double)(vf_now_ns() - start) / 1e9);
}

static void clients(struct vf_view *v, double two)
{
	double best = two, last = 0;

	for (unsigned n = 1; n <= CLIENTS_MAX; n *= 2) {
		last = n == 2 ? two : measure_rate(v, n);
		bench_note("%u clients: %.0f queries/s", n, last);
		if (n < CLIENTS_MAX)
			best = VF_MAX(best, last);
	}
	bench_result("queries/s of 32 clients to the best of fewer",
		     last / best, "", BENCH_AT_LEAST, .9);
}

/* ---- warm ----------------------------------------------------------------------------------- */

static void flat_threads(struct vf_view *v)
{
	const struct vf_search one = {.probes = VF_PROBES_ALL},
			       two = {.probes = VF_PROBES_ALL, .threads = 2};
	double a[20], b[20];

	for (uint32_t i = 0; i < 20; i++) {
		struct vf_answer *x = ask(v, i % set.queries, one),
				 *y = ask(v, i % set.queries, two);
		a[i] = x->cost.scan_ms;
		b[i] = y->cost.scan_ms;
		vf_answer_free(x);
		vf_answer_free(y);
	}
	double ms = bench_median(a, 20);
	bench_note("a flat scan on one thread: %.2f ms", ms);
	bench_result("a flat scan, two threads against one",
		     ms / bench_median(b, 20), "x", BENCH_AT_LEAST, 1.6);
}

static void repeated(void)
{
	struct vf_view *v = open_view(64 * MIB);
	double us[100];

	vf_answer_free(ask(v, 0, (struct vf_search){0}));
	for (int i = 0; i < 100; i++) {
		uint64_t at = vf_now_ns();
		vf_answer_free(ask(v, 0, (struct vf_search){0}));
		us[i] = (double)(vf_now_ns() - at) / 1e3;
	}
	bench_result("a repeated query: p50", bench_median(us, 100), "us",
		     BENCH_AT_MOST, 100);
	vf_view_close(v);
}

/* All rows in the mount's memory; each query has been asked by nobody. */
static void warm(void)
{
	char command[2 * BENCH_PATH], options[64];

	/* Floats, five bits of each at most, lines; and as much room again. */
	snprintf(options, sizeof(options), "name_ttl_ms=60000,ram=%lluM",
		 (2 * set.rows * (set.dim * 5ull + 128) >> 20) + 256);
	bench_mount(options);
	snprintf(command, sizeof(command),
		 "cat %s/" INDEX "/shard/*/* >/dev/null", bench.mnt);
	bench_run((char *[]){"/bin/sh", "-c", command, NULL});
	struct vf_view *v = open_view(0);
	if (vf_view_load(v))
		bench_fail("codes");
	struct pass p = run_pass(v, (struct vf_search){0});
	bench_result("warm, never seen: p50", p.p50_ms, "ms", BENCH_AT_MOST, 2);
	bench_note("of it plan %.2f, scan %.2f, refine %.2f, fetch %.2f ms",
		   p.plan_ms, p.scan_ms, p.refine_ms, p.fetch_ms);
	bench_result("  recall of ten", p.recall, "", BENCH_AT_LEAST, .95);
	double rate = measure_rate(v, 2);
	bench_result("  queries/s of two threads", rate, "", BENCH_AT_LEAST,
		     700);
	clients(v, rate);
	flat_threads(v);
	vf_view_close(v);
	repeated();
	bench_unmount();
}

/* ---- options ---------------------------------------------------------------------------------- */

static const char *parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{"rows", required_argument, NULL, 'n'},
		{"dim", required_argument, NULL, 'd'},
		{"bits", required_argument, NULL, 'b'},
		{"queries", required_argument, NULL, 'q'},
		{"rounds", required_argument, NULL, 'r'},
		{"latency-ms", required_argument, NULL, 'l'},
		{"seconds", required_argument, NULL, 's'},
		{"dir", required_argument, NULL, 'D'},
		{"keep", required_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{0}};
	const char *dir = NULL;
	int opt;

	bench.rounds = 3;
	bench.latency_ms = 30;
	bench.len = 64 * MIB;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'n':
			set.rows = bench_number(optarg, 1000, 10000000);
			break;
		case 'd':
			set.dim = bench_number(optarg, VF_DIM_MIN, VF_DIM_MAX);
			break;
		case 'b':
			set.bits = bench_number(optarg, 1, 8);
			break;
		case 'q':
			set.queries = bench_number(optarg, 20, 10000);
			break;
		case 'r':
			bench.rounds = bench_number(optarg, 1, 101);
			break;
		case 'l':
			bench.latency_ms = bench_number(optarg, 0, 10000);
			break;
		case 's':
			set.seconds = bench_number(optarg, 1, 3600);
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
	}
	return dir;
}

int main(int argc, char **argv)
{
	const char *dir = parse_options(argc, argv);

	vf_log_name("bench_query");
	if (vf_guard_install())
		bench_fail("SIGBUS");
	bench_open(dir);
	bench_serve(false);
	printf("%u rows of %u dimensions, %u bits; %u queries, GETs of %u ms\n",
	       set.rows, set.dim, set.bits, set.queries, bench.latency_ms);
	make_index();
	cold_rows();
	cold_process(0);
	if (set.rows > COLD_PROBES_ROWS)
		cold_process(COLD_PROBES);
	warm();
	return bench.missed;
}
