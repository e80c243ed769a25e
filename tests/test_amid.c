#include "index/amid.h"
#include "tests/test.h"

#include <math.h>

enum { N = 1000, DIM = 8 };

static void fill(float *x)
{
	uint64_t seed = 5;

	for (size_t i = 0; i < N * DIM; i++)
		x[i] = 3 + vf_test_normal(&seed);
}

static void find(const struct vf_amid_rows *r, double *out, double *out_extra)
{
	CU_ASSERT_EQUAL_FATAL(vf_amid_find(r, out, out_extra), 0);
}

static void of_rows_alike_it_is_the_mean(void)
{
	float x[N * DIM], extra[N];
	struct vf_amid_rows r = {.x = x, .n = N, .dim = DIM, .extra = extra};
	double out[DIM], sum = 0, more;

	fill(x);
	for (size_t i = 0; i < N; i++) {
		extra[i] = (float)(i % 5);
		sum += (double)x[i * DIM];
	}
	find(&r, out, &more);
	CU_ASSERT_DOUBLE_EQUAL(out[0], sum / N, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(more, 2, 1e-9);
	r.n_max = 10; /* every hundredth */
	find(&r, out, &more);
	for (size_t i = 0; i < 10; i++)
		sum = i ? sum + (double)x[i * 100 * DIM] : (double)x[0];
	CU_ASSERT_DOUBLE_EQUAL(out[0], sum / 10, 1e-9);
	CU_ASSERT_EQUAL(more, 0);
}

static void far_rows_do_not_draw_it(void)
{
	float x[N * DIM];
	struct vf_amid_rows r = {.x = x, .n = N, .dim = DIM};
	double out[DIM];

	fill(x);
	for (size_t i = 0; i < 30; i++) /* each far from the others, too */
		x[(i * 31 + 5) * DIM + i % DIM] = ldexpf(1000, (int)i * 4);
	find(&r, out, NULL);
	for (size_t i = 0; i < DIM; i++)
		CU_ASSERT_DOUBLE_EQUAL(out[i], 3, .2);
}

static void rows_that_are_none_do_not_count(void)
{
	float x[N * DIM], scale[N];
	struct vf_amid_rows r = {.x = x, .n = N, .dim = DIM, .scale = scale};
	double out[DIM];

	fill(x);
	for (size_t i = 0; i < N; i++)
		scale[i] = 2;
	x[0] = NAN;
	x[DIM] = INFINITY;
	find(&r, out, NULL);
	CU_ASSERT_DOUBLE_EQUAL(out[0], 6, .4);
	r.n = 2;
	find(&r, out, NULL);
	CU_ASSERT_EQUAL(out[0], 0);
	r.n = 0;
	find(&r, out, NULL);
	CU_ASSERT_EQUAL(out[0], 0);
}

static void one_row_and_equal_rows_are_it(void)
{
	float x[4] = {1, 2, 1, 2};
	struct vf_amid_rows r = {.x = x, .n = 1, .dim = 2};
	double out[2];

	for (; r.n <= 2; r.n++) {
		find(&r, out, NULL);
		CU_ASSERT(out[0] == 1 && out[1] == 2);
	}
}

static CU_TestInfo tests[] = {
	{"of rows alike it is the mean", of_rows_alike_it_is_the_mean},
	{"far rows do not draw it", far_rows_do_not_draw_it},
	{"rows that are none do not count", rows_that_are_none_do_not_count},
	{"one row and equal rows are it", one_row_and_equal_rows_are_it},
	CU_TEST_INFO_NULL,
};

VF_SUITE("index/amid", tests);
