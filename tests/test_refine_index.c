/*
 * Extra bits in a whole index: what refining says of rows in any dimension,
 * the sections of the file, and how often the bounds hold on real vectors.
 */
#include "index/codes.h"
#include "index/refine.h"
#include "index/topk.h"
#include "store/npy.h"
#include "tests/old_codes.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

/* ---- a whole index --------------------------------------------------------------------- */

struct set {
	uint32_t dim;
	size_t n;
	float *x; /* [n][dim] */
};

static void free_set(struct set *s)
{
	free(s->x);
}

/* Never fails: aborts. */
static struct vf_index *build(const struct set *s, enum vf_metric metric,
			      uint32_t bits, struct vf_buf *out_file)
{
	struct vf_code_params params = {s->dim, metric, 7, bits};
	VF_AUTO_FREE float *mean = calloc(s->dim, sizeof(*mean));
	struct vf_coded c = {0};
	struct vf_encoder *e;
	struct vf_builder *b;
	struct vf_index *ix;
	struct vf_buf file = {0};
	const char *why;

	for (size_t i = 0; i < s->n; i++) {
		double sq = 0;
		for (uint32_t j = 0; j < s->dim; j++)
			sq += (double)s->x[i * s->dim + j] *
			      s->x[i * s->dim + j];
		double scale = metric == VF_COSINE ? 1 / sqrt(sq) : 1;
		for (uint32_t j = 0; j < s->dim; j++)
			mean[j] += (float)(s->x[i * s->dim + j] * scale /
					   (double)s->n);
	}
	if (vf_encoder_new(&params, mean, &e) || vf_builder_new(e, VF_F32, &b))
		abort();
	c.codes = malloc(vf_encoder_code_len(e));
	c.factors = malloc(sizeof(*c.factors));
	c.extra = malloc(vf_encoder_extra_len(e) + 1);
	c.extra_factors = malloc(sizeof(*c.extra_factors));
	for (size_t i = 0; i < s->n; i++) {
		struct vf_builder_row row = {i, 10, 0, 0};
		if (vf_encoder_coded(e, s->x + i * s->dim, 1, &c) ||
		    vf_builder_add_coded(b, &c, &row, 1))
			abort();
	}
	if (vf_builder_finish(b, &file))
		abort();
	if (out_file)
		vf_buf_append(out_file, file.data, file.len);
	if (vf_index_open(file.data, file.len, &ix, &why))
		abort();
	free(c.codes);
	free(c.factors);
	free(c.extra);
	free(c.extra_factors);
	vf_builder_free(b);
	vf_encoder_free(e);
	return ix;
}

static void make_set(uint32_t dim, size_t n, struct set *s)
{
	uint64_t seed = 41;

	*s = (struct set){dim, n, malloc(n * dim * sizeof(float))};
	for (size_t i = 0; i < n * dim; i++)
		s->x[i] = 1 + vf_test_normal(&seed);
}

/* Root of the mean square of the estimates' errors. */
static double error_of_index(const struct vf_index *ix, const struct set *s,
			     enum vf_metric metric)
{
	struct vf_refined *r = calloc(s->n, sizeof(*r));
	struct vf_scan_scratch *scratch;
	double sq = 0;

	if (vf_scan_scratch_new(s->dim, &scratch))
		abort();
	for (size_t i = 0; i < s->n; i++) /* in no order */
		r[i].row = (uint32_t)(i * 7 % s->n);
	CU_ASSERT_EQUAL(vf_index_refine(ix, s->x, scratch, r, s->n), 0);
	for (size_t i = 0; i < s->n; i++) {
		float want;
		vf_exact_distances(metric, VF_F32, s->dim, s->x,
				   s->x + r[i].row * s->dim, 1, &want);
		CU_ASSERT(fabsf(r[i].dist - want) < 6 * r[i].err + 1e-3f);
		sq += (r[i].dist - want) * (r[i].dist - want);
	}
	vf_scan_scratch_free(scratch);
	free(r);
	return sqrt(sq / (double)s->n);
}

static void an_index_refines_with_the_bits_it_has(void)
{
	struct set s;

	make_set(100, 500, &s);
	for (size_t m = 0; m < VF_N(metrics); m++) {
		double last = INFINITY;
		for (uint32_t bits = 1; bits <= VF_BITS_MAX; bits += 2) {
			struct vf_index_info info;
			struct vf_index *ix = build(&s, metrics[m], bits, NULL);
			vf_index_info(ix, &info);
			CU_ASSERT_EQUAL(info.bits, bits);
			double e = error_of_index(ix, &s, metrics[m]);
			CU_ASSERT(e < last / 2);
			last = e;
			vf_index_close(ix);
		}
	}
	free_set(&s);
}

static void any_dimension_and_metric_is_refined(void)
{
	static const uint32_t dims[] = {2, 3, 64, 65, 257, 1000, 4095, 4096};

	for (size_t d = 0; d < VF_N(dims); d++)
		for (size_t m = 0; m < VF_N(metrics); m++) {
			struct set s;
			make_set(dims[d], 24, &s);
			struct vf_index *ix = build(&s, metrics[m], 5, NULL);
			error_of_index(ix, &s, metrics[m]);
			vf_index_close(ix);
			free_set(&s);
		}
}

/* ---- the file -------------------------------------------------------------------------- */

/* The entry of a section in the table. */
static uint8_t *find_entry(uint8_t *p, uint32_t section)
{
	uint8_t *e = p + 128;

	for (uint32_t n = vf_le32(p + 64); n; n--, e += 32)
		if (vf_le32(e) == section + 1)
			return e;
	abort();
}

static void mend(uint8_t *p, uint32_t section)
{
	uint8_t *e = find_entry(p, section);

	vf_put_le32(e + 24, vf_crc32c(0, p + vf_le64(e + 8), vf_le64(e + 16)));
	vf_put_le32(p + 124, 0);
	vf_put_le32(p + 124, vf_crc32c(0, p, vf_le32(p + 12)));
}

static int reopen(const struct vf_buf *file)
{
	uint8_t *copy = malloc(file->len);
	struct vf_index *ix;
	const char *why;

	memcpy(copy, file->data, file->len);
	int err = vf_index_open(copy, file->len, &ix, &why);
	if (!err)
		vf_index_close(ix);
	return err;
}

/* A section more, which readers may pass over. */
static void extra_bits_may_be_passed_over(void)
{
	VF_AUTO_BUF struct vf_buf one = {0}, five = {0};
	struct set s;

	make_set(300, 40, &s);
	vf_index_close(build(&s, VF_DOT, 1, &one));
	vf_index_close(build(&s, VF_DOT, 5, &five));
	CU_ASSERT(vf_le32(one.data + 64) == 6 && vf_le32(five.data + 64) == 7);
	CU_ASSERT_EQUAL(vf_le32(five.data + 48), 1);
	const uint8_t *rows = find_entry(five.data, VF_SEC_ROWS_BY_LEAF),
		      *extra = find_entry(five.data, VF_SEC_EXTRA_BY_LEAF);
	CU_ASSERT_EQUAL(
		vf_le32(rows + 24),
		vf_le32(find_entry(one.data, VF_SEC_ROWS_BY_LEAF) + 24));
	CU_ASSERT(vf_le32(rows + 4) == 0 && vf_le32(extra + 4) == 1);
	CU_ASSERT_EQUAL(vf_le64(extra + 16), 40 * (4 * 320 / 8 + 16));
	free_set(&s);
}

static void damaged_extra_bits_are_refused(void)
{
	VF_AUTO_BUF struct vf_buf file = {0};
	struct set s;

	make_set(300, 40, &s);
	vf_index_close(build(&s, VF_DOT, 5, &file));
	uint8_t *extra = find_entry(file.data, VF_SEC_EXTRA_BY_LEAF);
	uint8_t *at = file.data + vf_le64(extra + 8);
	at[77] ^= 4;
	CU_ASSERT_EQUAL(reopen(&file), -EBADMSG);
	at[77] ^= 4;
	CU_ASSERT_EQUAL(reopen(&file), 0);
	struct vf_extra_factors *f = (void *)(at + 40 * 4 * 320 / 8);
	f[3].mul = NAN;
	mend(file.data, VF_SEC_EXTRA_BY_LEAF);
	CU_ASSERT_EQUAL(reopen(&file), -EBADMSG);
	f[3].mul = 1;
	f[3].err = -1;
	mend(file.data, VF_SEC_EXTRA_BY_LEAF);
	CU_ASSERT_EQUAL(reopen(&file), -EBADMSG);
	f[3].err = 1;
	mend(file.data, VF_SEC_EXTRA_BY_LEAF);
	CU_ASSERT_EQUAL(reopen(&file), 0);
	vf_put_le64(extra + 16, vf_le64(extra + 16) - 40); /* odd bits */
	mend(file.data, VF_SEC_EXTRA_BY_LEAF);
	CU_ASSERT_EQUAL(reopen(&file), -EBADMSG);
	free_set(&s);
}

static void *read_npy(const char *set, const char *name, size_t *out_len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "data/%s/%s", set, name);
	const char *full = vf_test_shared(path);
	if (!full)
		return NULL;
	f = fopen(full, "rb");
	if (!f || fseek(f, 0, SEEK_END))
		abort();
	*out_len = (size_t)ftell(f);
	char *p = malloc(*out_len);
	rewind(f);
	if (fread(p, 1, *out_len, f) != *out_len)
		abort();
	fclose(f);
	return p;
}

static bool read_set(const char *set, const char *name, struct set *s)
{
	size_t len;
	VF_AUTO_FREE char *p = read_npy(set, name, &len);
	struct vf_npy npy;
	const char *why;

	if (!p)
		return false;
	if (vf_npy_parse(p, len, &npy, &why))
		abort();
	*s = (struct set){(uint32_t)npy.dim, npy.n_rows,
			  malloc(npy.n_rows * npy.dim * sizeof(float))};
	vf_widen(npy.dtype, p + npy.data_off, npy.n_rows * npy.dim, s->x);
	return true;
}

/* ---- bounds on real vectors ------------------------------------------------------------ */

enum { ROWS = 64, QUERIES = 160 }; /* 10240 pairs of each set */

/* @n of the rows of @s, evenly spread; less when it has less. */
static struct set thin(const struct set *s, size_t n)
{
	struct set out = {s->dim, VF_MIN(n, s->n), NULL};

	out.x = malloc(out.n * s->dim * sizeof(float));
	for (size_t i = 0; i < out.n; i++)
		memcpy(out.x + i * s->dim, s->x + i * s->n / out.n * s->dim,
		       s->dim * sizeof(float));
	return out;
}

/* A wrong estimator: the factors @mul of a file are multiplied. */
static struct vf_index *spoil(const struct vf_buf *file, uint32_t section,
			      size_t stride, float gain)
{
	struct vf_buf old = {0}; /* each section is of all rows there */
	struct vf_index *ix;
	const char *why;

	old_codes(file->data, file->len, &old);
	uint8_t *copy = old.data;
	uint8_t *e = find_entry(copy, section), *f = copy + vf_le64(e + 8);
	for (size_t i = 0; i < vf_le64(e + 16); i += stride) {
		float mul;
		memcpy(&mul, f + i + 4, sizeof(mul));
		mul *= gain;
		memcpy(f + i + 4, &mul, sizeof(mul));
	}
	mend(copy, section);
	if (vf_index_open(copy, old.len, &ix, &why))
		abort();
	return ix;
}

/* Pairs of @q and rows farther from the truth than eps 1.9 allows. */
static size_t count_outside(const struct vf_index *ix, enum vf_metric metric,
			    const struct set *rows, const float *q, bool scan)
{
	struct vf_hit hits[ROWS];
	struct vf_topk top = {.hits = hits, .k = ROWS};
	struct vf_refined r[ROWS];
	struct vf_scan_scratch *scratch;
	float want[ROWS];
	size_t n = 0;

	for (uint32_t i = 0; i < rows->n; i++)
		r[i].row = i;
	if (vf_scan_scratch_new(rows->dim, &scratch) ||
	    vf_index_refine(ix, q, scratch, r, rows->n) ||
	    vf_index_scan(ix, q, scratch, 0, &top))
		abort();
	for (uint32_t i = 0; scan && i < top.n; i++)
		r[hits[i].id].dist = hits[i].dist;
	vf_exact_distances(metric, VF_F32, rows->dim, q, rows->x, rows->n,
			   want);
	for (size_t i = 0; i < rows->n; i++)
		n += fabsf(r[i].dist - want[i]) > 1.9f * r[i].err;
	vf_scan_scratch_free(scratch);
	return n;
}

static double share_outside(const struct vf_index *ix, enum vf_metric metric,
			    const struct set *rows, const struct set *queries,
			    bool scan)
{
	size_t n = 0;

	for (size_t i = 0; i < queries->n; i++)
		n += count_outside(ix, metric, rows, queries->x + i * rows->dim,
				   scan);
	return (double)n / (double)(rows->n * queries->n);
}

/*
 * The normal law has 5.7 % outside; the rounding of a 4-bit query adds a
 * little.  Wrong: of 1 bit without <o-bar, o> (its square is 0.64), of 5 bits
 * a tenth too much.
 */
static void check_bounds(const char *name, enum vf_metric metric,
			 const struct set *rows, const struct set *queries)
{
	static const uint32_t bits[] = {1, 5};
	static const float gains[] = {0.64f, 1.1f};
	double share[2];

	for (int i = 0; i < 2; i++) {
		VF_AUTO_BUF struct vf_buf file = {0};
		struct vf_index *ix = build(rows, metric, bits[i], &file);
		struct vf_index *wrong =
			spoil(&file, i ? VF_SEC_EXTRA_FACTORS : VF_SEC_FACTORS,
			      16, gains[i]);
		share[i] = share_outside(ix, metric, rows, queries, !i);
		CU_ASSERT(share[i] < 0.07);
		CU_ASSERT(share_outside(wrong, metric, rows, queries, !i) >
			  0.07);
		vf_index_close(wrong);
		vf_index_close(ix);
	}
	printf("\n      %-15s %s: %5.2f %% and %5.2f %% of %zu pairs outside",
	       name,
	       metric == VF_COSINE	? "cosine"
	       : metric == VF_EUCLIDEAN ? "euclidean"
					: "dot",
	       share[0] * 100, share[1] * 100, rows->n * queries->n);
}

/* 1 bit with a 4-bit query, and 5 bits. */
static void bounds_of_eps_1_9_hold_on_real_vectors(void)
{
	static const char *const names[] = {"cohere-4096",     "ada002-1536",
					    "minilm-384",      "glove-50",
					    "sift-castle-128", "sift-5k-128",
					    "mnist-784"};

	for (size_t i = 0; i < VF_N(names); i++) {
		struct set base, all;
		if (!read_set(names[i], "base.npy", &base))
			return;
		if (!read_set(names[i], "queries.npy", &all))
			abort();
		struct set rows = thin(&base, ROWS);
		struct set queries = thin(&all, QUERIES);
		for (size_t m = 0; m < VF_N(metrics); m++)
			check_bounds(names[i], metrics[m], &rows, &queries);
		free_set(&base);
		free_set(&all);
		free_set(&rows);
		free_set(&queries);
	}
}

static CU_TestInfo tests[] = {
	{"an index refines with the bits it has",
	 an_index_refines_with_the_bits_it_has},
	{"any dimension and metric is refined",
	 any_dimension_and_metric_is_refined},
	{"extra bits may be passed over", extra_bits_may_be_passed_over},
	{"damaged extra bits are refused", damaged_extra_bits_are_refused},
	{"bounds of eps 1.9 hold on real vectors",
	 bounds_of_eps_1_9_hold_on_real_vectors},
	CU_TEST_INFO_NULL};
VF_SUITE("index/refine_index", tests);
