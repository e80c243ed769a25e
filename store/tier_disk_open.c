/*
 * Opening and closing the disk tier: options, index, threads.
 */
#include "store/thread.h"
#include "store/tier_disk_impl.h"

#include <stdio.h>
#include <sys/resource.h>

enum {
	SIZE_MIN = 4 << 20,
	BLOCKS_MIN = 16,
	BLOCK_LEN_MAX = 16 << 20,
	IDLE_MAX = 4096,
};

static int check_options(const struct vf_disk_options *o)
{
	if (!o->dir || strlen(o->dir) > 3900)
		return vf_fail(-EINVAL, "a disk cache needs a folder");
	if (o->block_len < VF_DISK_PAGE || o->block_len % VF_DISK_PAGE ||
	    o->block_len > BLOCK_LEN_MAX)
		return vf_fail(-EINVAL, "%s: blocks of %u bytes", o->dir,
			       o->block_len);
	if (o->size < SIZE_MIN || o->size / BLOCKS_MIN < o->block_len)
		return vf_fail(-EINVAL,
			       "%s: a disk cache of %llu bytes is too small: "
			       "at least %d, and %d blocks",
			       o->dir, (unsigned long long)o->size, SIZE_MIN,
			       BLOCKS_MIN);
	return 0;
}

static void init_sync(struct vf_disk *d)
{
	pthread_cond_t *conds[] = {&d->wake_writer, &d->wake_index,
				   &d->wake_watch, &d->changed};

	pthread_mutex_init(&d->mtx, NULL);
	for (unsigned i = 0; i < VF_N(conds); i++)
		vf_cond_init(conds[i]);
}

static struct vf_disk *new_disk(const struct vf_disk_options *opt)
{
	struct vf_disk *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	init_sync(d);
	d->opt = *opt;
	d->dir_fd = d->data_fd = d->lock_fd = -1;
	d->queue_end = &d->queue;
	d->opened_ns = vf_now_ns();
	d->wait_ns = (opt->wait_ms ? opt->wait_ms : 2000) * UINT64_C(1000000);
	d->n_crc = opt->block_len / VF_DISK_PAGE;
	d->batch = VF_MAX((size_t)16, VF_MIN((size_t)1024, opt->size >> 22));
	d->map_len = VF_MAX(opt->size / 4, UINT64_C(1) << 20) & ~UINT64_C(4095);
	d->unsaved_max = VF_MIN(opt->size / 16, UINT64_C(64) << 20);
	d->mask = 255;
	d->table = calloc(d->mask + 1, sizeof(*d->table));
	d->dir = strdup(opt->dir);
	d->opt.dir = d->dir;
	if (d->dir && asprintf(&d->index_path, "%s/index", d->dir) < 0)
		d->index_path = NULL;
	if (!d->table || !d->dir || !d->index_path) {
		vf_disk_close(d);
		return NULL;
	}
	return d;
}

/* Each file in RAM holds a descriptor: leave most for others. */
static size_t idle_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 64;
	return VF_MIN((size_t)IDLE_MAX, (size_t)r.rlim_cur / 4);
}

/* Open it, and write there that it is in use. */
static int enter_index(struct vf_disk *d, struct vf_disk_total *out)
{
	bool was_lost;
	int err = vf_disk_index_open(d->index_path, d->map_len, &was_lost,
				     &d->index);

	if (err)
		return err;
	vf_disk_index_total(d->index, out);
	err = vf_disk_index_begin(d->index);
	if (err)
		return err;
	/* what was written and not saved when it ended without closing */
	if (!was_lost && !out->clean)
		out->unknown += d->unsaved_max;
	for (unsigned i = 0; was_lost && i < VF_N(d->subdir); i++)
		if (d->subdir[i])
			out->unknown = d->opt.size; /* any number of files */
	out->unknown = VF_MIN(out->unknown, d->opt.size);
	vf_disk_index_set(d->index, false, out->unknown, out->generation + 1);
	return vf_disk_index_commit(d->index);
}

static int open_index(struct vf_disk *d)
{
	struct vf_disk_total t;
	int err = enter_index(d, &t);

	if (err && d->index) { /* if it is damaged, closing removes it */
		vf_disk_index_close(d->index);
		err = enter_index(d, &t);
	}
	if (err)
		return err;
	d->generation = t.generation + 1;
	d->used = d->cold = t.bytes;
	d->pinned = t.pinned;
	d->unknown = t.unknown;
	d->sweeping = d->unknown != 0;
	d->meta_slack = (2 * d->batch + 64) * UINT64_C(4096);
	d->meta_bytes = vf_disk_index_allocated(d->index);
	return 0;
}

static int start(struct vf_disk *d, pthread_t *t, bool *has,
		 void *(*run)(void *))
{
	int err = vf_thread_start(t, run, d);

	*has = !err;
	return err ? vf_fail(err, "cannot start a thread: %s", strerror(-err))
		   : 0;
}

int vf_disk_open(const struct vf_disk_options *opt, struct vf_disk **out)
{
	struct vf_disk *d;
	int err = check_options(opt);

	*out = NULL;
	if (err)
		return err;
	d = new_disk(opt);
	if (!d)
		return -ENOMEM;
	d->idle_max = idle_limit();
	err = vf_policy_open(opt->policy, opt->size / opt->block_len,
			     opt->ttl_s, &d->policy);
	if (err == -EINVAL)
		vf_log(VF_ERROR, "no such policy: \"%s\"", opt->policy);
	if (!err)
		err = vf_disk_dir_open(d);
	if (!err)
		err = open_index(d);
	if (!err)
		err = vf_uring_open(&d->ring);
	if (!err)
		err = start(d, &d->watcher, &d->has_watcher, vf_disk_watch_run);
	if (!err)
		err = start(d, &d->indexer, &d->has_indexer, vf_disk_index_run);
	if (!err)
		err = start(d, &d->writer, &d->has_writer, vf_disk_writer_run);
	if (err) {
		vf_disk_close(d);
		return err;
	}
	*out = d;
	return 0;
}

static void stop(struct vf_disk *d, bool *flag, pthread_cond_t *wake,
		 pthread_t t, bool has)
{
	if (!has)
		return;
	pthread_mutex_lock(&d->mtx);
	*flag = true;
	pthread_cond_broadcast(wake);
	pthread_mutex_unlock(&d->mtx);
	pthread_join(t, NULL);
}

static void free_files(struct vf_disk *d)
{
	for (size_t i = 0; d->table && i <= d->mask; i++)
		while (d->table[i]) {
			struct vf_disk_file *f = d->table[i];
			d->table[i] = f->hash_next;
			vf_disk_file_free(f);
		}
	free(d->table);
	vf_disk_buffers_free(d);
}

void vf_disk_close(struct vf_disk *d)
{
	if (!d)
		return;
	stop(d, &d->stop_writer, &d->wake_writer, d->writer, d->has_writer);
	stop(d, &d->stop_index, &d->wake_index, d->indexer, d->has_indexer);
	stop(d, &d->stop_watch, &d->wake_watch, d->watcher, d->has_watcher);
	vf_uring_close(d->ring);
	vf_disk_index_close(d->index);
	vf_policy_close(d->policy);
	free_files(d);
	vf_disk_dir_close(d);
	pthread_cond_destroy(&d->wake_writer);
	pthread_cond_destroy(&d->wake_index);
	pthread_cond_destroy(&d->wake_watch);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->mtx);
	free(d->index_path);
	free(d->dir);
	free(d);
}
