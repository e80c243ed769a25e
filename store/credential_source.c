/*
 *   idle --refresh_ms has come, or somebody waits--> loading --> idle
 *
 * Renewal is tried 5 minutes before the end, or after half of a shorter life.
 * A try in vain, failed or with the same keys, is followed by a pause that
 * doubles; a change of the profile's files ends the pause.
 */
#include "store/credential_source.h"
#include "store/profile.h"
#include "store/thread.h"

#include <pthread.h>
#include <stdio.h>

enum {
	LEAD_MS = 5 * 60 * 1000,
	PAUSE_FIRST_MS = 1000,
	PAUSE_MAX_MS = 30 * 1000,
};

struct held {
	struct vf_credentials c; /* [fixed] first: users hold its address */
	unsigned n_refs;	 /* [mtx] */
};

struct vf_credential_source {
	struct vf_credential_options opt; /* [fixed] strings owned */
	pthread_t thread;		  /* [fixed] */
	bool has_thread;		  /* the owner's */
	atomic_bool stop;
	pthread_mutex_t mtx;
	pthread_cond_t wake;		  /* stop, waits */
	struct held *now;		  /* [mtx] */
	struct vf_credential_wait *waits; /* [mtx] */
	/* the thread's, after open */
	int64_t refresh_ms; /* since 1970; 0: never by itself */
	uint64_t pause_ns;  /* vf_now_ns() before which trying is no use */
	unsigned n_vain;    /* tries in vain, in a row */
	uint64_t stamp;	    /* of the files, before they were last read */
};

static bool is_stopped(struct vf_credential_source *s)
{
	return atomic_load_explicit(&s->stop, memory_order_relaxed);
}

/* Wall time, because credentials end by it, also while a machine sleeps. */
static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- handing out ---------------------------------------------------------------------------- */

const struct vf_credentials *
vf_credential_source_get(struct vf_credential_source *s)
{
	struct held *h;

	pthread_mutex_lock(&s->mtx);
	h = s->now;
	h->n_refs++;
	pthread_mutex_unlock(&s->mtx);
	return &h->c;
}

static void put_held(struct vf_credential_source *s, struct held *h)
{
	bool last;

	pthread_mutex_lock(&s->mtx);
	assert(h->n_refs);
	last = !--h->n_refs;
	pthread_mutex_unlock(&s->mtx);
	if (last) {
		vf_credentials_fini(&h->c);
		free(h);
	}
}

void vf_credential_source_put(struct vf_credential_source *s,
			      const struct vf_credentials *c)
{
	put_held(s, (struct held *)(uintptr_t)c);
}

/* ---- waiting --------------------------------------------------------------------------------- */

void vf_credential_source_renew(struct vf_credential_source *s,
				struct vf_credential_wait *w)
{
	int err = -EINPROGRESS;

	pthread_mutex_lock(&s->mtx);
	if (is_stopped(s))
		err = -ECANCELED;
	else if (w->serial != s->now->c.serial)
		err = 0;
	if (err == -EINPROGRESS) {
		w->next = s->waits;
		s->waits = w;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->mtx);
	if (err != -EINPROGRESS)
		w->done(w->arg, err);
}

/* Answer everybody; what they do next is not under the lock. */
static void settle(struct vf_credential_source *s)
{
	struct vf_credential_wait *w, *next;
	uint64_t serial;

	pthread_mutex_lock(&s->mtx);
	w = s->waits;
	s->waits = NULL;
	serial = s->now->c.serial;
	pthread_mutex_unlock(&s->mtx);
	for (; w; w = next) {
		next = w->next;
		w->done(w->arg, is_stopped(s)	      ? -ECANCELED
				: w->serial != serial ? 0
						      : -EACCES);
	}
}

/* ---- renewing --------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool same_keys(const struct vf_credentials *a,
		      const struct vf_credentials *b)
{
	return same(a->access_key, b->access_key) &&
	       same(a->secret_key, b->secret_key) &&
	       same(a->session_token, b->session_token);
}

/* When to try again by itself, of credentials that are new. */
static int64_t plan_ms(const struct vf_credentials *c)
{
	int64_t end_ms, left;

	if (!c->expires_s || VF_MUL(c->expires_s, 1000, &end_ms))
		return 0;
	left = end_ms - wall_ms();
	/* Even those that come expired are not asked for all the time. */
	return left > 2 * PAUSE_FIRST_MS
		       ? end_ms - VF_MIN(left / 2, (int64_t)LEAD_MS)
		       : wall_ms() + PAUSE_FIRST_MS;
}

static void pause_after_vain(struct vf_credential_source *s)
{
	unsigned step = VF_MIN(s->n_vain, 5u);
	uint64_t ms = VF_MIN((uint64_t)PAUSE_FIRST_MS << step,
			     (uint64_t)PAUSE_MAX_MS);

	s->n_vain++;
	s->pause_ns = vf_now_ns() + ms * 1000000;
	/* Somebody's need may have come long before the plan, which then stays. */
	if (s->refresh_ms && wall_ms() >= s->refresh_ms)
		s->refresh_ms = wall_ms() + (int64_t)ms;
}

/* Takes what @c holds. */
static int replace(struct vf_credential_source *s, struct vf_credentials *c)
{
	struct held *h = calloc(1, sizeof(*h)), *old;

	if (!h) {
		vf_credentials_fini(c);
		return -ENOMEM;
	}
	h->c = *c;
	h->n_refs = 1;
	pthread_mutex_lock(&s->mtx);
	old = s->now;
	s->now = h;
	pthread_mutex_unlock(&s->mtx);
	if (old)
		put_held(s, old);
	return 0;
}

static void take_new(struct vf_credential_source *s, struct vf_credentials *c)
{
	/* Nobody else changes it. */
	const struct vf_credentials *now = &s->now->c;
	bool changed = !same_keys(now, c);
	bool later = c->expires_s > now->expires_s;
	int64_t plan = plan_ms(c), expires_s = c->expires_s;

	c->serial = now->serial + changed;
	if (replace(s, c) || !(changed || later)) {
		pause_after_vain(s);
		return;
	}
	s->n_vain = 0;
	/* New ones that are refused as well are no reason for haste. */
	s->pause_ns = vf_now_ns() + PAUSE_FIRST_MS * 1000000ull;
	s->refresh_ms = plan;
	vf_log(VF_INFO, "credentials renewed%s%lld",
	       expires_s ? "; they expire at " : "", (long long)expires_s);
}

static void try_renew(struct vf_credential_source *s)
{
	uint64_t stamp = vf_profile_stamp();
	bool due = s->refresh_ms && wall_ms() >= s->refresh_ms;
	struct vf_credentials c;

	if (!due && stamp == s->stamp && vf_now_ns() < s->pause_ns)
		return;
	s->stamp = stamp;
	if (vf_credentials_load(&s->opt, &c))
		pause_after_vain(s);
	else
		take_new(s, &c);
}

/* Until somebody waits, or it is time.  Caller holds mtx. */
static bool sleep_on(struct vf_credential_source *s)
{
	struct timespec t = {.tv_sec = s->refresh_ms / 1000,
			     .tv_nsec = s->refresh_ms % 1000 * 1000000};

	while (!is_stopped(s) && !s->waits) {
		if (!s->refresh_ms)
			pthread_cond_wait(&s->wake, &s->mtx);
		else if (pthread_cond_timedwait(&s->wake, &s->mtx, &t))
			break;
	}
	return !is_stopped(s);
}

static void *run(void *arg)
{
	struct vf_credential_source *s = arg;
	bool go;

	for (;;) {
		pthread_mutex_lock(&s->mtx);
		go = sleep_on(s);
		pthread_mutex_unlock(&s->mtx);
		if (!go)
			break;
		try_renew(s);
		settle(s);
	}
	settle(s);
	return NULL;
}

/* ---- open and close ----------------------------------------------------------------------------- */

static int copy_string(const char **to, const char *s)
{
	*to = s ? strdup(s) : NULL;
	return *to || !s ? 0 : -ENOMEM;
}

static int copy_options(struct vf_credential_source *s,
			const struct vf_credential_options *opt)
{
	int err = copy_string(&s->opt.profile, opt->profile);

	if (!err)
		err = copy_string(&s->opt.region, opt->region);
	if (!err)
		err = copy_string(&s->opt.ca_file, opt->ca_file);
	s->opt.stop = &s->stop;
	return err;
}

static int start_thread(struct vf_credential_source *s)
{
	int err = vf_thread_start(&s->thread, run, s);

	s->has_thread = !err;
	return err;
}

int vf_credential_source_open(const struct vf_credential_options *opt,
			      struct vf_credential_source **out)
{
	struct vf_credential_source *s = calloc(1, sizeof(*s));
	struct vf_credentials c;
	int err;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->wake, NULL);
	err = copy_options(s, opt);
	s->stamp = vf_profile_stamp();
	if (!err)
		err = vf_credentials_load(&s->opt, &c);
	if (!err) {
		s->refresh_ms = plan_ms(&c);
		err = replace(s, &c);
	}
	if (!err)
		err = start_thread(s);
	if (err) {
		vf_credential_source_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void vf_credential_source_stop(struct vf_credential_source *s)
{
	if (!s || !s->has_thread)
		return;
	pthread_mutex_lock(&s->mtx);
	atomic_store_explicit(&s->stop, true, memory_order_relaxed);
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->mtx);
	pthread_join(s->thread, NULL);
	s->has_thread = false;
}

void vf_credential_source_close(struct vf_credential_source *s)
{
	if (!s)
		return;
	vf_credential_source_stop(s);
	if (s->now) {
		assert(s->now->n_refs == 1);
		put_held(s, s->now);
	}
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->mtx);
	free((char *)(uintptr_t)s->opt.profile);
	free((char *)(uintptr_t)s->opt.region);
	free((char *)(uintptr_t)s->opt.ca_file);
	free(s);
}
