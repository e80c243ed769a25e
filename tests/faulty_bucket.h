/*
 * A bucket whose requests go wrong now and then, as those of a network do: not
 * carried out, carried out without an answer, or carried out much later.
 */
#ifndef VF_TESTS_FAULTY_BUCKET_H
#define VF_TESTS_FAULTY_BUCKET_H

#include "store/bucket_impl.h"
#include "store/util.h"

/* Of one writer.  Threads: one at a time. */
struct vf_faulty {
	struct vf_bucket base;
	struct vf_bucket *real; /* borrowed */
	uint64_t seed;
	unsigned fault_per_mille; /* of requests; some begin a row of faults */
	unsigned kill_per_mille;  /* the process dies before or after it */
	unsigned n_dark;	  /* so many more go wrong */
	/* A PUT under way, that lands with a later one. */
	char late_key[256];
	unsigned late_flags;
	struct vf_buf late;
};

/* The fields from real to kill_per_mille are set, the others zero. */
void vf_faulty_init(struct vf_faulty *f);
/* What is on its way is lost, or lands. */
void vf_faulty_fini(struct vf_faulty *f);

#endif
