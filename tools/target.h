/*
 * What the user names, opened: a bucket, and an index in it.
 */
#ifndef VF_TOOLS_TARGET_H
#define VF_TOOLS_TARGET_H

#include "store/commit.h"
#include "tools/args.h"

struct vf_target {
	const char *name; /* as given, borrowed */
	char *url, *index;
	struct vf_bucket *bucket;
	struct vf_stopper *stopper; /* of its requests */
};

/* Returns 0; -EINVAL, -ENOENT and others, logged. */
int vf_target_open(const char *name, const struct vf_args_common *common,
		   struct vf_target *out);
void vf_target_close(struct vf_target *t);

/* The state of an index that must be there; -ENOENT is logged. */
int vf_target_state(const struct vf_target *t, struct vf_state **out);

/* Print bytes on a terminal or in a line: control bytes as \xNN. */
void vf_print_escaped(const char *s, size_t len);

/* "1.5 GiB", into @out. */
const char *vf_format_size(uint64_t n, char out[24]);
/* What "row" takes behind it. */
static inline const char *vf_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

#endif
