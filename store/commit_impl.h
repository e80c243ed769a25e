/*
 * What reading the log and appending to it share; private to the folder.
 */
#ifndef VF_STORE_COMMIT_IMPL_H
#define VF_STORE_COMMIT_IMPL_H

#include "store/commit.h"

enum {
	VF_LOG_KEY_LEN = 128, /* of an index's name, a folder and a number */
	/*
	 * What was the end of the log so short a time ago is in front of nothing
	 * deleted: gc waits longer (VF_GC_WAIT_S) between boundary and deletes.
	 * What is older asks the boundary.
	 */
	VF_TRUST_MS = 300 * 1000,
};

/* "<index>/<folder>/<20 digits>" */
void vf_log_key(const char *index, const char *folder, uint64_t number,
		char out[VF_LOG_KEY_LEN]);

/* The number that a record's name, without its folder, is; false: none. */
bool vf_log_number_parse(const char *digits, uint64_t *out);

/* Milliseconds of CLOCK_BOOTTIME. */
uint64_t vf_boot_ms(void);

/* Fold the record of these bytes into @s; what is wrong with it is logged. */
int vf_log_apply(struct vf_bucket *b, struct vf_state *s, const char *key,
		 const void *p, size_t len);

/*
 * The identity of index @name.  Returns 0; -ENOENT (not logged); -EBADMSG;
 * -ENOTSUP; as get.
 */
int vf_log_identity(struct vf_bucket *b, const char *name,
		    uint8_t out_uuid[16]);

struct vf_log_number {
	uint64_t number;
	uint64_t size; /* of the object; 0: unknown */
};

/*
 * What is in a folder of the log from number @from on, ascending, as struct
 * vf_log_number.  Returns 0; as list; -ENOMEM.
 */
int vf_log_numbers(struct vf_bucket *b, const char *index, const char *folder,
		   uint64_t from, struct vf_buf *out);

struct vf_log_fetch; /* records on their way; Threads: one at a time */

/* @list: @n records, in the order of next; borrowed until close, as all is. */
int vf_log_fetch_open(struct vf_bucket *b, const char *index,
		      const struct vf_log_number *list, size_t n,
		      struct vf_log_fetch **out);
/*
 * The bytes of the next of them, caller's to free(); at most @n times.
 * Returns as vf_bucket_get_all.
 */
int vf_log_fetch_next(struct vf_log_fetch *f, void **out_bytes,
		      size_t *out_len);
void vf_log_fetch_close(struct vf_log_fetch *f); /* accepts NULL */

/* The highest boundary; 0: nothing was collected.  One LIST. */
int vf_log_boundary(struct vf_bucket *b, const char *index, uint64_t *out);

/* The checkpoint of @s, created if it is absent.  Returns 0; -errno, logged. */
int vf_log_checkpoint(struct vf_bucket *b, const struct vf_state *s);

#endif
