/* The filter language: what it means, and what is refused with which words. */
#include "store/filter.h"
#include "tests/test.h"

#include <stdio.h>

static struct vf_filter *parse(const char *json)
{
	char why[VF_FILTER_WHY_LEN] = "";
	struct vf_filter *f;

	if (vf_filter_parse(json, strlen(json), &f, why))
		fprintf(stderr, "%s: %s\n", json, why);
	return f;
}

static int match(const char *filter, const char *metadata)
{
	VF_AUTO_BUF struct vf_buf scratch = {0};
	struct vf_filter *f = parse(filter);
	int rc = f ? vf_filter_match(f, metadata, strlen(metadata), &scratch)
		   : -EINVAL;

	vf_filter_free(f);
	return rc;
}

struct line {
	const char *filter, *metadata;
	int want;
};

static void check_lines(const struct line *l, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = match(l[i].filter, l[i].metadata);
		if (rc != l[i].want)
			fprintf(stderr, "%s of %s: %d\n", l[i].filter,
				l[i].metadata, rc);
		CU_ASSERT_EQUAL(rc, l[i].want);
	}
}

static void operators_mean_what_the_manual_says(void)
{
	static const struct line lines[] = {
		{"{}", "{}", 1},
		{"{\"a\":1}", "{\"a\":1}", 1},
		{"{\"a\":1}", "{\"a\":2}", 0},
		{"{\"a\":1}", "{\"b\":1}", 0},
		{"{\"a\":{\"$eq\":\"x\"}}", "{\"a\":\"x\"}", 1},
		{"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}", 1},
		{"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", 0},
		{"{\"a\":{\"$gt\":1,\"$lt\":3}}", "{\"a\":2}", 1},
		{"{\"a\":{\"$gt\":1,\"$lt\":3}}", "{\"a\":3}", 0},
		{"{\"a\":{\"$gte\":3}}", "{\"a\":3}", 1},
		{"{\"a\":{\"$lte\":2.5}}", "{\"a\":3}", 0},
		{"{\"a\":{\"$in\":[1,\"x\",true]}}", "{\"a\":true}", 1},
		{"{\"a\":{\"$in\":[1,\"x\",true]}}", "{\"a\":false}", 0},
		{"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":3}", 1},
		{"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":2}", 0},
		{"{\"a\":{\"$exists\":true}}", "{\"a\":[]}", 1},
		{"{\"a\":{\"$exists\":true}}", "{}", 0},
		{"{\"a\":{\"$exists\":false}}", "{\"b\":1}", 1},
		{"{\"a\":{\"$startsWith\":\"ab\"}}", "{\"a\":\"abc\"}", 1},
		{"{\"a\":{\"$startsWith\":\"ab\"}}", "{\"a\":\"a\"}", 0},
		{"{\"a\":{\"$startsWith\":\"\"}}", "{\"a\":5}", 0},
		{"{\"$or\":[{\"a\":1},{\"b\":1}]}", "{\"b\":1}", 1},
		{"{\"$or\":[{\"a\":1},{\"b\":1}]}", "{\"b\":2}", 0},
		{"{\"$and\":[{\"a\":1},{\"b\":1}]}", "{\"b\":1}", 0},
		{"{\"$and\":[{\"$or\":[{\"a\":1},{\"a\":2}]},{\"b\":1}]}",
		 "{\"b\":1,\"a\":2}", 1},
	};

	check_lines(lines, VF_N(lines));
}

static void what_aws_leaves_open_is_decided(void)
{
	static const struct line lines[] = {
		/* Not equal is the reverse of equal, without the key too. */
		{"{\"a\":{\"$ne\":1}}", "{}", 1},
		{"{\"a\":{\"$nin\":[1]}}", "{\"b\":1}", 1},
		{"{\"a\":{\"$ne\":1}}", "{\"a\":[1,2]}", 0},
		/* Numbers are doubles. */
		{"{\"a\":1}", "{\"a\":1.0}", 1},
		{"{\"a\":1.0}", "{\"a\":10e-1}", 1},
		{"{\"a\":0}", "{\"a\":-0.0}", 1},
		{"{\"a\":9007199254740993}", "{\"a\":9007199254740992}", 1},
		{"{\"a\":{\"$gt\":1e308}}", "{\"a\":1e999}", 1},
		/* Types never meet. */
		{"{\"a\":1}", "{\"a\":\"1\"}", 0},
		{"{\"a\":1}", "{\"a\":true}", 0},
		{"{\"a\":{\"$gt\":0}}", "{\"a\":\"5\"}", 0},
		{"{\"a\":{\"$lt\":9}}", "{\"a\":false}", 0},
		/* Lists: one element for each condition. */
		{"{\"a\":2}", "{\"a\":[1,2,3]}", 1},
		{"{\"a\":{\"$gt\":5,\"$lt\":2}}", "{\"a\":[1,9]}", 1},
		{"{\"a\":{\"$eq\":\"x\"}}", "{\"a\":[]}", 0},
		/* Text is compared by its bytes, escapes or not. */
		{"{\"a\":\"\\u00e9\"}", "{\"a\":\"\xc3\xa9\"}", 1},
		{"{\"\\u00e9\":\"\xc3\xa9\"}", "{\"\xc3\xa9\":\"\\u00E9\"}", 1},
		{"{\"a\":\"\\ud83d\\ude00\"}", "{\"a\":\"\xf0\x9f\x98\x80\"}",
		 1},
		{"{\"a\":\"x\"}", "{\"a\":\"X\"}", 0},
		{"{\"a\":\"\\u0000b\"}", "{\"a\":\"\\u0000b\"}", 1},
	};

	check_lines(lines, VF_N(lines));
}

static void what_is_wrong_is_named_with_its_place(void)
{
	static const struct {
		const char *filter, *want;
	} lines[] = {
		{"{\"a\":{\"$foo\":1}}", "a.$foo: there is no such operator"},
		{"{\"$not\":[]}", "$not: there is no such operator"},
		{"{\"$and\":[{},{\"p\":{\"$gt\":\"5\"}}]}",
		 "$and[1].p.$gt: takes a number"},
		{"{\"$or\":[]}", "$or: takes a list"},
		{"{\"$or\":[5]}", "$or[0]: a filter is a JSON object"},
		{"{\"a\":null}", "a: takes a string, a number or a boolean"},
		{"{\"a\":[1]}", "a: takes one value; for a list there is $in"},
		{"{\"a\":{}}", "a: an operator is expected here"},
		{"{\"a\":{\"b\":1}}", "a.b: an operator is expected here"},
		{"{\"a\":{\"$in\":[]}}", "a.$in: takes a list of at least"},
		{"{\"a\":{\"$in\":[1,{}]}}", "a.$in[1]: takes a string"},
		{"{\"a\":{\"$exists\":1}}", "a.$exists: takes true or false"},
		{"{\"a\":{\"$startsWith\":1}}", "takes a string"},
		{"[1]", "a filter is a JSON object"},
		{"{\"a\":1", "no JSON object, at character 6"},
		{"{\"a\":1,\"a\":2}", "duplicate"},
		{"", "no JSON object"},
	};
	char why[VF_FILTER_WHY_LEN];
	struct vf_filter *f;

	for (size_t i = 0; i < VF_N(lines); i++) {
		int err = vf_filter_parse(lines[i].filter,
					  strlen(lines[i].filter), &f, why);
		CU_ASSERT_EQUAL(err, -EINVAL);
		CU_ASSERT_PTR_NULL(f);
		if (!strstr(why, lines[i].want))
			fprintf(stderr, "%s: %s\n", lines[i].filter, why);
		CU_ASSERT_PTR_NOT_NULL(strstr(why, lines[i].want));
	}
}

/* "{"$and":[" so often, with @inside in the middle. */
static int parse_deep(int depth, char *why)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_filter *f;

	for (int i = 0; i < depth; i++)
		vf_buf_printf(&b, "{\"$and\":[");
	vf_buf_printf(&b, "{}");
	for (int i = 0; i < depth; i++)
		vf_buf_printf(&b, "]}");
	int err = vf_filter_parse((char *)b.data, b.len, &f, why);
	vf_filter_free(f);
	return err;
}

static int parse_many(int n, const char *each, char *why)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_filter *f;

	vf_buf_printf(&b, "{\"%s\":%s[", *each == '{' ? "$or" : "a",
		      *each == '{' ? "" : "{\"$in\":");
	for (int i = 0; i < n; i++) {
		vf_buf_printf(&b, i ? "," : "");
		vf_buf_printf(&b, *each == '{' ? "{\"k\":%d}" : "%d", i);
	}
	vf_buf_printf(&b, "]%s}", *each == '{' ? "" : "}");
	int err = vf_filter_parse((char *)b.data, b.len, &f, why);
	vf_filter_free(f);
	return err;
}

static void what_is_too_much_is_refused(void)
{
	char why[VF_FILTER_WHY_LEN];

	CU_ASSERT_EQUAL(parse_deep(VF_FILTER_DEPTH_MAX, why), 0);
	CU_ASSERT_EQUAL(parse_deep(VF_FILTER_DEPTH_MAX + 1, why), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "nested more than 16 deep"));
	CU_ASSERT_EQUAL(parse_deep(1500, why), -EINVAL);
	CU_ASSERT_EQUAL(parse_many(VF_FILTER_VALUES_MAX, "", why), 0);
	CU_ASSERT_EQUAL(parse_many(VF_FILTER_VALUES_MAX + 1, "", why), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "more than 1024 values"));
	CU_ASSERT_EQUAL(parse_many(500, "{", why), 0);
	CU_ASSERT_EQUAL(parse_many(VF_FILTER_NODES_MAX, "{", why), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "more than 1024 conditions"));
}

/* ---- metadata ---------------------------------------------------------------------- */

static int print_value(void *arg, const char *key, size_t len,
		       const struct vf_value *v)
{
	struct vf_buf *out = arg;

	vf_buf_printf(out, "%.*s", (int)len, key);
	if (v->kind == VF_VALUE_STRING)
		vf_buf_printf(out, "='%.*s'", (int)v->len, v->text);
	else if (v->kind)
		vf_buf_printf(out, v->kind == VF_VALUE_BOOL ? "=b%g" : "=%.17g",
			      v->number);
	vf_buf_printf(out, " ");
	return 0;
}

static int walk(const char *json, struct vf_buf *out)
{
	VF_AUTO_BUF struct vf_buf scratch = {0};

	out->len = 0;
	return vf_metadata_walk(json, strlen(json), &scratch, print_value, out);
}

static void metadata_is_read_as_it_is_written(void)
{
	static const struct {
		const char *json, *want;
	} lines[] = {
		{"{}", ""},
		{" { \"a\" : [ 1 , true ] } ", "a a=1 a=b1 "},
		{"{\"a\":\"x\\n\\\"y\\\\\",\"b\":false}",
		 "a a='x\n\"y\\' b b=b0 "},
		{"{\"a\":0.1,\"b\":-12.5e-3}",
		 "a a=0.10000000000000001 b b=-0.012500000000000001 "},
		{"{\"a\":123456789012345678901234567890}",
		 "a a=1.2345678901234568e+29 "},
		{"{\"a\":null,\"b\":{\"c\":[\"}\"]},\"d\":[[1],2]}",
		 "a b d d=2 "},
		{"{\"\\u00e9\\ud834\\udd1e\":\"\\u20aC\"}",
		 "\xc3\xa9\xf0\x9d\x84\x9e \xc3\xa9\xf0\x9d\x84\x9e="
		 "'\xe2\x82\xac' "},
	};
	VF_AUTO_BUF struct vf_buf out = {0};

	for (size_t i = 0; i < VF_N(lines); i++) {
		CU_ASSERT_EQUAL(walk(lines[i].json, &out), 0);
		vf_buf_append(&out, NULL, 1);
		if (strcmp((char *)out.data, lines[i].want))
			fprintf(stderr, "%s: %s\n", lines[i].json, out.data);
		CU_ASSERT_STRING_EQUAL((char *)out.data, lines[i].want);
	}
}

static void damaged_metadata_is_refused(void)
{
	static const char *const lines[] = {
		"",
		"[]",
		"{",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{\"a\":1}x",
		"{a:1}",
		"{\"a\":-}",
		"{\"a\":[1}",
		"{\"a\":\"x}",
		"{\"a\":.5}",
		"{\"a\":1x}",
		"{\"a\":\"\\q\"}",
		"{\"a\":\"\\ud800\"}",
		"{\"a\":\"\\u12\"}",
		"{\"a\":1.2.3}",
		"{\"a\":{\"b\":}",
	};
	VF_AUTO_BUF struct vf_buf out = {0};

	for (size_t i = 0; i < VF_N(lines); i++) {
		int err = walk(lines[i], &out);
		if (err != -EBADMSG)
			fprintf(stderr, "%s: %d\n", lines[i], err);
		CU_ASSERT_EQUAL(err, -EBADMSG);
	}
}

/* Short numbers take a way of their own: it must give strtod's doubles. */
static void numbers_are_the_nearest_doubles(void)
{
	VF_AUTO_BUF struct vf_buf out = {0};
	uint64_t seed = 5;

	for (int i = 0; i < 20000; i++) {
		char json[64], want[64], number[32];
		uint64_t a = vf_test_rand(&seed) % 100000000;
		int digits = (int)(vf_test_rand(&seed) % 8);
		snprintf(number, sizeof(number), "%s%llu.%0*llu",
			 i % 3 ? "" : "-", (unsigned long long)(a >> i % 20),
			 digits + 1,
			 (unsigned long long)(vf_test_rand(&seed) % 10));
		snprintf(json, sizeof(json), "{\"a\":%s}", number);
		snprintf(want, sizeof(want), "a a=%.17g ",
			 strtod(number, NULL) + 0.0);
		CU_ASSERT_EQUAL(walk(json, &out), 0);
		vf_buf_append(&out, NULL, 1);
		CU_ASSERT_STRING_EQUAL((char *)out.data, want);
	}
}

static CU_TestInfo tests[] = {
	{"operators mean what the manual says",
	 operators_mean_what_the_manual_says},
	{"what AWS leaves open is decided", what_aws_leaves_open_is_decided},
	{"what is wrong is named with its place",
	 what_is_wrong_is_named_with_its_place},
	{"what is too much is refused", what_is_too_much_is_refused},
	{"metadata is read as it is written",
	 metadata_is_read_as_it_is_written},
	{"damaged metadata is refused", damaged_metadata_is_refused},
	{"numbers are the nearest doubles", numbers_are_the_nearest_doubles},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/filter", tests);
