/*
 * Reading mapped files of a mount: any access can raise SIGBUS (memory
 * pressure, a dead daemon), so mapped bytes are only ever copied, and only
 * through here.
 */
#ifndef VF_QUERY_GUARD_H
#define VF_QUERY_GUARD_H

#include <stddef.h>

/*
 * Copy @len mapped bytes.  Returns 0; -EFAULT when the access faulted or no
 * handler is installed (vf_guard_install in query.h): read the file instead.
 * Threads: any.
 */
int vf_guarded_copy(void *dst, const void *src, size_t len);

#endif
