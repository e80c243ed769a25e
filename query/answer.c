/*
 * Hits with their keys and metadata: the last stage.
 */
#include "query/engine.h"
#include "store/line.h"

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

/* As it is written: parsing would round numbers, or refuse what put takes. */
int vf_view_record(const struct vf_view *v, uint64_t id, char **out_key,
		   char **out_metadata)
{
	VF_AUTO_BUF struct vf_buf key = {0};
	VF_AUTO_FREE char *text = NULL;
	struct vf_line line;
	size_t len;
	int err = vf_view_line(v, id, &text, &len);

	if (err)
		return err;
	err = vf_line_split(text, len, &line);
	if (!err)
		err = vf_line_key(&line, &key);
	if (err == -EBADMSG)
		return vf_fail(err, "%s/%s: the line of row %llu is no record",
			       vf_bucket_url(v->bucket), v->state->name,
			       (unsigned long long)id);
	if (err)
		return err;
	*out_key = strndup((const char *)key.data, key.len);
	*out_metadata = strndup(line.metadata, line.metadata_len);
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

/* NULL: it was not open. */
static const struct vf_open_row *find_open(const struct vf_open *open,
					   uint64_t id)
{
	const struct vf_open_row want = {.id = id};

	return open->n ? bsearch(&want, open->rows, open->n, sizeof(want),
				 vf_open_compare)
		       : NULL;
}

/* The row of a hit was read, or it is of the tail. */
static bool is_exact(const struct vf_view *v, const struct vf_search *s,
		     const struct vf_open *open, uint64_t id)
{
	const struct vf_open_row *r = find_open(open, id);

	return s->exact || id >= v->tail_base || (r && r->is_read);
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

/* ---- lines ------------------------------------------------------------------------------ */

enum { PIECE = 1024 }; /* lines of one round */

/*
 * Leave hits whose lines may not be asked for, in place; of the others those
 * that nobody has asked for into @ask.  Returns how many stay.
 */
static size_t choose_lines(const struct vf_view *v, const struct vf_open *open,
			   struct vf_lines_limit *limit, struct vf_hit *hits,
			   size_t n, struct vf_hit *ask, size_t *out_asked)
{
	size_t kept = 0;

	*out_asked = 0;
	for (size_t i = 0; i < n; i++) {
		const struct vf_open_row *r = find_open(open, hits[i].id);
		if (r && r->is_line_away)
			continue;
		if (hits[i].id < v->tail_base && !(r && r->has_line)) {
			if (limit->gets_left != UINT64_MAX &&
			    vf_line_is_away(v, hits[i].id)) {
				if (!limit->gets_left)
					continue;
				limit->gets_left--;
			}
			ask[(*out_asked)++] = hits[i];
		}
		hits[kept++] = hits[i];
	}
	return kept;
}

static int add_hits(struct vf_view *v, const struct vf_search *s,
		    struct vf_lines_limit *limit, const struct vf_open *open,
		    struct vf_hit *hits, size_t n, struct vf_answer *a)
{
	struct vf_hit ask[PIECE];
	size_t n_ask;
	int err = 0;

	n = choose_lines(v, open, limit, hits, n, ask, &n_ask);
	if (n_ask)
		err = vf_stage_hint_lines(v, ask, n_ask, &a->cost);
	for (size_t i = 0; !err && i < n; i++) {
		if (!vf_line_wait(v, hits[i].id, limit->deadline_ns))
			continue;
		err = add_hit(v, s, open, &hits[i], a);
		a->cost.errors += err != 0;
		if (err != -ENOMEM && s->on_error_partial)
			err = 0;
	}
	return err;
}

int vf_stage_answer(struct vf_view *v, const struct vf_search *s,
		    struct vf_lines_limit limit, const struct vf_open *open,
		    struct vf_topk *best, struct vf_answer *a)
{
	int err = 0;

	vf_topk_sort(best);
	a->hits = calloc(best->n + 1, sizeof(*a->hits));
	if (!a->hits)
		return -ENOMEM;
	for (size_t i = 0; !err && i < best->n; i += PIECE)
		err = add_hits(v, s, &limit, open, best->hits + i,
			       VF_MIN(best->n - i, (size_t)PIECE), a);
	return err;
}
