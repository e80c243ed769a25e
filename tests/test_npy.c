/*
 * NumPy headers: ours against NumPy's own, and everything that is refused.
 */
#include "store/npy.h"
#include "tests/test.h"

#include <stdio.h>

/* A file of version @major with @dict, in exactly its bytes on the heap. */
static uint8_t *make_file(int major, const char *dict, size_t *out_len)
{
	size_t n = strlen(dict), head = major == 1 ? 10 : 12;
	uint8_t *b = malloc(head + n);

	memcpy(b, "\x93NUMPY", 6);
	b[6] = (uint8_t)major;
	b[7] = 0;
	if (major == 1)
		vf_put_le16(b + 8, (uint16_t)n);
	else
		vf_put_le32(b + 8, (uint32_t)n);
	memcpy(b + head, dict, n);
	*out_len = head + n;
	return b;
}

static int parse_dict(int major, const char *dict, struct vf_npy *out,
		      const char **out_why)
{
	size_t len;
	VF_AUTO_FREE uint8_t *b = make_file(major, dict, &len);

	*out_why = NULL;
	return vf_npy_parse(b, len, out, out_why);
}

static void our_header_parses_back(void)
{
	static const enum vf_dtype types[] = {VF_F32, VF_F16, VF_U8};
	uint8_t b[VF_NPY_DATA_OFF];
	struct vf_npy in, out;
	const char *why;

	for (size_t i = 0; i < VF_N(types); i++) {
		in = (struct vf_npy){types[i], 262144, 4096, 0, 0};
		vf_npy_header(&in, b);
		CU_ASSERT_EQUAL(vf_npy_parse(b, sizeof(b), &out, &why), 0);
		CU_ASSERT_EQUAL(out.dtype, types[i]);
		CU_ASSERT_EQUAL(out.n_rows, 262144);
		CU_ASSERT_EQUAL(out.dim, 4096);
		CU_ASSERT_EQUAL(out.data_off, VF_NPY_DATA_OFF);
		CU_ASSERT_EQUAL(out.data_len, (UINT64_C(262144) << 12) *
						      vf_dtype_size(types[i]));
	}
}

static void headers_of_extreme_shapes_keep_their_length(void)
{
	uint8_t b[VF_NPY_DATA_OFF], c[128 + 8];
	struct vf_npy in = {VF_F32, UINT64_MAX, UINT64_MAX, 0, 0};

	vf_npy_header(&in, b);
	CU_ASSERT_EQUAL(b[VF_NPY_DATA_OFF - 1], '\n');
	CU_ASSERT(memmem(b, 200, "(18446744073709551615, 18446744073709551615)",
			 44) != NULL);
	memset(c, 0xaa, sizeof(c));
	CU_ASSERT_EQUAL(vf_npy_bool_header(UINT64_MAX, c), 128);
	CU_ASSERT_EQUAL(c[127], '\n');
	CU_ASSERT_EQUAL(c[128], 0xaa);
}

static void headers_are_deterministic(void)
{
	uint8_t a[VF_NPY_DATA_OFF], b[VF_NPY_DATA_OFF];
	struct vf_npy in = {VF_F16, 3, 7, 1, 2};

	memset(a, 1, sizeof(a));
	memset(b, 2, sizeof(b));
	vf_npy_header(&in, a);
	in.data_off = in.data_len = 99;
	vf_npy_header(&in, b);
	CU_ASSERT(!memcmp(a, b, sizeof(a)));
}

/* ---- against NumPy -------------------------------------------------------- */

static bool run_numpy(const char *program, const char *dir)
{
	char cmd[2048];

	if (system("/usr/bin/python3 -c 'import numpy' 2>/dev/null")) {
		fprintf(stderr, "skipped: no NumPy for /usr/bin/python3\n");
		return false;
	}
	snprintf(cmd, sizeof(cmd),
		 "cd %s && /usr/bin/python3 -c 'import numpy as np\n%s'", dir,
		 program);
	CU_ASSERT_EQUAL(system(cmd), 0);
	return true;
}

static size_t read_file(const char *dir, const char *name, uint8_t *b,
			size_t cap)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "rb");
	CU_ASSERT_FATAL(f != NULL);
	size_t n = fread(b, 1, cap, f);
	fclose(f);
	return n;
}

static void write_file(const char *dir, const char *name, const void *p,
		       size_t len, size_t zeros)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "wb");
	CU_ASSERT_FATAL(f != NULL);
	fwrite(p, 1, len, f);
	while (zeros--)
		fputc(0, f);
	fclose(f);
}

/* Up to the blanks: NumPy pads to 64, we to 4096. */
static void compare_dicts(const uint8_t *theirs, const uint8_t *ours)
{
	const uint8_t *end = memchr(theirs, '}', 200);

	CU_ASSERT_FATAL(end != NULL);
	CU_ASSERT(!memcmp(theirs, ours, 8));
	CU_ASSERT(!memcmp(theirs + 10, ours + 10,
			  (size_t)(end + 1 - theirs - 10)));
}

static void our_header_is_numpys(void)
{
	static const char *const names[] = {
		[VF_F32] = "f4.npy", [VF_F16] = "f2.npy", [VF_U8] = "u1.npy"};
	uint8_t theirs[8192], ours[VF_NPY_DATA_OFF], b[128];
	const char *dir = vf_test_dir(), *why;
	struct vf_npy out;

	if (!run_numpy("for t in (\"<f4\", \"<f2\", \"|u1\"):\n"
		       "  np.save(t[1:] + \".npy\", np.zeros((5, 3), t))\n"
		       "np.save(\"b\", np.zeros(12, \"?\"))\n"
		       "np.save(\"v\", np.zeros(9, \"<f4\"))\n",
		       dir))
		return;
	for (int t = VF_F32; t <= VF_U8; t++) {
		size_t n = read_file(dir, names[t], theirs, sizeof(theirs));
		CU_ASSERT_EQUAL(vf_npy_parse(theirs, n, &out, &why), 0);
		CU_ASSERT_EQUAL((int)out.dtype, t);
		CU_ASSERT(out.n_rows == 5 && out.dim == 3);
		CU_ASSERT_EQUAL(out.data_off + out.data_len, n);
		vf_npy_header(&out, ours);
		compare_dicts(theirs, ours);
	}
	CU_ASSERT_EQUAL(read_file(dir, "b.npy", theirs, sizeof(theirs)), 140);
	CU_ASSERT_EQUAL(vf_npy_bool_header(12, b), 128);
	CU_ASSERT(!memcmp(theirs, b, sizeof(b)));
	size_t n = read_file(dir, "v.npy", theirs, sizeof(theirs));
	CU_ASSERT_EQUAL(vf_npy_parse(theirs, n, &out, &why), 0);
	CU_ASSERT(out.n_rows == 1 && out.dim == 9);
}

static void numpy_loads_what_we_write(void)
{
	struct vf_npy npy = {VF_F16, 5, 3, 0, 0};
	uint8_t b[VF_NPY_DATA_OFF];
	const char *dir = vf_test_dir();

	vf_npy_header(&npy, b);
	write_file(dir, "m.npy", b, sizeof(b), 30);
	write_file(dir, "alive.npy", b, vf_npy_bool_header(7, b), 7);
	run_numpy("m = np.load(\"m.npy\", mmap_mode=\"r\")\n"
		  "assert m.shape == (5, 3) and m.dtype == \"<f2\"\n"
		  "assert m.offset == 4096 and not m.any()\n"
		  "a = np.load(\"alive.npy\")\n"
		  "assert a.shape == (7,) and a.dtype == bool\n",
		  dir);
}

static void numpys_other_files_are_refused(void)
{
	static const char *const names[] = {"F.npy",  "be.npy", "f8.npy",
					    "3d.npy", "0d.npy", "st.npy"};
	uint8_t b[8192];
	const char *dir = vf_test_dir(), *why;
	struct vf_npy out;

	if (!run_numpy(
		    "np.save(\"F\", np.zeros((5, 3), \"<f4\", order=\"F\"))\n"
		    "np.save(\"be\", np.zeros((5, 3), \">f4\"))\n"
		    "np.save(\"f8\", np.zeros((5, 3)))\n"
		    "np.save(\"3d\", np.zeros((5, 3, 2), \"<f4\"))\n"
		    "np.save(\"0d\", np.float32(1))\n"
		    "np.save(\"st\", np.zeros(3, [(\"x\", \"<f4\")]))\n",
		    dir))
		return;
	for (size_t i = 0; i < VF_N(names); i++) {
		size_t n = read_file(dir, names[i], b, sizeof(b));
		why = NULL;
		CU_ASSERT_EQUAL(vf_npy_parse(b, n, &out, &why), -EINVAL);
		CU_ASSERT(why && *why);
	}
}

/* ---- what is read ------------------------------------------------------------- */

static void versions_1_to_3_are_read(void)
{
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, "
				   "'shape': (5, 3), }   \n";
	struct vf_npy out;
	const char *why;

	for (int v = 1; v <= 3; v++) {
		CU_ASSERT_EQUAL(parse_dict(v, dict, &out, &why), 0);
		CU_ASSERT_EQUAL(out.data_off,
				sizeof(dict) - 1 + (v == 1 ? 10 : 12));
		CU_ASSERT_EQUAL(out.data_len, 60);
	}
	CU_ASSERT_EQUAL(parse_dict(4, dict, &out, &why), -EINVAL);
	CU_ASSERT_EQUAL(parse_dict(0, dict, &out, &why), -EINVAL);
}

static void other_writers_spellings_are_read(void)
{
	static const char *const good[] = {
		"{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(5,3)}",
		"{'shape':(5,3,),'fortran_order':False,'descr':'<f4'}",
		" { 'shape' :( 5,3 ) ,\n'fortran_order' : False,'descr':'<f4',}\n",
	};
	struct vf_npy out;
	const char *why;

	for (size_t i = 0; i < VF_N(good); i++) {
		CU_ASSERT_EQUAL(parse_dict(1, good[i], &out, &why), 0);
		CU_ASSERT(out.n_rows == 5 && out.dim == 3);
		CU_ASSERT_EQUAL(out.dtype, VF_F32);
	}
	CU_ASSERT_EQUAL(parse_dict(1,
				   "{'descr':'|u1','fortran_order':True,"
				   "'shape':(7,)}",
				   &out, &why),
			0); /* a vector has both orders */
	CU_ASSERT(out.n_rows == 1 && out.dim == 7 && out.data_len == 7);
	CU_ASSERT_EQUAL(parse_dict(1,
				   "{'descr':'<f2','fortran_order':False,"
				   "'shape':(0,7)}",
				   &out, &why),
			0);
	CU_ASSERT(out.n_rows == 0 && out.dim == 7 && out.data_len == 0);
}

/* ---- what is refused -------------------------------------------------------------- */

static void refusals_say_why(void)
{
	static const struct {
		const char *dict, *word;
	} bad[] = {
		{"{'descr':'<f4','fortran_order':True,'shape':(5,3)}",
		 "Fortran"},
		{"{'descr':'>f4','fortran_order':False,'shape':(5,3)}",
		 "big-endian"},
		{"{'descr':'<f8','fortran_order':False,'shape':(5,3)}",
		 "elements"},
		{"{'descr':'<i4','fortran_order':False,'shape':(5,3)}",
		 "elements"},
		{"{'descr':'|b1','fortran_order':False,'shape':(5,3)}",
		 "elements"},
		{"{'descr':[('x','<f4')],'fortran_order':False,'shape':(5,)}",
		 "plain numbers"},
		{"{'descr':'<f4','fortran_order':False,'shape':(5,3,2)}",
		 "dimensions"},
		{"{'descr':'<f4','fortran_order':False,'shape':()}",
		 "dimensions"},
		{"{'descr':'<f4','fortran_order':False,"
		 "'shape':(4294967296,4294967296)}",
		 "impossible"},
		{"{'descr':'<f4','fortran_order':False,"
		 "'shape':(9223372036854775807,1)}",
		 "impossible"},
		{"{'descr':'<f4','fortran_order':False,"
		 "'shape':(2305843009213693951,1)}",
		 "impossible"},
	};
	struct vf_npy out;
	const char *why;

	for (size_t i = 0; i < VF_N(bad); i++) {
		CU_ASSERT_EQUAL(parse_dict(1, bad[i].dict, &out, &why),
				-EINVAL);
		CU_ASSERT(why && strstr(why, bad[i].word));
	}
}

static void damaged_dicts_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"{",
		"{}",
		"}",
		"{'descr'}",
		"{'descr':'<f4'}",
		"{'descr':'<f4','fortran_order':False}",
		"{'fortran_order':False,'shape':(5,3)}",
		"{'descr':'<f4','shape':(5,3)}",
		"{'descr':'<f4','fortran_order':0,'shape':(5,3)}",
		"{'descr':'<f4','fortran_order':False,'shape':5}",
		"{'descr':'<f4','fortran_order':False,'shape':(5,-3)}",
		"{'descr':'<f4','fortran_order':False,'shape':(5,,3)}",
		"{'descr':'<f4','fortran_order':False,'shape':(,)}",
		"{'descr':'<f4','fortran_order':False,'shape':(5,3}",
		"{'descr':'<f4','fortran_order':False,'shape':(5,3.0)}",
		"{'descr':'<f4','fortran_order':False,"
		"'shape':(18446744073709551616,3)}",
		"{'descr':'<f4','fortran_order':False,'shape':(5,3)",
		"{'descr':'<f4','fortran_order':False,'shape':(5,3)} x",
		"{'descr':'<f4','fortran_order':False,'shape':(5,3),'x':1}",
		"{'descr':'<f4,'fortran_order':False,'shape':(5,3)}",
		"{'descr':'<f4\",'fortran_order':False,'shape':(5,3)}",
		"{'de\\x73cr':'<f4','fortran_order':False,'shape':(5,3)}",
		"{'descr':'<f4444444444444444444444444444444444444444444',"
		"'fortran_order':False,'shape':(5,3)}",
	};
	struct vf_npy out;
	const char *why;

	for (size_t i = 0; i < VF_N(bad); i++)
		for (int v = 1; v <= 2; v++) {
			CU_ASSERT_NOT_EQUAL(parse_dict(v, bad[i], &out, &why),
					    0);
			if (strlen(bad[i]) > 1)
				CU_ASSERT_PTR_NOT_NULL(why);
		}
}

static void files_cut_short_ask_for_more(void)
{
	static const char dict[] = "{'descr': '<f4', 'fortran_order': False, "
				   "'shape': (5, 3), }   \n";
	struct vf_npy out;
	const char *why;
	size_t len;

	for (int v = 1; v <= 2; v++) {
		VF_AUTO_FREE uint8_t *b = make_file(v, dict, &len);
		for (size_t n = 0; n < len; n++) {
			VF_AUTO_FREE uint8_t *part = malloc(n + !n);
			memcpy(part, b, n);
			if (vf_npy_parse(part, n, &out, &why) != -ENODATA)
				CU_FAIL("a part of a header was believed");
		}
		CU_ASSERT_EQUAL(vf_npy_parse(b, len, &out, &why), 0);
	}
}

static void what_is_no_numpy_file_never_asks_for_more(void)
{
	uint8_t b[12] = "\x93NUMPY\2\0\xff\xff\xff\xff";
	struct vf_npy out;
	const char *why;

	CU_ASSERT_EQUAL(vf_npy_parse("PK", 2, &out, &why), -EINVAL);
	CU_ASSERT_EQUAL(vf_npy_parse("\x93", 1, &out, &why), -ENODATA);
	CU_ASSERT_EQUAL(vf_npy_parse("\x93NUMPX      ", 13, &out, &why),
			-EINVAL);
	CU_ASSERT_EQUAL(vf_npy_parse(b, 12, &out, &why), -EINVAL);
	vf_put_le32(b + 8, VF_NPY_HEADER_MAX - 12);
	CU_ASSERT_EQUAL(vf_npy_parse(b, 12, &out, &why), -ENODATA);
	vf_put_le32(b + 8, VF_NPY_HEADER_MAX - 11);
	CU_ASSERT_EQUAL(vf_npy_parse(b, 12, &out, &why), -EINVAL);
}

static CU_TestInfo tests[] = {
	{"our header parses back", our_header_parses_back},
	{"headers of extreme shapes keep their length",
	 headers_of_extreme_shapes_keep_their_length},
	{"headers are deterministic", headers_are_deterministic},
	{"our header is NumPy's", our_header_is_numpys},
	{"NumPy loads what we write", numpy_loads_what_we_write},
	{"NumPy's other files are refused", numpys_other_files_are_refused},
	{"versions 1 to 3 are read", versions_1_to_3_are_read},
	{"other writers' spellings are read", other_writers_spellings_are_read},
	{"refusals say why", refusals_say_why},
	{"damaged dicts are refused", damaged_dicts_are_refused},
	{"files cut short ask for more", files_cut_short_ask_for_more},
	{"what is no NumPy file never asks for more",
	 what_is_no_numpy_file_never_asks_for_more},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/npy", tests);
