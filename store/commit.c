/*
 * Reading the log, and appending to it.  Each record names the checksum of the
 * one before it, so a log that was cut, mixed up or restarted does not load.
 */
#include "store/commit.h"

#include <stdio.h>
#include <time.h>

enum {
	IDENTITY_MAX = 4096, /* bytes of _vecfs/indexes/NAME */
	COMMIT_TRIES = 6,
};

/* ---- names ----------------------------------------------------------------------------- */

static void identity_key(const char *name, char out[128])
{
	snprintf(out, 128, "_vecfs/indexes/%s", name);
}

static void record_key(const char *name, uint64_t number, char out[128])
{
	snprintf(out, 128, "%s/log/%020llu", name, (unsigned long long)number);
}

char *vf_shard_key(const char *index, const char *shard, const char *object)
{
	char *key;

	return asprintf(&key, "%s/shard/%s/%s", index, shard, object) < 0 ? NULL
									  : key;
}

void vf_shard_name(uint64_t head, char out[VF_SHARD_NAME_LEN + 1])
{
	uint8_t nonce[16];

	vf_random(nonce, sizeof(nonce));
	snprintf(out, VF_SHARD_NAME_LEN + 1, "%020llu-",
		 (unsigned long long)head);
	vf_hex(nonce, sizeof(nonce), out + 21);
}

/* ---- one record ---------------------------------------------------------------------------- */

static int apply_bytes(struct vf_bucket *b, struct vf_state *s, const char *key,
		       const void *p, size_t len)
{
	struct vf_record r;
	const char *why;
	int err = vf_record_parse(p, len, &r, &why);

	if (!err) {
		why = vf_state_apply(s, &r, vf_record_checksum(p, len));
		err = why ? -EBADMSG : 0;
		vf_record_fini(&r);
	}
	return err ? vf_fail(err, "%s/%s: %s", vf_bucket_url(b), key, why) : 0;
}

/* Apply record head + 1; -ENOENT when there is none. */
static int apply_next(struct vf_bucket *b, struct vf_state *s)
{
	VF_AUTO_FREE void *p = NULL;
	char key[128];
	size_t len;
	int err;

	record_key(s->name, s->head + 1, key);
	err = vf_bucket_get_all(b, key, VF_RECORD_MAX, &p, &len);
	return err ? err : apply_bytes(b, s, key, p, len);
}

int vf_record_load(struct vf_bucket *b, const char *name, uint64_t number,
		   void **out_bytes, struct vf_record *out)
{
	char key[128];
	const char *why;
	size_t len;
	void *p = NULL;

	*out_bytes = NULL;
	record_key(name, number, key);
	int err = vf_bucket_get_all(b, key, VF_RECORD_MAX, &p, &len);
	if (err)
		return err;
	err = vf_record_parse(p, len, out, &why);
	if (err) {
		free(p);
		return vf_fail(err, "%s/%s: %s", vf_bucket_url(b), key, why);
	}
	*out_bytes = p;
	return 0;
}

/* ---- loading --------------------------------------------------------------------------- */

struct last {
	uint64_t number;
	size_t dir_len; /* of "name/log/" */
};

static int note_record(void *arg, const struct vf_list_entry *e)
{
	struct last *l = arg;
	const char *digits = e->key + l->dir_len;

	if (strlen(digits) == 20 && strspn(digits, "0123456789") == 20)
		l->number = strtoull(digits, NULL, 10);
	return 0;
}

/*
 * One LIST tells the head; then every record up to it has to be there.
 * @until  read no farther than this commit
 */
static int read_log(struct vf_bucket *b, struct vf_state *s, uint64_t until)
{
	struct last last = {.number = s->head};
	char prefix[128], after[128];
	int err;

	last.dir_len =
		(size_t)snprintf(prefix, sizeof(prefix), "%s/log/", s->name);
	record_key(s->name, s->head, after);
	err = vf_bucket_list(b, prefix, false, after, note_record, &last);
	while (!err && s->head < VF_MIN(last.number, until)) {
		err = apply_next(b, s);
		if (err == -ENOENT)
			return vf_fail(-EBADMSG,
				       "%s/%s%020llu: a record is missing",
				       vf_bucket_url(b), prefix,
				       (unsigned long long)s->head + 1);
	}
	return err;
}

static int read_identity(struct vf_bucket *b, const char *name,
			 uint8_t out_uuid[16])
{
	VF_AUTO_FREE void *p = NULL;
	char key[128];
	size_t len;
	int err;

	identity_key(name, key);
	err = vf_bucket_get_all(b, key, IDENTITY_MAX, &p, &len);
	if (err)
		return err;
	err = vf_identity_parse(p, len, out_uuid);
	if (err)
		vf_fail(err, "%s/%s: %s", vf_bucket_url(b), key,
			err == -ENOTSUP ? "a newer version of vecfs wrote it"
					: "it is damaged");
	return err;
}

static int load_until(struct vf_bucket *b, const char *name, uint64_t until,
		      struct vf_state **out)
{
	struct vf_state *s;
	uint8_t uuid[16];
	int err;

	*out = NULL;
	if (!vf_index_name_ok(name))
		return -ENOENT;
	err = read_identity(b, name, uuid);
	if (err)
		return err;
	s = vf_state_new(name, uuid);
	if (!s)
		return -ENOMEM;
	err = read_log(b, s, until);
	if (err)
		vf_state_free(s);
	else
		*out = s;
	return err;
}

int vf_state_load(struct vf_bucket *b, const char *name, struct vf_state **out)
{
	return load_until(b, name, UINT64_MAX, out);
}

int vf_state_load_at(struct vf_bucket *b, const char *name, uint64_t at,
		     struct vf_state **out)
{
	int err = load_until(b, name, at, out);

	if (err || (*out)->head == at)
		return err;
	err = vf_fail(-ERANGE,
		      "%s/%s: there is no commit %llu; the newest is "
		      "%llu",
		      vf_bucket_url(b), name, (unsigned long long)at,
		      (unsigned long long)(*out)->head);
	vf_state_free(*out);
	*out = NULL;
	return err;
}

int vf_state_refresh(struct vf_bucket *b, const struct vf_state *s,
		     struct vf_state **out_state)
{
	struct vf_state *next = vf_state_copy(s);
	int err;

	*out_state = NULL;
	if (!next)
		return -ENOMEM;
	err = read_log(b, next, UINT64_MAX);
	if (err || next->head == s->head)
		vf_state_free(next);
	else
		*out_state = next;
	return err;
}

static void back_off(int try)
{
	uint32_t r;
	vf_random(&r, sizeof(r));
	usleep(r % (50000u << try));
}

int vf_index_create(struct vf_bucket *b, const char *name, uint8_t out_uuid[16])
{
	VF_AUTO_BUF struct vf_buf text = {0};
	uint8_t found[16];
	char key[128];
	int err;

	identity_key(name, key);
	vf_random(out_uuid, 16);
	err = vf_identity_encode(out_uuid, &text);
	if (err)
		return err;
	for (int try = 0; try < COMMIT_TRIES; try++) {
		if (try)
			back_off(try);
		err = vf_bucket_put(b, key, text.data, text.len,
				    VF_PUT_IF_ABSENT, NULL);
		if (!err)
			return 0;
		/* Somebody's, or ours after a lost answer: it counts. */
		int read = read_identity(b, name, found);
		if (!read)
			memcpy(out_uuid, found, sizeof(found));
		if (read != -ENOENT)
			return read;
		if (err != -EREMOTEIO && err != -EEXIST)
			return err; /* refused for good */
	}
	return vf_fail(-EREMOTEIO, "%s/%s: cannot be created", vf_bucket_url(b),
		       key);
}

/* ---- committing ------------------------------------------------------------------------ */

static void name_writer(struct vf_record *r)
{
	char host[40] = "?";

	gethostname(host, sizeof(host) - 1);
	snprintf(r->writer, sizeof(r->writer), "%s:%d", host, (int)getpid());
	r->time_s = (int64_t)time(NULL);
}

/* Whose record is at @key: 0 ours, -EEXIST foreign, -ENOENT nobody's. */
static int whose(struct vf_bucket *b, const char *key,
		 const struct vf_buf *ours)
{
	VF_AUTO_FREE uint8_t *p = NULL;
	void *data = NULL;
	size_t len;
	int err = vf_bucket_get_all(b, key, VF_RECORD_MAX, &data, &len);

	p = data;
	if (err)
		return err;
	if (len < VF_RECORD_HEADER_LEN || memcmp(p + 48, ours->data + 48, 16))
		return -EEXIST;
	return 0;
}

/* An answer that says the request was not carried out. */
static bool is_refusal(int err)
{
	return err == -EACCES || err == -ENOSPC || err == -EROFS ||
	       err == -ENOTSUP;
}

/*
 * Create the record and learn what became of it.  An answer other than
 * success, a refusal included, says nothing for sure: a lost first answer makes
 * our own repetition look like somebody else's record.  And what was sent once
 * without an answer may land after a later try was refused.
 */
static int settle(struct vf_bucket *b, const char *key,
		  const struct vf_buf *bytes)
{
	int err = 0, seen = -EREMOTEIO;
	bool unclear = false;

	for (int try = 0; try < COMMIT_TRIES; try++) {
		if (try)
			back_off(try);
		if (!try || seen == -ENOENT)
			err = vf_bucket_put(b, key, bytes->data, bytes->len,
					    VF_PUT_IF_ABSENT, NULL);
		if (!err)
			return 0;
		unclear = unclear || !is_refusal(err);
		seen = whose(b, key, bytes);
		if (!seen || seen == -EEXIST)
			return seen;
		/* Always refused, and nothing is there: surely not written. */
		if (seen == -ENOENT && !unclear)
			return err;
	}
	char nonce[33];
	vf_hex(bytes->data + 48, 16, nonce);
	return vf_fail(-EINPROGRESS,
		       "%s/%s: the outcome of the commit is unknown (nonce %s)",
		       vf_bucket_url(b), key, nonce);
}

int vf_commit(struct vf_bucket *b, const struct vf_state *s,
	      const struct vf_op *ops, size_t n_ops,
	      struct vf_state **out_state)
{
	struct vf_record r = {.number = s->head + 1,
			      .previous = s->head_checksum,
			      .ops = (struct vf_op *)ops,
			      .n_ops = n_ops};
	VF_AUTO_BUF struct vf_buf bytes = {0};
	struct vf_state *next;
	char key[128];
	int err;

	*out_state = NULL;
	memcpy(r.uuid, s->uuid, sizeof(r.uuid));
	vf_random(r.nonce, sizeof(r.nonce));
	name_writer(&r);
	err = vf_record_encode(&r, &bytes);
	if (err)
		return err;
	/* What we could not read back ourselves must not become a record. */
	next = vf_state_copy(s);
	if (!next)
		return -ENOMEM;
	record_key(s->name, r.number, key);
	err = apply_bytes(b, next, key, bytes.data, bytes.len);
	if (!err)
		err = settle(b, key, &bytes);
	if (err)
		vf_state_free(next);
	else
		*out_state = next;
	return err;
}

/* ---- all indexes ------------------------------------------------------------------------ */

struct each {
	int (*fn)(void *arg, const char *name);
	void *arg;
};

static int visit_index(void *arg, const struct vf_list_entry *e)
{
	struct each *each = arg;
	const char *name = e->key + strlen("_vecfs/indexes/");

	return vf_index_name_ok(name) ? each->fn(each->arg, name) : 0;
}

int vf_index_list(struct vf_bucket *b, int (*fn)(void *arg, const char *name),
		  void *arg)
{
	struct each each = {fn, arg};

	return vf_bucket_list(b, "_vecfs/indexes/", false, NULL, visit_index,
			      &each);
}
