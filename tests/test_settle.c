/*
 * Commits to a bucket that lies: an answer that was lost, a put that never
 * arrived, reads that fail meanwhile.
 */
#include "store/bucket_impl.h"
#include "tests/rig.h"

/* What becomes of the next puts: one letter each, then all is well. */
struct fake {
	struct vf_bucket base;
	struct vf_bucket *real; /* owned */
	const char *puts;	/* 'L' lands, said to have failed;
				 * 'R' lands, said to be refused;
				 * 'F' does not land, said to have failed;
				 * 'A' does not land, not allowed */
	const char *gets;	/* 'F' fails, '.' works */
	bool for_ever;		/* the last letter of puts stays */
	unsigned n_put;
};

static struct fake *fake_of(struct vf_bucket *b)
{
	return (struct fake *)b;
}

static void fake_close(struct vf_bucket *b)
{
	vf_bucket_close(fake_of(b)->real);
	free(b);
}

static int fake_head(struct vf_bucket *b, const char *key,
		     struct vf_object *out)
{
	return vf_bucket_head(fake_of(b)->real, key, out);
}

static void fake_get_start(struct vf_bucket *b, const struct vf_get *g)
{
	struct fake *f = fake_of(b);

	if (f->gets && *f->gets && *f->gets++ == 'F')
		g->done(g->arg, -EREMOTEIO, 0, NULL);
	else
		vf_bucket_get_start(f->real, g);
}

static int fake_put(struct vf_bucket *b, const char *key, const void *data,
		    size_t len, unsigned flags, struct vf_object *out)
{
	struct fake *f = fake_of(b);
	char fate = f->puts ? *f->puts : '\0';
	int err;

	f->n_put++;
	if (fate && !(f->for_ever && !f->puts[1]))
		f->puts++;
	if (fate == 'F')
		return -EREMOTEIO;
	if (fate == 'A')
		return -EACCES;
	err = vf_bucket_put(f->real, key, data, len, flags, out);
	if (fate == 'L')
		return -EREMOTEIO;
	return fate == 'R' ? -EEXIST : err;
}

static int fake_list(struct vf_bucket *b, const char *prefix, bool folders,
		     const char *start_after, vf_list_fn *fn, void *arg)
{
	return vf_bucket_list(fake_of(b)->real, prefix, folders, start_after,
			      fn, arg);
}

static struct fake *open_fake(const char *dir)
{
	static const struct vf_bucket_ops ops = {.close = fake_close,
						 .head = fake_head,
						 .get_start = fake_get_start,
						 .put = fake_put,
						 .list = fake_list};
	struct fake *f = calloc(1, sizeof(*f));

	f->base.ops = &ops;
	f->base.url = strdup("fake://");
	f->real = open_bucket(dir);
	return f;
}

/* Commit one shard while the bucket does @puts and @gets. */
static int commit_through(const char *puts, const char *gets, bool for_ever,
			  unsigned *out_n_put, uint64_t *out_head)
{
	struct fake *f = open_fake(vf_test_dir());
	struct vf_state *s = make_index(&f->base, 0), *after;

	f->puts = puts;
	f->gets = gets;
	f->for_ever = for_ever;
	f->n_put = 0;
	int err = commit_one(&f->base, &s, shard_op(s->head, 5, 0));
	*out_n_put = f->n_put;
	after = load(f->real, "i");
	*out_head = after->head;
	if (!err)
		CU_ASSERT(same_state(s, after));
	vf_state_free(after);
	vf_state_free(s);
	vf_bucket_close(&f->base);
	return err;
}

static void a_lost_answer_settles_as_success(void)
{
	unsigned n_put;
	uint64_t head;

	CU_ASSERT_EQUAL(commit_through("L", NULL, false, &n_put, &head), 0);
	CU_ASSERT(n_put == 1 && head == 2);
	/* Our own first try makes the second look taken. */
	CU_ASSERT_EQUAL(commit_through("R", NULL, false, &n_put, &head), 0);
	CU_ASSERT(n_put == 1 && head == 2);
	CU_ASSERT_EQUAL(commit_through("FL", NULL, false, &n_put, &head), 0);
	CU_ASSERT(n_put == 2 && head == 2);
	/* The answer is lost, and reading it back fails at first. */
	CU_ASSERT_EQUAL(commit_through("L", "FF", false, &n_put, &head), 0);
	CU_ASSERT(n_put == 1 && head == 2);
}

static void a_put_that_did_not_land_is_sent_again(void)
{
	unsigned n_put;
	uint64_t head;

	CU_ASSERT_EQUAL(commit_through("FF", NULL, false, &n_put, &head), 0);
	CU_ASSERT(n_put == 3 && head == 2);
}

/* No answer at all: it may land yet, so nobody may call it failed. */
static void an_outcome_nobody_knows_is_said_to_be_so(void)
{
	unsigned n_put;
	uint64_t head;

	CU_ASSERT_EQUAL(commit_through("F", NULL, true, &n_put, &head),
			-EINPROGRESS);
	CU_ASSERT(n_put > 1 && head == 1);
	CU_ASSERT_EQUAL(commit_through("L", "FFFFFFFFFFFF", false, &n_put,
				       &head),
			-EINPROGRESS);
	CU_ASSERT_EQUAL(head, 2); /* it had landed */
}

static void a_put_that_is_not_allowed_fails_at_once(void)
{
	unsigned n_put;
	uint64_t head;

	CU_ASSERT_EQUAL(commit_through("A", NULL, true, &n_put, &head),
			-EACCES);
	CU_ASSERT(n_put == 1 && head == 1);
}

static void creating_settles_after_a_lost_answer(void)
{
	struct fake *f = open_fake(vf_test_dir());
	uint8_t uuid[16], there[16];

	f->puts = "L";
	CU_ASSERT_EQUAL(vf_index_create(&f->base, "i", uuid), 0);
	CU_ASSERT_EQUAL(vf_index_create(&f->base, "i", there), 0);
	CU_ASSERT(!memcmp(uuid, there, 16));
	/* Nothing is there after the failure: it is asked again. */
	f->puts = "F";
	CU_ASSERT_EQUAL(vf_index_create(&f->base, "j", uuid), 0);
	f->puts = "F";
	f->for_ever = true;
	CU_ASSERT_EQUAL(vf_index_create(&f->base, "k", uuid), -EREMOTEIO);
	vf_bucket_close(&f->base);
}

static void a_bucket_that_fails_is_not_an_empty_log(void)
{
	struct fake *f = open_fake(vf_test_dir());
	struct vf_state *s = make_index(&f->base, 1), *again = NULL;

	f->gets = "F";
	CU_ASSERT_EQUAL(vf_state_load(&f->base, "i", &again), -EREMOTEIO);
	f->gets = "..F";
	CU_ASSERT_EQUAL(vf_state_load(&f->base, "i", &again), -EREMOTEIO);
	CU_ASSERT_PTR_NULL(again);
	vf_state_free(s);
	vf_bucket_close(&f->base);
}

static CU_TestInfo tests[] = {
	{"a lost answer settles as success", a_lost_answer_settles_as_success},
	{"a put that did not land is sent again",
	 a_put_that_did_not_land_is_sent_again},
	{"an outcome nobody knows is said to be so",
	 an_outcome_nobody_knows_is_said_to_be_so},
	{"a put that is not allowed fails at once",
	 a_put_that_is_not_allowed_fails_at_once},
	{"creating settles after a lost answer",
	 creating_settles_after_a_lost_answer},
	{"a bucket that fails is not an empty log",
	 a_bucket_that_fails_is_not_an_empty_log},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/settle", tests);
