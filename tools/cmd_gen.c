/*
 * vectool gen: a file of synthetic vectors.  Threads take batches of rows and
 * write each where it belongs; memory is one batch per thread.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "store/npy.h"
#include "store/thread.h"
#include "store/util.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/synth.h"
#include "tools/verb.h"

static struct {
	uint64_t n_rows, dim, seed, n_queries;
	const char *queries_out;
} opt;

static const struct vf_arg options[] = {
	{"rows", 0, VF_ARG_COUNT, &opt.n_rows, 1, UINT64_C(1) << 40},
	{"dim", 0, VF_ARG_COUNT, &opt.dim, VF_DIM_MIN, VF_DIM_MAX},
	{"seed", 0, VF_ARG_COUNT, &opt.seed, 0, 0},
	{"queries", 0, VF_ARG_COUNT, &opt.n_queries, 1, UINT64_C(1) << 40},
	{"queries-out", 0, VF_ARG_STRING, &opt.queries_out, 0, 0},
	{0}};

/* One file being made by several threads. */
struct job {
	const struct vf_synth *synth;	 /* [fixed] */
	enum vf_synth_stream stream;	 /* [fixed] */
	const char *path;		 /* [fixed] */
	uint64_t n_rows, batch, n_bytes; /* [fixed] n_bytes: of one row */
	int fd;				 /* [fixed] */
	atomic_uint_fast64_t next, done; /* rows */
	atomic_int err;			 /* the first */
	struct vf_progress progress;	 /* the calling thread's */
};

/* Make batches until none is left; @shows: this thread shows progress. */
static int make_batches(struct job *j, bool shows)
{
	VF_AUTO_FREE float *rows = malloc(j->batch * j->n_bytes);
	int err = rows ? 0 : -ENOMEM;

	while (!err && !atomic_load(&j->err)) {
		uint64_t first = atomic_fetch_add(&j->next, j->batch);
		if (first >= j->n_rows)
			return 0;
		size_t n = (size_t)VF_MIN(j->batch, j->n_rows - first);
		vf_synth_rows(j->synth, j->stream, first, n, rows);
		err = vf_pwrite_all(j->fd, rows, n * j->n_bytes,
				    VF_NPY_DATA_OFF + first * j->n_bytes);
		uint64_t done = atomic_fetch_add(&j->done, n) + n;
		if (shows)
			vf_progress_update(&j->progress, done);
		if (vf_interrupted())
			err = -ECANCELED;
	}
	return err;
}

static void note_error(struct job *j, int err)
{
	int none = 0;

	if (err && atomic_compare_exchange_strong(&j->err, &none, err) &&
	    err != -ECANCELED)
		vf_log(VF_ERROR, "%s: %s", j->path, vf_strerror(err));
}

static void *run_thread(void *arg)
{
	note_error(arg, make_batches(arg, false));
	return NULL;
}

static int run_job(struct job *j, uint64_t n_threads, bool quiet)
{
	pthread_t threads[256];
	size_t n = 0;

	vf_progress_begin(&j->progress, "gen", j->n_rows, j->n_bytes, quiet);
	while (n + 1 < n_threads &&
	       !vf_thread_start(&threads[n], run_thread, j))
		n++;
	note_error(j, make_batches(j, true));
	while (n)
		pthread_join(threads[--n], NULL);
	vf_progress_end(&j->progress);
	return atomic_load(&j->err);
}

static int make_file(const struct vf_synth *synth, const struct vf_args *a,
		     enum vf_synth_stream stream, const char *path,
		     uint64_t n_rows)
{
	struct vf_npy npy = {.dtype = VF_F32, .n_rows = n_rows, .dim = opt.dim};
	uint8_t header[VF_NPY_DATA_OFF];
	VF_AUTO_FD int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	struct job j = {.synth = synth,
			.stream = stream,
			.path = path,
			.n_rows = n_rows,
			.n_bytes = opt.dim * sizeof(float),
			.batch = VF_SYNTH_BATCH,
			.fd = fd};
	vf_npy_header(&npy, header);
	int err = vf_pwrite_all(fd, header, sizeof(header), 0);
	if (err)
		vf_log(VF_ERROR, "%s: %s", path, strerror(-err));
	else
		err = run_job(&j, a->common.n_threads, a->common.quiet);
	if (err)
		unlink(path);
	return err;
}

/* "dir/base.npy" to "dir/base.queries.npy"; caller's to free(). */
static char *default_queries_path(const char *path)
{
	size_t len = strlen(path);
	char *out;

	if (len >= 4 && !strcmp(path + len - 4, ".npy"))
		len -= 4;
	return asprintf(&out, "%.*s.queries.npy", (int)len, path) < 0 ? NULL
								      : out;
}

static int run_gen(const struct vf_args *a)
{
	const char *path = a->operands[0];
	struct vf_synth *synth;
	uint64_t start = vf_now_ns();

	if (!opt.n_rows || !opt.dim)
		return vf_fail(VF_ERR_USAGE,
			       "gen: --rows and --dim are needed");
	if (opt.queries_out && !opt.n_queries)
		return vf_fail(VF_ERR_USAGE,
			       "gen: --queries-out needs --queries");
	VF_AUTO_FREE char *beside = default_queries_path(path);
	int err = beside ? vf_synth_new((uint32_t)opt.dim, opt.seed, &synth)
			 : -ENOMEM;
	if (err)
		return vf_fail(err, "gen: %s", vf_strerror(err));
	err = make_file(synth, a, VF_SYNTH_BASE, path, opt.n_rows);
	if (!err && opt.n_queries)
		err = make_file(synth, a, VF_SYNTH_QUERIES,
				opt.queries_out ? opt.queries_out : beside,
				opt.n_queries);
	vf_synth_free(synth);
	if (!err && !a->common.quiet)
		printf("%s: %llu rows of %llu in %.1f s\n", path,
		       (unsigned long long)opt.n_rows,
		       (unsigned long long)opt.dim,
		       (double)(vf_now_ns() - start) / 1e9);
	return err;
}

const struct vf_verb vf_verb_gen = {
	.name = "gen",
	.summary = "make a file of synthetic, clustered vectors",
	.help = "usage: vectool gen --rows N --dim D --seed S [--queries Q "
		"[--queries-out FILE]]\n"
		"                   OUT.npy\n\n"
		"Writes N unit vectors of D float32 that are clustered and "
		"anisotropic, as\n"
		"embeddings are.  The same seed gives the same file, whatever "
		"the threads.\n\n"
		"  --rows N           how many\n"
		"  --dim D            elements of each\n"
		"  --seed S           (0)\n"
		"  --queries Q        also write Q vectors of the same "
		"distribution\n"
		"  --queries-out FILE where (default: OUT.queries.npy)\n\n"
		"Example:\n"
		"  vectool gen --rows 100000 --dim 1024 --seed 7 --queries 200 "
		"base.npy\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_gen,
};
