/*
 * What one LIST told of an index: names of what never changes, and a state
 * loaded from it without asking where the log ends.
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"
#include "store/listed.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include <stdio.h>

static struct vf_listed *list_index(struct vf_bucket *b)
{
	struct vf_listed *l = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_listed_new(b, "i", &l), 0);
	return l;
}

static struct vf_state *load_listed(struct vf_bucket *b,
				    const struct vf_listed *l)
{
	struct vf_state *s = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_state_load_listed(b, "i", l, &s), 0);
	return s;
}

static uint64_t count_lists(struct vf_bucket *b)
{
	struct vf_bucket_stats st;

	vf_bucket_stats(b, &st);
	return st.n_list;
}

static void what_was_listed_is_found(void)
{
	struct vf_bucket *b = new_bucket();

	put(b, "i/shard/x/a", "1");
	put(b, "i/shard/x/b", "22");
	put(b, "i/tree/t", "333");
	put(b, "ii/other", "4");
	struct vf_listed *l = list_index(b);
	CU_ASSERT_EQUAL(vf_listed_count(l), 3);
	CU_ASSERT(l->is_whole);
	CU_ASSERT_EQUAL_FATAL(vf_listed_find(l, "i/shard/x/b") != NULL, true);
	CU_ASSERT_EQUAL(vf_listed_find(l, "i/shard/x/b")->size, 2);
	CU_ASSERT(vf_listed_find(l, "i/shard/x/b")->etag[0]);
	CU_ASSERT_PTR_NULL(vf_listed_find(l, "i/shard/x"));
	CU_ASSERT_PTR_NULL(vf_listed_find(l, "ii/other"));
	CU_ASSERT(vf_listed_has_folder(l, "i"));
	CU_ASSERT(vf_listed_has_folder(l, "i/shard/x"));
	CU_ASSERT(!vf_listed_has_folder(l, "i/sha"));
	CU_ASSERT(!vf_listed_has_folder(l, "i/tree/t"));
	vf_listed_put(vf_listed_get(l));
	CU_ASSERT_EQUAL(vf_listed_lower(l, "i/shard/y"), 2);
	vf_listed_put(l);
	vf_bucket_close(b);
}

static void of_many_the_first_page_is_kept(void)
{
	struct vf_bucket *b = new_bucket();
	char key[40];

	for (int i = 0; i < 1005; i++) {
		snprintf(key, sizeof(key), "i/log/%020d", i);
		put(b, key, "x");
	}
	put(b, "i/a", "x");
	struct vf_listed *l = list_index(b);
	CU_ASSERT_EQUAL(vf_listed_count(l), 1000);
	CU_ASSERT(!l->is_whole);
	CU_ASSERT(vf_listed_covers(l, "i/checkpoint/"));
	CU_ASSERT(!vf_listed_covers(l, "i/log/"));
	CU_ASSERT(!vf_listed_covers(l, "i/shard/"));
	vf_listed_put(l);
	vf_bucket_close(b);
}

static void a_state_is_loaded_without_another_list(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 70);
	struct vf_listed *l = list_index(b);
	uint64_t before = count_lists(b);
	struct vf_state *again = load_listed(b, l);

	CU_ASSERT(same_state(s, again));
	CU_ASSERT_EQUAL(again->checkpoint, 64);
	CU_ASSERT_EQUAL(count_lists(b), before);
	vf_state_free(again);
	vf_state_free(s);
	vf_listed_put(l);
	vf_bucket_close(b);
}

static void an_index_that_is_none_is_not_found(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = NULL;

	put(b, "i/log/00000000000000000001", "not a record");
	struct vf_listed *l = list_index(b);
	CU_ASSERT_EQUAL(vf_state_load_listed(b, "i", l, &s), -ENOENT);
	CU_ASSERT_EQUAL(vf_state_load_listed(b, "../i", l, &s), -ENOENT);
	CU_ASSERT_PTR_NULL(s);
	vf_listed_put(l);
	vf_bucket_close(b);
}

/* Between the LIST and the GETs a collection went by. */
static void what_was_collected_since_is_read_anew(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 70);
	struct vf_listed *l = list_index(b);
	char key[VF_LOG_KEY_LEN];

	while (s->head < 130)
		CU_ASSERT_EQUAL(commit_one(b, &s, shard_op(s->head, 5, 0)), 0);
	vf_log_key("i", "boundary", 128, key);
	put(b, key, "");
	vf_log_key("i", "checkpoint", 64, key);
	CU_ASSERT_EQUAL(vf_bucket_delete(b, key), 0);
	for (uint64_t n = 1; n < 128; n++) {
		vf_log_key("i", "log", n, key);
		CU_ASSERT_EQUAL(vf_bucket_delete(b, key), 0);
	}
	struct vf_state *again = load_listed(b, l);
	CU_ASSERT(same_state(s, again));
	vf_state_free(again);
	vf_state_free(s);
	vf_listed_put(l);
	vf_bucket_close(b);
}

/* What a mount hands to queries: no log is read for it. */
static void a_whole_state_names_no_record(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_state *s = make_index(b, 2), *back = NULL;
	VF_AUTO_BUF struct vf_buf bytes = {0}, store = {0}, again = {0};
	const char *why;

	CU_ASSERT_EQUAL(commit_one(b, &s, rows_op(16, 1, 4000, 0, &store)), 0);
	CU_ASSERT_EQUAL(vf_checkpoint_encode(s, &bytes), 0);
	CU_ASSERT_EQUAL(vf_checkpoint_parse(bytes.data, bytes.len, "i", NULL,
					    NULL, NULL, &back, &why),
			-EBADMSG);
	bytes.len = 0;
	CU_ASSERT_EQUAL(vf_checkpoint_encode_whole(s, &bytes), 0);
	CU_ASSERT_EQUAL_FATAL(vf_checkpoint_parse(bytes.data, bytes.len, "i",
						  NULL, NULL, NULL, &back,
						  &why),
			      0);
	CU_ASSERT(same_state(s, back));
	CU_ASSERT(!memcmp(s->uuid, back->uuid, 16));
	CU_ASSERT_EQUAL(vf_checkpoint_encode_whole(back, &again), 0);
	CU_ASSERT(bytes.len == again.len &&
		  !memcmp(bytes.data, again.data, again.len));
	vf_state_free(back);
	vf_state_free(s);
	vf_bucket_close(b);
}

static CU_TestInfo tests[] = {
	{"what was listed is found", what_was_listed_is_found},
	{"of many the first page is kept", of_many_the_first_page_is_kept},
	{"a state is loaded without another LIST",
	 a_state_is_loaded_without_another_list},
	{"an index that is none is not found",
	 an_index_that_is_none_is_not_found},
	{"what was collected since is read anew",
	 what_was_collected_since_is_read_anew},
	{"a whole state names no record", a_whole_state_names_no_record},
	CU_TEST_INFO_NULL};

VF_SUITE("store/listed", tests);
