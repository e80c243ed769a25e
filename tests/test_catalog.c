/*
 * The catalog against a plain model: whatever the log says, in whatever order
 * states are shown to it, a key is where its living row is; what is damaged is
 * built again.
 */
#include "store/catalog.h"
#include "tests/inline_rows.h"
#include "tests/rig.h"

#include <fcntl.h>
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

/* ---- damage ------------------------------------------------------------------------------ */

static char *file_of(const char *dir, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/catalog-07%030d/%s", dir, 0, name);
	return path;
}

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

static CU_TestInfo tests[] = {
	{"keys are where the model has them",
	 keys_are_where_the_model_has_them},
	{"a state behind is told so", a_state_behind_is_told_so},
	{"foreign and damaged files are made again",
	 foreign_and_damaged_files_are_made_again},
	{"one changed value is seen", one_changed_value_is_seen},
	{"folders of others are refused", folders_of_others_are_refused},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/catalog", tests);
