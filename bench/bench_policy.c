/*
 * Replacement policies compared on a trace or on a Zipf stream.
 *
 *     bench_policy [--trace FILE] [--zipf S] [--blocks N] [--requests N]
 *
 * For each policy: the hit rate at caches of 1, 5, 10 and 20 % of the blocks;
 * what a scan costs at 10 %; nanoseconds per request at 10 %, all included.
 * The first quarter of the requests warms the cache and is not counted.
 *
 * The scan test reads 5 caches' worth of blocks that are in no request, once
 * with the mark of read-ahead (and then read), once as plain misses.  Its
 * figure is the hit rate of the next cache's worth of requests without the
 * scan less that of the same requests after it, in points.
 *
 * A trace is text, one block number per line.  Defaults: Zipf 0.9 over 1 M
 * blocks, 16 M requests.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>

#include "store/policy.h"

struct stream {
	uint32_t *block; /* [n], below n_blocks */
	size_t n, n_blocks;
};

struct cache {
	struct vf_policy *policy;
	struct vf_policy_entry *entries; /* [n_blocks of the stream] */
	size_t n_max, n;
};

static const char *const names[] = {"lru", "lfu", "s3fifo"};
static const unsigned percents[] = {1, 5, 10, 20};

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static void *allocate(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	if (!p) {
		fprintf(stderr, "bench_policy: no memory\n");
		exit(1);
	}
	return p;
}

/* ---- streams ------------------------------------------------------------- */

/* Block i has weight 1 / (i + 1)^s; drawn by bisecting the sums. */
static void make_zipf(struct stream *st, double s)
{
	VF_AUTO_FREE double *sum = allocate(st->n_blocks, sizeof(*sum));
	uint64_t seed = 88172645463325252u;
	double total = 0;

	for (size_t i = 0; i < st->n_blocks; i++)
		sum[i] = total += pow((double)(i + 1), -s);
	st->block = allocate(st->n, sizeof(*st->block));
	for (size_t i = 0; i < st->n; i++) {
		double x = (double)(next_random(&seed) >> 11) / 0x1p53 * total;
		size_t low = 0, high = st->n_blocks - 1;
		while (low < high) {
			size_t mid = (low + high) / 2;
			if (sum[mid] > x)
				high = mid;
			else
				low = mid + 1;
		}
		st->block[i] = (uint32_t)low;
	}
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void read_numbers(const char *path, struct vf_buf *out)
{
	FILE *f = fopen(path, "r");
	char line[64], *end;

	if (!f) {
		perror(path);
		exit(1);
	}
	for (size_t row = 1; fgets(line, sizeof(line), f); row++) {
		uint64_t v = strtoull(line, &end, 10);
		if (end == line || (*end && *end != '\n')) {
			fprintf(stderr, "%s:%zu: not a number\n", path, row);
			exit(1);
		}
		if (vf_buf_append(out, &v, sizeof(v))) {
			fprintf(stderr, "%s: no memory\n", path);
			exit(1);
		}
	}
	fclose(f);
}

/* Blocks are renumbered densely. */
static void read_trace(struct stream *st, const char *path)
{
	VF_AUTO_BUF struct vf_buf buf = {0};
	VF_AUTO_FREE uint64_t *sorted = NULL;
	size_t n_distinct = 0;

	read_numbers(path, &buf);
	const uint64_t *v = (const uint64_t *)(const void *)buf.data;
	st->n = buf.len / sizeof(*v);
	if (!st->n || st->n > UINT32_MAX) {
		fprintf(stderr, "%s: no requests, or too many\n", path);
		exit(1);
	}
	sorted = allocate(st->n, sizeof(*sorted));
	memcpy(sorted, v, st->n * sizeof(*v));
	qsort(sorted, st->n, sizeof(*sorted), compare_u64);
	for (size_t i = 0; i < st->n; i++)
		if (!i || sorted[i] != sorted[i - 1])
			sorted[n_distinct++] = sorted[i];
	st->n_blocks = n_distinct;
	st->block = allocate(st->n, sizeof(*st->block));
	for (size_t i = 0; i < st->n; i++) {
		uint64_t *at = bsearch(&v[i], sorted, n_distinct, sizeof(*v),
				       compare_u64);
		st->block[i] = (uint32_t)(at - sorted);
	}
}

/* ---- a cache ------------------------------------------------------------- */

static bool may_any(void *arg, const struct vf_policy_entry *e)
{
	return true;
}

static void open_cache(struct cache *c, const char *policy, size_t n_max,
		       size_t n_entries)
{
	*c = (struct cache){.n_max = n_max};
	if (vf_policy_open(policy, n_max, 0, &c->policy))
		exit(1);
	c->entries = allocate(n_entries, sizeof(*c->entries));
}

static void close_cache(struct cache *c)
{
	vf_policy_close(c->policy);
	free(c->entries);
}

static void fill(struct cache *c, size_t block, unsigned flags)
{
	if (c->n == c->n_max)
		vf_policy_victim(c->policy, may_any, NULL, 0);
	else
		c->n++;
	vf_policy_insert(c->policy, &c->entries[block],
			 (block + 1) * 0x9e3779b97f4a7c15, flags, 0);
}

static size_t replay(struct cache *c, const struct stream *st, size_t from,
		     size_t to)
{
	size_t n_hit = 0;

	for (size_t i = from; i < to; i++) {
		struct vf_policy_entry *e = &c->entries[st->block[i]];
		if (e->queue) {
			vf_policy_hit(c->policy, e, 1);
			n_hit++;
		} else {
			fill(c, st->block[i], 0);
		}
	}
	return n_hit;
}

/* ---- measurements -------------------------------------------------------- */

static size_t cache_size(const struct stream *st, unsigned percent)
{
	return VF_MAX(st->n_blocks * percent / 100, (size_t)1);
}

static double hit_rate(const struct stream *st, const char *policy,
		       unsigned percent, double *out_ns)
{
	size_t warm = st->n / 4, n_hit;
	struct cache c;

	open_cache(&c, policy, cache_size(st, percent), st->n_blocks);
	uint64_t start = vf_now_ns();
	replay(&c, st, 0, warm);
	n_hit = replay(&c, st, warm, st->n);
	*out_ns = (double)(vf_now_ns() - start) / (double)st->n;
	close_cache(&c);
	return 100. * (double)n_hit / (double)(st->n - warm);
}

enum { NO_SCAN = -1 };

static void scan(struct cache *c, size_t first, unsigned flags)
{
	for (size_t i = first; i < first + 5 * c->n_max; i++) {
		fill(c, i, flags);
		if (flags)
			vf_policy_hit(c->policy, &c->entries[i], 1);
	}
}

/* Hit rate of a cache's worth of requests in the middle of the stream. */
static double rate_after(const struct stream *st, const char *policy, int flags)
{
	size_t n_max = cache_size(st, 10), half = st->n / 2, n_hit;
	size_t n_next = VF_MIN(n_max, st->n - half);
	struct cache c;

	open_cache(&c, policy, n_max, st->n_blocks + 5 * n_max);
	replay(&c, st, 0, half);
	if (flags != NO_SCAN)
		scan(&c, st->n_blocks, (unsigned)flags);
	n_hit = replay(&c, st, half, half + n_next);
	close_cache(&c);
	return 100. * (double)n_hit / (double)n_next;
}

static void print_policy(const struct stream *st, const char *policy)
{
	double ns, ns_10 = 0, rate = rate_after(st, policy, NO_SCAN);

	printf("%-8s", policy);
	for (size_t i = 0; i < VF_N(percents); i++) {
		printf(" %6.2f", hit_rate(st, policy, percents[i], &ns));
		if (percents[i] == 10)
			ns_10 = ns;
	}
	printf("  %6.2f %6.2f %8.1f\n",
	       rate - rate_after(st, policy, VF_POLICY_SCAN),
	       rate - rate_after(st, policy, 0), ns_10);
	fflush(stdout);
}

static int usage(void)
{
	fprintf(stderr, "usage: bench_policy [--trace FILE] [--zipf S] "
			"[--blocks N] [--requests N]\n");
	return 2;
}

static int parse_options(int argc, char **argv, struct stream *st, double *s,
			 const char **out_trace)
{
	static const struct option options[] = {
		{"trace", required_argument, NULL, 't'},
		{"zipf", required_argument, NULL, 'z'},
		{"blocks", required_argument, NULL, 'b'},
		{"requests", required_argument, NULL, 'r'},
		{0}};
	uint64_t blocks = st->n_blocks, requests = st->n;
	int opt, err = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (opt == 't')
			*out_trace = optarg;
		else if (opt == 'z')
			*s = atof(optarg);
		else if (opt == 'b')
			err |= vf_parse_size(optarg, &blocks);
		else if (opt == 'r')
			err |= vf_parse_size(optarg, &requests);
		else
			err = -EINVAL;
	if (err || optind < argc || !blocks || blocks > UINT32_MAX ||
	    !requests || *s < 0)
		return usage();
	st->n_blocks = blocks;
	st->n = requests;
	return 0;
}

int main(int argc, char **argv)
{
	struct stream st = {.n = 16000000, .n_blocks = 1000000};
	const char *trace = NULL;
	struct vf_policy *def;
	double s = 0.9;
	int status = parse_options(argc, argv, &st, &s, &trace);

	if (status)
		return status;
	if (trace)
		read_trace(&st, trace);
	else
		make_zipf(&st, s);
	if (vf_policy_open(NULL, 1, 0, &def))
		return 1;
	printf("%s, %zu blocks, %zu requests; the default is %s\n",
	       trace ? trace : "Zipf", st.n_blocks, st.n, vf_policy_name(def));
	vf_policy_close(def);
	printf("         hit rate, %%, at a cache of    scan, points  ns per\n"
	       "%-8s %5u%% %5u%% %5u%% %5u%%  marked  plain  request\n",
	       "policy", percents[0], percents[1], percents[2], percents[3]);
	for (size_t i = 0; i < VF_N(names); i++)
		print_policy(&st, names[i]);
	free(st.block);
	return 0;
}
