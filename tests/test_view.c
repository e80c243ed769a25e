/*
 * Opening an index by its path: copies of it, and every kind of damage to it,
 * before and after it is opened.
 */
#include "query/query.h"
#include "tests/fixture.h"
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "store/npy.h"

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS };

/* ---- messages ------------------------------------------------------------------------ */

static struct vf_buf said; /* lines since the last call of listen */

static void note_line(void *arg, enum vf_level level, const char *line)
{
	if (getenv("VF_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
	vf_buf_printf(&said, "%s\n", line);
}

static void listen_from_now(void)
{
	said.len = 0;
	vf_buf_append(&said, NULL, 1);
	said.len = 0;
	vf_log_set(note_line, NULL, VF_ERROR);
}

static bool was_said(const char *what)
{
	bool found = said.len && strstr((const char *)said.data, what);

	if (!found)
		fprintf(stderr, "\"%s\" was not said, but: %s", what,
			said.data);
	return found;
}

static unsigned count_lines(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < said.len; i++)
		n += said.data[i] == '\n';
	return n;
}

/* ---- files --------------------------------------------------------------------------- */

static void flip_byte(const char *path, off_t off)
{
	VF_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	if (fd < 0 || pread(fd, &byte, 1, off) != 1)
		abort();
	byte ^= 0x10;
	if (pwrite(fd, &byte, 1, off) != 1)
		abort();
}

static off_t size_of(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		abort();
	return st.st_size;
}

static struct vf_fixture *write_index(bool zstd)
{
	return vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_EUCLIDEAN, .dtype = VF_F32, .zstd = zstd});
}

static int open_path(const char *path)
{
	struct vf_view *v = NULL;

	listen_from_now();
	int err = vf_view_open(path, NULL, &v);
	CU_ASSERT((err == 0) == (v != NULL));
	CU_ASSERT_EQUAL(count_lines(), err != 0); /* once */
	vf_view_close(v);
	return err;
}

static int search(struct vf_view *v, const float *q, bool exact,
		  struct vf_answer **out)
{
	const struct vf_search s = {.k = 10, .exact = exact};

	listen_from_now();
	return vf_view_search(v, q, &s, out);
}

/* The nearest to @q over everything; 0 or what went wrong. */
static int search_both(struct vf_view *v, const float *q, int want)
{
	struct vf_answer *a;
	int err = 0;

	for (int exact = 0; exact < 2; exact++) {
		int rc = search(v, q, exact, &a);
		CU_ASSERT_EQUAL(rc, want);
		CU_ASSERT((rc == 0) == (a != NULL));
		CU_ASSERT_EQUAL(count_lines(), want != 0);
		err = rc ? rc : err;
		vf_answer_free(a);
	}
	return err;
}

static struct vf_view *open_index(const struct vf_fixture *f)
{
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	return v;
}

/* ---- paths ---------------------------------------------------------------------------- */

static void paths_that_are_no_index_are_explained(void)
{
	struct vf_fixture *f = write_index(false);
	char path[256];

	snprintf(path, sizeof(path), "%s/others", f->root);
	CU_ASSERT_EQUAL(open_path(path), -ENOENT);
	CU_ASSERT(was_said("others"));
	CU_ASSERT_EQUAL(open_path("/nowhere/at/all"), -ENOENT);
	CU_ASSERT_EQUAL(open_path("s3://bucket/things"), -EINVAL);
	CU_ASSERT(was_said("mount it first"));
	CU_ASSERT_EQUAL(open_path("/"), -EINVAL);
	snprintf(path, sizeof(path), "file://%s/things", f->root);
	CU_ASSERT_EQUAL(open_path(path), 0);
	snprintf(path, sizeof(path), "%s//", f->path);
	CU_ASSERT_EQUAL(open_path(path), 0);
	vf_fixture_free(f);
}

static bool same_answers(const struct vf_answer *a, const struct vf_answer *b)
{
	if (a->n_hits != b->n_hits || a->version != b->version)
		return false;
	for (size_t i = 0; i < a->n_hits; i++) {
		const struct vf_answer_hit *x = &a->hits[i], *y = &b->hits[i];
		if (x->distance != y->distance || strcmp(x->key, y->key) ||
		    strcmp(x->metadata, y->metadata) || x->row != y->row ||
		    x->shard != y->shard)
			return false;
	}
	return true;
}

static void a_copy_of_a_mount_answers_alike(void)
{
	struct vf_fixture *f = write_index(false);
	const char *dir = vf_test_dir();
	struct vf_answer *a, *b;
	struct vf_view *v[2];
	char command[600], path[256];

	v[0] = open_index(f);
	snprintf(command, sizeof(command), "cp -r %s/. %s", f->root, dir);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
	snprintf(f->root, sizeof(f->root), "%s", dir);
	snprintf(f->path, sizeof(f->path), "%s/things", dir);
	vf_fixture_unpack(f);
	snprintf(path, sizeof(path), "%s", f->path);
	CU_ASSERT_EQUAL_FATAL(vf_view_open(path, NULL, &v[1]), 0);
	for (int i = 0; i < ROWS; i += 50)
		for (int exact = 0; exact < 2; exact++) {
			CU_ASSERT_EQUAL(search(v[0], f->x[i], exact, &a), 0);
			CU_ASSERT_EQUAL(search(v[1], f->x[i], exact, &b), 0);
			CU_ASSERT(same_answers(a, b));
			vf_answer_free(a);
			vf_answer_free(b);
		}
	vf_view_close(v[0]);
	vf_view_close(v[1]);
	vf_fixture_free(f);
}

/* ---- damage in front of opening -------------------------------------------------------- */

static void check_damage(const struct vf_fixture *f, const char *path,
			 const char *name, off_t step)
{
	off_t n = size_of(path);

	for (off_t off = 0; off < n; off += step) {
		flip_byte(path, off);
		int err = open_path(f->path);
		CU_ASSERT(err == -EBADMSG || err == -ENOTSUP);
		CU_ASSERT(was_said(name));
		flip_byte(path, off);
	}
	CU_ASSERT_EQUAL(open_path(f->path), 0);
}

static int open_and_load(const char *path)
{
	struct vf_view *v = NULL;

	listen_from_now();
	int err = vf_view_open(path, NULL, &v);
	if (!err)
		err = vf_view_load(v);
	CU_ASSERT_EQUAL(count_lines(), err != 0);
	vf_view_close(v);
	return err;
}

/* Zeros between sections are read by nobody. */
static void damaged_codes_do_not_load(void)
{
	struct vf_fixture *f = write_index(false);
	const char *path = vf_fixture_file(f, 1, "codes.vix");
	unsigned unseen = 0;

	for (off_t off = 0, n = size_of(path); off < n; off += 17) {
		flip_byte(path, off);
		int err = open_and_load(f->path);
		CU_ASSERT(!err || err == -EBADMSG || err == -ENOTSUP);
		CU_ASSERT(!err || was_said("codes.vix"));
		unseen += !err;
		flip_byte(path, off);
	}
	CU_ASSERT(unseen < 10 * 64 / 17);
	CU_ASSERT_EQUAL(open_and_load(f->path), 0);
	vf_fixture_free(f);
}

static void damaged_logs_do_not_open(void)
{
	struct vf_fixture *f = write_index(false);
	char path[256];

	snprintf(path, sizeof(path), "%s/log/%020d", f->path, 1);
	check_damage(f, path, "log/", 7);
	snprintf(path, sizeof(path), "%s/_vecfs/indexes/things", f->root);
	check_damage(f, path, "_vecfs/indexes/things", 1);
	vf_fixture_free(f);
}

/* Rows have checksums; the header says what the log does, but for its length. */
static void vectors_are_as_long_as_their_rows(void)
{
	struct vf_fixture *f = write_index(false);
	char path[512];

	snprintf(path, sizeof(path), "%s",
		 vf_fixture_file(f, 0, "vectors.npy"));
	flip_byte(path, 60);
	CU_ASSERT_EQUAL(open_path(f->path), 0);
	CU_ASSERT_EQUAL(truncate(path, size_of(path) - 1), 0);
	CU_ASSERT_EQUAL(open_path(f->path), -EBADMSG);
	CU_ASSERT(was_said("vectors.npy"));
	vf_fixture_free(f);
}

static void a_damaged_seek_table_does_not_open(void)
{
	struct vf_fixture *f = write_index(true);
	char path[512];

	snprintf(path, sizeof(path), "%s",
		 vf_fixture_file(f, 0, "vectors.npy.zst"));
	off_t n = size_of(path);
	for (off_t off = n - 9; off < n; off++) { /* its footer */
		flip_byte(path, off);
		CU_ASSERT_EQUAL(open_path(f->path), -EBADMSG);
		CU_ASSERT(was_said("vectors.npy.zst"));
		flip_byte(path, off);
	}
	CU_ASSERT_EQUAL(open_path(f->path), 0);
	vf_fixture_free(f);
}

static void objects_that_are_cut_or_missing_do_not_open(void)
{
	static const char *const names[] = {"codes.vix", "vectors.npy",
					    "records.jsonl.zst"};

	for (size_t i = 0; i < VF_N(names); i++) {
		struct vf_fixture *f = write_index(false);
		const char *path = vf_fixture_file(f, 2, names[i]);
		if (truncate(path, size_of(path) - 1))
			abort();
		CU_ASSERT_EQUAL(open_path(f->path), -EBADMSG);
		CU_ASSERT(was_said(names[i]));
		if (truncate(path, 0))
			abort();
		CU_ASSERT_EQUAL(open_path(f->path), -EBADMSG);
		unlink(path);
		CU_ASSERT_EQUAL(open_path(f->path), -ENOENT);
		CU_ASSERT(was_said(names[i]));
		vf_fixture_free(f);
	}
}

static void shards_that_changed_places_do_not_open(void)
{
	struct vf_fixture *f = write_index(false);
	char a[512], b[512];

	snprintf(a, sizeof(a), "%s", vf_fixture_file(f, 0, "codes.vix"));
	snprintf(b, sizeof(b), "%s", vf_fixture_file(f, 2, "codes.vix"));
	if (unlink(b) || link(a, b))
		abort();
	CU_ASSERT(open_path(f->path) < 0);
	vf_fixture_free(f);
}

/* ---- damage of what is open --------------------------------------------------------------- */

static off_t row_off(size_t row_of_shard)
{
	return VF_NPY_DATA_OFF + (off_t)(row_of_shard * DIM * sizeof(float));
}

static void a_damaged_row_is_named_and_never_scored(void)
{
	struct vf_fixture *f = write_index(false);
	struct vf_view *v = open_index(f);
	const char *path = vf_fixture_file(f, 2, "vectors.npy");
	float out[DIM];

	CU_ASSERT_EQUAL(search_both(v, f->x[350], 0), 0);
	for (off_t i = 0; i < (off_t)(DIM * sizeof(float)); i += 5) {
		flip_byte(path, row_off(350 - 307) + i);
		CU_ASSERT_EQUAL(search_both(v, f->x[350], -EBADMSG), -EBADMSG);
		CU_ASSERT(was_said("vectors.npy: row 43 is damaged"));
		listen_from_now();
		CU_ASSERT_EQUAL(vf_view_vector(v, "k350", out), -EBADMSG);
		CU_ASSERT(was_said("row 43"));
		CU_ASSERT_EQUAL(vf_view_vector(v, "k351", out), 0);
		flip_byte(path, row_off(350 - 307) + i);
	}
	CU_ASSERT_EQUAL(search_both(v, f->x[350], 0), 0);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void a_damaged_line_is_named_and_never_shown(void)
{
	struct vf_fixture *f = write_index(false);
	const char *path;
	float out[DIM];

	vf_fixture_unpack(f);
	struct vf_view *v = open_index(f);
	path = vf_fixture_file(f, 1, "records.jsonl");
	/* The first line of shard 1 is row 300 of all. */
	off_t n = (const uint8_t *)memchr(f->lines[1].data, '\n',
					  f->lines[1].len) -
		  f->lines[1].data;
	for (off_t i = 0; i <= n; i++) {
		flip_byte(path, i);
		CU_ASSERT_EQUAL(search_both(v, f->x[300], -EBADMSG), -EBADMSG);
		CU_ASSERT(was_said("records.jsonl: line 0 is damaged"));
		listen_from_now();
		CU_ASSERT_EQUAL(vf_view_vector(v, "k300", out), -EBADMSG);
		flip_byte(path, i);
	}
	CU_ASSERT_EQUAL(search_both(v, f->x[300], 0), 0);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* Not one byte of a compressed file may change what comes out of it. */
static void damaged_frames_are_an_error(void)
{
	struct vf_fixture *f = write_index(true);
	struct vf_view *v = open_index(f);
	static const char *const names[] = {"vectors.npy.zst",
					    "records.jsonl.zst"};
	struct vf_answer *a, *want;
	unsigned refused = 0;

	CU_ASSERT_EQUAL_FATAL(search(v, f->x[304], true, &want), 0);
	for (size_t i = 0; i < VF_N(names); i++) {
		const char *path = vf_fixture_file(f, 1, names[i]);
		off_t n = size_of(path);
		for (off_t off = 0; off < n; off++) {
			flip_byte(path, off);
			int err = search(v, f->x[304], true, &a);
			CU_ASSERT(err == -EBADMSG ||
				  (!err && same_answers(a, want)));
			CU_ASSERT(!err || was_said(names[i]));
			refused += err != 0;
			vf_answer_free(a);
			flip_byte(path, off);
		}
	}
	CU_ASSERT(refused > 100);
	vf_answer_free(want);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* A page of the mapping that is gone raises SIGBUS. */
static void a_file_cut_while_open_is_an_error_not_a_crash(void)
{
	struct vf_fixture *f = write_index(false);
	struct vf_view *v = open_index(f);

	CU_ASSERT_EQUAL_FATAL(vf_guard_install(), 0);
	CU_ASSERT_EQUAL(search_both(v, f->x[0], 0), 0);
	if (truncate(vf_fixture_file(f, 0, "vectors.npy"), VF_NPY_DATA_OFF))
		abort();
	CU_ASSERT_EQUAL(search_both(v, f->x[0], -EREMOTEIO), -EREMOTEIO);
	CU_ASSERT(was_said("vectors.npy: cannot read at 4096"));
	vf_view_close(v);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"paths that are no index are explained",
	 paths_that_are_no_index_are_explained},
	{"a copy of a mount answers alike", a_copy_of_a_mount_answers_alike},
	{"damaged codes do not load", damaged_codes_do_not_load},
	{"damaged logs do not open", damaged_logs_do_not_open},
	{"vectors are as long as their rows",
	 vectors_are_as_long_as_their_rows},
	{"a damaged seek table does not open",
	 a_damaged_seek_table_does_not_open},
	{"objects that are cut or missing do not open",
	 objects_that_are_cut_or_missing_do_not_open},
	{"shards that changed places do not open",
	 shards_that_changed_places_do_not_open},
	{"a damaged row is named and never scored",
	 a_damaged_row_is_named_and_never_scored},
	{"a damaged line is named and never shown",
	 a_damaged_line_is_named_and_never_shown},
	{"damaged frames are an error", damaged_frames_are_an_error},
	{"a file cut while open is an error, not a crash",
	 a_file_cut_while_open_is_an_error_not_a_crash},
	CU_TEST_INFO_NULL};
VF_SUITE("query/view", tests);
