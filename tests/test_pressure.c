/* A RAM tier that follows memory pressure, told of it by a file. */
#include "store/pressure.h"
#include "tests/test.h"

#include <stdio.h>

enum { MIB = 1 << 20 };

static int parse(const char *text)
{
	unsigned stalled;
	int err = vf_pressure_parse(text, &stalled);

	return err ? err : (int)stalled;
}

static void the_kernels_text_is_understood(void)
{
	CU_ASSERT_EQUAL(
		parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
		      "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
		0);
	CU_ASSERT_EQUAL(parse("some avg10=12.34 avg60=1.00 "), 1234);
	CU_ASSERT_EQUAL(parse("some avg10=100.00 "), 10000);
	CU_ASSERT_EQUAL(parse(""), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some"), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10="), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=. "), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=5"), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=5.1"), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=5.12"), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=101.00 "), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=99999999999999999999.00 "), -EBADMSG);
	CU_ASSERT_EQUAL(parse("some avg10=-1.00 "), -EBADMSG);
	CU_ASSERT_EQUAL(parse("full avg10=1.00 "), -EBADMSG);
}

static void it_shrinks_fast_and_grows_slowly(void)
{
	const size_t min = 64 * MIB, max = 1024 * (size_t)MIB;
	size_t len = max;
	unsigned calm = 0, n;

	len = vf_pressure_step(len, min, max, 1000, 1000, &calm);
	CU_ASSERT_EQUAL(len, max - (max - min) / 4);
	for (n = 0; n < 100 && len > min; n++)
		len = vf_pressure_step(len, min, max, 5000, 1000, &calm);
	CU_ASSERT(n < 12);
	CU_ASSERT_EQUAL(len, min);
	CU_ASSERT_EQUAL(vf_pressure_step(len, min, max, 9999, 1000, &calm),
			min);
	for (n = 0; n < 9; n++) /* it must have been calm for a while */
		CU_ASSERT_EQUAL(
			vf_pressure_step(len, min, max, 99, 1000, &calm), min);
	CU_ASSERT_EQUAL(vf_pressure_step(len, min, max, 0, 1000, &calm),
			min + max / 64);
	CU_ASSERT_EQUAL(vf_pressure_step(len, min, max, 100, 1000, &calm),
			min); /* uneasy: from the beginning */
	CU_ASSERT_EQUAL(vf_pressure_step(len, min, max, 0, 1000, &calm), min);
	calm = 20000;
	for (n = 0; n < 100 && len < max; n++)
		len = vf_pressure_step(len, min, max, 0, 1000, &calm);
	CU_ASSERT(n > 50);
	CU_ASSERT_EQUAL(len, max);
}

static void write_file(const char *path, const char *text)
{
	char tmp[300];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s.new", path);
	f = fopen(tmp, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
	CU_ASSERT_EQUAL(rename(tmp, path), 0);
}

static bool reaches(struct vf_cache *c, size_t len)
{
	struct vf_cache_stats s;

	for (unsigned i = 0; i < 5000; i++) {
		vf_cache_stats(c, &s);
		if (s.ram_len == len)
			return true;
		usleep(1000);
	}
	return false;
}

static void the_cache_follows_a_file(void)
{
	struct vf_pressure_options o = {
		.min_len = 4 * MIB, .max_len = 32 * MIB, .period_ms = 1};
	struct vf_pressure_stats s;
	struct vf_pressure *p;
	struct vf_cache *c;
	char path[256];

	snprintf(path, sizeof(path), "%s/pressure", vf_test_dir());
	o.file = path;
	CU_ASSERT_EQUAL_FATAL(
		vf_cache_open(&(struct vf_cache_options){.ram_len = 32 * MIB},
			      &c),
		0);
	CU_ASSERT_EQUAL(vf_pressure_open(c, &o, &p), -ENOENT);
	write_file(path, "nothing of the kind\n");
	CU_ASSERT_EQUAL(vf_pressure_open(c, &o, &p), -ENOENT);
	CU_ASSERT_PTR_NULL(p);
	write_file(path, "some avg10=30.00 avg60=0.00\n");
	CU_ASSERT_EQUAL_FATAL(vf_pressure_open(c, &o, &p), 0);
	CU_ASSERT(reaches(c, 4 * MIB));
	vf_pressure_stats(p, &s);
	CU_ASSERT_STRING_EQUAL(s.file, path);
	CU_ASSERT(s.n_shrink > 3 && !s.n_grow && s.stalled == 3000);
	write_file(path, "garbage"); /* neither less nor more */
	usleep(20000);
	CU_ASSERT(reaches(c, 4 * MIB));
	vf_pressure_close(p);
	vf_pressure_close(NULL);
	vf_cache_close(c);
}

static void bounds_come_from_the_system(void)
{
	CU_ASSERT(vf_pressure_max_len() >= 64 * MIB);
	CU_ASSERT(vf_pressure_max_len() < SIZE_MAX / 4);
}

static CU_TestInfo tests[] = {
	{"the kernel's text is understood, and nothing else",
	 the_kernels_text_is_understood},
	{"it shrinks fast and grows slowly", it_shrinks_fast_and_grows_slowly},
	{"the cache follows a file", the_cache_follows_a_file},
	{"bounds come from the system", bounds_come_from_the_system},
	CU_TEST_INFO_NULL};

VF_SUITE("store/pressure", tests);
