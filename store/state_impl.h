/*
 * Folding one operation; private to the folder.
 */
#ifndef VF_STORE_STATE_IMPL_H
#define VF_STORE_STATE_IMPL_H

#include "store/state.h"

/* Of record head + 1.  Returns NULL, or why it cannot follow, a constant. */
const char *vf_state_fold(struct vf_state *s, const struct vf_op *op);

#endif
