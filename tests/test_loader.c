/*
 * Codes read beside queries: in the end all are there, within the limit, and
 * who closes does not wait for them.
 */
#include "query/query.h"
#include "tests/fixture.h"
#include "tests/test.h"

#include <unistd.h>

static struct vf_fixture *make_fixture(void)
{
	return vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_EUCLIDEAN, .dtype = VF_F32, .bits = 5});
}

static struct vf_view *open_fixture(const struct vf_fixture *f, size_t ram_max)
{
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(
		vf_view_open(f->path,
			     &(struct vf_view_options){.ram_max = ram_max}, &v),
		0);
	return v;
}

static size_t held(const struct vf_view *v)
{
	struct vf_view_info info;

	vf_view_info(v, &info);
	return info.ram_len;
}

static void all_codes_come_in_the_end(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *whole = open_fixture(f, 0), *v = open_fixture(f, 0);
	const struct vf_search s = {.k = 3};
	struct vf_answer *a;

	CU_ASSERT_EQUAL(vf_view_load(whole), 0);
	CU_ASSERT(held(v) < held(whole));
	CU_ASSERT_EQUAL(vf_view_load_start(v), 0);
	CU_ASSERT_EQUAL(vf_view_load_start(v), 0); /* it runs */
	for (int i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(vf_view_search(v, f->x[i], &s, &a), 0);
		vf_answer_free(a);
	}
	for (int i = 0; held(v) < held(whole) && i < 20000; i++)
		usleep(1000);
	CU_ASSERT_EQUAL(held(v), held(whole));
	vf_view_load_stop(v);
	vf_view_close(v);
	vf_view_close(whole);
	vf_fixture_free(f);
}

static void codes_that_do_not_fit_stay_where_they_are(void)
{
	struct vf_fixture *f = make_fixture();
	struct vf_view *v;

	CU_ASSERT_EQUAL(vf_guard_install(), 0);
	v = open_fixture(f, 1);
	size_t before = held(v);
	CU_ASSERT_EQUAL(vf_view_load_start(v), 0);
	vf_view_load_stop(v);
	vf_view_load_stop(v); /* none runs */
	CU_ASSERT_EQUAL(held(v), before);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void close_ends_it(void)
{
	struct vf_fixture *f = make_fixture();

	for (int i = 0; i < 20; i++) {
		struct vf_view *v = open_fixture(f, 0);
		CU_ASSERT_EQUAL(vf_view_load_start(v), 0);
		vf_view_close(v);
	}
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {{"all codes come in the end",
			       all_codes_come_in_the_end},
			      {"codes that do not fit stay where they are",
			       codes_that_do_not_fit_stay_where_they_are},
			      {"close ends it", close_ends_it},
			      CU_TEST_INFO_NULL};

VF_SUITE("query/loader", tests);
