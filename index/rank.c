/*
 * A few of the scores tell which one is a little above the k-th; those that
 * are not above it are sorted.
 */
#include "index/rank.h"

#include <math.h>
#include <string.h>

enum { SAMPLE = 256, DIGIT_BITS = 8 };

static const uint32_t infinite = 0x7f800000;

/* Unsigned numbers in the order of scores, and below each its own number. */
static inline uint64_t key_of(float score, uint32_t number)
{
	uint32_t u;

	memcpy(&u, &score, sizeof(u));
	u = (u & INT32_MAX) > infinite ? infinite : u;
	u ^= (0 - (u >> 31)) | UINT32_C(1) << 31;
	return (uint64_t)u << 32 | number;
}

/* By one digit, keeping the order of equals. */
static void sort_digit(const uint64_t *from, uint32_t n, uint32_t shift,
		       uint64_t *to)
{
	uint32_t starts[(1 << DIGIT_BITS) + 1] = {0};
	const uint64_t mask = (1 << DIGIT_BITS) - 1;

	for (uint32_t i = 0; i < n; i++)
		starts[(from[i] >> shift & mask) + 1]++;
	for (uint32_t d = 1; d <= mask; d++)
		starts[d] += starts[d - 1];
	for (uint32_t i = 0; i < n; i++)
		to[starts[from[i] >> shift & mask]++] = from[i];
}

/* @keys, whose numbers ascend. */
static void sort_keys(uint64_t *keys, uint32_t n, uint64_t *room)
{
	for (uint32_t shift = 32; shift < 64; shift += 2 * DIGIT_BITS) {
		sort_digit(keys, n, shift, room);
		sort_digit(room, n, shift + DIGIT_BITS, keys);
	}
}

/* A key that hardly fewer than @k of all are not above. */
static uint64_t guess_last(const float *scores, uint32_t n, uint32_t k)
{
	uint64_t keys[SAMPLE], room[SAMPLE];
	double expected = (double)k * SAMPLE / n;
	double place = expected + 3 * sqrt(expected) + 2;

	if (n <= SAMPLE || place >= SAMPLE)
		return UINT64_MAX;
	for (uint32_t i = 0; i < SAMPLE; i++)
		keys[i] = key_of(scores[(uint64_t)i * n / SAMPLE], UINT32_MAX);
	sort_keys(keys, SAMPLE, room);
	return keys[(uint32_t)place];
}

static uint32_t gather_to(const float *scores, uint32_t n, uint64_t last,
			  uint64_t *out)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		out[at] = key_of(scores[i], i);
		at += out[at] <= last;
	}
	return at;
}

void vf_rank_least(const float *scores, uint32_t n, uint32_t k, void *work,
		   uint32_t *out)
{
	uint64_t *keys = work, *room = keys + n;
	uint32_t some = gather_to(scores, n, guess_last(scores, n, k), keys);

	if (some < k)
		some = gather_to(scores, n, UINT64_MAX, keys);
	sort_keys(keys, some, room);
	for (uint32_t i = 0; i < k; i++)
		out[i] = (uint32_t)keys[i];
}
