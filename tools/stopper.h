/*
 * A server that does not answer must not hold up who was asked to stop: some
 * time after a signal, requests that still wait are given up.
 */
#ifndef VF_TOOLS_STOPPER_H
#define VF_TOOLS_STOPPER_H

#include "store/bucket.h"

struct vf_stopper;

/*
 * Begin to watch, before the bucket is opened: a signal then ends the program,
 * for nothing was begun.  NULL when it cannot: requests time out all the same.
 */
struct vf_stopper *vf_stopper_start(void);

/* The bucket that was opened, whose requests are to be given up. */
void vf_stopper_set(struct vf_stopper *s, struct vf_bucket *b);

/* Before the bucket is closed.  Both accept NULL.  Threads: one at a time. */
void vf_stopper_end(struct vf_stopper *s);

#endif
