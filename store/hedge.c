/*
 * A flight is one wish of the cache; it has one attempt, or two.
 *
 *   n_flying   [mtx] attempts not answered: an error is told by the last one
 *   refs       [mtx] attempts whose callback has not ended: the flight lives
 *   answered   [mtx] done was called or is about to be, by whoever set it
 *   the list   [mtx] flights not yet late, oldest first: all wait equally long
 *
 * Every attempt has a buffer of its own: a source writes there until it
 * answers, and the loser answers when the blocks belong to others.
 */
#include "store/hedge.h"

#include "store/cache_impl.h"
#include "store/thread.h"

enum {
	SAMPLES = 256, /* recent fetches */
	SAMPLES_MIN = 64,
	SAMPLES_STEP = 16, /* the delay is computed anew after so many */
	DELAY_MIN_NS = 5000000,
	COST = 20,		/* fetches that pay for one second request */
	CREDIT_MAX = 32 * COST, /* so that no burst follows a quiet day */
};

struct flight;

struct attempt {
	struct flight *flight;
	uint64_t start_ns;
	uint8_t *buf; /* [len] owned */
};

struct flight {
	struct vf_hedge *hedge;
	struct vf_cached *object; /* a reference */
	uint64_t off;
	size_t len;
	void *dst;
	vf_fetch_fn *done;
	void *arg;
	struct attempt first, second;
	unsigned n_flying, refs;
	bool answered, listed;
	struct flight *newer, *older;
};

struct vf_hedge {
	unsigned percentile; /* [fixed] */
	pthread_t thread;
	pthread_mutex_t mtx;
	/* all of the rest [mtx] */
	pthread_cond_t wake, idle;
	bool has_thread, stopped;
	struct flight *oldest, *newest;
	size_t n_flights;
	uint64_t samples_ns[SAMPLES], n_samples;
	uint64_t delay_ns; /* 0: too few samples */
	uint64_t credit;
	uint64_t n_sent, n_won;
};

/* ---- how long is long: caller holds mtx -------------------------------------------- */

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void note_sample(struct vf_hedge *h, uint64_t ns)
{
	uint64_t sorted[SAMPLES];
	size_t n;

	h->samples_ns[h->n_samples++ % SAMPLES] = ns;
	if (h->n_samples < SAMPLES_MIN || h->n_samples % SAMPLES_STEP)
		return;
	n = VF_MIN(h->n_samples, (uint64_t)SAMPLES);
	memcpy(sorted, h->samples_ns, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare_ns);
	h->delay_ns =
		VF_MAX(sorted[n * h->percentile / 100], (uint64_t)DELAY_MIN_NS);
}

static void link_flight(struct vf_hedge *h, struct flight *f)
{
	f->listed = true;
	f->older = h->newest;
	*(h->newest ? &h->newest->newer : &h->oldest) = f;
	h->newest = f;
	if (h->oldest == f)
		pthread_cond_signal(&h->wake);
}

static void unlink_flight(struct vf_hedge *h, struct flight *f)
{
	if (!f->listed)
		return;
	f->listed = false;
	*(f->newer ? &f->newer->older : &h->newest) = f->older;
	*(f->older ? &f->older->newer : &h->oldest) = f->newer;
}

/* ---- flights ------------------------------------------------------------------------- */

static void free_flight(struct flight *f)
{
	struct vf_hedge *h = f->hedge;

	vf_cached_put(f->object);
	free(f->first.buf);
	free(f->second.buf);
	free(f);
	pthread_mutex_lock(&h->mtx);
	if (!--h->n_flights)
		pthread_cond_broadcast(&h->idle);
	pthread_mutex_unlock(&h->mtx);
}

static void finish_attempt(void *arg, int err)
{
	struct attempt *a = arg;
	struct flight *f = a->flight;
	struct vf_hedge *h = f->hedge;
	bool tells, is_last;

	pthread_mutex_lock(&h->mtx);
	f->n_flying--;
	if (!err)
		note_sample(h, vf_now_ns() - a->start_ns);
	tells = !f->answered && (!err || !f->n_flying);
	if (tells)
		f->answered = true;
	h->n_won += tells && !err && a == &f->second;
	unlink_flight(h, f);
	pthread_mutex_unlock(&h->mtx);
	if (tells) {
		if (!err)
			memcpy(f->dst, a->buf, f->len);
		f->done(f->arg, err);
	} else if (!err) {
		atomic_fetch_add(&f->object->cache->bytes_fetched, f->len);
	}
	pthread_mutex_lock(&h->mtx);
	is_last = !--f->refs;
	pthread_mutex_unlock(&h->mtx);
	if (is_last)
		free_flight(f);
}

static void send(struct flight *f, struct attempt *a)
{
	struct vf_source *s = f->object->source;

	a->flight = f;
	a->buf = malloc(f->len);
	if (a->buf)
		s->start(s, f->off, f->len, a->buf, finish_attempt, a);
	else
		finish_attempt(a, -ENOMEM);
}

void vf_hedge_start(struct vf_hedge *h, struct vf_cached *o, uint64_t off,
		    size_t len, void *buf, vf_fetch_fn *done, void *arg)
{
	struct flight *f = malloc(sizeof(*f));

	if (!f) {
		done(arg, -ENOMEM);
		return;
	}
	*f = (struct flight){.hedge = h,
			     .object = o,
			     .off = off,
			     .len = len,
			     .dst = buf,
			     .done = done,
			     .arg = arg,
			     .n_flying = 1,
			     .refs = 1};
	f->first.start_ns = vf_now_ns();
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	pthread_mutex_lock(&h->mtx);
	h->n_flights++;
	h->credit = VF_MIN(h->credit + 1, (uint64_t)CREDIT_MAX);
	if (h->delay_ns && !h->stopped)
		link_flight(h, f);
	pthread_mutex_unlock(&h->mtx);
	send(f, &f->first);
}

/* ---- the thread that notices late ones ------------------------------------------------ */

/* A flight that gets its second request, or NULL after waiting; mtx. */
static struct flight *next_late(struct vf_hedge *h)
{
	struct flight *f = h->oldest;
	uint64_t due_ns;

	if (!f) {
		pthread_cond_wait(&h->wake, &h->mtx);
		return NULL;
	}
	due_ns = f->first.start_ns + h->delay_ns;
	if (vf_now_ns() < due_ns) {
		vf_cond_wait(&h->wake, &h->mtx, due_ns);
		return NULL;
	}
	unlink_flight(h, f);
	if (h->credit < COST)
		return NULL;
	h->credit -= COST;
	h->n_sent++;
	f->n_flying++;
	f->refs++;
	f->second.start_ns = vf_now_ns();
	return f;
}

static void *run(void *arg)
{
	struct vf_hedge *h = arg;

	pthread_mutex_lock(&h->mtx);
	while (!h->stopped) {
		struct flight *f = next_late(h);
		if (!f)
			continue;
		pthread_mutex_unlock(&h->mtx);
		send(f, &f->second);
		pthread_mutex_lock(&h->mtx);
	}
	pthread_mutex_unlock(&h->mtx);
	return NULL;
}

/* ---- open and close ------------------------------------------------------------------- */

int vf_hedge_open(unsigned percentile, struct vf_hedge **out)
{
	struct vf_hedge *h;
	int err;

	*out = NULL;
	if (percentile < 1 || percentile > 99)
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->percentile = percentile;
	pthread_mutex_init(&h->mtx, NULL);
	vf_cond_init(&h->wake);
	vf_cond_init(&h->idle);
	err = vf_thread_start(&h->thread, run, h);
	h->has_thread = !err;
	if (err) {
		vf_hedge_close(h);
		return vf_fail(err, "cannot start a thread: %s",
			       strerror(-err));
	}
	*out = h;
	return 0;
}

void vf_hedge_stop(struct vf_hedge *h)
{
	bool joins;

	if (!h)
		return;
	pthread_mutex_lock(&h->mtx);
	h->stopped = true;
	joins = h->has_thread;
	h->has_thread = false;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->mtx);
	if (joins)
		pthread_join(h->thread, NULL);
}

void vf_hedge_close(struct vf_hedge *h)
{
	if (!h)
		return;
	vf_hedge_stop(h);
	pthread_mutex_lock(&h->mtx);
	while (h->n_flights)
		pthread_cond_wait(&h->idle, &h->mtx);
	pthread_mutex_unlock(&h->mtx);
	pthread_cond_destroy(&h->wake);
	pthread_cond_destroy(&h->idle);
	pthread_mutex_destroy(&h->mtx);
	free(h);
}

void vf_hedge_stats(struct vf_hedge *h, uint64_t *out_n, uint64_t *out_n_won)
{
	pthread_mutex_lock(&h->mtx);
	*out_n = h->n_sent;
	*out_n_won = h->n_won;
	pthread_mutex_unlock(&h->mtx);
}
