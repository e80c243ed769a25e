/*
 * hash:DIM.  A text's features are its words, pairs of neighbouring words, and
 * the 3- and 4-grams of each word between boundary marks, so that "photo" and
 * "photos" are near.  A feature of a word found tf times weighs
 *
 *   kind * (1 + ln(tf) / 2) * idf,   idf = sqrt(ln((n_docs + 1) / (df + 0.5)))
 *
 * df being the documents that have it.  The root, because a product of two
 * vectors holds the idf of both: together they are BM25's.  A pair's idf is the
 * geometric mean of its words'.  The grams of a word share one weight, so that
 * long words are worth no more than short ones.  Every feature is spread, with
 * hashed signs, over several hashed dimensions: the more places, the less noise
 * where few features are shared; grams are many anyhow.
 *
 * Only +, -, *, / and sqrt, all of them correctly rounded, in an order that the
 * text decides: every machine gives the same bits.
 *
 * The data object, little-endian:
 *
 *   off  len
 *     0    8  magic "VFEMBED1"
 *     8    4  format version, 1
 *    12    4  dimension
 *    16    8  n_docs
 *    24    4  log2 of the number of buckets
 *    28    4  length of the compressed part
 *    32       zstd: u32 per bucket, its df; words have the first half of the
 *             buckets, grams the second
 *   end    8  XXH3-64 of everything before it
 *
 * Source: Weinberger et al., "Feature Hashing", ICML 2009; Robertson and
 * Zaragoza, "The Probabilistic Relevance Framework", 2009, section 3.1.
 */
#include "query/embed_hash.h"
#include "query/words.h"

#include <math.h>
#include <xxhash.h>
#include <zstd.h>

enum {
	FORMAT_VERSION = 1,
	HEADER_LEN = 32,
	SUM_LEN = 8,
	LOG2_BUCKETS = 18,
	N_BUCKETS = 1 << LOG2_BUCKETS,
	COUNTS_LEN = N_BUCKETS * 4,
	ZSTD_LEVEL = 3,
	GRAM_MIN = 3,
	GRAM_MAX = 4,
	GRAMS_MAX = (GRAM_MAX - GRAM_MIN + 1) * VF_WORD_MAX,
	LOG2_EXACT = 9,		/* document counts are kept to so many bits */
	FEATURES_MIN = 512,	/* slots of a new table */
	FEATURES_MAX = 1 << 17, /* of one text; new ones are then passed over */
};
static_assert(ZSTD_COMPRESSBOUND(COUNTS_LEN) <= UINT32_MAX, "u32 in header");
static_assert(!(FEATURES_MIN & (FEATURES_MIN - 1)), "slots are masked");

static const char magic[8] = "VFEMBED1";

/*
 * Measured on 64 000 package descriptions: how far the nearest five of one with
 * its name left out have the same tags as it has.
 */
static const double word_weight = 1, pair_weight = 0.4, grams_weight = 1.2;
enum { WORD_PLACES = 8, PAIR_PLACES = 2, GRAM_PLACES = 2 };

/* What no document has tells nothing: it must not drown the rest of a query. */
static const double unseen_idf = 0.3;

struct hash_embedder {
	struct vf_embedder base;
	uint64_t n_docs;
	double ln_docs;			 /* ln(n_docs + 1) */
	double ln_half[1 << LOG2_EXACT]; /* ln(i + 0.5) [fixed] */
	uint32_t *df;			 /* [N_BUCKETS] */
	uint32_t *last; /* [N_BUCKETS] the document, from 1, last counted */
};

/* ---- features ---- */

enum { GRAM_SEED = 1 };

static uint32_t bucket_of_word(uint64_t hash)
{
	return (uint32_t)(hash >> (65 - LOG2_BUCKETS));
}

static uint32_t bucket_of_gram(uint64_t hash)
{
	return bucket_of_word(hash) + N_BUCKETS / 2;
}

static uint64_t hash_of_word(const struct vf_word *w)
{
	return XXH3_64bits(w->text + w->off[1], w->off[w->n + 1] - w->off[1]);
}

/* The gram that is the whole word is left out: the word is a feature. */
static size_t list_grams(const struct vf_word *w, uint64_t *out_hash)
{
	size_t n_grams = 0;

	for (size_t n = GRAM_MIN; n <= GRAM_MAX && n < w->n + 2; n++)
		for (size_t i = 0; i + n <= w->n + 2; i++)
			out_hash[n_grams++] =
				XXH3_64bits_withSeed(w->text + w->off[i],
						     w->off[i + n] - w->off[i],
						     GRAM_SEED);
	return n_grams;
}

/* A word or a pair of words of one text. */
struct feature {
	uint64_t hash;
	size_t n;	    /* 0: a free slot */
	const uint8_t *at;  /* where to read the word again; NULL: a pair */
	uint32_t bucket[2]; /* of the pair's words; of the word, twice */
};

/* Open addressing, at most half full. */
struct features {
	struct feature *slots; /* owned */
	size_t n, mask;
};

static void free_features(struct features *f)
{
	free(f->slots);
}

static struct feature *slot_of(const struct features *f, uint64_t hash)
{
	size_t i = hash & f->mask;

	while (f->slots[i].n && f->slots[i].hash != hash)
		i = (i + 1) & f->mask;
	return &f->slots[i];
}

static int grow_features(struct features *f)
{
	size_t n_slots = f->slots ? 2 * (f->mask + 1) : FEATURES_MIN;
	struct features next = {calloc(n_slots, sizeof(*next.slots)), f->n,
				n_slots - 1};

	if (!next.slots)
		return -ENOMEM;
	for (size_t i = 0; f->slots && i <= f->mask; i++)
		if (f->slots[i].n)
			*slot_of(&next, f->slots[i].hash) = f->slots[i];
	free(f->slots);
	*f = next;
	return 0;
}

static int count_feature(struct features *f, const struct feature *one)
{
	struct feature *s;

	if (!f->slots || 2 * f->n > f->mask) {
		int err = grow_features(f);
		if (err)
			return err;
	}
	s = slot_of(f, one->hash);
	if (s->n) {
		s->n++;
	} else if (f->n < FEATURES_MAX) {
		*s = *one;
		f->n++;
	}
	return 0;
}

/* The same bits scattered anew: splitmix64's first step. */
static uint64_t remix(uint64_t h)
{
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
	return h ^ h >> 27;
}

/* Returns 0; -EINVAL not a single word; -ENOMEM. */
static int count_features(const char *text, size_t len, struct features *f)
{
	const uint8_t *p = (const uint8_t *)text;
	struct vf_words words = {p, p + len};
	struct vf_word w;
	struct feature word = {.n = 1, .at = p}, before = {0};
	int err = 0;

	while (!err && vf_words_next(&words, &w)) {
		word.hash = hash_of_word(&w);
		word.bucket[0] = word.bucket[1] = bucket_of_word(word.hash);
		err = count_feature(f, &word);
		if (!err && before.n) {
			before.hash = remix(before.hash) + word.hash;
			before.bucket[1] = word.bucket[0];
			before.at = NULL;
			err = count_feature(f, &before);
		}
		before = word;
		word.at = words.at;
	}
	return err ? err : f->n ? 0 : -EINVAL;
}

/* ---- learning ---- */

static const double ln2 = 0.69314718055994530942;

/*
 * Natural logarithm of a finite @x >= 1 to 10 digits.  libm's differs between
 * processors in the last bit.
 */
static double ln(double x)
{
	static const double C3 = 1.0 / 3, C5 = 1.0 / 5, C7 = 1.0 / 7,
			    C9 = 1.0 / 9, C11 = 1.0 / 11;
	uint64_t bits;

	memcpy(&bits, &x, sizeof(bits));
	double e = (double)(bits >> 52) - 1023;
	bits = (bits & 0xfffffffffffff) | (uint64_t)1023 << 52;
	memcpy(&x, &bits, sizeof(x));
	if (x > 1.41421356) {
		x /= 2;
		e++;
	}
	/* ln x = 2 artanh s, |s| < 0.172 */
	double s = (x - 1) / (x + 1), q = s * s;
	double sum = 1 + q * (C3 + q * (C5 + q * (C7 + q * (C9 + q * C11))));
	return e * ln2 + 2 * s * sum;
}

static void set_docs(struct hash_embedder *e, uint64_t n_docs)
{
	e->n_docs = n_docs;
	e->ln_docs = ln((double)n_docs + 1);
}

/* Returns true the first time in this document. */
static bool note_bucket(struct hash_embedder *e, uint32_t bucket)
{
	uint32_t document = (uint32_t)(e->n_docs + 1);

	if (e->last[bucket] == document)
		return false;
	e->last[bucket] = document;
	if (e->df[bucket] < UINT32_MAX)
		e->df[bucket]++;
	return true;
}

static bool hash_has_words(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;
	struct vf_words words = {p, p + len};
	struct vf_word w;

	return vf_words_next(&words, &w);
}

static int hash_learn(struct vf_embedder *base, const char *text, size_t len)
{
	struct hash_embedder *e = (struct hash_embedder *)base;
	const uint8_t *p = (const uint8_t *)text;
	struct vf_words words = {p, p + len};
	uint64_t gram[GRAMS_MAX];
	struct vf_word w;
	bool any = false;

	while (vf_words_next(&words, &w)) {
		any = true;
		if (!note_bucket(e, bucket_of_word(hash_of_word(&w))))
			continue;
		for (size_t i = list_grams(&w, gram); i-- > 0;)
			note_bucket(e, bucket_of_gram(gram[i]));
	}
	if (!any)
		return -EINVAL;
	set_docs(e, e->n_docs + 1);
	return 0;
}

/* ---- embedding ---- */

static double idf_of(const struct hash_embedder *e, uint32_t bucket)
{
	uint32_t df = e->df[bucket];

	if (!e->n_docs)
		return 1;
	if (!df)
		return unseen_idf;
	/* A logarithm for every gram would be most of the time. */
	int shift = VF_MAX(0, 32 - LOG2_EXACT - __builtin_clz(df));
	double square = e->ln_docs - e->ln_half[df >> shift] - shift * ln2;
	/* A word of every document: rounding must not make it negative. */
	return sqrt(VF_MAX(square, 1e-6));
}

/* Add @weight / sqrt(@n) with a sign to each of @n places. */
static void spread(float *out, uint32_t dim, uint64_t hash, double weight,
		   int n)
{
	float w = (float)(weight / sqrt(n));

	for (int i = 0; i < n; i++) {
		hash = remix(hash);
		out[(hash >> 32) * dim >> 32] += hash & 1 ? w : -w;
	}
}

static void add_grams(const struct hash_embedder *e, const uint8_t *at,
		      const char *end, double weight, float *out)
{
	struct vf_words words = {at, (const uint8_t *)end};
	uint64_t gram[GRAMS_MAX];
	struct vf_word w;

	if (!vf_words_next(&words, &w))
		return;
	size_t n = list_grams(&w, gram);
	if (n)
		weight /= sqrt((double)n);
	for (size_t i = 0; i < n; i++)
		spread(out, e->base.dim, gram[i],
		       weight * idf_of(e, bucket_of_gram(gram[i])),
		       GRAM_PLACES);
}

static void add_feature(const struct hash_embedder *e, const struct feature *s,
			const char *end, float *out)
{
	double tf = 1 + ln((double)s->n) / 2;
	double idf = idf_of(e, s->bucket[0]);

	if (s->at) {
		spread(out, e->base.dim, s->hash, word_weight * tf * idf,
		       WORD_PLACES);
		add_grams(e, s->at, end, grams_weight * tf, out);
	} else {
		idf = sqrt(idf * idf_of(e, s->bucket[1]));
		spread(out, e->base.dim, s->hash, pair_weight * tf * idf,
		       PAIR_PLACES);
	}
}

static void make_unit(float *x, uint32_t dim)
{
	double square = 0;

	for (uint32_t i = 0; i < dim; i++)
		square += (double)x[i] * x[i];
	if (!(square > 0)) {
		/* Few dimensions: every weight can have met its opposite. */
		x[0] = 1;
		return;
	}
	double length = sqrt(square);
	for (uint32_t i = 0; i < dim; i++)
		x[i] = (float)(x[i] / length);
}

static int hash_embed(const struct vf_embedder *base, const char *text,
		      size_t len, float *out)
{
	const struct hash_embedder *e = (const struct hash_embedder *)base;
	VF_CLEANUP(free_features) struct features f = {0};
	int err = count_features(text, len, &f);

	if (err)
		return err;
	memset(out, 0, base->dim * sizeof(*out));
	for (size_t i = 0; i <= f.mask; i++)
		if (f.slots[i].n)
			add_feature(e, &f.slots[i], text + len, out);
	make_unit(out, base->dim);
	return 0;
}

/* ---- the data object ---- */

static int hash_save(const struct vf_embedder *base, struct vf_buf *out)
{
	const struct hash_embedder *e = (const struct hash_embedder *)base;
	const size_t bound = ZSTD_COMPRESSBOUND(COUNTS_LEN);
	VF_AUTO_FREE uint8_t *plain = malloc(COUNTS_LEN);

	if (!plain || vf_buf_reserve(out, HEADER_LEN + bound + SUM_LEN))
		return -ENOMEM;
	for (size_t i = 0; i < N_BUCKETS; i++)
		vf_put_le32(plain + 4 * i, e->df[i]);
	uint8_t *head = out->data + out->len;
	size_t n = ZSTD_compress(head + HEADER_LEN, bound, plain, COUNTS_LEN,
				 ZSTD_LEVEL);
	if (ZSTD_isError(n)) /* the room is enough, so: memory */
		return -ENOMEM;
	memcpy(head, magic, sizeof(magic));
	vf_put_le32(head + 8, FORMAT_VERSION);
	vf_put_le32(head + 12, base->dim);
	vf_put_le64(head + 16, e->n_docs);
	vf_put_le32(head + 24, LOG2_BUCKETS);
	vf_put_le32(head + 28, (uint32_t)n);
	vf_put_le64(head + HEADER_LEN + n, XXH3_64bits(head, HEADER_LEN + n));
	out->len += HEADER_LEN + n + SUM_LEN;
	return 0;
}

/* Returns NULL or what is wrong with the frame; @out_err says which kind. */
static const char *check_data(const uint8_t *p, size_t len, uint32_t dim,
			      int *out_err)
{
	*out_err = -EBADMSG;
	if (len < HEADER_LEN + SUM_LEN || memcmp(p, magic, sizeof(magic)))
		return "is not an embedder's data";
	if (vf_le64(p + len - SUM_LEN) != XXH3_64bits(p, len - SUM_LEN))
		return "is damaged";
	if (vf_le32(p + 8) > FORMAT_VERSION) {
		*out_err = -ENOTSUP;
		return "is of a newer format";
	}
	if (vf_le32(p + 12) != dim)
		return "is of another dimension";
	if (vf_le32(p + 8) != FORMAT_VERSION ||
	    vf_le32(p + 24) != LOG2_BUCKETS ||
	    vf_le32(p + 28) != len - HEADER_LEN - SUM_LEN)
		return "has a damaged head";
	*out_err = 0;
	return NULL;
}

static int load(struct hash_embedder *e, const uint8_t *p, size_t len)
{
	VF_AUTO_FREE uint8_t *plain = NULL;
	uint32_t dim = e->base.dim;
	int err;
	const char *wrong = check_data(p, len, dim, &err);

	if (wrong)
		return vf_fail(err, "hash:%u: its data %s", dim, wrong);
	plain = malloc(COUNTS_LEN);
	if (!plain)
		return vf_fail(-ENOMEM, "hash:%u: %s", dim, strerror(ENOMEM));
	if (ZSTD_decompress(plain, COUNTS_LEN, p + HEADER_LEN,
			    len - HEADER_LEN - SUM_LEN) != COUNTS_LEN)
		return vf_fail(-EBADMSG, "hash:%u: its counts are damaged",
			       dim);
	set_docs(e, vf_le64(p + 16));
	for (size_t i = 0; i < N_BUCKETS; i++) {
		e->df[i] = vf_le32(plain + 4 * i);
		if (e->df[i] > e->n_docs)
			return vf_fail(-EBADMSG,
				       "hash:%u: its count %zu is damaged", dim,
				       i);
	}
	return 0;
}

static void hash_free(struct vf_embedder *base)
{
	struct hash_embedder *e = (struct hash_embedder *)base;

	free(e->df);
	free(e->last);
	free(e);
}

static const struct vf_embedder_ops hash_ops = {
	.name = "hash",
	.learn = hash_learn,
	.embed = hash_embed,
	.save = hash_save,
	.has_words = hash_has_words,
	.free = hash_free,
};

int vf_embed_hash_open(uint32_t dim, const void *data, size_t len,
		       struct vf_embedder **out)
{
	struct hash_embedder *e = calloc(1, sizeof(*e));
	int err = 0;

	if (!e)
		return vf_fail(-ENOMEM, "hash:%u: %s", dim, strerror(ENOMEM));
	e->base = (struct vf_embedder){&hash_ops, dim, 64};
	for (size_t i = 0; i < VF_N(e->ln_half); i++)
		e->ln_half[i] = i ? ln((double)i + 0.5) : 0;
	e->df = calloc(N_BUCKETS, sizeof(*e->df));
	e->last = calloc(N_BUCKETS, sizeof(*e->last));
	if (!e->df || !e->last)
		err = vf_fail(-ENOMEM, "hash:%u: %s", dim, strerror(ENOMEM));
	else if (data)
		err = load(e, data, len);
	if (err) {
		hash_free(&e->base);
		return err;
	}
	*out = &e->base;
	return 0;
}
