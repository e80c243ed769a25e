/*
 * The rows of a view that a filter leaves: by the postings of the catalog where
 * they know a shard, else line by line; those of the tail by their lines, which
 * are in memory.  Sets are kept for filters that are asked again.
 *
 * All fields of filters  [lock], which is held while a set is made, reading
 * included: the others most often wait for the very same set.
 *
 * A process may have an LMDB environment open but once, and more than one view
 * of an index: the catalog is open only while a set is made, under the one
 * catalog_lock.
 */
#include "query/engine.h"
#include "query/shard_codes.h"
#include "store/catalog.h"
#include "store/filter.h"
#include "store/line.h"

#include <pthread.h>

enum {
	KEPT = 16,
	LINES_LEN = 4 << 20, /* bytes of records read at a time */
};

static pthread_mutex_t catalog_lock = PTHREAD_MUTEX_INITIALIZER;

struct vf_filters {
	pthread_mutex_t lock;
	char *cache_dir; /* owned; NULL: the default */
	bool use_catalog, was_synced;
	void (*building)(void *arg, uint64_t done,
			 uint64_t total); /* [fixed] */
	void *building_arg;		  /* [fixed] */
	struct vf_catalog *catalog;	  /* [catalog_lock]; NULL: not open */
	struct vf_rowset *kept[KEPT];
	uint64_t used[KEPT], n_uses; /* when each was asked for last */
};

int vf_filters_new(const struct vf_view_options *opt, struct vf_filters **out)
{
	const char *cache_dir = opt ? opt->cache_dir : NULL;
	struct vf_filters *f = calloc(1, sizeof(*f));

	*out = f;
	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock, NULL);
	if (opt) {
		f->building = opt->building;
		f->building_arg = opt->building_arg;
	}
	f->use_catalog = !cache_dir || *cache_dir;
	if (cache_dir && !(f->cache_dir = strdup(cache_dir)))
		return -ENOMEM;
	return 0;
}

static void free_set(struct vf_rowset *r)
{
	for (size_t i = 0; r->skips && i < r->n_places; i++)
		free(r->skips[i]);
	free(r->skips);
	free(r->filter);
	free(r);
}

void vf_rowset_put(struct vf_rowset *r)
{
	if (r &&
	    atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1)
		free_set(r);
}

void vf_filters_free(struct vf_filters *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < KEPT; i++)
		vf_rowset_put(f->kept[i]);
	free(f->cache_dir);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* ---- by lines ---------------------------------------------------------------------- */

static void set_bit(uint64_t *bits, uint64_t row)
{
	bits[row / 64] |= (uint64_t)1 << row % 64;
}

/* 1: the record line matches. */
static int match_line(const struct vf_filter *f, const char *text, size_t len,
		      struct vf_buf *scratch)
{
	struct vf_line line;
	int err = vf_line_split(text, len, &line);

	return err ? err
		   : vf_filter_match(f, line.metadata, line.metadata_len,
				     scratch);
}

/* Rows from @row on whose lines fit in LINES_LEN bytes, one at least. */
static uint64_t count_lines(const struct vf_shard *s, uint64_t row,
			    uint64_t *out_off, size_t *out_len)
{
	uint64_t n = 0, off;
	uint32_t len, crc;

	vf_index_line(s->ix, row, out_off, &len, &crc);
	for (*out_len = 0; row + n < s->n_rows; n++) {
		if (vf_index_line(s->ix, row + n, &off, &len, &crc) && n)
			break;
		if (n && *out_len + len > LINES_LEN)
			break;
		*out_len += len;
	}
	return n;
}

static int match_lines(const struct vf_shard *s, const struct vf_dead *dead,
		       uint64_t row, uint64_t n, const char *text,
		       const char *end, const struct vf_filter *f,
		       uint64_t *bits)
{
	VF_AUTO_BUF struct vf_buf scratch = {0};
	uint64_t off;
	uint32_t len, crc;

	for (uint64_t to = row + n; row < to; row++, text += len) {
		int rc = vf_index_line(s->ix, row, &off, &len, &crc);
		if (!rc && len > (size_t)(end - text))
			rc = -EBADMSG;
		if (!rc && vf_dead_has(dead, row))
			continue;
		if (!rc && vf_crc32c(0, text, len) != crc)
			rc = -EBADMSG;
		if (!rc)
			rc = match_line(f, text, len, &scratch);
		if (rc == -EBADMSG)
			vf_log(VF_ERROR, "%s: line %llu is damaged",
			       s->records.path, (unsigned long long)row);
		if (rc < 0)
			return rc;
		if (rc)
			set_bit(bits, row);
	}
	return 0;
}

static int select_by_lines(const struct vf_view *v, size_t at,
			   const struct vf_filter *f, uint64_t *bits)
{
	const struct vf_shard *s = &v->shards[at];
	int err = vf_stage_rows(s);

	memset(bits, 0, (s->n_rows + 63) / 64 * sizeof(*bits));
	for (uint64_t row = 0, n; !err && row < s->n_rows; row += n) {
		uint64_t off;
		size_t len;
		n = count_lines(s, row, &off, &len);
		VF_AUTO_FREE char *text = malloc(len + 1);
		if (!text)
			return -ENOMEM;
		if (off > s->records.len || len > s->records.len - off)
			return vf_fail(-EBADMSG, "%s: row %llu has no line",
				       s->records.path,
				       (unsigned long long)row);
		err = vf_file_read(&s->records, off, len, text);
		if (!err)
			err = match_lines(s, v->state->dead[at], row, n, text,
					  text + len, f, bits);
	}
	return err;
}

static int select_tail(const struct vf_view *v, const struct vf_tail *t,
		       const struct vf_filter *f, uint64_t *bits)
{
	const struct vf_inline *r = t->rows;
	VF_AUTO_BUF struct vf_buf scratch = {0};

	for (uint64_t i = 0; i < r->n_rows; i++) {
		int rc = vf_dead_has(t->dead, i)
				 ? 0
				 : match_line(f, r->lines + r->line_offs[i],
					      r->line_offs[i + 1] -
						      r->line_offs[i],
					      &scratch);
		if (rc < 0)
			return rc == -EBADMSG
				       ? vf_fail(rc,
						 "%s: inline row %llu of "
						 "record %llu is damaged",
						 v->state->name,
						 (unsigned long long)i,
						 (unsigned long long)t->record)
				       : rc;
		if (rc)
			set_bit(bits, i);
	}
	return 0;
}

/* ---- by postings --------------------------------------------------------------------- */

/* A catalog that is of no use costs time only. */
static void drop_catalog(struct vf_filters *f)
{
	f->use_catalog = false;
	vf_catalog_close(VF_STEAL(f->catalog));
}

static void open_catalog(struct vf_filters *f, const struct vf_view *v)
{
	if (f->use_catalog && !f->catalog &&
	    vf_catalog_open(f->cache_dir, v->state->uuid, &f->catalog))
		drop_catalog(f);
}

static int show_building(void *arg, uint64_t done, uint64_t total)
{
	const struct vf_filters *f = arg;

	if (f->building)
		f->building(f->building_arg, done, total);
	return 0;
}

/* Once: what it does not know then is newer, or older, than it. */
static void sync_catalog(struct vf_filters *f, const struct vf_view *v)
{
	const struct vf_catalog_sync sync = {.bucket = v->bucket,
					     .state = v->state,
					     .progress = show_building,
					     .arg = f,
					     .line_crcs = vf_shard_line_crcs};

	f->was_synced = true;
	int err = vf_catalog_sync(f->catalog, &sync);
	show_building(f, 0, 0);
	if (err && err != -EAGAIN)
		drop_catalog(f);
}

static int select_shard(struct vf_filters *f, const struct vf_view *v,
			size_t at, const struct vf_filter *filter,
			uint64_t *bits)
{
	int err = -ENOENT;

	open_catalog(f, v);
	if (f->catalog)
		err = vf_catalog_select(f->catalog, v->state, at, filter, bits);
	if (err == -EUCLEAN) {
		vf_log(VF_WARN, "the catalog is damaged: built again");
		if (vf_catalog_reset(f->catalog))
			drop_catalog(f);
	}
	if ((err == -EUCLEAN || err == -ENOENT) && f->catalog &&
	    !f->was_synced) {
		sync_catalog(f, v);
		if (f->catalog)
			err = vf_catalog_select(f->catalog, v->state, at,
						filter, bits);
	}
	return err && err != -ENOMEM ? select_by_lines(v, at, filter, bits)
				     : err;
}

/* ---- sets ---------------------------------------------------------------------------- */

/* Matches of a place become what is skipped there. */
static uint64_t turn_bits(uint64_t *bits, uint64_t n_rows,
			  const struct vf_dead *dead)
{
	uint64_t n = 0;

	for (size_t i = 0; i < (n_rows + 63) / 64; i++) {
		uint64_t keep = bits[i] & (dead ? ~dead->bits[i] : UINT64_MAX);
		n += (uint64_t)__builtin_popcountll(keep);
		bits[i] = ~keep;
	}
	return n;
}

static int fill_place(struct vf_filters *f, const struct vf_view *v, size_t at,
		      const struct vf_filter *filter, struct vf_rowset *r)
{
	bool is_tail = at >= v->n_shards;
	const struct vf_tail *t =
		is_tail ? &v->state->tail[at - v->n_shards] : NULL;
	uint64_t n_rows = t ? t->rows->n_rows : v->shards[at].n_rows;
	uint64_t *bits = calloc((n_rows + 63) / 64 + 1, sizeof(*bits));

	r->skips[at] = bits;
	if (!bits)
		return -ENOMEM;
	int err = t ? select_tail(v, t, filter, bits)
		    : select_shard(f, v, at, filter, bits);
	if (err)
		return err;
	uint64_t n = turn_bits(bits, n_rows, t ? t->dead : v->state->dead[at]);
	r->n_rows += n;
	r->n_shard_rows += t ? 0 : n;
	return 0;
}

static int make_set(struct vf_filters *f, const struct vf_view *v,
		    const char *text, struct vf_rowset **out)
{
	struct vf_rowset *r = calloc(1, sizeof(*r));
	struct vf_filter *filter;
	int err;

	*out = r;
	if (!r)
		return -ENOMEM;
	atomic_init(&r->refs, 1);
	r->n_places = v->n_shards + v->state->n_tail;
	r->skips = calloc(r->n_places + 1, sizeof(*r->skips));
	r->filter = strdup(text);
	err = r->skips && r->filter ? vf_filter_open(text, v->state->name,
						     &v->state->config, &filter)
				    : -ENOMEM;
	if (!err) {
		pthread_mutex_lock(&catalog_lock);
		for (size_t i = 0; !err && i < r->n_places; i++)
			err = fill_place(f, v, i, filter, r);
		vf_catalog_close(VF_STEAL(f->catalog));
		pthread_mutex_unlock(&catalog_lock);
		vf_filter_free(filter);
	}
	if (err)
		free_set(VF_STEAL(*out));
	return err;
}

/* The set of @text, or where the one longest unused is. */
static size_t find_set(const struct vf_filters *f, const char *text)
{
	size_t oldest = 0;

	for (size_t i = 0; i < KEPT; i++) {
		if (f->kept[i] && !strcmp(f->kept[i]->filter, text))
			return i;
		if (f->used[i] < f->used[oldest])
			oldest = i;
	}
	return oldest;
}

int vf_view_filter(const struct vf_view *v, const char *text,
		   struct vf_rowset **out)
{
	struct vf_filters *f = v->filters;
	struct vf_rowset *r;
	int err = 0;

	*out = NULL;
	pthread_mutex_lock(&f->lock);
	size_t at = find_set(f, text);
	r = f->kept[at];
	if (!r || strcmp(r->filter, text)) {
		err = make_set(f, v, text, &r);
		if (!err) {
			vf_rowset_put(f->kept[at]);
			f->kept[at] = r;
		}
	}
	if (!err) {
		f->used[at] = ++f->n_uses;
		atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
		*out = r;
	}
	pthread_mutex_unlock(&f->lock);
	return err;
}
