/*
 * What reading the log of an index will want, asked for all at once: its
 * identity, the newest checkpoint and the records after it, of which a LIST
 * told.
 */
#ifndef VF_STORE_LOG_AHEAD_H
#define VF_STORE_LOG_AHEAD_H

#include "store/listed.h"
#include "store/log_fetch.h"

struct vf_log_ahead;

/*
 * @l  borrowed until free
 * Returns 0; -ENOENT it does not tell of all of the log; -ENOMEM.  Does not
 * wait for the bucket.
 */
int vf_log_ahead_new(struct vf_bucket *b, const char *index,
		     const struct vf_listed *l, struct vf_log_ahead **out);
void vf_log_ahead_free(struct vf_log_ahead *a); /* waits; accepts NULL */

/* When it was told, as vf_boot_ms. */
uint64_t vf_log_ahead_ms(const struct vf_log_ahead *a);
/* The numbers in @folder, as vf_log_numbers. */
int vf_log_ahead_numbers(const struct vf_log_ahead *a, const char *folder,
			 uint64_t from, struct vf_buf *out);
/*
 * One object, as vf_log_fetch_next: what is on its way is waited for, the rest
 * is asked for now.
 *
 * @a       NULL: all is
 * @folder  as of vf_log_fetch_open, but not "log"
 */
int vf_log_ahead_get(struct vf_log_ahead *a, struct vf_bucket *b,
		     const char *index, const char *folder, uint64_t number,
		     void **out_data, size_t *out_len);
/* Records from @first on, borrowed; NULL: they are not on their way. */
struct vf_log_fetch *vf_log_ahead_records(const struct vf_log_ahead *a,
					  uint64_t first);

#endif
