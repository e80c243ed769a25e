/*
 * What was hot is hot again after a restart.
 */
#ifndef VF_FS_REWARM_H
#define VF_FS_REWARM_H

#include "fs/fs.h"

/*
 * Read DIR/hot.* of the disk tier, and what it lists into RAM, in the background;
 * keep it up to date from then on.  Returns 0; -ENOMEM; -errno.
 */
int vf_rewarm_open(struct fs *fs, struct vf_rewarm **out);
/* Before the bucket closes: write it a last time, and end.  Accepts NULL. */
void vf_rewarm_stop(struct vf_rewarm *r);
void vf_rewarm_close(struct vf_rewarm *r);
/* This version is being read.  @r may be NULL.  Threads: any. */
void vf_rewarm_note(struct vf_rewarm *r, const uint8_t id[16], const char *key,
		    const char *etag, uint64_t size);

struct vf_rewarm_stats {
	uint64_t n_blocks; /* brought back to RAM, or on their way */
	bool is_over;	   /* nothing more comes */
};
void vf_rewarm_stats(struct vf_rewarm *r, struct vf_rewarm_stats *out);

#endif
