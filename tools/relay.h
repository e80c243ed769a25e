/*
 * Work in two halves on two threads: one fills slots, the other empties them,
 * in the same order.
 */
#ifndef VF_TOOLS_RELAY_H
#define VF_TOOLS_RELAY_H

#include <stddef.h>

struct vf_relay;

/* Returns 0 or a negative errno; then no other slot is emptied. */
typedef int vf_relay_fn(void *arg, size_t slot);

/*
 * @n_slots  at least 2
 * @empty    called for one slot at a time, on a thread of the relay's own; by
 *           vf_relay_give where the system gives none
 * Returns 0; -ENOMEM, logged.
 */
int vf_relay_open(size_t n_slots, vf_relay_fn *empty, void *arg,
		  struct vf_relay **out);

/*
 * The slot to be filled next, once it is empty.
 * Returns 0; what @empty has failed with.  Threads: that of open, as below.
 */
int vf_relay_take(struct vf_relay *r, size_t *out_slot);
/* That slot is full. */
void vf_relay_give(struct vf_relay *r);
/*
 * Wait until all that were given are empty; accepts NULL.
 * Returns 0; what @empty has failed with.
 */
int vf_relay_close(struct vf_relay *r);

#endif
