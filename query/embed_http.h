/*
 * Texts embedded by a model behind an API like OpenAI's: POST URL/embeddings
 * with {"model", "input": [...]}, answered by {"data": [{"index",
 * "embedding"}]}.
 *
 * The key comes from the environment: VECFS_EMBED_KEY goes to any URL;
 * OPENAI_API_KEY only over https or to this machine.  It is never printed.
 */
#ifndef VF_QUERY_EMBED_HTTP_H
#define VF_QUERY_EMBED_HTTP_H

#include "query/embed.h"

struct vf_embed_http_options {
	const char *url; /* "https://host/v1"; "/embeddings" may stand behind */
	const char *model;
	uint32_t dim;	     /* that vectors must have; 0: as the model says */
	uint32_t batch;	     /* texts of one request; 0: 64 */
	unsigned timeout_ms; /* of a request, all its attempts; 0: 120 000 */
	bool (*stop)(void);  /* asked while waiting: give up?  NULL: never */
};

enum { VF_EMBED_BATCH_MAX = 2048 }; /* OpenAI's */

/* Whether "--embed @s" means an API, not an embedder of ours. */
bool vf_embed_is_url(const char *s);

/*
 * What an index remembers of @model, "model:NAME".  Returns 0; -EINVAL empty or
 * too long (logged).
 */
int vf_embed_http_name(const char *model, char *out, size_t cap);
/* NAME of "model:NAME", or NULL: not such an embedder. */
const char *vf_embed_http_model(const char *embedder);

/*
 * With @opt->dim 0 the API is asked at once.
 * Returns 0; -EINVAL; -EREMOTEIO; -ENOMEM; -ECANCELED; logged.
 */
int vf_embed_http_open(const struct vf_embed_http_options *opt,
		       struct vf_embedder **out);

#endif
