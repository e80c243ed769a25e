/*
 * Searches by bounds, over the small index of three shards.
 */
#include "query/query.h"
#include "tests/fixture.h"
#include "tests/test.h"

#include <fcntl.h>
#include <unistd.h>

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS, K = 10 };

struct shown {
	struct vf_fixture *f;
	struct vf_view *v;
};

static struct shown open_shown(enum vf_metric metric, uint32_t bits)
{
	struct shown s = {
		vf_fixture_new(&(struct vf_fixture_options){
			.metric = metric, .dtype = VF_F32, .bits = bits}),
		NULL};

	CU_ASSERT_EQUAL_FATAL(vf_view_open(s.f->path, NULL, &s.v), 0);
	return s;
}

static void close_shown(struct shown *s)
{
	vf_view_close(s->v);
	vf_fixture_free(s->f);
}

/* Hits that are as near as the k-th of all rows: many rows tie. */
static size_t count_right(struct shown *s, const struct vf_answer *a,
			  const float *q)
{
	struct vf_search all = {.k = K, .exact = true};
	struct vf_answer *want;
	size_t n = 0;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(s->v, q, &all, &want), 0);
	for (size_t i = 0; i < a->n_hits; i++)
		n += a->hits[i].distance <= want->hits[K - 1].distance;
	vf_answer_free(want);
	return n;
}

static void few_rows_are_read_and_the_nearest_found(void)
{
	static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN,
						 VF_DOT};

	for (size_t m = 0; m < 2 * VF_N(metrics); m++) {
		struct shown s = open_shown(metrics[m / 2], m % 2 ? 5 : 1);
		uint64_t rows = 0, right = 0;
		enum { QUERIES = 40 };
		for (size_t i = 0; i < QUERIES; i++) {
			struct vf_search search = {.k = K};
			struct vf_answer *a;
			const float *q = s.f->x[i * 7];
			CU_ASSERT_EQUAL_FATAL(
				vf_view_search(s.v, q, &search, &a), 0);
			CU_ASSERT(a->n_hits == K && !a->partial);
			CU_ASSERT(a->cost.bound_met);
			CU_ASSERT(a->cost.refined >= a->cost.rows_read);
			CU_ASSERT_EQUAL(a->cost.from_ram, a->cost.rows_read);
			CU_ASSERT_EQUAL(a->cost.rounds, 0);
			rows += a->cost.rows_read;
			right += count_right(&s, a, q);
			vf_answer_free(a);
		}
		CU_ASSERT(right >= QUERIES * K * 95 / 100);
		CU_ASSERT(rows < QUERIES * ROWS / 3);
		close_shown(&s);
	}
}

/* All of a small index are candidates, whose bounds are then not asked. */
static void a_fixed_count_reads_so_many(void)
{
	struct shown s = open_shown(VF_COSINE, 5);
	struct vf_search search = {.k = K, .candidates = 57};
	struct vf_answer *a;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(s.v, s.f->x[1], &search, &a), 0);
	CU_ASSERT(a->cost.rows_read == 57 && !a->cost.bound_met);
	CU_ASSERT_EQUAL(a->cost.refined, 0);
	vf_answer_free(a);
	search.candidates = ROWS;
	CU_ASSERT_EQUAL_FATAL(vf_view_search(s.v, s.f->x[1], &search, &a), 0);
	CU_ASSERT(a->cost.rows_read == ROWS && a->cost.bound_met);
	vf_answer_free(a);
	close_shown(&s);
}

/* Limits are about what is away: nothing of a plain copy is. */
static void limits_leave_alone_what_is_at_hand(void)
{
	struct shown s = open_shown(VF_EUCLIDEAN, 5);
	float far = 1e9f;
	struct vf_search search = {
		.k = K, .max_gets = 1, .max_ms = 1, .good_enough = &far};
	struct vf_answer *a;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(s.v, s.f->x[1], &search, &a), 0);
	CU_ASSERT(a->n_hits == K && !a->partial && a->cost.bound_met);
	for (size_t i = 0; i < a->n_hits; i++)
		CU_ASSERT(a->hits[i].exact);
	vf_answer_free(a);
	close_shown(&s);
}

/* Flip a byte of row 10, which is the nearest to itself. */
static void damage_row(struct shown *s)
{
	const char *path = vf_fixture_file(s->f, 0, "vectors.npy");
	VF_AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t at = 4096 + 10 * DIM * 4;
	uint8_t byte;

	CU_ASSERT_EQUAL_FATAL(pread(fd, &byte, 1, at), 1);
	byte ^= 0x55;
	CU_ASSERT_EQUAL_FATAL(pwrite(fd, &byte, 1, at), 1);
}

static void a_damaged_row_fails_the_answer_or_makes_it_partial(void)
{
	struct shown s = open_shown(VF_EUCLIDEAN, 5);
	struct vf_search search = {.k = K};
	struct vf_answer *a;

	damage_row(&s);
	CU_ASSERT_EQUAL(vf_view_search(s.v, s.f->x[10], &search, &a), -EBADMSG);
	CU_ASSERT_PTR_NULL(a);
	search.on_error_partial = true;
	CU_ASSERT_EQUAL_FATAL(vf_view_search(s.v, s.f->x[10], &search, &a), 0);
	CU_ASSERT(a->partial && !a->cost.bound_met);
	CU_ASSERT_EQUAL(a->cost.errors, 1);
	for (size_t i = 0; i < a->n_hits; i++)
		CU_ASSERT_STRING_NOT_EQUAL(a->hits[i].key, "k10");
	vf_answer_free(a);
	close_shown(&s);
}

/* Codes that do not fit are read from the file as they are needed. */
static void codes_that_do_not_fit_give_the_same_answers(void)
{
	static const struct vf_search kinds[] = {
		{.k = K},
		{.k = K, .candidates = 60},
		{.k = K, .rerank = VF_RERANK_FAST},
		{.k = K, .rerank = VF_RERANK_NONE},
		{.k = K, .hamming = true}};
	const struct vf_view_options little = {.ram_max = 1};
	struct shown s = open_shown(VF_EUCLIDEAN, 5);
	struct vf_view_info all, few;
	struct vf_answer *a, *b;
	struct vf_view *v;

	CU_ASSERT_EQUAL_FATAL(vf_guard_install(), 0);
	CU_ASSERT_EQUAL_FATAL(vf_view_open(s.f->path, &little, &v), 0);
	CU_ASSERT_EQUAL(vf_view_load(s.v), 0);
	vf_view_info(s.v, &all);
	vf_view_info(v, &few);
	CU_ASSERT(few.ram_len < all.ram_len / 2);
	for (size_t i = 0; i < VF_N(kinds); i++) {
		const float *q = s.f->x[i * 9];
		CU_ASSERT_EQUAL_FATAL(vf_view_search(s.v, q, &kinds[i], &a), 0);
		CU_ASSERT_EQUAL_FATAL(vf_view_search(v, q, &kinds[i], &b), 0);
		CU_ASSERT_EQUAL_FATAL(a->n_hits, b->n_hits);
		for (size_t j = 0; j < a->n_hits; j++) {
			CU_ASSERT_STRING_EQUAL(a->hits[j].key, b->hits[j].key);
			CU_ASSERT_EQUAL(a->hits[j].distance,
					b->hits[j].distance);
		}
		vf_answer_free(a);
		vf_answer_free(b);
	}
	vf_view_close(v);
	close_shown(&s);
}

static CU_TestInfo tests[] = {
	{"codes that do not fit give the same answers",
	 codes_that_do_not_fit_give_the_same_answers},
	{"few rows are read and the nearest found",
	 few_rows_are_read_and_the_nearest_found},
	{"a fixed count reads so many", a_fixed_count_reads_so_many},
	{"limits leave alone what is at hand",
	 limits_leave_alone_what_is_at_hand},
	{"a damaged row fails the answer or makes it partial",
	 a_damaged_row_fails_the_answer_or_makes_it_partial},
	CU_TEST_INFO_NULL};
VF_SUITE("query/bound", tests);
