/*
 * A small index of three shards in a file:// bucket, written through the store
 * and index layers alone, for suites that search it.
 *
 * Elements are small integers: every sum is exact, so that distances must be
 * equal to the bit, and many rows tie.
 */
#ifndef VF_TESTS_FIXTURE_H
#define VF_TESTS_FIXTURE_H

#include "store/commit.h"

enum { VF_FIX_DIM = 24, VF_FIX_SHARDS = 3, VF_FIX_ROWS = 400 };

struct vf_fixture_options {
	enum vf_metric metric;
	enum vf_dtype dtype;
	bool zstd;     /* vectors.npy too, not only records.jsonl */
	uint32_t bits; /* of codes; shard 1 has 1 whatever is asked; 0: 1 */
	bool no_shard; /* only the record that configures */
};

struct vf_fixture {
	struct vf_fixture_options opt;
	char root[128], path[160];	  /* of the bucket, of the index */
	float x[VF_FIX_ROWS][VF_FIX_DIM]; /* 10, 11, 301 and 399 are equal */
	struct vf_shard_ref shards[VF_FIX_SHARDS];
	struct vf_buf lines[VF_FIX_SHARDS]; /* records.jsonl as text */
};

/* Never NULL: aborts on failure. */
struct vf_fixture *vf_fixture_new(const struct vf_fixture_options *opt);
void vf_fixture_free(struct vf_fixture *f);

/* Number among all rows of the first of @shard. */
uint64_t vf_fixture_base(size_t shard);
/* Until the next call. */
const char *vf_fixture_key(size_t row);
const char *vf_fixture_metadata(size_t row);

/* The file of an object as stored; until the next call. */
const char *vf_fixture_file(const struct vf_fixture *f, size_t shard,
			    const char *name);

/* As a copy of what a mount shows: every records.jsonl is plain. */
void vf_fixture_unpack(const struct vf_fixture *f);

#endif
