/*
 * The connection to the kernel.  What both ends can do they tell each other once,
 * in INIT; libfuse leaves out two things that we want, so that its answer is
 * patched on its way:
 *
 *   - look-ups in one folder beside each other (asked for since libfuse 3.17):
 *     each may wait for the bucket;
 *   - passthrough (fs/passthrough.h).
 */
#ifndef VF_FS_CONNECTION_H
#define VF_FS_CONNECTION_H

#include <stdatomic.h>
#include <stdint.h>

struct fuse_session;

/* One per mount; zeroed at first. */
struct vf_connection {
	atomic_uint_fast64_t init_unique; /* INIT under way, 0 when none is */
	atomic_uint_fast64_t offered;	  /* what the kernel can do */
};

/*
 * Read requests of @se, whose user data is a struct fs, from @fd, which
 * fuse_session_destroy closes, and answer them there.  Before its loop.
 * Returns 0; -errno.
 */
int vf_connection_use(struct fuse_session *se, int fd);

#endif
