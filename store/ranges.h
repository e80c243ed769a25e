/*
 * The one ioctl of a mounted file: where are these ranges, fetch them, count
 * them as used.  A file that is no file of a mount answers ENOTTY.
 *
 *   VF_RANGES_WHERE  fill in where each range is; nothing else happens
 *   VF_RANGES_FETCH  begin to fetch what is in no RAM, all at once, at most
 *                    max_gets requests
 *   VF_RANGES_COUNT  count a use of each for the replacement policy: hits in
 *                    the page cache are invisible to it otherwise
 */
#ifndef VF_STORE_RANGES_H
#define VF_STORE_RANGES_H

#include <linux/ioctl.h>
#include <stdint.h>

enum { VF_RANGES_WHERE = 1, VF_RANGES_FETCH = 2, VF_RANGES_COUNT = 4 };

/* Where all of a range is; the farthest of its parts. */
enum vf_where { VF_IN_RAM, VF_ON_DISK, VF_IN_BUCKET };

enum { VF_RANGES_MAX = 500 }; /* an ioctl's argument is below 16 KiB */

struct vf_range {
	uint64_t off;
	uint32_t len;
	uint32_t where; /* out: enum vf_where */
};

struct vf_ranges {
	uint32_t version; /* 1 */
	uint32_t flags;
	uint32_t n;
	uint32_t max_gets; /* 0: no limit */
	uint32_t n_gets;   /* out: requests to the bucket begun */
	uint32_t reserved[3];
	uint64_t bytes; /* out: of blocks in no tier, that were or would be
			   fetched */
	struct vf_range r[VF_RANGES_MAX];
};

#define VF_IOC_RANGES _IOWR('v', 1, struct vf_ranges)

#endif
