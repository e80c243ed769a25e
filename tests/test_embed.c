/* Embedders: what a vector is worth, what is refused, data that is damaged. */
#include "query/embed.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <xxhash.h>

enum { DIM = 256, HEADER_LEN = 32, SUM_LEN = 8 };

static const char *const documents[] = {
	"plays a game of chess against the computer",
	"a strong chess engine with an opening book",
	"a small and fast web server",
	"web server for static files",
	"edit photos and manage a large collection of photos",
	"a library to read and write compressed files",
	"the terminal multiplexer",
	"spell checking for the editor",
};

static struct vf_embedder *open_new(const char *spec)
{
	struct vf_embedder *e;

	CU_ASSERT_EQUAL_FATAL(vf_embedder_open(spec, NULL, 0, &e), 0);
	return e;
}

static struct vf_embedder *open_learned(void)
{
	struct vf_embedder *e = open_new("hash:256");

	for (size_t i = 0; i < VF_N(documents); i++)
		CU_ASSERT_EQUAL(vf_embedder_learn(e, documents[i],
						  strlen(documents[i])),
				0);
	return e;
}

static void embed(const struct vf_embedder *e, const char *text, float *out)
{
	CU_ASSERT_EQUAL(vf_embedder_embed(e, text, strlen(text), out), 0);
}

static double dot(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return sum;
}

static double nearness(const struct vf_embedder *e, const char *a,
		       const char *b)
{
	float x[DIM], y[DIM];

	embed(e, a, x);
	embed(e, b, y);
	return dot(x, y, DIM);
}

static bool same_vector(const struct vf_embedder *a,
			const struct vf_embedder *b, const char *text)
{
	float x[DIM], y[DIM];

	embed(a, text, x);
	embed(b, text, y);
	return !memcmp(x, y, sizeof(x));
}

/* ---- vectors ---- */

static void a_text_gives_the_same_bits_every_time(void)
{
	struct vf_embedder *a = open_learned(), *b = open_learned();

	for (size_t i = 0; i < VF_N(documents); i++)
		CU_ASSERT_TRUE(same_vector(a, b, documents[i]));
	vf_embedder_free(a);
	vf_embedder_free(b);
}

/* The bits themselves: another machine or compiler has to give them too. */
static void the_bits_are_those_of_format_1(void)
{
	struct vf_embedder *e = open_learned();
	uint8_t bytes[4 * DIM];
	float x[DIM];
	uint32_t bits;

	embed(e, "play chess, photos and unseen things", x);
	for (size_t i = 0; i < DIM; i++) {
		memcpy(&bits, &x[i], 4);
		vf_put_le32(bytes + 4 * i, bits);
	}
	CU_ASSERT_EQUAL(XXH3_64bits(bytes, sizeof(bytes)), 0x97c45f38dd51e554);
	vf_embedder_free(e);
}

static void every_vector_has_unit_length(void)
{
	static const uint32_t dims[] = {2, 3, 5, 16, 100, 1024, 4096};
	static const char *const texts[] = {"a", "x y", "chess",
					    "one two three", "a a a a a a"};
	float x[4096];
	char spec[16];

	for (size_t i = 0; i < VF_N(dims); i++) {
		snprintf(spec, sizeof(spec), "hash:%u", dims[i]);
		struct vf_embedder *e = open_new(spec);
		CU_ASSERT_EQUAL(e->dim, dims[i]);
		for (size_t j = 0; j < VF_N(texts); j++) {
			embed(e, texts[j], x);
			CU_ASSERT_DOUBLE_EQUAL(dot(x, x, dims[i]), 1, 1e-5);
		}
		vf_embedder_free(e);
	}
}

static void like_texts_are_nearer_than_unlike_ones(void)
{
	struct vf_embedder *e = open_learned();
	const char *chess = "play chess against a computer";

	CU_ASSERT(nearness(e, chess, documents[0]) > 0.4);
	for (size_t i = 1; i < VF_N(documents); i++)
		CU_ASSERT(nearness(e, chess, documents[0]) >
			  nearness(e, chess, documents[i]) + 0.1);
	CU_ASSERT(nearness(e, chess, documents[1]) >
		  nearness(e, chess, documents[4]) + 0.1);
	vf_embedder_free(e);
}

static void words_of_one_stem_are_near(void)
{
	struct vf_embedder *e = open_new("hash:256");

	CU_ASSERT(nearness(e, "photo", "photos") > 0.3);
	CU_ASSERT(nearness(e, "photography", "photographer") > 0.3);
	CU_ASSERT(fabs(nearness(e, "photo", "terminal")) < 0.25);
	vf_embedder_free(e);
}

static void case_and_punctuation_do_not_count(void)
{
	struct vf_embedder *e = open_new("hash:256");

	CU_ASSERT_DOUBLE_EQUAL(
		nearness(e, "Web-Server, FAST!", " web server  fast"), 1, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(nearness(e, "ÄRGER Ünïcode", "ärger ünïcode"), 1,
			       1e-6);
	CU_ASSERT_DOUBLE_EQUAL(
		nearness(e, "ΛΟΓΟΣ МОСКВА Ёж", "λογοσ москва ёж"), 1, 1e-6);
	vf_embedder_free(e);
}

static void the_order_of_words_counts_a_little(void)
{
	struct vf_embedder *e = open_new("hash:256");
	double same = nearness(e, "fast web server", "server web fast");

	CU_ASSERT(same < 0.99);
	CU_ASSERT(same > 0.8);
	vf_embedder_free(e);
}

/* ---- texts ---- */

static void a_text_without_a_word_is_refused(void)
{
	static const char *const texts[] = {"",		" ",
					    "\t\n",	"...",
					    "-- ?! --", "\xff\xfe",
					    "\xc3",	"\xe2\x80\x93",
					    "\xc3\x97", "\xf0\x9f\x98\x80"};
	struct vf_embedder *e = open_new("hash:256");
	float x[DIM];

	for (int learned = 0; learned < 2; learned++) {
		for (size_t i = 0; i < VF_N(texts); i++) {
			size_t len = strlen(texts[i]);
			CU_ASSERT_EQUAL(vf_embedder_embed(e, texts[i], len, x),
					-EINVAL);
			CU_ASSERT_EQUAL(vf_embedder_learn(e, texts[i], len),
					-EINVAL);
		}
		CU_ASSERT_EQUAL(vf_embedder_embed(e, "\0\0", 2, x), -EINVAL);
		CU_ASSERT_EQUAL(vf_embedder_learn(e, "word", 4), 0);
	}
	vf_embedder_free(e);
}

static void a_text_with_one_word_is_never_refused(void)
{
	static const char *const texts[] = {"a",  "7",	   "é",	    "я",
					    "本", "...x.", "\xffz", "한"};
	struct vf_embedder *e = open_new("hash:256");
	float x[DIM];

	for (int learned = 0; learned < 2; learned++) {
		for (size_t i = 0; i < VF_N(texts); i++)
			embed(e, texts[i], x);
		for (size_t i = 0; i < VF_N(texts); i++)
			CU_ASSERT_EQUAL(vf_embedder_learn(e, texts[i],
							  strlen(texts[i])),
					0);
	}
	vf_embedder_free(e);
}

static void bytes_that_are_no_utf8_separate_words(void)
{
	struct vf_embedder *e = open_new("hash:256");

	CU_ASSERT_DOUBLE_EQUAL(nearness(e, "web\xffserver\xc3", "web server"),
			       1, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(nearness(e, "web\xe2\x82server\xf8\x88",
					"web server"),
			       1, 1e-6);
	vf_embedder_free(e);
}

/* Every kind of byte, cut anywhere, in memory that ends where the text does. */
static void any_bytes_are_a_text(void)
{
	struct vf_embedder *e = open_new("hash:256");
	uint64_t seed = 5;
	float x[DIM];

	for (int round = 0; round < 300; round++) {
		size_t len = vf_test_rand(&seed) % 200;
		char *text = malloc(len ? len : 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(text);
		for (size_t i = 0; i < len; i++)
			text[i] = (char)vf_test_rand(&seed);
		int err = vf_embedder_embed(e, text, len, x);
		CU_ASSERT(!err || err == -EINVAL);
		CU_ASSERT_EQUAL(vf_embedder_learn(e, text, len), err);
		CU_ASSERT(err || fabs(dot(x, x, DIM) - 1) < 1e-5);
		free(text);
	}
	vf_embedder_free(e);
}

static void a_text_of_a_mebibyte_is_embedded(void)
{
	enum { LEN = 1 << 20 };
	struct vf_embedder *e = open_new("hash:256");
	char *text = malloc(LEN);
	uint64_t seed = 9;
	float x[DIM];

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	for (size_t i = 0; i < LEN; i++) /* words that rarely come twice */
		text[i] = i % 8 == 7 ? ' '
				     : (char)('a' + vf_test_rand(&seed) % 26);
	CU_ASSERT_EQUAL(vf_embedder_embed(e, text, LEN, x), 0);
	CU_ASSERT_DOUBLE_EQUAL(dot(x, x, DIM), 1, 1e-5);
	CU_ASSERT_EQUAL(vf_embedder_learn(e, text, LEN), 0);
	memset(text, 'a', LEN); /* one run without an end */
	CU_ASSERT_EQUAL(vf_embedder_embed(e, text, LEN, x), 0);
	CU_ASSERT_DOUBLE_EQUAL(dot(x, x, DIM), 1, 1e-5);
	free(text);
	vf_embedder_free(e);
}

/* ---- learning ---- */

static void frequent_words_weigh_less(void)
{
	struct vf_embedder *fresh = open_new("hash:256");
	struct vf_embedder *e = open_new("hash:256");
	char text[32];

	for (int i = 0; i < 200; i++) {
		int n = snprintf(text, sizeof(text), "program for %d", i);
		CU_ASSERT_EQUAL(vf_embedder_learn(e, text, (size_t)n), 0);
	}
	CU_ASSERT_EQUAL(vf_embedder_learn(e, "chess", 5), 0);
	CU_ASSERT(nearness(e, "program for chess", "chess") >
		  nearness(fresh, "program for chess", "chess") + 0.2);
	CU_ASSERT(nearness(e, "program for chess", "program for sums") <
		  nearness(fresh, "program for chess", "program for sums"));
	vf_embedder_free(fresh);
	vf_embedder_free(e);
}

static void an_unseen_word_does_not_drown_a_seen_one(void)
{
	struct vf_embedder *e = open_learned();

	CU_ASSERT(nearness(e, "chess qwzzkv", "chess") > 0.85);
	vf_embedder_free(e);
}

static void a_word_counts_once_per_document(void)
{
	struct vf_embedder *a = open_new("hash:256"), *b = open_new("hash:256");

	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(vf_embedder_learn(a, "web web web", 11), 0);
		CU_ASSERT_EQUAL(vf_embedder_learn(b, "web", 3), 0);
	}
	CU_ASSERT_TRUE(same_vector(a, b, "web server"));
	vf_embedder_free(a);
	vf_embedder_free(b);
}

/* ---- the data object ---- */

static int open_quietly(const char *spec, const void *data, size_t len)
{
	struct vf_embedder *e;
	int err = vf_embedder_open(spec, data, len, &e);

	CU_ASSERT(!err || !e);
	vf_embedder_free(e);
	return err;
}

static void save_learned(struct vf_buf *out)
{
	struct vf_embedder *e = open_learned();

	CU_ASSERT_EQUAL_FATAL(vf_embedder_save(e, out), 0);
	vf_embedder_free(e);
}

static void what_was_saved_embeds_the_same(void)
{
	VF_AUTO_BUF struct vf_buf b = {0}, again = {0};
	struct vf_embedder *e = open_learned(), *other;

	CU_ASSERT_EQUAL(vf_buf_append(&b, "before", 6), 0);
	CU_ASSERT_EQUAL(vf_embedder_save(e, &b), 0);
	CU_ASSERT_FALSE(memcmp(b.data, "before", 6));
	CU_ASSERT_EQUAL_FATAL(
		vf_embedder_open("hash:256", b.data + 6, b.len - 6, &other), 0);
	for (size_t i = 0; i < VF_N(documents); i++)
		CU_ASSERT_TRUE(same_vector(e, other, documents[i]));
	CU_ASSERT_TRUE(same_vector(e, other, "never seen"));
	CU_ASSERT_EQUAL(vf_embedder_save(other, &again), 0);
	CU_ASSERT_EQUAL_FATAL(again.len, b.len - 6);
	CU_ASSERT_FALSE(memcmp(again.data, b.data + 6, again.len));
	/* and it goes on learning as the first would */
	CU_ASSERT_EQUAL(vf_embedder_learn(e, "one more", 8), 0);
	CU_ASSERT_EQUAL(vf_embedder_learn(other, "one more", 8), 0);
	CU_ASSERT_TRUE(same_vector(e, other, "one more chess"));
	vf_embedder_free(e);
	vf_embedder_free(other);
}

static void every_flipped_byte_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	save_learned(&b);
	CU_ASSERT_EQUAL(open_quietly("hash:256", b.data, b.len), 0);
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= (uint8_t)(1 << i % 8);
		CU_ASSERT_EQUAL(open_quietly("hash:256", b.data, b.len),
				-EBADMSG);
		b.data[i] ^= (uint8_t)(1 << i % 8);
	}
}

static void every_other_length_is_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	save_learned(&b);
	for (size_t len = 0; len < b.len; len++)
		CU_ASSERT_EQUAL(open_quietly("hash:256", b.data, len),
				-EBADMSG);
	CU_ASSERT_EQUAL(vf_buf_append(&b, "x", 1), 0);
	CU_ASSERT_EQUAL(open_quietly("hash:256", b.data, b.len), -EBADMSG);
}

/* Write @v over the field at @off and make the checksum right again. */
static int open_forged(const struct vf_buf *b, size_t off, uint32_t v)
{
	VF_AUTO_BUF struct vf_buf f = {0};

	CU_ASSERT_EQUAL_FATAL(vf_buf_append(&f, b->data, b->len), 0);
	vf_put_le32(f.data + off, v);
	vf_put_le64(f.data + f.len - SUM_LEN,
		    XXH3_64bits(f.data, f.len - SUM_LEN));
	return open_quietly("hash:256", f.data, f.len);
}

static void fields_that_lie_are_refused(void)
{
	VF_AUTO_BUF struct vf_buf b = {0};

	save_learned(&b);
	CU_ASSERT_EQUAL(open_forged(&b, 8, 2), -ENOTSUP);
	CU_ASSERT_EQUAL(open_forged(&b, 8, 0), -EBADMSG);
	CU_ASSERT_EQUAL(open_forged(&b, 12, 255), -EBADMSG);
	CU_ASSERT_EQUAL(open_forged(&b, 16, 1), -EBADMSG); /* df > n_docs */
	CU_ASSERT_EQUAL(open_forged(&b, 24, 31), -EBADMSG);
	CU_ASSERT_EQUAL(open_forged(&b, 28, UINT32_MAX), -EBADMSG);
	CU_ASSERT_EQUAL(open_forged(&b, HEADER_LEN, 0), -EBADMSG);
	CU_ASSERT_EQUAL(open_quietly("hash:128", b.data, b.len), -EBADMSG);
}

/* ---- names ---- */

static void count_message(void *arg, enum vf_level level, const char *text)
{
	++*(int *)arg;
}

static void unknown_specs_are_refused_in_one_line(void)
{
	static const char *const specs[] = {
		"",	     "hash",	  "hash:",     "hash:0",
		"hash:1",    "hash:4097", "hash:5000", "hash:-8",
		"hash:+8",   "hash: 8",	  "hash:12x",  "hash:99999999999999999",
		"frob:32",   "HASH:32",	  "hashx:32",  "hash:32:1",
		"hash:0x20", "hash:1e2"};
	int n_lines = 0;

	vf_log_set(count_message, &n_lines, VF_ERROR);
	for (size_t i = 0; i < VF_N(specs); i++) {
		CU_ASSERT_EQUAL(open_quietly(specs[i], NULL, 0), -EINVAL);
		CU_ASSERT_EQUAL(n_lines, (int)i + 1);
	}
	vf_test_log_reset();
	CU_ASSERT_EQUAL(open_quietly("hash:2", NULL, 0), 0);
	CU_ASSERT_EQUAL(open_quietly("hash:4096", NULL, 0), 0);
}

static CU_TestInfo tests[] = {
	{"a text gives the same bits every time",
	 a_text_gives_the_same_bits_every_time},
	{"the bits are those of format 1", the_bits_are_those_of_format_1},
	{"every vector has unit length", every_vector_has_unit_length},
	{"like texts are nearer than unlike ones",
	 like_texts_are_nearer_than_unlike_ones},
	{"words of one stem are near", words_of_one_stem_are_near},
	{"case and punctuation do not count",
	 case_and_punctuation_do_not_count},
	{"the order of words counts a little",
	 the_order_of_words_counts_a_little},
	{"a text without a word is refused", a_text_without_a_word_is_refused},
	{"a text with one word is never refused",
	 a_text_with_one_word_is_never_refused},
	{"bytes that are no UTF-8 separate words",
	 bytes_that_are_no_utf8_separate_words},
	{"any bytes are a text", any_bytes_are_a_text},
	{"a text of a mebibyte is embedded", a_text_of_a_mebibyte_is_embedded},
	{"frequent words weigh less", frequent_words_weigh_less},
	{"an unseen word does not drown a seen one",
	 an_unseen_word_does_not_drown_a_seen_one},
	{"a word counts once per document", a_word_counts_once_per_document},
	{"what was saved embeds the same", what_was_saved_embeds_the_same},
	{"every flipped byte is refused", every_flipped_byte_is_refused},
	{"every other length is refused", every_other_length_is_refused},
	{"fields that lie are refused", fields_that_lie_are_refused},
	{"unknown specs are refused in one line",
	 unknown_specs_are_refused_in_one_line},
	CU_TEST_INFO_NULL,
};

VF_SUITE("query/embed", tests);
