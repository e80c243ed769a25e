/*
 * Reads of the disk tier.  Each goes into a buffer of ours and is copied after
 * its checksums were found right: a read that the disk answers late has no
 * caller any more, and must not touch his memory.
 *
 *   answered   [mtx] the caller was told; by whoever set it
 *   the list   [mtx] reads under way, oldest first: the watch looks at its head
 */
#include "store/tier_disk_impl.h"

enum { BATCH_MAX = 16 }; /* blocks of one request */

struct vf_disk_reading {
	struct vf_io io; /* of the first of neighbours, read at once */
	struct iovec iov[BATCH_MAX];
	struct vf_disk_reading *next; /* the neighbour behind it */
	struct vf_disk_file *file;
	struct vf_disk_part part; /* what the caller wants */
	uint64_t number;
	uint8_t *buf;
	uint32_t skip, len;   /* pages around it: in the block, to read */
	const uint32_t *crcs; /* of the pages: the block has a reader */
	uint64_t start_ns;
	bool answered, overdue;
	struct vf_disk_reading *newer, *older;
};

/* ---- the list: caller holds mtx --------------------------------------------------- */

static void link_read(struct vf_disk *d, struct vf_disk_reading *r)
{
	r->older = d->reads_last;
	*(d->reads_last ? &d->reads_last->newer : &d->reads_first) = r;
	d->reads_last = r;
	d->n_reads++;
	if (d->watch_idle) {
		d->watch_idle = false;
		pthread_cond_signal(&d->wake_watch);
	}
}

static void unlink_read(struct vf_disk *d, struct vf_disk_reading *r)
{
	*(r->newer ? &r->newer->older : &d->reads_last) = r->older;
	*(r->older ? &r->older->newer : &d->reads_first) = r->newer;
	r->newer = r->older = NULL;
	d->n_reads--;
}

/* ---- completion -------------------------------------------------------------------- */

static bool is_right(const struct vf_disk_reading *r)
{
	enum { PAGES = 16 };
	const uint8_t *p = r->buf;
	const uint32_t *want = r->crcs;
	uint32_t crcs[PAGES];

	for (uint32_t at = 0; at < r->len; at += PAGES * VF_DISK_PAGE) {
		size_t n = VF_MIN(r->len - at, (uint32_t)PAGES * VF_DISK_PAGE);
		vf_crc32c_each(p + at, n, VF_DISK_PAGE, crcs);
		n = (n + VF_DISK_PAGE - 1) / VF_DISK_PAGE;
		if (memcmp(crcs, want, n * sizeof(crcs[0])) != 0)
			return false;
		want += n;
	}
	return true;
}

/* The block has one reader less; mtx. */
static void end_reader(struct vf_disk_reading *r, bool is_bad,
		       struct vf_disk_punch **punch)
{
	struct vf_disk_file *f = r->file;
	struct vf_disk_block *b = vf_disk_block_at(f, r->number, false);

	assert(b && b->readers);
	b->readers--;
	if (!is_bad && r->len == vf_disk_block_len(f, r->number))
		vf_disk_set_checked(f, b);
	else if (is_bad && f->n_holds)
		vf_disk_set_bad(f, b);
	else if (is_bad && b->state == VF_BLOCK_VALID)
		vf_disk_set_evicting(vf_disk_group_of(b), b);
	if (b->state == VF_BLOCK_EVICTING && !b->readers)
		vf_disk_punch_add(punch, f, r->number);
}

static void count_read(struct vf_disk *d, const struct vf_disk_reading *r,
		       int res, bool is_bad)
{
	if (res < 0)
		d->stats.n_error++;
	else if (is_bad)
		d->stats.n_damaged++;
	if (is_bad || r->answered) {
		d->stats.n_read_miss++;
	} else {
		d->stats.n_read++;
		d->stats.bytes_read += r->len;
	}
	if (!is_bad && d->rest_is_stall && !vf_disk_is_resting(d)) {
		d->rest_is_stall = false;
		d->rest_ms = 0;
	}
}

static void log_bad(const struct vf_disk_reading *r, int res)
{
	vf_log(VF_WARN, "%s: block %llu in the disk cache: %s", r->file->label,
	       (unsigned long long)r->number,
	       res < 0 ? strerror(-res) : "damaged");
}

static void copy_part(const struct vf_disk_reading *r)
{
	uint64_t at = r->part.off % r->file->disk->opt.block_len;

	memcpy(r->part.buf, r->buf + (at - r->skip), r->part.len);
}

static void finish_read(struct vf_disk_reading *r, int res)
{
	struct vf_disk *d = r->file->disk;
	struct vf_disk_punch *punch = NULL;
	bool is_bad = res < (int)r->len || !is_right(r), is_ours;

	if (is_bad)
		log_bad(r, res);
	pthread_mutex_lock(&d->mtx);
	if (r->overdue)
		d->n_overdue--;
	else
		unlink_read(d, r);
	is_ours = !r->answered;
	count_read(d, r, res, is_bad);
	r->answered = true;
	end_reader(r, is_bad, &punch);
	vf_disk_io_end(r->file);
	pthread_mutex_unlock(&d->mtx);
	vf_disk_punch_submit(d, punch);
	if (is_ours) {
		if (!is_bad && r->part.buf)
			copy_part(r);
		r->part.done(r->part.arg, is_bad ? -ENOENT : 0);
	}
	vf_disk_buffer_put(d, r->buf);
	free(r);
}

/* To the page: O_DIRECT.  Beyond the end of the file comes nothing. */
static size_t asked_len(const struct vf_disk_reading *r)
{
	return vf_round_up(r->len, VF_DISK_PAGE);
}

/* What a short read did not reach is not damaged: it was not read. */
static void finish_reads(struct vf_io *io, int res)
{
	struct vf_disk_reading *first = (struct vf_disk_reading *)io, *next;
	size_t at = 0;

	for (struct vf_disk_reading *r = first; r; r = next) {
		size_t len = asked_len(r);
		int got = res;
		if (res >= 0 && at && (size_t)res <= at)
			got = -EIO;
		else if (res >= 0)
			got = (int)VF_MIN(len, (size_t)res - at);
		next = r->next;
		finish_read(r, got);
		at += len;
	}
}

/* ---- start ---------------------------------------------------------------------------- */

/* The block gets a reader; false: not there, or the tier rests.  mtx. */
static bool begin_reader(struct vf_disk_reading *r)
{
	struct vf_disk_file *f = r->file;
	struct vf_disk *d = f->disk;
	struct vf_disk_block *b;

	b = vf_disk_block_at(f, r->number, false);
	if (!b || b->state != VF_BLOCK_VALID || vf_disk_is_stalled(d)) {
		d->stats.n_read_miss++;
		return false;
	}
	b->readers++;
	if (r->part.n_uses && b->entry.queue)
		vf_policy_hit(d->policy, &b->entry, r->part.n_uses);
	r->crcs = vf_disk_crcs(vf_disk_group_of(b), b) + r->skip / VF_DISK_PAGE;
	f->io++;
	link_read(d, r);
	return true;
}

static struct vf_disk_reading *new_read(struct vf_disk_file *f,
					const struct vf_disk_part *p)
{
	uint64_t block_len = f->disk->opt.block_len;
	uint64_t number = p->off / block_len;
	uint32_t at = (uint32_t)(p->off % block_len);
	struct vf_disk_reading *r =
		number < f->n_blocks ? calloc(1, sizeof(*r)) : NULL;

	if (!r)
		return NULL;
	r->file = f;
	r->part = *p;
	r->number = number;
	r->skip = at - at % VF_DISK_PAGE;
	r->len = (uint32_t)VF_MIN(vf_round_up(at + p->len, VF_DISK_PAGE),
				  vf_disk_block_len(f, r->number)) -
		 r->skip;
	r->buf = vf_disk_buffer_get(f->disk);
	if (!r->buf) {
		free(r);
		return NULL;
	}
	return r;
}

void vf_disk_read(struct vf_disk_file *f, uint64_t number, void *buf,
		  uint32_t n_uses, vf_fetch_fn *done, void *arg)
{
	uint64_t off = number * f->disk->opt.block_len;
	uint32_t len = number < f->n_blocks ? vf_disk_block_len(f, number) : 0;

	vf_disk_read_part(f, &(struct vf_disk_part){off, len, buf, n_uses, done,
						    arg});
}

/* A reading of the part, begun; NULL: not there, or no memory. */
static struct vf_disk_reading *begin(struct vf_disk_file *f,
				     const struct vf_disk_part *p)
{
	struct vf_disk *d = f->disk;
	struct vf_disk_reading *r = new_read(f, p);
	bool has_begun = false;

	if (r)
		r->start_ns = vf_now_ns();
	pthread_mutex_lock(&d->mtx);
	if (!r)
		d->stats.n_read_miss++;
	else
		has_begun = begin_reader(r);
	pthread_mutex_unlock(&d->mtx);
	if (r && !has_begun) {
		vf_disk_buffer_put(d, r->buf);
		free(r);
		r = NULL;
	}
	return r;
}

static bool follows(const struct vf_disk_reading *a,
		    const struct vf_disk_reading *b)
{
	const uint64_t block_len = a->file->disk->opt.block_len;

	return b->number * block_len + b->skip ==
	       a->number * block_len + a->skip + asked_len(a);
}

/* One request; the file's descriptor stays as long as one of them reads. */
static void submit(struct vf_disk_reading *first)
{
	struct vf_disk *d = first->file->disk;
	unsigned n = 0;

	for (struct vf_disk_reading *r = first; r; r = r->next)
		first->iov[n++] = (struct iovec){r->buf, asked_len(r)};
	first->io.op = VF_IO_READ;
	first->io.fd = first->file->fd;
	first->io.iov = first->iov;
	first->io.n_iov = n;
	first->io.off = first->number * d->opt.block_len + first->skip;
	first->io.done = finish_reads;
	vf_uring_submit(d->ring, &first->io);
}

void vf_disk_read_part(struct vf_disk_file *f, const struct vf_disk_part *p)
{
	vf_disk_read_parts(f, p, 1);
}

void vf_disk_read_parts(struct vf_disk_file *f, const struct vf_disk_part *p,
			size_t n)
{
	struct vf_disk_reading *first = NULL, *last = NULL;
	size_t n_together = 0;

	for (size_t i = 0; i < n; i++) {
		struct vf_disk_reading *r = begin(f, &p[i]);
		if (first &&
		    (!r || n_together == BATCH_MAX || !follows(last, r))) {
			submit(first);
			first = NULL;
		}
		if (!r) {
			p[i].done(p[i].arg, -ENOENT);
			continue;
		}
		*(first ? &last->next : &first) = r;
		n_together = first == r ? 1 : n_together + 1;
		last = r;
	}
	if (first)
		submit(first);
}

/* ---- the watch ------------------------------------------------------------------------- */

/*
 * Take reads that are too old off the list, the caller's part of them in
 * @out.  What is behind the first one on an idle disk is not old yet.
 */
struct answer {
	vf_fetch_fn *done;
	void *arg;
};

static size_t take_overdue(struct vf_disk *d, struct answer *out, size_t max)
{
	const uint64_t limit = d->wait_ns;
	struct vf_disk_reading *r;
	size_t n = 0;

	while (n < max && (r = d->reads_first) &&
	       vf_now_ns() - r->start_ns >= limit) {
		unlink_read(d, r);
		r->overdue = r->answered = true;
		d->n_overdue++;
		d->stats.n_error++;
		out[n++] = (struct answer){r->part.done, r->part.arg};
	}
	if (n)
		vf_disk_rest(d, true, 0, "read");
	return n;
}

static void wait_for_head(struct vf_disk *d)
{
	uint64_t until = 0;

	if (d->reads_first)
		until = d->reads_first->start_ns + d->wait_ns;
	else
		d->watch_idle = true;
	vf_disk_wait(d, &d->wake_watch, until);
	d->watch_idle = false;
}

void *vf_disk_watch_run(void *disk)
{
	struct vf_disk *d = disk;
	struct answer late[64];

	pthread_mutex_lock(&d->mtx);
	while (!d->stop_watch) {
		size_t n = take_overdue(d, late, VF_N(late));
		if (!n) {
			wait_for_head(d);
			continue;
		}
		pthread_mutex_unlock(&d->mtx);
		for (size_t i = 0; i < n; i++)
			late[i].done(late[i].arg, -ENOENT);
		pthread_mutex_lock(&d->mtx);
	}
	pthread_mutex_unlock(&d->mtx);
	return NULL;
}
