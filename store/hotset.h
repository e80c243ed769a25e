/*
 * What was hot in RAM, written down: ranges of blocks by version of an object,
 * so that the next mount can read them again.
 */
#ifndef VF_STORE_HOTSET_H
#define VF_STORE_HOTSET_H

#include "store/bucket.h"
#include "store/util.h"

enum {
	VF_HOTSET_MAX = 1 << 20, /* bytes */
	VF_HOTSET_KEY_MAX = 1024,
};

struct vf_hot_range {
	uint32_t first, n; /* blocks */
};

struct vf_hot_object {
	char *key; /* owned */
	char etag[VF_ETAG_MAX];
	uint64_t size;
	struct vf_hot_range *ranges; /* owned, ascending */
	uint32_t n_ranges;
};

struct vf_hotset {
	uint32_t block_len;
	struct vf_hot_object *all; /* owned */
	size_t n;
};

/*
 * Begin a text of blocks of @block_len in @out; add an object; end it.  An
 * object for which there is no room any more is left out.
 * Returns 0; -ENOMEM; -EINVAL what parse would refuse.
 */
int vf_hotset_begin(struct vf_buf *out, uint32_t block_len);
int vf_hotset_add(struct vf_buf *out, const struct vf_hot_object *o);
int vf_hotset_end(struct vf_buf *out);

/*
 * Returns 0; -EBADMSG damaged; -ENOTSUP a newer version; -ENOMEM.  Not logged.
 * Threads: any.
 */
int vf_hotset_parse(const uint8_t *p, size_t len, struct vf_hotset *out);
void vf_hotset_fini(struct vf_hotset *s);

#endif
