/*
 * Metadata and filters at random, over few keys and few values, so that they
 * meet.
 */
#ifndef VF_TESTS_RANDOM_FILTER_H
#define VF_TESTS_RANDOM_FILTER_H

#include "store/util.h"

/* Append a JSON object of metadata. */
void vf_random_metadata(uint64_t *seed, struct vf_buf *out);
/* Append a valid filter. */
void vf_random_filter(uint64_t *seed, struct vf_buf *out);

#endif
