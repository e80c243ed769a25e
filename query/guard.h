/*
 * Reading mapped files of a mount: any access can raise SIGBUS (memory
 * pressure, a dead daemon), so mapped bytes are only ever read through
 * here.
 */
#ifndef VF_QUERY_GUARD_H
#define VF_QUERY_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Copy @len mapped bytes.  Returns 0; -EFAULT when the access faulted or no
 * handler is installed (vf_guard_install in query.h): read the file instead.
 * Threads: any.
 */
int vf_guarded_copy(void *dst, const void *src, size_t len);
/*
 * The same for a function that only reads them, and takes nothing that it would
 * have to give back: it may not return.
 */
int vf_guarded_call(void (*fn)(void *arg), void *arg);
/* Else both refuse. */
bool vf_guard_is_installed(void);

#endif
