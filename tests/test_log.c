/*
 * Log records: what is written comes back, all else is refused.
 */
#include "tests/records.h"

#include <xxhash.h>

/* ---- what is written --------------------------------------------------------- */

static void a_record_is_appended_behind_what_is_there(void)
{
	VF_AUTO_BUF struct vf_buf alone = {0}, b = {0};
	const char *why;

	encode(&alone);
	vf_buf_append(&b, "before", 6);
	encode(&b);
	CU_ASSERT_EQUAL(b.len, alone.len + 6);
	CU_ASSERT(!memcmp(b.data + 6, alone.data, alone.len));
	CU_ASSERT_EQUAL(parse(b.data + 6, b.len - 6, &why), 0);
	CU_ASSERT_EQUAL(vf_record_checksum(b.data + 6, b.len - 6),
			XXH3_64bits(alone.data, alone.len - 8));
}

static void a_record_without_operations_is_one(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_record r = {.number = 1}, out;
	const char *why;

	CU_ASSERT_EQUAL(vf_record_encode(&r, &b), 0);
	CU_ASSERT_EQUAL(vf_record_parse(b.data, b.len, &out, &why), 0);
	CU_ASSERT_EQUAL(out.n_ops, 0);
	vf_record_fini(&out);
}

static void records_over_the_limit_are_not_written(void)
{
	enum { MANY = 40000 };
	VF_AUTO_FREE struct vf_op *ops = calloc(MANY, sizeof(*ops));
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_op each[N_OPS];
	struct vf_record r = {.number = 1, .ops = ops, .n_ops = MANY};

	make_ops(each);
	for (size_t i = 0; i < MANY; i++)
		ops[i] = each[2];
	CU_ASSERT_EQUAL(vf_record_encode(&r, &b), -EFBIG);
	CU_ASSERT_EQUAL(b.len, 0);
}

/* ---- damage ------------------------------------------------------------------ */

static void every_flipped_byte_is_refused(void)
{
	static const uint8_t flips[] = {1, 0x20, 0x80, 0xff};
	VF_AUTO_BUF struct vf_buf b = {0};
	const char *why;

	encode(&b);
	for (size_t i = 0; i < b.len * VF_N(flips); i++) {
		b.data[i / 4] ^= flips[i % 4];
		int err = parse(b.data, b.len, &why);
		if ((err != -EBADMSG && err != -ENOTSUP) || !why)
			CU_FAIL("a damaged record was read");
		b.data[i / 4] ^= flips[i % 4];
	}
	CU_ASSERT_EQUAL(parse(b.data, b.len, &why), 0);
}

static void every_cut_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	const char *why;

	encode(&b);
	for (size_t n = 0; n < b.len; n++)
		if (parse(b.data, n, &why) != -EBADMSG || !why)
			CU_FAIL("a part of a record was read");
	vf_buf_append(&b, NULL, 1);
	CU_ASSERT_EQUAL(parse(b.data, b.len, &why), -EBADMSG);
}

/* ---- well-formed, but not ours --------------------------------------------------- */

/* A record with a right checksum around @json. */
static void frame(const char *json, size_t json_len, struct vf_buf *out)
{
	uint8_t h[VF_RECORD_HEADER_LEN] = {0}, sum[8];

	memcpy(h, "VFRECORD", 8);
	vf_put_le32(h + 8, 1);
	vf_put_le64(h + 16, sizeof(h) + json_len + 8);
	vf_put_le64(h + 40, 1);
	vf_put_le64(h + 72, json_len);
	out->len = 0;
	vf_buf_append(out, h, sizeof(h));
	vf_buf_append(out, json, json_len);
	vf_put_le64(sum, XXH3_64bits(out->data, out->len));
	vf_buf_append(out, sum, 8);
}

static void fix_checksum(struct vf_buf *b)
{
	vf_put_le64(b->data + b->len - 8, XXH3_64bits(b->data, b->len - 8));
}

static int parse_json(const char *json)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	const char *why;

	frame(json, strlen(json), &b);
	int err = parse(b.data, b.len, &why);
	CU_ASSERT(!err || why);
	return err;
}

#define RECORD(ops) "{\"writer\":\"w\",\"time\":1,\"operations\":[" ops "]}"
#define OBJECT(name)                                                           \
	"{\"name\":\"" name "\",\"stored_len\":5,\"len\":5,"                   \
	"\"checksum\":\"0000000000000000\",\"zstd\":false}"
#define SHARD(name, rows)                                                      \
	"{\"op\":\"add_shard\",\"name\":\"" name "\",\"rows\":" rows           \
	",\"vectors\":" OBJECT("v") ",\"records\":" OBJECT(                    \
		"r") ",\"codes\":" OBJECT("c") "}"
#define NAME "00000000000000000041-0123456789abcdef0123456789abcdef"
#define CONFIGURE(dim, metric, dtype, more)                                    \
	"{\"op\":\"configure\",\"dim\":" dim ",\"metric\":\"" metric           \
	"\",\"dtype\":\"" dtype                                                \
	"\",\"rotation_seed\":\"0000000000000001\"" more "}"
#define TREE(object) "{\"op\":\"set_tree\",\"leaves\":3,\"object\":" object "}"

static void the_documented_json_is_read(void)
{
	CU_ASSERT_EQUAL(parse_json(RECORD("")), 0);
	CU_ASSERT_EQUAL(parse_json(RECORD(SHARD(NAME, "1"))), 0);
	CU_ASSERT_EQUAL(parse_json(RECORD(CONFIGURE("2", "dot", "f16", ""))),
			0);
	CU_ASSERT_EQUAL(parse_json(RECORD(TREE(OBJECT("x.vit")))), 0);
}

static void what_this_version_does_not_know_is_refused(void)
{
	static const char *const newer[] = {
		RECORD("{\"op\":\"frobnicate\"}"),
		RECORD("{\"op\":\"\"}"),
		RECORD("{\"op\":\"set_tree\",\"leaves\":3,\"x\":1,"
		       "\"object\":" OBJECT("x") "}"),
		RECORD(CONFIGURE("2", "dot", "f32", ",\"extra\":null")),
		RECORD(CONFIGURE("2", "hamming", "f32", "")),
		RECORD(CONFIGURE("2", "dot", "u8", "")),
		RECORD(CONFIGURE("2", "dot", "f64", "")),
		RECORD(TREE("{\"name\":\"x\",\"stored_len\":5,\"len\":5,"
			    "\"checksum\":\"0000000000000000\",\"zstd\":false,"
			    "\"cipher\":1}")),
		"{\"writer\":\"w\",\"time\":1,\"operations\":[],\"x\":1}",
	};

	for (size_t i = 0; i < VF_N(newer); i++)
		CU_ASSERT_EQUAL(parse_json(newer[i]), -ENOTSUP);
}

static void newer_frames_are_refused(void)
{
	static const struct {
		size_t off;
		uint8_t value;
	} newer[] = {{8, 2}, {8, 0}, {12, 1}, {15, 1}, {88, 1}, {95, 1}};
	VF_AUTO_BUF struct vf_buf b = {0};
	const char *why;

	for (size_t i = 0; i < VF_N(newer); i++) {
		b.len = 0;
		encode(&b);
		b.data[newer[i].off] = newer[i].value;
		fix_checksum(&b);
		CU_ASSERT_EQUAL(parse(b.data, b.len, &why), -ENOTSUP);
		CU_ASSERT_PTR_NOT_NULL(why);
	}
}

static void hostile_lengths_are_refused(void)
{
	static const uint64_t lens[] = {
		0, 1, 7, UINT32_MAX, INT64_MAX, UINT64_MAX, -8ull, -104ull};
	VF_AUTO_BUF struct vf_buf b = {0};
	const char *why;

	for (size_t i = 0; i < VF_N(lens); i++)
		for (size_t off = 72; off <= 80; off += 8) {
			b.len = 0;
			encode(&b);
			uint64_t was = vf_le64(b.data + 72);
			vf_put_le64(b.data + off, lens[i]);
			if (off == 80 && !lens[i])
				continue;
			fix_checksum(&b);
			CU_ASSERT_EQUAL(parse(b.data, b.len, &why), -EBADMSG);
			/* Sums that wrap round to the right length. */
			vf_put_le64(b.data + 72, was - lens[i]);
			vf_put_le64(b.data + 80, lens[i]);
			fix_checksum(&b);
			if (lens[i])
				CU_ASSERT_NOT_EQUAL(parse(b.data, b.len, &why),
						    0);
		}
}

static void malformed_json_is_refused(void)
{
	static const char *const bad[] = {
		"",
		"[]",
		"null",
		"{",
		"{}",
		"{\"writer\":\"w\",\"time\":1}",
		"{\"writer\":1,\"time\":1,\"operations\":[]}",
		"{\"writer\":\"w\",\"time\":-1,\"operations\":[]}",
		"{\"writer\":\"w\",\"time\":1.5,\"operations\":[]}",
		"{\"writer\":\"w\",\"time\":1,\"operations\":{}}",
		"{\"writer\":\"w\",\"writer\":\"w\",\"time\":1,"
		"\"operations\":[]}",
		RECORD("1"),
		RECORD("[]"),
		RECORD("{}"),
		RECORD("null,null"),
		RECORD("{\"op\":7}"),
		RECORD("{\"op\":\"configure\"}"),
		RECORD("{\"op\":\"add_shard\"}"),
		RECORD("{\"op\":\"set_tree\"}"),
		RECORD(TREE("7")),
		RECORD(TREE("{}")),
		RECORD("") " x",
		"{\"writer\":\"\\u0000\",\"time\":1,\"operations\":[]}",
		"{\"writer\":\"0123456789012345678901234567890123456789"
		"012345678901234567890123456789\",\"time\":1,"
		"\"operations\":[]}",
	};

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(parse_json(bad[i]), -EBADMSG);
}

static void numbers_out_of_range_are_refused(void)
{
	static const char *const bad[] = {
		RECORD(CONFIGURE("1", "dot", "f32", "")),
		RECORD(CONFIGURE("4097", "dot", "f32", "")),
		RECORD(CONFIGURE("4294967298", "dot", "f32", "")),
		RECORD(CONFIGURE("-2", "dot", "f32", "")),
		RECORD(CONFIGURE("\"2\"", "dot", "f32", "")),
		RECORD(SHARD(NAME, "0")),
		RECORD(SHARD(NAME, "262145")),
		RECORD(SHARD(NAME, "-1")),
		RECORD(SHARD(NAME, "99999999999999999999")),
		/* a plain object is as long as it is stored */
		RECORD(TREE("{\"name\":\"x\",\"stored_len\":5,\"len\":6,"
			    "\"checksum\":\"0000000000000000\","
			    "\"zstd\":false}")),
		RECORD(TREE("{\"name\":\"x\",\"stored_len\":5,\"len\":5,"
			    "\"checksum\":\"000000000000000\","
			    "\"zstd\":false}")),
		RECORD(TREE("{\"name\":\"x\",\"stored_len\":5,\"len\":5,"
			    "\"checksum\":\"000000000000000g\","
			    "\"zstd\":false}")),
		RECORD(TREE("{\"name\":\"x\",\"stored_len\":5,\"len\":5,"
			    "\"checksum\":\"0000000000000000\","
			    "\"zstd\":0}")),
	};

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(parse_json(bad[i]), -EBADMSG);
}

/* They become paths. */
static void names_that_lead_elsewhere_are_refused(void)
{
	static const char *const bad[] = {
		RECORD(TREE(OBJECT(""))),
		RECORD(TREE(OBJECT(".."))),
		RECORD(TREE(OBJECT(".hidden"))),
		RECORD(TREE(OBJECT("a/b"))),
		RECORD(TREE(OBJECT("../x"))),
		RECORD(TREE(OBJECT("/x"))),
		RECORD(TREE(OBJECT("A"))),
		RECORD(TREE(OBJECT("a b"))),
		RECORD(TREE(OBJECT("a\\n"))),
		RECORD(TREE(OBJECT("a\\u001b"))),
		RECORD(TREE(OBJECT("\xc3\xa4"))),
		RECORD(SHARD("../../etc", "1")),
		RECORD(SHARD("", "1")),
		RECORD(SHARD("0000000000000000004100123456789abcdef0123456789"
			     "abcdef",
			     "1")),
		RECORD(SHARD("00000000000000000041-0123456789ABCDEF0123456789"
			     "ABCDEF",
			     "1")),
		RECORD(SHARD("00000000000000000041-0123456789abcdef0123456789"
			     "abcde/",
			     "1")),
	};

	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(parse_json(bad[i]), -EBADMSG);
}

/* Brackets without end must exhaust neither the stack nor the memory. */
static void deep_and_wide_json_is_refused(void)
{
	enum { LEN = 4 << 20 };
	VF_AUTO_FREE char *json = malloc(LEN);
	VF_AUTO_BUF struct vf_buf b = {0};
	static const char head[] =
		"{\"writer\":\"w\",\"time\":1,\"operations\":[";
	const char *why;

	memset(json, '[', LEN);
	frame(json, LEN, &b);
	CU_ASSERT_EQUAL(parse(b.data, b.len, &why), -EBADMSG);
	memcpy(json, head, sizeof(head) - 1);
	for (size_t i = sizeof(head) - 1; i < LEN; i += 2)
		memcpy(json + i, "1,", VF_MIN((size_t)2, LEN - i));
	json[LEN - 3] = '1';
	json[LEN - 2] = ']';
	json[LEN - 1] = '}';
	frame(json, LEN, &b);
	CU_ASSERT_EQUAL(parse(b.data, b.len, &why), -EBADMSG);
}

/* ---- names ------------------------------------------------------------------------ */

static void index_names_follow_their_pattern(void)
{
	static const char *const good[] = {"a", "0", "products", "a.b_c-d",
					   "z9"};
	static const char *const bad[] = {"",	    ".",    "..",  ".a",
					  "_vecfs", "-a",   "A",   "aB",
					  "a/b",    "a ",   "a\n", "\xc3\xa4",
					  "a\x7f",  "a\\",  "a%",  "a\x1b[",
					  "a:b",    "a\"b", "*"};
	char name[65];

	for (size_t i = 0; i < VF_N(good); i++)
		CU_ASSERT(vf_index_name_ok(good[i]));
	for (size_t i = 0; i < VF_N(bad); i++) {
		CU_ASSERT_FALSE(vf_index_name_ok(bad[i]));
		CU_ASSERT_FALSE(vf_object_name_ok(bad[i]));
	}
	memset(name, 'a', 64);
	name[63] = name[64] = '\0';
	CU_ASSERT(vf_index_name_ok(name));
	name[63] = 'a';
	CU_ASSERT_FALSE(vf_index_name_ok(name));
}

static void shard_names_follow_their_pattern(void)
{
	char name[64];

	CU_ASSERT(vf_shard_name_ok(shard_name));
	CU_ASSERT_FALSE(vf_shard_name_ok(""));
	for (size_t i = 0; i < VF_SHARD_NAME_LEN; i++) {
		strcpy(name, shard_name);
		name[i] = '/';
		CU_ASSERT_FALSE(vf_shard_name_ok(name));
		name[i] = 'g';
		CU_ASSERT_FALSE(vf_shard_name_ok(name));
		name[i] = '\0';
		CU_ASSERT_FALSE(vf_shard_name_ok(name));
	}
	snprintf(name, sizeof(name), "%s0", shard_name);
	CU_ASSERT_FALSE(vf_shard_name_ok(name));
}

/* ---- identity ------------------------------------------------------------------------ */

static void identity_comes_back(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	uint8_t uuid[16], again[16];

	vf_random(uuid, sizeof(uuid));
	CU_ASSERT_EQUAL(vf_identity_encode(uuid, &b), 0);
	CU_ASSERT_EQUAL(vf_identity_parse(b.data, b.len, again), 0);
	CU_ASSERT(!memcmp(uuid, again, 16));
	CU_ASSERT_EQUAL(b.data[b.len - 1], '\n');
}

static void damaged_identities_are_refused(void)
{
	static const uint8_t flips[] = {1, 2, 0x20, 0x80};
	VF_AUTO_BUF struct vf_buf b = {0};
	uint8_t uuid[16] = {1, 2, 3}, out[16];

	vf_identity_encode(uuid, &b);
	for (size_t i = 0; i < b.len * VF_N(flips); i++) {
		b.data[i / 4] ^= flips[i % 4];
		int err = vf_identity_parse(b.data, b.len, out);
		if (err != -EBADMSG && err != -ENOTSUP)
			CU_FAIL("a damaged identity was read");
		b.data[i / 4] ^= flips[i % 4];
	}
	for (size_t n = 0; n < b.len; n++) {
		VF_AUTO_FREE uint8_t *part = malloc(n + 1);
		memcpy(part, b.data, n);
		if (vf_identity_parse(part, n, out) != -EBADMSG)
			CU_FAIL("a part of an identity was read");
	}
	vf_buf_append(&b, "\n", 1);
	CU_ASSERT_EQUAL(vf_identity_parse(b.data, b.len, out), -EBADMSG);
}

static void newer_identities_say_so(void)
{
	static const char newer[] = "{\"format\":2,\"anything\":[]}";
	static const char *const bad[] = {"{}",
					  "[]",
					  "null",
					  "",
					  "{\"format\":1,\"uuid\":7}",
					  "{\"format\":\"2\"}"};
	uint8_t out[16];

	CU_ASSERT_EQUAL(vf_identity_parse(newer, strlen(newer), out), -ENOTSUP);
	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(vf_identity_parse(bad[i], strlen(bad[i]), out),
				-EBADMSG);
}

static CU_TestInfo tests[] = {
	{"a record is appended behind what is there",
	 a_record_is_appended_behind_what_is_there},
	{"a record without operations is one",
	 a_record_without_operations_is_one},
	{"records over the limit are not written",
	 records_over_the_limit_are_not_written},
	{"every flipped byte is refused", every_flipped_byte_is_refused},
	{"every cut is refused", every_cut_is_refused},
	{"the documented JSON is read", the_documented_json_is_read},
	{"what this version does not know is refused",
	 what_this_version_does_not_know_is_refused},
	{"newer frames are refused", newer_frames_are_refused},
	{"hostile lengths are refused", hostile_lengths_are_refused},
	{"malformed JSON is refused", malformed_json_is_refused},
	{"numbers out of range are refused", numbers_out_of_range_are_refused},
	{"names that lead elsewhere are refused",
	 names_that_lead_elsewhere_are_refused},
	{"deep and wide JSON is refused", deep_and_wide_json_is_refused},
	{"index names follow their pattern", index_names_follow_their_pattern},
	{"shard names follow their pattern", shard_names_follow_their_pattern},
	{"identity comes back", identity_comes_back},
	{"damaged identities are refused", damaged_identities_are_refused},
	{"newer identities say so", newer_identities_say_so},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/log", tests);
