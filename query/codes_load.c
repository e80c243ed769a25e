/*
 * Codes that are read by leaf, from the mount: what a query lacks is hinted of
 * all shards before any of it is waited for.
 */
#include "query/engine.h"
#include "store/ranges.h"

static int read_codes(void *arg, uint64_t off, size_t len, void *out)
{
	const struct vf_shard *s = arg;

	return vf_file_load(&s->codes, off, len, out);
}

static int readv_codes(void *arg, uint64_t off, struct iovec *iov, int n)
{
	const struct vf_shard *s = arg;

	return vf_file_loadv(&s->codes, off, iov, n);
}

static int peek_codes(void *arg, uint64_t off, size_t len, void *out)
{
	const struct vf_shard *s = arg;

	return vf_file_read(&s->codes, off, len, out);
}

/* Extents ascend. */
static void hint_codes(void *arg, const struct vf_extent *e, size_t n,
		       void *ask_or_null)
{
	struct vf_codes_ask *ask = ask_or_null;
	const struct vf_shard *s = arg;
	VF_AUTO_FREE struct vf_span *spans = malloc((n + 1) * sizeof(*spans));

	if (!spans)
		return; /* it will be read without */
	for (size_t i = 0; i < n; i++)
		spans[i] = (struct vf_span){e[i].off, e[i].off + e[i].len, 0};
	if (ask && ask->cost && ask->no_pages)
		vf_file_fetch_all(&s->codes, spans, n, ask->cost);
	else if (!ask || ask->cost)
		vf_file_hint_all(&s->codes, spans, n, ask ? ask->cost : NULL);
	else
		ask->n_away += vf_file_count_away(&s->codes, spans, n);
}

static void locate_codes(void *arg, const struct vf_extent *e, size_t n,
			 bool *out_near)
{
	const struct vf_shard *s = arg;
	VF_AUTO_FREE struct vf_span *spans = malloc((n + 1) * sizeof(*spans));

	memset(out_near, 0, n * sizeof(*out_near));
	if (!spans)
		return;
	for (size_t i = 0; i < n; i++)
		spans[i] = (struct vf_span){e[i].off, e[i].off + e[i].len, 0};
	vf_file_locate(&s->codes, spans, n, false);
	for (size_t i = 0; i < n; i++)
		out_near[i] = spans[i].where != VF_IN_BUCKET;
}

static int fail_codes(const struct vf_shard *s, int err, const char *why)
{
	return why ? vf_fail(err, "%s: %s", s->codes.path, why) : err;
}

int vf_shard_open_codes(struct vf_view *v, const struct vf_shard_ref *r,
			struct vf_shard *s)
{
	const struct vf_codes_source src = {.read = read_codes,
					    .readv = readv_codes,
					    .peek = peek_codes,
					    .hint = hint_codes,
					    .locate = locate_codes,
					    .arg = s};
	const char *why = NULL;
	int err =
		vf_file_open_in_shard(vf_bucket_dir(v->bucket), v->state->name,
				      r->name, &r->codes, &s->codes);

	if (err)
		return err;
	vf_file_hint(&s->codes, 0,
		     VF_MIN(s->codes.len, (uint64_t)VF_CODES_HEAD_LEN));
	err = vf_index_open_lazy(&src, s->codes.len, &s->ix, &why);
	if (err == -ENOENT) {
		vf_file_close(&s->codes);
		return 1;
	}
	return err ? fail_codes(s, err, why) : 0;
}

int vf_stage_codes(struct vf_view *v, const struct vf_scan_job *jobs, size_t n,
		   bool limited, struct vf_cost *cost)
{
	struct vf_codes_ask ask = {.cost = cost};
	uint64_t gets = cost->gets;
	const char *why;
	int err = 0;

	for (size_t i = 0; !limited && !err && i < v->n_shards; i++)
		err = vf_index_hint_leaves(v->shards[i].ix, jobs, n, &ask);
	for (size_t i = 0; !err && i < v->n_shards; i++) {
		err = vf_index_load_leaves(v->shards[i].ix, jobs, n, &why);
		if (err)
			fail_codes(&v->shards[i], err, why);
	}
	cost->rounds += cost->gets > gets;
	return err;
}

int vf_stage_extra(const struct vf_shard *s, const struct vf_refined *rows,
		   size_t n, bool near)
{
	const char *why;
	int err = vf_index_load_extra(s->ix, rows, n, near, &why);

	return err ? fail_codes(s, err, why) : 0;
}

int vf_stage_hashes(const struct vf_shard *s)
{
	const char *why;
	int err = vf_index_load_hashes(s->ix, &why);

	return err ? fail_codes(s, err, why) : 0;
}

int vf_stage_rows(const struct vf_shard *s)
{
	const struct vf_scan_job all = {0};
	const char *why;
	int err = vf_index_hint_leaves(s->ix, &all, 1, NULL);

	if (err)
		return err;
	err = vf_index_load_leaves(s->ix, &all, 1, &why);
	return err ? fail_codes(s, err, why) : 0;
}

int vf_stage_row(const struct vf_shard *s, uint64_t row)
{
	const char *why;
	int err = vf_index_load_row(s->ix, row, &why);

	return err ? fail_codes(s, err, why) : 0;
}

int vf_view_load(struct vf_view *v)
{
	const char *why;
	int err = 0;

	for (size_t i = 0; i < v->n_shards; i++)
		if (v->shards[i].codes.fd >= 0)
			vf_file_hint(&v->shards[i].codes, 0,
				     v->shards[i].codes.len);
	for (size_t i = 0; !err && i < v->n_shards; i++) {
		err = vf_index_load_all(v->shards[i].ix, &why);
		if (err)
			fail_codes(&v->shards[i], err, why);
	}
	return err;
}
