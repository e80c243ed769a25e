/*
 * Encoder, builder and scan of one shard against exact distances, and exact
 * distances against their definition.
 */
#include "index/encoder.h"
#include "index/index.h"
#include "index/kernels.h"
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

/* ---- a shard ---------------------------------------------------------------------- */

struct set {
	enum vf_metric metric;
	enum vf_dtype dtype;
	uint32_t dim;
	size_t n;
	float *x;      /* [n][dim], as stored, widened */
	uint16_t *raw; /* the same in halves when dtype is f16 */
};

/* Clusters of clusters, so that near rows are near and not all alike. */
static void make_set(enum vf_metric metric, enum vf_dtype dtype, uint32_t dim,
		     size_t n, uint64_t seed, struct set *s)
{
	enum { CLUSTERS = 64 };
	VF_AUTO_FREE float *centres = malloc(CLUSTERS * dim * sizeof(float));
	size_t bad;

	*s = (struct set){metric, dtype, dim, n, NULL, NULL};
	s->x = malloc(n * dim * sizeof(float));
	s->raw = malloc(n * dim * sizeof(uint16_t));
	for (size_t i = 0; i < CLUSTERS * dim; i++)
		centres[i] = vf_test_normal(&seed);
	for (size_t i = 0; i < n; i++) {
		const float *c = centres + vf_test_rand(&seed) % CLUSTERS * dim;
		for (uint32_t j = 0; j < dim; j++)
			s->x[i * dim + j] =
				1 + c[j] + 0.5f * vf_test_normal(&seed);
	}
	if (dtype != VF_F16)
		return;
	if (vf_narrow(s->x, n * dim, s->raw, &bad))
		abort();
	vf_widen(VF_F16, s->raw, n * dim, s->x);
}

static void free_set(struct set *s)
{
	free(s->x);
	free(s->raw);
}

static const void *stored(const struct set *s)
{
	return s->dtype == VF_F16 ? (const void *)s->raw : s->x;
}

static void mean_of(const struct set *s, float *out)
{
	memset(out, 0, s->dim * sizeof(*out));
	for (size_t i = 0; i < s->n; i++) {
		const float *x = s->x + i * s->dim;
		double sq = 0;
		for (uint32_t j = 0; j < s->dim; j++)
			sq += (double)x[j] * x[j];
		double scale = s->metric == VF_COSINE ? 1 / sqrt(sq) : 1;
		for (uint32_t j = 0; j < s->dim; j++)
			out[j] += (float)(x[j] * scale / (double)s->n);
	}
}

/* Rows have keys "0", "1", ... and lines of 10 to 16 bytes. */
static struct vf_builder_row describe_row(size_t i)
{
	char key[24];
	int n = snprintf(key, sizeof(key), "%zu", i);

	return (struct vf_builder_row){vf_key_hash(key, (size_t)n),
				       10 + (uint32_t)(i % 7), (uint32_t)i * 3,
				       (uint32_t)i * 5};
}

static void build(const struct set *s, uint64_t seed, struct vf_buf *out)
{
	struct vf_code_params params = {s->dim, s->metric, seed, 1};
	VF_AUTO_FREE struct vf_factors *f = malloc(s->n * sizeof(*f));
	VF_AUTO_FREE struct vf_builder_row *rows = malloc(s->n * sizeof(*rows));
	float centroid[VF_DIM_MAX];
	struct vf_encoder *e;
	struct vf_builder *b;

	mean_of(s, centroid);
	if (vf_encoder_new(&params, centroid, &e) ||
	    vf_builder_new(e, s->dtype, &b))
		abort();
	size_t code_len = vf_encoder_code_len(e);
	VF_AUTO_FREE uint8_t *codes = malloc(s->n * code_len);
	for (size_t i = 0; i < s->n; i++)
		rows[i] = describe_row(i);
	CU_ASSERT_EQUAL(vf_encoder_rows(e, s->x, s->n, codes, f), 0);
	size_t half = s->n / 2; /* in two pieces */
	CU_ASSERT_EQUAL(vf_builder_add(b, codes, f, rows, half), 0);
	CU_ASSERT_EQUAL(vf_builder_add(b, codes + half * code_len, f + half,
				       rows + half, s->n - half),
			0);
	CU_ASSERT_EQUAL(vf_builder_finish(b, out), 0);
	vf_builder_free(b);
	vf_encoder_free(e);
}

static struct vf_index *open_set(const struct set *s, uint64_t seed)
{
	struct vf_buf file = {0};
	struct vf_index *ix;
	const char *reason;

	build(s, seed, &file);
	CU_ASSERT_EQUAL_FATAL(vf_index_open(file.data, file.len, &ix, &reason),
			      0);
	return ix;
}

/* ---- recall ----------------------------------------------------------------------- */

enum { K = 10, CANDIDATES = 100 };

static void find_exactly(const struct set *s, const float *q,
			 struct vf_topk *top)
{
	VF_AUTO_FREE float *d = malloc(s->n * sizeof(*d));

	vf_exact_distances(s->metric, s->dtype, s->dim, q, stored(s), s->n, d);
	for (size_t i = 0; i < s->n; i++)
		vf_topk_push(top, d[i], i);
}

static unsigned count_common(const struct vf_topk *a, const struct vf_topk *b,
			     uint64_t base)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < a->n; i++)
		for (uint32_t j = 0; j < b->n; j++)
			n += a->hits[i].id + base == b->hits[j].id;
	return n;
}

/* Of the true ten nearest, the share among a hundred candidates. */
static double recall(const struct set *s, const struct vf_index *ix)
{
	enum { QUERIES = 50 };
	struct vf_scan_scratch *scratch;
	struct vf_hit want[K], got[CANDIDATES];
	const uint64_t base = UINT64_C(1) << 40;
	float q[VF_DIM_MAX];
	uint64_t seed = 99;
	unsigned found = 0;

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(s->dim, &scratch), 0);
	for (int i = 0; i < QUERIES; i++) {
		struct vf_topk exact = {.hits = want, .k = K},
			       top = {.hits = got, .k = CANDIDATES};
		const float *near = s->x + vf_test_rand(&seed) % s->n * s->dim;
		for (uint32_t j = 0; j < s->dim; j++)
			q[j] = near[j] + 0.5f * vf_test_normal(&seed);
		find_exactly(s, q, &exact);
		CU_ASSERT_EQUAL(vf_index_scan(ix, q, scratch, base, &top), 0);
		found += count_common(&exact, &top, base);
	}
	vf_scan_scratch_free(scratch);
	return (double)found / (QUERIES * K);
}

static void a_hundred_candidates_hold_the_ten_nearest(void)
{
	static const uint32_t dims[] = {64, 384};

	for (size_t i = 0; i < VF_N(metrics); i++)
		for (int half = 0; half < 2; half++) {
			struct set s;
			make_set(metrics[i], half ? VF_F16 : VF_F32, dims[half],
				 6000, 5 + i, &s);
			struct vf_index *ix = open_set(&s, 12);
			double r = recall(&s, ix);
			CU_ASSERT(r >= 0.97);
			if (r < 0.97)
				fprintf(stderr, "%s, dim %u: %.3f\n",
					vf_metric_name(s.metric), s.dim, r);
			vf_index_close(ix);
			free_set(&s);
		}
}

/* Estimates are distances in the metric's unit, not just an order. */
static void estimates_are_near_the_distances(void)
{
	enum { N = 1000 };
	struct vf_scan_scratch *scratch;
	struct vf_hit hits[N];
	float exact[N];

	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct vf_topk top = {.hits = hits, .k = N};
		double error = 0, spread = 0;
		struct set s;
		make_set(metrics[m], VF_F32, 300, N, 17, &s);
		struct vf_index *ix = open_set(&s, 4);
		CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(300, &scratch), 0);
		vf_index_scan(ix, s.x, scratch, 0, &top);
		vf_exact_distances(metrics[m], VF_F32, 300, s.x, s.x, N, exact);
		CU_ASSERT_EQUAL(top.n, N);
		for (uint32_t i = 0; i < N; i++) {
			error += fabs(hits[i].dist - exact[hits[i].id]);
			spread += fabs(exact[hits[i].id] - exact[0]);
		}
		CU_ASSERT(error < 0.1 * spread);
		vf_scan_scratch_free(scratch);
		vf_index_close(ix);
		free_set(&s);
	}
}

static void the_same_seed_gives_the_same_bytes(void)
{
	VF_AUTO_BUF struct vf_buf a = {0}, b = {0}, c = {0};
	struct set s;

	make_set(VF_COSINE, VF_F32, 100, 500, 1, &s);
	build(&s, 8, &a);
	build(&s, 8, &b);
	build(&s, 9, &c);
	CU_ASSERT(a.len == b.len && !memcmp(a.data, b.data, a.len));
	CU_ASSERT(a.len == c.len && memcmp(a.data, c.data, a.len));
	free_set(&s);
}

/* ---- what is stored for a row -------------------------------------------------------- */

static int note_row(void *arg, uint64_t row)
{
	*(uint64_t *)arg = row;
	return 7;
}

static int count_row(void *arg, uint64_t row)
{
	++*(unsigned *)arg;
	return 0;
}

static void rows_lines_and_keys_are_found(void)
{
	struct vf_index_info info;
	uint64_t off = 0, at, row;
	unsigned n = 0;
	struct set s;

	make_set(VF_DOT, VF_F16, 30, 333, 2, &s);
	struct vf_index *ix = open_set(&s, 1);
	vf_index_info(ix, &info);
	CU_ASSERT(info.n_rows == 333 && info.dim == 30 && info.bits == 1);
	CU_ASSERT(info.padded_dim == 256 && info.rotation_seed == 1);
	CU_ASSERT(info.metric == VF_DOT && info.dtype == VF_F16);
	for (size_t i = 0; i < 333; i++) {
		struct vf_builder_row want = describe_row(i);
		uint32_t len, crc, row_crc;
		CU_ASSERT_EQUAL(vf_index_line(ix, i, &at, &len, &crc), 0);
		CU_ASSERT(at == off && len == want.line_len);
		CU_ASSERT(crc == want.line_crc);
		CU_ASSERT_EQUAL(vf_index_row_crc(ix, i, &row_crc), 0);
		CU_ASSERT_EQUAL(row_crc, want.row_crc);
		CU_ASSERT_EQUAL(vf_index_key_hashes(ix)[i], want.key_hash);
		CU_ASSERT_EQUAL(vf_index_find_hash(ix, want.key_hash, note_row,
						   &row),
				7);
		CU_ASSERT_EQUAL(row, i);
		off += len;
	}
	CU_ASSERT_EQUAL(vf_index_find_hash(ix, 1, count_row, &n), 0);
	CU_ASSERT_EQUAL(n, 0);
	vf_index_close(ix);
	free_set(&s);
}

/* ---- edges ----------------------------------------------------------------------------- */

static void wrong_parameters_are_refused(void)
{
	struct vf_code_params bad[] = {{1, VF_DOT, 0, 1},
				       {VF_DIM_MAX + 1, VF_DOT, 0, 1},
				       {8, 0, 0, 1},
				       {8, VF_DOT + 1, 0, 1},
				       {8, VF_DOT, 0, 9}};
	struct vf_scan_scratch *scratch;
	struct vf_topk top = {0};
	float q[64] = {1};
	struct vf_encoder *e;
	struct set s;

	for (size_t i = 0; i < VF_N(bad); i++) {
		CU_ASSERT_EQUAL(vf_encoder_new(&bad[i], q, &e), -EINVAL);
		CU_ASSERT_PTR_NULL(e);
	}
	CU_ASSERT_EQUAL(vf_scan_scratch_new(1, &scratch), -EINVAL);
	make_set(VF_DOT, VF_F32, 32, 10, 2, &s);
	struct vf_index *ix = open_set(&s, 1);
	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(33, &scratch), 0);
	CU_ASSERT_EQUAL(vf_index_scan(ix, q, scratch, 0, &top), -EINVAL);
	vf_scan_scratch_free(scratch);
	vf_index_close(ix);
	free_set(&s);
}

static void a_builder_takes_one_shard_of_rows_and_not_none(void)
{
	struct vf_code_params params = {8, VF_DOT, 0, 1};
	VF_AUTO_BUF struct vf_buf out = {0};
	float centroid[8] = {0};
	struct vf_encoder *e;
	struct vf_builder *b;

	CU_ASSERT_EQUAL_FATAL(vf_encoder_new(&params, centroid, &e), 0);
	CU_ASSERT_EQUAL_FATAL(vf_builder_new(e, VF_F32, &b), 0);
	CU_ASSERT_EQUAL(vf_builder_finish(b, &out), -EINVAL);
	CU_ASSERT_EQUAL(vf_builder_add(b, NULL, NULL, NULL,
				       VF_SHARD_ROWS_MAX + 1),
			-EINVAL);
	CU_ASSERT_EQUAL(vf_builder_add(b, NULL, NULL, NULL, SIZE_MAX), -EINVAL);
	vf_builder_free(b);
	vf_encoder_free(e);
	vf_builder_free(NULL);
	vf_encoder_free(NULL);
	vf_index_close(NULL);
	vf_scan_scratch_free(NULL);
}

/* Queries and rows whose squares are beyond float still give an order. */
static void long_and_short_vectors_are_scanned(void)
{
	static const float scales[] = {0x1p-140f, 1e-30f, 1, 1e18f, 1e30f};
	struct vf_scan_scratch *scratch;
	struct vf_hit hits[50];
	float q[40];

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(40, &scratch), 0);
	for (size_t m = 0; m < VF_N(metrics); m++)
		for (size_t i = 0; i < VF_N(scales); i++) {
			struct vf_topk top = {.hits = hits, .k = VF_N(hits)};
			struct set s;
			make_set(metrics[m], VF_F32, 40, 50, 6, &s);
			struct vf_index *ix = open_set(&s, 3);
			for (int j = 0; j < 40; j++)
				q[j] = s.x[40 + j] * scales[i];
			CU_ASSERT_EQUAL(vf_index_scan(ix, q, scratch, 0, &top),
					0);
			CU_ASSERT_EQUAL(top.n, 50);
			vf_topk_sort(&top);
			for (int j = 0; j < 50; j++)
				CU_ASSERT(!isnan(hits[j].dist));
			/* A direction is one at any length. */
			if (metrics[m] == VF_COSINE && scales[i] > 1e-35f)
				CU_ASSERT_EQUAL(hits[0].id, 1);
			vf_index_close(ix);
			free_set(&s);
		}
	vf_scan_scratch_free(scratch);
}

/* ---- some rows -------------------------------------------------------------------------- */

enum { SOME_DIM = 100, SOME_ROWS = 700, SOME_BASE = 5000, SOME_JOBS = 2 };

/* One row in @step of those whose estimates are @all. */
static void scan_some(const struct vf_index *ix, const float *q, size_t n_jobs,
		      unsigned step, const float *all)
{
	uint64_t skip[SOME_ROWS / 64 + 1];
	struct vf_hit hits[SOME_JOBS][SOME_ROWS];
	struct vf_topk top[SOME_JOBS];
	struct vf_scan_job jobs[SOME_JOBS];
	size_t n = 0;

	memset(skip, 0xff, sizeof(skip));
	for (size_t row = 0; row < SOME_ROWS; row += step, n++)
		skip[row / 64] &= ~((uint64_t)1 << row % 64);
	for (size_t j = 0; j < n_jobs; j++) {
		top[j] = (struct vf_topk){.hits = hits[j],
					  .k = SOME_ROWS,
					  .skip = skip,
					  .skip_from = SOME_BASE};
		jobs[j] = (struct vf_scan_job){.q = q, .top = &top[j]};
		CU_ASSERT_EQUAL_FATAL(
			vf_scan_scratch_new(SOME_DIM, &jobs[j].scratch), 0);
	}
	CU_ASSERT_EQUAL(vf_index_scan_jobs(ix, SOME_BASE,
					   (struct vf_scan_part){0, 1}, jobs,
					   n_jobs),
			0);
	for (size_t j = 0; j < n_jobs; j++) {
		CU_ASSERT_EQUAL(top[j].n, n);
		CU_ASSERT_EQUAL(jobs[j].n_rows, n);
		for (size_t i = 0; i < top[j].n; i++) {
			uint64_t row = hits[j][i].id - SOME_BASE;
			CU_ASSERT_EQUAL(row % step, 0);
			CU_ASSERT_EQUAL(hits[j][i].dist, all[row]);
		}
		vf_scan_scratch_free(jobs[j].scratch);
	}
}

static void skipped_rows_change_no_estimate(void)
{
	static const unsigned steps[] = {1, 2, 3, 9, 40, SOME_ROWS};
	struct vf_hit hits[SOME_ROWS];
	struct vf_topk top = {.hits = hits, .k = SOME_ROWS};
	struct vf_scan_scratch *scratch;
	float all[SOME_ROWS];
	struct set s;

	make_set(VF_EUCLIDEAN, VF_F32, SOME_DIM, SOME_ROWS, 8, &s);
	struct vf_index *ix = open_set(&s, 4);
	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(SOME_DIM, &scratch), 0);
	CU_ASSERT_EQUAL(vf_index_scan(ix, s.x, scratch, 0, &top), 0);
	for (size_t i = 0; i < top.n; i++)
		all[hits[i].id] = hits[i].dist;
	for (size_t i = 0; i < VF_N(steps); i++)
		for (size_t n = 1; n <= SOME_JOBS; n++)
			scan_some(ix, s.x, n, steps[i], all);
	vf_scan_scratch_free(scratch);
	vf_index_close(ix);
	free_set(&s);
}

/* ---- exact distances -------------------------------------------------------------------- */

static double define_distance(enum vf_metric metric, uint32_t dim,
			      const float *q, const float *x)
{
	double dot = 0, qq = 0, xx = 0, l2 = 0;

	for (uint32_t i = 0; i < dim; i++) {
		double a = q[i], b = x[i];
		dot += a * b;
		qq += a * a;
		xx += b * b;
		l2 += (a - b) * (a - b);
	}
	if (metric == VF_EUCLIDEAN)
		return l2;
	return metric == VF_DOT ? -dot : 1 - dot / (sqrt(qq) * sqrt(xx));
}

static void exact_distances_are_those_of_their_definition(void)
{
	enum { N = 130 }; /* more than two blocks */
	float d[N];

	for (size_t m = 0; m < VF_N(metrics); m++)
		for (uint32_t dim = 2; dim < 300; dim += 37) {
			struct set s;
			make_set(metrics[m], dim % 2 ? VF_F16 : VF_F32, dim, N,
				 dim, &s);
			vf_exact_distances(metrics[m], s.dtype, dim, s.x,
					   stored(&s), N, d);
			for (size_t i = 0; i < N; i++) {
				double want = define_distance(
					metrics[m], dim, s.x, s.x + i * dim);
				CU_ASSERT(fabs(d[i] - want) <=
					  1e-6 * (1 + fabs(want)));
			}
			CU_ASSERT(metrics[m] == VF_DOT || d[0] < 1e-6);
			CU_ASSERT(metrics[m] == VF_DOT || d[0] >= 0);
			free_set(&s);
		}
}

static void bytes_are_measured_too(void)
{
	const uint8_t rows[] = {255, 0, 3, 1, 2, 3};
	const float q[] = {1, 2, 3};
	float d[2], wide[6];

	vf_exact_distances(VF_EUCLIDEAN, VF_U8, 3, q, rows, 2, d);
	CU_ASSERT(d[0] == 254 * 254 + 4 && d[1] == 0);
	vf_exact_distances(VF_DOT, VF_U8, 3, q, rows, 2, d);
	CU_ASSERT(d[0] == -264 && d[1] == -14);
	vf_widen(VF_U8, rows, 6, wide);
	CU_ASSERT(wide[0] == 255 && wide[5] == 3);
}

static void every_distance_is_finite(void)
{
	static const float odd[] = {0,	       NAN,	-NAN,	  INFINITY,
				    -INFINITY, FLT_MAX, -FLT_MAX, 0x1p-149f};
	float q[2], x[2], d;

	for (size_t m = 0; m < VF_N(metrics); m++)
		for (size_t i = 0; i < VF_N(odd) * VF_N(odd); i++) {
			q[0] = 1;
			q[1] = odd[i % VF_N(odd)];
			x[0] = odd[i / VF_N(odd)];
			x[1] = odd[i / VF_N(odd)];
			vf_exact_distances(metrics[m], VF_F32, 2, q, x, 1, &d);
			CU_ASSERT(isfinite(d));
		}
	q[0] = x[0] = x[1] = 0;
	q[1] = 0;
	vf_exact_distances(VF_COSINE, VF_F32, 2, q, x, 1, &d);
	CU_ASSERT_EQUAL(d, 1);
}

static void numbers_too_large_for_a_half_are_named(void)
{
	float x[5] = {1, -65519, 65519.9f, 65520, 0};
	uint16_t h[5];
	size_t bad = 9;

	CU_ASSERT_EQUAL(vf_narrow(x, 5, h, &bad), -ERANGE);
	CU_ASSERT_EQUAL(bad, 3);
	x[3] = -1e30f;
	CU_ASSERT_EQUAL(vf_narrow(x, 5, h, &bad), -ERANGE);
	CU_ASSERT_EQUAL(vf_narrow(x, 3, h, &bad), 0);
	CU_ASSERT(h[0] == 0x3c00 && h[1] == 0xfbff && h[2] == 0x7bff);
}

static CU_TestInfo tests[] = {
	{"a hundred candidates hold the ten nearest",
	 a_hundred_candidates_hold_the_ten_nearest},
	{"estimates are near the distances", estimates_are_near_the_distances},
	{"the same seed gives the same bytes",
	 the_same_seed_gives_the_same_bytes},
	{"rows, lines and keys are found", rows_lines_and_keys_are_found},
	{"wrong parameters are refused", wrong_parameters_are_refused},
	{"a builder takes one shard of rows, and not none",
	 a_builder_takes_one_shard_of_rows_and_not_none},
	{"long and short vectors are scanned",
	 long_and_short_vectors_are_scanned},
	{"skipped rows change no estimate", skipped_rows_change_no_estimate},
	{"exact distances are those of their definition",
	 exact_distances_are_those_of_their_definition},
	{"bytes are measured too", bytes_are_measured_too},
	{"every distance is finite", every_distance_is_finite},
	{"numbers too large for a half are named",
	 numbers_too_large_for_a_half_are_named},
	CU_TEST_INFO_NULL};
VF_SUITE("index/index", tests);
