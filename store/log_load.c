/*
 * Reading the log of an index: from the newest checkpoint that is sound, or
 * from the first record, to the end that one LIST tells.
 *
 *   - each record names the checksum of the one before it, so a log that was
 *     cut, mixed up or restarted does not load
 *   - the record a boundary is named after is never deleted, so the LIST shows
 *     it: a reader that fell behind it finds a gap, or a record that does not
 *     follow, and begins again at a checkpoint.  The end that a fresh LIST tells
 *     needs no look at boundary/; an old one does (tests/model_commit.c)
 *   - a checkpoint is there before the boundary it is for, so the newest one is
 *     never behind the boundary
 */
#include "store/checkpoint.h"
#include "store/commit_impl.h"
#include "store/log_ahead.h"

#include <stdio.h>
#include <time.h>

enum { LOAD_TRIES = 3 }; /* collected while we read */

/* ---- names and numbers ------------------------------------------------------------------ */

void vf_log_key(const char *index, const char *folder, uint64_t number,
		char out[VF_LOG_KEY_LEN])
{
	if (folder)
		snprintf(out, VF_LOG_KEY_LEN, "%s/%s/%020llu", index, folder,
			 (unsigned long long)number);
	else
		snprintf(out, VF_LOG_KEY_LEN, "_vecfs/indexes/%s", index);
}

uint64_t vf_boot_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

bool vf_log_number_parse(const char *digits, uint64_t *out)
{
	if (strlen(digits) != 20 || strspn(digits, "0123456789") != 20)
		return false;
	*out = strtoull(digits, NULL, 10);
	return true;
}

static int list_numbers(struct vf_bucket *b, const struct vf_log_ahead *ahead,
			const char *index, const char *folder, uint64_t from,
			struct vf_buf *out)
{
	return ahead ? vf_log_ahead_numbers(ahead, folder, from, out)
		     : vf_log_numbers(b, index, folder, from, out);
}

static size_t n_numbers(const struct vf_buf *numbers)
{
	return numbers->len / sizeof(struct vf_log_number);
}

static const struct vf_log_number *number_at(const struct vf_buf *numbers,
					     size_t i)
{
	return (const struct vf_log_number *)numbers->data + i;
}

/* The last of them; 0: there is none. */
static uint64_t last_number(const struct vf_buf *numbers)
{
	size_t n = n_numbers(numbers);

	return n ? number_at(numbers, n - 1)->number : 0;
}

int vf_log_boundary(struct vf_bucket *b, const char *index, uint64_t *out)
{
	VF_AUTO_BUF struct vf_buf numbers = {0};
	int err = vf_log_numbers(b, index, "boundary", 0, &numbers);

	*out = err ? 0 : last_number(&numbers);
	return err;
}

/* ---- one record ---------------------------------------------------------------------------- */

int vf_log_apply(struct vf_bucket *b, struct vf_state *s, const char *key,
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

int vf_log_record_parse(struct vf_bucket *b, const char *key, const void *p,
			size_t len, struct vf_record *out)
{
	const char *why;
	int err = vf_record_parse(p, len, out, &why);

	return err ? vf_fail(err, "%s/%s: %s", vf_bucket_url(b), key, why) : 0;
}

int vf_record_load(struct vf_bucket *b, const char *name, uint64_t number,
		   void **out_bytes, struct vf_record *out)
{
	const struct vf_log_number one = {.number = number};
	struct vf_log_fetch *f;
	int err = vf_log_fetch_open(b, name, "log", &one, 1, &f);

	*out_bytes = NULL;
	if (!err)
		err = vf_log_fetch_record(f, out_bytes, out);
	vf_log_fetch_close(f);
	return err;
}

/* ---- the records after a state ------------------------------------------------------------ */

/*
 * A record that is not there, or does not follow, is one thing in a log that
 * is damaged and another behind a boundary.  Returns -ESTALE for the latter.
 */
static int explain(struct vf_bucket *b, const struct vf_state *s, int err,
		   const char *key, const char *why)
{
	uint64_t boundary;
	int look = vf_log_boundary(b, s->name, &boundary);

	if (look)
		return look;
	return boundary > s->head
		       ? -ESTALE
		       : vf_fail(err, "%s/%s: %s", vf_bucket_url(b), key, why);
}

/* Apply record head + 1, whose bytes came with @err. */
static int apply_bytes(struct vf_bucket *b, struct vf_state *s, int err,
		       const void *p, size_t len)
{
	char key[VF_LOG_KEY_LEN];
	struct vf_record r = {0};
	const char *why = "a record is missing";

	vf_log_key(s->name, "log", s->head + 1, key);
	if (err && err != -ENOENT)
		return err;
	if (!err)
		err = vf_record_parse(p, len, &r, &why);
	if (err)
		return explain(b, s, err == -ENOENT ? -EBADMSG : err, key, why);
	uint64_t head = s->head;
	why = vf_state_apply(s, &r, vf_record_checksum(p, len));
	vf_record_fini(&r);
	if (!why)
		return 0;
	s->head = head; /* good for nothing but its name */
	return explain(b, s, -EBADMSG, key, why);
}

/* The records of @list, which have to follow @s without a gap. */
static int apply_list(struct vf_bucket *b, struct vf_log_ahead *ahead,
		      struct vf_state *s, const struct vf_log_number *list,
		      size_t n)
{
	struct vf_log_fetch *own = NULL, *f = NULL;
	int err = 0;

	if (n && ahead)
		f = vf_log_ahead_records(ahead, list[0].number);
	if (n && !f) {
		err = vf_log_fetch_open(b, s->name, "log", list, n, &own);
		f = own;
	}
	for (size_t i = 0; !err && i < n; i++) {
		VF_AUTO_FREE void *p = NULL;
		size_t len = 0;
		err = list[i].number == s->head + 1
			      ? vf_log_fetch_next(f, &p, &len)
			      : -ENOENT;
		err = apply_bytes(b, s, err, p, len);
	}
	vf_log_fetch_close(own);
	return err;
}

/*
 * The LIST is old by now: what it named last may have been collected since, and
 * its number taken by a writer that slept.
 */
static int check_end(struct vf_bucket *b, const struct vf_state *s)
{
	uint64_t boundary;
	int err = vf_log_boundary(b, s->name, &boundary);

	return !err && s->head < boundary ? -ESTALE : err;
}

/*
 * One LIST tells the head; then every record up to it has to be there.
 * @until  read no farther than this commit
 *
 * Returns -ESTALE when records after @s were collected.
 */
static int read_log(struct vf_bucket *b, struct vf_log_ahead *ahead,
		    struct vf_state *s, uint64_t until)
{
	VF_AUTO_BUF struct vf_buf numbers = {0};
	uint64_t now_ms = ahead ? vf_log_ahead_ms(ahead) : vf_boot_ms();
	int err = list_numbers(b, ahead, s->name, "log", s->head + 1, &numbers);
	size_t n = n_numbers(&numbers);

	while (n && number_at(&numbers, n - 1)->number > until)
		n--;
	if (!err)
		err = apply_list(b, ahead, s, number_at(&numbers, 0), n);
	if (!err && vf_boot_ms() - now_ms > VF_TRUST_MS)
		err = check_end(b, s);
	if (!err)
		s->checked_ms = now_ms;
	return err;
}

/* ---- where to begin -------------------------------------------------------------------------- */

static int read_identity(struct vf_bucket *b, struct vf_log_ahead *ahead,
			 const char *name, uint8_t out_uuid[16])
{
	VF_AUTO_FREE void *p = NULL;
	size_t len;
	int err = vf_log_ahead_get(ahead, b, name, NULL, 0, &p, &len);

	if (err)
		return err;
	err = vf_identity_parse(p, len, out_uuid);
	if (err)
		vf_fail(err, "%s/_vecfs/indexes/%s: %s", vf_bucket_url(b), name,
			err == -ENOTSUP ? "a newer version of vecfs wrote it"
					: "it is damaged");
	return err;
}

int vf_log_identity(struct vf_bucket *b, const char *name, uint8_t out_uuid[16])
{
	return read_identity(b, NULL, name, out_uuid);
}

/* Those that a checkpoint names, in its order. */
struct records {
	struct vf_buf numbers;
	size_t n_taken;
	struct vf_log_fetch *fetch;
};

static int get_record(void *arg, uint64_t record, void **out_bytes,
		      size_t *out_len)
{
	struct records *r = arg;

	if (r->n_taken == n_numbers(&r->numbers) ||
	    number_at(&r->numbers, r->n_taken)->number != record)
		return -EBADMSG;
	r->n_taken++;
	return vf_log_fetch_next(r->fetch, out_bytes, out_len);
}

static int parse_checkpoint(struct vf_bucket *b, const char *name,
			    const uint8_t uuid[16], const void *p, size_t len,
			    struct vf_state **out, const char **out_why)
{
	struct records r = {0};
	int err = vf_checkpoint_names(p, len, &r.numbers);

	if (!err)
		err = vf_log_fetch_open(b, name, "log",
					number_at(&r.numbers, 0),
					n_numbers(&r.numbers), &r.fetch);
	if (!err)
		err = vf_checkpoint_parse(p, len, name, uuid, get_record, &r,
					  out, out_why);
	vf_log_fetch_close(r.fetch);
	vf_buf_fini(&r.numbers);
	return err;
}

/* -EBADMSG and -ENOENT: an older one may do. */
static int load_checkpoint(struct vf_bucket *b, struct vf_log_ahead *ahead,
			   const char *name, const uint8_t uuid[16],
			   uint64_t number, struct vf_state **out)
{
	VF_AUTO_FREE void *p = NULL;
	char key[VF_LOG_KEY_LEN];
	const char *why;
	size_t len;

	*out = NULL;
	vf_log_key(name, "checkpoint", number, key);
	int err = vf_log_ahead_get(ahead, b, name, "checkpoint", number, &p,
				   &len);
	if (err)
		return err == -EFBIG ? -EBADMSG : err;
	err = parse_checkpoint(b, name, uuid, p, len, out, &why);
	if (!err && (*out)->head != number) {
		vf_state_free(VF_STEAL(*out));
		why = "its number is not its name";
		err = -EBADMSG;
	}
	if (err != -EBADMSG && err != -ENOTSUP)
		return err;
	vf_log(VF_WARN, "%s/%s: %s; reading from an older one",
	       vf_bucket_url(b), key, why);
	return -EBADMSG;
}

/* The newest checkpoint up to @until that is sound, or a state of nothing. */
static int begin(struct vf_bucket *b, struct vf_log_ahead *ahead,
		 const char *name, const uint8_t uuid[16], uint64_t until,
		 struct vf_state **out)
{
	VF_AUTO_BUF struct vf_buf numbers = {0};
	int err = list_numbers(b, ahead, name, "checkpoint", 0, &numbers);

	*out = NULL;
	if (err)
		return err;
	for (size_t n = n_numbers(&numbers); n; n--) {
		uint64_t number = number_at(&numbers, n - 1)->number;
		if (number > until)
			continue;
		err = load_checkpoint(b, ahead, name, uuid, number, out);
		if (err != -EBADMSG && err != -ENOENT)
			return err;
	}
	*out = vf_state_new(name, uuid);
	return *out ? 0 : -ENOMEM;
}

/* @ahead  NULL: everything is asked for when it is wanted */
static int load_until(struct vf_bucket *b, struct vf_log_ahead *ahead,
		      const char *name, uint64_t until, struct vf_state **out)
{
	uint8_t uuid[16];
	int err;

	*out = NULL;
	if (!vf_index_name_ok(name))
		return -ENOENT;
	err = read_identity(b, ahead, name, uuid);
	if (err)
		return err;
	err = -ESTALE;
	for (int i = 0; err == -ESTALE && i < LOAD_TRIES; i++) {
		vf_state_free(VF_STEAL(*out));
		err = begin(b, ahead, name, uuid, until, out);
		if (!err)
			err = read_log(b, ahead, *out, until);
		ahead = NULL; /* it is old */
	}
	if (err)
		vf_state_free(VF_STEAL(*out));
	return err == -ESTALE
		       ? vf_fail(-EBADMSG,
				 "%s/%s: no sound checkpoint is left to begin "
				 "at",
				 vf_bucket_url(b), name)
		       : err;
}

/* ---- loading --------------------------------------------------------------------------- */

int vf_state_load(struct vf_bucket *b, const char *name, struct vf_state **out)
{
	return load_until(b, NULL, name, UINT64_MAX, out);
}

int vf_state_load_listed(struct vf_bucket *b, const char *name,
			 const struct vf_listed *l, struct vf_state **out)
{
	struct vf_log_ahead *ahead = NULL;
	int err;

	*out = NULL;
	if (!vf_index_name_ok(name))
		return -ENOENT;
	err = vf_log_ahead_new(b, name, l, &ahead);
	if (!err || err == -ENOENT)
		err = load_until(b, ahead, name, UINT64_MAX, out);
	vf_log_ahead_free(ahead);
	return err;
}

/* Commit @at may still be there, yet it is going. */
static int check_boundary(struct vf_bucket *b, const char *name, uint64_t at)
{
	uint64_t boundary;
	int err = vf_index_name_ok(name) ? vf_log_boundary(b, name, &boundary)
					 : -ENOENT;

	if (err || at >= boundary)
		return err;
	return vf_fail(-ERANGE,
		       "%s/%s: commit %llu was collected; the oldest that is "
		       "kept is %llu",
		       vf_bucket_url(b), name, (unsigned long long)at,
		       (unsigned long long)boundary);
}

int vf_state_load_at(struct vf_bucket *b, const char *name, uint64_t at,
		     struct vf_state **out)
{
	int err = check_boundary(b, name, at);

	*out = NULL;
	if (!err)
		err = load_until(b, NULL, name, at, out);
	if (err || (*out)->head == at)
		return err;
	err = vf_fail(-ERANGE,
		      "%s/%s: there is no commit %llu; the newest is "
		      "%llu",
		      vf_bucket_url(b), name, (unsigned long long)at,
		      (unsigned long long)(*out)->head);
	vf_state_free(VF_STEAL(*out));
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
	err = read_log(b, NULL, next, UINT64_MAX);
	if (!err) /* whoever commits a multiple writes its checkpoint */
		next->checkpoint = VF_MAX(next->checkpoint,
					  next->head / VF_CHECKPOINT_EVERY *
						  VF_CHECKPOINT_EVERY);
	if (err || next->head == s->head)
		vf_state_free(VF_STEAL(next));
	*out_state = next;
	return err == -ESTALE
		       ? load_until(b, NULL, s->name, UINT64_MAX, out_state)
		       : err;
}
