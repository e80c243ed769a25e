/*
 * The catalog against a plain model: whatever the log says, in whatever order
 * states are shown to it, a key is where its living row is; what is damaged is
 * built again.
 */
#include "query/shard_codes.h"
#include "store/catalog.h"
#include "tests/fixture.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { DIM = 4, KEYS = 40, STEPS = 60 };

static struct vf_catalog *open_catalog(const char *dir,
				       const struct vf_state *s)
{
	struct vf_catalog *c = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_catalog_open(dir, s->uuid, &c), 0);
	return c;
}

static int sync_to(struct vf_catalog *c, const struct vf_state *s, bool newest)
{
	return vf_catalog_sync(c, &(struct vf_catalog_sync){.state = s,
							    .newest = newest});
}

/* ---- a model ------------------------------------------------------------------------ */

struct model {
	struct vf_state *state;
	struct {
		bool lives;
		uint64_t record;
		uint32_t row;
	} keys[KEYS];
};

static struct vf_state *begin_state(void)
{
	static const uint8_t uuid[16] = {7};
	struct vf_state *s = vf_state_new("i", uuid);
	struct vf_op op = configure_op();

	op.configure.dim = DIM;
	CU_ASSERT_PTR_NULL_FATAL(fold_ops(s, &op, 1));
	return s;
}

/* Put keys first..first + n - 1 again, or delete them when @n_put is 0. */
static void step(struct model *m, uint32_t first, uint32_t n, bool put)
{
	struct vf_buf store[KEYS + 1] = {{0}};
	struct vf_op ops[KEYS + 1];
	size_t n_ops = 0;

	if (put)
		ops[n_ops++] = rows_op(DIM, first, n, 0, &store[KEYS]);
	for (uint32_t k = first; k < first + n; k++) {
		if (m->keys[k].lives) {
			struct vf_op *op = &ops[n_ops++];
			*op = (struct vf_op){.kind = VF_OP_KILL,
					     .kill.record = m->keys[k].record};
			vf_kill_pack(&m->keys[k].row, 1, &op->kill, &store[k]);
		}
		m->keys[k].lives = put;
		m->keys[k].record = m->state->head + 1;
		m->keys[k].row = k - first;
	}
	CU_ASSERT_PTR_NULL_FATAL(fold_ops(m->state, ops, n_ops));
	for (size_t i = 0; i <= KEYS; i++)
		vf_buf_fini(&store[i]);
}

static bool key_is_right(struct vf_catalog_view *v, const struct model *m,
			 uint32_t k)
{
	VF_AUTO_BUF struct vf_buf metadata = {0};
	struct vf_place p;
	char key[16], want[32];

	snprintf(key, sizeof(key), "k%u", k);
	snprintf(want, sizeof(want), "{\"n\":%u}", k);
	int rc = vf_catalog_find(v, key, strlen(key), &p);
	if (!m->keys[k].lives)
		return rc == -ENOENT;
	return !rc && p.tail &&
	       m->state->tail[p.at].record == m->keys[k].record &&
	       p.row == m->keys[k].row &&
	       !vf_catalog_metadata(v, &p, &metadata) &&
	       metadata.len == strlen(want) &&
	       !memcmp(metadata.data, want, metadata.len);
}

static void check_keys(struct vf_catalog *c, const struct model *m)
{
	struct vf_catalog_view *v;

	CU_ASSERT_EQUAL_FATAL(vf_catalog_look(c, m->state, &v), 0);
	for (uint32_t k = 0; k < KEYS; k++)
		CU_ASSERT(key_is_right(v, m, k));
	vf_catalog_done(v);
}

static void run_model(uint64_t seed)
{
	struct model m = {.state = begin_state()};
	struct vf_catalog *c = open_catalog(vf_test_dir(), m.state);

	for (int i = 0; i < STEPS; i++) {
		uint32_t first = (uint32_t)(vf_test_rand(&seed) % KEYS);
		uint32_t n = 1 + (uint32_t)(vf_test_rand(&seed) % 8);
		step(&m, first, VF_MIN(n, KEYS - first),
		     vf_test_rand(&seed) % 3 != 0);
		if (vf_test_rand(&seed) % 2)
			continue; /* several records at once */
		CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
		check_keys(c, &m);
	}
	vf_catalog_close(c);
	vf_state_free(m.state);
}

static void keys_are_where_the_model_has_them(void)
{
	for (uint64_t seed = 1; seed <= 5; seed++)
		run_model(seed);
}

/* ---- many processes ------------------------------------------------------------------- */

static void a_state_behind_is_told_so(void)
{
	struct model m = {.state = begin_state()};
	struct vf_catalog *c = open_catalog(vf_test_dir(), m.state);
	struct vf_catalog_view *v;

	step(&m, 0, 3, true);
	struct vf_state *old = vf_state_copy(m.state);
	struct model before = m;
	before.state = old;
	step(&m, 1, 3, true);
	CU_ASSERT_EQUAL(sync_to(c, m.state, false), 0);
	CU_ASSERT_EQUAL(sync_to(c, old, false), -EAGAIN);
	CU_ASSERT_EQUAL(vf_catalog_look(c, old, &v), -EAGAIN);
	check_keys(c, &m);
	/* The log was put back to an older copy: rows rise again. */
	CU_ASSERT_EQUAL(sync_to(c, old, true), 0);
	check_keys(c, &before);
	vf_state_free(old);
	vf_state_free(m.state);
	vf_catalog_close(c);
}

static char *file_of(const char *dir, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/catalog-07%030d/%s", dir, 0, name);
	return path;
}

/* Somebody waits for a flock of the file, as the kernel tells. */
static bool is_waited_for(int fd)
{
	VF_AUTO_FREE char *line = NULL;
	FILE *f = fopen("/proc/locks", "re");
	char inode[32];
	bool found = false;
	struct stat st;
	size_t cap = 0;

	fstat(fd, &st);
	snprintf(inode, sizeof(inode), ":%llu ", (unsigned long long)st.st_ino);
	while (f && !found && getline(&line, &cap, f) > 0)
		found = strstr(line, "-> FLOCK") && strstr(line, inode);
	if (f)
		fclose(f);
	return found;
}

struct waiter {
	struct vf_catalog *catalog; /* to be emptied, or NULL: */
	const char *dir;	    /* to be opened */
	struct vf_catalog *opened;
	int done; /* [atomic] */
};

static void *change_it(void *arg)
{
	struct waiter *w = arg;
	static const uint8_t uuid[16] = {7};

	CU_ASSERT_EQUAL(w->catalog ? vf_catalog_reset(w->catalog)
				   : vf_catalog_open(w->dir, uuid, &w->opened),
			0);
	__atomic_store_n(&w->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void must_wait(struct waiter *w, int lock)
{
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(flock(lock, LOCK_EX), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, change_it, w), 0);
	while (!is_waited_for(lock) &&
	       !__atomic_load_n(&w->done, __ATOMIC_ACQUIRE))
		sched_yield();
	CU_ASSERT(!__atomic_load_n(&w->done, __ATOMIC_ACQUIRE));
	flock(lock, LOCK_UN);
	pthread_join(thread, NULL);
}

/*
 * Keys of shards that a process had read already were gone when it said that
 * all of them are there: another one emptied the catalog in between.
 */
static void who_empties_or_makes_it_waits_for_who_changes_it(void)
{
	const char *dir = vf_test_dir();
	struct model m = {.state = begin_state()};
	struct waiter w = {.catalog = open_catalog(dir, m.state), .dir = dir};
	VF_AUTO_FD int lock = open(file_of(dir, "sync"), O_RDWR | O_CLOEXEC);

	must_wait(&w, lock);
	vf_catalog_close(w.catalog);
	w = (struct waiter){.dir = dir};
	must_wait(&w, lock);
	vf_catalog_close(w.opened);
	vf_state_free(m.state);
}

/*
 * Sound bytes that say what the log does not: a row that died, or one there
 * never was, must not be killed or read.
 */
static void the_log_outweighs_it(void)
{
	struct model m = {.state = begin_state()};
	struct vf_catalog *c = open_catalog(vf_test_dir(), m.state);
	struct vf_catalog_view *v;
	struct vf_place p;

	step(&m, 0, 3, true);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	CU_ASSERT_EQUAL_FATAL(vf_catalog_look(c, m.state, &v), 0);
	vf_catalog_done(v);
	/* The same commit, but rows are other than when it was read. */
	struct vf_state *other = begin_state();
	other->head = m.state->head;
	other->head_checksum = m.state->head_checksum;
	struct vf_inline few = {.refs = 1, .n_rows = 2};
	struct vf_tail tail = m.state->tail[0];
	tail.rows = &few;
	other->tail = &tail;
	other->n_tail = 1;
	CU_ASSERT_EQUAL_FATAL(vf_catalog_look(c, other, &v), 0);
	CU_ASSERT_EQUAL(vf_catalog_find(v, "k1", 2, &p), 0);
	CU_ASSERT_EQUAL(vf_catalog_find(v, "k2", 2, &p), -EUCLEAN);
	vf_catalog_done(v);
	other->tail = NULL;
	other->n_tail = 0;
	vf_state_free(other);
	vf_state_free(m.state);
	vf_catalog_close(c);
}

/* ---- damage ------------------------------------------------------------------------------ */

static void foreign_and_damaged_files_are_made_again(void)
{
	const char *dir = vf_test_dir();
	struct model m = {.state = begin_state()};
	struct vf_catalog *c = open_catalog(dir, m.state);
	static const char junk[] = "somebody else's database";

	step(&m, 0, 9, true);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	vf_catalog_close(c);
	int fd = open(file_of(dir, "data.mdb"), O_WRONLY | O_CLOEXEC);
	for (int at = 0; at < 65536; at += 16)
		CU_ASSERT_EQUAL(pwrite(fd, junk, 16, at), 16);
	close(fd);
	c = open_catalog(dir, m.state);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	check_keys(c, &m);
	vf_catalog_close(c);
	/* Lost. */
	unlink(file_of(dir, "data.mdb"));
	unlink(file_of(dir, "lock.mdb"));
	c = open_catalog(dir, m.state);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	check_keys(c, &m);
	CU_ASSERT_EQUAL(vf_catalog_reset(c), 0);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	check_keys(c, &m);
	vf_catalog_close(c);
	vf_state_free(m.state);
}

/* Every page of a catalog that was cut short, but for its head, was SIGBUS. */
static void a_file_cut_short_is_made_again(void)
{
	const char *dir = vf_test_dir();
	struct model m = {.state = begin_state()};
	struct stat st;

	for (uint32_t i = 0; i < 4 * KEYS; i++)
		step(&m, i % KEYS, 1, true);
	for (int pages = 0; pages < 16; pages++) {
		struct vf_catalog *c = open_catalog(dir, m.state);
		CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
		check_keys(c, &m);
		vf_catalog_close(c);
		stat(file_of(dir, "data.mdb"), &st);
		if (st.st_size > pages * 4096)
			CU_ASSERT_EQUAL(truncate(file_of(dir, "data.mdb"),
						 pages * 4096),
					0);
	}
	vf_state_free(m.state);
}

static void one_changed_value_is_seen(void)
{
	const char *dir = vf_test_dir();
	struct model m = {.state = begin_state()};
	struct vf_catalog *c = open_catalog(dir, m.state);
	struct vf_catalog_view *v;
	struct vf_place p;
	unsigned n_seen = 0;
	struct stat st;

	step(&m, 0, 9, true);
	CU_ASSERT_EQUAL(sync_to(c, m.state, true), 0);
	vf_catalog_close(c);
	VF_AUTO_FD int fd = open(file_of(dir, "data.mdb"), O_RDWR | O_CLOEXEC);
	fstat(fd, &st);
	VF_AUTO_FREE char *all = malloc((size_t)st.st_size);
	CU_ASSERT_EQUAL_FATAL(vf_pread_all(fd, all, (size_t)st.st_size, 0), 0);
	/* Key "k3" wherever it is in a value. */
	for (off_t i = 0; i + 6 <= st.st_size; i++)
		if (!memcmp(all + i, "\2\0\0\0k3", 6))
			CU_ASSERT_EQUAL(pwrite(fd, "K", 1, i + 4), 1);
	c = open_catalog(dir, m.state);
	CU_ASSERT_EQUAL_FATAL(vf_catalog_look(c, m.state, &v), 0);
	for (char k = '0'; k < '9'; k++) {
		char key[3] = {'k', k, 0};
		n_seen += vf_catalog_find(v, key, 2, &p) == -EUCLEAN;
	}
	CU_ASSERT_EQUAL(n_seen, 1);
	vf_catalog_done(v);
	vf_catalog_close(c);
	vf_state_free(m.state);
}

static void folders_of_others_are_refused(void)
{
	char dir[256];
	static const uint8_t uuid[16] = {7};
	struct vf_catalog *c = NULL;

	snprintf(dir, sizeof(dir), "%s/open", vf_test_dir());
	CU_ASSERT_EQUAL(mkdir(dir, 0700), 0);
	chmod(dir, 0755);
	CU_ASSERT_EQUAL(vf_catalog_open(dir, uuid, &c), -EACCES);
	chmod(dir, 0700);
	CU_ASSERT_EQUAL(vf_catalog_open(dir, uuid, &c), 0);
	vf_catalog_close(c);
	chmod(file_of(dir, ""), 0711);
	CU_ASSERT_EQUAL(vf_catalog_open(dir, uuid, &c), -EACCES);
	chmod(file_of(dir, ""), 0700);
	CU_ASSERT_EQUAL(vf_catalog_open("/nowhere/at/all", uuid, &c), -ENOENT);
	CU_ASSERT_PTR_NULL(c);
}

/*
 * A copy of what a mount shows has records without a checksum of their own: a
 * byte of them that was another one came out of get and of filters, and a key
 * of it was not found by the put that was to replace it.
 */
static void plain_lines_are_believed_by_their_checksums(void)
{
	struct vf_fixture *f = vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_EUCLIDEAN, .dtype = VF_F32});
	struct vf_catalog_sync s = {.line_crcs = NULL};
	struct vf_state *state;
	struct vf_catalog_view *v;
	char url[160];

	snprintf(url, sizeof(url), "file://%s", f->root);
	CU_ASSERT_EQUAL_FATAL(vf_bucket_open(url, NULL, &s.bucket), 0);
	CU_ASSERT_EQUAL_FATAL(vf_state_load(s.bucket, "things", &state), 0);
	s.state = state;
	struct vf_catalog *c = open_catalog(vf_test_dir(), state);
	CU_ASSERT_EQUAL(vf_catalog_sync(c, &s), 0); /* frames have theirs */
	CU_ASSERT_EQUAL(vf_catalog_reset(c), 0);
	vf_fixture_unpack(f);
	CU_ASSERT_EQUAL(vf_catalog_sync(c, &s), -EINVAL);
	s.line_crcs = vf_shard_line_crcs;
	VF_AUTO_FD int fd = open(vf_fixture_file(f, 1, "records.jsonl"),
				 O_RDWR | O_CLOEXEC);
	const struct vf_buf *lines = &f->lines[1];
	for (size_t at = 0; at < lines->len; at++) {
		uint8_t byte = lines->data[at] ^ 1;
		CU_ASSERT_EQUAL(pwrite(fd, &byte, 1, (off_t)at), 1);
		CU_ASSERT_EQUAL(vf_catalog_sync(c, &s), -EBADMSG);
		CU_ASSERT_EQUAL(vf_catalog_look(c, state, &v), -EAGAIN);
		CU_ASSERT_EQUAL(pwrite(fd, lines->data + at, 1, (off_t)at), 1);
	}
	CU_ASSERT_EQUAL(vf_catalog_sync(c, &s), 0);
	vf_catalog_close(c);
	vf_state_free(state);
	vf_bucket_close(s.bucket);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"keys are where the model has them",
	 keys_are_where_the_model_has_them},
	{"a state behind is told so", a_state_behind_is_told_so},
	{"who empties or makes it waits for who changes it",
	 who_empties_or_makes_it_waits_for_who_changes_it},
	{"the log outweighs it", the_log_outweighs_it},
	{"foreign and damaged files are made again",
	 foreign_and_damaged_files_are_made_again},
	{"a file cut short is made again", a_file_cut_short_is_made_again},
	{"one changed value is seen", one_changed_value_is_seen},
	{"folders of others are refused", folders_of_others_are_refused},
	{"plain lines are believed by their checksums",
	 plain_lines_are_believed_by_their_checksums},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/catalog", tests);
