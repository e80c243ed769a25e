/*
 * Three looks: the log by itself, the objects that the newest version names by
 * their sizes and checksums, and, deep, the rows in them by theirs.
 */
#include "tools/audit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>

#include "index/tree.h"
#include "store/change.h"
#include "store/checkpoint.h"
#include "store/log_fetch.h"
#include "tools/interrupt.h"
#include "tools/objectsum.h"
#include "tools/progress.h"
#include "tools/walk.h"

/* Objects of the index as they were listed, ascending by key. */
struct listed {
	char *key; /* owned */
	uint64_t size;
	bool named;
};

struct audit {
	struct vf_audit *a;
	struct listed *objects; /* owned */
	size_t n, cap;
	uint64_t oldest; /* version that is kept; 0, 1: the first */
	struct vf_progress progress;
};

__attribute__((format(printf, 2, 3))) static void found(struct audit *w,
							const char *fmt, ...)
{
	char line[1600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	w->a->n_found++;
	vf_progress_end(&w->progress);
	w->a->found(w->a->arg, line);
}

/* ---- what is there ------------------------------------------------------------------ */

static int list_object(void *arg, const struct vf_list_entry *e)
{
	struct audit *w = arg;

	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 256;
		void *p = realloc(w->objects, cap * sizeof(*w->objects));
		if (!p)
			return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
		w->objects = p;
		w->cap = cap;
	}
	char *key = strdup(e->key);
	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	w->objects[w->n++] = (struct listed){key, e->object.size, false};
	return vf_interrupted() ? -ECANCELED : 0;
}

static int list_objects(struct audit *w)
{
	VF_AUTO_FREE char *prefix = NULL;

	if (asprintf(&prefix, "%s/", w->a->index) < 0)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	return vf_bucket_list(w->a->bucket, prefix, false, NULL, list_object,
			      w);
}

static int compare_listed(const void *key, const void *object)
{
	return strcmp(key, ((const struct listed *)object)->key);
}

static struct listed *find_listed(struct audit *w, const char *key)
{
	return bsearch(key, w->objects, w->n, sizeof(*w->objects),
		       compare_listed);
}

/* The number that ends the key of an object below "INDEX/@folder/". */
static bool parse_numbered(const struct audit *w, const char *key,
			   const char *folder, uint64_t *out)
{
	size_t at = strlen(w->a->index) + 1, n = strlen(folder);

	return !strncmp(key + at, folder, n) && key[at + n] == '/' &&
	       vf_log_number_parse(key + at + n + 1, out);
}

/* The log's records that were listed, ascending. */
static int list_log(const struct audit *w, struct vf_buf *out)
{
	for (size_t i = 0; i < w->n; i++) {
		struct vf_log_number n = {.size = w->objects[i].size};
		if (parse_numbered(w, w->objects[i].key, "log", &n.number) &&
		    vf_buf_append(out, &n, sizeof(n)))
			return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	}
	return 0;
}

/* ---- the log ---------------------------------------------------------------------------- */

/* Records @from to @end - 1; those below the oldest version may be going. */
static void find_gap(struct audit *w, uint64_t from, uint64_t end)
{
	char key[VF_LOG_KEY_LEN];

	from = VF_MAX(from, w->oldest);
	if (from >= end)
		return;
	vf_log_key(w->a->index, "log", from, key);
	if (end - from == 1)
		found(w, "%s: is not there", key);
	else
		found(w, "%s: is not there, nor %" PRIu64 " more behind it",
		      key, end - from - 1);
}

/* @r by itself, and that it follows the one before it. */
static void check_record(struct audit *w, const char *key,
			 const struct vf_record *r, uint64_t before)
{
	if (w->a->state && memcmp(r->uuid, w->a->state->uuid, sizeof(r->uuid)))
		found(w, "%s: of another index", key);
	else if (before && r->previous != before)
		found(w, "%s: does not follow the record before it", key);
	w->a->n_records++;
}

/* The next of @f, which is @number.  *previous: checksum of the one before. */
static int check_next(struct audit *w, struct vf_log_fetch *f, uint64_t number,
		      uint64_t *previous)
{
	VF_AUTO_FREE void *bytes = NULL;
	char key[VF_LOG_KEY_LEN];
	struct vf_record r;
	uint64_t before = *previous;

	vf_log_key(w->a->index, "log", number, key);
	int err = vf_log_fetch_record(f, &bytes, &r);
	*previous = 0;
	if (!err) {
		/* Parsing saw to it that it is as long as it says. */
		*previous = vf_record_checksum(
			bytes, (size_t)vf_le64((uint8_t *)bytes + 16));
		check_record(w, key, &r, before);
		vf_record_fini(&r);
	} else if (err == -ENOENT) { /* deleted since it was listed */
		find_gap(w, number, number + 1);
	} else if (err == -EBADMSG || err == -ENOTSUP) {
		found(w, "%s: %s", key,
		      err == -EBADMSG ? "damaged" : "of a newer format");
	} else {
		return err;
	}
	find_listed(w, key)->named = true;
	return 0;
}

/* The largest number below a folder; the smallest to @out_first. */
static uint64_t last_number(const struct audit *w, const char *folder,
			    uint64_t *out_first)
{
	uint64_t last = 0, number;

	*out_first = UINT64_MAX;
	for (size_t i = 0; i < w->n; i++)
		if (parse_numbered(w, w->objects[i].key, folder, &number)) {
			*out_first = VF_MIN(*out_first, number);
			last = VF_MAX(last, number);
		}
	return last;
}

/*
 * From the first that is there, or is kept, to the newest: of a log that was
 * never collected the very first, else the one that the boundary is named
 * after.
 */
static int check_log(struct audit *w)
{
	VF_AUTO_BUF struct vf_buf list = {0};
	struct vf_log_fetch *f = NULL;
	uint64_t next = VF_MAX(w->oldest, UINT64_C(1)), previous = 0;
	int err = list_log(w, &list);
	const struct vf_log_number *l = (struct vf_log_number *)list.data;
	size_t n = list.len / sizeof(*l);

	if (!err)
		err = vf_log_fetch_open(w->a->bucket, w->a->index, "log", l, n,
					&f);
	for (size_t i = 0; !err && i < n; i++) {
		if (l[i].number > next) {
			find_gap(w, next, l[i].number);
			previous = 0;
		}
		next = l[i].number + 1;
		err = vf_interrupted()
			      ? -ECANCELED
			      : check_next(w, f, l[i].number, &previous);
	}
	vf_log_fetch_close(f);
	return err;
}

static int load_record(void *arg, uint64_t record, void **out_bytes,
		       size_t *out_len)
{
	struct audit *w = arg;
	char key[VF_LOG_KEY_LEN];

	vf_log_key(w->a->index, "log", record, key);
	return vf_bucket_get_all(w->a->bucket, key, VF_RECORD_MAX, out_bytes,
				 out_len);
}

static int check_checkpoint(struct audit *w, struct listed *l)
{
	struct vf_state *s = NULL;
	const char *why = "damaged";
	void *p = NULL;
	size_t len;
	int err = vf_bucket_get_all(w->a->bucket, l->key, VF_CHECKPOINT_MAX, &p,
				    &len);

	if (err && err != -EFBIG)
		return err;
	if (!err)
		err = vf_checkpoint_parse(p, len, w->a->index,
					  w->a->state ? w->a->state->uuid
						      : NULL,
					  load_record, w, &s, &why);
	if (err == -EBADMSG || err == -ENOTSUP || err == -EFBIG) {
		found(w, "%s: %s", l->key, why);
		err = 0;
	}
	l->named = true;
	w->a->n_checkpoints++;
	vf_state_free(s);
	free(p);
	return err;
}

/* What has to be there since records before @oldest are not. */
static void expect_numbered(struct audit *w, const char *folder)
{
	char key[VF_LOG_KEY_LEN];

	vf_log_key(w->a->index, folder, w->oldest, key);
	struct listed *l = find_listed(w, key);
	if (l)
		l->named = true;
	else
		found(w, "%s: is not there", key);
}

/* Without a state, all there are: one of them may be why. */
static int check_checkpoints(struct audit *w)
{
	uint64_t number;
	int err = 0;

	for (size_t i = 0; !err && i < w->n; i++)
		if (parse_numbered(w, w->objects[i].key, "checkpoint",
				   &number) &&
		    number >= w->oldest)
			err = check_checkpoint(w, &w->objects[i]);
	if (!err && w->oldest > 1) {
		uint64_t first_log, first;
		uint64_t boundary = last_number(w, "boundary", &first);
		last_number(w, "log", &first_log);
		expect_numbered(w, "checkpoint");
		/* It comes before records go. */
		if (first_log > VF_MAX(boundary, (uint64_t)1))
			expect_numbered(w, "boundary");
	}
	return err;
}

/* ---- objects ------------------------------------------------------------------------------ */

static int sum_object(struct audit *w, const struct listed *l,
		      const struct vf_object_ref *ref)
{
	int err = vf_object_verify(w->a->bucket, l->key, ref);

	if (err == -EBADMSG)
		found(w, "%s: damaged: its checksum is wrong", l->key);
	return err == -EBADMSG ? 0 : err;
}

/* An object that the newest version names; read when it is @small or deep. */
static int check_object(struct audit *w, const char *key,
			const struct vf_object_ref *ref, bool small)
{
	struct listed *l = key ? find_listed(w, key) : NULL;

	if (!key)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	w->a->n_objects++;
	w->a->n_bytes += ref->stored_len;
	if (!l) {
		found(w, "%s: is not there", key);
		return 0;
	}
	l->named = true;
	if (l->size != ref->stored_len) {
		found(w, "%s: has %" PRIu64 " bytes, not %" PRIu64, key,
		      l->size, ref->stored_len);
		return 0;
	}
	return small || w->a->deep ? sum_object(w, l, ref) : 0;
}

static int check_shard(struct audit *w, const struct vf_shard_ref *r)
{
	const struct vf_object_ref *const refs[] = {&r->codes, &r->vectors,
						    &r->records};
	uint64_t before = w->a->n_found, codes = 0;
	int err = 0;

	for (size_t i = 0; !err && i < VF_N(refs); i++) {
		VF_AUTO_FREE char *key =
			vf_shard_key(w->a->index, r->name, refs[i]->name);
		err = check_object(w, key, refs[i], refs[i] == &r->codes);
		if (refs[i] == &r->codes)
			codes = w->a->n_found - before;
	}
	/* Codes alone can be made again of the rest. */
	if (codes && w->a->n_found == before + codes)
		w->a->lost_codes[w->a->n_lost_codes++] = r->name;
	return err;
}

static int check_in_folder(struct audit *w, const char *folder,
			   const struct vf_object_ref *ref)
{
	VF_AUTO_FREE char *key = NULL;

	if (!ref->name[0])
		return 0;
	if (asprintf(&key, "%s/%s/%s", w->a->index, folder, ref->name) < 0)
		key = NULL;
	return check_object(w, key, ref, true);
}

static int check_objects(struct audit *w)
{
	const struct vf_state *s = w->a->state;
	int err = check_in_folder(w, "embed", &s->config.embedder_data);

	uint64_t before = w->a->n_found;
	if (!err && s->has_tree)
		err = check_in_folder(w, "tree", &s->tree.object);
	w->a->lost_tree = w->a->n_found > before;
	w->a->lost_codes = calloc(s->n_shards + 1, sizeof(*w->a->lost_codes));
	if (!err && !w->a->lost_codes)
		err = vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	vf_progress_begin(&w->progress, "verifying", s->n_shards, 0,
			  w->a->quiet);
	w->progress.unit = "shards";
	for (size_t i = 0; !err && i < s->n_shards; i++) {
		err = check_shard(w, &s->shards[i]);
		vf_progress_update(&w->progress, i);
	}
	vf_progress_end(&w->progress);
	for (size_t i = 0; i < w->n; i++)
		if (!w->objects[i].named) {
			w->a->n_other++;
			w->a->other_bytes += w->objects[i].size;
		}
	return err;
}

/* ---- rows ------------------------------------------------------------------------------------ */

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
		found(r->w, "the catalog on this machine: key \"%.*s\" is %s",
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
		found(r->w, "%s: %" PRIu64 " keys live twice", r->w->a->index,
		      n);
	if (r->n != r->max)
		found(r->w, "%s: %" PRIu64 " rows live, its log says %" PRIu64,
		      r->w->a->index, r->n, r->max);
}

static int open_catalog(struct audit *w, struct vf_changer *ch,
			struct vf_catalog_view **out)
{
	*ch = (struct vf_changer){.bucket = w->a->bucket,
				  .index = w->a->index,
				  .cache_dir = w->a->cache_dir,
				  .state = vf_state_copy(w->a->state)};
	int err = ch->state ? vf_changer_look(ch, out)
			    : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	if (!err && ch->state->head != w->a->state->head) {
		vf_catalog_done(*out); /* somebody committed: not comparable */
		*out = NULL;
	}
	return err;
}

static int check_rows(struct audit *w)
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
		found(w, "%s: a row is damaged", w->a->index);
	else if (!err)
		check_hashes(&r);
	vf_catalog_done(view);
	vf_changer_fini(&ch);
	free(r.hashes);
	vf_buf_fini(&r.metadata);
	return err == -EBADMSG ? 0 : err;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int check_identity(struct audit *w)
{
	VF_AUTO_FREE void *p = NULL;
	char key[VF_LOG_KEY_LEN];
	uint8_t uuid[16];
	size_t len;

	vf_log_key(w->a->index, NULL, 0, key);
	int err =
		vf_bucket_get_all(w->a->bucket, key, VF_IDENTITY_MAX, &p, &len);
	if (!err)
		err = vf_identity_parse(p, len, uuid);
	if (err == -EBADMSG || err == -ENOTSUP || err == -EFBIG) {
		found(w, "%s: %s", key,
		      err == -ENOTSUP ? "of a newer format" : "damaged");
		return 0;
	}
	return err;
}

static int load_state(struct audit *w)
{
	uint64_t first;
	int err = vf_state_load(w->a->bucket, w->a->index, &w->a->state);

	if (err == -ENOENT)
		return vf_fail(err,
			       "%s: there is no such index, or "
			       "_vecfs/indexes/%s is gone",
			       w->a->index, w->a->index);
	w->oldest =
		err ? last_number(w, "boundary", &first) : w->a->state->oldest;
	if (err != -EBADMSG && err != -ENOTSUP)
		return err;
	found(w, "%s: its newest version cannot be read: %s", w->a->index,
	      vf_strerror(err));
	return check_identity(w);
}

int vf_audit_run(struct vf_audit *a)
{
	struct audit w = {.a = a};
	int err = list_objects(&w);

	if (!err)
		err = load_state(&w);
	if (!err)
		err = check_log(&w);
	if (!err)
		err = check_checkpoints(&w);
	if (!err && a->state)
		err = check_objects(&w);
	if (!err && a->state && a->deep && !a->n_found && a->state->n_rows)
		err = check_rows(&w);
	for (size_t i = 0; i < w.n; i++)
		free(w.objects[i].key);
	free(w.objects);
	return err;
}

void vf_audit_fini(struct vf_audit *a)
{
	vf_state_free(a->state);
	a->state = NULL;
	free(a->lost_codes);
	a->lost_codes = NULL;
}
