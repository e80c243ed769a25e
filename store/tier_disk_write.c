/*
 * Writing behind: vf_disk_write copies into a bounded queue; the writer thread
 * takes neighbouring blocks off it, makes room for them, and hands them to the
 * ring.  It alone makes and removes data files.
 *
 *   queued      the block is WRITING; when the queue is full there is none
 *   room made   d->used counts it
 *   written     VALID; failed: EVICTING, and the tier rests
 */
#include "store/tier_disk_impl.h"

#include <stdio.h>

enum {
	QUEUE_MAX = 16 << 20, /* bytes copied and not written yet */
	RUN_MAX = 1 << 20,    /* bytes in one write */
	RUN_BLOCKS = 256,
	LOOK_AHEAD = 256, /* queued blocks looked at for a neighbour */
	WRITES_MAX = 8,	  /* under way */
	BURST_NS = 250000000,
	CROWDED_EVICT = 64, /* blocks, after each save of a full index */
};

/* Neighbouring blocks of a file in one write. */
struct run {
	struct vf_io io;
	struct vf_disk_file *file;
	struct vf_disk_item *items; /* ascending */
	unsigned n;
	uint64_t len, cost;
	int tail_fd; /* -1: the file's own */
	struct iovec iov[RUN_BLOCKS];
};

/* ---- the queue ------------------------------------------------------------------------- */

static uint64_t queue_max(const struct vf_disk *d)
{
	return VF_MAX(VF_MIN((uint64_t)QUEUE_MAX, d->opt.size / 4),
		      2 * (uint64_t)d->opt.block_len);
}

static bool can_take(const struct vf_disk_file *f)
{
	const struct vf_disk *d = f->disk;

	return f->state == VF_DISK_READY && !d->stop_writer &&
	       !vf_disk_is_resting(d) &&
	       d->queue_bytes + d->opt.block_len <= queue_max(d) &&
	       !(d->crowded && f->fd < 0);
}

/* The block is WRITING then, with its place in the queue; mtx. */
static bool reserve(struct vf_disk_file *f, uint64_t number)
{
	struct vf_disk *d = f->disk;
	struct vf_disk_block *b = NULL;

	if (number >= f->n_blocks)
		return false;
	b = vf_disk_block_at(f, number, false);
	if (b && (b->state == VF_BLOCK_VALID || b->state == VF_BLOCK_WRITING))
		return false; /* there, or about to be */
	if ((!b || b->state == VF_BLOCK_EMPTY) && can_take(f))
		b = vf_disk_block_at(f, number, true);
	else
		b = NULL;
	if (!b) {
		d->stats.n_write_dropped++;
		return false;
	}
	b->state = VF_BLOCK_WRITING;
	f->n_live++;
	f->io++;
	d->queue_bytes += d->opt.block_len;
	d->n_reserved++;
	return true;
}

/* It was not written and will not be; mtx. */
static void cancel(struct vf_disk_file *f, uint64_t number)
{
	struct vf_disk_block *b = vf_disk_block_at(f, number, false);
	struct vf_disk *d = f->disk;

	assert(b && b->state == VF_BLOCK_WRITING);
	b->state = VF_BLOCK_EMPTY;
	b->doomed = false;
	f->n_live--;
	vf_disk_group_release(vf_disk_group_of(b));
	d->queue_bytes -= d->opt.block_len;
	d->stats.n_write_dropped++;
	vf_disk_io_end(f);
}

static struct vf_disk_item *new_item(struct vf_disk_file *f, uint64_t number,
				     const void *buf, unsigned flags)
{
	struct vf_disk *d = f->disk;
	/* Zeros: the last block has fewer checksums, and all are saved. */
	struct vf_disk_item *w =
		calloc(1, sizeof(*w) + d->n_crc * sizeof(w->crcs[0]));

	if (!w)
		return NULL;
	w->buf = vf_disk_buffer_get(d);
	if (!w->buf) {
		free(w);
		return NULL;
	}
	w->file = f;
	w->number = number;
	w->len = vf_disk_block_len(f, number);
	w->flags = flags;
	memcpy(w->buf, buf, w->len);
	vf_crc32c_each(w->buf, w->len, VF_DISK_PAGE, w->crcs);
	return w;
}

void vf_disk_write(struct vf_disk_file *f, uint64_t number, const void *buf,
		   unsigned flags)
{
	struct vf_disk *d = f->disk;
	struct vf_disk_item *w;
	bool has_place;

	pthread_mutex_lock(&d->mtx);
	has_place = reserve(f, number);
	pthread_mutex_unlock(&d->mtx);
	if (!has_place)
		return;
	w = new_item(f, number, buf, flags);
	pthread_mutex_lock(&d->mtx);
	d->n_reserved--;
	if (w) {
		*d->queue_end = w;
		d->queue_end = &w->next;
	} else {
		cancel(f, number);
	}
	pthread_cond_signal(&d->wake_writer);
	pthread_mutex_unlock(&d->mtx);
}

static void free_items(struct vf_disk *d, struct vf_disk_item *w)
{
	while (w) {
		struct vf_disk_item *next = w->next;
		vf_disk_buffer_put(d, w->buf);
		free(w);
		w = next;
	}
}

/* ---- the budget and the bound of what is not saved: mtx ------------------------------------ */

static void wait_budget(struct vf_disk *d, uint64_t len)
{
	uint64_t now = vf_now_ns();

	if (!d->opt.write_mbps)
		return;
	while (now < d->next_write_ns && !d->stop_writer) {
		vf_disk_wait(d, &d->wake_writer, d->next_write_ns);
		now = vf_now_ns();
	}
	d->next_write_ns = VF_MAX(d->next_write_ns, now - BURST_NS) +
			   len * 1000 / d->opt.write_mbps;
}

static bool wait_saved(struct vf_disk *d, uint64_t len)
{
	uint64_t until = vf_now_ns() + d->wait_ns;

	while (d->unsaved + d->saving_bytes + len > d->unsaved_max) {
		if (!d->dirty && !d->saving) /* the rest had failed */
			d->unsaved = d->writing_bytes;
		if (!d->unsaved && !d->saving_bytes)
			return true;
		if (vf_now_ns() >= until)
			return false;
		if (d->save_at_ns)
			d->save_at_ns = 1; /* now */
		pthread_cond_signal(&d->wake_index);
		vf_disk_wait(d, &d->changed, vf_now_ns() + 50000000);
	}
	return true;
}

/* ---- one write ------------------------------------------------------------------------------- */

static bool is_tail(const struct vf_disk *d, const struct vf_disk_item *w)
{
	return d->direct && w->len % VF_DISK_PAGE;
}

static struct vf_disk_item *take_item(struct vf_disk *d,
				      struct vf_disk_item **at)
{
	struct vf_disk_item *w = *at;

	*at = w->next;
	if (!*at)
		d->queue_end = at;
	w->next = NULL;
	return w;
}

/* The queued successor of @last, if it may be in the same write. */
static struct vf_disk_item *take_next(struct vf_disk *d,
				      const struct vf_disk_item *last)
{
	struct vf_disk_item **at = &d->queue;

	for (unsigned i = 0; *at && i < LOOK_AHEAD; at = &(*at)->next, i++)
		if ((*at)->file == last->file &&
		    (*at)->number == last->number + 1)
			return is_tail(d, *at) ? NULL : take_item(d, at);
	return NULL;
}

static void add_item(struct run *r, struct vf_disk_item ***end,
		     struct vf_disk_item *w)
{
	**end = w;
	*end = &w->next;
	r->iov[r->n++] = (struct iovec){w->buf, w->len};
	r->len += w->len;
	r->cost += vf_disk_block_cost(w->file, w->number);
}

/* Take neighbours off the queue, which is not empty; mtx. */
static void fill_run(struct vf_disk *d, struct run *r)
{
	struct vf_disk_item **end = &r->items, *w = take_item(d, &d->queue);
	uint64_t max = VF_MIN((uint64_t)RUN_MAX, d->unsaved_max / 2);

	r->file = w->file;
	r->tail_fd = -1;
	add_item(r, &end, w);
	while (!is_tail(d, w) && r->n < RUN_BLOCKS &&
	       r->len + d->opt.block_len <= max && (w = take_next(d, w)))
		add_item(r, &end, w);
}

static void end_item(struct vf_disk_item *w, int err,
		     struct vf_disk_punch **punch)
{
	struct vf_disk_file *f = w->file;
	struct vf_disk_block *b = vf_disk_block_at(f, w->number, false);
	struct vf_disk_group *g = vf_disk_group_of(b);
	struct vf_disk *d = f->disk;

	assert(b->state == VF_BLOCK_WRITING);
	if (!err) {
		bool doomed = b->doomed && !b->pinned;
		memcpy(vf_disk_crcs(g, b), w->crcs,
		       d->n_crc * sizeof(w->crcs[0]));
		vf_disk_set_valid(g, b, w->flags, true);
		d->stats.n_write++;
		d->stats.bytes_written += w->len;
		if (!doomed)
			goto out;
	} else {
		d->stats.n_write_dropped++;
	}
	vf_disk_set_evicting(g, b);
	vf_disk_punch_add(punch, f, w->number);
out:
	d->queue_bytes -= d->opt.block_len;
	vf_disk_io_end(f);
}

static void finish_run(struct vf_io *io, int res)
{
	struct run *r = (struct run *)io;
	struct vf_disk *d = r->file->disk;
	struct vf_disk_punch *punch = NULL;
	int err = res < 0 ? res : (uint64_t)res < r->len ? -ENOSPC : 0;

	if (r->tail_fd >= 0)
		close(r->tail_fd);
	pthread_mutex_lock(&d->mtx);
	if (err) {
		d->stats.n_error++;
		vf_disk_rest(d, false, err, "write");
	} else {
		d->rest_ms = 0;
	}
	for (struct vf_disk_item *w = r->items; w; w = w->next)
		end_item(w, err, &punch);
	d->writing_bytes -= r->cost;
	d->n_writes--;
	pthread_cond_signal(&d->wake_writer);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mtx);
	vf_disk_punch_submit(d, punch);
	free_items(d, r->items);
	free(r);
}

/* The data file of the run, made when there is none.  Without mtx. */
static int open_data(struct run *r)
{
	struct vf_disk_file *f = r->file;
	struct vf_disk *d = f->disk;
	int fd = f->fd; /* changed by this thread alone while io > 0 */

	if (fd < 0) {
		fd = vf_disk_dir_data(d, f->id, VF_DISK_OPEN_NEW, f->size);
		if (fd < 0)
			return fd;
		pthread_mutex_lock(&d->mtx);
		f->fd = fd;
		pthread_mutex_unlock(&d->mtx);
	}
	r->io.fd = fd;
	if (!is_tail(d, r->items))
		return 0;
	r->io.fd = vf_disk_dir_data(d, f->id, VF_DISK_OPEN_TAIL, f->size);
	r->tail_fd = r->io.fd;
	return VF_MIN(r->io.fd, 0);
}

static void cancel_run(struct vf_disk *d, struct run *r)
{
	for (struct vf_disk_item *w = r->items; w; w = w->next)
		cancel(r->file, w->number);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->mtx);
	free_items(d, r->items);
	free(r);
	pthread_mutex_lock(&d->mtx);
}

/* mtx is held, and let go in between. */
static void write_run(struct vf_disk *d, struct run *r)
{
	uint64_t file_cost = r->file->fd < 0 ? vf_disk_file_cost(r->file) : 0;
	int err;

	wait_budget(d, r->len);
	if (!wait_saved(d, r->cost) ||
	    !vf_disk_make_room(d, r->cost + file_cost, r->items->flags)) {
		cancel_run(d, r);
		return;
	}
	d->used += r->cost + file_cost;
	d->unsaved += r->cost;
	d->writing_bytes += r->cost;
	d->n_writes++;
	pthread_mutex_unlock(&d->mtx);
	r->io.op = VF_IO_WRITE;
	r->io.iov = r->iov;
	r->io.n_iov = r->n;
	r->io.off = r->items->number * d->opt.block_len;
	r->io.done = finish_run;
	err = open_data(r);
	if (!err)
		vf_uring_submit(d->ring, &r->io);
	pthread_mutex_lock(&d->mtx);
	if (!err)
		return;
	d->used -= r->cost + (r->file->fd < 0 ? file_cost : 0);
	d->writing_bytes -= r->cost;
	d->n_writes--;
	d->stats.n_error++;
	vf_disk_rest(d, false, err, "cannot make a file");
	cancel_run(d, r);
}

/* ---- files to remove, punches to try again: mtx ------------------------------------------------ */

static void remove_data(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;
	int fd = f->fd, err;

	f->fd = -1;
	f->io++; /* stays in RAM meanwhile */
	pthread_mutex_unlock(&d->mtx);
	err = vf_disk_dir_unlink(d, f->id);
	close(fd);
	pthread_mutex_lock(&d->mtx);
	f->io--;
	f->unsynced = false;
	d->used -= vf_disk_file_cost(f);
	vf_disk_mark_file(f);
	if (err) {
		d->stats.n_error++;
		vf_disk_rest(d, false, err, "cannot remove a file");
	}
}

/* Nothing of it is known: a file of an earlier session. */
static void remove_leftover(struct vf_disk_file *f)
{
	struct vf_disk *d = f->disk;

	f->leftover = false;
	f->io++;
	pthread_mutex_unlock(&d->mtx);
	vf_disk_dir_unlink(d, f->id);
	pthread_mutex_lock(&d->mtx);
	f->io--;
}

static void punch_again(struct vf_disk_file *f)
{
	struct vf_disk_punch *punch = NULL;

	f->stuck = false;
	for (size_t i = 0; i < f->n_groups; i++) {
		struct vf_disk_group *g = f->groups[i];
		for (unsigned k = 0; g && k < VF_DISK_GROUP; k++)
			if (g->blocks[k].stuck) {
				g->blocks[k].stuck = false;
				vf_disk_punch_add(
					&punch, f,
					vf_disk_number(g, &g->blocks[k]));
			}
	}
	vf_disk_punch_unlocked(f->disk, punch);
}

static void do_janitor(struct vf_disk *d)
{
	struct vf_disk_file *f = d->janitor, *next;

	d->janitor = NULL;
	d->cleaning = true;
	for (; f; f = next) {
		next = f->janitor_next;
		f->janitor = false;
		if (f->stuck && vf_disk_is_resting(d))
			vf_disk_call_janitor(f); /* later */
		else if (f->stuck)
			punch_again(f);
		else if (!f->n_live && !f->io && f->fd >= 0)
			remove_data(f);
		else if (f->leftover && f->fd < 0)
			remove_leftover(f);
	}
	d->cleaning = false;
	pthread_cond_broadcast(&d->changed);
}

/* ---- the thread ------------------------------------------------------------------------------------ */

static void drop_queue(struct vf_disk *d)
{
	struct run *r;

	while (d->queue && (r = calloc(1, sizeof(*r)))) {
		fill_run(d, r);
		cancel_run(d, r);
	}
}

static bool is_over(struct vf_disk *d)
{
	return d->want_some || vf_disk_taken(d) - d->evicting > d->opt.size;
}

/* Nothing is queued, or no write can start. */
static void wait_for_work(struct vf_disk *d)
{
	uint64_t until = 0;

	if (d->janitor || vf_disk_is_resting(d))
		until = VF_MAX(d->rest_until_ns, vf_now_ns() + 10000000);
	if (d->stop_writer)
		until = vf_now_ns() + 10000000;
	vf_disk_wait(d, &d->wake_writer, until);
}

static bool is_finished(const struct vf_disk *d, uint64_t give_up_ns)
{
	return d->stop_writer && !d->queue && !d->n_writes && !d->n_reserved &&
	       ((!d->evicting && !d->janitor) || vf_disk_is_resting(d) ||
		vf_now_ns() > give_up_ns);
}

static void write_next(struct vf_disk *d)
{
	struct run *r = calloc(1, sizeof(*r));

	if (!r) {
		wait_for_work(d);
		return;
	}
	fill_run(d, r);
	write_run(d, r);
}

/* Messages go out without the lock. */
static void say_rest(struct vf_disk *d)
{
	const char *what = d->rest_what;
	int err = d->rest_err;
	uint32_t ms = d->rest_ms;

	d->rest_what = NULL;
	pthread_mutex_unlock(&d->mtx);
	vf_log(VF_WARN, "%s: %s: %s; not used for %u ms", d->dir, what,
	       err == -ETIMEDOUT ? "the disk does not answer" : strerror(-err),
	       ms);
	pthread_mutex_lock(&d->mtx);
}

void *vf_disk_writer_run(void *disk)
{
	struct vf_disk *d = disk;
	uint64_t give_up_ns = UINT64_MAX;

	pthread_mutex_lock(&d->mtx);
	while (!is_finished(d, give_up_ns)) {
		if (d->stop_writer && give_up_ns == UINT64_MAX)
			give_up_ns = vf_now_ns() + d->wait_ns;
		if (d->rest_what)
			say_rest(d);
		if (d->janitor)
			do_janitor(d);
		if (d->queue && vf_disk_is_resting(d)) {
			drop_queue(d);
		} else if (d->queue && d->n_writes < WRITES_MAX) {
			write_next(d);
		} else if (is_over(d)) {
			if (d->want_some)
				vf_disk_evict_some(d, CROWDED_EVICT);
			else
				vf_disk_make_room(d, 0, 0);
			d->want_some = false;
			wait_for_work(d);
		} else {
			wait_for_work(d);
		}
	}
	pthread_mutex_unlock(&d->mtx);
	return NULL;
}
