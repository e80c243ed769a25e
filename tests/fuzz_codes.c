/*
 * codes.vix: whatever is accepted can be searched.
 */
#include "index/codes.h"
#include "tests/fuzz.h"
#include "tests/old_codes.h"

enum { K = 5 };

const char fuzz_name[] = "codes";

static int count_row(void *arg, uint64_t row)
{
	fuzz_check(row < *(const uint64_t *)arg);
	return 0;
}

static void refine(const struct vf_index *ix, const struct vf_index_info *info,
		   const float *q, struct vf_scan_scratch *scratch)
{
	struct vf_refined r[K];
	size_t n = VF_MIN((uint64_t)K, info->n_rows);

	for (size_t i = 0; i < n; i++)
		r[i].row = (uint32_t)(info->n_rows - 1 - i);
	fuzz_check(!vf_index_refine(ix, q, scratch, r, n));
	for (size_t i = 0; i < n; i++)
		fuzz_check(r[i].dist == r[i].dist && r[i].err >= 0);
}

static void scan(const struct vf_index *ix, const struct vf_index_info *info)
{
	VF_AUTO_FREE float *q = malloc(info->dim * sizeof(*q));
	struct vf_hit hits[K];
	struct vf_topk top = {.hits = hits, .k = K};
	struct vf_scan_scratch *scratch;

	for (uint32_t i = 0; i < info->dim; i++)
		q[i] = (float)(i % 7) - 2.5f;
	fuzz_check(!vf_scan_scratch_new(info->dim, &scratch));
	int want = vf_index_has_tree(ix) ? -EINVAL : 0; /* it has none here */
	fuzz_check(vf_index_scan(ix, q, scratch, 1000, &top) == want);
	if (!want)
		refine(ix, info, q, scratch);
	vf_scan_scratch_free(scratch);
	fuzz_check(top.n <= K && top.n <= info->n_rows);
	for (uint32_t i = 0; i < top.n; i++)
		fuzz_check(hits[i].id >= 1000 &&
			   hits[i].id - 1000 < info->n_rows);
}

static void use(const struct vf_index *ix)
{
	struct vf_index_info info;
	uint64_t off, end = 0;
	uint32_t len, crc;

	vf_index_info(ix, &info);
	for (uint64_t row = 0; row < info.n_rows; row++) {
		vf_index_line(ix, row, &off, &len, &crc);
		fuzz_check(off == end && len);
		end = off + len;
		fuzz_check(!vf_index_row_crc(ix, row, &crc));
	}
	vf_index_find_hash(ix, vf_index_key_hashes(ix)[0], count_row,
			   &info.n_rows);
	scan(ix, &info);
}

int fuzz_one(const uint8_t *p, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct vf_index *ix;
	const char *why = NULL;
	int err;

	memcpy(copy, p, len);
	err = vf_index_open(copy, len, &ix, &why); /* takes the copy */
	if (err) {
		fuzz_check(err == -EBADMSG || err == -ENOTSUP);
		fuzz_check(why && *why && !ix);
		return fuzz_outcome(err, why);
	}
	use(ix);
	vf_index_close(ix);
	return 1;
}

static void add_index(uint32_t dim, enum vf_metric metric, size_t n,
		      uint32_t bits)
{
	struct vf_code_params params = {dim, metric, 7, bits};
	VF_AUTO_FREE float *x = calloc((n + 1) * dim, sizeof(*x));
	VF_AUTO_BUF struct vf_buf b = {0};
	struct vf_encoder *e;
	struct vf_builder *builder;

	for (size_t i = 0; i < n * dim; i++)
		x[i] = (float)(fuzz_rand(2001)) / 1000 - 1;
	fuzz_check(!vf_encoder_new(&params, x + n * dim, &e));
	fuzz_check(!vf_builder_new(e, VF_F32, &builder));
	for (size_t i = 0; i < n; i++) {
		VF_AUTO_FREE uint8_t *code = malloc(vf_encoder_code_len(e));
		VF_AUTO_FREE uint8_t *x_bits =
			malloc(vf_encoder_extra_len(e) + 1);
		struct vf_factors f;
		struct vf_extra_factors xf;
		struct vf_coded coded = {code, &f, x_bits, &xf, NULL};
		struct vf_builder_row row = {i, 10, 1, 2};
		fuzz_check(!vf_encoder_coded(e, x + i * dim, 1, &coded));
		fuzz_check(!vf_builder_add_coded(builder, &coded, &row, 1));
	}
	fuzz_check(!vf_builder_finish(builder, &b));
	fuzz_add(b.data, b.len);
	VF_AUTO_BUF struct vf_buf old = {0};
	old_codes(b.data, b.len, &old);
	fuzz_add(old.data, old.len);
	vf_builder_free(builder);
	vf_encoder_free(e);
}

void fuzz_seeds(void)
{
	add_index(2, VF_EUCLIDEAN, 1, 1);
	add_index(16, VF_COSINE, 3, 5);
	add_index(16, VF_COSINE, 3, 3);
	add_index(300, VF_DOT, 40, 1);
}

/* The checksum of each leaf, as far as leaves and codes lie in the file. */
static void fix_leaves(uint8_t *p, uint8_t *leaves, uint64_t n_leaves,
		       const uint8_t *codes, uint64_t codes_len)
{
	uint64_t code_len = vf_le32(p + 36) / 8;

	for (uint64_t i = 0; i < n_leaves; i++) {
		uint8_t *leaf = leaves + i * sizeof(struct vf_leaf_disk);
		uint64_t off, len;
		if (!VF_MUL(vf_le64(leaf), code_len, &off) &&
		    !VF_MUL(vf_le64(leaf + 8), code_len, &len) &&
		    off <= codes_len && len <= codes_len - off)
			vf_put_le32(leaf + 16, vf_crc32c(0, codes + off, len));
	}
}

static uint8_t *find_section(uint8_t *p, size_t len, uint32_t i,
			     uint64_t *out_len)
{
	uint8_t *e = p + VF_CODES_HEADER_LEN + i * VF_CODES_SECTION_LEN;
	uint64_t off = vf_le64(e + 8);

	*out_len = vf_le64(e + 16);
	return off <= len && *out_len <= len - off ? p + off : NULL;
}

/* The entry of a type among @n; @n when it has none. */
static uint32_t find_type(const uint8_t *p, uint32_t n, enum vf_section type)
{
	uint32_t i = 0;

	while (i < n && vf_le32(p + VF_CODES_HEADER_LEN +
				i * VF_CODES_SECTION_LEN) != type + 1)
		i++;
	return i;
}

void fuzz_fix(uint8_t *p, size_t len)
{
	static const uint8_t zero[4];
	uint32_t n = len > 68 ? vf_le32(p + 64) : 0, crc;
	uint32_t head = VF_CODES_HEADER_LEN + n * VF_CODES_SECTION_LEN;
	uint8_t *leaves, *codes, *s;
	uint64_t leaves_len, codes_len, s_len;

	if (n < 6 || n > VF_N_SECTIONS_MAX || len < head)
		return;
	memcpy(p, "VFCODES1", 8);
	vf_put_le32(p + 8, 1 + vf_le32(p + 8) % 2);
	vf_put_le32(p + 12, head);
	vf_put_le64(p + 16, len);
	vf_put_le32(p + 64, n);
	uint32_t at_leaves = find_type(p, n, VF_SEC_LEAVES);
	/* By leaf those of one, which all seeds have, begin with them too. */
	uint32_t at_codes = find_type(
		p, n, vf_le32(p + 8) > 1 ? VF_SEC_ROWS_BY_LEAF : VF_SEC_CODES);
	leaves = at_leaves == n ? NULL
				: find_section(p, len, at_leaves, &leaves_len);
	codes = at_codes == n ? NULL
			      : find_section(p, len, at_codes, &codes_len);
	if (leaves && codes)
		fix_leaves(p, leaves, leaves_len / sizeof(struct vf_leaf_disk),
			   codes, codes_len);
	for (uint32_t i = 0; i < n; i++) {
		s = find_section(p, len, i, &s_len);
		if (s)
			vf_put_le32(p + VF_CODES_HEADER_LEN +
					    i * VF_CODES_SECTION_LEN + 24,
				    vf_crc32c(0, s, s_len));
	}
	crc = vf_crc32c(0, p, 124);
	crc = vf_crc32c(crc, zero, 4);
	vf_put_le32(p + 124, vf_crc32c(crc, p + 128, head - 128));
}
