/*
 * Writes against their bars.  `bench_write --help` tells the rest.
 */
#include "bench/write_rig.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/mman.h>

#include "index/index.h"
#include "query/query.h"
#include "store/npy.h"

static const char help[] =
	"usage: bench_write [options] [bulk] [upserts] [queries]\n"
	"\n"
	"bulk     vectool put of many rows into file://, then look-ups of their\n"
	"         keys on one core\n"
	"upserts  batches into an index in s3sim, which takes its time for every\n"
	"         request: through the library (a program that goes on for long),\n"
	"         and as JSON lines through vectool put -\n"
	"queries  what a query costs beside upserts and a compaction, and the GETs\n"
	"         of a cold one before and after it\n"
	"\n"
	"All of them when none is named.  Each result stands beside its bar, the\n"
	"exit status is 1 when one is missed.\n"
	"\n"
	"  --rows N         of the bulk put (100000)\n"
	"  --base N         rows that are there before the upserts (20000)\n"
	"  --dim N          (1024)\n"
	"  --bits N         of the codes of the base (1)\n"
	"  --batch N        rows of one upsert (500)\n"
	"  --in-flight N    batches not acknowledged yet (2)\n"
	"  --seconds N      of upserts (15)\n"
	"  --latency-ms N   of each request (30)\n"
	"  --dir DIR        for everything that is made (TMPDIR, /tmp)\n"
	"  --help\n";

enum { MORE_MAX = 200000 };

struct write_set set = {.rows = 100000,
			.base = 20000,
			.dim = 1024,
			.bits = 1,
			.batch = 500,
			.in_flight = 2,
			.seconds = 15,
			.queries = 400};

/* ---- what the sections share -------------------------------------------------------- */

void write_path(const char *name, char out[BENCH_PATH])
{
	snprintf(out, BENCH_PATH, "%s/%s", bench.dir, name);
}

const float *write_map(const char *path, uint64_t *out_rows)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t len = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	uint8_t *p = len > VF_NPY_DATA_OFF ? mmap(NULL, (size_t)len, PROT_READ,
						  MAP_SHARED, fd, 0)
					   : MAP_FAILED;
	struct vf_npy npy;
	const char *why;

	if (p == MAP_FAILED || vf_npy_parse(p, (size_t)len, &npy, &why))
		bench_fail(path);
	*out_rows = npy.n_rows;
	return (const float *)(p + npy.data_off);
}

/* The first rows of set.x as a file. */
static void write_base(const char *path)
{
	const struct vf_npy npy = {
		.dtype = VF_F32, .n_rows = set.base, .dim = set.dim};
	uint8_t header[VF_NPY_DATA_OFF];
	FILE *f = fopen(path, "we");

	vf_npy_header(&npy, header);
	if (!f || fwrite(header, sizeof(header), 1, f) != 1 ||
	    fwrite(set.x, set.dim * sizeof(float), set.base, f) != set.base ||
	    fclose(f))
		bench_fail(path);
}

/*
 * An index "v" in the server, rows to be put into it, and queries like them.
 * None of those rows comes twice in UPSERTS_PER_S * set.seconds: copies lie
 * beside each other whatever the tree.
 */
static void make_base(void)
{
	char index[600], all[BENCH_PATH], base[BENCH_PATH], queries[BENCH_PATH],
		rows[16], dim[16], n[16], bits[16];
	uint64_t n_queries;

	bench.len = 1 << 20;
	bench_serve(false);
	write_path("all.npy", all);
	write_path("base.npy", base);
	write_path("queries.npy", queries);
	snprintf(index, sizeof(index), "%s/v", bench.url);
	snprintf(rows, sizeof(rows), "%u",
		 set.base + VF_MIN(set.seconds * UPSERTS_PER_S, MORE_MAX));
	snprintf(dim, sizeof(dim), "%u", set.dim);
	snprintf(n, sizeof(n), "%u", set.queries);
	snprintf(bits, sizeof(bits), "%u", set.bits);
	bench_tool((const char *const[]){"gen", "--rows", rows, "--dim", dim,
					 "--queries", n, "--queries-out",
					 queries, "-q", all, NULL});
	set.x = write_map(all, &set.n_x);
	set.q = write_map(queries, &n_queries);
	write_base(base);
	bench_tool((const char *const[]){"put", index, base, "--bits", bits,
					 "-q", NULL});
	unlink(base);
}

/* ---- options -------------------------------------------------------------------------- */

static const struct {
	struct option option;
	uint32_t *to;
	uint32_t min, max;
} numbers[] = {
	{{"rows", required_argument, NULL, 0}, &set.rows, 1000, 10000000},
	{{"base", required_argument, NULL, 0}, &set.base, 1000, 10000000},
	{{"dim", required_argument, NULL, 0}, &set.dim, VF_DIM_MIN, VF_DIM_MAX},
	{{"bits", required_argument, NULL, 0}, &set.bits, 1, 8},
	{{"batch", required_argument, NULL, 0}, &set.batch, 1, 512},
	{{"in-flight", required_argument, NULL, 0}, &set.in_flight, 1, 64},
	{{"seconds", required_argument, NULL, 0}, &set.seconds, 1, 3600},
	{{"latency-ms", required_argument, NULL, 0},
	 &bench.latency_ms,
	 0,
	 10000},
};

static const char *parse_options(int argc, char **argv)
{
	struct option options[VF_N(numbers) + 3] = {0};
	const char *dir = NULL;
	int opt, i;

	for (size_t j = 0; j < VF_N(numbers); j++)
		options[j] = numbers[j].option;
	options[VF_N(numbers)] =
		(struct option){"dir", required_argument, NULL, 'D'};
	options[VF_N(numbers) + 1] =
		(struct option){"help", no_argument, NULL, 'h'};
	while ((opt = getopt_long(argc, argv, "", options, &i)) != -1) {
		if (opt == 'D') {
			dir = optarg;
		} else if (opt == 'h') {
			fputs(help, stdout);
			exit(0);
		} else if (opt) {
			exit(2);
		} else {
			*numbers[i].to = bench_number(optarg, numbers[i].min,
						      numbers[i].max);
		}
	}
	return dir;
}

static bool wanted(int argc, char **argv, const char *section)
{
	for (int i = optind; i < argc; i++)
		if (!strcmp(argv[i], section))
			return true;
	return optind == argc;
}

int main(int argc, char **argv)
{
	bench.latency_ms = 30;
	const char *dir = parse_options(argc, argv);
	bool upserts = wanted(argc, argv, "upserts");
	bool queries = wanted(argc, argv, "queries");

	vf_log_name("bench_write");
	if (vf_guard_install())
		bench_fail("SIGBUS");
	bench_open(dir);
	printf("%u dimensions; batches of %u rows, requests of %u ms\n",
	       set.dim, set.batch, bench.latency_ms);
	if (wanted(argc, argv, "bulk"))
		write_bulk();
	if (upserts || queries)
		make_base();
	if (upserts)
		write_upserts();
	if (queries)
		write_queries();
	return bench.missed;
}
