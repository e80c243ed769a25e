/*
 * SIGINT and SIGTERM: the first asks to stop cleanly, a second one stops at
 * once.
 */
#ifndef VF_TOOLS_INTERRUPT_H
#define VF_TOOLS_INTERRUPT_H

#include <stdbool.h>

/* Once, before other threads. */
void vf_interrupt_catch(void);

/* True once a signal came.  Threads: any. */
bool vf_interrupted(void);

/*
 * Wait until @fd, or @also unless it is -1, can be read or is at its end; at
 * most @ms, or for ever when that is -1.  A signal ends it even when it comes
 * just before: who looks at vf_interrupted() first and then waits misses one in
 * between.
 *
 * Returns 1: @fd; 2: @also; 0: time is up; -ECANCELED: a signal came, now or
 * earlier; -errno: poll(2) fails.  Not logged.  Threads: any.
 */
int vf_interrupt_wait(int fd, int also, int ms);

#endif
