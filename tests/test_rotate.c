#include "index/rotate.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

static const uint32_t dims[] = {2,    50,   63,	  64,	65,   100, 128,	 256,
				257,  300,  384,  512,	784,  768, 1000, 1024,
				1088, 1536, 1984, 3000, 4032, 4096};

static double dot(const float *a, const float *b, uint32_t n)
{
	double s = 0;

	for (uint32_t i = 0; i < n; i++)
		s += (double)a[i] * b[i];
	return s;
}

static void lengths_and_angles_are_kept(void)
{
	float x[VF_DIM_MAX], y[VF_DIM_MAX], rx[VF_DIM_MAX], ry[VF_DIM_MAX];
	uint64_t seed = 11;

	for (size_t i = 0; i < VF_N(dims); i++) {
		uint32_t d = dims[i], padded = vf_padded_dim(d);
		struct vf_rotation *r;
		CU_ASSERT_EQUAL_FATAL(vf_rotation_new(d, 77 + i, &r), 0);
		for (uint32_t j = 0; j < d; j++) {
			x[j] = vf_test_normal(&seed);
			y[j] = vf_test_normal(&seed) + x[j];
		}
		vf_rotate(r, x, rx);
		vf_rotate(r, y, ry);
		double xx = dot(x, x, d), yy = dot(y, y, d);
		double unit = sqrt(xx * yy);
		CU_ASSERT(fabs(dot(rx, rx, padded) / xx - 1) < 1e-5);
		CU_ASSERT(fabs(dot(ry, ry, padded) / yy - 1) < 1e-5);
		CU_ASSERT(fabs(dot(rx, ry, padded) - dot(x, y, d)) / unit <
			  1e-5);
		vf_rotation_free(r);
	}
}

/*
 * The share of each output coordinate in the length, over seeds: a coordinate
 * that few rounds reach would hold far less or far more than its part.
 */
static void spread(uint32_t d, const float *x, double *out_min, double *out_max)
{
	enum { SEEDS = 64 };
	uint32_t padded = vf_padded_dim(d);
	double share[VF_DIM_MAX] = {0}, mean = dot(x, x, d) / padded;
	float out[VF_DIM_MAX];

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct vf_rotation *r;
		CU_ASSERT_EQUAL_FATAL(vf_rotation_new(d, seed, &r), 0);
		vf_rotate(r, x, out);
		for (uint32_t i = 0; i < padded; i++)
			share[i] += (double)out[i] * out[i] / mean / SEEDS;
		vf_rotation_free(r);
	}
	*out_min = 1e9;
	*out_max = 0;
	for (uint32_t i = 0; i < padded; i++) {
		*out_min = fmin(*out_min, share[i]);
		*out_max = fmax(*out_max, share[i]);
	}
}

static void every_coordinate_gets_its_share(void)
{
	float x[VF_DIM_MAX];
	double lo, hi;

	for (size_t i = 0; i < VF_N(dims); i++) {
		uint32_t d = dims[i], spots[] = {0, d / 2, d - 1};
		for (size_t j = 0; j < VF_N(spots); j++) {
			memset(x, 0, sizeof(x));
			x[spots[j]] = 1;
			spread(d, x, &lo, &hi);
			CU_ASSERT(lo > 0.25 && hi < 3);
			if (!(lo > 0.25 && hi < 3))
				fprintf(stderr, "dim %u, one at %u: %g..%g\n",
					d, spots[j], lo, hi);
		}
		for (uint32_t j = 0; j < d; j++)
			x[j] = 1 + sinf((float)j * 3.f / (float)d);
		spread(d, x, &lo, &hi);
		CU_ASSERT(lo > 0.25 && hi < 3);
		if (!(lo > 0.25 && hi < 3))
			fprintf(stderr, "dim %u, smooth: %g..%g\n", d, lo, hi);
	}
}

/* Codes outlive the program that made them: this sum may never change. */
static void a_seed_means_the_same_everywhere(void)
{
	float x[256], out[256];
	struct vf_rotation *r;

	for (int i = 0; i < 256; i++)
		x[i] = (float)(i - 100); /* exact in every round */
	CU_ASSERT_EQUAL_FATAL(vf_rotation_new(256, 42, &r), 0);
	vf_rotate(r, x, out);
	CU_ASSERT_EQUAL(vf_crc32c(0, out, sizeof(out)), 0x97212981u);
	vf_rotation_free(r);
	for (int i = 0; i < 3; i++)
		x[i] = (float)(1 << i);
	CU_ASSERT_EQUAL_FATAL(vf_rotation_new(3, 42, &r), 0);
	vf_rotate(r, x, out);
	CU_ASSERT_EQUAL(vf_crc32c(0, out, sizeof(out)), 0xe10fc843u);
	vf_rotation_free(r);
}

static void padding_is_to_64_and_at_least_256(void)
{
	CU_ASSERT_EQUAL(vf_padded_dim(2), 256);
	CU_ASSERT_EQUAL(vf_padded_dim(256), 256);
	CU_ASSERT_EQUAL(vf_padded_dim(257), 320);
	CU_ASSERT_EQUAL(vf_padded_dim(3000), 3008);
	CU_ASSERT_EQUAL(vf_padded_dim(4096), 4096);
}

static void dimensions_out_of_range_are_refused(void)
{
	struct vf_rotation *r;

	CU_ASSERT_EQUAL(vf_rotation_new(1, 1, &r), -EINVAL);
	CU_ASSERT_PTR_NULL(r);
	CU_ASSERT_EQUAL(vf_rotation_new(VF_DIM_MAX + 1, 1, &r), -EINVAL);
	vf_rotation_free(NULL);
}

static CU_TestInfo tests[] = {
	{"lengths and angles are kept", lengths_and_angles_are_kept},
	{"every coordinate gets its share", every_coordinate_gets_its_share},
	{"a seed means the same everywhere", a_seed_means_the_same_everywhere},
	{"padding is to 64 and at least 256",
	 padding_is_to_64_and_at_least_256},
	{"dimensions out of range are refused",
	 dimensions_out_of_range_are_refused},
	CU_TEST_INFO_NULL};
VF_SUITE("index/rotate", tests);
