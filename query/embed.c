/*
 * Embedders by name; calls go to the one that was chosen.
 */
#include "query/embed.h"
#include "query/embed_hash.h"

#include <ctype.h>
#include <stdio.h>

enum { EMBED_DIM_MAX = VF_DIM_MAX };

static int parse_dim(const char *s, uint32_t *out)
{
	uint32_t v = 0;

	for (; isdigit((unsigned char)*s) && v <= EMBED_DIM_MAX; s++)
		v = v * 10 + (uint32_t)(*s - '0');
	*out = v;
	return *s || v < VF_DIM_MIN || v > EMBED_DIM_MAX ? -EINVAL : 0;
}

int vf_embedder_open(const char *spec, const void *data, size_t len,
		     struct vf_embedder **out)
{
	uint32_t dim;

	*out = NULL;
	if (strncmp(spec, "hash:", 5))
		return vf_fail(-EINVAL,
			       "%s: no such embedder; there is hash:DIM, for "
			       "example hash:1024",
			       spec);
	if (parse_dim(spec + 5, &dim))
		return vf_fail(-EINVAL, "%s: the dimension has to be %d to %d",
			       spec, VF_DIM_MIN, EMBED_DIM_MAX);
	return vf_embed_hash_open(dim, data, len, out);
}

void vf_embedder_free(struct vf_embedder *e)
{
	if (e)
		e->ops->free(e);
}

bool vf_embedder_has_words(const struct vf_embedder *e, const char *text,
			   size_t len)
{
	return e->ops->has_words(text, len);
}

bool vf_embedder_is_local(const struct vf_embedder *e)
{
	return !e->ops->embed_many;
}

int vf_embedder_learn(struct vf_embedder *e, const char *text, size_t len)
{
	return e->ops->learn ? e->ops->learn(e, text, len) : 0;
}

int vf_embedder_embed(const struct vf_embedder *e, const char *text, size_t len,
		      float *out)
{
	return e->ops->embed(e, text, len, out);
}

static int embed_each(const struct vf_embedder *e,
		      const struct vf_embed_text *texts, size_t n, float *out,
		      struct vf_embed_failure *f)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		err = e->ops->embed(e, texts[i].p, texts[i].len,
				    out + i * e->dim);
		f->at = i;
		f->n = err != 0;
	}
	if (err)
		snprintf(f->why, sizeof(f->why), "%s",
			 err == -EINVAL ? "there is no word in the text"
					: vf_strerror(err));
	return err;
}

int vf_embedder_embed_many(const struct vf_embedder *e,
			   const struct vf_embed_text *texts, size_t n,
			   float *out, struct vf_embed_failure *f)
{
	f->at = f->n = 0;
	f->why[0] = '\0';
	return e->ops->embed_many ? e->ops->embed_many(e, texts, n, out, f)
				  : embed_each(e, texts, n, out, f);
}

int vf_embedder_save(const struct vf_embedder *e, struct vf_buf *out)
{
	return e->ops->save ? e->ops->save(e, out) : 0;
}
