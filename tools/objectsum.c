#include "tools/objectsum.h"

#include <xxhash.h>

#include "tools/interrupt.h"

enum { READ_LEN = 4 << 20 };

int vf_object_verify(struct vf_bucket *b, const char *key,
		     const struct vf_object_ref *ref)
{
	VF_AUTO_FREE uint8_t *buf = malloc(READ_LEN);
	XXH3_state_t *hash = XXH3_createState();
	int err = hash && buf ? 0 : vf_fail(-ENOMEM, "%s", strerror(ENOMEM));

	if (hash)
		XXH3_64bits_reset(hash);
	for (uint64_t off = 0; !err && off < ref->stored_len;) {
		size_t n = (size_t)VF_MIN(ref->stored_len - off,
					  (uint64_t)READ_LEN);
		err = vf_bucket_get(b, key, NULL, off, n, buf, &n, NULL);
		if (!err && !n)
			err = -EBADMSG;
		if (!err)
			XXH3_64bits_update(hash, buf, n);
		off += n;
		if (!err && vf_interrupted())
			err = -ECANCELED;
	}
	if (!err && XXH3_64bits_digest(hash) != ref->checksum)
		err = -EBADMSG;
	XXH3_freeState(hash);
	return err;
}
