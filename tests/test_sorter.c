/*
 * Rows in the order of their leaves, with vectors that went along, through
 * memory or scratch files, and with such as stayed in their source.
 */
#include "tests/test.h"
#include "tools/sorter.h"

#include <stdio.h>

enum { ROWS = 2000, DIM = 64, LEAVES = 7, CODE_LEN = 8, BATCH = 100 };

struct fake {
	struct vf_source base;
	float x[ROWS][DIM];
};

static int take_rows(struct vf_source *s, const uint32_t *rows, size_t n,
		     void *out)
{
	struct fake *f = (struct fake *)s;

	for (size_t i = 0; i < n; i++)
		memcpy((float *)out + i * DIM, f->x[rows[i]], sizeof(f->x[0]));
	return 0;
}

static const struct vf_source_ops fake_ops = {.take = take_rows};

static struct fake *new_fake(void)
{
	struct fake *f = calloc(1, sizeof(*f));
	uint64_t seed = 9;

	if (!f)
		abort();
	f->base = (struct vf_source){.ops = &fake_ops, .name = "fake"};
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < DIM; j++)
			f->x[i][j] = vf_test_normal(&seed);
	return f;
}

static uint32_t leaf_of(uint64_t row)
{
	return (uint32_t)(row * row % LEAVES);
}

static int add_rows(struct vf_sorter *s, struct fake *f)
{
	uint8_t codes[BATCH * CODE_LEN];
	struct vf_factors factors[BATCH] = {0};
	struct vf_builder_row rows[BATCH] = {0};
	uint32_t leaf[BATCH];
	int err = 0;

	for (uint64_t row = 0; !err && row < ROWS; row += BATCH) {
		struct vf_chunk c = {.row = row,
				     .n = BATCH,
				     .x = f->x[row],
				     .codes = codes,
				     .factors = factors,
				     .rows = rows,
				     .leaf = leaf};
		for (size_t i = 0; i < BATCH; i++) {
			memset(codes + i * CODE_LEN, (int)(row + i), CODE_LEN);
			leaf[i] = leaf_of(row + i);
			rows[i].row_crc =
				vf_crc32c(0, f->x[row + i], sizeof(f->x[0]));
			rows[i].line_len = 2;
			vf_buf_append(&c.lines, "x\n", 2);
		}
		err = vf_sorter_add(s, &c);
		vf_buf_fini(&c.lines);
	}
	return err;
}

struct seen {
	const struct fake *f;
	uint64_t n;
	uint32_t leaf, from;
	bool wrong;
};

/* By leaf, then as they came; each with what belongs to it. */
static int see_chunk(void *arg, const struct vf_chunk *c)
{
	struct seen *s = arg;

	for (size_t i = 0; i < c->n; i++, s->n++) {
		uint32_t from = c->from[i];
		bool goes_on =
			c->leaf[i] > s->leaf ||
			(c->leaf[i] == s->leaf && (!s->n || from > s->from));
		s->wrong |= !goes_on || c->leaf[i] != leaf_of(from) ||
			    c->codes[i * CODE_LEN] != (uint8_t)from ||
			    memcmp(c->x + i * DIM, s->f->x[from],
				   sizeof(s->f->x[0]));
		s->leaf = c->leaf[i];
		s->from = from;
	}
	return 0;
}

/* @n_rows: as many are expected */
static int sort_of(struct fake *f, struct vf_source *source, uint64_t n_rows,
		   uint64_t ram, bool changes)
{
	static const uint32_t shares[LEAVES] = {1, 1, 1, 1, 1, 1, 1};
	const struct vf_sorter_options opt = {.n_leaves = LEAVES,
					      .shares = shares,
					      .n_rows = n_rows,
					      .dim = DIM,
					      .dtype = VF_F32,
					      .source = source,
					      .code_len = CODE_LEN,
					      .ram = ram};
	struct seen seen = {.f = f};
	struct vf_sorter *s;

	CU_ASSERT_EQUAL_FATAL(vf_sorter_new(&opt, &s), 0);
	int err = add_rows(s, f);
	if (changes)
		f->x[ROWS / 2][3] += 1;
	if (!err)
		err = vf_sorter_run(s, NULL, 0, see_chunk, &seen);
	vf_sorter_free(s);
	CU_ASSERT(!seen.wrong);
	CU_ASSERT(err || seen.n == ROWS);
	return err;
}

static int sort(struct fake *f, struct vf_source *source, uint64_t ram)
{
	return sort_of(f, source, ROWS, ram, false);
}

static void rows_come_by_leaf(void)
{
	struct fake *f = new_fake();

	CU_ASSERT_EQUAL(sort(f, NULL, 64 << 20), 0);
	CU_ASSERT_EQUAL(sort(f, &f->base, 64 << 20), 0);
	/* A few rows in memory, a bucket and a whole leaf beyond it. */
	CU_ASSERT_EQUAL(sort(f, NULL, 400 << 10), 0);
	CU_ASSERT_EQUAL(sort(f, NULL, 20 << 10), 0);
	CU_ASSERT_EQUAL(sort(f, &f->base, 20 << 10), 0);
	free(f);
}

static void more_rows_than_were_expected(void)
{
	struct fake *f = new_fake();

	CU_ASSERT_EQUAL(sort_of(f, NULL, 1, 100 << 10, false), 0);
	free(f);
}

/* Else a row would stand beside the code of another. */
static void a_source_that_changes_is_refused(void)
{
	struct fake *f = new_fake();

	CU_ASSERT_EQUAL(sort_of(f, &f->base, ROWS, 64 << 20, true), -ESTALE);
	free(f);
}

static CU_TestInfo tests[] = {
	{"rows come by leaf", rows_come_by_leaf},
	{"more rows than were expected", more_rows_than_were_expected},
	{"a source that changes is refused", a_source_that_changes_is_refused},
	CU_TEST_INFO_NULL,
};
VF_SUITE("tools/sorter", tests);
