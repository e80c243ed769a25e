/* What an index is, and what a user may want of it. */
#include "tools/ingest.h"
#include "tools/verb.h"

uint64_t vf_shard_rows_default(uint32_t dim, enum vf_dtype dtype)
{
	uint64_t row_len = dim * vf_dtype_size(dtype);
	uint64_t n = (UINT64_C(1) << 30) / row_len;

	return VF_MIN(n, (uint64_t)VF_SHARD_ROWS_MAX);
}

int vf_index_find(struct vf_bucket *b, const char *index, struct vf_state **out)
{
	*out = NULL;
	int err = vf_state_load(b, index, out);
	return err == -ENOENT ? 0 : err;
}

static int refuse(const char *target, const char *what, const char *has,
		  const char *asked)
{
	return vf_fail(-EINVAL, "%s: its %s is %s, not %s", target, what, has,
		       asked);
}

static int exempt(struct vf_index_config *c, const char *key)
{
	if (strlen(key) > VF_NON_FILTERABLE_LEN)
		return vf_fail(VF_ERR_USAGE,
			       "--non-filterable: \"%.20s...\" is longer than "
			       "%d bytes",
			       key, VF_NON_FILTERABLE_LEN);
	for (uint32_t i = 0; i < c->n_non_filterable; i++)
		if (!strcmp(c->non_filterable[i], key))
			return 0;
	if (c->n_non_filterable == VF_NON_FILTERABLE_MAX)
		return vf_fail(VF_ERR_USAGE,
			       "--non-filterable: more than %d keys",
			       VF_NON_FILTERABLE_MAX);
	strcpy(c->non_filterable[c->n_non_filterable++], key);
	return 0;
}

/* Which keys are filterable is settled when an index is made. */
static int check_exempt(const char *target, const struct vf_index_config *c,
			const char *key)
{
	for (uint32_t i = 0; i < c->n_non_filterable; i++)
		if (!strcmp(c->non_filterable[i], key))
			return 0;
	return vf_fail(-EINVAL,
		       "%s: its key \"%s\" is filterable, which "
		       "--non-filterable cannot change",
		       target, key);
}

static int check_wish(const char *target, const struct vf_index_config *c,
		      const struct vf_wish *w)
{
	if (w->metric && w->metric != c->metric)
		return refuse(target, "metric", vf_metric_name(c->metric),
			      vf_metric_name(w->metric));
	if (w->dtype && w->dtype != c->dtype)
		return refuse(target, "element type", vf_dtype_name(c->dtype),
			      vf_dtype_name(w->dtype));
	if (w->has_seed && w->seed != c->rotation_seed)
		return vf_fail(-EINVAL,
			       "%s: its rotation seed is %llu, not %llu",
			       target, (unsigned long long)c->rotation_seed,
			       (unsigned long long)w->seed);
	if (w->embedder && strcmp(w->embedder, c->embedder))
		return refuse(target, "embedder",
			      c->embedder[0] ? c->embedder : "none",
			      w->embedder);
	int err = 0;
	for (uint32_t i = 0; !err && i < w->non_filterable.n; i++)
		err = check_exempt(target, c, w->non_filterable.at[i]);
	return err;
}

int vf_config_new(const struct vf_wish *w, uint32_t dim, enum vf_dtype rows,
		  struct vf_index_config *out)
{
	*out = (struct vf_index_config){.dim = dim,
					.metric = w->metric ? w->metric
							    : VF_COSINE,
					.dtype = w->dtype	  ? w->dtype
						 : rows == VF_F16 ? VF_F16
								  : VF_F32,
					.rotation_seed = w->seed};
	if (!w->has_seed)
		vf_random(&out->rotation_seed, sizeof(out->rotation_seed));
	if (w->embedder)
		strncpy(out->embedder, w->embedder, sizeof(out->embedder) - 1);
	int err = 0;
	for (uint32_t i = 0; !err && i < w->non_filterable.n; i++)
		err = exempt(out, w->non_filterable.at[i]);
	return err;
}

int vf_config_settle(const char *target, const struct vf_state *s,
		     const struct vf_wish *w, const struct vf_source *source,
		     struct vf_index_config *out)
{
	if (s && s->configured) {
		*out = s->config;
		if (source->dim != out->dim)
			return vf_fail(-EINVAL,
				       "%s: its dimension is %u, but the rows "
				       "of %s have %u elements",
				       target, out->dim, source->name,
				       source->dim);
		return check_wish(target, out, w);
	}
	return vf_config_new(w, source->dim, source->dtype, out);
}
