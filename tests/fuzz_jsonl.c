/*
 * Lines of a stream of rows: what is read directly is what a general parser
 * reads, and neither refuses what the other takes.
 */
#include "tests/fuzz.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "tools/jsonl.h"

const char fuzz_name[] = "jsonl";

enum { DIM = 4 };

/* Twice rounded, so that the last bit may be another. */
static bool is_near(float x, double d)
{
	float f = (float)d;

	return x == f || x == nextafterf(f, INFINITY) ||
	       x == nextafterf(f, -INFINITY);
}

/* What a general parser makes of it: is it a row whose numbers are floats? */
static bool is_row(json_t *o, const float *x, bool compare)
{
	json_t *v = json_object_get(o, "vector");
	bool ok = json_is_string(json_object_get(o, "key")) &&
		  json_is_array(v) && json_array_size(v) == DIM;

	for (size_t i = 0; ok && i < DIM; i++) {
		json_t *n = json_array_get(v, i);
		ok = json_is_number(n);
		if (ok && compare)
			fuzz_check(is_near(x[i], json_number_value(n)));
	}
	return ok;
}

int fuzz_one(const uint8_t *p, size_t len)
{
	const char *line = (const char *)p;
	struct vf_text_line t;
	char why[128] = "";
	float x[DIM] = {0};
	int err = vf_row_line_parse(line, len, DIM, x, &t, why);
	json_t *o = json_loadb(line, len,
			       JSON_REJECT_DUPLICATES |
				       JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL,
			       NULL);

	if (err) {
		fuzz_check(err == -EINVAL && *why);
		fuzz_check(!is_row(o, x, false) || strstr(why, "escapes"));
	} else {
		fuzz_check(is_row(o, x, true));
		fuzz_check(!t.metadata ||
			   (t.metadata >= line &&
			    t.metadata + t.metadata_len <= line + len));
		fuzz_check(!t.metadata == !json_object_get(o, "metadata"));
		vf_text_line_fini(&t);
	}
	json_decref(o);
	return err ? fuzz_outcome(err, why) : 0;
}

void fuzz_seeds(void)
{
	static const char *const seeds[] = {
		"{\"key\":\"k\",\"vector\":[1,-2.5,3e-3,0]}",
		"{\"key\":\"k\",\"vector\":[1,-2.5,3e-3,0]e-3}",
		"{\"vector\":[0.1,16777217,1e-46,3.4e38],\"key\":\"\\u006b\","
		"\"metadata\":{\"a\":[1,2],\"b\":\"]}\"}}",
		" {\"metadata\":{} , \"key\":\"\\\"\" , \"vector\" : [ 1 , 2 "
		", 3 , 123456789012345678901234567890 ] } ",
		"{\"x\":{\"vector\":[1,2]},\"vector\":[1,2,3,4],\"key\":\"\"}",
		"{\"v\\u0065ctor\":[1,2,3,4],\"key\":\"k\"}"};

	for (size_t i = 0; i < VF_N(seeds); i++)
		fuzz_add(seeds[i], strlen(seeds[i]));
}

void fuzz_fix(uint8_t *p, size_t len)
{
	fuzz_fix_object(p, len);
}
