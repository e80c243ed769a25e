/*
 * Queries beside upserts and a compaction.
 */
#include "bench/write_rig.h"

#include <math.h>
#include <stdio.h>
#include <sys/wait.h>

#include "query/query.h"

enum {
	K = 10,
	COLD = 9,
	TIMES_MAX = 1 << 16,
	TIMES_MIN = 100, /* fewer say nothing: a miss */
	WARM = 100,	 /* queries */
};

static struct vf_view *open_view(void)
{
	char path[BENCH_PATH];
	struct vf_view *v;

	snprintf(path, sizeof(path), "%s/v", bench.mnt);
	errno = EIO;
	if (vf_view_open(path, NULL, &v))
		bench_fail(path);
	return v;
}

static struct vf_answer *ask(struct vf_view *v, uint32_t i, bool exact)
{
	const struct vf_search s = {.k = K, .exact = exact};
	struct vf_answer *a;

	errno = EIO;
	if (vf_view_search(v, set.q + (size_t)(i % set.queries) * set.dim, &s,
			   &a))
		bench_fail("search");
	return a;
}

/* ---- cold ----------------------------------------------------------------------------- */

struct found {
	struct vf_view_info info;
	double recall;
	/* medians of the first query of a mount; opening is part of all */
	double cold_gets, opening_gets;
};

static void ask_cold(struct found *to)
{
	double gets[COLD], opening[COLD];

	for (uint32_t i = 0; i < COLD; i++) {
		bench_mount("name_ttl_ms=60000");
		bench_set_latency(bench.latency_ms);
		bench_reset_counts();
		struct vf_view *v = open_view();
		opening[i] = (double)bench_counts().get;
		vf_answer_free(ask(v, i, false));
		vf_view_close(v);
		gets[i] = (double)bench_counts().get;
		bench_set_latency(0);
		bench_unmount();
	}
	to->cold_gets = bench_median(gets, COLD);
	to->opening_gets = bench_median(opening, COLD);
}

static pid_t start_compaction(void)
{
	char vectool[BENCH_PATH], index[600];

	snprintf(vectool, sizeof(vectool), "%s/vectool", bench.bin);
	snprintf(index, sizeof(index), "%s/v", bench.url);
	pid_t pid = fork();
	if (!pid) {
		execlp("nice", "nice", "-n", "19", vectool, "compact", index,
		       "-j", "1", "-q", NULL);
		_exit(127);
	}
	return pid;
}

static void end_compaction(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		errno = EIO;
		bench_fail("compaction");
	}
}

/* ---- beside them ------------------------------------------------------------------------- */

/* A row may come under two keys: distances tell who is right. */
static double recall(struct vf_view *v)
{
	uint32_t n_right = 0, n = 0;

	for (uint32_t i = 0; i < set.queries; i++) {
		struct vf_answer *a = ask(v, i, false), *b = ask(v, i, true);
		float last = b->n_hits ? b->hits[b->n_hits - 1].distance : 0;
		for (size_t j = 0; j < a->n_hits; j++)
			n_right += a->hits[j].distance <= last + 1e-6f;
		n += (uint32_t)b->n_hits;
		vf_answer_free(a);
		vf_answer_free(b);
	}
	return (double)n_right / n;
}

struct times {
	double ms[TIMES_MAX];
	size_t n;
};

static void ask_once(struct vf_view *v, struct times *t)
{
	struct vf_answer *a = ask(v, (uint32_t)t->n, false);

	if (t->n < TIMES_MAX)
		t->ms[t->n++] = a->cost.total_ms;
	vf_answer_free(a);
	usleep(2000); /* a client, not a flood */
}

static struct vf_view *warm_view(struct times *t)
{
	struct vf_view *v = open_view();

	if (vf_view_load(v))
		bench_fail("codes");
	for (uint32_t i = 0; i < WARM; i++) {
		ask_once(v, t);
		t->n--;
	}
	return v;
}

/* A view is of one commit: every second a newer one. */
static void ask_beside(struct writer *w, struct times *t)
{
	while (writer_runs(w)) {
		struct vf_view *v = warm_view(t);
		uint64_t until = vf_now_ns() + 1000000000u;
		while (vf_now_ns() < until && writer_runs(w))
			ask_once(v, t);
		vf_view_close(v);
	}
}

static void beside(void)
{
	static struct times idle, busy;

	bench_mount("ram=2G");
	struct vf_view *v = warm_view(&idle);
	for (uint32_t i = 0; i < 5 * WARM; i++)
		ask_once(v, &idle);
	vf_view_close(v);
	bench_set_latency(bench.latency_ms);
	struct writer w = writer_start(UPSERTS_PER_S);
	pid_t pid = start_compaction();
	ask_beside(&w, &busy);
	struct writer_result r = writer_end(&w);
	end_compaction(pid);
	bench_set_latency(0);
	double was = bench_median(idle.ms, idle.n);
	double is =
		busy.n < TIMES_MIN ? INFINITY : bench_median(busy.ms, busy.n);
	bench_note("query p50 %.2f ms idle, %.2f ms beside %.0f rows/s and a "
		   "compaction (%zu queries; acknowledged p50 %.0f ms, p99 "
		   "%.0f ms)",
		   was, is, r.rows_per_s, busy.n, r.p50_ms, r.p99_ms);
	bench_result("query p50 beside upserts, to idle", is / was, "x",
		     BENCH_AT_MOST, 2);
	bench_unmount();
}

/* ---- before a compaction and after it ---------------------------------------------------- */

static struct found look(void)
{
	struct found f;

	bench_mount("ram=2G");
	struct vf_view *v = open_view();
	vf_view_info(v, &f.info);
	f.recall = recall(v);
	vf_view_close(v);
	bench_unmount();
	ask_cold(&f);
	bench_note("%llu rows in %zu shards, %u leaves: recall of ten %.3f, a "
		   "cold query %.0f GETs, %.0f of them to open it",
		   (unsigned long long)f.info.n_rows, f.info.n_shards,
		   f.info.n_leaves, f.recall, f.cold_gets, f.opening_gets);
	return f;
}

/* Of the same rows: an index that grew has another recall by its size alone. */
static void compare_with_compacted(void)
{
	struct found before = look();

	end_compaction(start_compaction());
	struct found after = look();
	bench_result("recall of ten after upserts, points below a compaction's",
		     100 * (after.recall - before.recall), "", BENCH_AT_MOST,
		     1);
	bench_result("cold GETs, before to after a compaction",
		     before.cold_gets / after.cold_gets, "x", BENCH_AT_MOST, 2);
}

void write_queries(void)
{
	beside();
	compare_with_compacted();
}
