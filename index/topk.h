/*
 * The k smallest of a stream of (distance, id): a bounded max-heap in the
 * caller's storage.  Ties go to the smaller id, so that answers do not depend
 * on the order of scanning.
 */
#ifndef VF_INDEX_TOPK_H
#define VF_INDEX_TOPK_H

#include <stdint.h>
#include <stdlib.h>

struct vf_hit {
	float dist;
	uint64_t id;
};

struct vf_topk {
	struct vf_hit *hits; /* [k], caller's */
	uint32_t k;
	uint32_t n; /* filled */
	/* Ids skip_from + i whose bit i is set stay out; NULL: none. */
	const uint64_t *skip;
	uint64_t skip_from;
	/* What to skip in each place, for who sets skip; NULL: its dead. */
	const uint64_t *const *skips;
};

/* Of ids id..id + n - 1 (n <= 64): bit i is set where id + i is not skipped. */
static inline uint64_t vf_topk_wanted(const struct vf_topk *t, uint64_t id,
				      size_t n)
{
	uint64_t all = n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;

	if (!t->skip || !n)
		return n ? all : 0;
	uint64_t bit = id - t->skip_from, word = bit / 64, shift = bit % 64;
	uint64_t skip = t->skip[word] >> shift;
	if (shift + n > 64)
		skip |= t->skip[word + 1] << (64 - shift);
	return ~skip & all;
}

/* Whether one of ids id..id + n - 1 is not skipped. */
static inline int vf_topk_wants(const struct vf_topk *t, uint64_t id,
				uint64_t n)
{
	for (uint64_t i = 0; i < n; i += 64)
		if (vf_topk_wanted(t, id + i, n - i < 64 ? n - i : 64))
			return 1;
	return 0;
}

/* How many of them are not skipped. */
static inline uint64_t vf_topk_count(const struct vf_topk *t, uint64_t id,
				     uint64_t n)
{
	uint64_t count = t->skip ? 0 : n;

	for (uint64_t i = 0; t->skip && i < n; i += 64)
		count += (uint64_t)__builtin_popcountll(
			vf_topk_wanted(t, id + i, n - i < 64 ? n - i : 64));
	return count;
}

static inline int vf_hit_after(const struct vf_hit *a, const struct vf_hit *b)
{
	return a->dist > b->dist || (a->dist == b->dist && a->id > b->id);
}

/* For qsort: in the order of rows. */
static inline int vf_hit_compare_ids(const void *a, const void *b)
{
	const struct vf_hit *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* Nothing at or above this distance can enter (ties with smaller ids apart). */
static inline float vf_topk_limit(const struct vf_topk *t)
{
	return t->n < t->k ? __builtin_inff() : t->hits[0].dist;
}

static inline void vf_topk_sift_down_(struct vf_topk *t, uint32_t i)
{
	for (;;) {
		uint32_t l = 2 * i + 1, r = l + 1, top = i;
		if (l < t->n && vf_hit_after(&t->hits[l], &t->hits[top]))
			top = l;
		if (r < t->n && vf_hit_after(&t->hits[r], &t->hits[top]))
			top = r;
		if (top == i)
			return;
		struct vf_hit h = t->hits[i];
		t->hits[i] = t->hits[top];
		t->hits[top] = h;
		i = top;
	}
}

static inline void vf_topk_push(struct vf_topk *t, float dist, uint64_t id)
{
	struct vf_hit h = {dist, id};
	uint64_t bit = id - t->skip_from;

	if (t->skip && t->skip[bit / 64] >> bit % 64 & 1)
		return;
	if (t->n < t->k) {
		uint32_t i = t->n++;
		for (; i; i = (i - 1) / 2) {
			if (!vf_hit_after(&h, &t->hits[(i - 1) / 2]))
				break;
			t->hits[i] = t->hits[(i - 1) / 2];
		}
		t->hits[i] = h;
	} else if (t->k && vf_hit_after(&t->hits[0], &h)) {
		t->hits[0] = h;
		vf_topk_sift_down_(t, 0);
	}
}

static inline int vf_hit_compare_(const void *a, const void *b)
{
	return vf_hit_after(a, b) ? 1 : vf_hit_after(b, a) ? -1 : 0;
}

/* Ascending; the heap property is gone afterwards. */
static inline void vf_topk_sort(struct vf_topk *t)
{
	qsort(t->hits, t->n, sizeof(t->hits[0]), vf_hit_compare_);
}

#endif
