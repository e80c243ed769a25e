#include "query/shard_codes.h"

#include <xxhash.h>

static int refuse(const char *key, int err, const char *why)
{
	return vf_fail(err, "%s: %s", key, why);
}

int vf_shard_codes_open(struct vf_bucket *b, const char *index,
			const struct vf_shard_ref *r, struct vf_index **out)
{
	VF_AUTO_FREE char *key = vf_shard_key(index, r->name, r->codes.name);
	const char *why = "its checksum is wrong";
	struct vf_index_info info;
	void *p = NULL;
	size_t len;

	if (!key)
		return refuse(index, -ENOMEM, strerror(ENOMEM));
	int err = vf_bucket_get_all(b, key, r->codes.stored_len, &p, &len);
	if (err)
		return err == -ENOENT ? refuse(key, err, "is not there") : err;
	if (len != r->codes.stored_len ||
	    XXH3_64bits(p, len) != r->codes.checksum) {
		free(p);
		return refuse(key, -EBADMSG, why);
	}
	err = vf_index_open(p, len, out, &why);
	if (err)
		return refuse(key, err, why);
	vf_index_info(*out, &info);
	if (info.n_rows == r->n_rows)
		return 0;
	vf_index_close(*out);
	return refuse(key, -EBADMSG, "it is of another shard");
}

int vf_shard_line_crcs(struct vf_bucket *b, const char *index,
		       const struct vf_shard_ref *r, uint32_t **out)
{
	VF_AUTO_FREE uint32_t *crcs = malloc((r->n_rows + 1) * sizeof(*crcs));
	struct vf_index *codes;
	uint64_t off;
	uint32_t len;

	*out = NULL;
	if (!crcs)
		return refuse(index, -ENOMEM, strerror(ENOMEM));
	int err = vf_shard_codes_open(b, index, r, &codes);
	if (err)
		return err;
	for (uint64_t row = 0; row < r->n_rows; row++)
		vf_index_line(codes, row, &off, &len, &crcs[row]);
	vf_index_close(codes);
	*out = VF_STEAL(crcs);
	return 0;
}
