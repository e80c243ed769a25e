/*
 * Shards that only hold automatic keys need no look when the new keys are
 * automatic too: the counter has passed them.
 */
#include "tools/conflict.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "store/recordfile.h"
#include "tools/jsonl.h"
#include "tools/verb.h"

struct check {
	struct vf_bucket *bucket;
	const char *index;
	struct vf_source *source;
	uint64_t first_key;
	struct vf_keyset numbers;     /* of automatic keys, made when needed */
	const struct vf_keyset *keys; /* those or the source's */
	const struct vf_shard_ref *shard;
	struct vf_index *codes;	       /* of @shard */
	struct vf_recordfile *records; /* opened at the first hit */
	uint64_t row;		       /* of the shard, being compared */
	char *key;		       /* of that row */
	size_t key_len;
	int err;
};

static int hash_numbers(struct check *c)
{
	char number[24];
	uint64_t unused;

	for (uint64_t i = 0; i < c->source->n_rows; i++) {
		int n = snprintf(number, sizeof(number), "%" PRIu64,
				 c->first_key + i);
		if (vf_keyset_add(&c->numbers, vf_key_hash(number, (size_t)n),
				  i, &unused))
			return vf_fail(-ENOMEM, "%s: %s", c->index,
				       strerror(ENOMEM));
	}
	return 0;
}

/* ---- one hit -------------------------------------------------------------------- */

static int read_key(struct check *c)
{
	VF_AUTO_BUF struct vf_buf line = {0};
	uint64_t off;
	uint32_t len, crc;
	int err = 0;

	if (!c->records)
		err = vf_recordfile_open(c->bucket, c->index, c->shard, 0,
					 &c->records);
	if (err)
		return err;
	vf_index_line(c->codes, c->row, &off, &len, &crc);
	err = vf_recordfile_copy(c->records, off, len, &line);
	if (err)
		return err;
	if (vf_crc32c(0, line.data, line.len) != crc ||
	    vf_record_line_key((char *)line.data, line.len, &c->key,
			       &c->key_len))
		return vf_fail(-EBADMSG,
			       "%s: shard %s: the record of row %" PRIu64
			       " is damaged",
			       c->index, c->shard->name, c->row);
	return 0;
}

static int compare_key(void *arg, uint64_t row)
{
	struct check *c = arg;
	VF_AUTO_FREE char *key = NULL;
	char number[24] = "";
	size_t len = 0;

	if (c->source->has_keys) {
		c->err = c->source->ops->key_at(c->source, row, &key, &len);
		if (c->err)
			return 1;
	} else {
		len = (size_t)snprintf(number, sizeof(number), "%" PRIu64,
				       c->first_key + row);
	}
	if (len != c->key_len || memcmp(key ? key : number, c->key, len))
		return 0;
	c->err = vf_fail(-EEXIST,
			 "%s: key \"%s\" is there already; replacing rows is "
			 "not built yet",
			 c->index, c->key);
	return 1;
}

static int check_row(struct check *c, uint64_t row, uint64_t hash)
{
	uint64_t unused;

	if (!vf_keyset_find(c->keys, hash, &unused))
		return 0;
	c->row = row;
	c->err = read_key(c);
	if (!c->err)
		vf_keyset_each(c->keys, hash, compare_key, c);
	free(c->key);
	c->key = NULL;
	return c->err;
}

/* ---- one shard ------------------------------------------------------------------ */

static int open_codes(struct check *c)
{
	const struct vf_object_ref *ref = &c->shard->codes;
	VF_AUTO_FREE char *key =
		vf_shard_key(c->index, c->shard->name, ref->name);
	const char *reason = "its checksum is wrong";
	void *p;
	size_t len;
	int err = key ? vf_bucket_get_all(c->bucket, key, ref->stored_len, &p,
					  &len)
		      : -ENOMEM;

	if (err == -ENOENT)
		return vf_fail(err, "%s: is not there", key);
	if (err)
		return err;
	if (len != ref->stored_len || XXH3_64bits(p, len) != ref->checksum) {
		free(p);
		err = -EBADMSG;
	} else {
		err = vf_index_open(p, len, &c->codes, &reason);
	}
	return err ? vf_fail(err, "%s: %s", key, reason) : 0;
}

static int check_shard(struct check *c)
{
	struct vf_index_info info;
	int err = open_codes(c);

	if (err)
		return err;
	vf_index_info(c->codes, &info);
	const uint64_t *hashes = vf_index_key_hashes(c->codes);
	for (uint64_t row = 0; !err && row < info.n_rows; row++)
		err = check_row(c, row, hashes[row]);
	vf_recordfile_close(VF_STEAL(c->records));
	vf_index_close(VF_STEAL(c->codes));
	return err;
}

int vf_conflict_check(struct vf_bucket *b, const struct vf_state *s,
		      size_t first, struct vf_source *source,
		      uint64_t first_key)
{
	struct check c = {.bucket = b,
			  .index = s->name,
			  .source = source,
			  .first_key = first_key,
			  .keys = &source->keys};
	int err = 0;

	for (size_t i = first; !err && i < s->n_shards; i++) {
		c.shard = &s->shards[i];
		if (vf_interrupted())
			err = -ECANCELED;
		else if (source->has_keys)
			err = check_shard(&c);
		else if (!c.shard->next_key) {
			if (!c.numbers.n)
				err = hash_numbers(&c);
			c.keys = &c.numbers;
			if (!err)
				err = check_shard(&c);
		}
	}
	vf_keyset_fini(&c.numbers);
	return err;
}
