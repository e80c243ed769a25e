/*
 * Files of vectors, each format there and back: to the last bit where it keeps
 * all of a row, and what it cannot keep refused.
 *
 * Lines, rows and numbers come with the suites that test them.
 */
#include "tests/test.h"
#include "tools/format.h"

#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

enum { ROWS = 300, DIM = 19, SOME = 7 };

/* What a row may hold: numbers that are hard to spell, keys that are to quote. */
struct sample {
	float x[ROWS][DIM];
	char keys[ROWS][48];
	char metadata[ROWS][96];
};

static struct sample *make_sample(bool whole_numbers, float lo, float hi)
{
	static const float hard[] = {0.f,	 -0.f,	  FLT_MAX,
				     -FLT_MAX,	 FLT_MIN, FLT_TRUE_MIN,
				     -1.17e-38f, 0.1f,	  1.f / 3,
				     16777217.f, 1e-45f,  FLT_EPSILON};
	struct sample *s = malloc(sizeof(*s));
	uint64_t seed = 7;

	for (int i = 0; i < ROWS; i++) {
		for (int j = 0; j < DIM; j++) {
			uint64_t r = vf_test_rand(&seed);
			uint32_t bits = (uint32_t)(r >> 32);
			float f;
			memcpy(&f, &bits, 4);
			if (!isfinite(f) || r % 9 == 0)
				f = hard[r / 9 % VF_N(hard)];
			s->x[i][j] =
				whole_numbers
					? lo + (float)(r %
						       (uint64_t)(hi - lo + 1))
					: f;
		}
		snprintf(s->keys[i], sizeof(s->keys[i]),
			 i % 3 ? "%d" : "k %d, \"é\\\" 'x'", i);
		snprintf(s->metadata[i], sizeof(s->metadata[i]),
			 "{\"n\":%d,\"s\":\"a,\\\"b\\u00e9é\",\"l\":[1.50,"
			 "true,\"\"]}",
			 i);
	}
	return s;
}

static struct vf_outlet_row row_of(const struct sample *s, uint64_t i,
				   const char *key)
{
	return (struct vf_outlet_row){.at = i,
				      .x = s->x[i],
				      .key = key,
				      .key_len = strlen(key),
				      .metadata = s->metadata[i],
				      .metadata_len = strlen(s->metadata[i])};
}

/* ---- there --------------------------------------------------------------------------- */

struct file {
	char path[300];
	struct vf_outlet out;
};

static int begin(struct file *f, const struct vf_format *format, uint64_t n,
		 bool keys)
{
	static unsigned number;

	snprintf(f->path, sizeof(f->path), "%s/%u.%s", vf_test_dir(), number++,
		 format->name);
	f->out = (struct vf_outlet){.format = format,
				    .name = f->path,
				    .tmp = f->path,
				    .dim = DIM,
				    .n_rows = n,
				    .metric = VF_EUCLIDEAN,
				    .keys = keys};
	f->out.stream = fopen(f->path, "w+");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->out.stream);
	f->out.fd = fileno(f->out.stream);
	return vf_outlet_begin(&f->out);
}

static int end(struct file *f, int err)
{
	if (!err)
		err = vf_outlet_finish(&f->out);
	if (!err && fflush(f->out.stream))
		err = -errno;
	vf_outlet_discard(&f->out);
	fclose(f->out.stream);
	return err;
}

static void write_all(struct file *f, const struct vf_format *format,
		      const struct sample *s, bool keys)
{
	int err = begin(f, format, ROWS, keys);

	for (uint64_t i = 0; !err && i < ROWS; i++) {
		char number[24];
		snprintf(number, sizeof(number), "%d", (int)i * 3 - 9);
		const struct vf_outlet_row row = row_of(
			s, i, format->keeps_metadata ? s->keys[i] : number);
		err = vf_outlet_write(&f->out, &row);
	}
	CU_ASSERT_EQUAL(end(f, err), 0);
}

/* ---- and back ------------------------------------------------------------------------- */

static void check_text(struct vf_intake *in, const struct sample *s, uint64_t i)
{
	VF_AUTO_BUF struct vf_buf key = {0}, metadata = {0};
	char number[24];
	const char *want = number;

	snprintf(number, sizeof(number), "%d", (int)i * 3 - 9);
	if (in->has_metadata)
		want = s->keys[i];
	CU_ASSERT_EQUAL(vf_intake_text(in, i, &key, &metadata), 0);
	if (in->has_keys) {
		CU_ASSERT_EQUAL(key.len, strlen(want));
		CU_ASSERT(key.len && !memcmp(key.data, want, key.len));
	}
	if (in->has_metadata) {
		CU_ASSERT_EQUAL(metadata.len, strlen(s->metadata[i]));
		CU_ASSERT(metadata.len &&
			  !memcmp(metadata.data, s->metadata[i], metadata.len));
	}
}

static void read_all(const struct file *f, const struct sample *s)
{
	struct vf_intake in;
	float x[SOME][DIM];
	uint64_t seed = 3, i;

	CU_ASSERT_EQUAL_FATAL(
		vf_intake_open(open(f->path, O_RDONLY), f->path, NULL, &in), 0);
	CU_ASSERT_PTR_EQUAL(in.format, f->out.format);
	CU_ASSERT_EQUAL(in.dim, DIM);
	CU_ASSERT_EQUAL(in.n_rows, ROWS);
	for (i = 0; i + SOME <= ROWS; i += SOME) {
		CU_ASSERT_EQUAL(vf_intake_rows(&in, i, SOME, x[0]), 0);
		CU_ASSERT(!memcmp(x, s->x[i], sizeof(x)));
		check_text(&in, s, i);
	}
	for (int n = 0; n < 40; n++) { /* in any order */
		i = vf_test_rand(&seed) % ROWS;
		CU_ASSERT_EQUAL(vf_intake_rows(&in, i, 1, x[0]), 0);
		CU_ASSERT(!memcmp(x, s->x[i], sizeof(x[0])));
		check_text(&in, s, i);
	}
	vf_intake_close(&in);
}

static void there_and_back(const struct vf_format *format, bool keys,
			   struct sample *s)
{
	struct file f;

	write_all(&f, format, s, keys);
	read_all(&f, s);
	free(s);
}

static void floats_come_back_to_the_last_bit(void)
{
	static const struct vf_format *const all[] = {
		&vf_format_npy,	 &vf_format_npz,   &vf_format_fvecs,
		&vf_format_hdf5, &vf_format_jsonl, &vf_format_csv};

	for (size_t i = 0; i < VF_N(all); i++)
		there_and_back(all[i], all[i]->keeps_keys,
			       make_sample(false, 0, 0));
	there_and_back(&vf_format_hdf5, false, make_sample(false, 0, 0));
	there_and_back(&vf_format_faiss, true, make_sample(false, 0, 0));
	there_and_back(&vf_format_faiss, false, make_sample(false, 0, 0));
}

static void whole_numbers_come_back_from_vecs(void)
{
	there_and_back(&vf_format_bvecs, false, make_sample(true, 0, 255));
	there_and_back(&vf_format_ivecs, false,
		       make_sample(true, -99999, 99999));
}

/* ---- what a format cannot hold ----------------------------------------------------------- */

static int write_one(const struct vf_format *format, float x0, const char *key)
{
	struct sample *s = make_sample(true, 0, 9);
	struct file f;
	int err = begin(&f, format, 1, true);

	s->x[0][0] = x0;
	const struct vf_outlet_row row = row_of(s, 0, key);
	if (!err)
		err = vf_outlet_write(&f.out, &row);
	err = end(&f, err);
	free(s);
	return err;
}

static void what_a_format_cannot_hold_is_refused(void)
{
	CU_ASSERT_EQUAL(write_one(&vf_format_bvecs, 255, "0"), 0);
	CU_ASSERT_EQUAL(write_one(&vf_format_bvecs, 256, "0"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_bvecs, -1, "0"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_bvecs, .5f, "0"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_ivecs, -7, "0"), 0);
	CU_ASSERT_EQUAL(write_one(&vf_format_ivecs, .5f, "0"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_ivecs, 3e9f, "0"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_faiss, 1, "-12"), 0);
	CU_ASSERT_EQUAL(write_one(&vf_format_faiss, 1, "a"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_faiss, 1, "99999999999999999999"),
			-EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_csv, 1, "a\nb"), -EINVAL);
	CU_ASSERT_EQUAL(write_one(&vf_format_jsonl, 1, "a\nb"), 0);
}

/* ---- texts instead of vectors --------------------------------------------------------------- */

static void check_words(const char *name, const char *file, const char *words,
			const char *first, const char *second)
{
	VF_AUTO_BUF struct vf_buf text = {0};
	struct vf_intake in;
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", vf_test_dir(), name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CU_ASSERT_FATAL(!vf_write_all(fd, file, strlen(file)));
	int err = vf_intake_open_texts(fd, path, words, &in);
	CU_ASSERT_EQUAL(err, first ? 0 : -EINVAL);
	if (err)
		return;
	CU_ASSERT_EQUAL(in.n_rows, 2);
	CU_ASSERT_EQUAL(vf_intake_words(&in, 1, &text), second ? 0 : -EINVAL);
	CU_ASSERT_EQUAL(text.len, second ? strlen(second) : 0);
	CU_ASSERT(!second || !memcmp(text.data, second, text.len));
	text.len = 0;
	CU_ASSERT_EQUAL(vf_intake_words(&in, 0, &text), 0);
	CU_ASSERT(text.len == strlen(first) &&
		  !memcmp(text.data, first, text.len));
	vf_intake_close(&in);
}

static void texts_are_a_member_or_a_column(void)
{
	static const char lines[] = "{\"key\":\"a\",\"t\":\"x \\\"y\\\"\"}\n"
				    "{\"key\":\"b\",\"t\":\"é\"}\n";

	check_words("a.jsonl", lines, "t", "x \"y\"", "é");
	check_words("b.jsonl", "{\"t\":\"x\"}\n{\"u\":\"y\"}\n", "t", "x",
		    NULL);
	check_words("c.csv", "n,t,key\n1,\"x \"\"y\"\"\",a\n2,é,b\n", "t",
		    "x \"y\"", "é");
	check_words("d.csv", "n,t\n1,x\n2\n", "t", "x", NULL);
	check_words("e.csv", "n,t\n1,x\n2,y\n", "text", NULL, NULL);
	check_words("f.csv", "1,2\n", "2", NULL, NULL);
}

static CU_TestInfo tests[] = {
	{"floats come back to the last bit", floats_come_back_to_the_last_bit},
	{"whole numbers come back from vecs",
	 whole_numbers_come_back_from_vecs},
	{"what a format cannot hold is refused",
	 what_a_format_cannot_hold_is_refused},
	{"texts are a member or a column", texts_are_a_member_or_a_column},
	CU_TEST_INFO_NULL,
};
VF_SUITE("tools/formats", tests);
