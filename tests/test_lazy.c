/*
 * Codes read by leaf against the same read whole.
 */
#include "index/codes.h"
#include "index/lazy.h"
#include "index/tree.h"
#include "tests/old_codes.h"
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIM = 70, LEAVES = 12, EACH = 9, ROWS = LEAVES * EACH, K = 20 };

/* A file of a shard that follows a tree, and what was read of it. */
struct lab {
	struct vf_tree *tree;
	struct vf_buf file;
	atomic_size_t n_read; /* bytes */
	atomic_int n_hints;
	bool is_far;
	float x[ROWS][DIM];
};

static struct vf_tree *make_tree(uint64_t *seed)
{
	float leaves[LEAVES * DIM], extra[LEAVES] = {0}, node[DIM] = {0};
	const uint32_t first[2] = {0, LEAVES};
	struct vf_tree_file f = {.view = {.dim = DIM,
					  .metric = VF_EUCLIDEAN,
					  .n_leaves = LEAVES,
					  .n_nodes = 1,
					  .leaves = leaves,
					  .leaf_extra = extra,
					  .nodes = node,
					  .node_extra = extra,
					  .first = first}};
	struct vf_tree *t;

	for (size_t i = 0; i < VF_N(leaves); i++)
		leaves[i] = 3 * vf_test_normal(seed);
	CU_ASSERT_EQUAL_FATAL(vf_tree_new(&f, 1, &t), 0);
	return t;
}

static struct lab *make_lab(void)
{
	const struct vf_code_params params = {DIM, VF_EUCLIDEAN, 1, 5};
	static struct vf_builder_row rows[ROWS];
	static struct vf_factors factors[ROWS];
	static struct vf_extra_factors extra_factors[ROWS];
	static uint8_t codes[ROWS * 64], extra[ROWS * 4 * 64];
	static uint32_t leaf[ROWS];
	const struct vf_coded c = {codes, factors, extra, extra_factors, leaf};
	struct lab *l = calloc(1, sizeof(*l));
	uint64_t seed = 7;
	struct vf_encoder *e;
	struct vf_builder *b;

	CU_ASSERT_PTR_NOT_NULL_FATAL(l);
	l->tree = make_tree(&seed);
	for (uint32_t i = 0; i < ROWS; i++) {
		leaf[i] = i / EACH;
		rows[i] = (struct vf_builder_row){i * 77, 10 + i, i, i + 1};
		for (size_t j = 0; j < DIM; j++)
			l->x[i][j] = vf_test_normal(&seed);
	}
	CU_ASSERT_EQUAL_FATAL(vf_encoder_new_tree(&params, l->tree, &e), 0);
	CU_ASSERT_EQUAL_FATAL(vf_encoder_coded(e, l->x[0], ROWS, &c), 0);
	CU_ASSERT_EQUAL_FATAL(vf_builder_new(e, VF_F32, &b), 0);
	CU_ASSERT_EQUAL_FATAL(vf_builder_add_coded(b, &c, rows, ROWS), 0);
	CU_ASSERT_EQUAL_FATAL(vf_builder_finish(b, &l->file), 0);
	vf_builder_free(b);
	vf_encoder_free(e);
	return l;
}

static void free_lab(struct lab *l)
{
	vf_tree_free(l->tree);
	vf_buf_fini(&l->file);
	free(l);
}

static int read_file(void *arg, uint64_t off, size_t len, void *out)
{
	struct lab *l = arg;

	CU_ASSERT(off <= l->file.len && len <= l->file.len - off);
	atomic_fetch_add(&l->n_read, len);
	memcpy(out, l->file.data + off, len);
	return 0;
}

static int readv_file(void *arg, uint64_t off, struct iovec *iov, int n)
{
	for (int i = 0; i < n; off += iov[i++].iov_len)
		read_file(arg, off, iov[i].iov_len, iov[i].iov_base);
	return 0;
}

static void hint_file(void *arg, const struct vf_extent *e, size_t n,
		      void *cost)
{
	struct lab *l = arg;

	for (size_t i = 0; i < n; i++)
		CU_ASSERT(e[i].len && (!i || e[i].off >= e[i - 1].off));
	atomic_fetch_add(&l->n_hints, 1);
}

static void locate_file(void *arg, const struct vf_extent *e, size_t n,
			bool *out_near)
{
	struct lab *l = arg;

	for (size_t i = 0; i < n; i++)
		out_near[i] = !l->is_far;
}

static struct vf_index *open_lab(struct lab *l, int want)
{
	const struct vf_codes_source src = {.read = read_file,
					    .readv = readv_file,
					    .hint = hint_file,
					    .locate = locate_file,
					    .arg = l};
	struct vf_index *ix;
	const char *why;

	CU_ASSERT_EQUAL(vf_index_open_lazy(&src, l->file.len, &ix, &why), want);
	if (ix)
		CU_ASSERT_EQUAL_FATAL(vf_index_attach(ix, l->tree), 0);
	return ix;
}

static struct vf_index *open_whole(struct lab *l)
{
	void *copy = malloc(l->file.len);
	struct vf_index *ix;
	const char *why;

	memcpy(copy, l->file.data, l->file.len);
	CU_ASSERT_EQUAL_FATAL(vf_index_open(copy, l->file.len, &ix, &why), 0);
	CU_ASSERT_EQUAL_FATAL(vf_index_attach(ix, l->tree), 0);
	return ix;
}

/* Candidates among the @n leaves nearest to row @q, then by all bits. */
struct found {
	struct vf_hit hits[K];
	struct vf_refined refined[K];
	uint32_t n;
	uint64_t n_rows;
	int err;
};

static void search(const struct vf_index *ix, struct lab *l, size_t q,
		   uint32_t n, struct found *out)
{
	struct vf_topk top = {.hits = out->hits, .k = K};
	struct vf_probe probes[LEAVES];
	struct vf_scan_scratch *s;
	const char *why;

	if (vf_scan_scratch_new(DIM, &s))
		abort();
	out->err = vf_tree_choose(l->tree, l->x[q], s, n, probes);
	struct vf_scan_job job = {.q = l->x[q],
				  .scratch = s,
				  .probes = probes,
				  .n_probes = n,
				  .top = &top};
	if (!out->err)
		out->err = vf_index_hint_leaves(ix, &job, 1, NULL);
	if (!out->err)
		out->err = vf_index_load_leaves(ix, &job, 1, &why);
	if (!out->err)
		out->err = vf_index_scan_jobs(
			ix, 0, (struct vf_scan_part){0, 1}, &job, 1);
	out->n_rows = job.n_rows;
	out->n = top.n;
	vf_topk_sort(&top);
	for (uint32_t i = 0; i < top.n; i++)
		out->refined[i].row = (uint32_t)top.hits[i].id;
	if (!out->err)
		out->err = vf_index_load_extra(ix, out->refined, top.n, true,
					       &why);
	if (!out->err)
		out->err = vf_index_refine(ix, l->x[q], s, out->refined, top.n);
	vf_scan_scratch_free(s);
}

/* ---- tests ----------------------------------------------------------------------------- */

static bool are_equal(const struct found *a, const struct found *b)
{
	bool same = a->n == b->n && a->n_rows == b->n_rows;

	for (uint32_t i = 0; same && i < a->n; i++)
		same = a->hits[i].id == b->hits[i].id &&
		       a->hits[i].dist == b->hits[i].dist &&
		       a->refined[i].bits == b->refined[i].bits &&
		       a->refined[i].dist == b->refined[i].dist;
	return same;
}

static void answers_are_those_of_codes_read_whole(void)
{
	struct lab *l = make_lab();
	struct vf_index *whole = open_whole(l), *ix = open_lab(l, 0);
	struct found a, b;

	for (uint32_t n = 1; n <= LEAVES; n++)
		for (size_t q = 0; q < ROWS; q += 13) {
			search(whole, l, q, n, &a);
			search(ix, l, q, n, &b);
			CU_ASSERT(!a.err && !b.err && are_equal(&a, &b));
		}
	vf_index_close(ix);
	vf_index_close(whole);
	free_lab(l);
}

/* A mapping: of bytes that can be counted, and can fault. */
static size_t n_copied, n_unasked;
static bool faults_in_call, faults_in_copy;
static const uint8_t *mapped;
static uint8_t *wanted; /* of each byte, whether it was; NULL: nobody asks */

static void want_mapped(const void *p, size_t len)
{
	if (wanted)
		memset(wanted + ((const uint8_t *)p - mapped), 1, len);
}

static int copy_mapped(void *dst, const void *src, size_t len)
{
	size_t off = (size_t)((const uint8_t *)src - mapped);

	n_copied += len;
	for (size_t i = 0; wanted && i < len; i++)
		n_unasked += !wanted[off + i];
	memcpy(dst, src, len);
	return faults_in_copy ? -EFAULT : 0;
}

static int call_mapped(void (*fn)(void *arg), void *arg)
{
	if (faults_in_call)
		return -EFAULT;
	fn(arg);
	return 0;
}

static int open_mapped(const struct lab *l, struct vf_index **out)
{
	const struct vf_index_mapping m = {l->file.data, l->file.len,
					   copy_mapped, call_mapped,
					   want_mapped};
	const char *why;

	mapped = l->file.data;
	int err = vf_index_open_mapped(&m, out, &why);

	CU_ASSERT(!*out == !!err && (!err || why));
	return err;
}

static void codes_that_are_mapped_are_checked_and_not_held(void)
{
	struct lab *l = make_lab();
	struct vf_index *whole = open_whole(l), *ix;
	struct vf_index_info held, all;
	struct found a, b;

	n_copied = n_unasked = 0;
	CU_ASSERT_EQUAL_FATAL(open_mapped(l, &ix), 0);
	vf_index_info(whole, &all);
	vf_index_info(ix, &held);
	CU_ASSERT(held.ram_len < all.ram_len / 2);
	CU_ASSERT(n_copied <= held.ram_len);
	CU_ASSERT_EQUAL_FATAL(vf_index_attach(ix, l->tree), 0);
	wanted = calloc(l->file.len, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(wanted);
	for (size_t q = 0; q < ROWS; q += 13) {
		search(whole, l, q, 3, &a);
		memset(wanted, 0, l->file.len);
		search(ix, l, q, 3, &b);
		CU_ASSERT(!a.err && !b.err && are_equal(&a, &b));
	}
	CU_ASSERT_EQUAL(n_unasked, 0);
	free(VF_STEAL(wanted));
	vf_index_close(ix);
	vf_index_close(whole);
	((uint8_t *)l->file.data)[l->file.len / 2] ^= 4;
	CU_ASSERT_EQUAL(open_mapped(l, &ix), -EBADMSG);
	free_lab(l);
}

static void a_mapping_that_faults_is_an_error(void)
{
	struct lab *l = make_lab();
	struct vf_index *ix;

	faults_in_call = true;
	CU_ASSERT_EQUAL(open_mapped(l, &ix), -EREMOTEIO);
	faults_in_call = false;
	faults_in_copy = true;
	CU_ASSERT_EQUAL(open_mapped(l, &ix), -EREMOTEIO);
	faults_in_copy = false;
	free_lab(l);
}

static void only_what_is_looked_into_is_read_and_once(void)
{
	struct lab *l = make_lab();
	struct vf_index *ix = open_lab(l, 0);
	struct vf_index_info info;
	const char *why;
	struct found f;

	CU_ASSERT(l->n_read < l->file.len / 2);
	size_t opening = l->n_read;
	search(ix, l, 5, 2, &f);
	CU_ASSERT_EQUAL(f.n_rows, 2 * EACH);
	size_t first = l->n_read - opening;
	CU_ASSERT(first && first < l->file.len / 3);
	CU_ASSERT_EQUAL(l->n_hints, 1);
	search(ix, l, 5, 2, &f);
	CU_ASSERT(l->n_read == opening + first && l->n_hints == 1);
	CU_ASSERT_EQUAL(vf_index_load_all(ix, &why), 0);
	size_t all = l->n_read;
	CU_ASSERT_EQUAL(vf_index_load_all(ix, &why), 0);
	CU_ASSERT_EQUAL(l->n_read, all);
	vf_index_info(ix, &info);
	CU_ASSERT(info.ram_len > l->file.len / 2 &&
		  info.ram_len < l->file.len - ROWS * 16);
	CU_ASSERT_EQUAL(vf_index_key_hashes(ix)[3], 3 * 77);
	vf_index_close(ix);
	free_lab(l);
}

/* They come from the file each time: what was checked may have changed. */
static void lines_and_checksums_stay_in_the_file(void)
{
	struct lab *l = make_lab();
	struct vf_index *ix = open_lab(l, 0), *whole = open_whole(l);
	uint64_t off[2];
	uint32_t len[2], crc[2], row_crc[2];
	struct vf_section_ref ref;
	const char *why;

	CU_ASSERT_EQUAL(vf_index_load_all(ix, &why), 0);
	for (uint64_t i = 0; i < ROWS; i++) {
		CU_ASSERT_EQUAL(vf_index_line(ix, i, &off[0], &len[0], &crc[0]),
				0);
		CU_ASSERT_EQUAL(
			vf_index_line(whole, i, &off[1], &len[1], &crc[1]), 0);
		CU_ASSERT_EQUAL(vf_index_row_crc(ix, i, &row_crc[0]), 0);
		CU_ASSERT_EQUAL(vf_index_row_crc(whole, i, &row_crc[1]), 0);
		CU_ASSERT(off[0] == off[1] && len[0] == len[1] &&
			  crc[0] == crc[1] && row_crc[0] == row_crc[1]);
	}
	CU_ASSERT_EQUAL(vf_codes_find(l->file.data, l->file.len,
				      VF_SEC_ROWS_BY_LEAF, &ref),
			0);
	/* Where the line of row 1 is: behind the codes of leaf 0. */
	memset(l->file.data + ref.off + EACH * (256 / 8 + 16) + 8, 0xff, 8);
	CU_ASSERT_EQUAL(vf_index_line(ix, 1, &off[0], &len[0], &crc[0]),
			-EBADMSG);
	CU_ASSERT(!off[0] && !len[0] && !crc[0]);
	vf_index_close(ix);
	vf_index_close(whole);
	free_lab(l);
}

static void far_extra_bits_are_done_without(void)
{
	struct lab *l = make_lab();
	struct vf_index *ix = open_lab(l, 0);
	const char *why;
	struct found f;

	l->is_far = true;
	search(ix, l, 5, 2, &f);
	for (uint32_t i = 0; i < f.n; i++)
		CU_ASSERT(f.refined[i].bits == 1);
	CU_ASSERT_EQUAL(vf_index_load_extra(ix, f.refined, f.n, false, &why),
			0);
	search(ix, l, 5, 2, &f);
	for (uint32_t i = 0; i < f.n; i++)
		CU_ASSERT(f.refined[i].bits == 5);
	vf_index_close(ix);
	free_lab(l);
}

/* Zeros between sections, and what no leaf has, are read by nobody. */
static void flipped_bits_are_refused_when_they_are_read(void)
{
	struct lab *l = make_lab();
	size_t unseen = 0;
	const char *why;

	for (size_t at = 0; at < l->file.len; at += 3) {
		const struct vf_codes_source src = {
			.read = read_file, .readv = readv_file, .arg = l};
		struct vf_index *ix = NULL;
		l->file.data[at] ^= 1;
		int err = vf_index_open_lazy(&src, l->file.len, &ix, &why);
		if (!err && !vf_index_attach(ix, l->tree)) {
			err = vf_index_load_all(ix, &why);
			CU_ASSERT(!err || (err == -EBADMSG && why));
		}
		unseen += !err;
		vf_index_close(ix);
		l->file.data[at] ^= 1;
	}
	CU_ASSERT(unseen < 13 * 64 / 3);
	free_lab(l);
}

static void files_of_version_1_answer_the_same(void)
{
	struct lab *l = make_lab();
	VF_AUTO_BUF struct vf_buf today = l->file;
	struct vf_index *whole = open_whole(l);
	const char *why;

	l->file = (struct vf_buf){0};
	old_codes(today.data, today.len, &l->file);
	struct vf_index *ix = open_lab(l, 0), *old = open_whole(l);
	for (uint32_t i = 0; i < LEAVES; i++) {
		struct found f[3];
		search(whole, l, i * 9, 3, &f[0]);
		search(old, l, i * 9, 3, &f[1]);
		search(ix, l, i * 9, 3, &f[2]);
		CU_ASSERT(are_equal(&f[0], &f[1]) && are_equal(&f[0], &f[2]));
	}
	CU_ASSERT_EQUAL(vf_index_load_all(ix, &why), 0);
	for (uint64_t i = 0; i < ROWS; i++) {
		uint64_t off[2];
		uint32_t len[2], crc[2];
		vf_index_line(ix, i, &off[0], &len[0], &crc[0]);
		vf_index_line(whole, i, &off[1], &len[1], &crc[1]);
		CU_ASSERT(off[0] == off[1] && len[0] == len[1] &&
			  crc[0] == crc[1]);
	}
	vf_index_close(ix);
	vf_index_close(old);
	vf_index_close(whole);
	free_lab(l);
}

static void without_checksums_of_leaves_it_is_to_be_read_whole(void)
{
	struct lab *l = make_lab();
	uint8_t *p = l->file.data;

	for (uint32_t i = 0; i < vf_le32(p + 64); i++)
		if (vf_le32(p + 128 + i * 32) == VF_SEC_LEAF_CRCS + 1)
			vf_put_le32(p + 128 + i * 32, 77);
	vf_put_le32(p + 124, 0);
	vf_put_le32(p + 124, vf_crc32c(0, p, vf_le32(p + 12)));
	CU_ASSERT_PTR_NULL(open_lab(l, -ENOENT));
	struct vf_index *ix = open_whole(l);
	vf_index_close(ix);
	free_lab(l);
}

struct reader {
	struct lab *l;
	struct vf_index *ix;
	struct found f[LEAVES];
};

static void *read_all(void *arg)
{
	struct reader *r = arg;

	for (uint32_t i = 0; i < LEAVES; i++)
		search(r->ix, r->l, i * 9, 3, &r->f[i]);
	return NULL;
}

static void threads_share_what_they_read(void)
{
	enum { N = 4 };
	struct lab *l = make_lab();
	struct vf_index *ix = open_lab(l, 0), *whole = open_whole(l);
	static struct reader r[N];
	pthread_t threads[N];

	for (size_t i = 0; i < N; i++) {
		r[i] = (struct reader){.l = l, .ix = ix};
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, read_all, &r[i]), 0);
	}
	for (size_t i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
	for (uint32_t i = 0; i < LEAVES; i++) {
		struct found f;
		search(whole, l, i * 9, 3, &f);
		for (size_t j = 0; j < N; j++)
			CU_ASSERT(!r[j].f[i].err && are_equal(&f, &r[j].f[i]));
	}
	vf_index_close(whole);
	vf_index_close(ix);
	free_lab(l);
}

static CU_TestInfo tests[] = {
	{"answers are those of codes read whole",
	 answers_are_those_of_codes_read_whole},
	{"codes that are mapped are checked, and not held",
	 codes_that_are_mapped_are_checked_and_not_held},
	{"a mapping that faults is an error",
	 a_mapping_that_faults_is_an_error},
	{"only what is looked into is read, and once",
	 only_what_is_looked_into_is_read_and_once},
	{"lines and checksums stay in the file",
	 lines_and_checksums_stay_in_the_file},
	{"far extra bits are done without", far_extra_bits_are_done_without},
	{"flipped bits are refused when they are read",
	 flipped_bits_are_refused_when_they_are_read},
	{"without checksums of leaves it is to be read whole",
	 without_checksums_of_leaves_it_is_to_be_read_whole},
	{"files of version 1 answer the same",
	 files_of_version_1_answer_the_same},
	{"threads share what they read", threads_share_what_they_read},
	CU_TEST_INFO_NULL};

VF_SUITE("index/lazy", tests);
