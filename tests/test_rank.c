#include "index/rank.h"
#include "tests/test.h"

#include <math.h>

struct entry {
	float score;
	uint32_t number;
};

/* NaN as infinity, -0 before 0. */
static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	float u = isnan(x->score) ? INFINITY : x->score;
	float v = isnan(y->score) ? INFINITY : y->score;

	if (u != v)
		return u < v ? -1 : 1;
	if (!signbit(u) != !signbit(v))
		return signbit(u) ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static void compare_with_sorting(const float *scores, uint32_t n, uint32_t k)
{
	VF_AUTO_FREE struct entry *all = malloc((n + 1) * sizeof(*all));
	VF_AUTO_FREE uint32_t *out = malloc((k + 1) * sizeof(*out));
	VF_AUTO_FREE void *work = malloc(vf_rank_work_len(n + 1));
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < n; i++)
		all[i] = (struct entry){scores[i], i};
	qsort(all, n, sizeof(*all), compare_entries);
	vf_rank_least(scores, n, k, work, out);
	for (uint32_t i = 0; i < k; i++)
		wrong += out[i] != all[i].number;
	CU_ASSERT_EQUAL(wrong, 0);
}

static void all_sizes(void (*fill)(float *x, uint32_t n, uint64_t *seed))
{
	static const uint32_t sizes[] = {0, 1, 2, 255, 256, 257, 1000, 20000};
	float *x = malloc(20000 * sizeof(*x));
	uint64_t seed = 3;

	for (size_t i = 0; i < VF_N(sizes); i++)
		for (uint32_t k = 0; k <= sizes[i]; k += k / 2 + 1) {
			fill(x, sizes[i], &seed);
			compare_with_sorting(x, sizes[i], k);
			compare_with_sorting(x, sizes[i], sizes[i]);
		}
	free(x);
}

static void fill_normal(float *x, uint32_t n, uint64_t *seed)
{
	for (uint32_t i = 0; i < n; i++)
		x[i] = vf_test_normal(seed);
}

/* Few values, so that many tie: of both zeros, and none of a number. */
static void fill_ties(float *x, uint32_t n, uint64_t *seed)
{
	static const float values[] = {0,	 -0.f,	    1,	 -1,
				       INFINITY, -INFINITY, NAN, 2};

	for (uint32_t i = 0; i < n; i++)
		x[i] = values[vf_test_rand(seed) % VF_N(values)];
}

/*
 * What is looked at to guess the k-th is far above, or far below, all others:
 * every 78th of 20000.
 */
static void fill_unlike_sample(float *x, uint32_t n, uint64_t *seed)
{
	float by = vf_test_rand(seed) % 2 ? 100 : -100;

	fill_normal(x, n, seed);
	for (uint32_t i = 0; i < 256; i++)
		if (n > 256)
			x[(uint64_t)i * n / 256] += by;
}

static void the_least_are_those_that_sorting_finds(void)
{
	all_sizes(fill_normal);
}

static void ties_go_to_the_smaller_number(void)
{
	all_sizes(fill_ties);
}

static void a_wrong_guess_costs_time_alone(void)
{
	all_sizes(fill_unlike_sample);
}

static CU_TestInfo tests[] = {
	{"the least are those that sorting finds",
	 the_least_are_those_that_sorting_finds},
	{"ties go to the smaller number", ties_go_to_the_smaller_number},
	{"a wrong guess costs time alone", a_wrong_guess_costs_time_alone},
	CU_TEST_INFO_NULL};
VF_SUITE("index/rank", tests);
