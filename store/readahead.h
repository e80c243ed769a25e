/*
 * Sequential reading, detected per region of a file rather than per handle:
 * many readers of one file each have their stream, and a mapped file has no
 * handle at all.  Pure.
 */
#ifndef VF_STORE_READAHEAD_H
#define VF_STORE_READAHEAD_H

#include "store/util.h"

enum { VF_STREAMS = 8 }; /* regions of one file read at the same time */

struct vf_stream {
	uint64_t next;	 /* where it goes on */
	uint64_t ahead;	 /* end of what was asked for ahead */
	uint64_t window; /* bytes to keep ahead; 0: not yet sure */
	uint64_t run;	 /* bytes read in sequence */
	uint64_t used;	 /* time of the last read, for replacement */
};

/* Zero to begin. */
struct vf_readahead {
	struct vf_stream streams[VF_STREAMS];
	uint64_t time;
};

/*
 * A read of [off, off + len) of a file of @size bytes.  True when [*out_off,
 * *out_off + *out_len) should be fetched ahead of it.
 * @max_window  bytes; 0: never
 */
bool vf_readahead_note(struct vf_readahead *r, uint64_t off, size_t len,
		       uint64_t size, uint64_t max_window, uint64_t *out_off,
		       uint64_t *out_len);

#endif
