/*
 * Hits with their keys and metadata: the last stage.
 */
#include "query/engine.h"

#include <jansson.h>

void vf_answer_free(struct vf_answer *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_hits; i++) {
		free((char *)a->hits[i].key);
		free((char *)a->hits[i].metadata);
	}
	free(a->hits);
	free(a);
}

/*
 * Where the metadata of a line is: {"key":"...","metadata":{...}}\n, as the
 * checksum says that one of ours wrote it.  Its text is handed on as it is,
 * since numbers of any size are allowed in it and parsing would round them.
 */
static const char *find_metadata(const char *line, size_t len, size_t *out_len)
{
	static const char head[] = "{\"key\":\"", mid[] = ",\"metadata\":{";
	const char *s = line + sizeof(head) - 1, *end = line + len - 2;

	if (len < sizeof(head) + sizeof(mid) + 2 ||
	    memcmp(line, head, sizeof(head) - 1) || memcmp(end, "}\n", 2))
		return NULL;
	for (; s < end && *s != '"'; s++)
		s += *s == '\\';
	if (s >= end || (size_t)(end - ++s) < sizeof(mid) ||
	    memcmp(s, mid, sizeof(mid) - 1) || end[-1] != '}')
		return NULL;
	s += sizeof(mid) - 2;
	*out_len = (size_t)(end - s);
	return s;
}

int vf_view_record(const struct vf_view *v, uint64_t id, char **out_key,
		   char **out_metadata)
{
	VF_AUTO_FREE char *line = NULL;
	size_t len, metadata_len = 0;
	int err = vf_view_line(v, id, &line, &len);

	if (err)
		return err;
	const char *metadata = find_metadata(line, len, &metadata_len);
	json_t *j = json_loadb(line, len, JSON_DECODE_INT_AS_REAL, NULL);
	const char *key = json_string_value(json_object_get(j, "key"));
	if (key && metadata) {
		*out_key = strdup(key);
		*out_metadata = strndup(metadata, metadata_len);
	}
	json_decref(j);
	if (!key || !metadata)
		return vf_fail(-EBADMSG,
			       "%s/%s: the line of row %llu is no "
			       "record",
			       vf_bucket_url(v->bucket), v->state->name,
			       (unsigned long long)id);
	return *out_key && *out_metadata ? 0 : -ENOMEM;
}

/* Places of the tail are counted behind the shards. */
static void name_place(const struct vf_view *v, uint64_t id,
		       struct vf_answer_hit *out)
{
	size_t place;

	if (id >= v->tail_base) {
		place = v->n_shards + (size_t)(vf_view_tail(v, id, &out->row) -
					       v->state->tail);
	} else {
		const struct vf_shard *s = vf_view_shard(v, id);
		place = (size_t)(s - v->shards);
		out->row = id - s->base;
	}
	out->shard = (uint32_t)place;
}

/* The row of a hit was read, or it is of the tail. */
static bool is_exact(const struct vf_view *v, const struct vf_search *s,
		     const struct vf_open *open, uint64_t id)
{
	const struct vf_open_row want = {.id = id}, *r;

	if (s->exact || id >= v->tail_base)
		return true;
	r = open->n ? bsearch(&want, open->rows, open->n, sizeof(want),
			      vf_open_compare)
		    : NULL;
	return r && r->is_read;
}

static int add_hit(struct vf_view *v, const struct vf_search *s,
		   const struct vf_open *open, const struct vf_hit *hit,
		   struct vf_answer *a)
{
	struct vf_answer_hit *h = &a->hits[a->n_hits];
	char *key = NULL, *metadata = NULL;
	int err = vf_view_record(v, hit->id, &key, &metadata);

	if (err) {
		free(key);
		free(metadata);
		return err;
	}
	*h = (struct vf_answer_hit){.key = key,
				    .distance = hit->dist,
				    .exact = is_exact(v, s, open, hit->id),
				    .metadata = metadata};
	name_place(v, hit->id, h);
	if (s->no_metadata)
		strcpy(metadata, "{}"); /* any object is as long */
	a->n_hits++;
	return 0;
}

int vf_stage_answer(struct vf_view *v, const struct vf_search *s,
		    uint64_t deadline_ns, const struct vf_open *open,
		    struct vf_topk *best, struct vf_answer *a)
{
	vf_topk_sort(best);
	a->hits = calloc(best->n + 1, sizeof(*a->hits));
	if (!a->hits)
		return -ENOMEM;
	for (uint32_t i = 0; i < best->n; i++) {
		if (!vf_line_wait(v, best->hits[i].id, deadline_ns))
			continue;
		int err = add_hit(v, s, open, &best->hits[i], a);
		if (err && (err == -ENOMEM || !s->on_error_partial))
			return err;
		a->cost.errors += err != 0;
	}
	return 0;
}
