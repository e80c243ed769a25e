/*
 * What reading the log and appending to it share; private to the folder.
 */
#ifndef VF_STORE_COMMIT_IMPL_H
#define VF_STORE_COMMIT_IMPL_H

#include "store/commit.h"
#include "store/log_fetch.h"

enum {
	/*
	 * What was the end of the log so short a time ago is in front of nothing
	 * deleted: gc waits longer (VF_GC_WAIT_S) between boundary and deletes.
	 * What is older asks the boundary.
	 */
	VF_TRUST_MS = 300 * 1000,
};

/* Milliseconds of CLOCK_BOOTTIME. */
uint64_t vf_boot_ms(void);

/* Parse the record of these bytes; what is wrong with it is logged. */
int vf_log_record_parse(struct vf_bucket *b, const char *key, const void *p,
			size_t len, struct vf_record *out);

/* Fold the record of these bytes into @s; what is wrong with it is logged. */
int vf_log_apply(struct vf_bucket *b, struct vf_state *s, const char *key,
		 const void *p, size_t len);

/*
 * The identity of index @name.  Returns 0; -ENOENT (not logged); -EBADMSG;
 * -ENOTSUP; as get.
 */
int vf_log_identity(struct vf_bucket *b, const char *name,
		    uint8_t out_uuid[16]);

/* The highest boundary; 0: nothing was collected.  One LIST. */
int vf_log_boundary(struct vf_bucket *b, const char *index, uint64_t *out);

/* The checkpoint of @s, created if it is absent.  Returns 0; -errno, logged. */
int vf_log_checkpoint(struct vf_bucket *b, const struct vf_state *s);

#endif
