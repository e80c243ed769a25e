/*
 * A thread of the library: signals from outside are the program's, so it takes
 * none.  Those that a thread raises itself stay open: blocked, they would end
 * the process where a guard (query/guard.h) turns them into an error.
 */
#ifndef VF_STORE_THREAD_H
#define VF_STORE_THREAD_H

#include <pthread.h>
#include <stdint.h>

/*
 * As pthread_create; whoever starts it joins or detaches it.
 * Returns 0; -EAGAIN; not logged.  Threads: any.
 */
int vf_thread_start(pthread_t *out, void *(*run)(void *), void *arg);

/* For waits until a time of vf_now_ns, which no setting of the clock moves. */
void vf_cond_init(pthread_cond_t *c);
/*
 * Holding @m; may return early, as pthread_cond_wait.  @until_ns  0: no end.
 * Returns 0; -ETIMEDOUT.
 */
int vf_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until_ns);

#endif
