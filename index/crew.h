/*
 * Run one function over numbered items on several threads and wait for all.
 * Which thread takes which item is chance: items must not depend on it.
 *
 * Threads are kept for a while after their work, parked: a new thread begins
 * up to a millisecond late, which is as long as a whole query takes, a parked
 * one after some 30 us.  They have the scheduling of the caller for whom they
 * were made, serve only callers of the same and take no signals from outside.
 * A forked child begins with none.
 */
#ifndef VF_INDEX_CREW_H
#define VF_INDEX_CREW_H

#include <stddef.h>

/* Returns 0 or a negative errno, which stops the others from starting items. */
typedef int vf_crew_fn(void *arg, size_t item);

/*
 * Call @fn for items 0..@n - 1 on @n_threads threads, the caller being one;
 * fewer when the system gives fewer, or when the others did all before one
 * had begun.  An item costs one atomic operation.
 * Returns 0; the error of the lowest item that failed.  Threads: any.
 */
int vf_crew_run(unsigned n_threads, size_t n, vf_crew_fn *fn, void *arg);

#endif
