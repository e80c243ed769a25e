/*
 * Text to vectors.  An embedder is chosen by name; the built-in one is
 *
 *   hash:DIM   words and character n-grams hashed with signs into DIM
 *              dimensions, weighted by inverse document frequency, unit length
 *
 * What it learned from the texts (document frequencies) is one object kept
 * with the index, so that a query is embedded as the documents were.
 *
 * Source: Weinberger et al., "Feature Hashing", ICML 2009.
 */
#ifndef VF_QUERY_EMBED_H
#define VF_QUERY_EMBED_H

#include "store/util.h"

struct vf_embedder;

/* What a kind of embedder does; another one can be a model server. */
struct vf_embedder_ops {
	const char *name; /* before the ':' */
	int (*learn)(struct vf_embedder *e, const char *text, size_t len);
	int (*embed)(const struct vf_embedder *e, const char *text, size_t len,
		     float *out);
	int (*save)(const struct vf_embedder *e, struct vf_buf *out);
	void (*free)(struct vf_embedder *e);
};

struct vf_embedder {
	const struct vf_embedder_ops *ops; /* [fixed] */
	uint32_t dim;			   /* [fixed] */
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

/* First pass over all texts.  Threads: one at a time. */
int vf_embedder_learn(struct vf_embedder *e, const char *text, size_t len);

/*
 * One text to float[dim], unit length.
 * Returns 0; -EINVAL a text without a single word (not logged); -ENOMEM.
 * Threads: any, once learning is over.
 */
int vf_embedder_embed(const struct vf_embedder *e, const char *text, size_t len,
		      float *out);

/* Appends the data object (magic, version, checksum inside). */
int vf_embedder_save(const struct vf_embedder *e, struct vf_buf *out);

#endif
