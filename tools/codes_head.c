#include "tools/codes_head.h"

#include "index/codes.h"

enum { HEAD_LEN = VF_CODES_TABLE_MAX };

static int refuse(const char *key, int err, const char *why)
{
	return vf_fail(err, "%s: %s", key, why);
}

/* *out_why is set of what is wrong with the bytes, not with reading them. */
static int read_head(struct vf_bucket *b, const char *key,
		     const struct vf_shard_ref *r,
		     struct vf_shard_codes_head *out, const char **out_why)
{
	struct vf_section_ref sections[VF_N_SECTIONS_MAX];
	_Alignas(16) uint8_t head[HEAD_LEN];
	struct vf_codes codes;
	size_t n = 0;

	*out_why = NULL;
	int err = vf_bucket_get(b, key, NULL, 0,
				VF_MIN(sizeof(head), r->codes.stored_len), head,
				&n, NULL);
	if (err)
		return err;
	err = vf_codes_table(head, n, r->codes.stored_len, &codes, sections,
			     out_why);
	if (err)
		return err;
	out->flat = !sections[VF_SEC_TREE].len;
	out->bits = codes.bits;
	return 0;
}

int vf_shard_codes_head(struct vf_bucket *b, const char *index,
			const struct vf_shard_ref *r,
			struct vf_shard_codes_head *out)
{
	VF_AUTO_FREE char *key = vf_shard_key(index, r->name, r->codes.name);
	const char *why;

	if (!key)
		return refuse(index, -ENOMEM, strerror(ENOMEM));
	int err = read_head(b, key, r, out, &why);
	if (err == -ENOENT)
		why = "is not there";
	return why ? refuse(key, err, why) : err;
}

uint32_t vf_shard_codes_bits(struct vf_bucket *b, const char *index,
			     const struct vf_shard_ref *r)
{
	VF_AUTO_FREE char *key = vf_shard_key(index, r->name, r->codes.name);
	struct vf_shard_codes_head head;
	const char *why;

	return key && !read_head(b, key, r, &head, &why) ? head.bits : 0;
}
