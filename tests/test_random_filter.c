/* No suite: metadata and filters at random. */
#include "tests/random_filter.h"
#include "tests/test.h"

static const char *const keys[] = {"n", "s",	"b",	  "mixed",
				   "l", "rare", "\\u00e9"};
static const char *const texts[] = {
	"\"a\"",
	"\"ab\"",
	"\"abc\"",
	"\"b\"",
	"\"\"",
	"\"\\u0061b\"",
	"\"1\"",
	"\"a long text that two of them share\"",
	"\"a long text that two of them do not\"",
	"\"\xc3\xa9\"",
};
static const char *const numbers[] = {
	"0",	"-0",	  "1",	    "1.0",
	"1e0",	"-1",	  "2.5",    "3",
	"1999", "1e300",  "-1e300", "123456789012345678901234567890",
	"0.1",	"1e-300",
};

static uint64_t below(uint64_t *seed, uint64_t n)
{
	return vf_test_rand(seed) % n;
}

static void add_number(uint64_t *seed, struct vf_buf *out)
{
	if (below(seed, 3))
		vf_buf_printf(out, "%s", numbers[below(seed, VF_N(numbers))]);
	else
		vf_buf_printf(out, "%g", (double)below(seed, 4000) / 16 - 100);
}

static void add_text(uint64_t *seed, struct vf_buf *out)
{
	if (below(seed, 4))
		vf_buf_printf(out, "%s", texts[below(seed, VF_N(texts))]);
	else
		vf_buf_printf(out, "\"t%llu\"",
			      (unsigned long long)below(seed, 2000));
}

static void add_scalar(uint64_t *seed, struct vf_buf *out)
{
	switch (below(seed, 5)) {
	case 0:
		vf_buf_printf(out, below(seed, 2) ? "true" : "false");
		break;
	case 1:
	case 2:
		add_text(seed, out);
		break;
	default:
		add_number(seed, out);
	}
}

static void add_list(uint64_t *seed, uint64_t least, struct vf_buf *out)
{
	vf_buf_printf(out, "[");
	for (uint64_t n = least + below(seed, 4), i = 0; i < n; i++) {
		vf_buf_printf(out, i ? "," : "");
		add_scalar(seed, out);
	}
	vf_buf_printf(out, "]");
}

static void add_value(uint64_t *seed, size_t key, struct vf_buf *out)
{
	switch (key) {
	case 0:
		add_number(seed, out);
		break;
	case 1:
		add_text(seed, out);
		break;
	case 2:
		vf_buf_printf(out, below(seed, 2) ? "true" : "false");
		break;
	case 4:
		add_list(seed, 0, out);
		break;
	default:
		add_scalar(seed, out);
	}
}

void vf_random_metadata(uint64_t *seed, struct vf_buf *out)
{
	const char *comma = "";

	vf_buf_printf(out, "{");
	for (size_t i = 0; i < VF_N(keys); i++) {
		if (!below(seed, i == 5 ? 2 : 4))
			continue;
		if (i == 5 && below(seed, 8))
			continue;
		vf_buf_printf(out, "%s\"%s\":", comma, keys[i]);
		add_value(seed, i, out);
		comma = ",";
	}
	vf_buf_printf(out, "}");
}

/* {"$op": operand, ...}, or a value. */
static void add_condition(uint64_t *seed, size_t key, struct vf_buf *out)
{
	static const char *const ops[] = {"$eq",	"$ne",	"$in",
					  "$nin",	"$gt",	"$gte",
					  "$lt",	"$lte", "$exists",
					  "$startsWith"};
	size_t n = 1 + below(seed, 2), op = below(seed, VF_N(ops));

	if (!below(seed, 4)) {
		if (key == 4)
			key = 3;
		add_value(seed, key, out);
		return;
	}
	vf_buf_printf(out, "{");
	for (size_t i = 0; i < n; i++, op = (op + 1) % VF_N(ops)) {
		vf_buf_printf(out, "%s\"%s\":", i ? "," : "", ops[op]);
		if (op == 2 || op == 3)
			add_list(seed, 1, out);
		else if (op >= 4 && op < 8)
			add_number(seed, out);
		else if (op == 8)
			vf_buf_printf(out, below(seed, 2) ? "true" : "false");
		else if (op == 9)
			add_text(seed, out);
		else
			add_value(seed, key == 4 ? 3 : key, out);
	}
	vf_buf_printf(out, "}");
}

static void add_filter(uint64_t *seed, int depth, struct vf_buf *out)
{
	size_t first = below(seed, VF_N(keys)), n = 1 + below(seed, 2);

	vf_buf_printf(out, "{");
	if (depth < 3 && !below(seed, 3)) {
		vf_buf_printf(out, "\"%s\":[", below(seed, 2) ? "$or" : "$and");
		for (size_t i = 0; i < n; i++) {
			vf_buf_printf(out, i ? "," : "");
			add_filter(seed, depth + 1, out);
		}
		vf_buf_printf(out, below(seed, 2) ? "]}" : "],");
		if (out->data[out->len - 1] == '}')
			return;
	}
	for (size_t i = 0; i < n; i++) {
		size_t key = (first + i) % VF_N(keys);
		vf_buf_printf(out, "%s\"%s\":", i ? "," : "", keys[key]);
		add_condition(seed, key, out);
	}
	vf_buf_printf(out, "}");
}

void vf_random_filter(uint64_t *seed, struct vf_buf *out)
{
	add_filter(seed, 0, out);
}
