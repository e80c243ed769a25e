/*
 * Synthetic vectors that behave like embeddings: clusters of unequal size
 * around a common offset, a decaying spectrum inside each cluster, unit length.
 *
 *   clusters    2000, popularity of rank r ~ r^-0.8
 *   centre      offset N(0,1)^dim + 0.6 N(0,1)^dim
 *   inside      0.35 z S, z ~ N(0,1)^64, S one of 40 shared bases of 64
 *               directions N(0,1)^dim with amplitudes exp(-i/20)
 *   noise       0.35 N(0,1)^dim
 *
 * A row depends on the seed, its stream and its number only, so that threads
 * may make rows in any order.
 */
#ifndef VF_TOOLS_SYNTH_H
#define VF_TOOLS_SYNTH_H

#include "store/vecfs.h"

struct vf_synth;

/* Base rows and queries are drawn alike from different streams. */
enum vf_synth_stream { VF_SYNTH_BASE = 1, VF_SYNTH_QUERIES = 2 };

/* Returns 0; -ENOMEM. */
int vf_synth_new(uint32_t dim, uint64_t seed, struct vf_synth **out);
void vf_synth_free(struct vf_synth *s); /* accepts NULL */

enum { VF_SYNTH_BATCH = 1024 };

/*
 * Rows @first..@first + @n (n <= VF_SYNTH_BATCH) into float[n][dim].
 * Threads: any.
 */
void vf_synth_rows(const struct vf_synth *s, enum vf_synth_stream stream,
		   uint64_t first, size_t n, float *out);

#endif
