/*
 * NumPy headers: whatever is accepted has sizes that fit together.
 */
#include "store/npy.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "npy";

int fuzz_one(const uint8_t *p, size_t len)
{
	uint8_t ours[VF_NPY_DATA_OFF];
	const char *why = NULL;
	struct vf_npy npy, again;
	int err = vf_npy_parse(p, len, &npy, &why);

	if (err == -ENODATA) {
		fuzz_check(len < VF_NPY_HEADER_MAX);
		return err;
	}
	if (err) {
		fuzz_check(err == -EINVAL && why && *why);
		return fuzz_outcome(err, why);
	}
	fuzz_check(npy.data_off <= len && npy.data_off <= VF_NPY_HEADER_MAX);
	fuzz_check(npy.data_len <= INT64_MAX - npy.data_off);
	fuzz_check((unsigned __int128)npy.n_rows * npy.dim *
			   vf_dtype_size(npy.dtype) ==
		   npy.data_len);
	vf_npy_header(&npy, ours);
	fuzz_check(!vf_npy_parse(ours, sizeof(ours), &again, &why));
	fuzz_check(again.n_rows == npy.n_rows && again.dim == npy.dim &&
		   again.dtype == npy.dtype && again.data_len == npy.data_len);
	return (int)npy.dtype;
}

static void add_dict(int version, const char *dict)
{
	uint8_t b[256] = "\x93NUMPY";
	size_t n = strlen(dict), head = version == 1 ? 10 : 12;

	b[6] = (uint8_t)version;
	vf_put_le32(b + 8, (uint32_t)n);
	memcpy(b + head, dict, n);
	fuzz_add(b, head + n);
}

void fuzz_seeds(void)
{
	struct vf_npy npy = {VF_F32, 1000, 128, 0, 0};
	uint8_t b[VF_NPY_DATA_OFF];

	vf_npy_header(&npy, b);
	fuzz_add(b, sizeof(b));
	fuzz_add(b, vf_npy_bool_header(1000, b));
	for (int v = 1; v <= 3; v++) {
		add_dict(v, "{'descr': '<f4', 'fortran_order': False, "
			    "'shape': (5, 3), }   \n");
		add_dict(v, "{'descr':\"|u1\",'shape':(7,),"
			    "'fortran_order':True}");
		add_dict(v, "{'descr': [('x', '<f4')], 'fortran_order': False,"
			    " 'shape': (), }\n");
		add_dict(v, "{'descr': '>f8', 'fortran_order': False, "
			    "'shape': (4294967296, 4294967296, 2), }\n");
	}
}

void fuzz_fix(uint8_t *p, size_t len)
{
	if (len < 12)
		return;
	memcpy(p, "\x93NUMPY", 6);
	if (p[6] == 1)
		vf_put_le16(p + 8, (uint16_t)(len - 10));
	else
		vf_put_le32(p + 8, (uint32_t)(len - 12));
}
