/*
 * How a test file adds its suite: a CU_TestInfo table and one line,
 *
 *     VF_SUITE("store/npy", tests);
 *
 * and what many suites need: a scratch directory, seeded random numbers.
 */
#ifndef VF_TESTS_TEST_H
#define VF_TESTS_TEST_H

#include <CUnit/CUnit.h>

#include "store/util.h"

struct vf_suite {
	const char *name;
	CU_TestInfo *tests; /* ends in CU_TEST_INFO_NULL */
	struct vf_suite *next;
};

void vf_suite_add(struct vf_suite *s);

#define VF_SUITE(suite_name, table)                                            \
	static struct vf_suite suite_ = {suite_name, table, NULL};             \
	__attribute__((constructor)) static void add_suite_(void)              \
	{                                                                      \
		vf_suite_add(&suite_);                                         \
	}

/* Between what ends by itself, however slow the machine, and what hangs: that
 * has to take twice as long. */
#define VF_TEST_LONG_NS UINT64_C(30000000000)

/* A new empty directory, removed when the program ends; borrowed. */
const char *vf_test_dir(void);

/* A file below ../shared, or NULL (said on stderr once) when it is absent. */
const char *vf_test_shared(const char *path);

/* Messages are dropped, or shown with VF_TEST_LOG: so each test begins. */
void vf_test_log_reset(void);

/* splitmix64: the same numbers everywhere for one seed. */
uint64_t vf_test_rand(uint64_t *state);
/* Standard normal. */
float vf_test_normal(uint64_t *state);

#endif
