/*
 * The format codes.vix: what we write is read, what somebody else made of it
 * is refused or harmless.
 */
#include "index/codes.h"
#include "tests/old_codes.h"
#include "tests/test.h"

#include <math.h>

enum {
	DIM = 50,
	ROWS = 20,
	ENTRY = VF_CODES_SECTION_LEN,
	CRC_OFF = 124,
	N_WRITTEN = 6,
};

static struct vf_encoder *make_encoder(void)
{
	struct vf_code_params params = {DIM, VF_EUCLIDEAN, 7, 1};
	float centroid[DIM] = {0};
	struct vf_encoder *e;

	if (vf_encoder_new(&params, centroid, &e))
		abort();
	return e;
}

/* A file of ROWS rows; the caller's to free(). */
static uint8_t *make_file(size_t *out_len)
{
	struct vf_encoder *e = make_encoder();
	struct vf_builder_row rows[ROWS];
	struct vf_factors factors[ROWS];
	uint8_t codes[ROWS * 32];
	struct vf_buf file = {0};
	struct vf_builder *b;
	float x[ROWS * DIM];
	uint64_t seed = 3;

	for (size_t i = 0; i < VF_N(x); i++)
		x[i] = vf_test_normal(&seed);
	for (uint32_t i = 0; i < ROWS; i++)
		rows[i] = (struct vf_builder_row){i * 77, 10 + i, i, i + 1};
	if (vf_encoder_rows(e, x, ROWS, codes, factors) ||
	    vf_builder_new(e, VF_F32, &b) ||
	    vf_builder_add(b, codes, factors, rows, ROWS) ||
	    vf_builder_finish(b, &file))
		abort();
	vf_builder_free(b);
	vf_encoder_free(e);
	*out_len = file.len;
	return file.data;
}

/* Validate a copy of exactly @len bytes, so that a step too far is seen. */
static int validate(const uint8_t *p, size_t len)
{
	VF_AUTO_FREE uint8_t *copy = malloc(len ? len : 1);
	const char *reason = "-";
	struct vf_codes c;
	int err;

	memcpy(copy, p, len);
	err = vf_codes_validate(copy, len, &c, &reason);
	CU_ASSERT(err ? reason && *reason : !reason);
	return err;
}

/* ---- making damage that checksums do not see ------------------------------------- */

/* Entry of a section, or behind the last when it has none. */
static uint8_t *entry(uint8_t *p, enum vf_section s)
{
	uint8_t *e = p + VF_CODES_HEADER_LEN;

	for (uint32_t i = 0; i < vf_le32(p + 64); i++, e += ENTRY)
		if (vf_le32(e) == (uint32_t)s + 1)
			break;
	return e;
}

/* Of the one leaf, by which all rows lie. */
static uint8_t *section(uint8_t *p, enum vf_section s)
{
	struct vf_codes c = {.by_leaf = true,
			     .padded = 256,
			     .bits = 1,
			     .n_rows = ROWS,
			     .n_leaves = 1};
	const struct vf_leaf_disk leaf = {.n_rows = ROWS};
	struct vf_piece piece = {s, 0, 0};

	if (vf_codes_is_by_leaf(s))
		piece = vf_codes_piece(&c, &leaf, 0, s);
	return p + vf_le64(entry(p, piece.section) + 8) + piece.off;
}

static void mend_header(uint8_t *p, size_t len)
{
	uint32_t n = vf_le32(p + 12);

	if (n < VF_CODES_HEADER_LEN || n > len)
		return;
	vf_put_le32(p + CRC_OFF, 0);
	vf_put_le32(p + CRC_OFF, vf_crc32c(0, p, n));
}

/* All checksums but those of leaves. */
static void mend_sections(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < N_WRITTEN; i++) {
		uint8_t *e = p + VF_CODES_HEADER_LEN + i * ENTRY;
		uint64_t off = vf_le64(e + 8), n = vf_le64(e + 16);
		if (off <= len && n <= len - off)
			vf_put_le32(e + 24, vf_crc32c(0, p + off, n));
	}
	mend_header(p, len);
}

static void mend_leaf(uint8_t *p)
{
	const uint8_t *codes = section(p, VF_SEC_CODES);

	vf_put_le32(section(p, VF_SEC_LEAVES) + 16,
		    vf_crc32c(0, codes, ROWS * 32));
}

/* ---- tests ------------------------------------------------------------------------ */

static void what_is_written_is_read(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	const char *reason;
	struct vf_codes c;

	CU_ASSERT_EQUAL_FATAL(vf_codes_validate(p, len, &c, &reason), 0);
	CU_ASSERT(c.dim == DIM && c.padded == 256 && c.bits == 1);
	CU_ASSERT(c.n_rows == ROWS && c.n_leaves == 1);
	CU_ASSERT(c.metric == VF_EUCLIDEAN && c.dtype == VF_F32);
	CU_ASSERT_EQUAL(c.rotation_seed, 7);
	const uint64_t *off = vf_codes_leaf(&c, 0, VF_SEC_LINE_OFFS);
	CU_ASSERT(off[0] == 0 && off[1] == 10 && off[2] == 21);
}

/* Files of today are read by the programs of tomorrow. */
static void the_layout_is_the_one_of_version_2(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);

	CU_ASSERT(!memcmp(p, "VFCODES1", 8));
	CU_ASSERT_EQUAL(vf_le32(p + 8), 2);
	CU_ASSERT_EQUAL(vf_le32(p + 12), 128 + 6 * 32);
	CU_ASSERT_EQUAL(vf_le64(p + 16), len);
	CU_ASSERT_EQUAL(vf_le64(p + 24), ROWS);
	CU_ASSERT(vf_le32(p + 32) == DIM && vf_le32(p + 36) == 256);
	CU_ASSERT_EQUAL(vf_le32(p + 64), 6);
	for (uint32_t s = 0; s < 6; s++) {
		/* What tells where the rest is comes first. */
		static const uint32_t types[] = {1, 2, 3, 13, 14, 6};
		CU_ASSERT_EQUAL(vf_le32(p + 128 + s * 32), types[s]);
		CU_ASSERT_EQUAL(vf_le64(p + 128 + s * 32 + 8) % 64, 0);
	}
}

static void refuse_every_bit(uint8_t *p, size_t len)
{
	const char *reason;
	struct vf_codes c;

	for (size_t i = 0; i < len * 8; i++) {
		p[i / 8] ^= (uint8_t)(1 << i % 8);
		int err = vf_codes_validate(p, len, &c, &reason);
		CU_ASSERT(err == -EBADMSG || err == -ENOTSUP);
		/* Only a version says that we are too old. */
		CU_ASSERT(err == -EBADMSG || (i / 8 >= 8 && i / 8 < 12));
		p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	CU_ASSERT_EQUAL(validate(p, len), 0);
}

static void every_flipped_bit_is_refused(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);

	refuse_every_bit(p, len);
}

static void files_of_version_1_are_read(void)
{
	VF_AUTO_BUF struct vf_buf old = {0}, again = {0};
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	const char *reason;
	struct vf_codes c;

	old_codes(p, len, &old);
	refuse_every_bit(old.data, old.len);
	CU_ASSERT_EQUAL_FATAL(vf_codes_validate(old.data, old.len, &c, &reason),
			      0);
	CU_ASSERT(!c.by_leaf && c.n_rows == ROWS && c.n_leaves == 1);
	CU_ASSERT_EQUAL(vf_codes_encode(&c, &again), 0);
	CU_ASSERT(again.len == len && !memcmp(again.data, p, len));
}

static void every_other_length_is_refused(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);

	for (size_t n = 0; n < len; n++)
		CU_ASSERT_EQUAL(validate(p, n), -EBADMSG);
	p = realloc(p, len + 64);
	memset(p + len, 0, 64);
	CU_ASSERT_EQUAL(validate(p, len + 1), -EBADMSG);
	vf_put_le64(p + 16, len + 64);
	mend_header(p, len + 64);
	CU_ASSERT_EQUAL(validate(p, len + 64), -EBADMSG);
}

static void what_is_newer_is_said_to_be_newer(void)
{
	/* Version, metric, element type, bits, reserved bytes. */
	static const size_t fields[] = {8, 40, 44, 48, 68, 120};
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);

	for (size_t i = 0; i < VF_N(fields); i++) {
		uint32_t was = vf_le32(p + fields[i]);
		vf_put_le32(p + fields[i], 9);
		mend_header(p, len);
		CU_ASSERT_EQUAL(validate(p, len), -ENOTSUP);
		vf_put_le32(p + fields[i], was);
	}
	mend_header(p, len);
	CU_ASSERT_EQUAL(validate(p, len), 0);
}

/* The one that may be missing becomes one that nobody knows. */
static void unknown_sections_are_passed_over_only_when_they_say_so(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	uint8_t *e = entry(p, VF_SEC_LEAF_CRCS);

	vf_put_le32(e, 99);
	vf_put_le32(e + 4, 0);
	mend_header(p, len);
	CU_ASSERT_EQUAL(validate(p, len), -ENOTSUP);
	vf_put_le32(e + 4, 1);
	mend_header(p, len);
	CU_ASSERT_EQUAL(validate(p, len), 0);
	p[vf_le64(e + 8)] ^= 1;
	CU_ASSERT_EQUAL(validate(p, len), -EBADMSG);
}

static void hostile_sizes_are_refused(void)
{
	static const uint64_t sizes[] = {0,
					 1,
					 ROWS - 1,
					 ROWS + 1,
					 0x7fffffff,
					 0xffffffff,
					 UINT64_C(1) << 32,
					 UINT64_C(1) << 58,
					 UINT64_C(1) << 63,
					 UINT64_MAX - 63,
					 UINT64_MAX};
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	VF_AUTO_FREE uint8_t *bad = malloc(len);
	size_t free_to_go = (size_t)(entry(p, VF_SEC_LEAF_CRCS) - p);

	/* Eight bytes anywhere in header and table but magic, seed, CRC. */
	for (size_t at = 8; at < vf_le32(p + 12); at += 4)
		for (size_t i = 0; i < VF_N(sizes); i++) {
			if ((at > 48 && at < 64) || (at > 116 && at < 128))
				continue;
			/* Of another type it is no section of ours. */
			if (at + 8 > free_to_go && at < free_to_go + 8)
				continue;
			memcpy(bad, p, len);
			vf_put_le64(bad + at, sizes[i]);
			if (!memcmp(bad, p, len))
				continue;
			mend_header(bad, len);
			CU_ASSERT(validate(bad, len) < 0);
		}
}

/* ---- contents that inner loops would stumble over -------------------------------- */

static int validate_mended(uint8_t *p, size_t len)
{
	mend_sections(p, len);
	return validate(p, len);
}

static void bad_factors_are_refused(void)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	struct vf_factors *f = (void *)section(p, VF_SEC_FACTORS), was = f[3];

	for (size_t i = 0; i < VF_N(bad); i++) {
		f[3].add = bad[i];
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
		f[3] = was;
		f[3].mul = bad[i];
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
		f[3] = was;
		f[3].err = bad[i];
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
		f[3] = was;
	}
	f[3].err = -1;
	CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	f[3] = was;
	f[3].ones = 257;
	CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	f[3] = was;
	CU_ASSERT_EQUAL(validate_mended(p, len), 0);
}

static void line_offsets_that_do_not_ascend_are_refused(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	uint64_t *off = (void *)section(p, VF_SEC_LINE_OFFS), was = off[4];
	const uint64_t bad[] = {0, off[3], off[5], off[5] + 1, UINT64_MAX};

	for (size_t i = 0; i < VF_N(bad); i++) {
		off[4] = bad[i];
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	}
	off[4] = was;
	off[0] = 1;
	CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	off[0] = 0;
	off[ROWS] += UINT64_C(1) << 32;
	CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
}

static void leaves_that_do_not_cover_the_rows_are_refused(void)
{
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	struct vf_leaf_disk *leaf = (void *)section(p, VF_SEC_LEAVES);
	struct vf_leaf_disk was = *leaf, bad[] = {was, was, was, was, was, was};

	bad[0].first_row = 1;
	bad[1].n_rows--;
	bad[2].n_rows = UINT64_MAX;
	bad[3].radius = NAN;
	bad[4].zero = 1;
	bad[5].codes_crc++;
	for (size_t i = 0; i < VF_N(bad); i++) {
		*leaf = bad[i];
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	}
	*leaf = was;
	CU_ASSERT_EQUAL(validate_mended(p, len), 0);
}

static void centroids_that_are_no_numbers_are_refused(void)
{
	static const enum vf_section kinds[] = {VF_SEC_ORIGIN,
						VF_SEC_CENTROIDS};

	for (size_t i = 0; i < VF_N(kinds); i++) {
		size_t len;
		VF_AUTO_FREE uint8_t *p = make_file(&len);
		((float *)section(p, kinds[i]))[255] = NAN;
		CU_ASSERT_EQUAL(validate_mended(p, len), -EBADMSG);
	}
}

/* Whatever checks let through must not hurt whoever trusts it. */
static void what_passes_the_checks_can_be_scanned(void)
{
	struct vf_scan_scratch *scratch;
	struct vf_hit hits[ROWS];
	float q[DIM] = {1};
	uint64_t seed = 41;
	unsigned opened = 0;
	size_t len;
	VF_AUTO_FREE uint8_t *p = make_file(&len);
	size_t head = vf_le32(p + 12);

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &scratch), 0);
	for (int round = 0; round < 3000; round++) {
		struct vf_topk top = {.hits = hits, .k = ROWS};
		uint8_t *bad = malloc(len);
		struct vf_index *ix;
		const char *reason;
		memcpy(bad, p, len);
		for (uint64_t n = vf_test_rand(&seed) % 4; n; n--)
			bad[head + vf_test_rand(&seed) % (len - head)] =
				(uint8_t)vf_test_rand(&seed);
		mend_leaf(bad);
		mend_sections(bad, len);
		if (vf_index_open(bad, len, &ix, &reason))
			continue;
		opened++;
		CU_ASSERT_EQUAL(vf_index_scan(ix, q, scratch, 0, &top), 0);
		CU_ASSERT_EQUAL(top.n, ROWS);
		for (uint32_t i = 0; i < top.n; i++)
			CU_ASSERT(!isnan(hits[i].dist));
		vf_index_close(ix);
	}
	CU_ASSERT(opened > 500);
	vf_scan_scratch_free(scratch);
}

static CU_TestInfo tests[] = {
	{"what is written is read", what_is_written_is_read},
	{"the layout is the one of version 2",
	 the_layout_is_the_one_of_version_2},
	{"every flipped bit is refused", every_flipped_bit_is_refused},
	{"files of version 1 are read", files_of_version_1_are_read},
	{"every other length is refused", every_other_length_is_refused},
	{"what is newer is said to be newer",
	 what_is_newer_is_said_to_be_newer},
	{"unknown sections are passed over only when they say so",
	 unknown_sections_are_passed_over_only_when_they_say_so},
	{"hostile sizes are refused", hostile_sizes_are_refused},
	{"bad factors are refused", bad_factors_are_refused},
	{"line offsets that do not ascend are refused",
	 line_offsets_that_do_not_ascend_are_refused},
	{"leaves that do not cover the rows are refused",
	 leaves_that_do_not_cover_the_rows_are_refused},
	{"centroids that are no numbers are refused",
	 centroids_that_are_no_numbers_are_refused},
	{"what passes the checks can be scanned",
	 what_passes_the_checks_can_be_scanned},
	CU_TEST_INFO_NULL};
VF_SUITE("index/codes", tests);
