/*
 * Reads that only the bucket can answer: random faults of many threads, hinted
 * rows, a stream.
 */
#include "bench/mount_rig.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "store/ranges.h"

enum { THREADS_MAX = 64, ROWS = 200, CURLS = 16 };

static const uint8_t *map_object(int *out_fd)
{
	int fd = open(bench.file, O_RDONLY | O_CLOEXEC);
	void *p;

	if (fd < 0)
		bench_fail(bench.file);
	p = mmap(NULL, bench.len, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || madvise(p, bench.len, MADV_RANDOM))
		bench_fail(bench.file);
	*out_fd = fd;
	return p;
}

static void unmap_object(const uint8_t *map, int fd)
{
	munmap((void *)map, bench.len);
	close(fd);
}

static void touch(const uint8_t *map, uint64_t page)
{
	if (vf_le64(map + page * BENCH_PAGE) != page) {
		errno = EBADMSG;
		bench_fail("wrong bytes");
	}
}

/* ---- faults ------------------------------------------------------------------------- */

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	const uint8_t *map;
	uint64_t page, done_ns;
};

static void *touch_one(void *arg)
{
	struct toucher *t = arg;

	pthread_barrier_wait(t->barrier);
	touch(t->map, t->page);
	t->done_ns = vf_now_ns();
	return NULL;
}

/* From the release of the threads to the last one's end. */
static double touch_together(const uint8_t *map, const uint64_t *pages,
			     unsigned k)
{
	struct toucher t[THREADS_MAX];
	pthread_barrier_t barrier;
	uint64_t start, last = 0;

	pthread_barrier_init(&barrier, NULL, k + 1);
	for (unsigned i = 0; i < k; i++) {
		t[i] = (struct toucher){
			.barrier = &barrier, .map = map, .page = pages[i]};
		if (pthread_create(&t[i].thread, NULL, touch_one, &t[i]))
			bench_fail("thread");
	}
	start = vf_now_ns();
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < k; i++) {
		pthread_join(t[i].thread, NULL);
		last = VF_MAX(last, t[i].done_ns);
	}
	pthread_barrier_destroy(&barrier);
	return (double)(last - start);
}

static void run_faults(const uint8_t *map, unsigned k, const uint64_t *pages)
{
	double wall[BENCH_ROUNDS_MAX], first;
	struct bench_counts n;
	unsigned rounds = bench.rounds;
	char what[80];

	bench_reset_counts();
	for (unsigned i = 0; i < rounds; i++)
		wall[i] = touch_together(map, pages + (size_t)i * k, k) / 1e6 /
			  bench.latency_ms;
	n = bench_counts();
	first = wall[0];
	snprintf(what, sizeof(what), "%u threads: wall / L", k);
	bench_result(what, bench_median(wall, rounds), "", BENCH_AT_MOST, 1.3);
	bench_note("  first round %.3f, last of all %.3f, %u rounds", first,
		   wall[rounds - 1], rounds);
	snprintf(what, sizeof(what), "%u threads: GETs per fault", k);
	bench_result(what, (double)n.get / k / rounds, "", BENCH_AT_MOST, 1);
	snprintf(what, sizeof(what), "%u threads: KiB fetched per fault", k);
	bench_result(what, (double)n.bytes / k / rounds / 1024, "KiB",
		     BENCH_AT_MOST, 64);
}

void bench_faults(void)
{
	static const unsigned ks[] = {1, 8, 64};
	size_t n = (size_t)bench.rounds * (1 + 8 + 64), at = 0;
	VF_AUTO_FREE uint64_t *pages = bench_pick_pages(n, 1);
	const uint8_t *map;
	int fd;

	bench_mount("ram=512M");
	map = map_object(&fd);
	bench_set_latency(bench.latency_ms);
	for (size_t i = 0; i < VF_N(ks); i++) {
		run_faults(map, ks[i], pages + at);
		at += (size_t)ks[i] * bench.rounds;
	}
	bench_set_latency(0);
	unmap_object(map, fd);
	bench_unmount();
}

/* ---- hinted rows -------------------------------------------------------------------- */

static void hint_rows(const uint8_t *map, const uint64_t *pages)
{
	for (size_t i = 0; i < ROWS; i++)
		if (madvise((void *)(map + pages[i] * BENCH_PAGE), BENCH_PAGE,
			    MADV_WILLNEED))
			bench_fail("MADV_WILLNEED");
}

static void ask_rows(int fd, const uint64_t *pages)
{
	static struct vf_ranges a;

	a = (struct vf_ranges){
		.version = 1, .flags = VF_RANGES_FETCH, .n = ROWS};
	for (size_t i = 0; i < ROWS; i++)
		a.r[i] = (struct vf_range){.off = pages[i] * BENCH_PAGE,
					   .len = BENCH_PAGE};
	if (ioctl(fd, VF_IOC_RANGES, &a))
		bench_fail("the ioctl");
}

static void touch_rows(const uint8_t *map, const uint64_t *pages)
{
	for (size_t i = 0; i < ROWS; i++)
		touch(map, pages[i]);
}

struct hinted {
	double wall_ms, hints_ms, gets, gets_unasked;
};

/* On a mount of its own: the rows are cold, and so are the connections. */
static struct hinted run_hinted(bool by_ioctl, bool wait, uint64_t seed)
{
	VF_AUTO_FREE uint64_t *pages = bench_pick_pages(ROWS, seed);
	struct hinted h;
	const uint8_t *map;
	uint64_t start;
	int fd;

	bench_mount("ram=512M,connections=64");
	map = map_object(&fd);
	bench_set_latency(bench.latency_ms);
	bench_reset_counts();
	start = vf_now_ns();
	if (by_ioctl)
		ask_rows(fd, pages);
	else
		hint_rows(map, pages);
	h.hints_ms = (double)(vf_now_ns() - start) / 1e6;
	if (wait)
		usleep(20000 + bench.latency_ms * 10000);
	h.gets_unasked = (double)bench_counts().get;
	touch_rows(map, pages);
	h.wall_ms = (double)(vf_now_ns() - start) / 1e6;
	h.gets = (double)bench_counts().get;
	bench_set_latency(0);
	unmap_object(map, fd);
	bench_unmount();
	return h;
}

static void run_hints(bool by_ioctl, const char *name)
{
	double wall[BENCH_ROUNDS_MAX], hints[BENCH_ROUNDS_MAX], gets = 0;
	unsigned rounds = VF_MIN(bench.rounds, 9u);
	char what[80];
	struct hinted h;

	for (unsigned i = 0; i < rounds; i++) {
		h = run_hinted(by_ioctl, false, 100 + i);
		wall[i] = h.wall_ms;
		hints[i] = h.hints_ms;
		gets = VF_MAX(gets, h.gets);
	}
	snprintf(what, sizeof(what), "%s: %u rows, wall", name, ROWS);
	bench_result(what, bench_median(wall, rounds), "ms", BENCH_AT_MOST,
		     5.0 * bench.latency_ms);
	bench_note("  of it the hints themselves %.2f ms; longest %.1f ms",
		   bench_median(hints, rounds), wall[rounds - 1]);
	snprintf(what, sizeof(what), "%s: GETs, most of %u rounds", name,
		 rounds);
	bench_result(what, gets, "", BENCH_AT_MOST, ROWS);
	h = run_hinted(by_ioctl, true, 99);
	snprintf(what, sizeof(what), "%s: GETs before any touch", name);
	bench_result(what, h.gets_unasked, "", BENCH_AT_LEAST, h.gets);
}

void bench_hinted(void)
{
	run_hints(false, "MADV_WILLNEED");
	run_hints(true, "ioctl");
}

/* ---- a stream against parallel range GETs --------------------------------------------- */

struct range_get {
	pthread_t thread;
	uint64_t off, len, got;
	CURLcode rc;
};

static size_t count_body(char *p, size_t size, size_t n, void *arg)
{
	((struct range_get *)arg)->got += size * n;
	return size * n;
}

static void set_request(CURL *c, struct range_get *g)
{
	char url[1024], range[64], scope[128];
	const char *region = getenv("AWS_REGION");
	const char *ca = getenv("AWS_CA_BUNDLE");

	snprintf(url, sizeof(url), "%s/%s/" BENCH_KEY,
		 getenv("AWS_ENDPOINT_URL"), bench.url + strlen("s3://"));
	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)g->off,
		 (unsigned long long)(g->off + g->len - 1));
	snprintf(scope, sizeof(scope), "aws:amz:%s:s3",
		 region ? region : "us-east-1");
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_RANGE, range);
	curl_easy_setopt(c, CURLOPT_AWS_SIGV4, scope);
	curl_easy_setopt(c, CURLOPT_USERNAME, getenv("AWS_ACCESS_KEY_ID"));
	curl_easy_setopt(c, CURLOPT_PASSWORD, getenv("AWS_SECRET_ACCESS_KEY"));
	curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, count_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, g);
	if (ca)
		curl_easy_setopt(c, CURLOPT_CAINFO, ca);
}

static void *get_range(void *arg)
{
	struct range_get *g = arg;
	struct curl_slist *headers = NULL;
	CURL *c = curl_easy_init();

	headers = curl_slist_append(headers,
				    "x-amz-content-sha256: UNSIGNED-PAYLOAD");
	if (!c || !headers)
		bench_fail("curl");
	set_request(c, g);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	g->rc = curl_easy_perform(c);
	curl_easy_cleanup(c);
	curl_slist_free_all(headers);
	return NULL;
}

/* MB/s of as many range GETs at once, each of its share of the object, the
 * bytes thrown away as they come. */
static double get_ranges(void)
{
	struct range_get g[CURLS];
	uint64_t share = bench.len / CURLS, start = vf_now_ns();

	for (size_t i = 0; i < CURLS; i++) {
		g[i] = (struct range_get){.off = i * share, .len = share};
		if (pthread_create(&g[i].thread, NULL, get_range, &g[i]))
			bench_fail("thread");
	}
	for (size_t i = 0; i < CURLS; i++) {
		pthread_join(g[i].thread, NULL);
		if (g[i].rc || g[i].got != share) {
			fprintf(stderr, "bench_mount: curl: %s\n",
				curl_easy_strerror(g[i].rc));
			exit(1);
		}
	}
	return (double)bench.len * 1000 / (double)(vf_now_ns() - start);
}

static double read_cold(void)
{
	double mb_s;

	bench_mount("ram=1G");
	mb_s = bench_sequential(bench.file);
	bench_unmount();
	return mb_s;
}

void bench_cold_stream(void)
{
	double ratio[BENCH_ROUNDS_MAX], ours[BENCH_ROUNDS_MAX],
		curl[BENCH_ROUNDS_MAX];

	for (unsigned i = 0; i < bench.rounds; i++) {
		if (i % 2)
			curl[i] = get_ranges();
		ours[i] = read_cold();
		if (i % 2 == 0)
			curl[i] = get_ranges();
		ratio[i] = ours[i] / curl[i];
	}
	bench_note("mount %.0f MB/s, %d curl range GETs %.0f MB/s",
		   bench_median(ours, bench.rounds), CURLS,
		   bench_median(curl, bench.rounds));
	bench_result("mount / curl, median of pairs",
		     bench_median(ratio, bench.rounds), "", BENCH_AT_LEAST,
		     0.9);
	bench_note("  pairs from %.2f to %.2f", ratio[0],
		   ratio[bench.rounds - 1]);
}
