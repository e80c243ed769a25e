/*
 * Files of other programs: whatever is accepted has rows that can all be read,
 * and no size in a file makes us ask for memory that it does not fill.
 *
 * HDF5 is left out: its parser is libhdf5, which on damaged files takes all
 * memory there is, or never ends (1.10.8; both within seconds of mutation).
 */
#include <sys/mman.h>

#include "tests/fuzz.h"
#include "tools/format.h"
#include "tools/zip.h"

const char fuzz_name[] = "formats";

enum { ROWS_TRIED = 32 };

static int file_of(const uint8_t *p, size_t len)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && !vf_pwrite_all(fd, p, len, 0));
	return fd;
}

static int read_rows(struct vf_intake *in)
{
	VF_AUTO_BUF struct vf_buf key = {0}, metadata = {0};
	VF_AUTO_FREE float *x = malloc(in->dim * sizeof(float));
	uint64_t n = VF_MIN(in->n_rows, (uint64_t)ROWS_TRIED);
	int err = 0;

	fuzz_check(x != NULL);
	for (uint64_t i = 0; !err && i < n; i++) {
		uint64_t row = i < n / 2 ? i : in->n_rows - 1 - (i - n / 2);
		key.len = metadata.len = 0;
		err = vf_intake_rows(in, row, 1, x);
		if (!err)
			err = vf_intake_text(in, row, &key, &metadata);
	}
	return err;
}

int fuzz_one(const uint8_t *p, size_t len)
{
	struct vf_intake in;

	if (len >= 4 && !memcmp(p, "\x89HDF", 4))
		return 0;
	int err = vf_intake_open(file_of(p, len), "file", NULL, &in);
	if (err)
		return err;
	fuzz_check(in.dim >= VF_DIM_MIN && in.dim <= VF_DIM_MAX && in.n_rows);
	int outcome = in.format->name[0] * 8 + in.has_keys * 4 +
		      (read_rows(&in) ? 2 : 0) + in.has_metadata;
	vf_intake_close(&in);
	return outcome;
}

/* ---- good files ------------------------------------------------------------------ */

static void write_seed(const struct vf_format *f, const char *key)
{
	char path[] = "/tmp/fuzz-formats-XXXXXX";
	struct vf_outlet out = {.format = f,
				.name = "seed",
				.tmp = path,
				.fd = mkstemp(path),
				.dim = 3,
				.n_rows = 4,
				.metric = VF_EUCLIDEAN,
				.keys = true};
	static const float x[3] = {1, 2, 3};
	uint8_t bytes[16384];

	fuzz_check(out.fd >= 0);
	out.stream = fdopen(out.fd, "w+");
	fuzz_check(out.stream && !vf_outlet_begin(&out));
	for (uint64_t i = 0; i < out.n_rows; i++) {
		struct vf_outlet_row row = {i,		 x,	      key,
					    strlen(key), "{\"a\":1}", 7};
		fuzz_check(!vf_outlet_write(&out, &row));
	}
	fuzz_check(!vf_outlet_finish(&out) && !fflush(out.stream));
	ssize_t n = pread(out.fd, bytes, sizeof(bytes), 0);
	fuzz_check(n > 0);
	fuzz_add(bytes, (size_t)n);
	vf_outlet_discard(&out);
	fclose(out.stream);
	unlink(path);
}

void fuzz_seeds(void)
{
	for (size_t i = 0; vf_formats[i]; i++)
		if (vf_formats[i] != &vf_format_hdf5)
			write_seed(vf_formats[i], "7");
}

/* The sum of the first member, so that what is in it is parsed too. */
void fuzz_fix(uint8_t *p, size_t len)
{
	static const char name[] = "vectors.npy";
	size_t head = 30 + sizeof(name) - 1 + 20, n = 4096 + 48;
	uint8_t *entry;

	if (len < head + n || vf_le32(p) != 0x04034b50)
		return;
	entry = memmem(p, len, "PK\1\2", 4);
	if (entry && (size_t)(p + len - entry) >= 20)
		vf_put_le32(entry + 16, vf_zip_crc(0, p + head, n));
}
