/*
 * The tree: its file, choosing leaves, and shards that follow it against the
 * exact answer, in one shard and in several.
 */
#include "index/refine.h"
#include "index/rotate.h"
#include "index/tree.h"
#include "tests/test.h"

#include <math.h>

enum { N = 6000, DIM = 48, LEAVES = 120, K = 10, QUERIES = 40, SEED = 5 };

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

struct lab {
	enum vf_metric metric;
	uint32_t bits;
	float *x;
	uint32_t *leaf;	 /* [N] */
	uint32_t *order; /* [N] rows by leaf */
	struct vf_buf file;
	struct vf_cluster *cluster;
	struct vf_tree *tree;
	struct vf_cluster_view view;
};

static float *make_rows(size_t n, uint64_t seed)
{
	enum { CENTRES = 150 };
	VF_AUTO_FREE float *c = malloc(CENTRES * DIM * sizeof(float));
	float *x = malloc(n * DIM * sizeof(*x));
	uint64_t fixed = 77;

	for (size_t i = 0; i < CENTRES * DIM; i++)
		c[i] = 0.4f + vf_test_normal(&fixed);
	for (size_t i = 0; i < n; i++) {
		size_t from = vf_test_rand(&seed) % CENTRES * DIM;
		float len = 1 + (float)(vf_test_rand(&seed) % 100) / 200;
		for (uint32_t j = 0; j < DIM; j++)
			x[i * DIM + j] = len * (c[from + j] +
						0.5f * vf_test_normal(&seed));
	}
	return x;
}

static void order_rows(struct lab *l)
{
	size_t at = 0;

	for (uint32_t j = 0; j < l->view.n_leaves; j++)
		for (uint32_t i = 0; i < N; i++)
			if (l->leaf[i] == j)
				l->order[at++] = i;
}

static struct lab open_lab(enum vf_metric metric, uint32_t bits)
{
	static const uint8_t id[16] = {1, 2, 3};
	struct lab l = {.metric = metric, .bits = bits, .x = make_rows(N, 3)};
	struct vf_cluster_options o = {
		.dim = DIM, .metric = metric, .n_leaves = LEAVES, .seed = 1};
	struct vf_tree_file f;
	const char *why;

	CU_ASSERT_EQUAL_FATAL(vf_cluster_train(&o, l.x, N, &l.cluster), 0);
	vf_cluster_view(l.cluster, &l.view);
	CU_ASSERT_EQUAL_FATAL(vf_tree_encode(&l.view, id, SEED, &l.file), 0);
	CU_ASSERT_EQUAL_FATAL(
		vf_tree_validate(l.file.data, l.file.len, &f, &why), 0);
	CU_ASSERT(!memcmp(f.id, id, 16));
	CU_ASSERT_EQUAL_FATAL(vf_tree_new(&f, SEED, &l.tree), 0);
	l.leaf = malloc(N * sizeof(*l.leaf));
	l.order = malloc(N * sizeof(*l.order));
	CU_ASSERT_EQUAL_FATAL(
		vf_cluster_assign(l.cluster, NULL, l.x, N, l.leaf, NULL), 0);
	order_rows(&l);
	return l;
}

static void close_lab(struct lab *l)
{
	vf_tree_free(l->tree);
	vf_cluster_free(l->cluster);
	vf_buf_fini(&l->file);
	free(l->leaf);
	free(l->order);
	free(l->x);
}

/* ---- shards ----------------------------------------------------------------------- */

static int add_row(const struct lab *l, const struct vf_encoder *e,
		   struct vf_builder *b, uint32_t row)
{
	uint8_t code[256 / 8], extra[7 * 256 / 8];
	struct vf_factors f;
	struct vf_extra_factors xf;
	struct vf_coded c = {code, &f, extra, &xf, &l->leaf[row]};
	struct vf_builder_row r = {row, 5, 0, 0};
	int err = vf_encoder_coded(e, l->x + (size_t)row * DIM, 1, &c);

	return err ? err : vf_builder_add_coded(b, &c, &r, 1);
}

/* Rows order[from..to) of the lab; row i is key hash i. */
static struct vf_index *build(const struct lab *l, size_t from, size_t to)
{
	struct vf_code_params p = {DIM, l->metric, SEED, l->bits};
	struct vf_buf file = {0};
	struct vf_encoder *e;
	struct vf_builder *b;
	struct vf_index *ix;
	const char *why;

	CU_ASSERT_EQUAL_FATAL(vf_encoder_new_tree(&p, l->tree, &e), 0);
	CU_ASSERT_EQUAL_FATAL(vf_builder_new(e, VF_F32, &b), 0);
	for (size_t i = from; i < to; i++)
		CU_ASSERT_EQUAL_FATAL(add_row(l, e, b, l->order[i]), 0);
	if (to < N && l->leaf[l->order[to - 1]] > l->leaf[l->order[0]])
		CU_ASSERT_EQUAL(add_row(l, e, b, l->order[0]), -EINVAL);
	CU_ASSERT_EQUAL_FATAL(vf_builder_finish(b, &file), 0);
	vf_builder_free(b);
	vf_encoder_free(e);
	CU_ASSERT_EQUAL_FATAL(vf_index_open(file.data, file.len, &ix, &why), 0);
	return ix;
}

/* ---- recall ----------------------------------------------------------------------- */

static void find_exactly(const struct lab *l, const float *q,
			 struct vf_topk *top)
{
	VF_AUTO_FREE float *d = malloc(N * sizeof(*d));

	vf_exact_distances(l->metric, VF_F32, DIM, q, l->x, N, d);
	for (size_t i = 0; i < N; i++)
		vf_topk_push(top, d[i], i);
}

static unsigned count_same(const struct vf_topk *truth,
			   const struct vf_index *const *shards,
			   size_t n_shards, const struct vf_topk *found)
{
	unsigned same = 0;

	for (uint32_t i = 0; i < found->n; i++) {
		size_t s = found->hits[i].id / N, row = found->hits[i].id % N;
		CU_ASSERT_FATAL(s < n_shards);
		for (int j = 0; j < K; j++)
			same += vf_index_key_hashes(shards[s])[row] ==
				truth->hits[j].id;
	}
	return same;
}

struct outcome {
	double recall;	/* of 100 candidates */
	double scanned; /* rows a query */
	double error;	/* of refined distances, relative, the mean */
};

static double refine_error(const struct lab *l, const struct vf_index *ix,
			   const float *q, struct vf_scan_scratch *s)
{
	double sum = 0, all = 0;
	struct vf_index_info info;

	vf_index_info(ix, &info);
	for (uint32_t i = 0; i < 50; i++) {
		struct vf_refined r = {
			.row = (uint32_t)(i * (info.n_rows - 1) / 49)};
		float d;
		size_t row = vf_index_key_hashes(ix)[r.row];
		CU_ASSERT_EQUAL_FATAL(vf_index_refine(ix, q, s, &r, 1), 0);
		vf_exact_distances(l->metric, VF_F32, DIM, q, l->x + row * DIM,
				   1, &d);
		sum += fabs((double)r.dist - (double)d);
		all += fabs((double)d);
	}
	return sum / all;
}

static struct outcome search(const struct lab *l, size_t n_shards,
			     uint32_t n_probes)
{
	struct vf_index *shards[16];
	struct vf_probe probes[LEAVES * 2];
	VF_AUTO_FREE float *queries = make_rows(QUERIES, 9);
	struct vf_scan_scratch *s;
	struct outcome o = {0};
	unsigned same = 0;

	for (size_t i = 0; i < n_shards; i++) {
		shards[i] = build(l, N * i / n_shards, N * (i + 1) / n_shards);
		CU_ASSERT_EQUAL_FATAL(vf_index_attach(shards[i], l->tree), 0);
	}
	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	n_probes = VF_MIN(n_probes, l->view.n_leaves);
	for (size_t q = 0; q < QUERIES; q++) {
		struct vf_hit t[K], f[100];
		struct vf_topk truth = {.hits = t, .k = K};
		struct vf_topk found = {.hits = f, .k = VF_N(f)};
		const float *v = queries + q * DIM;
		uint64_t rows;
		find_exactly(l, v, &truth);
		CU_ASSERT_EQUAL(vf_tree_choose(l->tree, v, s, n_probes, probes),
				0);
		for (uint32_t i = 1; i < n_probes; i++)
			CU_ASSERT(probes[i].score >= probes[i - 1].score);
		for (size_t i = 0; i < n_shards; i++) {
			CU_ASSERT_EQUAL(vf_index_scan_probes(
						shards[i], v, s, i * N, probes,
						n_probes, &found, &rows),
					0);
			o.scanned += (double)rows / QUERIES;
		}
		same += count_same(&truth, (const void *)shards, n_shards,
				   &found);
		o.error += refine_error(l, shards[0], v, s) / QUERIES;
	}
	o.recall = (double)same / (QUERIES * K);
	for (size_t i = 0; i < n_shards; i++)
		vf_index_close(shards[i]);
	vf_scan_scratch_free(s);
	return o;
}

static void few_leaves_hold_most_of_the_nearest(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct lab l = open_lab(metrics[m], 1);
		struct outcome some = search(&l, 1, LEAVES / 5);
		CU_ASSERT(some.recall > 0.9);
		CU_ASSERT(some.scanned < N * 0.35);
		CU_ASSERT(some.error < 0.2);
		CU_ASSERT(search(&l, 1, UINT32_MAX).recall > 0.97);
		close_lab(&l);
	}
}

static void shards_of_one_tree_find_what_one_shard_finds(void)
{
	struct lab l = open_lab(VF_COSINE, 4);
	struct outcome one = search(&l, 1, 20), four = search(&l, 4, 20),
		       sixteen = search(&l, 16, 20);

	CU_ASSERT_DOUBLE_EQUAL(one.recall, four.recall, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(one.recall, sixteen.recall, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(one.scanned, sixteen.scanned, 1e-6);
	CU_ASSERT(one.error < 0.015);
	close_lab(&l);
}

static void scanning_all_leaves_is_scanning_each(void)
{
	struct lab l = open_lab(VF_EUCLIDEAN, 1);
	struct vf_index *ix = build(&l, 0, N);
	struct vf_probe probes[LEAVES * 2];
	struct vf_hit a[50], b[50];
	struct vf_topk x = {.hits = a, .k = 50}, y = {.hits = b, .k = 50};
	struct vf_scan_scratch *s;
	uint64_t rows;

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	/* Without its tree it is of no use. */
	CU_ASSERT_EQUAL(vf_index_scan(ix, l.x, s, 0, &x), -EINVAL);
	CU_ASSERT_EQUAL(vf_index_attach(ix, NULL), -EINVAL);
	CU_ASSERT(vf_index_has_tree(ix));
	CU_ASSERT_EQUAL_FATAL(vf_index_attach(ix, l.tree), 0);
	CU_ASSERT_EQUAL(vf_index_scan(ix, l.x, s, 0, &x), 0);
	CU_ASSERT_EQUAL(vf_tree_choose(l.tree, l.x, s, l.view.n_leaves, probes),
			0);
	CU_ASSERT_EQUAL(vf_index_scan_probes(ix, l.x, s, 0, probes,
					     l.view.n_leaves, &y, &rows),
			0);
	CU_ASSERT_EQUAL(rows, N);
	vf_topk_sort(&x);
	vf_topk_sort(&y);
	CU_ASSERT_EQUAL_FATAL(x.n, y.n);
	for (uint32_t i = 0; i < x.n; i++) {
		CU_ASSERT_EQUAL(a[i].id, b[i].id);
		CU_ASSERT(!memcmp(&a[i].dist, &b[i].dist, sizeof(float)));
	}
	vf_scan_scratch_free(s);
	vf_index_close(ix);
	close_lab(&l);
}

/* What the best of a leaf's rows may have of a query counts, not their mean. */
static void under_dot_leaves_that_reach_far_come_first(void)
{
	struct lab l = open_lab(VF_DOT, 1);
	struct vf_scan_scratch *s;
	struct vf_probe before[LEAVES], after[LEAVES];
	const float *q = l.x;

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	for (uint32_t i = 0; i < l.view.n_leaves; i++)
		vf_tree_learn(l.tree, i, .001f);
	CU_ASSERT_EQUAL(vf_tree_choose(l.tree, q, s, 10, before), 0);
	uint32_t far = before[9].leaf;
	vf_tree_learn(l.tree, far, 1e6f);
	vf_tree_learn(l.tree, far, 1); /* the largest counts */
	CU_ASSERT_EQUAL(vf_tree_choose(l.tree, q, s, 10, after), 0);
	CU_ASSERT_EQUAL(after[0].leaf, far);
	CU_ASSERT_EQUAL(after[1].leaf, before[0].leaf);
	CU_ASSERT(after[0].score < after[1].score);
	vf_scan_scratch_free(s);
	close_lab(&l);
}

/*
 * Queries are made longer than the longest row: one row of a wrong unit and
 * nothing was left, in a float, of what leaves differ by.
 */
static void under_dot_a_long_query_chooses_the_same(void)
{
	struct lab l = open_lab(VF_DOT, 1);
	struct vf_scan_scratch *s;
	struct vf_probe near[10], far[10];
	float q[DIM];

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	for (uint32_t i = 0; i < l.view.n_leaves; i++)
		vf_tree_learn(l.tree, i, .001f);
	for (size_t m = 0; m < 20; m++) {
		unsigned same = 0;
		for (uint32_t i = 0; i < DIM; i++)
			q[i] = ldexpf(l.x[m * DIM + i], 24);
		CU_ASSERT_EQUAL(
			vf_tree_choose(l.tree, l.x + m * DIM, s, 10, near), 0);
		CU_ASSERT_EQUAL(vf_tree_choose(l.tree, q, s, 10, far), 0);
		for (size_t i = 0; i < 10; i++)
			for (size_t j = 0; j < 10; j++)
				same += near[i].leaf == far[j].leaf;
		CU_ASSERT(same >= 8); /* shorter ones feel the origin */
	}
	vf_scan_scratch_free(s);
	close_lab(&l);
}

/* What a leaf's centroid itself says, and what its code does. */
static double measure_error(const struct lab *l, const float *q, uint32_t leaf)
{
	int16_t fine[256];
	float rotated[256];
	struct vf_fine_query code = {.q = fine};
	struct vf_fine_leaf exact, coded;
	struct vf_rotation *r;

	CU_ASSERT_EQUAL_FATAL(vf_rotation_new(DIM, SEED, &r), 0);
	vf_rotate(r, q, rotated);
	vf_rotation_free(r);
	vf_fine_query_make(rotated, vf_tree_origin(l->tree), 256, &code);
	vf_fine_leaf_make(l->metric, rotated, vf_tree_leaf(l->tree, leaf), 256,
			  &exact);
	vf_tree_measure(l->tree, &code, leaf, &coded);
	CU_ASSERT_DOUBLE_EQUAL(coded.distance, exact.distance,
			       .01 * exact.distance);
	return (coded.base - exact.base) / coded.err;
}

static void leaves_are_measured_within_their_bound(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct lab l = open_lab(metrics[m], 1);
		unsigned beyond = 0, n = 0;
		for (uint32_t i = 0; i < l.view.n_leaves; i++, n++) {
			const float *q = l.x + (size_t)i * 31 * DIM;
			beyond += fabs(measure_error(&l, q, i)) > 1.9;
		}
		CU_ASSERT(beyond * 10 <= n);
		close_lab(&l);
	}
}

static void a_trimmed_tree_chooses_the_same(void)
{
	struct lab l = open_lab(VF_COSINE, 1);
	struct vf_probe before[LEAVES], after[LEAVES];
	struct vf_tree_info full, trimmed;
	struct vf_scan_scratch *s;

	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	CU_ASSERT_EQUAL(vf_tree_choose(l.tree, l.x, s, 20, before), 0);
	vf_tree_info(l.tree, &full);
	vf_tree_trim(l.tree);
	vf_tree_trim(l.tree); /* nothing is left to be let go of */
	vf_tree_info(l.tree, &trimmed);
	CU_ASSERT(trimmed.ram_len * 3 < full.ram_len);
	CU_ASSERT_EQUAL(vf_tree_choose(l.tree, l.x, s, 20, after), 0);
	CU_ASSERT(!memcmp(before, after, 20 * sizeof(*before)));
	vf_scan_scratch_free(s);
	close_lab(&l);
}

static void another_tree_is_not_attached(void)
{
	struct lab l = open_lab(VF_DOT, 1), other = open_lab(VF_COSINE, 1);
	struct vf_index *ix = build(&l, 0, N / 2);
	struct vf_tree_file f;
	struct vf_tree *t;
	const char *why;

	CU_ASSERT_EQUAL(vf_index_attach(ix, other.tree), -EINVAL);
	l.file.data[24]++; /* the id; not sealed again, so it is refused */
	CU_ASSERT_EQUAL(vf_tree_validate(l.file.data, l.file.len, &f, &why),
			-EBADMSG);
	l.file.data[24]--;
	CU_ASSERT_EQUAL_FATAL(
		vf_tree_validate(l.file.data, l.file.len, &f, &why), 0);
	f.id[0]++;
	CU_ASSERT_EQUAL_FATAL(vf_tree_new(&f, SEED, &t), 0);
	CU_ASSERT_EQUAL(vf_index_attach(ix, t), -EINVAL);
	vf_tree_free(t);
	f.id[0]--;
	CU_ASSERT_EQUAL_FATAL(vf_tree_new(&f, SEED + 1, &t), 0);
	CU_ASSERT_EQUAL(vf_index_attach(ix, t), -EINVAL);
	vf_tree_free(t);
	vf_index_close(ix);
	close_lab(&l);
	close_lab(&other);
}

/* The file as version 1 had it: floats alone. */
static void make_old(const struct lab *l, struct vf_buf *out)
{
	size_t from = (size_t)vf_tree_head_len(DIM, l->view.n_leaves);

	CU_ASSERT_EQUAL_FATAL(vf_buf_append(out, l->file.data, 64), 0);
	CU_ASSERT_EQUAL_FATAL(
		vf_buf_append(out, l->file.data + from, l->file.len - from), 0);
	vf_put_le32(out->data + 8, 1);
	vf_put_le64(out->data + 16, out->len);
	vf_put_le32(out->data + 60, 0);
	vf_put_le32(out->data + 60, vf_crc32c(0, out->data, out->len));
}

static void choose_the_same(const struct lab *l, const struct vf_tree_file *f)
{
	struct vf_probe want[LEAVES], got[LEAVES];
	struct vf_scan_scratch *s;
	struct vf_tree *t;

	CU_ASSERT_EQUAL_FATAL(vf_tree_new(f, SEED, &t), 0);
	CU_ASSERT_EQUAL_FATAL(vf_scan_scratch_new(DIM, &s), 0);
	for (size_t i = 0; i < QUERIES; i++) {
		const float *q = l->x + i * 31 * DIM;
		CU_ASSERT_EQUAL(vf_tree_choose(l->tree, q, s, 20, want), 0);
		CU_ASSERT_EQUAL(vf_tree_choose(t, q, s, 20, got), 0);
		CU_ASSERT(!memcmp(want, got, 20 * sizeof(*want)));
	}
	vf_scan_scratch_free(s);
	vf_tree_free(t);
}

static void a_search_needs_the_beginning_alone(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct lab l = open_lab(metrics[m], 1);
		size_t n = (size_t)vf_tree_head_len(DIM, l.view.n_leaves);
		VF_AUTO_FREE uint8_t *head = malloc(n);
		struct vf_tree_file f;
		struct vf_tree *t;
		const char *why;

		CU_ASSERT(n < l.file.len);
		memcpy(head, l.file.data, n);
		CU_ASSERT_EQUAL_FATAL(vf_tree_validate_head(head, n, l.file.len,
							    &f, &why),
				      0);
		CU_ASSERT_PTR_NULL(f.view.leaves);
		choose_the_same(&l, &f);
		CU_ASSERT_EQUAL(vf_tree_new(&f, SEED + 1, &t), -EINVAL);
		CU_ASSERT_EQUAL(vf_tree_validate_head(head, n - 1, l.file.len,
						      &f, &why),
				-EBADMSG);
		for (size_t i = 0; i < n; i += 1 + n / 97) {
			head[i] ^= 4;
			CU_ASSERT(vf_tree_validate_head(head, n, l.file.len, &f,
							&why));
			head[i] ^= 4;
		}
		close_lab(&l);
	}
}

static void trees_of_version_1_choose_the_same(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct lab l = open_lab(metrics[m], 1);
		VF_AUTO_BUF struct vf_buf old = {0};
		struct vf_tree_file f;
		const char *why;

		make_old(&l, &old);
		CU_ASSERT_EQUAL(vf_tree_validate_head(old.data, old.len,
						      old.len, &f, &why),
				-ENOENT);
		CU_ASSERT_EQUAL_FATAL(
			vf_tree_validate(old.data, old.len, &f, &why), 0);
		CU_ASSERT_PTR_NULL(f.codes.origin);
		choose_the_same(&l, &f);
		old.data[100] ^= 1;
		CU_ASSERT_EQUAL(vf_tree_validate(old.data, old.len, &f, &why),
				-EBADMSG);
		close_lab(&l);
	}
}

static void mend(uint8_t *p, size_t len)
{
	size_t head = (size_t)vf_le64(p + 72);

	vf_put_le32(p + 80, vf_crc32c(0, p + head, len - head));
	vf_put_le32(p + 60, 0);
	vf_put_le32(p + 60, vf_crc32c(0, p, head));
}

static void refuse(const struct lab *l)
{
	struct vf_tree_file f;
	const char *why;

	CU_ASSERT_EQUAL(vf_tree_validate(l->file.data, l->file.len, &f, &why),
			-EBADMSG);
}

static void damaged_trees_are_refused(void)
{
	struct lab l = open_lab(VF_EUCLIDEAN, 1);
	struct vf_tree_file f;
	const char *why;
	uint8_t *p = l.file.data;
	size_t len = l.file.len, floats = (size_t)vf_le64(p + 72);
	uint64_t seed = 1;

	for (int i = 0; i < 200; i++) {
		size_t at = vf_test_rand(&seed) % len;
		p[at] ^= 1u << (i & 7);
		CU_ASSERT(vf_tree_validate(p, len, &f, &why));
		p[at] ^= 1u << (i & 7);
	}
	for (size_t n = 0; n < len; n += 1 + n / 3)
		CU_ASSERT(vf_tree_validate(p, n, &f, &why));
	for (size_t at = 40; at < 56; at += 4) { /* sealed, sizes wrong */
		uint32_t was = vf_le32(p + at);
		vf_put_le32(p + at, was + 7);
		mend(p, len);
		CU_ASSERT(vf_tree_validate(p, len, &f, &why));
		vf_put_le32(p + at, UINT32_MAX);
		mend(p, len);
		refuse(&l);
		vf_put_le32(p + at, was);
	}
	/* NaNs: of the origin, of the last leaf's factors, of a centroid. */
	const size_t at[] = {128, floats - LEAVES * (256 + 16) + 8, floats};
	for (size_t i = 0; i < VF_N(at); i++) {
		uint32_t was = vf_le32(p + at[i]);
		vf_put_le32(p + at[i], 0x7fc00000);
		mend(p, len);
		refuse(&l);
		vf_put_le32(p + at[i], was);
	}
	mend(p, len);
	CU_ASSERT_EQUAL(vf_tree_validate(p, len, &f, &why), 0);
	vf_put_le32(p + len - 8, UINT32_MAX); /* a node's first leaf */
	mend(p, len);
	refuse(&l);
	vf_put_le32(p + 8, 3);
	CU_ASSERT_EQUAL(vf_tree_validate(p, len, &f, &why), -ENOTSUP);
	close_lab(&l);
}

static CU_TestInfo tests[] = {
	{"few leaves hold most of the nearest",
	 few_leaves_hold_most_of_the_nearest},
	{"shards of one tree find what one shard finds",
	 shards_of_one_tree_find_what_one_shard_finds},
	{"scanning all leaves is scanning each",
	 scanning_all_leaves_is_scanning_each},
	{"under dot leaves that reach far come first",
	 under_dot_leaves_that_reach_far_come_first},
	{"under dot a long query chooses the same",
	 under_dot_a_long_query_chooses_the_same},
	{"leaves are measured within their bound",
	 leaves_are_measured_within_their_bound},
	{"a trimmed tree chooses the same", a_trimmed_tree_chooses_the_same},
	{"another tree is not attached", another_tree_is_not_attached},
	{"a search needs the beginning alone",
	 a_search_needs_the_beginning_alone},
	{"trees of version 1 choose the same",
	 trees_of_version_1_choose_the_same},
	{"damaged trees are refused", damaged_trees_are_refused},
	CU_TEST_INFO_NULL,
};

VF_SUITE("index/tree", tests);
