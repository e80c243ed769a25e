/*
 * The log as a whole: what was committed is there once; what is damaged does
 * not load.
 */
#include "store/bucket_impl.h"
#include "tests/rig.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* ---- the plain way -------------------------------------------------------------- */

static void an_absent_index_is_not_found(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = NULL;

	CU_ASSERT_EQUAL(vf_state_load(b, "none", &s), -ENOENT);
	CU_ASSERT_EQUAL(vf_state_load(b, "../x", &s), -ENOENT);
	CU_ASSERT_EQUAL(vf_state_load(b, "", &s), -ENOENT);
	CU_ASSERT_PTR_NULL(s);
	vf_state_free(NULL);
	vf_bucket_close(b);
}

static void creating_twice_gives_the_same_uuid(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	uint8_t first[16], second[16];

	CU_ASSERT_EQUAL(vf_index_create(b, "i", first), 0);
	CU_ASSERT_EQUAL(vf_index_create(b, "i", second), 0);
	CU_ASSERT(!memcmp(first, second, 16));
	CU_ASSERT_EQUAL(vf_index_create(b, "j", second), 0);
	CU_ASSERT(memcmp(first, second, 16));
	vf_bucket_close(b);
}

static void what_is_committed_is_loaded(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = make_index(b, 3), *again = load(b, "i");

	CU_ASSERT_EQUAL(again->head, 4);
	CU_ASSERT_EQUAL(again->n_rows, 60);
	CU_ASSERT_EQUAL(again->n_shards, 3);
	CU_ASSERT_EQUAL(again->next_key, 300);
	CU_ASSERT_EQUAL(again->config.rotation_seed, 7);
	CU_ASSERT_EQUAL(again->shards[1].n_rows, 20);
	CU_ASSERT(same_state(s, again));
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void refresh_applies_what_is_new(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = make_index(b, 1), *old = load(b, "i"), *next;

	CU_ASSERT_EQUAL(vf_state_refresh(b, old, &next), 0);
	CU_ASSERT_PTR_NULL(next);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 6, 0)), 0);
	CU_ASSERT_EQUAL(vf_state_refresh(b, old, &next), 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(next);
	CU_ASSERT(same_state(s, next));
	CU_ASSERT(old->head == 2 && old->n_shards == 1); /* as it was */
	vf_state_free(next);
	vf_state_free(old);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void a_taken_number_is_refused(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = make_index(b, 0), *late = load(b, "i");

	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	CU_ASSERT_EQUAL(commit_one(b, &late, shard_op(late->head, 6, 0)),
			-EEXIST);
	vf_state_free(late);
	late = load(b, "i");
	CU_ASSERT(same_state(s, late));
	vf_state_free(late);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void operations_that_make_no_sense_are_not_written(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	uint8_t uuid[16];

	CU_ASSERT_EQUAL(vf_index_create(b, "i", uuid), 0);
	struct vf_state *s = load(b, "i"), *again;
	struct vf_op shard = shard_op(0, 5, 0);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard), -EBADMSG);
	CU_ASSERT_EQUAL(commit_one(b, &s, configure_op()), 0);
	CU_ASSERT_EQUAL(commit_one(b, &s, configure_op()), -EBADMSG);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard), 0);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard), -EBADMSG);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(0, 0, 0)), -EBADMSG);
	again = load(b, "i");
	CU_ASSERT_EQUAL(again->head, 2);
	vf_state_free(again);
	vf_state_free(s);
	vf_bucket_close(b);
}

static int note_name(void *arg, const char *name)
{
	strcat(strcat(arg, name), "|");
	return 0;
}

static void indexes_are_listed_in_order(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	char names[256] = "";
	uint8_t uuid[16];

	CU_ASSERT_EQUAL(vf_index_list(b, note_name, names), 0);
	CU_ASSERT_STRING_EQUAL(names, "");
	vf_index_create(b, "b", uuid);
	vf_index_create(b, "a-1", uuid);
	vf_index_create(b, "a", uuid);
	vf_bucket_put(b, "_vecfs/indexes/Not An Index", "x", 1, 0, NULL);
	vf_bucket_put(b, "_vecfs/indexes/a/b", "x", 1, 0, NULL);
	CU_ASSERT_EQUAL(vf_index_list(b, note_name, names), 0);
	CU_ASSERT_STRING_EQUAL(names, "a|a-1|b|");
	vf_bucket_close(b);
}

/* ---- many writers ------------------------------------------------------------------ */

enum { WRITERS = 8, EACH = 10 };

struct writer {
	struct vf_bucket *b;
	int number, err;
};

/* Rows say who and which: 1000 * writer + commit + 1. */
static void *write_shards(void *arg)
{
	struct writer *w = arg;
	struct vf_state *s = NULL, *next;

	w->err = vf_state_load(w->b, "i", &s);
	for (int i = 0; !w->err && i < EACH; i++) {
		struct vf_op op = shard_op(
			s->head, (uint64_t)(1000 * w->number + i + 1), 0);
		while ((w->err = vf_commit(w->b, s, &op, 1, &next)) ==
		       -EEXIST) {
			w->err = vf_state_refresh(w->b, s, &next);
			if (w->err || !next)
				break;
			vf_state_free(s);
			s = next;
		}
		if (!w->err && !next)
			w->err = -EPROTO; /* taken, yet nothing new */
		if (!w->err) {
			vf_state_free(s);
			s = next;
		}
	}
	vf_state_free(s);
	return NULL;
}

static void all_commits_of_many_writers_land_once(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = make_index(b, 0);
	unsigned seen[WRITERS][EACH] = {0};
	struct writer w[WRITERS];
	pthread_t t[WRITERS];

	vf_state_free(s);
	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){b, i, 0};
		pthread_create(&t[i], NULL, write_shards, &w[i]);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(t[i], NULL);
		CU_ASSERT_EQUAL(w[i].err, 0);
	}
	s = load(b, "i");
	CU_ASSERT_EQUAL(s->head, 1 + WRITERS * EACH);
	CU_ASSERT_EQUAL(s->n_shards, WRITERS * EACH);
	for (size_t i = 0; i < s->n_shards; i++) {
		uint64_t n = s->shards[i].n_rows - 1;
		CU_ASSERT_FATAL(n / 1000 < WRITERS && n % 1000 < EACH);
		seen[n / 1000][n % 1000]++;
	}
	for (int i = 0; i < WRITERS * EACH; i++)
		CU_ASSERT_EQUAL(seen[i / EACH][i % EACH], 1);
	vf_state_free(s);
	vf_bucket_close(b);
}

/* ---- damage -------------------------------------------------------------------------- */

static const char record_2[] = "i/log/00000000000000000002";
static const char record_3[] = "i/log/00000000000000000003";

static int try_load(struct vf_bucket *b, const char *name)
{
	struct vf_state *s = NULL;
	int err = vf_state_load(b, name, &s);

	CU_ASSERT(!err == !!s);
	vf_state_free(s);
	return err;
}

static void damaged_records_do_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	void *data = NULL;
	size_t len = 0;

	vf_state_free(make_index(b, 3));
	CU_ASSERT_EQUAL_FATAL(
		vf_bucket_get_all(b, record_2, 1 << 20, &data, &len), 0);
	VF_AUTO_FREE uint8_t *p = data;
	for (size_t i = 16; i < len; i += 13) { /* behind magic and version */
		p[i] ^= 0x10;
		vf_bucket_put(b, record_2, p, len, 0, NULL);
		CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
		p[i] ^= 0x10;
	}
	vf_bucket_put(b, record_2, p, len - 1, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	vf_bucket_put(b, record_2, p, 0, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	p[8] = 2;
	vf_bucket_put(b, record_2, p, len, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), -ENOTSUP);
	p[8] = 1;
	vf_bucket_put(b, record_2, p, len, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), 0);
	vf_bucket_close(b);
}

static void a_gap_in_the_numbers_does_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *old, *next = NULL;

	vf_state_free(make_index(b, 0));
	old = load(b, "i");
	struct vf_state *s = load(b, "i");
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(1, 5, 0)), 0);
	vf_bucket_delete(b, record_3);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	CU_ASSERT_EQUAL(vf_state_refresh(b, old, &next), -EBADMSG);
	CU_ASSERT_PTR_NULL(next);
	vf_state_free(old);
	vf_state_free(s);
	vf_bucket_close(b);
}

static void copy(struct vf_bucket *b, const char *from, const char *to)
{
	void *p = NULL;
	size_t len = 0;

	CU_ASSERT_EQUAL_FATAL(vf_bucket_get_all(b, from, 1 << 20, &p, &len), 0);
	CU_ASSERT_EQUAL(vf_bucket_put(b, to, p, len, 0, NULL), 0);
	free(p);
}

static void a_record_under_another_number_does_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());

	vf_state_free(make_index(b, 2));
	copy(b, record_2, record_3);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	vf_bucket_close(b);
}

/* Two logs of one index that went apart cannot be mixed. */
static void a_record_of_another_history_does_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	struct vf_state *s = make_index(b, 0);
	struct vf_state *s2 = load(b, "i");

	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(1, 5, 0)), 0);
	CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(1, 6, 0)), 0);
	copy(b, record_3, "kept/3");
	vf_bucket_delete(b, record_3);
	vf_bucket_delete(b, record_2);
	CU_ASSERT_EQUAL(commit_one(b, &s2, shard_op(1, 5, 0)), 0);
	CU_ASSERT_EQUAL(try_load(b, "i"), 0);
	copy(b, "kept/3", record_3);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	vf_state_free(s);
	vf_state_free(s2);
	vf_bucket_close(b);
}

static void a_record_of_another_index_does_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	uint8_t uuid[16];

	vf_state_free(make_index(b, 0));
	CU_ASSERT_EQUAL(vf_index_create(b, "j", uuid), 0);
	copy(b, "i/log/00000000000000000001", "j/log/00000000000000000001");
	CU_ASSERT_EQUAL(try_load(b, "j"), -EBADMSG);
	copy(b, "_vecfs/indexes/j", "_vecfs/indexes/i");
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	vf_bucket_close(b);
}

static void a_damaged_identity_does_not_load(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());
	static const char newer[] = "{\"format\":2}\n";
	char *big = calloc(1, 5000);
	uint8_t uuid[16];

	vf_state_free(make_index(b, 0));
	vf_bucket_put(b, "_vecfs/indexes/i", "{}", 2, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), -EBADMSG);
	CU_ASSERT_EQUAL(vf_index_create(b, "i", uuid), -EBADMSG);
	vf_bucket_put(b, "_vecfs/indexes/i", newer, strlen(newer), 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), -ENOTSUP);
	vf_bucket_put(b, "_vecfs/indexes/i", big, 5000, 0, NULL);
	CU_ASSERT_NOT_EQUAL(try_load(b, "i"), 0);
	free(big);
	vf_bucket_close(b);
}

static void strange_names_in_the_log_folder_are_passed_over(void)
{
	struct vf_bucket *b = open_bucket(vf_test_dir());

	vf_state_free(make_index(b, 1));
	vf_bucket_put(b, "i/log/README", "x", 1, 0, NULL);
	vf_bucket_put(b, "i/log/0000000000000000000x", "x", 1, 0, NULL);
	vf_bucket_put(b, "i/log/000000000000000000009", "x", 1, 0, NULL);
	CU_ASSERT_EQUAL(try_load(b, "i"), 0);
	vf_bucket_close(b);
}

/* ---- names ---------------------------------------------------------------------------- */

static void shard_names_are_their_own(void)
{
	char a[VF_SHARD_NAME_LEN + 1], b[VF_SHARD_NAME_LEN + 1];

	vf_shard_name(41, a);
	vf_shard_name(41, b);
	CU_ASSERT(vf_shard_name_ok(a));
	CU_ASSERT(strcmp(a, b));
	CU_ASSERT(!strncmp(a, "00000000000000000041-", 21));
	vf_shard_name(UINT64_MAX, a);
	CU_ASSERT(vf_shard_name_ok(a));
	VF_AUTO_FREE char *key = vf_shard_key("i", "s", "o");
	CU_ASSERT_STRING_EQUAL(key, "i/shard/s/o");
}

/* ---- answers of a server ------------------------------------------------------------- */

/* A bucket whose answers to put are as listed, and nothing is written. */
struct stubborn {
	struct vf_bucket base;
	struct vf_bucket *real;
	const int *answers; /* the last one repeats */
	unsigned n_puts;
};

static void stubborn_get_start(struct vf_bucket *b, const struct vf_get *g)
{
	vf_bucket_get_start(((struct stubborn *)b)->real, g);
}

static int stubborn_head(struct vf_bucket *b, const char *key,
			 struct vf_object *out)
{
	return vf_bucket_head(((struct stubborn *)b)->real, key, out);
}

static int stubborn_put(struct vf_bucket *b, const char *key, const void *data,
			size_t len, unsigned flags, struct vf_object *out)
{
	struct stubborn *s = (struct stubborn *)b;
	int err = s->answers[0];

	s->n_puts++;
	s->answers += s->answers[1] != 0;
	return err;
}

static int commit_stubbornly(const int *answers, unsigned *out_n_puts)
{
	static const struct vf_bucket_ops ops = {.head = stubborn_head,
						 .get_start =
							 stubborn_get_start,
						 .put = stubborn_put};
	struct stubborn b = {.base = {.ops = &ops, .url = (char *)"stubborn:"},
			     .real = new_bucket(),
			     .answers = answers};
	struct vf_state *s = make_index(b.real, 1);
	int err = commit_one(&b.base, &s, shard_op(s->head, 5, 0));

	*out_n_puts = b.n_puts;
	vf_state_free(s);
	vf_bucket_close(b.real);
	return err;
}

/*
 * A first try without an answer, then refusals: commit said "refused", the
 * writer deleted its shards, and the first try landed and named them.
 */
static void refused_after_an_unclear_try_is_unknown(void)
{
	static const int refused[] = {-EACCES, 0}, full[] = {-ENOSPC, 0},
			 lost[] = {-EREMOTEIO, -EACCES, 0};
	unsigned n;

	CU_ASSERT_EQUAL(commit_stubbornly(refused, &n), -EACCES);
	CU_ASSERT_EQUAL(n, 1);
	CU_ASSERT_EQUAL(commit_stubbornly(full, &n), -ENOSPC);
	CU_ASSERT_EQUAL(n, 1);
	CU_ASSERT_EQUAL(commit_stubbornly(lost, &n), -EINPROGRESS);
	CU_ASSERT(n > 1);
}

static CU_TestInfo tests[] = {
	{"refused after an unclear try is unknown",
	 refused_after_an_unclear_try_is_unknown},
	{"an absent index is not found", an_absent_index_is_not_found},
	{"creating twice gives the same UUID",
	 creating_twice_gives_the_same_uuid},
	{"what is committed is loaded", what_is_committed_is_loaded},
	{"refresh applies what is new", refresh_applies_what_is_new},
	{"a taken number is refused", a_taken_number_is_refused},
	{"operations that make no sense are not written",
	 operations_that_make_no_sense_are_not_written},
	{"indexes are listed in order", indexes_are_listed_in_order},
	{"all commits of many writers land once",
	 all_commits_of_many_writers_land_once},
	{"damaged records do not load", damaged_records_do_not_load},
	{"a gap in the numbers does not load",
	 a_gap_in_the_numbers_does_not_load},
	{"a record under another number does not load",
	 a_record_under_another_number_does_not_load},
	{"a record of another history does not load",
	 a_record_of_another_history_does_not_load},
	{"a record of another index does not load",
	 a_record_of_another_index_does_not_load},
	{"a damaged identity does not load", a_damaged_identity_does_not_load},
	{"strange names in the log folder are passed over",
	 strange_names_in_the_log_folder_are_passed_over},
	{"shard names are their own", shard_names_are_their_own},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/commit", tests);
