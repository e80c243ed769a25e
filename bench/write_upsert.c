/*
 * Batches through a writer that goes on for long, and lines through put -.
 */
#include "bench/write_rig.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "index/index.h"
#include "tools/feed.h"
#include "tools/jsonl.h"

enum { BATCHES_MAX = 1 << 16, REPLACES = 10 };

/* ---- the writer ------------------------------------------------------------------------ */

struct upserts {
	pthread_mutex_t mtx;
	pthread_cond_t acked;
	uint64_t n_put, n_acked, n_commits; /* [mtx] batches; tags are n_put */
	uint64_t *begun_ns;		    /* [BATCHES_MAX], of each */
	double *ms;			    /* [BATCHES_MAX] */
	uint64_t next_key, next_row, seed;
	struct writer_result *result;
};

static void note_ack(void *arg, const struct vf_feed_ack *a)
{
	struct upserts *u = arg;
	uint64_t now = vf_now_ns();

	pthread_mutex_lock(&u->mtx);
	for (; u->n_acked < a->tag; u->n_acked++)
		u->ms[u->n_acked] =
			(double)(now - u->begun_ns[u->n_acked]) / 1e6;
	u->n_commits++;
	pthread_cond_signal(&u->acked);
	pthread_mutex_unlock(&u->mtx);
	__atomic_store_n(&u->result->head, a->head, __ATOMIC_RELEASE);
}

static int add_row(struct upserts *u, struct vf_group *g, uint32_t i,
		   uint32_t *replaces)
{
	static const char metadata[] = "{\"genre\":\"drama\",\"year\":1999}";
	uint64_t key_number = u->next_key;
	size_t before = g->lines.len;
	uint8_t len[4];
	char key[32];

	/* Of the base: each comes once in a batch. */
	if (i % REPLACES == 0)
		key_number = (*replaces)++ % set.base;
	else
		u->next_key++;
	size_t n = (size_t)snprintf(key, sizeof(key), "%llu",
				    (unsigned long long)key_number);
	uint64_t hash = vf_key_hash(key, n);
	const float *x = set.x + u->next_row++ % set.n_x * set.dim;
	int err = vf_record_line_append(key, n, metadata, strlen(metadata),
					&g->lines);
	vf_put_le32(len, (uint32_t)(g->lines.len - before));
	return err || vf_buf_append(&g->line_lens, len, sizeof(len)) ||
	       vf_buf_append(&g->hashes, &hash, sizeof(hash)) ||
	       vf_buf_append(&g->vectors, x, set.dim * sizeof(*x));
}

static void make_batch(struct upserts *u, struct vf_group *g)
{
	uint32_t replaces = (uint32_t)vf_splitmix64(&u->seed) % set.base;

	*g = (struct vf_group){.n_rows = set.batch, .tag = u->n_put + 1};
	for (uint32_t i = 0; i < set.batch; i++)
		if (add_row(u, g, i, &replaces))
			_exit(1);
}

/* Puts the next batch when there is room for it. */
static int put_batch(struct upserts *u, struct vf_feed *feed,
		     uint64_t not_before_ns)
{
	uint64_t now = vf_now_ns();
	struct vf_group g;

	make_batch(u, &g);
	if (now < not_before_ns)
		usleep((useconds_t)((not_before_ns - now) / 1000));
	pthread_mutex_lock(&u->mtx);
	while (u->n_put - u->n_acked >= set.in_flight && !u->result->failed)
		pthread_cond_wait(&u->acked, &u->mtx);
	u->begun_ns[u->n_put++] = vf_now_ns();
	pthread_mutex_unlock(&u->mtx);
	return vf_feed_put(feed, &g);
}

static int put_batches(struct upserts *u, struct vf_feed *feed,
		       uint32_t rows_per_s)
{
	uint64_t start = vf_now_ns(), end = start + set.seconds * 1000000000ull;
	uint64_t step = rows_per_s ? set.batch * 1000000000ull / rows_per_s : 0;
	int err = 0;

	while (!err && vf_now_ns() < end && u->n_put < BATCHES_MAX)
		err = put_batch(u, feed, start + u->n_put * step);
	return err;
}

static int compare_ms(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int run_writer(struct writer_result *r, uint32_t rows_per_s)
{
	struct upserts u = {.mtx = PTHREAD_MUTEX_INITIALIZER,
			    .acked = PTHREAD_COND_INITIALIZER,
			    .begun_ns = calloc(BATCHES_MAX, sizeof(uint64_t)),
			    .ms = calloc(BATCHES_MAX, sizeof(double)),
			    .result = r};
	struct vf_feed_options opt = {
		.index = "v", .target = "v", .ack = note_ack, .arg = &u};
	char cache[BENCH_PATH];
	struct vf_state *s;
	struct vf_feed *feed = NULL;

	write_path("catalog", cache);
	opt.cache_dir = cache;
	if (!u.begun_ns || !u.ms ||
	    vf_bucket_open(bench.url, NULL, &opt.bucket) ||
	    vf_state_load(opt.bucket, "v", &s))
		return 1;
	u.next_key = s->head * 10000000; /* nobody's yet */
	u.seed = s->head;
	u.next_row = set.base;
	if (vf_feed_open(&opt, &s, &feed))
		return 1;
	uint64_t start = vf_now_ns();
	int err = put_batches(&u, feed, rows_per_s);
	double seconds = (double)(vf_now_ns() - start) / 1e9;
	r->rows_per_s = (double)u.n_acked * set.batch / seconds;
	int close_err = vf_feed_close(feed, false, NULL);
	r->n_batches = u.n_acked;
	r->n_commits = u.n_commits;
	qsort(u.ms, u.n_acked, sizeof(*u.ms), compare_ms);
	r->p50_ms = u.ms[u.n_acked / 2];
	r->p99_ms = u.ms[u.n_acked * 99 / 100];
	r->max_ms = u.ms[u.n_acked ? u.n_acked - 1 : 0];
	vf_bucket_close(opt.bucket);
	return err || close_err;
}

struct writer writer_start(uint32_t rows_per_s)
{
	struct writer w = {.result = mmap(NULL, sizeof(*w.result),
					  PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0)};

	if (w.result == MAP_FAILED || (w.pid = fork()) < 0)
		bench_fail("a writer");
	if (!w.pid)
		_exit(run_writer(w.result, rows_per_s));
	return w;
}

bool writer_runs(const struct writer *w)
{
	siginfo_t info = {0};

	return !waitid(P_PID, (id_t)w->pid, &info,
		       WEXITED | WNOHANG | WNOWAIT) &&
	       !info.si_pid;
}

struct writer_result writer_end(struct writer *w)
{
	struct writer_result r;
	int status;

	if (waitpid(w->pid, &status, 0) != w->pid || status) {
		errno = EIO;
		bench_fail("the writer");
	}
	r = *w->result;
	munmap(w->result, sizeof(*w->result));
	return r;
}

/* ---- batches ----------------------------------------------------------------------------- */

/*
 * A reader that asks the bucket: what was acknowledged before it asked has to
 * be there.  Returns how often it was not, of *out_n times.
 */
static unsigned watch(const struct writer *w, unsigned *out_n)
{
	struct vf_state *s = NULL, *next;
	struct vf_bucket *b;
	unsigned n_missed = 0;

	errno = EIO;
	if (vf_bucket_open(bench.url, NULL, &b) || vf_state_load(b, "v", &s))
		bench_fail(bench.url);
	for (*out_n = 0; writer_runs(w); ++*out_n) {
		uint64_t head =
			__atomic_load_n(&w->result->head, __ATOMIC_ACQUIRE);
		if (vf_state_refresh(b, s, &next))
			bench_fail(bench.url);
		if (next) {
			vf_state_free(s);
			s = next;
		}
		n_missed += s->head < head;
		usleep(500000);
	}
	vf_state_free(s);
	vf_bucket_close(b);
	return n_missed;
}

static void batches(void)
{
	unsigned n_looked;

	bench_set_latency(bench.latency_ms);
	struct writer w = writer_start(0);
	unsigned n_missed = watch(&w, &n_looked);
	struct writer_result r = writer_end(&w);
	bench_set_latency(0);
	bench_note("%llu batches in %llu commits, the slowest %.0f ms",
		   (unsigned long long)r.n_batches,
		   (unsigned long long)r.n_commits, r.max_ms);
	bench_result("upserts through the library", r.rows_per_s, "rows/s",
		     BENCH_AT_LEAST, 5000);
	bench_result("  acknowledged, p50", r.p50_ms, "ms", BENCH_AT_MOST, 200);
	bench_result("  acknowledged, p99", r.p99_ms, "ms", BENCH_AT_MOST,
		     1000);
	bench_note("a reader looked %u times", n_looked);
	bench_result("  not there for a reader that asks the bucket", n_missed,
		     "", BENCH_AT_MOST, 0);
}

/* ---- lines --------------------------------------------------------------------------------- */

static void write_lines(const char *path, uint32_t n_rows)
{
	FILE *f = fopen(path, "we");

	if (!f)
		bench_fail(path);
	for (uint32_t i = 0; i < n_rows; i++) {
		const float *x = set.x + (size_t)(i % set.base) * set.dim;
		fprintf(f, "{\"key\":\"line-%u\",\"vector\":[", i);
		for (uint32_t j = 0; j < set.dim; j++)
			fprintf(f, j ? ",%.9g" : "%.9g", (double)x[j]);
		fprintf(f, "],\"metadata\":{\"year\":%u}}\n", 1900 + i % 100);
	}
	if (fclose(f))
		bench_fail(path);
}

/* Seconds, of programs that ended. */
static double cpu_of_children(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Seconds to the last acknowledgement, as of batches; a merge that was begun
 * goes on behind it. */
static double put_lines(const char *command)
{
	uint64_t start = vf_now_ns(), last = start;
	FILE *acks = popen(command, "re");
	char line[256];

	if (!acks)
		bench_fail(command);
	while (fgets(line, sizeof(line), acks))
		last = vf_now_ns();
	if (pclose(acks)) {
		errno = EIO;
		bench_fail(command);
	}
	return (double)(last - start) / 1e9;
}

static void lines(void)
{
	uint32_t n_rows = VF_MIN(set.base, 20000u);
	char path[BENCH_PATH], command[3 * BENCH_PATH];

	write_path("lines.jsonl", path);
	write_lines(path, n_rows);
	snprintf(command, sizeof(command),
		 "%s/vectool put %s/v - --cache-dir %s/catalog <%s", bench.bin,
		 bench.url, bench.dir, path);
	bench_set_latency(bench.latency_ms);
	double cpu_s = cpu_of_children();
	double s = put_lines(command);
	cpu_s = cpu_of_children() - cpu_s;
	bench_set_latency(0);
	unlink(path);
	bench_note("lines took the writer %.0f us of CPU each",
		   cpu_s / n_rows * 1e6);
	bench_result("JSON lines through put -", n_rows / s, "rows/s",
		     BENCH_AT_LEAST, 5000);
}

void write_upserts(void)
{
	batches();
	lines();
}
