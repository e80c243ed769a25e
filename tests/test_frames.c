/*
 * Seekable zstd: the same bytes back, and never wrong ones.
 */
#include "store/frames.h"
#include "tests/test.h"

#include <stdio.h>

enum { FRAME = 4096 };

/* Text-like bytes: compressible, but no two frames alike. */
static uint8_t *make_bytes(size_t len, uint64_t seed)
{
	uint8_t *b = malloc(len + !len);

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)("etaoin shrdlu\n\x80\xff"[vf_test_rand(&seed) %
							   16]);
	return b;
}

/* Compress in pieces of 1..@piece bytes. */
static void compress(const uint8_t *in, size_t len, size_t frame_len,
		     size_t piece, struct vf_buf *out)
{
	struct vf_framer *f;
	uint64_t seed = len + piece;

	CU_ASSERT_EQUAL_FATAL(vf_framer_new(frame_len, 3, &f), 0);
	for (size_t at = 0; at < len;) {
		size_t n = 1 + vf_test_rand(&seed) % piece;
		n = VF_MIN(n, len - at);
		CU_ASSERT_EQUAL(vf_framer_write(f, in + at, n, out), 0);
		at += n;
	}
	CU_ASSERT_EQUAL(vf_framer_finish(f, out), 0);
	vf_framer_free(f);
}

/*
 * Read back as a reader does: footer, table, each frame, from buffers of
 * exactly their length.  Returns 0 with the bytes, or what refused them.
 */
static int decompress(const uint8_t *object, size_t len, struct vf_buf *out)
{
	struct vf_frames f;
	uint64_t table_len;
	int err;

	if (len < VF_FRAMES_FOOTER_LEN)
		return -EBADMSG;
	err = vf_frames_footer(object + len - VF_FRAMES_FOOTER_LEN, len,
			       &table_len);
	if (err)
		return err;
	err = vf_frames_parse(object + len - table_len, table_len, len, &f);
	for (uint32_t i = 0; !err && i < f.n_frames; i++) {
		size_t in_len = f.in_off[i + 1] - f.in_off[i];
		size_t out_len = f.out_off[i + 1] - f.out_off[i];
		VF_AUTO_FREE uint8_t *in = malloc(in_len);
		VF_AUTO_FREE uint8_t *plain = malloc(out_len);
		memcpy(in, object + f.in_off[i], in_len);
		err = vf_frame_decompress(in, in_len, plain, out_len);
		if (!err)
			err = vf_buf_append(out, plain, out_len);
	}
	vf_frames_fini(&f);
	return err;
}

static void check_round_trip(size_t len, size_t frame_len, size_t piece)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(len, len);
	VF_AUTO_BUF struct vf_buf object = {0}, back = {0};

	compress(in, len, frame_len, piece, &object);
	CU_ASSERT_EQUAL(decompress(object.data, object.len, &back), 0);
	CU_ASSERT_EQUAL(back.len, len);
	CU_ASSERT(back.len == len && (!len || !memcmp(back.data, in, len)));
}

static void all_sizes_come_back(void)
{
	static const size_t lens[] = {0,	 1,	    FRAME - 1,	  FRAME,
				      FRAME + 1, 2 * FRAME, 5 * FRAME + 7};

	for (size_t i = 0; i < VF_N(lens); i++) {
		check_round_trip(lens[i], FRAME, 1);
		check_round_trip(lens[i], FRAME, 3 * FRAME);
	}
	check_round_trip(3 << 20, VF_FRAME_DEFAULT, 7919);
	check_round_trip(3 << 20, VF_FRAME_MAX, 1 << 20);
	check_round_trip(300, 1, 300);
}

static void pieces_make_no_difference(void)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(50000, 9);
	VF_AUTO_BUF struct vf_buf a = {0}, b = {0};

	compress(in, 50000, FRAME, 1, &a);
	compress(in, 50000, FRAME, 50000, &b);
	CU_ASSERT_EQUAL(a.len, b.len);
	CU_ASSERT(a.len == b.len && !memcmp(a.data, b.data, a.len));
}

static void frames_can_be_taken_away_as_they_come(void)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(50000, 10);
	VF_AUTO_BUF struct vf_buf part = {0}, whole = {0}, back = {0};
	struct vf_framer *f;

	CU_ASSERT_EQUAL_FATAL(vf_framer_new(FRAME, 3, &f), 0);
	for (size_t at = 0; at < 50000; at += 1000) {
		CU_ASSERT_EQUAL(vf_framer_write(f, in + at, 1000, &part), 0);
		vf_buf_append(&whole, part.data, part.len);
		part.len = 0;
	}
	CU_ASSERT_EQUAL(vf_framer_finish(f, &part), 0);
	vf_buf_append(&whole, part.data, part.len);
	vf_framer_free(f);
	CU_ASSERT_EQUAL(decompress(whole.data, whole.len, &back), 0);
	CU_ASSERT(back.len == 50000 && !memcmp(back.data, in, 50000));
}

static void find_gives_the_frame_of_every_byte(void)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(1000, 11);
	VF_AUTO_BUF struct vf_buf o = {0};
	struct vf_frames f;
	uint64_t table_len;

	compress(in, 1000, 64, 1000, &o);
	CU_ASSERT_EQUAL_FATAL(
		vf_frames_footer(o.data + o.len - VF_FRAMES_FOOTER_LEN, o.len,
				 &table_len),
		0);
	CU_ASSERT_EQUAL_FATAL(vf_frames_parse(o.data + o.len - table_len,
					      table_len, o.len, &f),
			      0);
	CU_ASSERT_EQUAL(f.n_frames, 16);
	CU_ASSERT_EQUAL(f.out_off[16], 1000);
	CU_ASSERT_EQUAL(f.in_off[16], o.len - table_len);
	for (uint64_t off = 0; off < 1000; off++)
		CU_ASSERT_EQUAL(vf_frames_find(&f, off), off / 64);
	vf_frames_fini(&f);
}

static void zstd_reads_the_same_bytes(void)
{
	static const size_t lens[] = {0, 1, 200000};
	char path[256], cmd[512];

	if (system("command -v zstd >/dev/null 2>&1")) {
		fprintf(stderr, "skipped: no zstd program\n");
		return;
	}
	for (size_t i = 0; i < VF_N(lens); i++) {
		VF_AUTO_FREE uint8_t *in = make_bytes(lens[i], 12);
		VF_AUTO_FREE uint8_t *back = malloc(lens[i] + 1);
		VF_AUTO_BUF struct vf_buf o = {0};
		compress(in, lens[i], FRAME, 999, &o);
		snprintf(path, sizeof(path), "%s/x.zst", vf_test_dir());
		FILE *f = fopen(path, "wb");
		CU_ASSERT_FATAL(f != NULL);
		fwrite(o.data, 1, o.len, f);
		fclose(f);
		snprintf(cmd, sizeof(cmd), "zstd -qdc %s", path);
		f = popen(cmd, "r");
		CU_ASSERT_FATAL(f != NULL);
		CU_ASSERT_EQUAL(fread(back, 1, lens[i] + 1, f), lens[i]);
		CU_ASSERT_EQUAL(pclose(f), 0);
		CU_ASSERT(!memcmp(in, back, lens[i]));
	}
}

/* ---- damage ------------------------------------------------------------------- */

static void no_flipped_byte_gives_wrong_bytes(void)
{
	enum { LEN = 700 };
	static const uint8_t flips[] = {1, 0x80, 0xff};
	VF_AUTO_FREE uint8_t *in = make_bytes(LEN, 13);
	VF_AUTO_BUF struct vf_buf o = {0};

	compress(in, LEN, 200, 100, &o);
	for (size_t i = 0; i < o.len * VF_N(flips); i++) {
		VF_AUTO_BUF struct vf_buf back = {0};
		o.data[i / 3] ^= flips[i % 3];
		/* Some bits of zstd's headers mean nothing. */
		if (!decompress(o.data, o.len, &back) &&
		    (back.len != LEN || memcmp(back.data, in, LEN)))
			CU_FAIL("wrong bytes were read");
		o.data[i / 3] ^= flips[i % 3];
	}
}

static void no_cut_or_extended_object_is_read(void)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(700, 14);
	VF_AUTO_BUF struct vf_buf o = {0}, back = {0};

	compress(in, 700, 200, 100, &o);
	for (size_t len = 0; len < o.len; len++)
		if (!decompress(o.data, len, &back) ||
		    !decompress(o.data + o.len - len, len, &back))
			CU_FAIL("a part of an object was read");
	vf_buf_append(&o, NULL, 1);
	CU_ASSERT_EQUAL(decompress(o.data, o.len, &back), -EBADMSG);
}

static void frames_of_another_length_are_refused(void)
{
	VF_AUTO_FREE uint8_t *in = make_bytes(200, 15);
	VF_AUTO_BUF struct vf_buf o = {0};
	uint8_t out[256];
	size_t n;

	compress(in, 200, 200, 200, &o);
	n = vf_le32(o.data + o.len - VF_FRAMES_FOOTER_LEN - 8);
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, n, out, 200), 0);
	CU_ASSERT(!memcmp(in, out, 200));
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, n, out, 199), -EBADMSG);
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, n, out, 201), -EBADMSG);
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, n - 1, out, 200), -EBADMSG);
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, n + 1, out, 200), -EBADMSG);
	CU_ASSERT_EQUAL(vf_frame_decompress(o.data, 0, out, 200), -EBADMSG);
}

/* ---- hostile tables ---------------------------------------------------------------- */

struct entry {
	uint32_t in_len, out_len;
};

static int parse_table(const struct entry *e, uint32_t n, uint32_t says,
		       uint64_t object_len)
{
	VF_AUTO_BUF struct vf_buf t = {0};
	uint8_t b[9] = {0};
	struct vf_frames f;

	vf_put_le32(b, 0x184d2a5e);
	vf_put_le32(b + 4, 8 * n + 9);
	vf_buf_append(&t, b, 8);
	for (uint32_t i = 0; i < n; i++) {
		vf_put_le32(b, e[i].in_len);
		vf_put_le32(b + 4, e[i].out_len);
		vf_buf_append(&t, b, 8);
	}
	memset(b, 0, sizeof(b));
	vf_put_le32(b, says);
	vf_put_le32(b + 5, 0x8f92eab1);
	vf_buf_append(&t, b, 9);
	int err = vf_frames_parse(t.data, t.len, object_len, &f);
	if (!err)
		vf_frames_fini(&f);
	return err;
}

static void hostile_tables_are_refused(void)
{
	static const struct entry good[] = {{100, 300}, {50, 20}};
	static const struct entry empty_in[] = {{150, 300}, {0, 20}};
	static const struct entry empty_out[] = {{100, 300}, {50, 0}};
	static const struct entry large[] = {{100, VF_FRAME_MAX + 1}};
	static const struct entry wide[] = {{UINT32_MAX, 1000}};
	static const struct entry twice[] = {{0, 1}, {150, 0}};
	uint64_t half = UINT64_MAX / 2;

	CU_ASSERT_EQUAL(parse_table(good, 2, 2, 150 + 33), 0);
	CU_ASSERT_EQUAL(parse_table(NULL, 0, 0, 17), 0);
	CU_ASSERT_EQUAL(parse_table(good, 2, 2, 150 + 32), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(good, 2, 2, 150 + 34), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(good, 2, 1, 150 + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(good, 2, 3, 150 + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(good, 2, UINT32_MAX, 150 + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(empty_in, 2, 2, 150 + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(empty_out, 2, 2, 150 + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(large, 1, 1, 100 + 25), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(wide, 1, 1, 25 + (uint64_t)UINT32_MAX),
			-EBADMSG);
	CU_ASSERT_EQUAL(parse_table(empty_out, 2, 2, half + 33), -EBADMSG);
	CU_ASSERT_EQUAL(parse_table(twice, 2, 2, half + 33), -EBADMSG);
}

static void footers_must_fit_their_object(void)
{
	uint8_t b[VF_FRAMES_FOOTER_LEN] = {0};
	uint64_t len;

	vf_put_le32(b + 5, 0x8f92eab1);
	vf_put_le32(b, 10);
	CU_ASSERT_EQUAL(vf_frames_footer(b, 97, &len), 0);
	CU_ASSERT_EQUAL(len, 97);
	CU_ASSERT_EQUAL(vf_frames_footer(b, 96, &len), -EBADMSG);
	vf_put_le32(b, UINT32_MAX);
	CU_ASSERT_EQUAL(vf_frames_footer(b, UINT64_MAX, &len), -EBADMSG);
	vf_put_le32(b, 10);
	b[4] = 0x80; /* checksums in the table: not ours */
	CU_ASSERT_EQUAL(vf_frames_footer(b, 1000, &len), -EBADMSG);
	b[4] = 0;
	b[5]++;
	CU_ASSERT_EQUAL(vf_frames_footer(b, 1000, &len), -EBADMSG);
}

static CU_TestInfo tests[] = {
	{"all sizes come back", all_sizes_come_back},
	{"pieces make no difference", pieces_make_no_difference},
	{"frames can be taken away as they come",
	 frames_can_be_taken_away_as_they_come},
	{"find gives the frame of every byte",
	 find_gives_the_frame_of_every_byte},
	{"zstd reads the same bytes", zstd_reads_the_same_bytes},
	{"no flipped byte gives wrong bytes",
	 no_flipped_byte_gives_wrong_bytes},
	{"no cut or extended object is read",
	 no_cut_or_extended_object_is_read},
	{"frames of another length are refused",
	 frames_of_another_length_are_refused},
	{"hostile tables are refused", hostile_tables_are_refused},
	{"footers must fit their object", footers_must_fit_their_object},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/frames", tests);
