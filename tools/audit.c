/*
 * Three looks: the log by itself, the objects that the newest version names by
 * their sizes and checksums, and, deep, the rows in them by theirs.
 */
#include "tools/audit_impl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/checkpoint.h"
#include "store/log_fetch.h"
#include "tools/interrupt.h"
#include "tools/objectsum.h"
#include "tools/plain.h"

void vf_audit_found(struct audit *w, const char *fmt, ...)
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

/* Of a mount, or of a copy of what it shows. */
static bool is_made_up(const struct audit *w, const char *key)
{
	return !strncmp(key + strlen(w->a->index), "/live/", 6);
}

static int list_object(void *arg, const struct vf_list_entry *e)
{
	struct audit *w = arg;

	if (is_made_up(w, e->key))
		return 0;
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
		vf_audit_found(w, "%s: is not there", key);
	else
		vf_audit_found(w,
			       "%s: is not there, nor %" PRIu64
			       " more behind it",
			       key, end - from - 1);
}

/* @r by itself, and that it follows the one before it. */
static void check_record(struct audit *w, const char *key,
			 const struct vf_record *r, uint64_t before)
{
	if (w->a->state && memcmp(r->uuid, w->a->state->uuid, sizeof(r->uuid)))
		vf_audit_found(w, "%s: of another index", key);
	else if (before && r->previous != before)
		vf_audit_found(w, "%s: does not follow the record before it",
			       key);
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
		vf_audit_found(w, "%s: %s", key,
			       err == -EBADMSG ? "damaged"
					       : "of a newer format");
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
		vf_audit_found(w, "%s: %s", l->key, why);
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
		vf_audit_found(w, "%s: is not there", key);
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

/* What is there of an object. */
struct object {
	char *key;	   /* owned; of the object itself, or decompressed */
	struct listed *at; /* NULL: it is not there */
	uint64_t size;
	bool plain; /* decompressed, alone */
};

/*
 * A mount lists our NAME.zst as NAME, and opens both; a copy of what it shows
 * has NAME alone.
 */
static int find_shown(struct audit *w, struct object *o)
{
	VF_AUTO_FREE char *plain = strndup(o->key, strlen(o->key) - 4);
	struct vf_object head;

	if (!plain)
		return vf_fail(-ENOMEM, "%s", strerror(ENOMEM));
	o->at = find_listed(w, plain);
	if (!o->at)
		return 0;
	int err = vf_bucket_head(w->a->bucket, o->key, &head);
	if (err != -ENOENT) {
		o->size = err ? 0 : head.size;
		return err;
	}
	o->plain = true;
	o->size = o->at->size;
	free(o->key);
	o->key = VF_STEAL(plain);
	return 0;
}

static int find_object(struct audit *w, const struct vf_object_ref *ref,
		       struct object *o)
{
	int err = 0;

	o->at = find_listed(w, o->key);
	if (o->at)
		o->size = o->at->size;
	else if (ref->zstd)
		err = find_shown(w, o);
	if (!err && o->at)
		o->at->named = true;
	return err;
}

/* @r  its shard, when it is of one */
static int sum_object(struct audit *w, const struct object *o,
		      const struct vf_shard_ref *r,
		      const struct vf_object_ref *ref)
{
	int err = o->plain ? vf_plain_verify(w->a->bucket, w->a->state, r, ref)
			   : vf_object_verify(w->a->bucket, o->key, ref);

	if (err == -EBADMSG)
		vf_audit_found(w, "%s: damaged: its checksum is wrong", o->key);
	return err == -EBADMSG ? 0 : err;
}

static int compare_object(struct audit *w, struct object *o,
			  const struct vf_shard_ref *r,
			  const struct vf_object_ref *ref)
{
	bool is_small = !r || ref == &r->codes;
	int err = find_object(w, ref, o);
	uint64_t want = o->plain ? ref->len : ref->stored_len;

	if (err)
		return err;
	w->a->n_objects++;
	w->a->n_bytes += want;
	if (!o->at)
		vf_audit_found(w, "%s: is not there", o->key);
	else if (o->size != want)
		vf_audit_found(w, "%s: has %" PRIu64 " bytes, not %" PRIu64,
			       o->key, o->size, want);
	else if (o->plain && w->codes_lost)
		vf_audit_found(w, "%s: has its checksums in codes.vix alone",
			       o->key);
	else if (is_small || w->a->deep)
		return sum_object(w, o, r, ref);
	return 0;
}

/* An object that the newest version names, below @key, which is taken over. */
static int check_object(struct audit *w, char *key,
			const struct vf_shard_ref *r,
			const struct vf_object_ref *ref)
{
	struct object o = {.key = key};
	int err = key ? compare_object(w, &o, r, ref)
		      : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));

	free(o.key);
	return err;
}

static int check_shard(struct audit *w, const struct vf_shard_ref *r)
{
	const struct vf_object_ref *const refs[] = {&r->codes, &r->vectors,
						    &r->records};
	uint64_t before = w->a->n_found, codes = 0;
	int err = 0;

	w->codes_lost = false;
	for (size_t i = 0; !err && i < VF_N(refs); i++) {
		err = check_object(
			w, vf_shard_key(w->a->index, r->name, refs[i]->name), r,
			refs[i]);
		if (refs[i] == &r->codes)
			codes = w->a->n_found - before;
		w->codes_lost = codes;
	}
	/* Codes alone can be made again of the rest. */
	if (codes && w->a->n_found == before + codes)
		w->a->lost_codes[w->a->n_lost_codes++] = r->name;
	return err;
}

static int check_in_folder(struct audit *w, const char *folder,
			   const struct vf_object_ref *ref)
{
	char *key;

	if (!ref->name[0])
		return 0;
	if (asprintf(&key, "%s/%s/%s", w->a->index, folder, ref->name) < 0)
		key = NULL;
	return check_object(w, key, NULL, ref);
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
		vf_audit_found(w, "%s: %s", key,
			       err == -ENOTSUP ? "of a newer format"
					       : "damaged");
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
	vf_audit_found(w, "%s: its newest version cannot be read: %s",
		       w->a->index, vf_strerror(err));
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
		err = vf_audit_rows(&w);
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
