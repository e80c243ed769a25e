/*
 * The running half, for tests/main.c alone: a suite runs as it registers.
 */
#ifndef VF_TESTS_CROSS_BASIC_H
#define VF_TESTS_CROSS_BASIC_H

#include "CUnit/CUnit.h"

static unsigned cu_n_run, cu_n_failed;
static bool cu_failing; /* the test that runs */

void cu_check(bool good, const char *what, const char *file, int line)
{
	if (!good && !cu_failing)
		printf("%s:%d: %s\n", file, line, what);
	cu_failing |= !good;
}

static int CU_register_suites(CU_SuiteInfo *s)
{
	for (CU_TestInfo *t = s->pTests; t->pName; t++) {
		cu_failing = false;
		t->pTestFunc();
		cu_n_run++;
		cu_n_failed += cu_failing;
		printf("%s %s: %s\n", cu_failing ? "not ok" : "ok", s->pName,
		       t->pName);
	}
	return CUE_SUCCESS;
}

static inline int CU_initialize_registry(void)
{
	return CUE_SUCCESS;
}

static inline void CU_basic_set_mode(int mode)
{
	(void)mode;
}

static inline void CU_basic_run_tests(void)
{
}

static inline void CU_cleanup_registry(void)
{
}

static inline unsigned CU_get_number_of_tests_failed(void)
{
	return cu_n_failed;
}

static inline unsigned CU_get_number_of_tests_run(void)
{
	return cu_n_run;
}

#endif
