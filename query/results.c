/*
 * A table of chains and a list in order of use.
 *
 * All fields of results  [lock]     entries  [fixed] but their links
 */
#include "query/results.h"
#include "store/util.h"

#include <pthread.h>
#include <xxhash.h>

enum { N_CHAINS = 1 << 12 };

/* 128 bits of everything that makes an answer what it is. */
struct name {
	uint64_t low, high;
};

struct entry {
	struct name name;
	struct vf_answer *answer; /* owned */
	size_t len;
	struct entry *chain;	     /* next of the same hash */
	struct entry *newer, *older; /* in order of use */
};

struct vf_results {
	pthread_mutex_t lock;
	size_t max_len, len;
	struct entry *chains[N_CHAINS];
	struct entry *newest, *oldest;
};

int vf_results_new(size_t max_len, struct vf_results **out)
{
	struct vf_results *r = calloc(1, sizeof(*r));

	*out = r;
	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	r->max_len = max_len;
	return 0;
}

static void free_entry(struct entry *e)
{
	vf_answer_free(e->answer);
	free(e);
}

void vf_results_free(struct vf_results *r)
{
	if (!r)
		return;
	while (r->newest) {
		struct entry *e = r->newest;
		r->newest = e->older;
		free_entry(e);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* Limits are no part of it: answers that they cut are not kept. */
static struct name make_name(uint64_t version, const float *q, uint32_t dim,
			     const struct vf_search *s)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(q, dim * sizeof(*q), version);
	XXH128_hash_t filter = {0};

	if (s->filter)
		filter = XXH3_128bits(s->filter, strlen(s->filter) + 1);
	const uint64_t all[] = {h.low64,	h.high64,
				s->k,		s->candidates,
				s->probes,	(uint64_t)s->rerank,
				s->exact,	s->hamming,
				s->no_metadata, filter.low64,
				filter.high64};

	h = XXH3_128bits(all, sizeof(all));
	return (struct name){h.low64, h.high64};
}

/* ---- answers ----------------------------------------------------------------------------- */

static size_t answer_len(const struct vf_answer *a)
{
	size_t len = sizeof(struct entry) + sizeof(*a);

	for (size_t i = 0; i < a->n_hits; i++)
		len += sizeof(*a->hits) + strlen(a->hits[i].key) +
		       strlen(a->hits[i].metadata) + 2;
	return len;
}

static struct vf_answer *copy_answer(const struct vf_answer *a)
{
	struct vf_answer *c = malloc(sizeof(*c));

	if (!c)
		return NULL;
	*c = *a;
	c->n_hits = 0;
	c->hits = calloc(a->n_hits + 1, sizeof(*c->hits));
	for (size_t i = 0; c->hits && i < a->n_hits; i++) {
		struct vf_answer_hit *h = &c->hits[c->n_hits++];
		*h = a->hits[i];
		h->key = strdup(a->hits[i].key);
		h->metadata = strdup(a->hits[i].metadata);
		if (!h->key || !h->metadata)
			break;
	}
	if (c->hits && (!c->n_hits || (c->hits[c->n_hits - 1].key &&
				       c->hits[c->n_hits - 1].metadata)))
		return c;
	vf_answer_free(c);
	return NULL;
}

/* ---- list and table, under the lock --------------------------------------------------------- */

static void unlink_entry(struct vf_results *r, struct entry *e)
{
	*(e->newer ? &e->newer->older : &r->newest) = e->older;
	*(e->older ? &e->older->newer : &r->oldest) = e->newer;
}

static void link_newest(struct vf_results *r, struct entry *e)
{
	e->newer = NULL;
	e->older = r->newest;
	*(r->newest ? &r->newest->newer : &r->oldest) = e;
	r->newest = e;
}

static struct entry **find_entry(struct vf_results *r, const struct name *n)
{
	struct entry **at = &r->chains[n->low % N_CHAINS];

	while (*at &&
	       ((*at)->name.low != n->low || (*at)->name.high != n->high))
		at = &(*at)->chain;
	return at;
}

static void drop_oldest(struct vf_results *r)
{
	struct entry *e = r->oldest;

	*find_entry(r, &e->name) = e->chain;
	unlink_entry(r, e);
	r->len -= e->len;
	free_entry(e);
}

struct vf_answer *vf_results_get(struct vf_results *r, uint64_t version,
				 const float *q, uint32_t dim,
				 const struct vf_search *s)
{
	struct vf_answer *a = NULL;

	if (!r)
		return NULL;
	struct name name = make_name(version, q, dim, s);
	pthread_mutex_lock(&r->lock);
	struct entry *e = *find_entry(r, &name);
	if (e) {
		unlink_entry(r, e);
		link_newest(r, e);
		a = copy_answer(e->answer);
	}
	pthread_mutex_unlock(&r->lock);
	return a;
}

static bool is_whole(const struct vf_search *s, const struct vf_answer *a)
{
	bool limited = s->max_gets || s->max_ms || s->good_enough;

	return !a->partial && (!limited || a->cost.bound_met);
}

void vf_results_put(struct vf_results *r, uint64_t version, const float *q,
		    uint32_t dim, const struct vf_search *s,
		    const struct vf_answer *a)
{
	if (!r || !is_whole(s, a) || answer_len(a) > r->max_len)
		return;
	struct entry *e = calloc(1, sizeof(*e));
	if (!e || !(e->answer = copy_answer(a))) {
		free(e);
		return;
	}
	e->name = make_name(version, q, dim, s);
	e->len = answer_len(a);
	pthread_mutex_lock(&r->lock);
	struct entry **at = find_entry(r, &e->name);
	if (*at) {
		free_entry(e); /* another thread was first */
	} else {
		*at = e;
		link_newest(r, e);
		r->len += e->len;
	}
	while (r->len > r->max_len)
		drop_oldest(r);
	pthread_mutex_unlock(&r->lock);
}
