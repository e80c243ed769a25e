/*
 * Bringing a version of an index back: the operations of a commit after which
 * it is what it was.  Pure.
 */
#ifndef VF_STORE_RESTORE_H
#define VF_STORE_RESTORE_H

#include "store/state.h"

struct vf_restore {
	struct vf_op *ops;    /* owned */
	size_t n_ops;	      /* 0: nothing differs */
	struct vf_buf stores; /* owned; struct vf_buf of what ops point into */
};

/*
 * From @now to @then, both states of the same index, which have to stay while
 * @out is used.  Returns 0; -ENOMEM; fini is due in any case.
 */
VF_API int vf_restore_plan(const struct vf_state *now,
			   const struct vf_state *then, struct vf_restore *out);
VF_API void vf_restore_fini(struct vf_restore *r);

#endif
