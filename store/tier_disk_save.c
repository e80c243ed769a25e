/*
 * The index thread: it alone touches LMDB, in batches and never for a read.
 *
 *   load   of a version opened for the first time; others wait at most 2 s
 *   save   1. snapshot of what changed, [mtx]   2. fdatasync of those files,
 *          through the ring   3. one transaction
 *
 * So a record never claims bytes that were not on disk before it, but for
 * blocks punched since, and those their checksums refuse.
 */
#include "store/tier_disk_impl.h"

#include <stdio.h>

enum {
	SWEEP_EVERY_NS = 20000000,
	RETRY_NS = 1000000000,
};

/* A file in a save. */
struct vf_disk_save {
	struct vf_io io;
	struct vf_disk_file *file;
	struct vf_disk_record record;
	struct vf_buf groups; /* le32 number, le32 len, value; len 0: delete */
	bool drop, sync;
	int err;
	struct vf_disk_save *next;
};

/* ---- load ------------------------------------------------------------------------------- */

static void load_files(struct vf_disk *d)
{
	struct vf_disk_file *f;

	while ((f = d->load)) {
		int err;
		d->load = f->load_next;
		pthread_mutex_unlock(&d->mtx);
		err = vf_disk_load(f);
		pthread_mutex_lock(&d->mtx);
		f->state = err ? VF_DISK_DEAD : VF_DISK_READY;
		d->is_late = false;
		pthread_cond_broadcast(&d->changed);
	}
}

/* ---- save: the snapshot, caller holds mtx ------------------------------------------------- */

static int encode_group(struct vf_disk_group *g, struct vf_buf *out)
{
	struct vf_disk_file *f = g->file;
	uint32_t n_crc = f->disk->n_crc;
	struct vf_disk_group_record r = {.number = g->number,
					 .generation = f->generation,
					 .n_crc = n_crc};
	VF_AUTO_FREE uint8_t *crcs = malloc((size_t)VF_DISK_GROUP * n_crc * 4);
	uint8_t head[8], *at = crcs;
	size_t from = out->len;
	int err;

	if (!crcs)
		return -ENOMEM;
	for (unsigned i = 0; i < VF_DISK_GROUP; i++) {
		const struct vf_disk_block *b = &g->blocks[i];
		r.pinned |= (uint32_t)b->pinned << i;
		if (b->state != VF_BLOCK_VALID)
			continue;
		r.present |= 1u << i;
		for (uint32_t k = 0; k < n_crc; k++, at += 4)
			vf_put_le32(at, vf_disk_crcs(g, b)[k]);
	}
	r.crcs = crcs;
	vf_put_le32(head, g->number);
	err = vf_buf_append(out, head, sizeof(head));
	if (!err && (r.present | r.pinned))
		err = vf_disk_group_encode(f->id, &r, out);
	if (err)
		out->len = from;
	else
		vf_put_le32(out->data + from + 4,
			    (uint32_t)(out->len - from - 8));
	return err;
}

/* Returns how many groups; the file stays dirty when some are left. */
static size_t encode_file(struct vf_disk_file *f, struct vf_disk_save *s,
			  size_t max)
{
	struct vf_disk_group *g;
	size_t n = 0;

	while (n < max && (g = f->dirty_groups)) {
		if (encode_group(g, &s->groups))
			break;
		f->dirty_groups = g->dirty_next;
		g->dirty = false;
		vf_disk_group_release(g);
		n++;
	}
	memcpy(s->record.id, f->id, 16);
	s->record.size = f->size;
	s->record.block_len = f->disk->opt.block_len;
	s->record.generation = f->generation;
	s->record.last_use = f->last_use;
	s->record.bytes = f->bytes + (f->fd >= 0 ? vf_disk_file_cost(f) : 0);
	s->record.pinned = f->pinned;
	memcpy(s->record.label, f->label, sizeof(s->record.label));
	s->drop = !f->n_valid && !f->n_pinned && !f->dirty_groups;
	s->sync = f->unsynced && f->fd >= 0;
	return n;
}

static void finish_sync(struct vf_io *io, int res)
{
	struct vf_disk_save *s = (struct vf_disk_save *)io;
	struct vf_disk *d = s->file->disk;

	pthread_mutex_lock(&d->mtx);
	s->err = res;
	if (res) {
		d->stats.n_error++;
		vf_disk_rest(d, false, res, "fdatasync");
	}
	if (!--d->n_syncs)
		pthread_cond_signal(&d->wake_index);
	pthread_mutex_unlock(&d->mtx);
}

static struct vf_disk_save *take_dirty(struct vf_disk *d)
{
	struct vf_disk_save *list = NULL, *s;
	struct vf_disk_file *f;
	size_t n = 0;

	while ((f = d->dirty) && n < d->batch && (s = calloc(1, sizeof(*s)))) {
		n += 1 + encode_file(f, s, d->batch - n);
		s->file = f;
		s->next = list;
		list = s;
		f->io++;
		if (s->sync) {
			f->unsynced = false;
			d->n_syncs++;
		}
		if (f->dirty_groups)
			break;
		f->dirty = false;
		d->dirty = f->dirty_next;
	}
	return list;
}

static struct vf_disk_save *begin_save(struct vf_disk *d)
{
	struct vf_disk_save *list;

	d->saving = true;
	d->n_changes = 0;
	list = take_dirty(d);
	d->save_at_ns = d->dirty ? 1 : 0;
	if (!d->dirty) {
		d->saving_bytes = d->unsaved - d->writing_bytes;
		d->unsaved = d->writing_bytes;
	}
	pthread_mutex_unlock(&d->mtx);
	for (struct vf_disk_save *s = list; s; s = s->next) {
		if (!s->sync)
			continue;
		s->io.op = VF_IO_SYNC;
		s->io.fd = s->file->fd; /* stays while io > 0 */
		s->io.done = finish_sync;
		vf_uring_submit(d->ring, &s->io);
	}
	pthread_mutex_lock(&d->mtx);
	return list;
}

/* ---- save: the transaction, without mtx ----------------------------------------------------- */

static int put_groups(struct vf_disk *d, const struct vf_disk_save *s)
{
	const uint8_t *p = s->groups.data, *end = p + s->groups.len;
	int err = 0;

	while (!err && p < end) {
		uint32_t len = vf_le32(p + 4);
		err = vf_disk_index_put_group(d->index, s->record.id,
					      vf_le32(p), p + 8, len);
		p += 8 + len;
	}
	return err;
}

static int put_save(struct vf_disk *d, const struct vf_disk_save *s)
{
	int err;

	if (s->drop)
		return vf_disk_index_drop_file(d->index, s->record.id);
	err = put_groups(d, s);
	return err ? err : vf_disk_index_put_file(d->index, &s->record);
}

static int commit_save(struct vf_disk *d, const struct vf_disk_save *list)
{
	int err = vf_disk_index_begin(d->index);

	if (err)
		return err;
	for (const struct vf_disk_save *s = list; s && !err; s = s->next)
		if (!s->err)
			err = put_save(d, s);
	if (!err)
		return vf_disk_index_commit(d->index);
	vf_disk_index_abort(d->index);
	return err;
}

/* It was not saved: all is dirty again; mtx. */
static void mark_again(struct vf_disk_save *s)
{
	const uint8_t *p = s->groups.data, *end = p + s->groups.len;
	struct vf_disk_file *f = s->file;

	for (; p < end; p += 8 + vf_le32(p + 4)) {
		uint64_t number = (uint64_t)vf_le32(p) * VF_DISK_GROUP;
		struct vf_disk_block *b = vf_disk_block_at(f, number, true);
		if (b)
			vf_disk_mark_group(vf_disk_group_of(b));
	}
	f->unsynced |= s->sync;
	vf_disk_mark_file(f);
}

static int free_saves(struct vf_disk *d, struct vf_disk_save *list, int err)
{
	while (list) {
		struct vf_disk_save *s = list;
		struct vf_disk_file *f = s->file;
		list = s->next;
		if (err || s->err) {
			mark_again(s);
			err = err ? err : s->err;
		} else {
			f->has_record = !s->drop;
		}
		vf_disk_io_end(f);
		vf_buf_fini(&s->groups);
		free(s);
	}
	return err;
}

/* mtx is held, and let go in between. */
static void end_save(struct vf_disk *d, struct vf_disk_save *list)
{
	uint64_t allocated, live;
	int err;

	pthread_mutex_unlock(&d->mtx);
	err = commit_save(d, list);
	allocated = vf_disk_index_allocated(d->index);
	live = vf_disk_index_live(d->index);
	pthread_mutex_lock(&d->mtx);
	d->crowded = err == -ENOSPC || live > d->map_len / 2;
	err = free_saves(d, list, err);
	d->want_some |= d->crowded;
	d->meta_bytes = allocated;
	if (err) {
		d->unsaved += d->saving_bytes;
		d->save_at_ns = vf_now_ns() + RETRY_NS;
		d->stats.n_error++;
	}
	d->saving_bytes = 0;
	d->saving = d->no_cold = false;
	d->save_err = err;
	d->n_saves++;
	pthread_cond_signal(&d->wake_writer);
	pthread_cond_broadcast(&d->changed);
}

/* ---- the thread: mtx held --------------------------------------------------------------------- */

static bool is_due(const struct vf_disk *d)
{
	return d->dirty && !d->saving &&
	       (d->stop_index || vf_now_ns() >= d->save_at_ns ||
		(!d->save_err && (d->n_flush || d->n_changes >= 1024)));
}

static void wait_for_work(struct vf_disk *d)
{
	uint64_t until = d->saving ? 0 : d->save_at_ns;

	if (d->sweeping)
		until = vf_now_ns() + SWEEP_EVERY_NS;
	vf_disk_wait(d, &d->wake_index, until);
}

static void sweep_some(struct vf_disk *d, struct vf_disk_sweep *sweep)
{
	bool done;

	pthread_mutex_unlock(&d->mtx);
	done = !sweep || vf_disk_sweep_some(sweep);
	pthread_mutex_lock(&d->mtx);
	if (done)
		d->sweeping = false;
}

/*
 * At the end all is saved, or one save failed that began after the end was
 * asked for: an earlier one may have failed on a disk that works again.
 */
static bool is_finished(const struct vf_disk *d, uint64_t *last_try)
{
	if (!d->stop_index)
		return false;
	if (*last_try == UINT64_MAX)
		*last_try = d->n_saves + d->saving;
	return !d->saving &&
	       (!d->dirty || (d->save_err && d->n_saves > *last_try));
}

static void work(struct vf_disk *d, struct vf_disk_sweep *sweep)
{
	struct vf_disk_save *save = NULL;
	uint64_t last_try = UINT64_MAX;

	while (!is_finished(d, &last_try)) {
		if (d->load)
			load_files(d);
		if (d->want_cold)
			vf_disk_load_cold(d);
		if (is_due(d))
			save = begin_save(d);
		if (d->saving && !d->n_syncs) {
			end_save(d, save);
			continue;
		}
		if (d->n_idle > d->idle_max)
			vf_disk_unload_some(d);
		if (d->load || d->want_cold || is_due(d))
			continue;
		wait_for_work(d);
		if (d->sweeping && !d->stop_index)
			sweep_some(d, sweep);
	}
}

static void close_index(struct vf_disk *d)
{
	bool clean = !d->evicting && !d->dirty && !d->janitor;

	if (vf_disk_index_begin(d->index))
		return;
	vf_disk_index_set(d->index, clean, d->unknown, d->generation);
	vf_disk_index_commit(d->index);
}

void *vf_disk_index_run(void *disk)
{
	struct vf_disk_sweep *sweep = NULL;
	struct vf_disk *d = disk;

	if (d->sweeping && vf_disk_sweep_open(d, &sweep))
		vf_log(VF_WARN, "%s: no memory to look for leftovers", d->dir);
	pthread_mutex_lock(&d->mtx);
	work(d, sweep);
	pthread_mutex_unlock(&d->mtx);
	vf_disk_sweep_close(sweep);
	close_index(d);
	return NULL;
}
