/*
 * Layout of version 1.0: "\x93NUMPY", major, minor, header length (u16, or u32
 * from version 2), then a Python dict literal that ends in a newline.
 */
#include "store/npy.h"
#include "store/util.h"

#include <stdio.h>

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

/* ---- reading -------------------------------------------------------------------- */

struct text {
	const char *at, *end;
};

static void skip_space(struct text *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\n'))
		t->at++;
}

static bool take(struct text *t, const char *word)
{
	size_t n = strlen(word);

	skip_space(t);
	if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n))
		return false;
	t->at += n;
	return true;
}

/* A quoted Python string without escapes, of at most cap - 1 bytes. */
static bool take_string(struct text *t, char *out, size_t cap)
{
	size_t n = 0;
	char quote;

	skip_space(t);
	if (t->at == t->end || (*t->at != '\'' && *t->at != '"'))
		return false;
	quote = *t->at++;
	while (t->at < t->end && *t->at != quote && *t->at != '\\') {
		if (n + 1 >= cap)
			return false;
		out[n++] = *t->at++;
	}
	out[n] = '\0';
	return t->at < t->end && *t->at++ == quote;
}

static bool take_number(struct text *t, uint64_t *out)
{
	bool any = false;

	skip_space(t);
	for (*out = 0; t->at < t->end && *t->at >= '0' && *t->at <= '9';
	     t->at++) {
		if (VF_MUL(*out, (uint64_t)10, out) ||
		    VF_ADD(*out, (uint64_t)(*t->at - '0'), out))
			return false;
		any = true;
	}
	return any;
}

static bool take_shape(struct text *t, uint64_t shape[2], unsigned *out_n)
{
	unsigned n = 0;
	uint64_t v;

	if (!take(t, "("))
		return false;
	while (!take(t, ")")) {
		if (!take_number(t, &v))
			return false;
		if (n < 2)
			shape[n] = v;
		n++;
		if (!take(t, ",")) {
			if (!take(t, ")"))
				return false;
			break;
		}
	}
	*out_n = n;
	return true;
}

static const char *parse_descr(const char *s, enum vf_dtype *out)
{
	if (!strcmp(s, "<f4"))
		*out = VF_F32;
	else if (!strcmp(s, "<f2"))
		*out = VF_F16;
	else if (!strcmp(s, "|u1") || !strcmp(s, "<u1"))
		*out = VF_U8;
	else if (s[0] == '>')
		return "big-endian elements; write them as '<f4'";
	else
		return "elements are neither float32 (<f4), float16 (<f2) nor "
		       "bytes (|u1)";
	return NULL;
}

struct header {
	char descr[32];
	bool fortran;
	uint64_t shape[2];
	unsigned n_shape;
};

static const char *parse_dict(struct text *t, struct header *h)
{
	bool have_descr = false, have_order = false, have_shape = false;
	char name[32];

	if (!take(t, "{"))
		return "its header is damaged";
	while (!take(t, "}")) {
		if (!take_string(t, name, sizeof(name)) || !take(t, ":"))
			return "its header is damaged";
		if (!strcmp(name, "descr")) {
			if (!take_string(t, h->descr, sizeof(h->descr)))
				return "its elements are not plain numbers";
			have_descr = true;
		} else if (!strcmp(name, "fortran_order")) {
			h->fortran = take(t, "True");
			if (!h->fortran && !take(t, "False"))
				return "its header is damaged";
			have_order = true;
		} else if (!strcmp(name, "shape")) {
			if (!take_shape(t, h->shape, &h->n_shape))
				return "its header is damaged";
			have_shape = true;
		} else {
			return "its header is damaged";
		}
		take(t, ",");
	}
	return have_descr && have_order && have_shape ? NULL
						      : "its header is damaged";
}

static const char *fill(const struct header *h, struct vf_npy *out)
{
	const char *reason = parse_descr(h->descr, &out->dtype);
	uint64_t n;

	if (reason)
		return reason;
	if (h->n_shape < 1 || h->n_shape > 2)
		return "it is not a matrix of one or two dimensions";
	if (h->fortran && h->n_shape == 2)
		return "Fortran order; write it with numpy.ascontiguousarray";
	out->n_rows = h->n_shape == 2 ? h->shape[0] : 1;
	out->dim = h->shape[h->n_shape - 1];
	if (VF_MUL(out->n_rows, out->dim, &n) ||
	    VF_MUL(n, (uint64_t)vf_dtype_size(out->dtype), &out->data_len) ||
	    out->data_len > INT64_MAX - VF_NPY_HEADER_MAX)
		return "its shape is impossible";
	return NULL;
}

static int parse_header(const void *p, size_t len, struct header *h,
			size_t *out_len, const char **out_reason)
{
	const uint8_t *b = p;
	struct text t;
	size_t n, head;

	if (memcmp(p, magic, VF_MIN(len, sizeof(magic)))) {
		*out_reason = "it is no NumPy file";
		return -EINVAL;
	}
	if (len < 12)
		return -ENODATA;
	if (b[6] < 1 || b[6] > 3) {
		*out_reason = "a NumPy format newer than 3";
		return -EINVAL;
	}
	head = b[6] == 1 ? 10 : 12;
	n = b[6] == 1 ? vf_le16(b + 8) : vf_le32(b + 8);
	if (n > VF_NPY_HEADER_MAX - head) {
		*out_reason = "its header is too long";
		return -EINVAL;
	}
	if (len < head + n)
		return -ENODATA;
	t = (struct text){(const char *)b + head, (const char *)b + head + n};
	*h = (struct header){0};
	*out_reason = parse_dict(&t, h);
	skip_space(&t);
	if (!*out_reason && t.at != t.end)
		*out_reason = "its header is damaged";
	*out_len = head + n;
	return *out_reason ? -EINVAL : 0;
}

int vf_npy_parse(const void *p, size_t len, struct vf_npy *out,
		 const char **out_reason)
{
	struct header h;
	size_t off;
	int err = parse_header(p, len, &h, &off, out_reason);

	if (err)
		return err;
	*out_reason = fill(&h, out);
	out->data_off = off;
	return *out_reason ? -EINVAL : 0;
}

int vf_npy_parse_array(const void *p, size_t len, struct vf_npy_array *out,
		       const char **out_reason)
{
	struct header h;
	size_t off;
	int err = parse_header(p, len, &h, &off, out_reason);

	if (err)
		return err;
	*out = (struct vf_npy_array){.fortran = h.fortran,
				     .shape = {h.shape[0], h.shape[1]},
				     .n_shape = h.n_shape,
				     .data_off = off};
	memcpy(out->descr, h.descr, sizeof(out->descr));
	return 0;
}

/* ---- writing -------------------------------------------------------------------- */

/* Magic, version 1.0 and length, then @dict, blanks and a newline. */
static void write_header(const char *dict, uint8_t *out, size_t len)
{
	memset(out, ' ', len);
	memcpy(out, magic, sizeof(magic));
	out[6] = 1;
	out[7] = 0;
	vf_put_le16(out + 8, (uint16_t)(len - 10));
	memcpy(out + 10, dict, strlen(dict));
	out[len - 1] = '\n';
}

void vf_npy_header(const struct vf_npy *npy, uint8_t out[VF_NPY_DATA_OFF])
{
	static const char *const descr[] = {
		[VF_F32] = "<f4", [VF_F16] = "<f2", [VF_U8] = "|u1"};
	char dict[160];

	snprintf(dict, sizeof(dict),
		 "{'descr': '%s', 'fortran_order': False, "
		 "'shape': (%llu, %llu), }",
		 descr[npy->dtype], (unsigned long long)npy->n_rows,
		 (unsigned long long)npy->dim);
	write_header(dict, out, VF_NPY_DATA_OFF);
}

size_t vf_npy_bool_header(uint64_t n_rows, uint8_t out[128])
{
	char dict[100];

	snprintf(dict, sizeof(dict),
		 "{'descr': '|b1', 'fortran_order': False, 'shape': (%llu,), }",
		 (unsigned long long)n_rows);
	write_header(dict, out, 128);
	return 128;
}
