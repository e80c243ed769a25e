/*
 * Objects of a log one after the other, a window of them on its way: reading
 * many waits for the bucket about once, not once for each.
 */
#ifndef VF_STORE_LOG_FETCH_H
#define VF_STORE_LOG_FETCH_H

#include "store/bucket.h"
#include "store/log.h"
#include "store/util.h"

enum {
	VF_LOG_KEY_LEN = 128,	/* of an index's name, a folder and a number */
	VF_IDENTITY_MAX = 4096, /* bytes of _vecfs/indexes/NAME */
};

/*
 * "<index>/<folder>/<20 digits>"; @folder NULL: of the index's identity,
 * whatever the number.
 */
void vf_log_key(const char *index, const char *folder, uint64_t number,
		char out[VF_LOG_KEY_LEN]);

/* The number that a record's name, without its folder, is; false: none. */
bool vf_log_number_parse(const char *digits, uint64_t *out);

struct vf_log_number {
	uint64_t number;
	uint64_t size; /* of the object; 0: unknown */
};

/*
 * What is in a folder of the log from number @from on, ascending, as struct
 * vf_log_number.  Returns 0; as list; -ENOMEM.  Threads: any.  Blocks.
 */
int vf_log_numbers(struct vf_bucket *b, const char *index, const char *folder,
		   uint64_t from, struct vf_buf *out);

struct vf_log_fetch; /* Threads: one at a time */

/*
 * @folder  "log", "checkpoint"; NULL: the index's identity, whatever the number
 * @list    in the order of next; borrowed until close, as all is
 *
 * Returns 0; -ENOMEM.  Does not wait for the bucket.
 */
int vf_log_fetch_open(struct vf_bucket *b, const char *index,
		      const char *folder, const struct vf_log_number *list,
		      size_t n, struct vf_log_fetch **out);
/*
 * The bytes of the next of them, caller's to free(); at most @n times.
 * Returns as vf_bucket_get_all.
 */
int vf_log_fetch_next(struct vf_log_fetch *f, void **out_bytes,
		      size_t *out_len);
/* The next of "log" as vf_record_load gives it. */
int vf_log_fetch_record(struct vf_log_fetch *f, void **out_bytes,
			struct vf_record *out);
void vf_log_fetch_close(struct vf_log_fetch *f); /* waits; accepts NULL */

#endif
