/*
 * One warm-up: stored objects are read through the cache, so that one fetch
 * serves it and any reader, and the disk tier is made to keep what came.
 *
 *   piece  FREE -> READING -> KEEPING -> FREE: bytes of one object in flight;
 *          all jobs together have VF_WARM_PIECES_MAX, which bounds memory
 *
 * The write-behind queue of the disk tier drops blocks when it is full.  A
 * piece is done when the tier has all its blocks; until then it is offered them
 * again.  So a slow disk slows the job down, and nothing is fetched twice.
 */
#include "fs/warm_impl.h"
#include "store/thread.h"

enum { PIECE_LEN = 1 << 20, KEEP_POLL_NS = 5000000 };

/* No block more on disk for so long: the tier does not take them. */
static const uint64_t keep_timeout_ns = UINT64_C(30) * 1000000000;

/* An object open while any of its pieces is under way; the runner's alone. */
struct opened {
	struct vf_cached *data;
	struct vf_disk_file *disk; /* NULL without a tier */
	const struct vf_stored *stored;
	unsigned refs;
};

enum piece_state { FREE, READING, KEEPING };

struct piece {
	struct run *run;
	enum piece_state state; /* READING to KEEPING by the fetch: [w.mtx] */
	int err;
	struct opened *o; /* the runner's alone; NULL: FREE */
	uint64_t off, len;
	uint64_t n_kept; /* blocks seen on disk */
	uint8_t *buf;
};

/* One job being run; its thread's alone but for states of pieces. */
struct run {
	struct vf_warm *w;
	struct job *job;
	struct piece pieces[VF_WARM_PIECES_MAX];
	unsigned n_used;
	size_t at; /* object */
	uint64_t off;
	struct opened *o; /* of the object at @at */
	uint64_t next_ns; /* of the rate */
	uint64_t kept_ns; /* when the disk tier last took a block */
	int err;
};

/* ---- objects ---------------------------------------------------------------------------- */

static void put_opened(struct run *r, struct opened *o)
{
	if (!o || --o->refs)
		return;
	vf_cached_put(o->data);
	if (o->disk)
		vf_disk_file_put(o->disk);
	free(o);
}

static int open_stored(struct run *r, const struct vf_stored *s)
{
	struct fs *fs = r->w->fs;
	struct opened *o = calloc(1, sizeof(*o));
	int err = o ? vf_fs_stored_open(fs, s->key, s->etag, s->size, &o->data)
		    : -ENOMEM;

	if (!err && fs->disk &&
	    vf_disk_file_get(fs->disk, s->id, s->size, s->key, &o->disk))
		err = -EIO;
	if (err) {
		if (o)
			vf_cached_put(o->data);
		free(o);
		return err;
	}
	o->stored = s;
	o->refs = 1;
	r->o = o;
	r->off = s->off / fs->cache_block_len * fs->cache_block_len;
	return 0;
}

/* Bytes of [off, end) that the job asked for. */
static uint64_t asked_of(const struct vf_stored *s, uint64_t off, uint64_t end)
{
	uint64_t lo = VF_MAX(off, s->off), hi = VF_MIN(end, s->end);

	return lo < hi ? hi - lo : 0;
}

/* Pass over what is on disk.  True: something of the object is left. */
static bool skip_kept(struct run *r)
{
	const struct vf_stored *s = r->o->stored;
	uint64_t len = r->w->fs->cache_block_len, from = r->off;

	while (r->o->disk && r->off < s->end &&
	       vf_disk_has(r->o->disk, r->off / len))
		r->off += len;
	atomic_fetch_add(&r->job->done, asked_of(s, from, r->off));
	return r->off < s->end;
}

/* At the next byte that is missing; false: there is none. */
static bool advance(struct run *r)
{
	while (!r->err && r->at < r->job->list.n) {
		if (!r->o)
			r->err = open_stored(r, &r->job->list.all[r->at]);
		else if (skip_kept(r))
			return true;
		else {
			put_opened(r, r->o);
			r->o = NULL;
			r->at++;
		}
	}
	return false;
}

/* ---- pieces ------------------------------------------------------------------------------ */

static uint64_t piece_len(const struct fs *fs)
{
	uint64_t len = VF_MIN((uint64_t)PIECE_LEN, fs->opt.cache.ram_len / 16);

	return VF_MAX(len / fs->cache_block_len, 1) * fs->cache_block_len;
}

static void finish_piece(void *arg, int err)
{
	struct piece *p = arg;
	struct vf_warm *w = p->run->w;

	pthread_mutex_lock(&w->mtx);
	p->err = err;
	p->state = KEEPING;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

static struct piece *free_piece(struct run *r)
{
	for (size_t i = 0; i < VF_WARM_PIECES_MAX; i++)
		if (!r->pieces[i].o)
			return &r->pieces[i];
	return NULL;
}

/* The next bytes that are missing, without those at their end that are not. */
static int fill_piece(struct run *r, struct piece *p)
{
	uint64_t block = r->w->fs->cache_block_len;
	uint64_t size = r->o->stored->size;
	uint64_t end = VF_MIN(r->o->stored->end, r->off + piece_len(r->w->fs));

	end = VF_MIN(vf_round_up(end, block), size);
	while (r->o->disk && end > r->off + block &&
	       vf_disk_has(r->o->disk, (end - 1) / block))
		end = (end - 1) / block * block;
	*p = (struct piece){.run = r,
			    .state = READING,
			    .o = r->o,
			    .off = r->off,
			    .len = end - r->off,
			    .buf = malloc(end - r->off)};
	if (!p->buf) {
		*p = (struct piece){0};
		return -ENOMEM;
	}
	r->o->refs++;
	r->off = end;
	r->n_used++;
	return 0;
}

/* May a piece begin now?  Then it counts.  Caller holds mtx. */
static bool may_start(struct run *r, uint64_t *out_wait_ns)
{
	struct vf_warm *w = r->w;

	*out_wait_ns = 0;
	if (w->stopped || w->n_pieces == VF_WARM_PIECES_MAX)
		return false;
	if (r->job->rate && vf_now_ns() < r->next_ns) {
		*out_wait_ns = r->next_ns;
		return false;
	}
	w->n_pieces++;
	w->n_starting++;
	return true;
}

static void start_piece(struct run *r)
{
	struct vf_warm *w = r->w;
	struct piece *p = free_piece(r);
	uint64_t now = vf_now_ns();
	bool begun = false;

	if (advance(r)) {
		r->err = fill_piece(r, p);
		begun = !r->err;
	}
	if (begun && r->job->rate)
		r->next_ns = VF_MAX(r->next_ns, now) +
			     p->len * 1000 * 1000000 / r->job->rate;
	if (begun)
		vf_cached_read(p->o->data, p->off, p->len, p->buf, finish_piece,
			       p);
	pthread_mutex_lock(&w->mtx);
	w->n_starting--;
	w->n_pieces -= !begun;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

static void end_piece(struct run *r, struct piece *p, int err)
{
	struct vf_warm *w = r->w;

	if (!err)
		atomic_fetch_add(&r->job->done, asked_of(p->o->stored, p->off,
							 p->off + p->len));
	else if (!r->err)
		r->err = err;
	put_opened(r, p->o);
	p->o = NULL;
	free(p->buf);
	r->n_used--;
	pthread_mutex_lock(&w->mtx);
	p->state = FREE;
	w->n_pieces--;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mtx);
}

/* Offer the disk tier what it has not; true once it has all. */
static bool keep_piece(struct run *r, struct piece *p)
{
	uint64_t block = r->w->fs->cache_block_len, n_kept = 0, n = 0;

	if (!p->o->disk)
		return true;
	for (uint64_t at = 0; at < p->len; at += block, n++) {
		uint64_t number = (p->off + at) / block;
		if (vf_disk_has(p->o->disk, number))
			n_kept++;
		else
			vf_disk_write(p->o->disk, number, p->buf + at, 0);
	}
	if (n_kept > p->n_kept)
		r->kept_ns = vf_now_ns();
	p->n_kept = n_kept;
	return n_kept == n;
}

/* Look at all pieces; true when some wait for the disk. */
static bool tend_pieces(struct run *r, bool over)
{
	bool keeping = false;

	for (size_t i = 0; i < VF_WARM_PIECES_MAX; i++) {
		struct piece *p = &r->pieces[i];
		enum piece_state state;
		pthread_mutex_lock(&r->w->mtx);
		state = p->state;
		pthread_mutex_unlock(&r->w->mtx);
		if (state != KEEPING)
			continue;
		if (p->err || over)
			end_piece(r, p, p->err ? p->err : -ECANCELED);
		else if (keep_piece(r, p))
			end_piece(r, p, 0);
		else
			keeping = true;
	}
	return keeping;
}

/* ---- a job -------------------------------------------------------------------------------- */

static bool is_over(struct run *r)
{
	bool stopped;

	pthread_mutex_lock(&r->w->mtx);
	stopped = r->w->stopped;
	pthread_mutex_unlock(&r->w->mtx);
	if (stopped || atomic_load(&r->job->cancelled))
		r->err = r->err ? r->err : -ECANCELED;
	return r->err != 0;
}

/* Wait until something happens; mtx. */
static void wait_for_news(struct vf_warm *w, uint64_t until_ns)
{
	vf_cond_wait(&w->cond, &w->mtx, until_ns);
}

/* Is there nothing to tend to, as far as one can tell?  mtx. */
static bool is_quiet(const struct run *r, bool keeping)
{
	for (size_t i = 0; !keeping && i < VF_WARM_PIECES_MAX; i++)
		if (r->pieces[i].state == KEEPING)
			return false;
	return !r->w->stopped || r->n_used;
}

static void check_disk(struct run *r, bool keeping)
{
	if (!keeping)
		r->kept_ns = vf_now_ns();
	else if (vf_now_ns() - r->kept_ns > keep_timeout_ns)
		r->err = vf_fail(-EIO, "%s: the disk tier does not take it",
				 r->job->path);
}

void vf_warm_run(struct vf_warm *w, struct job *job)
{
	struct run r = {.w = w, .job = job, .kept_ns = vf_now_ns()};

	for (;;) {
		bool over = is_over(&r), started = false;
		bool keeping = tend_pieces(&r, over);
		uint64_t wait_ns = 0;
		bool more =
			!over && r.n_used < VF_WARM_PIECES_MAX && advance(&r);
		if (!more && !r.n_used)
			break;
		check_disk(&r, keeping);
		pthread_mutex_lock(&w->mtx);
		if (more)
			started = may_start(&r, &wait_ns);
		if (!started && is_quiet(&r, keeping)) {
			if (keeping)
				wait_ns = vf_now_ns() + KEEP_POLL_NS;
			wait_for_news(w, wait_ns);
		}
		pthread_mutex_unlock(&w->mtx);
		if (started)
			start_piece(&r);
	}
	put_opened(&r, r.o);
	job->err = r.err;
}
