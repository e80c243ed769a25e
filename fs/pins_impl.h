/*
 * What the two halves of the pins share: pins.c has the list and the blocks,
 * pins_follow.c what paths lead to.
 *
 *   change   one change at a time: held from the choice of blocks until the
 *            file is written.  Outermost; the local disk is waited for under
 *            it, the bucket is not.
 *   mtx      the list and what is in it: written under both, read under either;
 *            look_ns of a pin: under mtx
 */
#ifndef VF_FS_PINS_IMPL_H
#define VF_FS_PINS_IMPL_H

#include "fs/fs.h"

struct vf_pins {
	struct fs *fs; /* [fixed] */
	char *dir;     /* [fixed] */
	pthread_mutex_t change, mtx;
	pthread_cond_t wake;
	struct vf_pin *list;  /* [change, mtx] */
	atomic_size_t n_held; /* pins of this bucket that are not released */
	bool stopped;	      /* [mtx] */
	bool has_thread;      /* [fixed] */
	pthread_t thread;
};

/* Does it keep anything now? */
static inline bool vf_pin_holds(const struct vf_pin *pin)
{
	return !pin->released && !pin->foreign;
}

/* Exactly this one, or NULL.  Caller holds change. */
struct vf_pin *vf_pins_find(struct vf_pins *p, const char *path, uint64_t off,
			    uint64_t end);
/*
 * The pin holds @list from now on, which is taken over.  Returns 0; -ENOSPC it
 * has grown beyond the limit: what fits is pinned; -errno.  All logged.
 * Caller holds change.
 */
int vf_pin_follow(struct vf_pins *p, struct vf_pin *pin,
		  struct vf_stored_list *list);
/* The thread that looks at paths again. */
void *vf_pins_run(void *pins);

#endif
