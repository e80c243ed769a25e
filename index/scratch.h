/*
 * A query on its way through the shards of an index: rotated and quantised
 * once for all that share a rotation and an origin.
 */
#ifndef VF_INDEX_SCRATCH_H
#define VF_INDEX_SCRATCH_H

#include "index/quantize.h"
#include "index/refine.h"
#include "index/rotate.h"

struct vf_scan_scratch {
	uint32_t dim, padded;
	float *unit, *rotated, *work; /* [padded] each */
	uint64_t *planes;	      /* [4][padded / 64] */
	/* What rotated, code and fine are of; [padded] each. */
	float *last_q, *last_origin;
	uint64_t last_seed;
	bool has_rotated, has_code, has_fine;
	struct vf_query_code code;
	struct vf_fine_query fine; /* its q is owned */
};

/* What a query is scored against. */
struct vf_frame {
	enum vf_metric metric;
	uint32_t dim, padded;
	uint64_t seed; /* of the rotation */
	const struct vf_rotation *rotation;
	const float *origin; /* [padded], rotated */
};

/* Make s->rotated of @q (unit length under cosine).  Returns 0; -EINVAL. */
int vf_scan_rotate(struct vf_scan_scratch *s, const struct vf_frame *f,
		   const float *q);
/* And s->code, against the origin. */
int vf_scan_quantize(struct vf_scan_scratch *s, const struct vf_frame *f,
		     const float *q);
/* Or s->fine. */
int vf_scan_refine(struct vf_scan_scratch *s, const struct vf_frame *f,
		   const float *q);

#endif
