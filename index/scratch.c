#include "index/scratch.h"

int vf_scan_scratch_new(uint32_t dim, struct vf_scan_scratch **out)
{
	struct vf_scan_scratch *s = NULL;

	*out = NULL;
	if (dim < VF_DIM_MIN || dim > VF_DIM_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->dim = dim;
	s->padded = vf_padded_dim(dim);
	s->unit = malloc(s->padded * sizeof(float));
	s->rotated = malloc(s->padded * sizeof(float));
	s->work = malloc(s->padded * sizeof(float));
	s->planes = malloc(s->padded / 64 * 4 * sizeof(uint64_t));
	s->fine.q = malloc(s->padded * sizeof(*s->fine.q));
	s->last_q = malloc(s->padded * sizeof(float));
	s->last_origin = malloc(s->padded * sizeof(float));
	if (!s->unit || !s->rotated || !s->work || !s->planes || !s->fine.q ||
	    !s->last_q || !s->last_origin) {
		vf_scan_scratch_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void vf_scan_scratch_free(struct vf_scan_scratch *s)
{
	if (!s)
		return;
	free(s->unit);
	free(s->rotated);
	free(s->work);
	free(s->planes);
	free(s->fine.q);
	free(s->last_q);
	free(s->last_origin);
	free(s);
}

int vf_scan_rotate(struct vf_scan_scratch *s, const struct vf_frame *f,
		   const float *q)
{
	size_t len = f->dim * sizeof(*q);

	if (s->dim != f->dim)
		return -EINVAL;
	if (s->has_rotated && s->last_seed == f->seed &&
	    !memcmp(s->last_q, q, len))
		return 0;
	memcpy(s->last_q, q, len);
	s->last_seed = f->seed;
	s->has_rotated = true;
	s->has_code = s->has_fine = false;
	if (f->metric == VF_COSINE)
		q = vf_unit_length(q, f->dim, s->unit);
	vf_rotate(f->rotation, q, s->rotated);
	return 0;
}

static void move_origin(struct vf_scan_scratch *s, const struct vf_frame *f)
{
	size_t len = f->padded * sizeof(float);

	if ((s->has_code || s->has_fine) &&
	    !memcmp(s->last_origin, f->origin, len))
		return;
	memcpy(s->last_origin, f->origin, len);
	s->has_code = s->has_fine = false;
}

int vf_scan_quantize(struct vf_scan_scratch *s, const struct vf_frame *f,
		     const float *q)
{
	int err = vf_scan_rotate(s, f, q);

	if (err)
		return err;
	move_origin(s, f);
	if (s->has_code)
		return 0;
	s->has_code = true;
	s->code.planes = s->planes;
	vf_quantize_query(f->metric, f->padded, s->rotated, f->origin, s->work,
			  &s->code);
	return 0;
}

int vf_scan_refine(struct vf_scan_scratch *s, const struct vf_frame *f,
		   const float *q)
{
	int err = vf_scan_rotate(s, f, q);

	if (err)
		return err;
	move_origin(s, f);
	if (!s->has_fine)
		vf_fine_query_make(s->rotated, f->origin, f->padded, &s->fine);
	s->has_fine = true;
	return 0;
}
