/* The list of what was hot: round trips, and every damage refused. */
#include "store/hotset.h"
#include "tests/test.h"

static struct vf_hot_range ranges[] = {{0, 3}, {5, 1}, {9, 2}};

static void encode(struct vf_buf *b)
{
	struct vf_hot_object o = {.key = (char *)"a/vectors.npy",
				  .etag = "\"123\"",
				  .size = 11 * 65536 - 5,
				  .ranges = ranges,
				  .n_ranges = 3};

	CU_ASSERT_EQUAL(vf_hotset_begin(b, 65536), 0);
	CU_ASSERT_EQUAL(vf_hotset_add(b, &o), 0);
	o.key = (char *)"b";
	o.etag[0] = '\0';
	o.n_ranges = 1;
	CU_ASSERT_EQUAL(vf_hotset_add(b, &o), 0);
	CU_ASSERT_EQUAL(vf_hotset_end(b), 0);
}

static void what_was_written_is_read(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hotset s;

	encode(&b);
	CU_ASSERT_EQUAL_FATAL(vf_hotset_parse(b.data, b.len, &s), 0);
	CU_ASSERT_EQUAL(s.block_len, 65536);
	CU_ASSERT_EQUAL_FATAL(s.n, 2);
	CU_ASSERT_STRING_EQUAL(s.all[0].key, "a/vectors.npy");
	CU_ASSERT_STRING_EQUAL(s.all[0].etag, "\"123\"");
	CU_ASSERT_EQUAL(s.all[0].size, 11 * 65536 - 5);
	CU_ASSERT_EQUAL_FATAL(s.all[0].n_ranges, 3);
	CU_ASSERT(!memcmp(s.all[0].ranges, ranges, sizeof(ranges)));
	CU_ASSERT_STRING_EQUAL(s.all[1].key, "b");
	CU_ASSERT_STRING_EQUAL(s.all[1].etag, "");
	vf_hotset_fini(&s);
	vf_hotset_fini(&s);
}

static void none_is_a_list_too(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hotset s;

	CU_ASSERT_EQUAL(vf_hotset_begin(&b, 4096), 0);
	CU_ASSERT_EQUAL(vf_hotset_end(&b), 0);
	CU_ASSERT_EQUAL(vf_hotset_parse(b.data, b.len, &s), 0);
	CU_ASSERT_EQUAL(s.n, 0);
	vf_hotset_fini(&s);
}

static void damage_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hotset s;

	encode(&b);
	for (size_t i = 0; i < b.len; i++) {
		int err;
		b.data[i] ^= 0x41;
		err = vf_hotset_parse(b.data, b.len, &s);
		CU_ASSERT(err == -EBADMSG || (err == -ENOTSUP && i / 4 == 2));
		CU_ASSERT(!s.all && !s.n);
		b.data[i] ^= 0x41;
		CU_ASSERT_EQUAL(vf_hotset_parse(b.data, i, &s), -EBADMSG);
	}
}

/* With a right checksum: byte @at becomes @value. */
static int parse_with(size_t at, uint8_t value)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hotset s;
	int err;

	encode(&b);
	b.data[at] = value;
	vf_put_le32(b.data + b.len - 4, vf_crc32c(0, b.data, b.len - 4));
	err = vf_hotset_parse(b.data, b.len, &s);
	vf_hotset_fini(&s);
	return err;
}

static void hostile_numbers_are_refused(void)
{
	enum { OBJECT = 24, RANGES = OBJECT + 16 + 13 + 5 };
	const size_t bad[][2] = {
		{16, 3},	   /* objects that are not there */
		{19, 255},	   /* very many */
		{20, 0},	   /* another length */
		{15, 255},	   /* blocks beyond all measure */
		{OBJECT, 0},	   /* no key */
		{OBJECT + 1, 255}, /* a long one */
		{OBJECT + 2, 255}, /* a long ETag */
		{OBJECT + 4, 0},   /* no ranges */
		{OBJECT + 7, 255}, /* very many */
		{OBJECT + 10, 0},  /* an object shorter than they are */
		{OBJECT + 16, 0},  /* NUL in the key */
		{RANGES + 4, 0},   /* an empty range */
		{RANGES + 4, 6},   /* into the next */
		{RANGES + 20, 3},  /* past the end */
		{RANGES + 23, 255},
	};

	CU_ASSERT_EQUAL(parse_with(RANGES + 4, 3), 0);
	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(parse_with(bad[i][0], (uint8_t)bad[i][1]),
				-EBADMSG);
}

static void it_has_a_largest_size(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_hot_object o = {.key = (char *)"key",
				  .size = UINT64_C(1) << 40,
				  .ranges = ranges,
				  .n_ranges = 3};
	struct vf_hotset s;

	CU_ASSERT_EQUAL(vf_hotset_begin(&b, 65536), 0);
	for (unsigned i = 0; i < 40000; i++)
		CU_ASSERT_EQUAL(vf_hotset_add(&b, &o), 0);
	CU_ASSERT_EQUAL(vf_hotset_end(&b), 0);
	CU_ASSERT(b.len <= VF_HOTSET_MAX);
	CU_ASSERT_EQUAL(vf_hotset_parse(b.data, b.len, &s), 0);
	CU_ASSERT(s.n > 20000 && s.n < 40000);
	vf_hotset_fini(&s);
	o.n_ranges = 0;
	CU_ASSERT_EQUAL(vf_hotset_add(&b, &o), -EINVAL);
}

static CU_TestInfo tests[] = {
	{"what was written is read", what_was_written_is_read},
	{"none is a list too", none_is_a_list_too},
	{"damage is refused", damage_is_refused},
	{"hostile numbers are refused", hostile_numbers_are_refused},
	{"it has a largest size", it_has_a_largest_size},
	CU_TEST_INFO_NULL};

VF_SUITE("store/hotset", tests);
