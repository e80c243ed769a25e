/*
 * Appending to the log, and settling what became of it.
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"

#include <stdio.h>
#include <time.h>

enum { COMMIT_TRIES = 6 };

/* ---- names ----------------------------------------------------------------------------- */

char *vf_shard_key(const char *index, const char *shard, const char *object)
{
	char *key;

	return asprintf(&key, "%s/shard/%s/%s", index, shard, object) < 0 ? NULL
									  : key;
}

char *vf_tree_key(const char *index, const struct vf_tree_ref *ref)
{
	char *key;

	return asprintf(&key, "%s/tree/%s", index, ref->object.name) < 0 ? NULL
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
	char key[VF_LOG_KEY_LEN];
	int err;

	err = vf_log_identity(b, name, out_uuid);
	if (err != -ENOENT)
		return err;
	vf_log_key(name, NULL, 0, key);
	vf_random(out_uuid, 16);
	err = vf_identity_encode(out_uuid, &text);
	if (!err)
		err = vf_bucket_prove(b);
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
		int read = vf_log_identity(b, name, found);
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
	int64_t now_s = (int64_t)time(NULL); /* a clock may be wrong */
	char host[40] = "?";

	gethostname(host, sizeof(host) - 1);
	snprintf(r->writer, sizeof(r->writer), "%s:%d", host, (int)getpid());
	r->time_s = VF_MAX(now_s, 0);
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
		if (seen == -ECANCELED)
			break; /* nobody will answer any more */
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

/* ---- behind the boundary --------------------------------------------------------------- */

/*
 * A writer that slept may find the number after its head free because the
 * record that had it was collected.  0: @number is above the boundary, as of
 * *checked_ms; -EEXIST: below.
 */
static int check_boundary(struct vf_bucket *b, const char *index,
			  uint64_t number, uint64_t *checked_ms)
{
	uint64_t now_ms = vf_boot_ms(), boundary;

	if (*checked_ms && now_ms - *checked_ms <= VF_TRUST_MS)
		return 0;
	int err = vf_log_boundary(b, index, &boundary);
	if (err)
		return err;
	*checked_ms = now_ms;
	return number < boundary ? -EEXIST : 0;
}

/* The record was created: does it mean anything? */
static int confirm(struct vf_bucket *b, const char *index,
		   const struct vf_record *r, uint64_t *checked_ms)
{
	char nonce[33];
	int err = check_boundary(b, index, r->number, checked_ms);

	if (!err)
		return 0;
	vf_hex(r->nonce, 16, nonce);
	return vf_fail(-EINPROGRESS,
		       "%s/%s: the log was collected while record %llu was on "
		       "its way; whether it counts is unknown (nonce %s)",
		       vf_bucket_url(b), index, (unsigned long long)r->number,
		       nonce);
}

/* ---- checkpoints --------------------------------------------------------------------------- */

int vf_log_checkpoint(struct vf_bucket *b, const struct vf_state *s)
{
	VF_AUTO_BUF struct vf_buf bytes = {0};
	char key[VF_LOG_KEY_LEN];
	int err = vf_checkpoint_encode(s, &bytes);

	if (err)
		return err;
	vf_log_key(s->name, "checkpoint", s->head, key);
	err = vf_bucket_put(b, key, bytes.data, bytes.len, VF_PUT_IF_ABSENT,
			    NULL);
	return err == -EEXIST ? 0 : err;
}

/*
 * A commit that took many rows out of the tail has one of its own: who comes
 * next need not read the records they were in.
 */
static bool wants_checkpoint(const struct vf_state *before,
			     const struct vf_state *s)
{
	struct vf_state_counts was, is;

	if (s->head / VF_CHECKPOINT_EVERY !=
	    s->checkpoint / VF_CHECKPOINT_EVERY)
		return true;
	vf_state_count(before, &was);
	vf_state_count(s, &is);
	return was.tail_len >= is.tail_len + VF_CHECKPOINT_CARRY_ALL;
}

/* The commit stands without it: the next one tries again. */
static void make_checkpoint(struct vf_bucket *b, const struct vf_state *before,
			    struct vf_state *s)
{
	if (!wants_checkpoint(before, s))
		return;
	int err = vf_log_checkpoint(b, s);
	if (err)
		vf_log(VF_WARN, "%s/%s: no checkpoint was written: %s",
		       vf_bucket_url(b), s->name, vf_strerror(err));
	else
		s->checkpoint = s->head;
}

/* ---- the commit --------------------------------------------------------------------------- */

static int encode(struct vf_record *r, const struct vf_state *s,
		  struct vf_buf *out)
{
	memcpy(r->uuid, s->uuid, sizeof(r->uuid));
	vf_random(r->nonce, sizeof(r->nonce));
	name_writer(r);
	return vf_record_encode(r, out);
}

static int create_record(struct vf_bucket *b, struct vf_state *next,
			 const struct vf_record *r, const struct vf_buf *bytes)
{
	char key[VF_LOG_KEY_LEN];

	/* What we could not read back ourselves must not become a record. */
	vf_log_key(next->name, "log", r->number, key);
	int err = vf_log_apply(b, next, key, bytes->data, bytes->len);
	if (!err)
		err = check_boundary(b, next->name, r->number,
				     &next->checked_ms);
	uint64_t sent_ms = vf_boot_ms();
	if (!err)
		err = settle(b, key, bytes);
	if (!err)
		err = confirm(b, next->name, r, &next->checked_ms);
	/* What follows our record cannot have been collected before it was. */
	if (!err)
		next->checked_ms = VF_MAX(next->checked_ms, sent_ms);
	return err;
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
	int err = encode(&r, s, &bytes);

	*out_state = NULL;
	if (err)
		return err;
	struct vf_state *next = vf_state_copy(s);
	if (!next)
		return -ENOMEM;
	err = create_record(b, next, &r, &bytes);
	if (err) {
		vf_state_free(next);
		return err;
	}
	make_checkpoint(b, s, next);
	*out_state = next;
	return 0;
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
