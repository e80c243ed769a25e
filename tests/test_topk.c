#include "index/topk.h"
#include "tests/test.h"

static int compare_hits(const void *a, const void *b)
{
	return vf_hit_after(a, b) ? 1 : vf_hit_after(b, a) ? -1 : 0;
}

/* Against sorting everything: few distances, so that many tie. */
static void the_smallest_stay_whatever_the_order(void)
{
	struct vf_hit all[300], kept[40];
	uint64_t seed = 7;

	for (uint32_t round = 0; round < 200; round++) {
		uint32_t n = (uint32_t)(vf_test_rand(&seed) % 300);
		struct vf_topk top = {
			.hits = kept,
			.k = (uint32_t)(vf_test_rand(&seed) % 40)};
		for (uint32_t i = 0; i < n; i++) {
			all[i].dist = (float)(vf_test_rand(&seed) % 20) - 10;
			all[i].id = vf_test_rand(&seed) % 1000;
			vf_topk_push(&top, all[i].dist, all[i].id);
		}
		qsort(all, n, sizeof(all[0]), compare_hits);
		vf_topk_sort(&top);
		CU_ASSERT_EQUAL(top.n, VF_MIN(n, top.k));
		for (uint32_t i = 0; i < top.n; i++)
			CU_ASSERT(kept[i].dist == all[i].dist &&
				  kept[i].id == all[i].id);
	}
}

static void the_limit_is_infinite_until_full(void)
{
	struct vf_hit hits[2];
	struct vf_topk top = {.hits = hits, .k = 2};

	vf_topk_push(&top, 5, 1);
	CU_ASSERT_EQUAL(vf_topk_limit(&top), __builtin_inff());
	vf_topk_push(&top, 3, 2);
	CU_ASSERT_EQUAL(vf_topk_limit(&top), 5);
	vf_topk_push(&top, 4, 3);
	CU_ASSERT_EQUAL(vf_topk_limit(&top), 4);
}

static CU_TestInfo tests[] = {{"the smallest stay, whatever the order",
			       the_smallest_stay_whatever_the_order},
			      {"the limit is infinite until full",
			       the_limit_is_infinite_until_full},
			      CU_TEST_INFO_NULL};
VF_SUITE("index/topk", tests);
