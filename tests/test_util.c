/*
 * The small things everything else leans on.
 */
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>

/* ---- CRC32C ------------------------------------------------------------- */

/* RFC 3720, appendix B.4. */
static void crc32c_is_that_of_rfc_3720(void)
{
	uint8_t b[32];
	/* An iSCSI SCSI Read (10) command PDU. */
	static const uint8_t read10[48] = {
		[0] = 0x01,  [1] = 0xc0,  [16] = 0x14, [22] = 0x04,
		[27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};

	memset(b, 0, sizeof(b));
	CU_ASSERT_EQUAL(vf_crc32c(0, b, 32), 0x8a9136aau);
	memset(b, 0xff, sizeof(b));
	CU_ASSERT_EQUAL(vf_crc32c(0, b, 32), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t)i;
	CU_ASSERT_EQUAL(vf_crc32c(0, b, 32), 0x46dd794eu);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t)(31 - i);
	CU_ASSERT_EQUAL(vf_crc32c(0, b, 32), 0x113fdb5cu);
	CU_ASSERT_EQUAL(vf_crc32c(0, read10, sizeof(read10)), 0xd9963a56u);
	CU_ASSERT_EQUAL(vf_crc32c(0, "123456789", 9), 0xe3069283u);
	CU_ASSERT_EQUAL(vf_crc32c(0, NULL, 0), 0);
}

/* The polynomial by the book, one bit at a time. */
static uint32_t crc32c_slow(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (; len; len--, p++) {
		crc ^= *p;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void crc32c_of_each_piece(void)
{
	uint8_t b[9 * 64 + 5];
	uint32_t out[10];

	vf_random(b, sizeof(b));
	for (size_t len = 0; len <= sizeof(b); len += 7) {
		memset(out, 0, sizeof(out));
		vf_crc32c_each(b, len, 64, out);
		for (size_t at = 0, i = 0; at < len; at += 64, i++)
			CU_ASSERT_EQUAL(out[i],
					crc32c_slow(b + at,
						    VF_MIN(len - at, 64ul)));
	}
}

static void crc32c_of_any_length_and_alignment(void)
{
	uint8_t b[128];
	uint64_t seed = 1;

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)vf_test_rand(&seed);
	for (size_t off = 0; off < 9; off++)
		for (size_t len = 0; off + len <= sizeof(b); len++)
			if (vf_crc32c(0, b + off, len) !=
			    crc32c_slow(b + off, len))
				CU_FAIL("differs from the polynomial");
}

static void crc32c_in_pieces_is_that_of_the_whole(void)
{
	uint8_t b[100];
	uint64_t seed = 2;

	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = (uint8_t)vf_test_rand(&seed);
	for (size_t cut = 0; cut <= sizeof(b); cut++) {
		uint32_t crc = vf_crc32c(0, b, cut);
		CU_ASSERT_EQUAL(vf_crc32c(crc, b + cut, sizeof(b) - cut),
				vf_crc32c(0, b, sizeof(b)));
	}
}

/* ---- buffer ---------------------------------------------------------------- */

static void buffer_grows_and_keeps_its_bytes(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	for (uint32_t i = 0; i < 50000; i++)
		if (vf_buf_append(&b, &i, sizeof(i)))
			CU_FAIL("no memory");
	CU_ASSERT_EQUAL(b.len, 200000);
	CU_ASSERT(b.cap >= b.len);
	for (uint32_t i = 0; i < 50000; i++)
		if (vf_le32(b.data + (size_t)4 * i) != i)
			CU_FAIL("a byte was lost");
}

static void buffer_appends_zeros_and_nothing(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT_EQUAL(vf_buf_append(&b, "x", 0), 0);
	CU_ASSERT_EQUAL(vf_buf_append(&b, NULL, 0), 0);
	CU_ASSERT_EQUAL(b.len, 0);
	CU_ASSERT_EQUAL(vf_buf_append(&b, "x", 1), 0);
	CU_ASSERT_EQUAL(vf_buf_append(&b, NULL, 1000), 0);
	CU_ASSERT_EQUAL(b.len, 1001);
	for (size_t i = 1; i < b.len; i++)
		if (b.data[i])
			CU_FAIL("not zero");
}

static void buffer_prints_at_its_end(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	for (int i = 0; i < 1000; i++)
		CU_ASSERT_EQUAL(vf_buf_printf(&b, "%d,", i), 0);
	CU_ASSERT_EQUAL(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	CU_ASSERT(!memcmp(b.data + b.len - 8, "998,999,", 8));
}

static void buffer_refuses_more_than_memory(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	CU_ASSERT_EQUAL(vf_buf_append(&b, "abc", 3), 0);
	CU_ASSERT_EQUAL(vf_buf_reserve(&b, SIZE_MAX), -ENOMEM);
	CU_ASSERT_EQUAL(vf_buf_reserve(&b, SIZE_MAX - 2), -ENOMEM);
	CU_ASSERT_EQUAL(b.len, 3);
	CU_ASSERT(!memcmp(b.data, "abc", 3));
}

/* ---- text --------------------------------------------------------------------- */

static void hex_there_and_back(void)
{
	uint8_t b[256], again[256];
	char s[513];

	for (int i = 0; i < 256; i++)
		b[i] = (uint8_t)i;
	vf_hex(b, sizeof(b), s);
	CU_ASSERT_EQUAL(strlen(s), 512);
	CU_ASSERT(!strncmp(s, "000102030405060708090a0b0c0d0e0f10", 34));
	CU_ASSERT_EQUAL(vf_unhex(s, again, sizeof(again)), 0);
	CU_ASSERT(!memcmp(b, again, sizeof(b)));
}

static void hex_of_another_length_or_alphabet_is_refused(void)
{
	static const char *const bad[] = {"",	   "0",	     "00",
					  "00112", "001122", "0g11",
					  "00 1",  "0x11",   "-011"};
	uint8_t b[2];

	CU_ASSERT_EQUAL(vf_unhex("00ff", b, 2), 0);
	CU_ASSERT(b[0] == 0 && b[1] == 255);
	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(vf_unhex(bad[i], b, 2), -EINVAL);
}

static void sizes_have_units_of_1024(void)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {{"0", 0},
		    {"17", 17},
		    {"3k", 3072},
		    {"3K", 3072},
		    {"2M", 2 << 20},
		    {"1G", 1 << 30},
		    {"2T", UINT64_C(2) << 40},
		    {"18446744073709551615", UINT64_MAX}};
	static const char *const bad[] = {"",
					  "G",
					  "-1",
					  "+1",
					  " 1",
					  "1 ",
					  "1GB",
					  "1.5G",
					  "0x1",
					  "17P",
					  "18446744073709551616",
					  "18446744073709551615K",
					  "16777216T"};
	uint64_t v;

	for (size_t i = 0; i < VF_N(good); i++) {
		CU_ASSERT_EQUAL(vf_parse_size(good[i].text, &v), 0);
		CU_ASSERT_EQUAL(v, good[i].size);
	}
	for (size_t i = 0; i < VF_N(bad); i++)
		CU_ASSERT_EQUAL(vf_parse_size(bad[i], &v), -EINVAL);
}

static void names_of_types_parse_back(void)
{
	enum vf_metric m;
	enum vf_dtype t;

	for (int i = VF_COSINE; i <= VF_DOT; i++) {
		CU_ASSERT_EQUAL(vf_metric_parse(vf_metric_name(i), &m), 0);
		CU_ASSERT_EQUAL((int)m, i);
	}
	for (int i = VF_F32; i <= VF_U8; i++) {
		CU_ASSERT_EQUAL(vf_dtype_parse(vf_dtype_name(i), &t), 0);
		CU_ASSERT_EQUAL((int)t, i);
	}
	CU_ASSERT_EQUAL(vf_metric_parse("", &m), -EINVAL);
	CU_ASSERT_EQUAL(vf_dtype_parse("f64", &t), -EINVAL);
	CU_ASSERT_EQUAL(vf_dtype_size(0), 0);
	CU_ASSERT_EQUAL(vf_dtype_size(4), 0);
	CU_ASSERT_STRING_EQUAL(vf_dtype_name(9), "?");
	CU_ASSERT_STRING_EQUAL(vf_metric_name(0), "?");
}

/* ---- messages -------------------------------------------------------------------- */

static char seen[8192];
static unsigned n_seen;

static void keep_line(void *arg, enum vf_level level, const char *line)
{
	snprintf(seen, sizeof(seen), "%s", line);
	n_seen++;
}

static void listen_on(void)
{
	vf_log_set(keep_line, NULL, VF_WARN);
	n_seen = 0;
}

static void the_level_can_change_at_any_time(void)
{
	enum vf_level level;

	listen_on();
	vf_log(VF_INFO, "not yet");
	CU_ASSERT_EQUAL(n_seen, 0);
	CU_ASSERT_EQUAL(vf_level_parse("debug", &level), 0);
	vf_log_limit(level);
	vf_log(VF_DEBUG, "now");
	CU_ASSERT_EQUAL(n_seen, 1);
	CU_ASSERT_STRING_EQUAL(vf_level_name(vf_log_level()), "debug");
	CU_ASSERT_EQUAL(vf_level_parse("error", &level), 0);
	vf_log_limit(level);
	vf_log(VF_WARN, "no more");
	vf_test_log_reset();
	CU_ASSERT_EQUAL(n_seen, 1);
	CU_ASSERT_EQUAL(vf_level_parse("loud", &level), -EINVAL);
	CU_ASSERT_EQUAL(vf_level_parse("", &level), -EINVAL);
}

static void messages_escape_control_bytes(void)
{
	listen_on();
	vf_log(VF_ERROR, "%s",
	       "a\x1b[31mred\r\n\t\x7f"
	       "b\xc3\xa4");
	vf_test_log_reset();
	CU_ASSERT_STRING_EQUAL(seen, "a\\x1b[31mred\\x0d\\x0a\\x09\\x7f"
				     "b\xc3\xa4");
}

static void messages_of_any_length_fit(void)
{
	char text[5000];

	memset(text, 1, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	listen_on();
	vf_log(VF_ERROR, "%s", text);
	vf_test_log_reset();
	CU_ASSERT_EQUAL(n_seen, 1);
	CU_ASSERT_EQUAL(strspn(seen, "\\x01"), strlen(seen));
	CU_ASSERT_EQUAL(strlen(seen) % 4, 0);
}

static void failures_are_logged_and_passed_on(void)
{
	listen_on();
	CU_ASSERT_EQUAL(vf_fail(-EBADMSG, "%s: row %d", "f", 7), -EBADMSG);
	CU_ASSERT_EQUAL(n_seen, 1);
	CU_ASSERT_STRING_EQUAL(seen, "f: row 7");
	vf_log(VF_INFO, "beneath the level asked for");
	CU_ASSERT_EQUAL(n_seen, 1);
	vf_test_log_reset();
}

static void every_error_of_ours_has_words(void)
{
	static const int ours[] = {ENOENT, EEXIST, EBADMSG,    ENOTSUP,
				   ESTALE, EINVAL, EREMOTEIO,  ECANCELED,
				   EACCES, ENOSPC, EINPROGRESS};

	for (size_t i = 0; i < VF_N(ours); i++) {
		CU_ASSERT(strlen(vf_strerror(-ours[i])) > 3);
		CU_ASSERT_STRING_EQUAL(vf_strerror(-ours[i]),
				       vf_strerror(ours[i]));
	}
}

/* ---- files --------------------------------------------------------------------------- */

static void reading_past_the_end_of_a_file_says_so(void)
{
	char path[256], b[10];

	snprintf(path, sizeof(path), "%s/f", vf_test_dir());
	VF_AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(vf_write_all(fd, "0123456789", 10), 0);
	CU_ASSERT_EQUAL(vf_pread_all(fd, b, 10, 0), 0);
	CU_ASSERT(!memcmp(b, "0123456789", 10));
	CU_ASSERT_EQUAL(vf_pread_all(fd, b, 4, 6), 0);
	CU_ASSERT(!memcmp(b, "6789", 4));
	CU_ASSERT_EQUAL(vf_pread_all(fd, b, 5, 6), -ENODATA);
	CU_ASSERT_EQUAL(vf_pread_all(fd, b, 1, 10), -ENODATA);
	CU_ASSERT_EQUAL(vf_pread_all(fd, b, 0, 10), 0);
	CU_ASSERT_EQUAL(vf_pread_all(-1, b, 1, 0), -EBADF);
	CU_ASSERT_EQUAL(vf_write_all(-1, b, 1), -EBADF);
}

static void large_writes_arrive_whole(void)
{
	VF_AUTO_FREE uint8_t *big = calloc(1, 1 << 20);
	char path[256];

	CU_ASSERT_FATAL(big != NULL);
	snprintf(path, sizeof(path), "%s/big", vf_test_dir());
	VF_AUTO_FD int fd = open(path, O_RDWR | O_CREAT, 0600);
	big[(1 << 20) - 1] = 42;
	CU_ASSERT_EQUAL(vf_write_all(fd, big, 1 << 20), 0);
	big[(1 << 20) - 1] = 0;
	CU_ASSERT_EQUAL(vf_pread_all(fd, big, 1 << 20, 0), 0);
	CU_ASSERT_EQUAL(big[(1 << 20) - 1], 42);
}

static void little_endian_at_any_address(void)
{
	uint8_t b[9] = {0};

	vf_put_le64(b + 1, UINT64_C(0x0807060504030201));
	for (int i = 0; i < 9; i++)
		CU_ASSERT_EQUAL(b[i], i);
	CU_ASSERT_EQUAL(vf_le16(b + 1), 0x0201);
	CU_ASSERT_EQUAL(vf_le32(b + 3), 0x06050403);
	CU_ASSERT_EQUAL(vf_le64(b + 1), UINT64_C(0x0807060504030201));
}

static CU_TestInfo tests[] = {
	{"crc32c is that of RFC 3720", crc32c_is_that_of_rfc_3720},
	{"crc32c of any length and alignment",
	 crc32c_of_any_length_and_alignment},
	{"CRC32C of each piece", crc32c_of_each_piece},
	{"crc32c in pieces is that of the whole",
	 crc32c_in_pieces_is_that_of_the_whole},
	{"buffer grows and keeps its bytes", buffer_grows_and_keeps_its_bytes},
	{"buffer appends zeros and nothing", buffer_appends_zeros_and_nothing},
	{"buffer prints at its end", buffer_prints_at_its_end},
	{"buffer refuses more than memory", buffer_refuses_more_than_memory},
	{"hex there and back", hex_there_and_back},
	{"hex of another length or alphabet is refused",
	 hex_of_another_length_or_alphabet_is_refused},
	{"sizes have units of 1024", sizes_have_units_of_1024},
	{"names of types parse back", names_of_types_parse_back},
	{"the level can change at any time", the_level_can_change_at_any_time},
	{"messages escape control bytes", messages_escape_control_bytes},
	{"messages of any length fit", messages_of_any_length_fit},
	{"failures are logged and passed on",
	 failures_are_logged_and_passed_on},
	{"every error of ours has words", every_error_of_ours_has_words},
	{"reading past the end of a file says so",
	 reading_past_the_end_of_a_file_says_so},
	{"large writes arrive whole", large_writes_arrive_whole},
	{"little-endian at any address", little_endian_at_any_address},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/util", tests);
