/*
 * Writers at once against a plain model: what was acknowledged is there, what
 * was refused is not; and a writer that is killed at any request leaves an
 * index that is as before or as after.
 */
#include "store/bucket_impl.h"
#include "store/change.h"
#include "store/line.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { DIM = 2, KEYS = 24, WRITERS = 3, EACH = 12, SEEDS = 5 };

/* ---- small indexes --------------------------------------------------------------------- */

static void make_empty(struct vf_bucket *b)
{
	uint8_t uuid[16];
	struct vf_op op = configure_op();

	CU_ASSERT_EQUAL_FATAL(vf_index_create(b, "i", uuid), 0);
	struct vf_state *s = load(b, "i");
	op.configure.dim = DIM;
	CU_ASSERT_EQUAL_FATAL(commit_one(b, &s, op), 0);
	vf_state_free(s);
}

/* Rows of keys k<first>.., each holding @value. */
static struct vf_upsert make_rows(uint32_t first, uint32_t n, uint32_t value,
				  struct vf_buf *store)
{
	struct vf_op op = rows_op(DIM, first, n, 0, store);
	float x = (float)value;

	for (uint32_t i = 0; i < n * DIM; i++)
		memcpy((uint8_t *)op.upsert.vectors + 4 * i, &x, 4);
	return op.upsert;
}

static struct vf_delete make_keys(uint32_t first, uint32_t n,
				  struct vf_buf *store)
{
	char key[16];

	for (uint32_t k = first; k < first + n; k++) {
		int len = snprintf(key, sizeof(key), "k%u", k);
		vf_keys_append(store, key, (size_t)len);
	}
	return (struct vf_delete){n, store->data, store->len};
}

/* What lives: values by key, 0 for none.  False when a key lives twice. */
static bool read_values(const struct vf_state *s, uint32_t out[KEYS])
{
	bool once = true;

	memset(out, 0, KEYS * sizeof(*out));
	for (size_t i = 0; i < s->n_tail; i++) {
		const struct vf_inline *r = s->tail[i].rows;
		for (uint64_t row = 0; row < r->n_rows; row++) {
			float x;
			unsigned k = KEYS;
			if (vf_dead_has(s->tail[i].dead, row))
				continue;
			memcpy(&x, r->vectors + row * r->row_len, 4);
			sscanf(r->lines + r->line_offs[row], "{\"key\":\"k%u\"",
			       &k);
			once = once && k < KEYS && !out[k];
			out[k % KEYS] = (uint32_t)x;
		}
	}
	return once;
}

/* ---- writers at once ------------------------------------------------------------------- */

/* What one writer did in the commit @head. */
struct deed {
	uint64_t head;
	uint32_t first, n, value; /* 0: deleted */
	bool if_absent;
};

struct writer {
	struct vf_bucket *bucket;
	const char *dir; /* of its catalog */
	uint64_t seed;
	uint32_t first_value;
	struct deed deeds[EACH];
	unsigned n_deeds, n_wrong;
	pthread_t thread;
};

static int act(struct vf_changer *c, struct deed *d)
{
	VF_AUTO_BUF struct vf_buf store = {0};
	struct vf_condition cond = {.if_absent = d->if_absent};
	struct vf_changed done;
	int err;

	if (d->value) {
		struct vf_upsert rows =
			make_rows(d->first, d->n, d->value, &store);
		err = vf_changer_upsert(c, &rows, &cond, &done);
	} else {
		struct vf_delete keys = make_keys(d->first, d->n, &store);
		err = vf_changer_delete(c, &keys, &cond, &done);
	}
	d->head = done.head;
	return err;
}

static void *write_some(void *arg)
{
	struct writer *w = arg;
	struct vf_changer c = {
		.bucket = w->bucket, .index = "i", .cache_dir = w->dir};

	w->n_wrong += vf_changer_load(&c) != 0;
	for (uint32_t i = 0; i < EACH && !w->n_wrong; i++) {
		uint32_t kind = (uint32_t)(vf_test_rand(&w->seed) % 6);
		struct deed *d = &w->deeds[w->n_deeds];
		*d = (struct deed){
			.first =
				(uint32_t)(vf_test_rand(&w->seed) % (KEYS - 4)),
			.n = 1 + (uint32_t)(vf_test_rand(&w->seed) % 4),
			.value = kind < 2 ? 0 : w->first_value + i,
			.if_absent = kind == 5};
		int err = act(&c, d);
		if (!err && d->head)
			w->n_deeds++;
		else if (err && !(err == -EEXIST && d->if_absent))
			w->n_wrong++;
	}
	vf_changer_fini(&c);
	return NULL;
}

static int compare_deeds(const void *a, const void *b)
{
	const struct deed *x = a, *y = b;

	return (x->head > y->head) - (x->head < y->head);
}

/* In the order of the log; every number is one writer's. */
static void replay(struct deed *d, size_t n, uint32_t out[KEYS])
{
	qsort(d, n, sizeof(*d), compare_deeds);
	memset(out, 0, KEYS * sizeof(*out));
	for (size_t i = 0; i < n; i++) {
		CU_ASSERT(!i || d[i].head > d[i - 1].head);
		for (uint32_t k = d[i].first; k < d[i].first + d[i].n; k++) {
			CU_ASSERT(!d[i].if_absent || !out[k]);
			out[k] = d[i].value;
		}
	}
}

static void run_writers(uint64_t seed)
{
	struct vf_bucket *b = new_bucket();
	struct writer w[WRITERS];
	struct deed all[WRITERS * EACH];
	uint32_t want[KEYS], have[KEYS];
	size_t n = 0;

	make_empty(b);
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.bucket = b,
				       .dir = vf_test_dir(),
				       .seed = seed * WRITERS + i,
				       .first_value = 1 + i * 1000};
		pthread_create(&w[i].thread, NULL, write_some, &w[i]);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(w[i].thread, NULL);
		CU_ASSERT_EQUAL(w[i].n_wrong, 0);
		memcpy(all + n, w[i].deeds, w[i].n_deeds * sizeof(*all));
		n += w[i].n_deeds;
	}
	replay(all, n, want);
	struct vf_state *s = load(b, "i");
	CU_ASSERT(read_values(s, have));
	CU_ASSERT(!memcmp(want, have, sizeof(want)));
	CU_ASSERT_EQUAL(s->head, n + 1); /* nothing that nobody did */
	vf_state_free(s);
	vf_bucket_close(b);
}

static void writers_at_once_agree_with_the_model(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run_writers(seed);
}

/* ---- conditions ------------------------------------------------------------------------ */

static void conditions_are_kept(void)
{
	struct vf_bucket *b = new_bucket();
	VF_AUTO_BUF struct vf_buf one = {0}, two = {0}, keys = {0};
	struct vf_condition cond = {.if_absent = true};
	struct vf_changed done;
	struct vf_changer c = {
		.bucket = b, .index = "i", .cache_dir = vf_test_dir()};

	make_empty(b);
	CU_ASSERT_EQUAL(vf_changer_load(&c), 0);
	struct vf_upsert rows = make_rows(0, 3, 1, &one);
	struct vf_upsert other = make_rows(2, 3, 2, &two);
	CU_ASSERT_EQUAL(vf_changer_upsert(&c, &rows, &cond, &done), 0);
	CU_ASSERT(done.head == 2 && done.n_killed == 0);
	CU_ASSERT_EQUAL(vf_changer_upsert(&c, &other, &cond, &done), -EEXIST);
	cond = (struct vf_condition){.at_version = true, .version = 1};
	CU_ASSERT_EQUAL(vf_changer_upsert(&c, &other, &cond, &done), -ESTALE);
	cond.version = 2;
	CU_ASSERT_EQUAL(vf_changer_upsert(&c, &other, &cond, &done), 0);
	CU_ASSERT(done.head == 3 && done.n_killed == 1);
	CU_ASSERT_EQUAL(c.state->n_rows, 5);
	cond = (struct vf_condition){0};
	make_keys(0, 2, &keys);
	struct vf_delete gone = make_keys(1, 2, &keys); /* k1 twice */
	gone.n_keys = 4;
	CU_ASSERT_EQUAL(vf_changer_delete(&c, &gone, &cond, &done), 0);
	CU_ASSERT(done.head == 4 && done.n_killed == 3);
	CU_ASSERT_EQUAL(vf_changer_delete(&c, &gone, &cond, &done), 0);
	CU_ASSERT(done.head == 0 && c.state->head == 4); /* nothing to do */
	vf_changer_fini(&c);
	vf_bucket_close(b);
}

/*
 * A writer that goes on was refused, or told that there is nothing to delete, by
 * what others had changed before it asked: it looked at its own old state.
 */
static void a_refusal_is_no_older_than_the_question(void)
{
	struct vf_bucket *b = new_bucket();
	VF_AUTO_BUF struct vf_buf one = {0}, keys = {0}, more = {0};
	struct vf_condition none = {0}, cond = {.if_absent = true};
	struct vf_changed done;
	struct vf_changer here = {.bucket = b,
				  .index = "i",
				  .cache_dir = vf_test_dir()},
			  there = here;

	there.cache_dir = vf_test_dir();
	make_empty(b);
	struct vf_upsert rows = make_rows(0, 3, 1, &one);
	struct vf_delete all = make_keys(0, 3, &keys);
	struct vf_delete other = make_keys(9, 1, &more);
	CU_ASSERT_EQUAL(vf_changer_load(&here), 0);
	CU_ASSERT_EQUAL(vf_changer_upsert(&here, &rows, &none, &done), 0);
	CU_ASSERT_EQUAL(vf_changer_load(&there), 0);
	CU_ASSERT_EQUAL(vf_changer_delete(&there, &all, &none, &done), 0);
	CU_ASSERT_EQUAL(vf_changer_upsert(&here, &rows, &cond, &done), 0);
	CU_ASSERT_EQUAL(done.head, 4);
	CU_ASSERT_EQUAL(vf_changer_upsert(&here, &rows, &cond, &done), -EEXIST);
	CU_ASSERT_EQUAL(vf_changer_delete(&there, &all, &none, &done), 0);
	CU_ASSERT(done.head == 5 && done.n_killed == 3);
	cond = (struct vf_condition){.at_version = true, .version = 5};
	CU_ASSERT_EQUAL(vf_changer_upsert(&here, &rows, &cond, &done), 0);
	CU_ASSERT_EQUAL(vf_changer_delete(&there, &other, &none, &done), 0);
	CU_ASSERT(!done.head && there.state->head == 6);
	vf_changer_fini(&here);
	vf_changer_fini(&there);
	vf_bucket_close(b);
}

/* ---- killed ---------------------------------------------------------------------------- */

/* A bucket whose user dies at its @left-th request, before or after it. */
struct deadly {
	struct vf_bucket base;
	struct vf_bucket *real;
	unsigned left;
	bool after;
};

static struct deadly *deadly_of(struct vf_bucket *b)
{
	return (struct deadly *)b;
}

static void boundary(struct deadly *d, bool after)
{
	if (after == d->after && d->left && !--d->left)
		kill(getpid(), SIGKILL);
}

static int deadly_head(struct vf_bucket *b, const char *key,
		       struct vf_object *out)
{
	boundary(deadly_of(b), false);
	int err = vf_bucket_head(deadly_of(b)->real, key, out);
	boundary(deadly_of(b), true);
	return err;
}

static void deadly_get_start(struct vf_bucket *b, const struct vf_get *g)
{
	boundary(deadly_of(b), false);
	vf_bucket_get_start(deadly_of(b)->real, g);
	boundary(deadly_of(b), true);
}

static int deadly_put(struct vf_bucket *b, const char *key, const void *data,
		      size_t len, unsigned flags, struct vf_object *out)
{
	boundary(deadly_of(b), false);
	int err = vf_bucket_put(deadly_of(b)->real, key, data, len, flags, out);
	boundary(deadly_of(b), true);
	return err;
}

static int deadly_list(struct vf_bucket *b, const char *prefix, bool folders,
		       const char *start_after, vf_list_fn *fn, void *arg)
{
	boundary(deadly_of(b), false);
	int err = vf_bucket_list(deadly_of(b)->real, prefix, folders,
				 start_after, fn, arg);
	boundary(deadly_of(b), true);
	return err;
}

/* Put three rows, two of them again, and delete two; how far it came. */
static unsigned run_deeds(struct vf_bucket *b, const char *cache, int ack)
{
	static const struct deed deeds[] = {{.first = 0, .n = 3, .value = 7},
					    {.first = 1, .n = 3, .value = 8},
					    {.first = 0, .n = 2}};
	struct vf_changer c = {.bucket = b, .index = "i", .cache_dir = cache};
	unsigned n = 0;

	if (!vf_changer_load(&c))
		for (; n < VF_N(deeds); n++) {
			struct deed d = deeds[n];
			if (act(&c, &d) || (ack >= 0 && write(ack, "+", 1) < 0))
				break;
		}
	vf_changer_fini(&c);
	return n;
}

static void die_in_the_middle(const char *dir, const char *cache, unsigned left,
			      bool after, int ack)
{
	static const struct vf_bucket_ops ops = {.head = deadly_head,
						 .get_start = deadly_get_start,
						 .put = deadly_put,
						 .list = deadly_list};
	struct deadly d = {.base = {.ops = &ops, .url = (char *)"deadly://"},
			   .left = left,
			   .after = after};
	char url[256];

	snprintf(url, sizeof(url), "file://%s", dir);
	if (!vf_bucket_open(url, NULL, &d.real))
		run_deeds(&d.base, cache, ack);
	_exit(0);
}

/* Values after so many of the deeds. */
static const uint32_t stages[4][4] = {
	{0, 0, 0, 0}, {7, 7, 7, 0}, {7, 8, 8, 8}, {0, 0, 8, 8}};

static int stage_of(struct vf_bucket *b)
{
	struct vf_state *s = load(b, "i");
	uint32_t have[KEYS];
	bool once = read_values(s, have);

	vf_state_free(s);
	for (int i = 0; once && i < 4; i++)
		if (!memcmp(have, stages[i], sizeof(stages[i])))
			return i;
	return -1;
}

/* True when the child died; false when there are fewer requests. */
static bool kill_at(unsigned left, bool after)
{
	const char *dir = vf_test_dir(), *cache = vf_test_dir();
	struct vf_bucket *b = open_bucket(dir);
	char acks[8];
	int fds[2], status;

	make_empty(b);
	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	pid_t pid = fork();
	if (!pid)
		die_in_the_middle(dir, cache, left, after, fds[1]);
	close(fds[1]);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	ssize_t n_acked = read(fds[0], acks, sizeof(acks));
	close(fds[0]);
	int stage = stage_of(b);
	/* Whole deeds only, all that were said to be done, one more at most. */
	CU_ASSERT(stage >= n_acked && stage <= n_acked + 1);
	/* The next one goes on with the catalog the dead one left. */
	CU_ASSERT_EQUAL(run_deeds(b, cache, -1), 3);
	CU_ASSERT_EQUAL(stage_of(b), 3);
	vf_bucket_close(b);
	return WIFSIGNALED(status);
}

static void killed_at_any_request_nothing_is_half_done(void)
{
	for (int after = 0; after < 2; after++) {
		unsigned n = 1;
		while (kill_at(n, after) && n < 100)
			n++;
		CU_ASSERT(n > 5 && n < 100);
	}
}

static CU_TestInfo tests[] = {
	{"writers at once agree with the model",
	 writers_at_once_agree_with_the_model},
	{"conditions are kept", conditions_are_kept},
	{"a refusal is no older than the question",
	 a_refusal_is_no_older_than_the_question},
	{"killed at any request nothing is half done",
	 killed_at_any_request_nothing_is_half_done},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/change", tests);
