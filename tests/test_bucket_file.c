/*
 * The contract of bucket.h, kept by a directory.
 */
#include "tests/rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

/* Entries of a directory on disk, hidden ones included. */
static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n - 2;
}

/* ---- opening ------------------------------------------------------------- */

static void urls_that_are_none_are_refused(void)
{
	struct vf_bucket_options create = {.create = 1};
	struct vf_bucket *b = NULL;
	char url[256];

	CU_ASSERT_EQUAL(vf_bucket_open("/tmp", NULL, &b), -EINVAL);
	CU_ASSERT_EQUAL(vf_bucket_open("", NULL, &b), -EINVAL);
	CU_ASSERT_EQUAL(vf_bucket_open("file://tmp", NULL, &b), -EINVAL);
	CU_ASSERT_EQUAL(vf_bucket_open("http://x", NULL, &b), -EINVAL);
	snprintf(url, sizeof(url), "file://%s/new///", vf_test_dir());
	CU_ASSERT_EQUAL(vf_bucket_open(url, NULL, &b), -ENOENT);
	CU_ASSERT_PTR_NULL(b);
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open(url, &create, &b), 0);
	url[strlen(url) - 3] = '\0';
	CU_ASSERT_STRING_EQUAL(vf_bucket_url(b), url);
	CU_ASSERT_STRING_EQUAL(vf_bucket_dir(b), url + 7);
	vf_bucket_close(b);
	vf_bucket_close(NULL);
}

/* ---- put and get --------------------------------------------------------------- */

static void what_is_put_is_got(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object put_o, head_o, get_o;
	char buf[16];
	size_t len;

	CU_ASSERT_EQUAL(vf_bucket_put(b, "a/b/c", "hello", 5, 0, &put_o), 0);
	CU_ASSERT_EQUAL(vf_bucket_head(b, "a/b/c", &head_o), 0);
	CU_ASSERT_EQUAL(
		vf_bucket_get(b, "a/b/c", NULL, 0, 16, buf, &len, &get_o), 0);
	CU_ASSERT(len == 5 && !memcmp(buf, "hello", 5));
	CU_ASSERT(put_o.size == 5 && head_o.size == 5 && get_o.size == 5);
	CU_ASSERT(*put_o.etag != '\0');
	CU_ASSERT_STRING_EQUAL(put_o.etag, head_o.etag);
	CU_ASSERT_STRING_EQUAL(put_o.etag, get_o.etag);
	CU_ASSERT(head_o.mtime_ns > 1500000000000000000);
	CU_ASSERT_EQUAL(vf_bucket_put(b, "empty", NULL, 0, 0, &put_o), 0);
	CU_ASSERT_EQUAL(put_o.size, 0);
	CU_ASSERT(holds(b, "empty", ""));
	vf_bucket_close(b);
}

static void ranges_end_with_the_object(void)
{
	static const struct {
		uint64_t off;
		size_t len, want;
	} r[] = {{0, 10, 10}, {0, 3, 3},	  {9, 1, 1},
		 {5, 100, 5}, {10, 1, 0},	  {11, 5, 0},
		 {0, 0, 0},   {UINT64_MAX, 5, 0}, {UINT64_MAX - 4, 5, 0},
		 {4, 6, 6},   {INT64_MAX, 5, 0}};
	struct vf_bucket *b = new_bucket();
	size_t len;

	put(b, "x", "0123456789");
	for (size_t i = 0; i < VF_N(r); i++) {
		VF_AUTO_FREE char *buf = malloc(r[i].len + 1);
		len = 77;
		CU_ASSERT_EQUAL(vf_bucket_get(b, "x", "", r[i].off, r[i].len,
					      buf, &len, NULL),
				0);
		CU_ASSERT_EQUAL(len, r[i].want);
		CU_ASSERT(
			!r[i].want ||
			!memcmp(buf, &"0123456789"[r[i].off % 11], r[i].want));
	}
	vf_bucket_close(b);
}

static void absent_objects_and_folders_are_not_found(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object o;
	char c, long_part[400];
	size_t len;

	put(b, "d/x", "1");
	memset(long_part, 'a', sizeof(long_part));
	long_part[399] = '\0';
	const char *absent[] = {"none", "d", "d/none", "d/x/below", long_part};
	for (size_t i = 0; i < VF_N(absent); i++) {
		CU_ASSERT_EQUAL(vf_bucket_head(b, absent[i], &o), -ENOENT);
		CU_ASSERT_EQUAL(vf_bucket_get(b, absent[i], NULL, 0, 1, &c,
					      &len, NULL),
				-ENOENT);
	}
	vf_bucket_close(b);
}

static void a_replaced_object_is_stale(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object first, second;
	size_t len;
	char c;

	vf_bucket_put(b, "x", "1", 1, 0, &first);
	CU_ASSERT_EQUAL(vf_bucket_get(b, "x", first.etag, 0, 1, &c, &len, NULL),
			0);
	for (int i = 0; i < 100; i++) {
		vf_bucket_put(b, "x", "2", 1, 0, &second);
		CU_ASSERT_EQUAL(vf_bucket_get(b, "x", first.etag, 0, 1, &c,
					      &len, NULL),
				-ESTALE);
		first = second;
	}
	CU_ASSERT_EQUAL(
		vf_bucket_get(b, "x", second.etag, 0, 1, &c, &len, NULL), 0);
	CU_ASSERT_EQUAL(c, '2');
	vf_bucket_delete(b, "x");
	CU_ASSERT_EQUAL(vf_bucket_get(b, "x", second.etag, 0, 1, &c, &len,
				      NULL),
			-ENOENT);
	vf_bucket_close(b);
}

static void get_all_obeys_its_limit(void)
{
	enum { LEN = 200000 };
	VF_AUTO_FREE char *big = calloc(1, LEN);
	struct vf_bucket *b = new_bucket();
	void *p = NULL;
	size_t len;

	big[LEN - 1] = 7;
	vf_bucket_put(b, "big", big, LEN, 0, NULL);
	CU_ASSERT_EQUAL(vf_bucket_get_all(b, "big", LEN, &p, &len), 0);
	CU_ASSERT(len == LEN && !memcmp(p, big, LEN));
	CU_ASSERT_EQUAL(((char *)p)[LEN], 0);
	free(p);
	CU_ASSERT_EQUAL(vf_bucket_get_all(b, "big", LEN - 1, &p, &len), -EFBIG);
	CU_ASSERT_EQUAL(vf_bucket_get_all(b, "big", 10, &p, &len), -EFBIG);
	CU_ASSERT_EQUAL(vf_bucket_get_all(b, "no", 10, &p, &len), -ENOENT);
	vf_bucket_close(b);
}

/* ---- if absent ------------------------------------------------------------------ */

struct racer {
	struct vf_bucket *b;
	int number, rounds;
	atomic_int *wins;
	atomic_int *last; /* who won each round */
};

static void *race(void *arg)
{
	struct racer *r = arg;
	char key[32], text[4096];

	memset(text, 'a' + r->number, sizeof(text));
	for (int i = 0; i < r->rounds; i++) {
		snprintf(key, sizeof(key), "log/%d/record", i);
		int err = vf_bucket_put(r->b, key, text, sizeof(text),
					VF_PUT_IF_ABSENT, NULL);
		if (!err) {
			atomic_fetch_add(&r->wins[i], 1);
			atomic_store(&r->last[i], r->number);
		} else if (err != -EEXIST) {
			atomic_fetch_add(&r->wins[i], 100);
		}
	}
	return NULL;
}

static void of_many_creators_one_wins(void)
{
	enum { THREADS = 8, ROUNDS = 20 };
	struct vf_bucket *b = new_bucket();
	atomic_int wins[ROUNDS] = {0}, last[ROUNDS] = {0};
	struct racer r[THREADS];
	pthread_t t[THREADS];
	char key[32];

	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct racer){b, i, ROUNDS, wins, last};
		pthread_create(&t[i], NULL, race, &r[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < ROUNDS; i++) {
		void *p = NULL;
		size_t len = 0;
		CU_ASSERT_EQUAL(wins[i], 1);
		snprintf(key, sizeof(key), "log/%d/record", i);
		CU_ASSERT_EQUAL(vf_bucket_get_all(b, key, 8192, &p, &len), 0);
		CU_ASSERT_EQUAL(len, 4096);
		for (size_t k = 0; k < len; k++)
			if (((char *)p)[k] != 'a' + last[i])
				CU_FAIL("not the winner's bytes");
		free(p);
	}
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 1);
	vf_bucket_close(b);
}

static void creating_leaves_what_is_there(void)
{
	struct vf_bucket *b = new_bucket();

	put(b, "x", "old");
	CU_ASSERT_EQUAL(vf_bucket_put(b, "x", "new", 3, VF_PUT_IF_ABSENT, NULL),
			-EEXIST);
	CU_ASSERT(holds(b, "x", "old"));
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 1);
	vf_bucket_close(b);
}

struct writer {
	struct vf_bucket *b;
	atomic_bool stop;
};

static void *replace_always(void *arg)
{
	struct writer *w = arg;
	char text[8192];

	for (int i = 0; !atomic_load(&w->stop); i++) {
		memset(text, 'a' + i % 26, sizeof(text));
		vf_bucket_put(w->b, "d/x", text, sizeof(text), 0, NULL);
	}
	return NULL;
}

static void readers_never_see_half_an_object(void)
{
	struct writer w = {.b = new_bucket()};
	char buf[8192];
	pthread_t t;
	size_t len;

	memset(buf, 'z', sizeof(buf));
	vf_bucket_put(w.b, "d/x", buf, sizeof(buf), 0, NULL);
	pthread_create(&t, NULL, replace_always, &w);
	for (int i = 0; i < 2000; i++) {
		int err = vf_bucket_get(w.b, "d/x", NULL, 0, sizeof(buf), buf,
					&len, NULL);
		if (err || len != sizeof(buf) ||
		    memcmp(buf, buf + 1, sizeof(buf) - 1))
			CU_FAIL("half an object");
	}
	atomic_store(&w.stop, true);
	pthread_join(t, NULL);
	vf_bucket_close(w.b);
}

/* ---- uploads ----------------------------------------------------------------------- */

static void an_upload_appears_at_commit(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object o;
	struct vf_upload *u;

	CU_ASSERT_EQUAL_FATAL(vf_upload_open(b, "s/v", &u), 0);
	CU_ASSERT_EQUAL(vf_upload_write(u, "abc", 3), 0);
	CU_ASSERT_EQUAL(vf_upload_write(u, NULL, 0), 0);
	CU_ASSERT_EQUAL(vf_upload_write(u, "def", 3), 0);
	CU_ASSERT_EQUAL(vf_bucket_head(b, "s/v", &o), -ENOENT);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "", true, NULL), "");
	CU_ASSERT_EQUAL(vf_upload_commit(u, &o), 0);
	CU_ASSERT_EQUAL(o.size, 6);
	CU_ASSERT(holds(b, "s/v", "abcdef"));
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 1);
	vf_bucket_close(b);
}

/*
 * Symptom: a writer that was killed left a hidden file of up to a gigabyte, for
 * ever.  Cause: an upload had a name from the first.
 */
static void an_upload_under_way_has_no_name(void)
{
	enum { LEN = 5 << 20 };
	VF_AUTO_FREE char *big = calloc(1, LEN);
	struct vf_bucket *b = new_bucket();
	VF_AUTO_FD int fd =
		open(vf_bucket_dir(b), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	struct vf_upload *u;
	struct vf_object o;

	CU_ASSERT_EQUAL_FATAL(vf_upload_open(b, "v", &u), 0);
	CU_ASSERT_EQUAL(vf_upload_write(u, big, LEN), 0);
	/* Some file systems have no files without names. */
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), fd < 0);
	CU_ASSERT_EQUAL(vf_upload_commit(u, &o), 0);
	CU_ASSERT_EQUAL(o.size, LEN);
	put(b, "v", "in place of it");
	CU_ASSERT(holds(b, "v", "in place of it"));
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 1);
	vf_bucket_close(b);
}

static void an_aborted_upload_leaves_nothing(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_upload *u;

	CU_ASSERT_EQUAL_FATAL(vf_upload_open(b, "s/v", &u), 0);
	CU_ASSERT_EQUAL(vf_upload_write(u, "abc", 3), 0);
	vf_upload_abort(u);
	vf_upload_abort(NULL);
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 0);
	vf_bucket_close(b);
}

static void a_put_that_fails_leaves_nothing(void)
{
	struct vf_bucket *b = new_bucket();
	char key[512];

	put(b, "x", "1");
	CU_ASSERT_NOT_EQUAL(vf_bucket_put(b, "x/below", "2", 1, 0, NULL), 0);
	snprintf(key, sizeof(key), "n/%0400d", 1);
	CU_ASSERT_NOT_EQUAL(vf_bucket_put(b, key, "2", 1, 0, NULL), 0);
	CU_ASSERT(holds(b, "x", "1"));
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 1);
	vf_bucket_close(b);
}

/* ---- deleting ------------------------------------------------------------------------ */

static void deleting_what_is_absent_succeeds(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object o;

	put(b, "d/e/x", "1");
	put(b, "d/y", "1");
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "none"), 0);
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "none/x"), 0);
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "d/y/x"), 0);
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "d"), 0); /* a folder */
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "d/e"), 0);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "d/e/x=1|d/y=1|");
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "d/e/x"), 0);
	CU_ASSERT_EQUAL(vf_bucket_head(b, "d/e/x", &o), -ENOENT);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "d/y=1|");
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "d/y"), 0);
	CU_ASSERT_EQUAL(count_entries(vf_bucket_dir(b)), 0);
	vf_bucket_close(b);
}

/* ---- the walls ------------------------------------------------------------------------- */

static void note_error(void *arg, int err, size_t len,
		       const struct vf_object *object)
{
	*(int *)arg = err;
}

static void keys_that_are_no_paths_are_refused(void)
{
	static const char *const bad[] = {"",	  "/",	   "/x",     "x/",
					  "a//b", ".",	   "..",     "../x",
					  "a/..", "a/./b", "a/../b", "a/.."};
	struct vf_bucket *b = new_bucket();
	struct vf_upload *u = NULL;
	struct vf_object o;
	char buf, key[VF_OBJECT_KEY_MAX + 2];

	for (size_t i = 0; i < VF_N(bad); i++) {
		int err = 0;
		CU_ASSERT_EQUAL(vf_bucket_put(b, bad[i], "", 0, 0, NULL),
				-EINVAL);
		CU_ASSERT_EQUAL(vf_bucket_head(b, bad[i], &o), -EINVAL);
		CU_ASSERT_EQUAL(vf_bucket_delete(b, bad[i]), -EINVAL);
		CU_ASSERT_EQUAL(vf_upload_open(b, bad[i], &u), -EINVAL);
		CU_ASSERT_PTR_NULL(u);
		vf_bucket_get_start(b, &(struct vf_get){.key = bad[i],
							.len = 1,
							.buf = &buf,
							.done = note_error,
							.arg = &err});
		CU_ASSERT_EQUAL(err, -EINVAL);
	}
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = i % 100 == 99 ? '/' : 'k';
	key[VF_OBJECT_KEY_MAX + 1] = '\0';
	CU_ASSERT_EQUAL(vf_bucket_head(b, key, &o), -EINVAL);
	key[VF_OBJECT_KEY_MAX] = '\0';
	put(b, key, "long");
	CU_ASSERT(holds(b, key, "long"));
	put(b, "...", "dots");
	CU_ASSERT(holds(b, "...", "dots"));
	vf_bucket_close(b);
}

/* A link made by somebody else, to a folder and to a file outside. */
static void links_do_not_lead_out_of_the_bucket(void)
{
	const char *outside = vf_test_dir(), *inside = vf_test_dir();
	struct vf_bucket *out = open_bucket(outside);
	struct vf_bucket *b = open_bucket(inside);
	struct vf_object o;
	char path[256], target[256];

	put(out, "secret", "s");
	put(out, "sub/secret", "s");
	snprintf(path, sizeof(path), "%s/link", inside);
	CU_ASSERT_EQUAL(symlink(outside, path), 0);
	snprintf(path, sizeof(path), "%s/file", inside);
	snprintf(target, sizeof(target), "%s/secret", outside);
	CU_ASSERT_EQUAL(symlink(target, path), 0);
	snprintf(path, sizeof(path), "%s/up", inside);
	CU_ASSERT_EQUAL(symlink("..", path), 0);
	snprintf(path, sizeof(path), "%s/empty", outside);
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);

	CU_ASSERT_EQUAL(vf_bucket_head(b, "link/secret", &o), -ENOENT);
	CU_ASSERT_EQUAL(vf_bucket_head(b, "file", &o), -ENOENT);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "link/", false, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "link/sub/", true, NULL), "");
	CU_ASSERT_STRING_EQUAL(list(b, "up/", true, NULL), "");
	CU_ASSERT_EQUAL(vf_bucket_put(b, "link/new", "x", 1, 0, NULL), -EACCES);
	CU_ASSERT_EQUAL(vf_bucket_put(b, "link/empty/new", "x", 1, 0, NULL),
			-EACCES);
	CU_ASSERT_EQUAL(vf_bucket_put(b, "link/a/b/new", "x", 1, 0, NULL),
			-EACCES);
	CU_ASSERT_NOT_EQUAL(vf_bucket_delete(b, "link/secret"), 0);
	CU_ASSERT_NOT_EQUAL(vf_bucket_delete(b, "link/sub/secret"), 0);
	put(b, "file", "mine"); /* replaces the link, not what it names */
	CU_ASSERT(holds(b, "file", "mine"));
	CU_ASSERT_EQUAL(vf_bucket_delete(b, "file"), 0);

	CU_ASSERT(holds(out, "secret", "s"));
	CU_ASSERT(holds(out, "sub/secret", "s"));
	CU_ASSERT_EQUAL(count_entries(outside), 3);
	vf_bucket_close(b);
	vf_bucket_close(out);
}

static void links_within_the_bucket_are_followed(void)
{
	struct vf_bucket *b = new_bucket();
	char path[256];

	put(b, "d/x", "123");
	snprintf(path, sizeof(path), "%s/file", vf_bucket_dir(b));
	CU_ASSERT_EQUAL(symlink("d/x", path), 0);
	snprintf(path, sizeof(path), "%s/circle", vf_bucket_dir(b));
	CU_ASSERT_EQUAL(symlink("circle", path), 0);
	CU_ASSERT(holds(b, "file", "123"));
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "d/x=3|file=3|");
	vf_bucket_close(b);
}

static void what_is_no_regular_file_is_no_object(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_object o;
	char path[256];

	snprintf(path, sizeof(path), "%s/pipe", vf_bucket_dir(b));
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL(vf_bucket_head(b, "pipe", &o), -ENOENT);
	CU_ASSERT_STRING_EQUAL(list(b, "", false, NULL), "");
	vf_bucket_close(b);
}

static void requests_are_counted(void)
{
	struct vf_bucket *b = new_bucket();
	struct vf_bucket_stats s;

	put(b, "x", "123");
	CU_ASSERT(holds(b, "x", "123"));
	list(b, "", false, NULL);
	vf_bucket_delete(b, "x");
	vf_bucket_stats(b, &s);
	CU_ASSERT(s.n_put == 1 && s.n_get == 1 && s.n_list == 1);
	CU_ASSERT(s.n_delete == 1 && s.n_error == 0);
	CU_ASSERT(s.bytes_in == 3 && s.bytes_out == 3);
	vf_bucket_close(b);
}

static CU_TestInfo tests[] = {
	{"URLs that are none are refused", urls_that_are_none_are_refused},
	{"what is put is got", what_is_put_is_got},
	{"ranges end with the object", ranges_end_with_the_object},
	{"absent objects and folders are not found",
	 absent_objects_and_folders_are_not_found},
	{"a replaced object is stale", a_replaced_object_is_stale},
	{"get_all obeys its limit", get_all_obeys_its_limit},
	{"of many creators one wins", of_many_creators_one_wins},
	{"creating leaves what is there", creating_leaves_what_is_there},
	{"readers never see half an object", readers_never_see_half_an_object},
	{"an upload appears at commit", an_upload_appears_at_commit},
	{"an upload under way has no name", an_upload_under_way_has_no_name},
	{"an aborted upload leaves nothing", an_aborted_upload_leaves_nothing},
	{"a put that fails leaves nothing", a_put_that_fails_leaves_nothing},
	{"deleting what is absent succeeds", deleting_what_is_absent_succeeds},
	{"keys that are no paths are refused",
	 keys_that_are_no_paths_are_refused},
	{"links do not lead out of the bucket",
	 links_do_not_lead_out_of_the_bucket},
	{"links within the bucket are followed",
	 links_within_the_bucket_are_followed},
	{"what is no regular file is no object",
	 what_is_no_regular_file_is_no_object},
	{"requests are counted", requests_are_counted},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/bucket_file", tests);
