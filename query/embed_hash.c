/*
 * hash:DIM.  A text's features are its words, pairs of neighbouring words, and
 * the 3- to 5-grams of letters of each word between boundary marks, so that
 * "photo" and "photos" are near.  Each feature adds its weight,
 *
 *   kind * (1 + log count) * inverse document frequency,
 *
 * with hashed signs to SPREAD hashed dimensions.
 *
 * The data object, little-endian: documents in which a feature of a bucket was
 * seen.
 *
 *   off  len
 *     0    8  magic "VFEMBED1"
 *     8    4  format version, 1
 *    12    4  dimension
 *    16    8  number of documents
 *    24    4  log2 of the number of buckets
 *    28    4  length of the compressed part
 *    32       zstd: u32 per bucket
 *   end    8  XXH3-64 of everything before it
 *
 * Source: Weinberger et al., "Feature Hashing", ICML 2009.
 */
#include "query/embed_hash.h"
#include "query/words.h"

#include <math.h>
#include <xxhash.h>
#include <zstd.h>

enum {
	FORMAT_VERSION = 1,
	HEADER_LEN = 32,
	LOG2_BUCKETS = 18,
	N_BUCKETS = 1 << LOG2_BUCKETS,
	SPREAD = 3,
	GRAM_MIN = 3,
	GRAM_MAX = 5,
	ZSTD_LEVEL = 3,
};

static const char magic[8] = "VFEMBED1";

enum kind { WORD, PAIR, GRAM, N_KINDS };
static const float kind_weight[N_KINDS] = {1.0F, 0.6F, 0.25F};

/* A feature nobody has seen tells nothing: it must not drown the others. */
static const float unseen_weight = 0.3F;

struct hash_embedder {
	struct vf_embedder base;
	uint64_t n_docs;
	uint32_t *n_seen; /* [N_BUCKETS] documents */
	uint32_t *last;	  /* [N_BUCKETS] document + 1 that counted last */
};

/* ---- features ------------------------------------------------------------------------ */

/* Features of one text, counted: open addressing, grown by half full. */
struct feature {
	uint64_t hash; /* 0: free */
	uint32_t n;
	uint32_t kind;
};

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

	while (f->slots[i].hash && f->slots[i].hash != hash)
		i = (i + 1) & f->mask;
	return &f->slots[i];
}

static int grow(struct features *f)
{
	struct features next = {.n = f->n,
				.mask = f->slots ? f->mask * 2 + 1 : 1023};

	next.slots = calloc(next.mask + 1, sizeof(*next.slots));
	if (!next.slots)
		return -ENOMEM;
	for (size_t i = 0; f->slots && i <= f->mask; i++)
		if (f->slots[i].hash)
			*slot_of(&next, f->slots[i].hash) = f->slots[i];
	free(f->slots);
	*f = next;
	return 0;
}

static int count_feature(struct features *f, enum kind kind, const void *p,
			 size_t len, uint64_t seed)
{
	uint64_t hash = XXH3_64bits_withSeed(p, len, seed + kind) | 1;
	struct feature *s;

	if (!f->slots || 2 * f->n > f->mask) {
		int err = grow(f);
		if (err)
			return err;
	}
	s = slot_of(f, hash);
	if (!s->hash) {
		*s = (struct feature){hash, 0, kind};
		f->n++;
	}
	s->n++;
	return 0;
}

/* The whole word is a feature of its own, so it is no gram. */
static int count_grams(struct features *f, const struct vf_word *w)
{
	int err = 0;

	for (size_t n = GRAM_MIN; n <= GRAM_MAX; n++)
		for (size_t i = 0; !err && i + n <= w->n + 2; i++)
			if (n < w->n + 2)
				err = count_feature(f, GRAM,
						    w->text + w->off[i],
						    w->off[i + n] - w->off[i],
						    0);
	return err;
}

static int count_features(const char *text, size_t len, struct features *f)
{
	struct vf_words words = {(const uint8_t *)text,
				 (const uint8_t *)text + len};
	struct vf_word w;
	uint64_t previous = 0;
	int err = 0;

	while (!err && vf_words_next(&words, &w)) {
		size_t n = w.off[w.n + 1] - 1u;
		err = count_feature(f, WORD, w.text + 1, n, 0);
		if (!err && previous)
			err = count_feature(f, PAIR, w.text + 1, n, previous);
		if (!err)
			err = count_grams(f, &w);
		previous = XXH3_64bits(w.text + 1, n);
	}
	return err ? err : f->n ? 0 : -EINVAL;
}

/* ---- learning and embedding ------------------------------------------------------------- */

static uint32_t bucket_of(uint64_t hash)
{
	return (uint32_t)(hash >> (64 - LOG2_BUCKETS));
}

static int hash_learn(struct vf_embedder *base, const char *text, size_t len)
{
	struct hash_embedder *e = (struct hash_embedder *)base;
	VF_CLEANUP(free_features) struct features f = {0};
	int err = count_features(text, len, &f);

	if (err)
		return err;
	e->n_docs++;
	for (size_t i = 0; i <= f.mask; i++) {
		uint32_t b = bucket_of(f.slots[i].hash);
		if (!f.slots[i].hash || e->last[b] == (uint32_t)e->n_docs)
			continue;
		e->last[b] = (uint32_t)e->n_docs;
		e->n_seen[b]++;
	}
	return 0;
}

static float weight_of(const struct hash_embedder *e, const struct feature *f)
{
	uint32_t n = e->n_seen[bucket_of(f->hash)];
	double w = kind_weight[f->kind] * (1 + log(f->n));

	if (!e->n_docs)
		return (float)w;
	if (!n)
		return (float)(w * unseen_weight);
	/* as in BM25: Robertson and Zaragoza 2009, section 3.1 */
	return (float)(w * log(1 + ((double)e->n_docs - n + 0.5) / (n + 0.5)));
}

static int hash_embed(const struct vf_embedder *base, const char *text,
		      size_t len, float *out)
{
	const struct hash_embedder *e = (const struct hash_embedder *)base;
	VF_CLEANUP(free_features) struct features f = {0};
	double square = 0;
	int err = count_features(text, len, &f);

	if (err)
		return err;
	memset(out, 0, base->dim * sizeof(*out));
	for (size_t i = 0; i <= f.mask; i++) {
		uint64_t h = f.slots[i].hash;
		float w = h ? weight_of(e, &f.slots[i]) : 0;
		for (int j = 0; h && j < SPREAD; j++) {
			/* splitmix64's step: a fresh hash for each place */
			h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
			h ^= h >> 27;
			out[(h >> 32) % base->dim] += h & 1 ? w : -w;
		}
	}
	for (uint32_t i = 0; i < base->dim; i++)
		square += (double)out[i] * out[i];
	if (!(square > 0)) { /* every weight met its opposite: rare, but */
		out[0] = 1;
		square = 1;
	}
	for (uint32_t i = 0; i < base->dim; i++)
		out[i] = (float)(out[i] / sqrt(square));
	return 0;
}

/* ---- the data object ------------------------------------------------------------------- */

static int hash_save(const struct vf_embedder *base, struct vf_buf *out)
{
	const struct hash_embedder *e = (const struct hash_embedder *)base;
	size_t bound = ZSTD_compressBound(N_BUCKETS * 4), n, start = out->len;
	VF_AUTO_FREE uint8_t *plain = malloc(N_BUCKETS * 4);
	VF_AUTO_FREE uint8_t *packed = malloc(bound);
	uint8_t head[HEADER_LEN], sum[8];

	if (!plain || !packed)
		return -ENOMEM;
	for (size_t i = 0; i < N_BUCKETS; i++)
		vf_put_le32(plain + 4 * i, e->n_seen[i]);
	n = ZSTD_compress(packed, bound, plain, N_BUCKETS * 4, ZSTD_LEVEL);
	if (ZSTD_isError(n))
		return -ENOMEM;
	memcpy(head, magic, 8);
	vf_put_le32(head + 8, FORMAT_VERSION);
	vf_put_le32(head + 12, base->dim);
	vf_put_le64(head + 16, e->n_docs);
	vf_put_le32(head + 24, LOG2_BUCKETS);
	vf_put_le32(head + 28, (uint32_t)n);
	if (vf_buf_append(out, head, sizeof(head)) ||
	    vf_buf_append(out, packed, n))
		return -ENOMEM;
	vf_put_le64(sum, XXH3_64bits(out->data + start, out->len - start));
	return vf_buf_append(out, sum, sizeof(sum));
}

static int load(struct hash_embedder *e, const uint8_t *p, size_t len)
{
	VF_AUTO_FREE uint8_t *plain = NULL;

	if (len < HEADER_LEN + 8 || memcmp(p, magic, 8) ||
	    vf_le64(p + len - 8) != XXH3_64bits(p, len - 8))
		return -EBADMSG;
	if (vf_le32(p + 8) != FORMAT_VERSION || vf_le32(p + 24) != LOG2_BUCKETS)
		return -ENOTSUP;
	if (vf_le32(p + 12) != e->base.dim ||
	    vf_le32(p + 28) != len - HEADER_LEN - 8)
		return -EBADMSG;
	plain = malloc(N_BUCKETS * 4);
	if (!plain)
		return -ENOMEM;
	if (ZSTD_decompress(plain, N_BUCKETS * 4, p + HEADER_LEN,
			    len - HEADER_LEN - 8) != N_BUCKETS * 4)
		return -EBADMSG;
	e->n_docs = vf_le64(p + 16);
	for (size_t i = 0; i < N_BUCKETS; i++) {
		e->n_seen[i] = vf_le32(plain + 4 * i);
		if (e->n_seen[i] > e->n_docs)
			return -EBADMSG;
	}
	return 0;
}

static void hash_free(struct vf_embedder *base)
{
	struct hash_embedder *e = (struct hash_embedder *)base;

	free(e->n_seen);
	free(e->last);
	free(e);
}

static const struct vf_embedder_ops hash_ops = {
	.name = "hash",
	.learn = hash_learn,
	.embed = hash_embed,
	.save = hash_save,
	.free = hash_free,
};

int vf_embed_hash_open(uint32_t dim, const void *data, size_t len,
		       struct vf_embedder **out)
{
	struct hash_embedder *e = calloc(1, sizeof(*e));
	int err = 0;

	if (!e)
		return -ENOMEM;
	e->base = (struct vf_embedder){&hash_ops, dim};
	e->n_seen = calloc(N_BUCKETS, sizeof(*e->n_seen));
	e->last = calloc(N_BUCKETS, sizeof(*e->last));
	if (!e->n_seen || !e->last)
		err = -ENOMEM;
	else if (data)
		err = load(e, data, len);
	if (err) {
		hash_free(&e->base);
		return err == -ENOMEM
			       ? err
			       : vf_fail(err,
					 "hash:%u: its data object "
					 "is %s",
					 dim,
					 err == -EBADMSG ? "damaged"
							 : "of a newer format");
	}
	*out = &e->base;
	return 0;
}
