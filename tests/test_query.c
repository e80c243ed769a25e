/*
 * Searches of a small index against brute force.
 */
#include "index/topk.h"
#include "query/query.h"
#include "tests/fixture.h"
#include "tests/test.h"

#include <math.h>
#include <pthread.h>

enum { DIM = VF_FIX_DIM, ROWS = VF_FIX_ROWS };

static const enum vf_metric metrics[] = {VF_COSINE, VF_EUCLIDEAN, VF_DOT};

static struct vf_fixture *write_index(enum vf_metric metric,
				      enum vf_dtype dtype, bool zstd)
{
	return vf_fixture_new(&(struct vf_fixture_options){
		.metric = metric, .dtype = dtype, .zstd = zstd});
}

static struct vf_view *open_index(const struct vf_fixture *f)
{
	struct vf_view *v = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_view_open(f->path, NULL, &v), 0);
	return v;
}

/* ---- brute force --------------------------------------------------------------------- */

static float define_distance(enum vf_metric metric, const float *q,
			     const float *x)
{
	double dot = 0, qq = 0, xx = 0, l2 = 0;

	for (int i = 0; i < DIM; i++) {
		double a = q[i], b = x[i];
		dot += a * b;
		qq += a * a;
		xx += b * b;
		l2 += (a - b) * (a - b);
	}
	if (metric == VF_EUCLIDEAN)
		return (float)l2;
	if (metric == VF_DOT)
		return (float)-dot;
	return (float)fmax(1 - dot / (sqrt(xx) * sqrt(qq)), 0);
}

static int compare_hits(const void *a, const void *b)
{
	const struct vf_hit *x = a, *y = b;

	if (x->dist != y->dist)
		return x->dist < y->dist ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static void find_by_force(const struct vf_fixture *f, const float *q,
			  struct vf_hit out[ROWS])
{
	for (size_t i = 0; i < ROWS; i++)
		out[i] = (struct vf_hit){
			define_distance(f->opt.metric, q, f->x[i]), i};
	qsort(out, ROWS, sizeof(*out), compare_hits);
}

static void check_answer(const struct vf_fixture *f, const float *q,
			 const struct vf_answer *a, size_t k)
{
	struct vf_hit want[ROWS];

	find_by_force(f, q, want);
	CU_ASSERT_EQUAL(a->n_hits, k);
	CU_ASSERT_EQUAL(a->partial, false);
	CU_ASSERT_EQUAL(a->version, 1);
	for (size_t i = 0; i < VF_MIN(k, a->n_hits); i++) {
		const struct vf_answer_hit *h = &a->hits[i];
		uint64_t id = vf_fixture_base(h->shard) + h->row;
		CU_ASSERT_EQUAL(h->distance, want[i].dist);
		CU_ASSERT_EQUAL(id, want[i].id);
		CU_ASSERT_STRING_EQUAL(h->key, vf_fixture_key(want[i].id));
		CU_ASSERT_STRING_EQUAL(h->metadata,
				       vf_fixture_metadata(want[i].id));
	}
}

static int search(struct vf_view *v, const float *q, struct vf_search s,
		  struct vf_answer **out)
{
	return vf_view_search(v, q, &s, out);
}

/* Two queries of every k: a row that has equals, and a stranger. */
static void compare_with_force(const struct vf_fixture *f, struct vf_view *v)
{
	static const uint32_t ks[] = {1, 3, 10, 128, ROWS};
	float stranger[DIM];

	for (int i = 0; i < DIM; i++)
		stranger[i] = (float)(i % 5) - 2;
	const float *const queries[] = {f->x[10], stranger};
	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; j < VF_N(ks); j++)
			for (int exact = 0; exact < 2; exact++) {
				struct vf_search s = {.k = ks[j],
						      .candidates = ROWS,
						      .exact = exact};
				struct vf_answer *a;
				CU_ASSERT_EQUAL_FATAL(
					vf_view_search(v, queries[i], &s, &a),
					0);
				check_answer(f, queries[i], a, ks[j]);
				vf_answer_free(a);
			}
}

static void searches_equal_brute_force(void)
{
	for (size_t m = 0; m < VF_N(metrics); m++)
		for (int variant = 0; variant < 4; variant++) {
			struct vf_fixture *f =
				write_index(metrics[m],
					    variant & 1 ? VF_F16 : VF_F32,
					    variant & 2);
			struct vf_view *v = open_index(f);
			compare_with_force(f, v);
			vf_view_close(v);
			vf_fixture_free(f);
		}
}

/*
 * Short queries by inner product found next to nothing: they were coded
 * against an origin longer than they.
 */
static void the_length_of_a_query_is_no_matter(void)
{
	struct vf_fixture *f = write_index(VF_DOT, VF_F32, false);
	struct vf_view *v = open_index(f);
	float q[DIM];
	struct vf_search s = {.k = 20, .rerank = VF_RERANK_NONE};
	struct vf_answer *a, *b;

	for (int i = 0; i < DIM; i++)
		q[i] = ldexpf(f->x[10][i], -40);
	CU_ASSERT_EQUAL_FATAL(search(v, f->x[10], s, &a), 0);
	CU_ASSERT_EQUAL_FATAL(search(v, q, s, &b), 0);
	CU_ASSERT_FATAL(a->n_hits == 20 && b->n_hits == 20);
	for (size_t i = 0; i < 20; i++) {
		CU_ASSERT_STRING_EQUAL(a->hits[i].key, b->hits[i].key);
		CU_ASSERT_EQUAL(ldexpf(a->hits[i].distance, -40),
				b->hits[i].distance);
	}
	vf_answer_free(a);
	vf_answer_free(b);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* Mean error of the distances of all rows, and whether they are so marked. */
static double error_of_rerank(const struct vf_fixture *f, struct vf_view *v,
			      enum vf_rerank how)
{
	struct vf_search s = {.k = ROWS, .candidates = ROWS, .rerank = how};
	const float *q = f->x[10];
	struct vf_answer *a;
	double sum = 0;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, q, &s, &a), 0);
	CU_ASSERT_EQUAL(a->n_hits, ROWS);
	CU_ASSERT_EQUAL(a->cost.rows_read, how == VF_RERANK_EXACT ? ROWS : 0);
	for (size_t i = 0; i < a->n_hits; i++) {
		const struct vf_answer_hit *h = &a->hits[i];
		uint64_t id = vf_fixture_base(h->shard) + h->row;
		float want = define_distance(f->opt.metric, q, f->x[id]);
		sum += fabs((double)h->distance - want);
		CU_ASSERT(!i || h[-1].distance <= h->distance);
		CU_ASSERT_EQUAL(h->exact, how == VF_RERANK_EXACT);
		CU_ASSERT_STRING_EQUAL(h->key, vf_fixture_key(id));
	}
	vf_answer_free(a);
	return sum / ROWS;
}

static void reranking_by_all_bits_reads_no_row(void)
{
	for (size_t m = 0; m < 2 * VF_N(metrics); m++) {
		struct vf_fixture *f =
			vf_fixture_new(&(struct vf_fixture_options){
				.metric = metrics[m / 2],
				.dtype = m % 2 ? VF_F16 : VF_F32,
				.bits = 5});
		struct vf_view *v = open_index(f);
		double none = error_of_rerank(f, v, VF_RERANK_NONE);
		double fast = error_of_rerank(f, v, VF_RERANK_FAST);
		CU_ASSERT(fast > 0 && fast < none / 8);
		CU_ASSERT_EQUAL(error_of_rerank(f, v, VF_RERANK_EXACT), 0);
		struct vf_answer *a;
		struct vf_search bad = {.k = 1, .rerank = 7};
		CU_ASSERT_EQUAL(vf_view_search(v, f->x[0], &bad, &a), -EINVAL);
		vf_view_close(v);
		vf_fixture_free(f);
	}
}

/* A row's own code differs from it in no bit; what is shown is the count. */
static void plain_hamming_is_a_mode(void)
{
	struct vf_fixture *f = write_index(VF_EUCLIDEAN, VF_F32, false);
	struct vf_view *v = open_index(f);
	struct vf_search s = {.k = ROWS, .candidates = ROWS, .hamming = true};
	struct vf_answer *a;

	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[10], &s, &a), 0);
	check_answer(f, f->x[10], a, ROWS);
	vf_answer_free(a);
	s.rerank = VF_RERANK_NONE;
	CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[10], &s, &a), 0);
	CU_ASSERT_EQUAL(a->n_hits, ROWS);
	CU_ASSERT(a->hits[0].distance == 0 && !a->hits[0].exact);
	for (size_t i = 0; i < a->n_hits; i++) {
		float d = a->hits[i].distance;
		CU_ASSERT(d == floorf(d) && d <= 256);
		CU_ASSERT(!i || a->hits[i - 1].distance <= d);
	}
	vf_answer_free(a);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void a_view_says_what_it_shows(void)
{
	struct vf_fixture *f = write_index(VF_DOT, VF_F16, false);
	struct vf_view *v = open_index(f);
	struct vf_view_info info;

	CU_ASSERT_EQUAL(vf_view_load(v), 0);
	vf_view_info(v, &info);
	CU_ASSERT(info.version == 1 && info.n_rows == ROWS);
	CU_ASSERT(info.n_shards == VF_FIX_SHARDS && info.dim == DIM);
	CU_ASSERT(info.metric == VF_DOT && info.dtype == VF_F16);
	CU_ASSERT(info.ram_len > ROWS * 32);
	CU_ASSERT_STRING_EQUAL(info.embedder, "");
	vf_view_close(v);
	vf_fixture_free(f);
}

/* ---- k and candidates ------------------------------------------------------------------ */

static void k_is_limited_by_the_rows_and_by_10000(void)
{
	struct vf_fixture *f = write_index(VF_COSINE, VF_F32, false);
	struct vf_view *v = open_index(f);
	const float *q = f->x[0];
	struct vf_answer *a;

	CU_ASSERT_EQUAL(search(v, q, (struct vf_search){.k = 10000}, &a), 0);
	check_answer(f, q, a, ROWS);
	vf_answer_free(a);
	CU_ASSERT_EQUAL(search(v, q, (struct vf_search){.k = 0}, &a), -EINVAL);
	CU_ASSERT_PTR_NULL(a);
	CU_ASSERT_EQUAL(search(v, q, (struct vf_search){.k = 10001}, &a),
			-EINVAL);
	CU_ASSERT_EQUAL(
		search(v, q,
		       (struct vf_search){.k = 1, .candidates = (1 << 20) + 1},
		       &a),
		-EINVAL);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void candidates_are_the_count_that_was_asked_for(void)
{
	static const uint32_t cases[][3] = {/* k, candidates, rows read */
					    {1, 1, 1},
					    {10, 57, 57},
					    {20, 5, 20},
					    {10, 100000, ROWS}};
	struct vf_fixture *f = write_index(VF_EUCLIDEAN, VF_F32, false);
	struct vf_view *v = open_index(f);

	for (size_t i = 0; i < VF_N(cases); i++) {
		struct vf_search s = {.k = cases[i][0],
				      .candidates = cases[i][1]};
		struct vf_answer *a;
		CU_ASSERT_EQUAL_FATAL(vf_view_search(v, f->x[3], &s, &a), 0);
		CU_ASSERT_EQUAL(a->cost.candidates, cases[i][2]);
		CU_ASSERT_EQUAL(a->cost.rows_read, cases[i][2]);
		CU_ASSERT_EQUAL(a->n_hits, cases[i][0]);
		CU_ASSERT(a->cost.ranges >= 1);
		CU_ASSERT(a->cost.bytes >= cases[i][2] * DIM * 4);
		CU_ASSERT_STRING_EQUAL(a->hits[0].key, "k3");
		vf_answer_free(a);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

static void an_empty_index_has_no_hits(void)
{
	struct vf_fixture *f = vf_fixture_new(&(struct vf_fixture_options){
		.metric = VF_COSINE, .dtype = VF_F32, .no_shard = true});
	struct vf_view *v = open_index(f);
	struct vf_answer *a;
	float out[DIM];

	for (int exact = 0; exact < 2; exact++) {
		CU_ASSERT_EQUAL_FATAL(
			search(v, f->x[0],
			       (struct vf_search){.k = 5, .exact = exact}, &a),
			0);
		CU_ASSERT(a->n_hits == 0 && !a->partial);
		vf_answer_free(a);
	}
	CU_ASSERT_EQUAL(vf_view_vector(v, "k0", out), -ENOENT);
	vf_view_close(v);
	vf_fixture_free(f);
}

/* ---- keys and queries ------------------------------------------------------------------- */

static void every_key_gives_its_vector(void)
{
	for (int half = 0; half < 2; half++) {
		struct vf_fixture *f =
			write_index(VF_COSINE, half ? VF_F16 : VF_F32, half);
		struct vf_view *v = open_index(f);
		float out[DIM];
		for (size_t i = 0; i < ROWS; i++) {
			CU_ASSERT_EQUAL(
				vf_view_vector(v, vf_fixture_key(i), out), 0);
			CU_ASSERT(!memcmp(out, f->x[i], sizeof(out)));
		}
		CU_ASSERT_EQUAL(vf_view_vector(v, "k400", out), -ENOENT);
		CU_ASSERT_EQUAL(vf_view_vector(v, "", out), -ENOENT);
		vf_view_close(v);
		vf_fixture_free(f);
	}
}

static void metadata_is_left_out_when_asked(void)
{
	struct vf_fixture *f = write_index(VF_DOT, VF_F32, false);
	struct vf_view *v = open_index(f);
	struct vf_answer *a;

	CU_ASSERT_EQUAL_FATAL(
		search(v, f->x[0],
		       (struct vf_search){.k = 9, .no_metadata = true}, &a),
		0);
	for (size_t i = 0; i < a->n_hits; i++)
		CU_ASSERT_STRING_EQUAL(a->hits[i].metadata, "{}");
	vf_answer_free(a);
	vf_view_close(v);
	vf_fixture_free(f);
}

static void queries_without_a_distance_are_refused(void)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY, 2e19f};

	for (size_t m = 0; m < VF_N(metrics); m++) {
		struct vf_fixture *f = write_index(metrics[m], VF_F32, false);
		struct vf_view *v = open_index(f);
		struct vf_search s = {.k = 3};
		struct vf_answer *a;
		float q[DIM] = {0};
		int want = metrics[m] == VF_COSINE ? -EINVAL : 0;
		CU_ASSERT_EQUAL(vf_view_search(v, q, &s, &a), want);
		vf_answer_free(a);
		for (size_t i = 0; i < VF_N(bad); i++) {
			q[0] = 1;
			q[DIM - 1] = bad[i];
			CU_ASSERT_EQUAL(vf_view_search(v, q, &s, &a), -EINVAL);
			CU_ASSERT_PTR_NULL(a);
		}
		vf_view_close(v);
		vf_fixture_free(f);
	}
}

static void *search_often(void *arg)
{
	struct vf_view *v = arg;
	struct vf_answer *a;
	float q[DIM] = {1, 2, 3};
	float first = 0;
	size_t wrong = 0;

	for (int i = 0; i < 50; i++) {
		struct vf_search s = {.k = 5, .exact = i % 2};
		s.candidates = ROWS;
		if (vf_view_search(v, q, &s, &a)) {
			wrong++;
			continue;
		}
		first = i ? first : a->hits[4].distance;
		wrong += a->hits[4].distance != first;
		vf_answer_free(a);
	}
	return (void *)wrong;
}

static void threads_may_search_one_view(void)
{
	struct vf_fixture *f = write_index(VF_COSINE, VF_F16, true);
	struct vf_view *v = open_index(f);
	pthread_t threads[4];
	void *wrong;

	for (size_t i = 0; i < VF_N(threads); i++)
		if (pthread_create(&threads[i], NULL, search_often, v))
			abort();
	for (size_t i = 0; i < VF_N(threads); i++) {
		pthread_join(threads[i], &wrong);
		CU_ASSERT_PTR_NULL(wrong);
	}
	vf_view_close(v);
	vf_fixture_free(f);
}

static CU_TestInfo tests[] = {
	{"searches equal brute force", searches_equal_brute_force},
	{"the length of a query by inner product is no matter",
	 the_length_of_a_query_is_no_matter},
	{"reranking by all bits reads no row",
	 reranking_by_all_bits_reads_no_row},
	{"plain Hamming is a mode", plain_hamming_is_a_mode},
	{"a view says what it shows", a_view_says_what_it_shows},
	{"k is limited by the rows and by 10000",
	 k_is_limited_by_the_rows_and_by_10000},
	{"candidates are the count that was asked for",
	 candidates_are_the_count_that_was_asked_for},
	{"an empty index has no hits", an_empty_index_has_no_hits},
	{"every key gives its vector", every_key_gives_its_vector},
	{"metadata is left out when asked", metadata_is_left_out_when_asked},
	{"queries without a distance are refused",
	 queries_without_a_distance_are_refused},
	{"threads may search one view", threads_may_search_one_view},
	CU_TEST_INFO_NULL};
VF_SUITE("query/query", tests);
