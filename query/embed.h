/*
 * Text to vectors.  An embedder is chosen by name; the built-in one is
 *
 *   hash:DIM   words and character n-grams hashed with signs into DIM
 *              dimensions, weighted by inverse document frequency, unit length
 *
 * and models behind a URL are embed_http.h's.  What hash learned from the texts
 * (document frequencies) is one object kept with the index, so that a query is
 * embedded as the documents were.
 *
 * Source: Weinberger et al., "Feature Hashing", ICML 2009.
 */
#ifndef VF_QUERY_EMBED_H
#define VF_QUERY_EMBED_H

#include "store/util.h"

struct vf_embedder;

struct vf_embed_text {
	const char *p; /* UTF-8 */
	size_t len;
};

enum { VF_EMBED_WHY_LEN = 512 };

/* Of many texts: which could not be embedded, and why. */
struct vf_embed_failure {
	size_t at, n; /* texts at..at+n went together */
	char why[VF_EMBED_WHY_LEN];
};

/* What a kind of embedder does; NULL: nothing is learned, or saved. */
struct vf_embedder_ops {
	const char *name; /* before the ':' */
	int (*learn)(struct vf_embedder *e, const char *text, size_t len);
	int (*embed)(const struct vf_embedder *e, const char *text, size_t len,
		     float *out);
	/* Instead of embed, where texts are cheaper together. */
	int (*embed_many)(const struct vf_embedder *e,
			  const struct vf_embed_text *texts, size_t n,
			  float *out, struct vf_embed_failure *f);
	int (*save)(const struct vf_embedder *e, struct vf_buf *out);
	bool (*has_words)(const char *text, size_t len);
	void (*free)(struct vf_embedder *e);
};

struct vf_embedder {
	const struct vf_embedder_ops *ops; /* [fixed] */
	uint32_t dim;			   /* [fixed] */
	uint32_t many; /* [fixed] texts that are best given at once */
};

/*
 * @spec        "hash:1024"
 * @data, @len  what save gave, borrowed; NULL, 0 for one that has learned
 *              nothing yet
 * Returns 0; -EINVAL a bad spec (logged); -EBADMSG damaged data (logged);
 * -ENOTSUP an embedder that is not built in (logged); -ENOMEM.
 */
int vf_embedder_open(const char *spec, const void *data, size_t len,
		     struct vf_embedder **out);
void vf_embedder_free(struct vf_embedder *e);

/*
 * Whether there is anything in the text to embed, which is a word or, for a
 * model, anything but blanks.  Threads: any.
 */
bool vf_embedder_has_words(const struct vf_embedder *e, const char *text,
			   size_t len);

/* Whether the same text costs nothing to ask for again, and has one answer. */
bool vf_embedder_is_local(const struct vf_embedder *e);

/* First pass over all texts.  Threads: one at a time. */
int vf_embedder_learn(struct vf_embedder *e, const char *text, size_t len);

/*
 * One text to float[dim], unit length.
 * Returns 0; -EINVAL a text without a single word (not logged); -ENOMEM.
 * Threads: any, once learning is over.
 */
int vf_embedder_embed(const struct vf_embedder *e, const char *text, size_t len,
		      float *out);

/*
 * @n texts to float[n][dim]; where many are cheaper together, e->many of them.
 * Returns 0; -EINVAL a text that cannot be embedded; -EREMOTEIO; -ECANCELED;
 * -ENOMEM; said in @f, not logged.  Threads: any.  May block on the network.
 */
int vf_embedder_embed_many(const struct vf_embedder *e,
			   const struct vf_embed_text *texts, size_t n,
			   float *out, struct vf_embed_failure *f);

/* Appends the data object (magic, version, checksum inside). */
int vf_embedder_save(const struct vf_embedder *e, struct vf_buf *out);

#endif
