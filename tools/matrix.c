#include "tools/matrix.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "store/npy.h"
#include "store/util.h"
#include "tools/rows.h"

/* A file that the user named, copied: it may change under a mapping. */
struct bytes {
	const char *path;
	uint8_t *p;
	size_t len;
};

enum { LEN_MAX = 1 << 30, NPY_MAX = 512 };

static int read_bytes(const char *path, struct bytes *out)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	*out = (struct bytes){.path = path};
	if (fd < 0 || fstat(fd, &st))
		return vf_fail(-errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > LEN_MAX)
		return vf_fail(-EINVAL, "%s: not a file below 1 GiB", path);
	out->len = (size_t)st.st_size;
	out->p = malloc(out->len + 1);
	if (!out->p)
		return vf_fail(-ENOMEM, "%s: %s", path, strerror(ENOMEM));
	int err = vf_pread_all(fd, out->p, out->len, 0);
	return err ? vf_fail(err, "%s: %s", path, vf_strerror(err)) : 0;
}

static void free_bytes(struct bytes *b)
{
	free(b->p);
}

static int refuse(const struct bytes *b, const char *why)
{
	return vf_fail(-EINVAL, "%s: %s", b->path, why);
}

int vf_matrix_read(const char *path, size_t max, struct vf_matrix *out)
{
	VF_CLEANUP(free_bytes) struct bytes b;
	struct vf_npy npy;
	const char *why;
	int err = read_bytes(path, &b);

	*out = (struct vf_matrix){0};
	if (err)
		return err;
	if (vf_npy_parse(b.p, b.len, &npy, &why))
		return refuse(&b, why);
	if (npy.data_off > b.len || npy.data_len > b.len - npy.data_off)
		return refuse(&b, "it is cut short");
	if (!npy.n_rows || npy.dim > VF_DIM_MAX)
		return refuse(&b, "not rows of 1 to 4096 numbers");
	out->n = (size_t)VF_MIN(npy.n_rows, (uint64_t)max);
	out->dim = (uint32_t)npy.dim;
	out->x = malloc(out->n * out->dim * sizeof(*out->x));
	if (!out->x)
		return vf_fail(-ENOMEM, "%s: %s", path, strerror(ENOMEM));
	vf_rows_to_f32(npy.dtype, b.p + npy.data_off, out->n * out->dim,
		       out->x);
	return 0;
}

/* ---- whole numbers ----------------------------------------------------------------- */

/* Rows of @size-byte numbers, each row after @skip bytes. */
struct grid {
	const uint8_t *p;
	size_t n, k, size, skip;
	bool is_unsigned;
};

static int64_t get_number(const struct grid *g, size_t row, size_t i)
{
	const uint8_t *at =
		g->p + row * (g->skip + g->k * g->size) + g->skip + i * g->size;

	if (g->size == 8)
		return (int64_t)vf_le64(at);
	return g->is_unsigned ? (int64_t)vf_le32(at) : (int32_t)vf_le32(at);
}

static int find_ivecs(const struct bytes *b, struct grid *g)
{
	if (b->len < 4)
		return refuse(b, "it is cut short");
	*g = (struct grid){.p = b->p, .k = vf_le32(b->p), .size = 4, .skip = 4};
	if (!g->k || g->k > VF_DIM_MAX)
		return refuse(b, "not .ivecs: rows of 1 to 4096 numbers");
	size_t row = 4 + g->k * 4;
	g->n = b->len / row;
	if (b->len % row)
		return refuse(b, "its rows differ in length or are cut short");
	for (size_t i = 0; i < g->n; i++)
		if (vf_le32(b->p + i * row) != g->k)
			return refuse(b, "its rows differ in length");
	return 0;
}

/*
 * The parser of headers knows numbers with a point only; those without are
 * shown to it as floats, and are of 4 or 8 bytes.
 */
static int find_npy(const struct bytes *b, struct grid *g)
{
	static const char *const types[] = {"'<i4'", "'<u4'", "'<i8'"};
	uint8_t head[NPY_MAX];
	size_t len = VF_MIN(b->len, sizeof(head));
	struct vf_npy npy;
	const char *why;

	memcpy(head, b->p, len);
	for (size_t t = 0; t < VF_N(types); t++) {
		char *at = memmem(head, len, types[t], 5);
		if (!at)
			continue;
		g->is_unsigned = at[2] == 'u';
		g->size = (size_t)(at[3] - '0');
		memcpy(at, "'<f4'", 5);
		break;
	}
	if (!g->size)
		return refuse(b, "not .npy of <i4, <u4 or <i8");
	if (vf_npy_parse(head, len, &npy, &why))
		return refuse(b, why);
	if (!npy.dim || npy.dim > VF_DIM_MAX)
		return refuse(b, "not rows of 1 to 4096 numbers");
	if (npy.data_off > b->len ||
	    npy.n_rows > (b->len - npy.data_off) / (npy.dim * g->size))
		return refuse(b, "it is cut short");
	g->p = b->p + npy.data_off;
	g->n = (size_t)npy.n_rows;
	g->k = (size_t)npy.dim;
	return 0;
}

int vf_ids_read(const char *path, size_t max, struct vf_ids *out)
{
	VF_CLEANUP(free_bytes) struct bytes b;
	struct grid g = {0};
	int err = read_bytes(path, &b);

	*out = (struct vf_ids){0};
	if (!err)
		err = b.len >= 6 && !memcmp(b.p, "\x93NUMPY", 6)
			      ? find_npy(&b, &g)
			      : find_ivecs(&b, &g);
	if (err)
		return err;
	out->n = VF_MIN(g.n, max);
	out->k = (uint32_t)g.k;
	out->id = malloc((out->n * g.k + 1) * sizeof(*out->id));
	if (!out->id)
		return vf_fail(-ENOMEM, "%s: %s", path, strerror(ENOMEM));
	for (size_t i = 0; i < out->n; i++)
		for (size_t j = 0; j < g.k; j++)
			out->id[i * g.k + j] = get_number(&g, i, j);
	return 0;
}
