/*
 * Lists of numbers are read as strtof reads them, to the last bit.  The tools
 * are no library, so that the file is included here.
 */
#include "tests/test.h"

#include <float.h>
#include <stdio.h>

#include "tools/numbers.c"

/* Ends at a heap block's end, so that a sanitizer sees reads beyond it. */
static int parse(const char *text, uint32_t n, float *out)
{
	size_t len = strlen(text);
	VF_AUTO_FREE char *s = malloc(len + 1);
	const char *end;

	memcpy(s, text, len);
	s[len] = 'x'; /* read by nobody, or by strtof as an end */
	int err = vf_numbers_parse(s, s + len, n, out, &end);
	return !err && end != s + len ? 1 : err;
}

static bool is_exact(const char *number)
{
	float want = strtof(number, NULL), got = -1;
	char list[128];

	snprintf(list, sizeof(list), "[%s]", number);
	if (parse(list, 1, &got)) {
		printf("\n%s is refused\n", number);
		return false;
	}
	if (!memcmp(&got, &want, sizeof(got)))
		return true;
	printf("\n%s is %.9g, not %.9g\n", number, (double)got, (double)want);
	return false;
}

static void numbers_are_rounded_as_by_strtof(void)
{
	static const char *const numbers[] = {
		"0", "-0", "0.0", "-0e5", "1", "-1.5", "0.1", "1e-45", "7e-46",
		"1.17549435e-38", "1.1754943e-38", "1e-60", "1e-400",
		"3.4028234663852886e38", "3.4028235e+38", "16777217",
		"16777219", "16777216.999999999999999999999999",
		"16777217.000000000000000000000001", "123456789012345678901",
		"0.000000000000000000000000000012345678901234567890",
		"9007199254740993e-20", "18446744073709551615",
		"18446744073709551616", "1E+2", "2.5e-00003", "1e22", "1e23",
		"5.9604644775390625e-8",
		/* twice rounded it would be another */
		"1.00000017881393432617187499", "1.00000017881393432617187500",
		"1.00000017881393432617187501", "8388608.5000000001",
		"0.50000008940696723"};

	for (size_t i = 0; i < VF_N(numbers); i++)
		CU_ASSERT(is_exact(numbers[i]));
}

/* Floats, doubles and the middles of floats, in several spellings. */
static void random_numbers_are_exact(void)
{
	static const char *const formats[] = {"%.9g",  "%.17g", "%.6f",
					      "%.25g", "%.17e", "%.40g"};
	uint64_t seed = 7;
	char number[128];
	unsigned n_bad = 0;

	for (int i = 0; i < 60000 && n_bad < 10; i++) {
		uint64_t r = vf_splitmix64(&seed);
		uint32_t bits = (uint32_t)r & 0x7fffffff;
		/* Mostly of the size that vectors have. */
		if (i % 4)
			bits = (bits & 0x7fffff) | (100 + bits % 40) << 23;
		float f;
		memcpy(&f, &bits, sizeof(f));
		if (!(f <= FLT_MAX / 4))
			continue;
		double d = (double)f;
		if (i % 3 == 1) /* the middle to the next */
			d += (double)(nextafterf(f, FLT_MAX) - f) / 2;
		if (i % 3 == 2)
			d *= 1 + (double)(r >> 40) * 1e-15;
		snprintf(number, sizeof(number), formats[r >> 33 & 3], d);
		n_bad += !is_exact(number);
		snprintf(number, sizeof(number), formats[2 + (i & 3)], -d);
		n_bad += !is_exact(number);
	}
	CU_ASSERT_EQUAL(n_bad, 0);
}

/* Lists of them, where several digits are read at once, up to the very end. */
static void digits_of_any_number_are_read(void)
{
	enum { N = 40 };
	uint64_t seed = 9;
	unsigned n_bad = 0;

	for (int round = 0; round < 2000; round++) {
		char list[N * 64] = "[", number[64];
		float got[N], want[N];
		for (int i = 0; i < N; i++) {
			uint64_t r = vf_splitmix64(&seed);
			snprintf(number, sizeof(number), "%s%llu.%0*llu",
				 r & 1 ? "-" : "",
				 (unsigned long long)(r % 3 ? 0 : r >> r % 61),
				 (int)(r >> 20) % 21 + 1,
				 (unsigned long long)(r >> (r >> 8) % 64));
			want[i] = strtof(number, NULL);
			strcat(strcat(list, i ? "," : ""), number);
		}
		n_bad += parse(strcat(list, "]"), N, got) ||
			 memcmp(got, want, sizeof(got));
	}
	CU_ASSERT_EQUAL(n_bad, 0);
}

static void lists_have_as_many_as_are_wanted(void)
{
	float x[3];

	CU_ASSERT_EQUAL(parse("[1,2,3]", 3, x), 0);
	CU_ASSERT(x[0] == 1 && x[1] == 2 && x[2] == 3);
	CU_ASSERT_EQUAL(parse("[ \t1 ,\r2\n, -3e0 ]", 3, x), 0);
	CU_ASSERT(x[0] == 1 && x[1] == 2 && x[2] == -3);
	CU_ASSERT_EQUAL(parse("[1,2]", 3, x), -EINVAL);
	CU_ASSERT_EQUAL(parse("[1,2,3,4]", 3, x), -EINVAL);
	CU_ASSERT_EQUAL(parse("[]", 1, x), -EINVAL);
}

static void what_is_no_list_of_numbers_is_refused(void)
{
	static const char *const bad[] = {"",
					  "[",
					  "[1",
					  "[1,",
					  "[1,2",
					  "1,2",
					  "[1 2]",
					  "[01,2]",
					  "[.5,2]",
					  "[1.,2]",
					  "[+1,2]",
					  "[-,2]",
					  "[1e,2]",
					  "[1e+,2]",
					  "[NaN,2]",
					  "[Infinity,2]",
					  "[0x1,2]",
					  "[1,\"2\"]",
					  "[1,null]",
					  "[1,[2]]",
					  "[1,2,]",
					  "[,1]",
					  "[1e39,2]",
					  "[1,-1e400]",
					  "[1,3.4028236e38]",
					  "[1,\f2]"};
	float x[2];

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(parse(bad[i], 2, x), -EINVAL);
}

static CU_TestInfo tests[] = {
	{"numbers are rounded as by strtof", numbers_are_rounded_as_by_strtof},
	{"random numbers are exact", random_numbers_are_exact},
	{"digits of any number are read", digits_of_any_number_are_read},
	{"lists have as many as are wanted", lists_have_as_many_as_are_wanted},
	{"what is no list of numbers is refused",
	 what_is_no_list_of_numbers_is_refused},
	CU_TEST_INFO_NULL,
};

VF_SUITE("tools/numbers", tests)
