/*
 * The pure parts of vectool: lines, keys, metadata, sets of keys, rows.  The
 * tools are no library, so that their files are included here.
 */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

#include "tools/args.c"
#include "tools/jsonl.c"
#include "tools/keyset.c"
#include "tools/lines.c"
#include "tools/rows.c"

/* ---- lines ---------------------------------------------------------------- */

static const char *write_file(const char *data, size_t len)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/lines", vf_test_dir());
	f = fopen(path, "w");
	if (!f || fwrite(data, 1, len, f) != len || fclose(f))
		abort();
	return path;
}

static void lines_come_in_order_with_offsets(void)
{
	struct vf_lines *l;
	const char *line;
	size_t len;

	CU_ASSERT_EQUAL_FATAL(vf_lines_open(write_file("a\n\nccc", 6), 10, &l),
			      0);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT(len == 1 && *line == 'a' && vf_lines_off(l) == 0);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT(line && len == 0 && vf_lines_off(l) == 2);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT(len == 3 && vf_lines_off(l) == 3 && vf_lines_number(l) == 3);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT_PTR_NULL(line);
	vf_lines_seek(l, 2, 2);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT(line && len == 0 && vf_lines_number(l) == 2);
	vf_lines_close(l);
}

static void lines_longer_than_the_window_are_whole(void)
{
	size_t n = 3 * WINDOW + 17, len;
	VF_AUTO_FREE char *data = malloc(2 * n + 2);
	struct vf_lines *l;
	const char *line;

	memset(data, 'x', 2 * n + 2);
	data[n] = data[2 * n + 1] = '\n';
	CU_ASSERT_EQUAL_FATAL(vf_lines_open(write_file(data, 2 * n + 2), n, &l),
			      0);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
		CU_ASSERT_EQUAL(len, n);
	}
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), 0);
	CU_ASSERT_PTR_NULL(line);
	vf_lines_close(l);
	CU_ASSERT_EQUAL_FATAL(
		vf_lines_open(write_file(data, 2 * n + 2), n - 1, &l), 0);
	CU_ASSERT_EQUAL(vf_lines_next(l, &line, &len), -EINVAL);
	vf_lines_close(l);
}

/* ---- keys and records ----------------------------------------------------------- */

static void keys_are_bounded_utf8(void)
{
	char big[VF_KEY_MAX + 1];

	memset(big, 'k', sizeof(big));
	CU_ASSERT_PTR_NULL(vf_key_check("a", 1));
	CU_ASSERT_PTR_NULL(vf_key_check("\xc3\xa9\xe2\x82\xac", 5));
	CU_ASSERT_PTR_NULL(vf_key_check("\xf0\x9f\x98\x80\t", 5));
	CU_ASSERT_PTR_NULL(vf_key_check(big, VF_KEY_MAX));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check(big, VF_KEY_MAX + 1));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("", 0));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("a\0b", 3));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("\xc3", 1));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("\xc0\x80", 2));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("\xed\xa0\x80", 3));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("\xf4\x90\x80\x80", 4));
	CU_ASSERT_PTR_NOT_NULL(vf_key_check("\xe0\x9f\xbf", 3));
}

static void a_key_survives_its_record_line(void)
{
	static const char key[] = "q\"b\\ \x01\x1f\t\x7f \xc3\xa9";
	VF_AUTO_BUF struct vf_buf line = {0};
	VF_AUTO_FREE char *back = NULL;
	size_t len;

	CU_ASSERT_EQUAL(vf_record_line_append(key, sizeof(key) - 1, "{\"a\":1}",
					      7, &line),
			0);
	CU_ASSERT_EQUAL(line.data[line.len - 1], '\n');
	CU_ASSERT_PTR_NULL(memchr(line.data, '\n', line.len - 1));
	CU_ASSERT_EQUAL_FATAL(vf_record_line_key((char *)line.data, line.len,
						 &back, &len),
			      0);
	CU_ASSERT(len == sizeof(key) - 1 && !memcmp(back, key, len));
	CU_ASSERT_EQUAL(vf_record_line_key("{}", 2, &back, &len), -EBADMSG);
	CU_ASSERT_EQUAL(vf_record_line_key("x", 1, &back, &len), -EBADMSG);
}

static int metadata(const char *json, struct vf_buf *out)
{
	char reason[128];

	out->len = 0;
	int err = vf_metadata_append(json, strlen(json), out, reason);
	return err ? err : vf_buf_append(out, "", 1);
}

static void metadata_keeps_the_users_spelling(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT_EQUAL(metadata(" { \"a b\" : 0.10 ,\t\"\\\"c\" : [ 1 , \" x "
				 "\" , true ] } ",
				 &b),
			0);
	CU_ASSERT_STRING_EQUAL(b.data,
			       "{\"a b\":0.10,\"\\\"c\":[1,\" x \",true]}");
	CU_ASSERT_EQUAL(metadata("{}", &b), 0);
	CU_ASSERT_STRING_EQUAL(b.data, "{}");
	CU_ASSERT_EQUAL(metadata("{\"n\":123456789012345678901234567890}", &b),
			0);
}

static void metadata_that_is_not_flat_is_refused(void)
{
	static const char *const bad[] = {"",
					  "1",
					  "[]",
					  "\"a\"",
					  "null",
					  "{",
					  "{\"a\":null}",
					  "{\"a\":{}}",
					  "{\"a\":[[]]}",
					  "{\"a\":[{}]}",
					  "{\"a\":[null]}",
					  "{\"a\":1,\"a\":2}",
					  "{\"a\":1} x",
					  "{\"a\":NaN}",
					  "{\"a\":\"\xff\"}",
					  "{'a':1}",
					  "{\"a\":01}",
					  "{\"a\":\"\\ud800\"}"};
	VF_AUTO_BUF struct vf_buf b = {0};

	char reason[128];

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(metadata(bad[i], &b), -EINVAL);
	CU_ASSERT_EQUAL(vf_metadata_append("", 0, &b, reason), -EINVAL);
	CU_ASSERT_STRING_EQUAL(reason, "is an empty line; {} means none");
}

static void text_lines_give_key_text_and_metadata(void)
{
	static const char line[] = "{\"x\":{\"metadata\":[1,\"}\"]},\"key\":"
				   "\"k\\n\",\"text\":\"a \\\"b\", "
				   "\"metadata\" : {\"m\":[1, 2]} , \"y\":0}";
	struct vf_text_line t;
	char reason[128];

	CU_ASSERT_EQUAL_FATAL(
		vf_text_line_parse(line, strlen(line), &t, reason), 0);
	CU_ASSERT_STRING_EQUAL(t.key, "k\n");
	CU_ASSERT_STRING_EQUAL(t.text, "a \"b");
	VF_AUTO_BUF struct vf_buf b = {0};
	CU_ASSERT_EQUAL(
		vf_metadata_append(t.metadata, t.metadata_len, &b, reason), 0);
	CU_ASSERT(b.len == 11 && !memcmp(b.data, "{\"m\":[1,2]}", 11));
	vf_text_line_fini(&t);
}

static void bad_text_lines_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"7",
		"{\"key\":\"a\"}",
		"{\"text\":\"a\"}",
		"{\"key\":1,\"text\":\"a\"}",
		"{\"key\":\"a\",\"text\":null}",
		"{\"key\":\"a\",\"text\":\"b\",\"m\\u0065tadata\":{}}"};
	struct vf_text_line t;
	char reason[128];

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(vf_text_line_parse(bad[i], strlen(bad[i]), &t,
						   reason),
				-EINVAL);
}

static void row_lines_give_key_vector_and_metadata(void)
{
	static const char *const good[] = {
		"{\"key\":\"k\",\"vector\":[1,-2.5],\"metadata\":{\"m\": 1}}",
		"{\"metadata\":{\"m\": 1} , \"vector\" : [ 1 , -25e-1 ] , "
		"\"key\":\"\\u006b\"}",
		" {\"x\":{\"vector\":[9]},\"y\":\"\\\"}\",\"vector\":[1,-2.5]"
		",\"key\":\"k\",\"metadata\":{\"m\": 1} }\r"};
	struct vf_text_line t;
	char reason[128];

	for (size_t i = 0; i < VF_N(good); i++) {
		float x[2] = {0};
		CU_ASSERT_EQUAL_FATAL(vf_row_line_parse(good[i],
							strlen(good[i]), 2, x,
							&t, reason),
				      0);
		CU_ASSERT_STRING_EQUAL(t.key, "k");
		CU_ASSERT(x[0] == 1 && x[1] == -2.5f);
		CU_ASSERT(!strncmp(t.metadata, "{\"m\": 1}", 8));
		vf_text_line_fini(&t);
	}
}

static void bad_row_lines_say_what_is_wrong(void)
{
	static const char *const bad[][2] = {
		{"{\"vector\":[1,2]}", "no string \"key\""},
		{"{\"key\":\"k\"}", "no list \"vector\""},
		{"{\"key\":\"k\",\"vector\":3}", "no list \"vector\""},
		{"{\"key\":\"k\",\"x\":{\"vector\":[1,2]}}", "no list"},
		{"{\"key\":\"k\",\"vector\":[1]}", "of 1 numbers, not 2"},
		{"{\"key\":\"k\",\"vector\":[1,2,3]}", "of 3 numbers, not 2"},
		{"{\"key\":\"k\",\"vector\":[1,\"2\"]}", "more than numbers"},
		{"{\"key\":\"k\",\"vector\":[1,2]", "not JSON"},
		{"{\"key\":\"k\",\"vector\":[1,2]}}", "not JSON"},
		{"{\"key\":\"k\",\"vector\":[1,02]}", "not JSON"},
		{"{\"key\":\"k\",\"vector\":[1,1e999]}", "not JSON"},
		{"{\"key\":\"k\",\"vector\":[1,2],\"vector\":[1,2]}",
		 "duplicate"},
		{"{\"a\":],\"vector\":[1,2],\"key\":\"k\"}", "not JSON"},
		{"{\"a\":\"\\", "not JSON"},
		{"{\"key\":\"k\",\"v\\u0065ctor\":[1,2]}", "with escapes"},
		{"{\"key\":\"k\",\"vector\":[1,2],\"m\\u0065tadata\":{}}",
		 "with escapes"}};
	struct vf_text_line t;

	for (size_t i = 0; i < VF_N(bad); i++) {
		char reason[128] = "";
		float x[2];
		CU_ASSERT_EQUAL(vf_row_line_parse(bad[i][0], strlen(bad[i][0]),
						  2, x, &t, reason),
				-EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(reason, bad[i][1]));
	}
}

/* ---- sets of keys ------------------------------------------------------------------ */

static int count_row(void *arg, uint64_t row)
{
	*(unsigned *)arg += 1;
	return 0;
}

static void keysets_find_what_was_added_and_keep_equal_hashes(void)
{
	struct vf_keyset k = {0};
	uint64_t row, seed = 5;
	unsigned n = 0;

	CU_ASSERT_FALSE(vf_keyset_find(&k, 1, &row));
	for (uint64_t i = 0; i < 50000; i++) {
		CU_ASSERT_EQUAL(vf_keyset_add(&k, vf_test_rand(&seed), i, &row),
				0);
		CU_ASSERT_EQUAL(row, i);
	}
	seed = 5;
	for (uint64_t i = 0; i < 50000; i++) {
		CU_ASSERT(vf_keyset_find(&k, vf_test_rand(&seed), &row));
		CU_ASSERT_EQUAL(row, i);
	}
	CU_ASSERT_FALSE(vf_keyset_find(&k, vf_test_rand(&seed), &row));
	for (uint64_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(vf_keyset_add(&k, 0, 50000 + i, &row), 0);
	CU_ASSERT_EQUAL(row, 50000);
	vf_keyset_each(&k, 0, count_row, &n);
	CU_ASSERT_EQUAL(n, 3);
	vf_keyset_fini(&k);
}

/* ---- rows --------------------------------------------------------------------------- */

static void every_half_goes_to_float_and_back(void)
{
	uint16_t in[65536], out[65536];
	VF_AUTO_FREE float *f = malloc(sizeof(float) * 65536);

	for (unsigned i = 0; i < 65536; i++)
		in[i] = (uint16_t)i;
	halves_to_f32_scalar((uint8_t *)in, 65536, f);
	f32_to_halves_scalar(f, 65536, out);
	for (unsigned i = 0; i < 65536; i++)
		if ((i & 0x7fff) <= 0x7c00)
			CU_ASSERT_EQUAL(out[i], i);
	CU_ASSERT(f[1] == 0x1p-24f && f[0x3c00] == 1 && f[0xfbff] == -65504);
	CU_ASSERT(isnan(f[0x7c01]) && isinf(f[0x7c00]));
}

static void halves_by_the_instruction_equal_the_scalar_ones(void)
{
	enum { N = 4096 + 5 };
	static float x[N], back[N], back2[N];
	static uint16_t a[N], b[N];
	uint64_t seed = 11;

	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < N; i++) {
			uint32_t bits = (uint32_t)vf_test_rand(&seed);
			if (i % 2) /* near the halves */
				bits = (bits & 0x8fffffff) | 0x30000000;
			memcpy(&x[i], &bits, 4);
			if (isnan(x[i]))
				x[i] = 65519.99f;
		}
		vf_rows_to_f16(x, N, a);
		f32_to_halves_scalar(x, N, b);
		CU_ASSERT_EQUAL(memcmp(a, b, sizeof(a)), 0);
		vf_rows_to_f32(VF_F16, a, N, back);
		halves_to_f32_scalar((uint8_t *)a, N, back2);
		CU_ASSERT_EQUAL(memcmp(back, back2, sizeof(back)), 0);
	}
}

static size_t check_one(float value, unsigned at, enum vf_metric m)
{
	float x[3 * 37];
	const char *reason;

	for (unsigned i = 0; i < VF_N(x); i++)
		x[i] = 1;
	x[at] = value;
	return vf_rows_check(x, 3, 37, m, &reason);
}

static void one_bad_number_anywhere_is_found(void)
{
	for (unsigned at = 0; at < 3 * 37; at++) {
		CU_ASSERT_EQUAL(check_one(NAN, at, VF_DOT), at / 37);
		CU_ASSERT_EQUAL(check_one(INFINITY, at, VF_DOT), at / 37);
		CU_ASSERT_EQUAL(check_one(-INFINITY, at, VF_COSINE), at / 37);
		CU_ASSERT_EQUAL(check_one(1e20f, at, VF_EUCLIDEAN), at / 37);
		CU_ASSERT_EQUAL(check_one(0, at, VF_COSINE), 3);
	}
}

static void zero_rows_are_bad_under_cosine_only(void)
{
	float x[4 * 5] = {[0] = 1, [7] = -2, [15] = 1e-10f};
	const char *reason;

	CU_ASSERT_EQUAL(vf_rows_check(x, 4, 5, VF_COSINE, &reason), 2);
	CU_ASSERT_EQUAL(vf_rows_check(x, 4, 5, VF_EUCLIDEAN, &reason), 4);
	CU_ASSERT_EQUAL(vf_rows_check(x + 15, 1, 5, VF_COSINE, &reason), 1);
}

/* ---- command lines --------------------------------------------------------------------- */

static void sizes_have_units_and_do_not_overflow(void)
{
	uint64_t v;

	CU_ASSERT(!vf_parse_size("0", &v) && v == 0);
	CU_ASSERT(!vf_parse_size("2G", &v) && v == UINT64_C(2) << 30);
	CU_ASSERT(!vf_parse_size("3k", &v) && v == 3072);
	CU_ASSERT(!vf_parse_size("18446744073709551615", &v) &&
		  v == UINT64_MAX);
	CU_ASSERT_EQUAL(vf_parse_size("18446744073709551616", &v), -EINVAL);
	CU_ASSERT_EQUAL(vf_parse_size("99999999999T", &v), -EINVAL);
	CU_ASSERT_EQUAL(vf_parse_size("", &v), -EINVAL);
	CU_ASSERT_EQUAL(vf_parse_size("-1", &v), -EINVAL);
	CU_ASSERT_EQUAL(vf_parse_size("1GB", &v), -EINVAL);
}

static void options_stand_anywhere_in_any_spelling(void)
{
	uint64_t n = 0;
	const char *s = NULL;
	bool flag = false;
	const struct vf_arg table[] = {{"number", 'n', VF_ARG_COUNT, &n, 1,
					100},
				       {"string", 0, VF_ARG_STRING, &s, 0, 0},
				       {"flag", 'f', VF_ARG_FLAG, &flag, 0, 0},
				       {0}};
	char *argv[] = {"a", "-n7", "--string=x=y", "-", "-f", "--", "-b"};
	char *bad[][2] = {{"--none", "1"}, {"-n", "0"},	     {"-n", "101"},
			  {"-n", "x"},	   {"--flag=1", ""}, {"x", "--string"}};
	struct vf_args a = {.verb = "test"};

	CU_ASSERT_EQUAL(vf_args_parse(&a, table, VF_N(argv), argv), 0);
	CU_ASSERT(n == 7 && s && !strcmp(s, "x=y") && flag);
	CU_ASSERT(a.n_operands == 3 && !strcmp(a.operands[2], "-b"));
	for (size_t i = 0; i < VF_N(bad); i++) {
		a = (struct vf_args){.verb = "test"};
		CU_ASSERT_EQUAL(vf_args_parse(&a, table, 2, bad[i]), -EINVAL);
	}
}

static CU_TestInfo tests[] = {
	{"lines come in order with offsets", lines_come_in_order_with_offsets},
	{"lines longer than the window are whole",
	 lines_longer_than_the_window_are_whole},
	{"keys are bounded UTF-8", keys_are_bounded_utf8},
	{"a key survives its record line", a_key_survives_its_record_line},
	{"metadata keeps the user's spelling",
	 metadata_keeps_the_users_spelling},
	{"metadata that is not flat is refused",
	 metadata_that_is_not_flat_is_refused},
	{"text lines give key, text and metadata",
	 text_lines_give_key_text_and_metadata},
	{"bad text lines are refused", bad_text_lines_are_refused},
	{"row lines give key, vector and metadata",
	 row_lines_give_key_vector_and_metadata},
	{"bad row lines say what is wrong", bad_row_lines_say_what_is_wrong},
	{"keysets find what was added and keep equal hashes",
	 keysets_find_what_was_added_and_keep_equal_hashes},
	{"every half goes to float and back",
	 every_half_goes_to_float_and_back},
	{"halves by the instruction equal the scalar ones",
	 halves_by_the_instruction_equal_the_scalar_ones},
	{"one bad number anywhere is found", one_bad_number_anywhere_is_found},
	{"zero rows are bad under cosine only",
	 zero_rows_are_bad_under_cosine_only},
	{"sizes have units and do not overflow",
	 sizes_have_units_and_do_not_overflow},
	{"options stand anywhere in any spelling",
	 options_stand_anywhere_in_any_spelling},
	CU_TEST_INFO_NULL};

VF_SUITE("tools/ingest", tests);
