/*
 * As much of CUnit's interface as the kernels' suites use, for programs built
 * for another CPU: Debian has no CUnit for cross compilers.
 */
#ifndef VF_TESTS_CROSS_CUNIT_H
#define VF_TESTS_CROSS_CUNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUE_SUCCESS = 0, CU_BRM_NORMAL = 0 };

typedef struct {
	const char *pName;
	void (*pTestFunc)(void);
} CU_TestInfo;

typedef struct {
	const char *pName;
	void *init, *cleanup, *set_up, *tear_down;
	CU_TestInfo *pTests;
} CU_SuiteInfo;

#define CU_TEST_INFO_NULL                                                      \
	{                                                                      \
		NULL, NULL                                                     \
	}
#define CU_SUITE_INFO_NULL                                                     \
	{                                                                      \
		NULL, NULL, NULL, NULL, NULL, NULL                             \
	}

void cu_check(bool good, const char *what, const char *file, int line);

#define CU_ASSERT(x)	      cu_check((x), #x, __FILE__, __LINE__)
#define CU_ASSERT_FALSE(x)    CU_ASSERT(!(x))
#define CU_ASSERT_EQUAL(a, b) CU_ASSERT((a) == (b))
#define CU_ASSERT_EQUAL_FATAL(a, b)                                            \
	do {                                                                   \
		CU_ASSERT_EQUAL(a, b);                                         \
		if ((a) != (b))                                                \
			abort();                                               \
	} while (0)
#define CU_ASSERT_PTR_NULL(p)	  CU_ASSERT((p) == NULL)
#define CU_ASSERT_PTR_NOT_NULL(p) CU_ASSERT((p) != NULL)
#define CU_FAIL(why)		  cu_check(false, why, __FILE__, __LINE__)

#endif
