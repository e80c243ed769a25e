#include "bench/index_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "index/index.h"
#include "query/engine.h"

enum { ARGS_MAX = 32, CHUNK = 64 };

static const char *stage = "";

void bench_stage(const char *prefix)
{
	stage = prefix;
}

void bench_path(const char *name, char out[BENCH_PATH])
{
	snprintf(out, BENCH_PATH, "%s/%s%s", bench.dir, stage, name);
}

/* ---- vectool -------------------------------------------------------------------------- */

struct bench_put bench_tool_timed(const char *const args[])
{
	char path[BENCH_PATH];
	char *argv[ARGS_MAX] = {path};
	struct rusage use = {0};
	uint64_t start = vf_now_ns();
	int status = -1;

	snprintf(path, sizeof(path), "%s/vectool", bench.bin);
	for (size_t n = 1; n + 1 < ARGS_MAX && args[n - 1]; n++)
		argv[n] = (char *)args[n - 1];
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		execv(path, argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &use) != pid || status) {
		errno = EIO;
		bench_fail(path);
	}
	return (struct bench_put){(double)(vf_now_ns() - start) / 1e9,
				  use.ru_maxrss};
}

struct bench_put bench_put(const char *name, const char *npy,
			   const char *const more[])
{
	char target[BENCH_PATH], cache[BENCH_PATH], file[PATH_MAX + 16];
	const char *args[ARGS_MAX] = {"put", target, file,	    "-q",
				      "-j",  "2",    "--cache-dir", cache};
	size_t n = 8;

	snprintf(file, sizeof(file), "%s", npy);
	bench_path(name, target);
	bench_path("catalogs", cache);
	for (size_t i = 0; more && more[i] && n + 1 < ARGS_MAX; i++)
		args[n++] = more[i];
	return bench_tool_timed(args);
}

/* ---- views ---------------------------------------------------------------------------- */

static struct vf_view *open_view(const char *name)
{
	char path[BENCH_PATH];
	struct vf_view *v;

	bench_path(name, path);
	if (vf_view_open(path, NULL, &v)) {
		errno = EIO;
		bench_fail(path);
	}
	return v;
}

/* Lines of records beside their compressed form, as a mount shows them. */
static bool unpack_records(const struct vf_file *f)
{
	VF_AUTO_FREE char *path = f->map ? NULL : strdup(f->path);
	VF_AUTO_FREE char *lines = malloc(f->len + 1);

	if (f->map)
		return false;
	if (!path || !lines || vf_file_read(f, 0, f->len, lines))
		bench_fail(f->path);
	path[strlen(path) - strlen(".zst")] = 0;
	FILE *out = fopen(path, "we");
	if (!out || fwrite(lines, 1, f->len, out) != f->len || fclose(out))
		bench_fail(path);
	return true;
}

struct vf_view *bench_view(const char *name)
{
	struct vf_view *v = open_view(name);
	bool is_packed = false;

	for (size_t i = 0; i < v->n_shards; i++)
		is_packed |= unpack_records(&v->shards[i].records);
	if (!is_packed)
		return v;
	vf_view_close(v);
	return open_view(name);
}

/* ---- truth: maps stay until the end ---------------------------------------------------------------------------- */

const void *bench_map(const char *path, struct vf_npy *npy)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t len = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	const char *why = "";
	uint8_t *p =
		len > 0 ? mmap(NULL, (size_t)len, PROT_READ, MAP_SHARED, fd, 0)
			: MAP_FAILED;

	if (p == MAP_FAILED || vf_npy_parse(p, (size_t)len, npy, &why))
		bench_fail(path);
	return p + npy->data_off;
}

void bench_truth(const char *path, enum vf_metric metric, struct bench_exam *e)
{
	struct vf_npy npy;
	const uint8_t *rows = bench_map(path, &npy);
	struct vf_hit *hits = calloc(e->q.n * BENCH_TOP, sizeof(*hits));
	struct vf_topk *top = calloc(e->q.n, sizeof(*top));
	size_t row_len = npy.dim * vf_dtype_size(npy.dtype);
	float dist[CHUNK];

	e->right = (struct vf_ids){e->q.n, BENCH_TOP,
				   calloc(e->q.n * BENCH_TOP, sizeof(int64_t))};
	if (!hits || !top || !e->right.id)
		bench_fail("memory");
	for (size_t i = 0; i < e->q.n; i++)
		top[i] = (struct vf_topk){.hits = hits + i * BENCH_TOP,
					  .k = BENCH_TOP};
	for (uint64_t row = 0; row < npy.n_rows; row += CHUNK) {
		size_t n = VF_MIN((uint64_t)CHUNK, npy.n_rows - row);
		for (size_t i = 0; i < e->q.n; i++) {
			vf_exact_distances(metric, npy.dtype, e->q.dim,
					   e->q.x + i * e->q.dim,
					   rows + row * row_len, n, dist);
			for (size_t j = 0; j < n; j++)
				vf_topk_push(&top[i], dist[j], row + j);
		}
	}
	for (size_t i = 0; i < e->q.n * BENCH_TOP; i++)
		e->right.id[i] = (int64_t)hits[i].id;
	free(hits);
	free(top);
}

/* ---- asking --------------------------------------------------------------------------- */

static uint32_t count_right(const struct bench_exam *e, size_t query,
			    const struct vf_answer *a)
{
	const int64_t *right = e->right.id + query * e->right.k;
	uint32_t n = 0;

	for (size_t i = 0; i < a->n_hits; i++)
		for (uint32_t j = 0; j < BENCH_TOP; j++)
			n += strtoll(a->hits[i].key, NULL, 10) == right[j];
	return n;
}

static void ask_once(struct vf_view *v, const struct bench_exam *e,
		     const struct vf_search *s, double *ms, double *scan,
		     double *fetch, struct bench_found *out)
{
	double n = (double)e->q.n;

	*out = (struct bench_found){0};
	for (size_t i = 0; i < e->q.n; i++) {
		struct vf_answer *a;
		errno = EIO;
		if (vf_view_search(v, e->q.x + i * e->q.dim, s, &a))
			bench_fail("search");
		ms[i] = a->cost.total_ms;
		scan[i] = a->cost.scan_ms;
		fetch[i] = a->cost.fetch_ms;
		out->recall += count_right(e, i, a) / (BENCH_TOP * n);
		out->scanned += (double)a->cost.scanned / n;
		out->read += (double)a->cost.rows_read / n;
		vf_answer_free(a);
	}
	out->p50_ms = bench_median(ms, e->q.n);
	out->scan_ms = bench_median(scan, e->q.n);
	out->fetch_ms = bench_median(fetch, e->q.n);
}

struct bench_found bench_ask(struct vf_view *v, const struct bench_exam *e,
			     struct vf_search s, unsigned rounds)
{
	VF_AUTO_FREE double *ms = calloc(e->q.n, sizeof(*ms));
	VF_AUTO_FREE double *scan = calloc(e->q.n, sizeof(*scan));
	VF_AUTO_FREE double *fetch = calloc(e->q.n, sizeof(*fetch));
	struct bench_found best = {0}, f;

	if (!ms || !scan || !fetch)
		bench_fail("memory");
	s.k = BENCH_TOP;
	s.no_metadata = true;
	for (unsigned i = 0; i < rounds; i++) {
		ask_once(v, e, &s, ms, scan, fetch, &f);
		double p50 = i ? VF_MIN(best.p50_ms, f.p50_ms) : f.p50_ms;
		double scan_ms =
			i ? VF_MIN(best.scan_ms, f.scan_ms) : f.scan_ms;
		best = f;
		best.p50_ms = p50;
		best.scan_ms = scan_ms;
	}
	return best;
}

struct bench_found bench_reach(struct vf_view *v, const struct bench_exam *e,
			       double recall, uint32_t candidates)
{
	struct vf_search s = {.candidates = candidates};
	struct bench_exam one = *e;
	struct vf_view_info info;

	vf_view_info(v, &info);
	one.q.n = 1; /* codes of all leaves are read before any time counts */
	s.probes = VF_PROBES_ALL;
	bench_ask(v, &one, s, 1);
	for (uint32_t n = 4; n < info.n_leaves; n += n / 4) {
		s.probes = n;
		if (bench_ask(v, e, s, 1).recall >= recall)
			return bench_ask(v, e, s, 3);
	}
	s.probes = VF_PROBES_ALL;
	return bench_ask(v, e, s, 3);
}
