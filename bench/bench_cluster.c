/*
 * Clustering: what training and assignment cost, and how many of the true ten
 * nearest lie in the leaves that are probed, by rows scanned, against flat
 * k-means with the same number of leaves.
 *
 *   bench_cluster [-t THREADS] [-l LEAVES] [-s ROWS_PER_LEAF] [-n NEAR]
 *                 [-m METRIC] [-f] [-e] BASE QUERIES
 *
 * BASE and QUERIES are float32 .npy files, as `vectool gen --queries` writes.
 * -f also runs flat k-means and -e exact assignment, which are slow; -n is how
 * many nodes training looks into.  Seconds are of the processor, all threads
 * together.
 */
#include "index/cluster_impl.h"
#include "index/kernels.h"
#include "index/kernels_gemm.h"
#include "index/kmeans.h"
#include "store/npy.h"
#include "store/util.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { TOP = 10, QUERIES_MAX = 200, FLAT_ROUNDS = 10 };

struct file {
	const float *x;
	size_t n;
	uint32_t dim;
};

struct bench {
	struct file base, queries;
	enum vf_metric metric;
	unsigned n_threads;
	uint32_t n_leaves;
	size_t sample_per_leaf;
	unsigned n_near; /* nodes that training looks into */
	uint32_t *truth; /* [queries][TOP] */
};

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int map_file(const char *path, struct file *out)
{
	VF_AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	struct vf_npy npy;
	const char *reason = "";

	if (fd < 0 || fstat(fd, &st))
		return vf_fail(-errno, "%s: cannot be opened", path);
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ,
		       MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED)
		return vf_fail(-errno, "%s: cannot be mapped", path);
	int err = vf_npy_parse(p, (size_t)st.st_size, &npy, &reason);
	if (err || npy.dtype != VF_F32 || npy.dim > VF_DIM_MAX ||
	    npy.data_off + npy.data_len > (uint64_t)st.st_size)
		return vf_fail(-EINVAL, "%s: not float32 .npy %s", path,
			       reason);
	*out = (struct file){(const float *)(p + npy.data_off), npy.n_rows,
			     (uint32_t)npy.dim};
	return 0;
}

/* ---- truth ------------------------------------------------------------------- */

struct list {
	float score[TOP];
	uint32_t row[TOP];
};

static void insert(struct list *l, float score, uint32_t row)
{
	int at = TOP - 1;

	if (!(score > l->score[at]))
		return;
	for (; at && score > l->score[at - 1]; at--) {
		l->score[at] = l->score[at - 1];
		l->row[at] = l->row[at - 1];
	}
	l->score[at] = score;
	l->row[at] = row;
}

/* <q, x> to how near: more is nearer. */
static float nearness(enum vf_metric m, float dot, double sq)
{
	if (m == VF_COSINE)
		return dot / (float)sqrt(sq);
	return m == VF_DOT ? dot : dot - (float)sq / 2;
}

static void find_truth(struct bench *b)
{
	static struct list top[QUERIES_MAX];
	static float dots[QUERIES_MAX * VF_BLOCK_ROWS];
	size_t nq = b->queries.n, dim = b->base.dim;

	for (size_t q = 0; q < nq; q++)
		for (int i = 0; i < TOP; i++)
			top[q].score[i] = -INFINITY;
	for (size_t i = 0; i < b->base.n; i += VF_BLOCK_ROWS) {
		size_t n = VF_MIN(b->base.n - i, (size_t)VF_BLOCK_ROWS);
		const float *rows[VF_BLOCK_ROWS], *x = b->base.x + i * dim;
		double sq[VF_BLOCK_ROWS], own[VF_BLOCK_ROWS];
		for (size_t r = 0; r < n; r++)
			rows[r] = x + r * dim;
		vf_kernels()->dot_f32(x, x, n, dim, own, sq);
		vf_gemm_kernels()->dots_f32(rows, n, b->queries.x, nq, dim,
					    dots);
		for (size_t q = 0; q < nq; q++)
			for (size_t r = 0; r < n; r++)
				insert(&top[q],
				       nearness(b->metric, dots[q * n + r],
						sq[r]),
				       (uint32_t)(i + r));
	}
	for (size_t q = 0; q < nq; q++)
		memcpy(b->truth + q * TOP, top[q].row, sizeof(top[q].row));
}

/* ---- quality ------------------------------------------------------------------ */

struct ranked {
	float score;
	uint32_t leaf;
};

static int compare_ranked(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	return x->score > y->score ? -1 : x->score < y->score;
}

static const double budgets[] = {.004, .008, .016, .032, .064, .128};

/* Add to found[] how many true neighbours the budgets' leaves hold. */
static void probe(const struct bench *b, const struct vf_centroids *l,
		  const uint32_t *leaf, const size_t *sizes, uint32_t query,
		  struct ranked *r, double *found)
{
	struct vf_points p = {.x = b->queries.x,
			      .n = b->queries.n,
			      .dim = b->base.dim,
			      .metric = b->metric};
	size_t seen = 0, at = 0, held = 0;

	for (uint32_t j = 0; j < l->n; j++) {
		r[j].leaf = j;
		vf_centroids_score(l, j, j + 1, &p, &query, 1, &r[j].score);
	}
	qsort(r, l->n, sizeof(*r), compare_ranked);
	for (uint32_t j = 0; j < l->n && at < VF_N(budgets); j++) {
		while (at < VF_N(budgets) &&
		       (double)(seen + sizes[r[j].leaf]) >
			       budgets[at] * (double)b->base.n)
			found[at++] += (double)held;
		seen += sizes[r[j].leaf];
		for (int t = 0; t < TOP; t++)
			held += leaf[b->truth[query * TOP + (size_t)t]] ==
				r[j].leaf;
	}
	while (at < VF_N(budgets))
		found[at++] += (double)held;
}

static int compare_size(const void *a, const void *b)
{
	const size_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void print_sizes(size_t *sizes, uint32_t k, size_t n)
{
	uint32_t over = 0;
	double mean = (double)n / k, sq = 0;

	qsort(sizes, k, sizeof(*sizes), compare_size);
	for (uint32_t j = 0; j < k; j++) {
		over += (double)sizes[j] > 4 * mean;
		sq += (double)sizes[j] * (double)sizes[j];
	}
	printf("  sizes / mean: 1 %% %.2f, median %.2f, 99 %% %.2f, largest "
	       "%.2f; over 4: %u; imbalance %.2f\n",
	       (double)sizes[k / 100] / mean, (double)sizes[k / 2] / mean,
	       (double)sizes[k - 1 - k / 100] / mean,
	       (double)sizes[k - 1] / mean, over,
	       sq * k / ((double)n * (double)n));
}

static int print_quality(const struct bench *b, const char *name,
			 const struct vf_centroids *l, const uint32_t *leaf)
{
	VF_AUTO_FREE size_t *sizes = calloc(l->n, sizeof(*sizes));
	VF_AUTO_FREE struct ranked *r = malloc(l->n * sizeof(*r));
	double found[VF_N(budgets)] = {0};

	if (!sizes || !r)
		return -ENOMEM;
	for (size_t i = 0; i < b->base.n; i++)
		sizes[leaf[i]]++;
	for (uint32_t q = 0; q < b->queries.n; q++)
		probe(b, l, leaf, sizes, q, r, found);
	printf("%-12s", name);
	for (size_t i = 0; i < VF_N(budgets); i++)
		printf(" %.1f%%: %.4f", budgets[i] * 100,
		       found[i] / (double)(b->queries.n * TOP));
	printf("\n");
	print_sizes(sizes, l->n, b->base.n);
	return 0;
}

/* ---- clusterings ----------------------------------------------------------------- */

/* Rows at even steps through the file. */
static float *copy_sample(const struct bench *b, size_t *out_n)
{
	size_t n = VF_MIN(b->base.n, b->n_leaves * b->sample_per_leaf);
	size_t dim = b->base.dim;
	float *x = aligned_alloc(64, vf_round_up(n * dim * sizeof(*x), 64));

	for (size_t i = 0; x && i < n; i++)
		memcpy(x + i * dim,
		       b->base.x + (size_t)((double)i * (double)b->base.n /
					    (double)n) *
					   dim,
		       dim * sizeof(*x));
	*out_n = n;
	return x;
}

static int run_near(const struct bench *b, const struct vf_cluster *c,
		    unsigned n_near, const uint32_t *exact, uint32_t *leaf)
{
	struct vf_cluster_assign o = {.n_threads = b->n_threads,
				      .n_near = n_near};
	double t = cpu_seconds();
	size_t same = 0;
	char name[32];
	int err = vf_cluster_assign(c, &o, b->base.x, b->base.n, leaf, NULL);

	if (err)
		return err;
	t = cpu_seconds() - t;
	for (size_t i = 0; exact && i < b->base.n; i++)
		same += leaf[i] == exact[i];
	if (n_near)
		snprintf(name, sizeof(name), "near %u", n_near);
	else
		snprintf(name, sizeof(name), "default");
	printf("assign, %s: %.2f s, %.1f us a row", name, t,
	       t * 1e6 / (double)b->base.n);
	if (exact)
		printf(", %.4f as exact", (double)same / (double)b->base.n);
	printf("\n");
	return print_quality(b, name, &c->leaves, leaf);
}

static int run_tree(const struct bench *b, const float *sample, size_t n,
		    bool exact)
{
	struct vf_cluster_options o = {.dim = b->base.dim,
				       .metric = b->metric,
				       .n_leaves = b->n_leaves,
				       .seed = 1,
				       .n_threads = b->n_threads,
				       .n_near = b->n_near};
	struct vf_cluster *c;
	VF_AUTO_FREE uint32_t *leaf = malloc(b->base.n * sizeof(*leaf));
	VF_AUTO_FREE uint32_t *other = malloc(b->base.n * sizeof(*leaf));
	double t = cpu_seconds();
	int err = vf_cluster_train(&o, sample, n, &c);

	if (err || !leaf || !other)
		return err ? err : -ENOMEM;
	printf("tree: %zu rows into %u leaves, %u nodes: %.2f s\n", n,
	       c->leaves.n, c->nodes.n, cpu_seconds() - t);
	if (exact)
		err = run_near(b, c, c->nodes.n, NULL, leaf);
	if (!err)
		err = run_near(b, c, 0, exact ? leaf : NULL, other);
	for (unsigned near = 4; !err && near <= 32; near *= 2)
		err = run_near(b, c, near, exact ? leaf : NULL, other);
	vf_cluster_free(c);
	return err;
}

/* Lloyd's rounds from random rows, nothing else. */
static int run_flat(const struct bench *b, const float *sample, size_t n)
{
	struct vf_points p, all;
	struct vf_centroids l;
	VF_AUTO_FREE uint32_t *ids = malloc(b->base.n * sizeof(*ids));
	VF_AUTO_FREE uint32_t *rows = malloc(b->base.n * sizeof(*rows));
	double t = cpu_seconds();
	float max = vf_rows_norm_max(sample, n, b->base.dim);
	struct vf_kmeans_options o = {b->n_leaves, 1, b->n_threads, 1};

	if (!ids || !rows ||
	    vf_points_init(&p, b->metric, b->base.dim, max, sample, n, NULL,
			   1) ||
	    vf_points_init(&all, b->metric, b->base.dim, max, b->base.x,
			   b->base.n, NULL, 1) ||
	    vf_centroids_init(&l, b->metric, b->n_leaves, b->base.dim))
		return -ENOMEM;
	for (size_t i = 0; i < b->base.n; i++)
		rows[i] = (uint32_t)i;
	int err = vf_kmeans_run(&o, &p, rows, n, &l, ids);
	for (int i = 1; !err && i < FLAT_ROUNDS; i++) {
		VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};
		vf_kmeans_assign(&l, &p, rows, n, b->n_threads, ids);
		err = vf_groups_init(&g, l.n, rows, ids, n);
		if (!err)
			err = vf_kmeans_update(&l, &p, &g, b->n_threads);
		if (!err)
			err = vf_centroids_derive(&l);
	}
	printf("flat: %zu rows: %.2f s\n", n, cpu_seconds() - t);
	if (!err)
		err = vf_kmeans_assign(&l, &all, rows, all.n, b->n_threads,
				       ids);
	if (!err)
		err = print_quality(b, "flat", &l, ids);
	vf_centroids_fini(&l);
	vf_points_fini(&p);
	vf_points_fini(&all);
	return err;
}

int main(int argc, char **argv)
{
	struct bench b = {
		.n_threads = 1, .sample_per_leaf = 64, .metric = VF_COSINE};
	bool flat = false, exact = false;
	size_t n;

	for (int c; (c = getopt(argc, argv, "t:l:s:m:n:fe")) != -1;)
		switch (c) {
		case 't':
			b.n_threads = (unsigned)atoi(optarg);
			break;
		case 'l':
			b.n_leaves = (uint32_t)atoi(optarg);
			break;
		case 'n':
			b.n_near = (unsigned)atoi(optarg);
			break;
		case 's':
			b.sample_per_leaf = (size_t)atoi(optarg);
			break;
		case 'f':
			flat = true;
			break;
		case 'e':
			exact = true;
			break;
		case 'm':
			if (!vf_metric_parse(optarg, &b.metric))
				break; /* fall through */
		default:
			optind = argc;
		}
	if (optind + 2 != argc) {
		fprintf(stderr,
			"usage: %s [-t THREADS] [-l LEAVES] [-s ROWS] "
			"[-n NEAR] [-m METRIC] [-f] [-e] BASE QUERIES\n",
			argv[0]);
		return 2;
	}
	if (map_file(argv[optind], &b.base) ||
	    map_file(argv[optind + 1], &b.queries) ||
	    b.queries.dim != b.base.dim)
		return 1;
	b.queries.n = VF_MIN(b.queries.n, (size_t)QUERIES_MAX);
	b.n_leaves = b.n_leaves ? b.n_leaves : vf_cluster_n_leaves(b.base.n);
	b.truth = malloc(b.queries.n * TOP * sizeof(*b.truth));
	float *sample = copy_sample(&b, &n);
	if (!b.truth || !sample)
		return 1;
	find_truth(&b);
	int err = run_tree(&b, sample, n, exact);
	if (!err && flat)
		err = run_flat(&b, sample, n);
	free(sample);
	free(b.truth);
	return err ? 1 : 0;
}
