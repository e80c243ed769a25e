/*
 * Passthrough: the kernel reads and maps a local file itself, at the speed of
 * that file, and the daemon hears of nothing but open and release.
 *
 * libfuse has no part in it before 3.17; this works with 3.10 and later.  The
 * kernel must be 6.9 or newer and we need CAP_SYS_ADMIN; where that is not so,
 * or a file is neither in a local directory that is the bucket nor whole in the
 * disk tier, it is read through the daemon.
 *
 * What the kernel asks for:
 *   - while any handle of an inode is open, all of them are passed through with
 *     one backing id, or none is: a mixture fails with EIO;
 *   - the reply to OPEN carries FOPEN_PASSTHROUGH and no FOPEN_KEEP_CACHE;
 *   - the backing file is on no stacked file system (overlayfs, another
 *     passthrough mount).
 */
#ifndef VF_FS_PASSTHROUGH_H
#define VF_FS_PASSTHROUGH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fs;
struct fuse_req;
struct fuse_session;
struct mount_options;

/* One per mount. */
struct vf_passthrough {
	int fd;			       /* [fixed] /dev/fuse; -1: not ours */
	bool of_bucket;		       /* [fixed] its files are offered,
					   * else those of the disk tier */
	atomic_bool on;		       /* set once INIT was answered */
	_Atomic(const char *) why_off; /* a constant; NULL while on */
	atomic_uint_fast64_t n_ids;    /* backing ids that exist */
	atomic_uint_fast64_t n_opens;  /* handles passed through, ever */
};

/* One per inode, all of it under the inode's open_mtx. */
struct vf_backing {
	uint64_t n_open; /* handles, passed through or not */
	uint32_t id;	 /* 0: read through the daemon while n_open > 0 */
	bool refused;	 /* the last file offered was not taken */
};

/*
 * Decide whether passthrough is worth trying for the mount that @opt wants, of
 * files in @dir, the bucket's directory (NULL: it has none), or else of the disk
 * tier's.  Only then does vf_passthrough_mount do anything.
 * Threads: before there are others.
 */
void vf_passthrough_init(struct vf_passthrough *p,
			 const struct mount_options *opt, const char *dir);

/*
 * Mount at @opt's mount point and give @se the connection; @se must have been
 * made with a struct fs as its user data, @p being part of that.  Nothing is
 * left behind by a failure: fuse_session_mount can be called then.
 *
 * Returns 0; -errno, not logged, told by vf_passthrough_why.
 */
int vf_passthrough_mount(struct vf_passthrough *p, struct fuse_session *se,
			 const struct mount_options *opt);
/*
 * INIT is being answered: whether to ask for it; not where @p is not mounted.
 * @why_not  it cannot be asked for, a constant; NULL: it can
 */
bool vf_passthrough_ask(struct vf_passthrough *p, const char *why_not);
/* INIT was answered so: it is on where we have the right to it. */
void vf_passthrough_begin(struct vf_passthrough *p);
/* Undo a mount that succeeded; others who unmounted first are no error. */
void vf_passthrough_unmount(struct vf_passthrough *p, const char *mountpoint);

/* Why it is off, a constant; NULL when it is on.  Threads: any. */
const char *vf_passthrough_why(const struct vf_passthrough *p);
/* What it is for while it is on, a constant. */
const char *vf_passthrough_what(const struct vf_passthrough *p);

/*
 * Count one more handle of an inode, in the mode of those that are open; for
 * the first, @fd (borrowed, -1: none) is offered to the kernel.  The id to
 * reply with, or 0: through the daemon.
 * Threads: caller holds the inode's open_mtx.
 */
uint32_t vf_passthrough_open(struct vf_passthrough *p, struct vf_backing *b,
			     int fd);
/* The handle is closed, or its reply did not arrive.  Before RELEASE is
 * answered: the inode may go right after.  Threads: as open. */
void vf_passthrough_close(struct vf_passthrough *p, struct vf_backing *b);

/* Answer OPEN with @id.  Returns 0; -errno: no release will come. */
int vf_passthrough_reply(struct fuse_req *req, uint32_t id);

#endif
