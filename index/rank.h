/*
 * The least of many scores, in order: by their bits, in passes that cost the
 * same whatever the scores are.
 *
 * NaN counts as infinity, -0 comes before 0, ties go to the smaller number.
 */
#ifndef VF_INDEX_RANK_H
#define VF_INDEX_RANK_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of work that ranking @n scores needs, aligned as uint64_t. */
static inline size_t vf_rank_work_len(uint32_t n)
{
	return 2 * (size_t)n * sizeof(uint64_t);
}

/*
 * Numbers of the @k least of @n scores (k <= n), least first.
 * @work  vf_rank_work_len(n) bytes
 * @out   [k]
 * Threads: any.
 */
void vf_rank_least(const float *scores, uint32_t n, uint32_t k, void *work,
		   uint32_t *out);

#endif
