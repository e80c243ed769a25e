/*
 * Every living row by its checksum, no key twice, as many as the log says, and
 * the catalog of this machine compared with them.
 */
#include "tools/audit_impl.h"

#include <inttypes.h>
#include <xxhash.h>

#include "query/shard_codes.h"
#include "store/change.h"
#include "tools/walk.h"

struct rows {
	struct audit *w;
	uint64_t *hashes; /* [n] of keys */
	uint64_t n, max;
	size_t row_len;
	struct vf_catalog_view *view; /* NULL: not compared */
	struct vf_buf metadata;
};

/* What a person wants to compare over compactions and copies. */
static uint64_t digest_row(const struct rows *r, const struct vf_walk_row *row)
{
	uint64_t h = XXH3_64bits(row->key, row->key_len);

	h = XXH3_64bits_withSeed(row->metadata, row->metadata_len, h);
	return XXH3_64bits_withSeed(row->vector, r->row_len, h);
}

static int ask_catalog(struct rows *r, const struct vf_walk_row *row)
{
	struct vf_place place;

	r->metadata.len = 0;
	int err = vf_catalog_find(r->view, row->key, row->key_len, &place);
	if (!err)
		err = vf_catalog_metadata(r->view, &place, &r->metadata);
	bool same = !err && r->metadata.len == row->metadata_len &&
		    !memcmp(r->metadata.data, row->metadata, row->metadata_len);
	if (err && err != -ENOENT && err != -EUCLEAN)
		return vf_fail(err, "the catalog: %s", vf_strerror(err));
	if (!same) {
		r->w->a->catalog_wrong = true;
		vf_audit_found(
			r->w, "the catalog on this machine: key \"%.*s\" is %s",
			(int)row->key_len, row->key,
			err == -ENOENT ? "not in it" : "damaged in it");
		r->view = NULL; /* one says enough */
	}
	return 0;
}

static int take_row(void *arg, const struct vf_walk_row *row)
{
	struct rows *r = arg;

	if (r->n == r->max)
		return -EBADMSG;
	r->hashes[r->n++] = XXH3_64bits(row->key, row->key_len);
	r->w->a->sum += digest_row(r, row);
	r->w->a->n_rows++;
	return r->view ? ask_catalog(r, row) : 0;
}

static int compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void check_hashes(struct rows *r)
{
	uint64_t n = 0;

	qsort(r->hashes, r->n, sizeof(*r->hashes), compare_hashes);
	for (uint64_t i = 1; i < r->n; i++)
		n += r->hashes[i] == r->hashes[i - 1];
	if (n)
		vf_audit_found(r->w, "%s: %" PRIu64 " keys live twice",
			       r->w->a->index, n);
	if (r->n != r->max)
		vf_audit_found(r->w,
			       "%s: %" PRIu64
			       " rows live, its log says %" PRIu64,
			       r->w->a->index, r->n, r->max);
}

static int open_catalog(struct audit *w, struct vf_changer *ch,
			struct vf_catalog_view **out)
{
	*ch = (struct vf_changer){.bucket = w->a->bucket,
				  .index = w->a->index,
				  .cache_dir = w->a->cache_dir,
				  .line_crcs = vf_shard_line_crcs,
				  .state = vf_state_copy(w->a->state)};
	int err = ch->state ? vf_changer_look(ch, out)
			    : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (!err && ch->state->head != w->a->state->head) {
		vf_catalog_done(*out); /* somebody committed: not comparable */
		*out = NULL;
	}
	return err;
}

int vf_audit_rows(struct audit *w)
{
	const struct vf_index_config *c = &w->a->state->config;
	struct rows r = {.w = w,
			 .max = w->a->state->n_rows,
			 .row_len = c->dim * vf_dtype_size(c->dtype)};
	struct vf_changer ch = {0};
	struct vf_catalog_view *view = NULL;
	int err = open_catalog(w, &ch, &view);

	r.view = view;
	r.hashes = malloc((r.max + 1) * sizeof(*r.hashes));
	if (!err && !r.hashes)
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (!err)
		err = vf_walk(w->a->bucket, w->a->state, "verifying rows",
			      w->a->quiet, take_row, &r);
	if (err == -EBADMSG) /* was logged */
		vf_audit_found(w, "%s: a row is damaged", w->a->index);
	else if (!err)
		check_hashes(&r);
	vf_catalog_done(view);
	vf_changer_fini(&ch);
	free(r.hashes);
	vf_buf_fini(&r.metadata);
	return err == -EBADMSG ? 0 : err;
}
