/*
 * Every fault is one that a network, a server or the writer's own machine has;
 * the seed says which come.
 */
#include "tests/faulty_bucket.h"

#include <signal.h>

/* Reads are tried again by real buckets: they fail less often. */
enum { DARK_ONE_IN = 4, DARK_MAX = 24, READS_ONE_IN = 6 };

static struct vf_faulty *faulty_of(struct vf_bucket *b)
{
	return (struct vf_faulty *)b;
}

static uint64_t roll(struct vf_faulty *f, uint64_t n)
{
	return vf_splitmix64(&f->seed) % n;
}

static void maybe_die(struct vf_faulty *f)
{
	if (roll(f, 1000) < f->kill_per_mille)
		kill(getpid(), SIGKILL);
}

static bool goes_wrong(struct vf_faulty *f, unsigned one_in)
{
	if (f->n_dark) {
		f->n_dark--;
		return true;
	}
	if (roll(f, 1000 * one_in) >= f->fault_per_mille)
		return false;
	if (!roll(f, DARK_ONE_IN))
		f->n_dark = (unsigned)roll(f, DARK_MAX);
	return true;
}

static int faulty_head(struct vf_bucket *b, const char *key,
		       struct vf_object *out)
{
	struct vf_faulty *f = faulty_of(b);

	return goes_wrong(f, READS_ONE_IN) ? -EREMOTEIO
					   : vf_bucket_head(f->real, key, out);
}

static void faulty_get_start(struct vf_bucket *b, const struct vf_get *g)
{
	struct vf_faulty *f = faulty_of(b);

	maybe_die(f);
	if (goes_wrong(f, READS_ONE_IN))
		g->done(g->arg, -EREMOTEIO, 0, NULL);
	else
		vf_bucket_get_start(f->real, g);
}

static void land_late(struct vf_faulty *f)
{
	if (f->late_key[0])
		vf_bucket_put(f->real, f->late_key, f->late.data, f->late.len,
			      f->late_flags, NULL);
	f->late_key[0] = '\0';
}

static void put_late(struct vf_faulty *f, const char *key, const void *data,
		     size_t len, unsigned flags)
{
	f->late.len = 0;
	if (strlen(key) >= sizeof(f->late_key) ||
	    vf_buf_append(&f->late, data, len))
		return;
	strcpy(f->late_key, key);
	f->late_flags = flags;
}

static int faulty_put(struct vf_bucket *b, const char *key, const void *data,
		      size_t len, unsigned flags, struct vf_object *out)
{
	struct vf_faulty *f = faulty_of(b);
	int err = 0;

	maybe_die(f);
	if (!roll(f, 3))
		land_late(f);
	bool wrong = goes_wrong(f, 1);
	uint64_t how = wrong ? roll(f, 3) : 0;
	if (!wrong || how == 1)
		err = vf_bucket_put(f->real, key, data, len, flags, out);
	else if (how == 2)
		put_late(f, key, data, len, flags);
	maybe_die(f);
	return wrong ? -EREMOTEIO : err;
}

static int faulty_list(struct vf_bucket *b, const char *prefix, bool folders,
		       const char *start_after, vf_list_fn *fn, void *arg)
{
	struct vf_faulty *f = faulty_of(b);

	maybe_die(f);
	return goes_wrong(f, READS_ONE_IN)
		       ? -EREMOTEIO
		       : vf_bucket_list(f->real, prefix, folders, start_after,
					fn, arg);
}

void vf_faulty_init(struct vf_faulty *f)
{
	static const struct vf_bucket_ops ops = {.head = faulty_head,
						 .get_start = faulty_get_start,
						 .put = faulty_put,
						 .list = faulty_list};

	f->base = (struct vf_bucket){.ops = &ops, .url = (char *)"faulty:"};
}

void vf_faulty_fini(struct vf_faulty *f)
{
	if (!roll(f, 2))
		land_late(f);
	vf_buf_fini(&f->late);
}
