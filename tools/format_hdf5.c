/*
 * HDF5 in the layout of ann-benchmarks: the data set "train" of (rows,
 * dimension) floats and the attribute "distance".  Besides, of ours: "keys"
 * and "metadata", a text per row each.
 *
 * libhdf5 parses the file: it is the only reader of this format that exists,
 * and it is less careful with hostile files than we are.
 */
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/format.h"
#include "tools/scratchfile.h"

enum { TEXT_ROWS = 1024, ROWS_BYTES = 1 << 20, CHUNK_MAX = 256 << 20 };

/* A data set with a text per row, some of which are at hand. */
struct texts {
	hid_t set, type; /* below 0: none */
	size_t width;	 /* of a fixed-length text; 0: variable */
	uint64_t first, n;
	char **at;   /* [n], of libhdf5 */
	char *fixed; /* [n][width] */
};

struct hdf5 {
	hid_t file, set;
	enum vf_element element; /* that libhdf5 hands rows out as */
	struct texts keys, metadata;
};

/* Closing what was never opened is fine. */
static void close_id(hid_t id, herr_t (*fn)(hid_t))
{
	if (id >= 0)
		fn(id);
}

static int refuse(const char *name, const char *what, const char *why)
{
	return vf_fail(-EINVAL, "%s: %s%s%s", name, what, *what ? ": " : "",
		       why);
}

/* ---- opening -------------------------------------------------------------------------- */

static bool probe_hdf5(const struct vf_format_head *h)
{
	return h->n >= 8 && !memcmp(h->p, "\x89HDF\r\n\x1a\n", 8);
}

static hid_t open_set(hid_t file, const char *name)
{
	if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
		return -1;
	return H5Dopen2(file, name, H5P_DEFAULT);
}

/* Dimensions of a set, at most 2; 0: none, or more. */
static int set_shape(hid_t set, hsize_t shape[2])
{
	hid_t space = H5Dget_space(set);
	int n = space < 0 ? 0 : H5Sget_simple_extent_ndims(space);

	if (n < 1 || n > 2 ||
	    H5Sget_simple_extent_dims(space, shape, NULL) != n)
		n = 0;
	close_id(space, H5Sclose);
	return n;
}

/* A chunk is in memory whole: its size comes from the file. */
static bool chunks_fit(hid_t set)
{
	hsize_t chunk[2] = {1, 1};
	hid_t plist = H5Dget_create_plist(set), type = H5Dget_type(set);
	bool ok = plist >= 0 && type >= 0;

	if (ok && H5Pget_layout(plist) == H5D_CHUNKED)
		ok = H5Pget_chunk(plist, 2, chunk) > 0 &&
		     chunk[0] <= CHUNK_MAX && chunk[1] <= CHUNK_MAX &&
		     chunk[0] * chunk[1] * H5Tget_size(type) <= CHUNK_MAX;
	close_id(plist, H5Pclose);
	close_id(type, H5Tclose);
	return ok;
}

/* Whole numbers come as they are: what float32 cannot hold is refused. */
static const char *check_elements(hid_t set, bool *out_half,
				  enum vf_element *out)
{
	hid_t type = H5Dget_type(set);
	H5T_class_t class = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
	size_t size = type < 0 ? 0 : H5Tget_size(type);
	bool minus = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;

	close_id(type, H5Tclose);
	*out_half = class == H5T_FLOAT && size == 2;
	*out = class == H5T_FLOAT ? VF_EL_F32 : minus ? VF_EL_I64 : VF_EL_U64;
	return (class == H5T_FLOAT || class == H5T_INTEGER) && size <= 8
		       ? NULL
		       : "its elements are no floats nor whole numbers";
}

static int open_vectors(struct vf_intake *in, struct hdf5 *h)
{
	static const char *const names[] = {"train", "vectors", "embeddings",
					    "base"};
	const char *name = in->part, *why;
	hsize_t shape[2];

	for (size_t i = 0; !name && i < VF_N(names); i++)
		if (H5Lexists(h->file, names[i], H5P_DEFAULT) > 0)
			name = names[i];
	if (!name)
		return refuse(in->name, "",
			      "no data set \"train\" nor \"vectors\" in it; "
			      "--array NAME says which");
	h->set = open_set(h->file, name);
	if (h->set < 0)
		return refuse(in->name, name, "no such data set");
	if (set_shape(h->set, shape) != 2)
		return refuse(in->name, name, "not of two dimensions");
	why = check_elements(h->set, &in->is_half, &h->element);
	if (!why && !chunks_fit(h->set))
		why = "its chunks are over 256 MiB";
	if (why)
		return refuse(in->name, name, why);
	in->n_rows = shape[0];
	in->dim = (uint32_t)VF_MIN(shape[1], (hsize_t)UINT32_MAX);
	return 0;
}

static int open_texts(struct vf_intake *in, struct hdf5 *h, const char *name,
		      struct texts *t)
{
	hsize_t shape[2];

	t->set = open_set(h->file, name);
	if (t->set < 0)
		return 0;
	if (set_shape(t->set, shape) != 1 || shape[0] != in->n_rows)
		return refuse(in->name, name, "not one text per row");
	hid_t type = H5Dget_type(t->set);
	if (type < 0 || H5Tget_class(type) != H5T_STRING ||
	    !chunks_fit(t->set)) {
		close_id(type, H5Tclose);
		return refuse(in->name, name, "not made of texts");
	}
	t->width = H5Tis_variable_str(type) > 0 ? 0 : H5Tget_size(type);
	t->type = H5Tcopy(type);
	close_id(type, H5Tclose);
	return t->width > 1 << 16
		       ? refuse(in->name, name, "its texts are too long")
		       : 0;
}

static void learn_metric(struct vf_intake *in, hid_t file)
{
	static const struct {
		const char *name;
		enum vf_metric metric;
	} known[] = {{"angular", VF_COSINE},
		     {"cosine", VF_COSINE},
		     {"euclidean", VF_EUCLIDEAN},
		     {"dot", VF_DOT},
		     {"ip", VF_DOT}};
	char text[32] = "";

	if (H5Aexists(file, "distance") <= 0)
		return;
	hid_t attr = H5Aopen(file, "distance", H5P_DEFAULT);
	hid_t type = attr < 0 ? -1 : H5Aget_type(attr);
	char *s = NULL;
	if (type >= 0 && H5Tget_class(type) == H5T_STRING) {
		if (H5Tis_variable_str(type) > 0) {
			if (H5Aread(attr, type, &s) >= 0 && s) {
				snprintf(text, sizeof(text), "%s", s);
				H5free_memory(s);
			}
		} else if (H5Tget_size(type) < sizeof(text)) {
			H5Aread(attr, type, text);
		}
	}
	close_id(type, H5Tclose);
	close_id(attr, H5Aclose);
	for (size_t i = 0; i < VF_N(known); i++)
		if (!strcmp(known[i].name, text)) {
			in->has_metric = true;
			in->metric = known[i].metric;
		}
}

/*
 * libhdf5 wants a name that leads to the file: a scratch file has none, and
 * gets one in its folder for as long as opening takes.
 */
static hid_t open_nameless(int fd, const char *path)
{
	VF_AUTO_FREE char *name = NULL;
	struct stat st;

	if (fstat(fd, &st) || st.st_nlink ||
	    asprintf(&name, "%s/vectool-%d-%llu.hdf5", vf_scratch_dir(NULL),
		     getpid(), (unsigned long long)st.st_ino) < 0)
		return -1;
	if (linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW))
		return -1;
	hid_t file = H5Fopen(name, H5F_ACC_RDONLY, H5P_DEFAULT);
	unlink(name);
	return file;
}

static int open_hdf5(struct vf_intake *in)
{
	struct hdf5 *h = in->own = malloc(sizeof(*h));
	char path[64];

	if (!h)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	*h = (struct hdf5){.file = -1,
			   .set = -1,
			   .keys = {.set = -1, .type = -1},
			   .metadata = {.set = -1, .type = -1}};
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", in->fd);
	h->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (h->file < 0)
		h->file = open_nameless(in->fd, path);
	if (h->file < 0)
		return refuse(in->name, "", "a damaged HDF5 file");
	int err = open_vectors(in, h);
	if (!err)
		err = open_texts(in, h, "keys", &h->keys);
	if (!err)
		err = open_texts(in, h, "metadata", &h->metadata);
	in->has_keys = h->keys.set >= 0;
	in->has_metadata = h->metadata.set >= 0;
	if (!err)
		learn_metric(in, h->file);
	return err;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Rows row..row+n of a set of @n_dims dimensions, between file and memory. */
static int move_rows(hid_t set, hid_t type, uint64_t row, size_t n,
		     uint32_t dim, void *to, const void *from)
{
	hsize_t start[2] = {row, 0}, count[2] = {n, dim};
	int n_dims = dim ? 2 : 1;
	hid_t space = H5Dget_space(set);
	hid_t mem = H5Screate_simple(n_dims, count, NULL);
	herr_t rc = -1;

	if (space >= 0 && mem >= 0 &&
	    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count,
				NULL) >= 0)
		rc = to ? H5Dread(set, type, mem, space, H5P_DEFAULT, to)
			: H5Dwrite(set, type, mem, space, H5P_DEFAULT, from);
	close_id(mem, H5Sclose);
	close_id(space, H5Sclose);
	return rc < 0 ? -EIO : 0;
}

static int fail_row(const struct vf_intake *in, uint64_t row)
{
	return vf_fail(-EINVAL, "%s: row %" PRIu64 " cannot be read", in->name,
		       row);
}

static int read_whole(struct vf_intake *in, uint64_t row, float *x)
{
	const struct hdf5 *h = in->own;
	VF_AUTO_FREE uint64_t *v = malloc(in->dim * sizeof(*v));
	hid_t type = h->element == VF_EL_I64 ? H5T_STD_I64LE : H5T_STD_U64LE;

	if (!v)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	if (move_rows(h->set, type, row, 1, in->dim, v, NULL))
		return fail_row(in, row);
	size_t at = vf_element_to_f32(h->element, v, in->dim, x);
	return at == in->dim
		       ? 0
		       : vf_element_refuse(in->name, row, h->element, v + at);
}

static int read_hdf5(struct vf_intake *in, uint64_t row, size_t n, float *x)
{
	const struct hdf5 *h = in->own;
	int err = 0;

	if (h->element == VF_EL_F32)
		return move_rows(h->set, H5T_NATIVE_FLOAT, row, n, in->dim, x,
				 NULL)
			       ? fail_row(in, row)
			       : 0;
	for (size_t i = 0; !err && i < n; i++)
		err = read_whole(in, row + i, x + i * in->dim);
	return err;
}

static void drop_texts(struct texts *t)
{
	for (uint64_t i = 0; t->at && i < t->n; i++)
		H5free_memory(t->at[i]);
	free(VF_STEAL(t->at));
	free(VF_STEAL(t->fixed));
	t->n = 0;
}

static int load_texts(struct vf_intake *in, struct texts *t, uint64_t row)
{
	uint64_t n = VF_MIN(in->n_rows - row, (uint64_t)TEXT_ROWS);

	if (row >= t->first && row - t->first < t->n)
		return 0;
	drop_texts(t);
	if (t->width)
		t->fixed = calloc(n, t->width);
	else
		t->at = calloc(n, sizeof(*t->at));
	if (!t->fixed && !t->at)
		return vf_fail(-ENOMEM, "%s: %s", in->name, strerror(ENOMEM));
	t->first = row;
	t->n = n;
	void *to = t->width ? (void *)t->fixed : (void *)t->at;
	if (!move_rows(t->set, t->type, row, (size_t)n, 0, to, NULL))
		return 0;
	return vf_fail(-EINVAL,
		       "%s: the text of row %" PRIu64 " cannot be read",
		       in->name, row);
}

static int append_text(struct vf_intake *in, struct texts *t, uint64_t row,
		       struct vf_buf *out)
{
	if (t->set < 0)
		return 0;
	int err = load_texts(in, t, row);
	if (err)
		return err;
	if (t->width) {
		const char *s = t->fixed + (row - t->first) * t->width;
		return vf_buf_append(out, s, strnlen(s, t->width));
	}
	const char *s = t->at[row - t->first];
	return s ? vf_buf_append(out, s, strlen(s)) : 0;
}

static int text_hdf5(struct vf_intake *in, uint64_t row, struct vf_buf *key,
		     struct vf_buf *metadata)
{
	struct hdf5 *h = in->own;
	int err = append_text(in, &h->keys, row, key);

	return err ? err : append_text(in, &h->metadata, row, metadata);
}

static void close_texts(struct texts *t)
{
	drop_texts(t);
	close_id(t->type, H5Tclose);
	close_id(t->set, H5Dclose);
}

static void close_hdf5(struct vf_intake *in)
{
	struct hdf5 *h = in->own;

	if (!h)
		return;
	close_texts(&h->keys);
	close_texts(&h->metadata);
	close_id(h->set, H5Dclose);
	close_id(h->file, H5Fclose);
	free(h);
}

/* ---- writing ---------------------------------------------------------------------------- */

/* Rows wait until there are enough of them for one write. */
struct writing {
	hid_t file, set, keys, metadata, type;
	uint64_t first;
	size_t n, max;
	float *x;
	char **key_at, **metadata_at; /* [max], owned */
};

static hid_t make_set(hid_t file, const char *name, hid_t type, int n_dims,
		      const hsize_t *shape)
{
	hid_t space = H5Screate_simple(n_dims, shape, NULL);
	hid_t set = space < 0 ? -1
			      : H5Dcreate2(file, name, type, space, H5P_DEFAULT,
					   H5P_DEFAULT, H5P_DEFAULT);

	close_id(space, H5Sclose);
	return set;
}

static hid_t make_text_type(void)
{
	hid_t type = H5Tcopy(H5T_C_S1);

	if (type >= 0 && (H5Tset_size(type, H5T_VARIABLE) < 0 ||
			  H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
		H5Tclose(type);
		return -1;
	}
	return type;
}

static bool write_metric(const struct vf_outlet *out, struct writing *w)
{
	const char *name = out->metric == VF_COSINE	 ? "angular"
			   : out->metric == VF_EUCLIDEAN ? "euclidean"
							 : "dot";
	hid_t space = H5Screate(H5S_SCALAR);
	hid_t attr = space < 0 ? -1
			       : H5Acreate2(w->file, "distance", w->type, space,
					    H5P_DEFAULT, H5P_DEFAULT);
	bool ok = attr >= 0 && H5Awrite(attr, w->type, &name) >= 0;

	close_id(attr, H5Aclose);
	close_id(space, H5Sclose);
	return ok;
}

static bool make_sets(const struct vf_outlet *out, struct writing *w)
{
	const hsize_t shape[2] = {out->n_rows, out->dim};

	w->file = H5Fcreate(out->tmp, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	w->type = make_text_type();
	if (w->file < 0 || w->type < 0)
		return false;
	w->set = make_set(w->file, "train", H5T_IEEE_F32LE, 2, shape);
	if (w->set < 0)
		return false;
	if (out->keys) {
		w->keys = make_set(w->file, "keys", w->type, 1, shape);
		w->metadata = make_set(w->file, "metadata", w->type, 1, shape);
		if (w->keys < 0 || w->metadata < 0)
			return false;
	}
	return write_metric(out, w);
}

static int fail_write(const struct vf_outlet *out)
{
	return vf_fail(-EIO, "%s: libhdf5 could not write it", out->name);
}

static int create_hdf5(struct vf_outlet *out)
{
	struct writing *w = out->own = malloc(sizeof(*w));

	if (!w)
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	*w = (struct writing){-1, -1, -1, -1, -1, 0, 0, 0, NULL, NULL, NULL};
	w->max = 1 + ROWS_BYTES / (out->dim * sizeof(float));
	w->x = malloc(w->max * out->dim * sizeof(float));
	w->key_at = calloc(w->max, sizeof(char *));
	w->metadata_at = calloc(w->max, sizeof(char *));
	if (!w->x || !w->key_at || !w->metadata_at)
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
	return make_sets(out, w) ? 0 : fail_write(out);
}

static int flush_rows(struct vf_outlet *out, struct writing *w)
{
	int err = 0;

	if (!w->n)
		return 0;
	err = move_rows(w->set, H5T_NATIVE_FLOAT, w->first, w->n, out->dim,
			NULL, w->x);
	if (!err && out->keys)
		err = move_rows(w->keys, w->type, w->first, w->n, 0, NULL,
				w->key_at);
	if (!err && out->keys)
		err = move_rows(w->metadata, w->type, w->first, w->n, 0, NULL,
				w->metadata_at);
	for (size_t i = 0; i < w->n; i++) {
		free(VF_STEAL(w->key_at[i]));
		free(VF_STEAL(w->metadata_at[i]));
	}
	w->first += w->n;
	w->n = 0;
	return err ? fail_write(out) : 0;
}

static int write_hdf5(struct vf_outlet *out, const struct vf_outlet_row *row)
{
	struct writing *w = out->own;

	memcpy(w->x + w->n * out->dim, row->x, out->dim * sizeof(float));
	w->key_at[w->n] = strndup(row->key, row->key_len);
	w->metadata_at[w->n] = strndup(row->metadata, row->metadata_len);
	if (!w->key_at[w->n] || !w->metadata_at[w->n++])
		return vf_fail(-ENOMEM, "%s: %s", out->name, strerror(ENOMEM));
	return w->n == w->max ? flush_rows(out, w) : 0;
}

static int close_sets(struct writing *w)
{
	close_id(w->metadata, H5Dclose);
	close_id(w->keys, H5Dclose);
	close_id(w->set, H5Dclose);
	close_id(w->type, H5Tclose);
	int err = w->file >= 0 && H5Fclose(w->file) < 0 ? -EIO : 0;
	w->metadata = w->keys = w->set = w->type = w->file = -1;
	return err;
}

static int finish_hdf5(struct vf_outlet *out)
{
	int err = flush_rows(out, out->own);

	if (!err && close_sets(out->own))
		err = fail_write(out);
	return err;
}

static void discard_hdf5(struct vf_outlet *out)
{
	struct writing *w = out->own;

	if (!w)
		return;
	close_sets(w);
	for (size_t i = 0; w->key_at && w->metadata_at && i < w->max; i++) {
		free(w->key_at[i]);
		free(w->metadata_at[i]);
	}
	free(w->key_at);
	free(w->metadata_at);
	free(w->x);
	free(w);
}

const struct vf_format vf_format_hdf5 = {
	.name = "hdf5",
	.holds = "vectors, keys, metadata; the metric",
	.keeps_keys = true,
	.keeps_metadata = true,
	.probe = probe_hdf5,
	.open = open_hdf5,
	.rows = read_hdf5,
	.text = text_hdf5,
	.close = close_hdf5,
	.create = create_hdf5,
	.write = write_hdf5,
	.finish = finish_hdf5,
	.discard = discard_hdf5,
};
