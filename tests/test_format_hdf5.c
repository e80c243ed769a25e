/* HDF5 files that others wrote: elements that are no float32. */
#include "tests/test.h"
#include "tools/format.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>

enum { ROWS = 3, DIM = 4 };

/* A file whose "train" holds @v, 64 bits each, as elements of @type. */
static void write_file(const char *path, hid_t type, hid_t of, const void *v)
{
	const hsize_t shape[2] = {ROWS, DIM};
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	hid_t space = H5Screate_simple(2, shape, NULL);
	hid_t set = H5Dcreate2(file, "train", type, space, H5P_DEFAULT,
			       H5P_DEFAULT, H5P_DEFAULT);

	CU_ASSERT_FATAL(set >= 0);
	CU_ASSERT(H5Dwrite(set, of, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
	H5Dclose(set);
	H5Sclose(space);
	CU_ASSERT(H5Fclose(file) >= 0);
}

static int read_file(hid_t type, hid_t of, const void *v, float x[ROWS][DIM])
{
	struct vf_intake in;
	char path[300];

	snprintf(path, sizeof(path), "%s/other.hdf5", vf_test_dir());
	write_file(path, type, of, v);
	CU_ASSERT_EQUAL_FATAL(
		vf_intake_open(open(path, O_RDONLY), path, NULL, &in), 0);
	CU_ASSERT(in.n_rows == ROWS && in.dim == DIM);
	int err = vf_intake_rows(&in, 0, ROWS, x[0]);
	vf_intake_close(&in);
	return err;
}

static void whole_numbers_are_read(void)
{
	static const int64_t v[ROWS * DIM] = {0, 1, -2, 3, 1 << 24, -(1 << 24),
					      6, 7, 8,	9, 10,	    1 << 30};
	const hid_t types[] = {H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_I32BE};
	float x[ROWS][DIM];

	for (size_t t = 0; t < VF_N(types); t++) {
		CU_ASSERT_EQUAL(read_file(types[t], H5T_NATIVE_INT64, v, x), 0);
		for (size_t i = 0; i < VF_N(v); i++)
			CU_ASSERT_EQUAL(x[i / DIM][i % DIM], (float)v[i]);
	}
}

/* And not rounded. */
static void those_that_float32_cannot_hold_are_refused(void)
{
	int64_t v[ROWS * DIM] = {0};
	float x[ROWS][DIM];

	v[7] = (1 << 24) + 1;
	CU_ASSERT_EQUAL(read_file(H5T_STD_I32LE, H5T_NATIVE_INT64, v, x),
			-EINVAL);
	v[7] = -1;
	CU_ASSERT_EQUAL(read_file(H5T_STD_U64LE, H5T_NATIVE_UINT64, v, x),
			-EINVAL);
}

static void doubles_are_rounded(void)
{
	static const double v[ROWS * DIM] = {0.1, -1e-9, 3, 16777217};
	float x[ROWS][DIM];

	CU_ASSERT_EQUAL(read_file(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, v, x), 0);
	for (size_t i = 0; i < VF_N(v); i++)
		CU_ASSERT_EQUAL(x[i / DIM][i % DIM], (float)v[i]);
}

static CU_TestInfo tests[] = {
	{"whole numbers are read", whole_numbers_are_read},
	{"those that float32 cannot hold are refused",
	 those_that_float32_cannot_hold_are_refused},
	{"doubles are rounded", doubles_are_rounded},
	CU_TEST_INFO_NULL,
};
VF_SUITE("tools/format_hdf5", tests);
