/*
 * What suites of the cache share: objects whose bytes follow from their place,
 * sources that delay, fail and hold them back, reads that wait.
 */
#ifndef VF_TESTS_FAKE_SOURCE_H
#define VF_TESTS_FAKE_SOURCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/cache.h"
#include "tests/test.h"

enum { FAKE_BLOCK = 4096, FAKE_BLOCKS_MIN = 16, FAKE_JOBS_MAX = 4096 };

/* What object @id holds at @off. */
static inline uint8_t fake_byte(uint8_t id, uint64_t off)
{
	return (uint8_t)((off * 0x9e3779b97f4a7c15 + id) >> 32);
}
bool fake_is_right(uint8_t id, uint64_t off, const uint8_t *b, size_t len);

struct fake_job;

/* Answers from two threads of its own, in no order. */
struct fake_server {
	pthread_mutex_t mtx;
	pthread_cond_t more;
	struct fake_job *jobs; /* [mtx] and all below */
	struct {
		uint64_t off;
		size_t len;
	} log[FAKE_JOBS_MAX]; /* the first ones, as they came */
	unsigned n_jobs, n_started, max_delay_us, fail_percent;
	unsigned n_hold; /* so many more are held back */
	bool paused, at_once, stop;
	uint64_t seed;
	pthread_t thread[2];
};

struct fake_server *fake_server_new(uint64_t seed);
/* All that was asked is answered first. */
void fake_server_free(struct fake_server *s);
void fake_server_pause(struct fake_server *s, bool paused);
/* The next @n are not answered; 0 lets go of those held. */
void fake_server_hold(struct fake_server *s, unsigned n);
/* Answers come before start returns. */
void fake_server_at_once(struct fake_server *s, bool at_once);
void fake_server_fail(struct fake_server *s, unsigned percent);
/* How many fetches came; where the @i-th began. */
unsigned fake_server_started(struct fake_server *s);
uint64_t fake_server_off(struct fake_server *s, unsigned i);
/* Wait until @n have come; false when they do not within ten seconds. */
bool fake_server_wait(struct fake_server *s, unsigned n);

/* Object @id; *n_freed, unless NULL, grows when its source is freed. */
struct vf_cached *fake_object_as(struct vf_cache *c, struct fake_server *s,
				 uint8_t id, uint64_t size, unsigned flags,
				 atomic_uint *n_freed);
static inline struct vf_cached *fake_object(struct vf_cache *c,
					    struct fake_server *s, uint8_t id,
					    uint64_t size, atomic_uint *n_freed)
{
	return fake_object_as(c, s, id, size, 0, n_freed);
}

/* ---- reads that can be waited for --------------------------------------------- */

struct fake_wait {
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	unsigned n_done; /* [mtx] */
	int err;
};

#define FAKE_WAIT                                                              \
	((struct fake_wait){.mtx = PTHREAD_MUTEX_INITIALIZER,                  \
			    .cond = PTHREAD_COND_INITIALIZER})

void fake_done(void *arg, int err); /* a vf_fetch_fn; @arg is fake_wait */
int fake_wait_for(struct fake_wait *w, unsigned n);

/* Read, wait and compare; the error or 0. */
int fake_read(struct vf_cached *o, uint8_t id, uint64_t off, size_t len);
static inline int fake_read_block(struct vf_cached *o, unsigned number)
{
	return fake_read(o, 1, (uint64_t)number * FAKE_BLOCK, FAKE_BLOCK);
}

struct vf_cache_stats fake_stats(struct vf_cache *c);

/* ---- many readers at random ------------------------------------------------------ */

enum { FAKE_OBJECTS = 5, FAKE_READERS_MAX = 16 };

struct fake_storm {
	struct vf_cache *c;
	struct vf_cached *o[FAKE_OBJECTS];
	uint64_t seed;
	unsigned n_readers, n_reads; /* of each */
	unsigned drop_percent;	     /* of reads: also drop what is there */
	bool resized;		     /* the RAM changes meanwhile */
	unsigned n_failed, n_wrong;  /* out */
};
/* Opens the objects on @s, reads, counts; the objects stay open. */
void fake_storm_run(struct fake_storm *t, struct fake_server *s);
/* Every byte of every object, then put them. */
void fake_storm_end(struct fake_storm *t);
/* VF_TEST_SEED, else @usual. */
uint64_t fake_seed(uint64_t usual);

#endif
