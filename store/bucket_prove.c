/*
 * Does the server keep the promise that commits stand on?  Some take the
 * condition of a PUT and ignore it: two writers would then both be told that
 * their record is the next one.
 */
#include "store/bucket_impl.h"
#include "store/thread.h"
#include "store/util.h"

#include <pthread.h>
#include <stdio.h>

enum { CREATORS = 4, TRIES = 6 };

struct creator {
	struct vf_bucket *b;
	const char *key;
	char text[32];
	int err;
	pthread_t thread;
};

static void *create(void *arg)
{
	struct creator *c = arg;

	c->err = vf_bucket_put(c->b, c->key, c->text, strlen(c->text),
			       VF_PUT_IF_ABSENT, NULL);
	return NULL;
}

static int refuse(struct vf_bucket *b, const char *what)
{
	return vf_fail(
		-ENOTSUP,
		"%s: %s, although that was asked for only if it is "
		"absent: commits would be lost; --single-writer, if nobody else "
		"ever writes here",
		vf_bucket_url(b), what);
}

/*
 * Of those at once at most one was told that it did.  Others may be told
 * nothing clear: some servers answer 500 to who came second.
 */
static int judge(struct vf_bucket *b, const struct creator *c, size_t n)
{
	unsigned n_created = 0;
	int err = 0;

	for (size_t i = 0; i < n; i++) {
		n_created += !c[i].err;
		if (c[i].err && c[i].err != -EEXIST)
			err = c[i].err;
	}
	if (n_created > 1)
		return refuse(b, "two created one object");
	return n_created ? 0 : err;
}

static int create_at_once(struct vf_bucket *b, const char *key)
{
	struct creator c[CREATORS];
	size_t n = 0;

	for (; n < CREATORS; n++) {
		c[n] = (struct creator){.b = b, .key = key};
		snprintf(c[n].text, sizeof(c[n].text), "creator %zu\n", n);
		if (vf_thread_start(&c[n].thread, create, &c[n]))
			break;
	}
	for (size_t i = 0; i < n; i++)
		pthread_join(c[i].thread, NULL);
	return n < 2 ? -EAGAIN : judge(b, c, n);
}

/* One after the other. */
static int create_twice(struct vf_bucket *b, const char *key)
{
	int err = vf_bucket_put(b, key, "once\n", 5, VF_PUT_IF_ABSENT, NULL);

	if (err && err != -EEXIST) /* ours, after a lost answer */
		return err;
	err = vf_bucket_put(b, key, "again\n", 6, VF_PUT_IF_ABSENT, NULL);
	if (!err)
		return refuse(b, "an object was created twice");
	return err == -EEXIST ? 0 : err;
}

/* -EREMOTEIO: the answers did not tell. */
static int prove_once(struct vf_bucket *b)
{
	char key[64] = "_vecfs/selftest/";
	uint8_t nonce[16];

	vf_random(nonce, sizeof(nonce));
	vf_hex(nonce, sizeof(nonce), key + strlen(key));
	int err = create_twice(b, key), gone = vf_bucket_delete(b, key);
	if (!err)
		err = gone;
	if (err)
		return err;
	err = create_at_once(b, key);
	gone = vf_bucket_delete(b, key);
	return err ? err : gone;
}

int vf_bucket_prove(struct vf_bucket *b)
{
	int err = -EREMOTEIO;

	if (b->single_writer || !b->server)
		return 0;
	for (int try = 0; err == -EREMOTEIO && try < TRIES; try++) {
		if (try)
			usleep(25000u << try);
		err = prove_once(b);
	}
	return err == -EREMOTEIO
		       ? vf_fail(err,
				 "%s: no clear answer to creating objects "
				 "only if they are absent",
				 vf_bucket_url(b))
		       : err;
}
