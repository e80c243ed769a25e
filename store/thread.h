/*
 * A thread of the library: signals from outside are the program's, so it takes
 * none.  Those that a thread raises itself stay open: blocked, they would end
 * the process where a guard (query/guard.h) turns them into an error.
 */
#ifndef VF_STORE_THREAD_H
#define VF_STORE_THREAD_H

#include <pthread.h>

/*
 * As pthread_create; whoever starts it joins or detaches it.
 * Returns 0; -EAGAIN; not logged.  Threads: any.
 */
int vf_thread_start(pthread_t *out, void *(*run)(void *), void *arg);

#endif
