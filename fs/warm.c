/*
 * Warm-ups: the queue of jobs and the threads that run them, one each; the last
 * ended jobs are remembered for whoever asks how it went.
 */
#include "fs/warm_impl.h"
#include "store/thread.h"

#include <inttypes.h>

enum { ENDED_MAX = 64 };

/* ---- the queue ----------------------------------------------------------------------------- */

static void free_job(struct job *job)
{
	vf_stored_fini(&job->list);
	free(job->path);
	free(job);
}

static struct job *next_queued(struct vf_warm *w)
{
	struct job *j = w->jobs;

	while (j && j->state != QUEUED)
		j = j->next;
	return j;
}

static void forget_ended(struct vf_warm *w)
{
	unsigned n = 0;

	for (const struct job *j = w->jobs; j; j = j->next)
		n += j->state == ENDED;
	for (struct job **at = &w->jobs; *at && n > ENDED_MAX;) {
		struct job *j = *at;
		if (j->state != ENDED) {
			at = &j->next;
			continue;
		}
		*at = j->next;
		free_job(j);
		n--;
	}
}

static void log_end(const struct job *j)
{
	vf_log(VF_INFO, "%s: warmed: %" PRIu64 " of %" PRIu64 " bytes%s%s",
	       *j->path ? j->path : "/", atomic_load(&j->done), j->total,
	       j->err ? ": " : "", j->err ? vf_strerror(j->err) : "");
}

static void *run_jobs(void *arg)
{
	struct vf_warm *w = arg;

	pthread_mutex_lock(&w->mtx);
	while (!w->stopped) {
		struct job *j = next_queued(w);
		VF_AUTO_FREE char *again = NULL;
		if (!j) {
			w->n_idle++;
			pthread_cond_wait(&w->cond, &w->mtx);
			w->n_idle--;
			continue;
		}
		j->state = RUNNING;
		pthread_mutex_unlock(&w->mtx);
		vf_warm_run(w, j);
		log_end(j);
		if (j->err && j->err != -ECANCELED && j->for_pin)
			again = strdup(j->path);
		pthread_mutex_lock(&w->mtx);
		j->state = ENDED;
		vf_stored_fini(&j->list);
		forget_ended(w); /* perhaps this one too */
		pthread_mutex_unlock(&w->mtx);
		if (again)
			vf_pins_retry(w->fs, again);
		pthread_mutex_lock(&w->mtx);
	}
	pthread_mutex_unlock(&w->mtx);
	return NULL;
}

/* One for the job to be queued next.  Caller holds mtx. */
static int need_thread(struct vf_warm *w)
{
	unsigned n_queued = 0;
	int err;

	for (const struct job *j = w->jobs; j; j = j->next)
		n_queued += j->state == QUEUED;
	if (w->n_idle > n_queued || w->n_threads == VF_WARM_THREADS_MAX)
		return 0;
	err = vf_thread_start(&w->threads[w->n_threads], run_jobs, w);
	if (!err)
		w->n_threads++;
	return w->n_threads ? 0 : err; /* else the others will do it */
}

static int check_fits(const struct fs *fs, const char *path, uint64_t bytes)
{
	uint64_t most = fs->disk ? fs->opt.disk.size : fs->opt.cache.ram_len;

	if (bytes <= most)
		return 0;
	return vf_fail(-ENOSPC,
		       "%s: cannot warm it: %" PRIu64 " bytes, the %s holds "
		       "%" PRIu64,
		       *path ? path : "/", bytes,
		       fs->disk ? "disk tier" : "cache in RAM", most);
}

int vf_warm_start(struct fs *fs, const char *path, struct vf_stored_list *list,
		  uint64_t rate, unsigned flags)
{
	struct vf_warm *w = fs->warm;
	struct job *j = NULL, **at = &w->jobs;
	int err = check_fits(fs, path, list->bytes);

	if (!err) {
		j = calloc(1, sizeof(*j));
		err = j && (j->path = strdup(path)) ? 0 : -ENOMEM;
	}
	if (err) {
		free(j);
		vf_stored_fini(list);
		return err;
	}
	j->list = *list;
	*list = (struct vf_stored_list){0};
	j->total = j->list.bytes;
	j->rate = rate;
	j->for_pin = flags & VF_WARM_FOR_PIN;
	pthread_mutex_lock(&w->mtx);
	err = w->stopped ? -ECANCELED : need_thread(w);
	if (!err) {
		while (*at)
			at = &(*at)->next;
		*at = j;
		pthread_cond_broadcast(&w->cond);
	}
	pthread_mutex_unlock(&w->mtx);
	if (err)
		free_job(j);
	return err;
}

void vf_warm_cancel(struct fs *fs, const char *path, unsigned flags)
{
	struct vf_warm *w = fs->warm;

	pthread_mutex_lock(&w->mtx);
	for (struct job *j = w->jobs; j; j = j->next)
		if (!strcmp(j->path, path) &&
		    (j->for_pin || !(flags & VF_WARM_FOR_PIN)))
			atomic_store(&j->cancelled, true);
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

/* ---- asking ---------------------------------------------------------------------------------- */

int vf_warm_text(struct fs *fs, const char *path, struct vf_buf *out)
{
	struct vf_warm *w = fs->warm;
	const struct job *newest = NULL;
	int err = -ENODATA;

	pthread_mutex_lock(&w->mtx);
	for (const struct job *j = w->jobs; j; j = j->next)
		if (!strcmp(j->path, path))
			newest = j;
	if (newest)
		err = vf_buf_printf(out, "%" PRIu64 " of %" PRIu64 "%s%s",
				    atomic_load(&newest->done), newest->total,
				    newest->state == ENDED && newest->err
					    ? " failed: "
					    : "",
				    newest->state == ENDED && newest->err
					    ? vf_strerror(newest->err)
					    : "");
	pthread_mutex_unlock(&w->mtx);
	return err;
}

void vf_warm_stats(struct vf_warm *w, struct vf_warm_stats *out)
{
	*out = (struct vf_warm_stats){0};
	pthread_mutex_lock(&w->mtx);
	for (const struct job *j = w->jobs; j; j = j->next) {
		if (j->state == ENDED)
			continue;
		out->n_jobs++;
		out->bytes_left += j->total - atomic_load(&j->done);
	}
	pthread_mutex_unlock(&w->mtx);
}

/* ---- open and close ---------------------------------------------------------------------- */

int vf_warm_open(struct fs *fs, struct vf_warm **out)
{
	struct vf_warm *w = calloc(1, sizeof(*w));

	*out = w;
	if (!w)
		return -ENOMEM;
	w->fs = fs;
	pthread_mutex_init(&w->mtx, NULL);
	vf_cond_init(&w->cond);
	return 0;
}

void vf_warm_stop(struct vf_warm *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->mtx);
	w->stopped = true;
	pthread_cond_broadcast(&w->cond);
	while (w->n_starting)
		pthread_cond_wait(&w->cond, &w->mtx);
	pthread_mutex_unlock(&w->mtx);
}

void vf_warm_close(struct vf_warm *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	while (w->jobs) {
		struct job *next = w->jobs->next;
		free_job(w->jobs);
		w->jobs = next;
	}
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->mtx);
	free(w);
}
