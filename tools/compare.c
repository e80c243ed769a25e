/*
 * The file's rows become digests sorted by the hash of their key; the index is
 * walked and each of its rows looked up.
 */
#include "tools/compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "tools/interrupt.h"
#include "tools/jsonl.h"
#include "tools/progress.h"
#include "tools/rows.h"
#include "tools/source_file.h"
#include "tools/walk.h"

struct entry {
	uint64_t hash, digest;
	uint64_t row; /* and in its top bits: */
};

#define SEEN	  (UINT64_C(1) << 63)
#define NO_VECTOR (UINT64_C(1) << 62) /* known: the rest is compared */
#define ROW	  (NO_VECTOR - 1)

struct comparison {
	const struct vf_compare *c;
	struct entry *entries; /* [n], by hash */
	uint64_t n, n_seen;
	size_t row_len;
	bool metadata;
	struct vf_progress progress;
};

/* @vector  NULL: not known */
static uint64_t digest_row(const struct comparison *k, const void *vector,
			   const void *metadata, size_t len)
{
	uint64_t seed = vector ? XXH3_64bits(vector, k->row_len) : 0;

	return k->metadata ? XXH3_64bits_withSeed(metadata, len, seed) : seed;
}

/* ---- the file ------------------------------------------------------------------------ */

struct scratch {
	float *x;
	uint16_t *half;
	struct vf_buf key, metadata, compact;
};

static int take_row(struct comparison *k, uint64_t row, struct scratch *s)
{
	const struct vf_index_config *c = &k->c->state->config;
	bool has = vf_source_file_has_vector(k->c->source, row);
	char reason[128];

	s->key.len = s->metadata.len = s->compact.len = 0;
	int err = vf_source_file_row(k->c->source, row, has ? s->x : NULL,
				     &s->key, &s->metadata);
	if (err)
		return err;
	if (!k->c->source->has_keys)
		err = vf_buf_printf(&s->key, "%" PRIu64, k->c->first_key + row);
	if (!err && s->metadata.len)
		err = vf_metadata_append((char *)s->metadata.data,
					 s->metadata.len, &s->compact, reason);
	else if (!err)
		err = vf_buf_append(&s->compact, "{}", 2);
	if (err)
		return vf_fail(err, "%s: row %" PRIu64 ": %s",
			       k->c->source->name, row, vf_strerror(err));
	const void *stored = has ? s->x : NULL;
	if (has && c->dtype == VF_F16) {
		vf_rows_to_f16(s->x, c->dim, s->half);
		stored = s->half;
	}
	k->entries[row] = (struct entry){vf_key_hash(s->key.data, s->key.len),
					 digest_row(k, stored, s->compact.data,
						    s->compact.len),
					 row | (has ? 0 : NO_VECTOR)};
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	uint64_t x = ((const struct entry *)a)->hash,
		 y = ((const struct entry *)b)->hash;

	return (x > y) - (x < y);
}

static int read_file(struct comparison *k)
{
	uint32_t dim = k->c->state->config.dim;
	struct scratch s = {.x = malloc(dim * sizeof(float)),
			    .half = malloc(dim * sizeof(uint16_t))};
	int err = s.x && s.half ? 0 : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));

	vf_progress_begin(&k->progress, "checking: reading", k->n, 0,
			  k->c->quiet);
	for (uint64_t row = 0; !err && row < k->n; row++) {
		err = take_row(k, row, &s);
		vf_progress_update(&k->progress, row);
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	vf_progress_end(&k->progress);
	free(s.x);
	free(s.half);
	vf_buf_fini(&s.key);
	vf_buf_fini(&s.metadata);
	vf_buf_fini(&s.compact);
	qsort(k->entries, k->n, sizeof(*k->entries), compare_entries);
	return err;
}

/* ---- the index -------------------------------------------------------------------------- */

static int check_row(void *arg, const struct vf_walk_row *row)
{
	struct comparison *k = arg;
	const struct entry want = {.hash = vf_key_hash(row->key, row->key_len)};
	struct entry *e =
		bsearch(&want, k->entries, k->n, sizeof(*e), compare_entries);

	if (!e && !k->c->whole)
		return 0;
	if (!e)
		return vf_fail(-EILSEQ, "%s: key \"%.*s\" of %s is not in it",
			       k->c->source->name, (int)row->key_len, row->key,
			       k->c->target);
	if (e->digest != digest_row(k, e->row & NO_VECTOR ? NULL : row->vector,
				    row->metadata, row->metadata_len))
		return vf_fail(-EILSEQ,
			       "%s: row %" PRIu64
			       ", key \"%.*s\", is not as it is in %s",
			       k->c->source->name, e->row & ROW,
			       (int)row->key_len, row->key, k->c->target);
	k->n_seen += !(e->row & SEEN);
	e->row |= SEEN;
	return 0;
}

static int find_missing(const struct comparison *k)
{
	uint64_t first = UINT64_MAX;

	if (k->n_seen == k->n)
		return 0;
	for (uint64_t i = 0; i < k->n; i++)
		first = VF_MIN(first, k->entries[i].row & SEEN
					      ? UINT64_MAX
					      : k->entries[i].row & ROW);
	return vf_fail(-EILSEQ,
		       "%s: %" PRIu64 " rows are not in %s, row %" PRIu64
		       " the first",
		       k->c->source->name, k->n - k->n_seen, k->c->target,
		       first);
}

int vf_compare_run(const struct vf_compare *c)
{
	const struct vf_index_config *config = &c->state->config;
	struct comparison k = {
		.c = c,
		.n = vf_source_file_rows(c->source),
		.row_len = config->dim * vf_dtype_size(config->dtype),
		.metadata = vf_source_file_has_metadata(c->source)};

	if (c->source->dim != config->dim)
		return vf_fail(-EILSEQ, "%s: rows of %u elements, %s has %u",
			       c->source->name, c->source->dim, c->target,
			       config->dim);
	k.entries = malloc(k.n * sizeof(*k.entries));
	int err = k.entries ? read_file(&k)
			    : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (!err)
		err = vf_walk(c->bucket, c->state, "checking", c->quiet,
			      check_row, &k);
	if (!err)
		err = find_missing(&k);
	free(k.entries);
	return err;
}
