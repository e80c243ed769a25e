/*
 * Real vectors: what so many bits and so many rows find of the true ten.  The
 * figures are those of FAISS's RaBitQ and of an independent implementation of
 * its estimator; a bar is the reference less .005, or less three standard
 * errors of it.
 */
#include "bench/index_rig.h"

#include <stdio.h>

static const char *folder;

static void open_exam(const char *set, enum vf_metric metric,
		      struct bench_exam *e)
{
	char path[BENCH_PATH];

	errno = EIO;
	snprintf(path, sizeof(path), "%s/%s/queries.npy", folder, set);
	if (vf_matrix_read(path, SIZE_MAX, &e->q))
		bench_fail(path);
	snprintf(path, sizeof(path), "%s/%s/gt_%s.npy", folder, set,
		 metric == VF_COSINE ? "cosine" : "l2");
	if (metric != VF_DOT && vf_ids_read(path, SIZE_MAX, &e->right))
		bench_fail(path);
	snprintf(path, sizeof(path), "%s/%s/base.npy", folder, set);
	if (metric == VF_DOT)
		bench_truth(path, metric, e);
}

static void close_exam(struct bench_exam *e)
{
	free(e->q.x);
	free(e->right.id);
}

/* Put a set once for each metric and width; returns the index's name. */
static const char *put_set(const char *set, enum vf_metric metric,
			   const char *bits, const char *leaves)
{
	static char name[128];
	char npy[BENCH_PATH], path[BENCH_PATH];

	snprintf(name, sizeof(name), "%.40s-%s-%.2s-%.8s", set,
		 vf_metric_name(metric), bits, leaves ? leaves : "tree");
	bench_path(name, path);
	if (!access(path, F_OK))
		return name;
	snprintf(npy, sizeof(npy), "%s/%s/base.npy", folder, set);
	bench_put(name, npy,
		  (const char *const[]){"--metric", vf_metric_name(metric),
					"--bits", bits, "--seed", "7",
					leaves ? "--leaves" : NULL, leaves,
					NULL});
	return name;
}

static double ask_set(const char *set, enum vf_metric metric, const char *bits,
		      struct vf_search s)
{
	struct vf_view *v = bench_view(put_set(set, metric, bits, "1"));
	struct bench_exam e;

	open_exam(set, metric, &e);
	double recall = bench_ask(v, &e, s, 1).recall;
	close_exam(&e);
	vf_view_close(v);
	return recall;
}

struct line {
	const char *set;
	uint32_t rows;
	double reference;
};

static void one_bit(void)
{
	static const struct line lines[] = {
		{"cohere-4096", 10, .9010}, {"cohere-4096", 15, .9913},
		{"cohere-4096", 20, .9970}, {"ada002-1536", 10, .8875},
		{"ada002-1536", 15, .9815}, {"ada002-1536", 20, .9970},
		{"minilm-384", 20, .9525},  {"minilm-384", 50, .9940},
		{"glove-50", 50, .952},	    {"glove-50", 100, .990}};

	for (size_t i = 0; i < VF_N(lines); i++) {
		const struct line *l = &lines[i];
		char what[80];
		snprintf(what, sizeof(what), "%s, 1 bit, %u rows read", l->set,
			 l->rows);
		bench_result(what,
			     ask_set(l->set, VF_COSINE, "1",
				     (struct vf_search){.candidates = l->rows}),
			     "", BENCH_AT_LEAST, l->reference - .005);
	}
}

static void five_bits(void)
{
	static const struct line lines[] = {{"cohere-4096", 100, .9890},
					    {"ada002-1536", 100, .9890},
					    {"minilm-384", 100, .9770}};

	for (size_t i = 0; i < VF_N(lines); i++) {
		const struct line *l = &lines[i];
		char what[80];
		snprintf(what, sizeof(what), "%s, 5 bits, no row read", l->set);
		bench_result(
			what,
			ask_set(l->set, VF_COSINE, "5",
				(struct vf_search){.candidates = l->rows,
						   .rerank = VF_RERANK_FAST}),
			"", BENCH_AT_LEAST, l->reference - .005);
	}
}

static void seven_sets(void)
{
	static const struct {
		const char *set;
		double bar[3];
	} sets[] = {{"cohere-4096", {.996, .998, .998}},
		    {"ada002-1536", {.989, .998, .998}},
		    {"minilm-384", {.940, .987, .996}},
		    {"mnist-784", {.984, .998, .998}},
		    {"sift-castle-128", {.859, .967, .992}},
		    {"sift-5k-128", {.871, .986, .997}},
		    {"glove-50", {.797, .944, .986}}};
	static const uint32_t rows[] = {20, 50, 100};

	for (size_t i = 0; i < VF_N(sets); i++)
		for (int m = VF_COSINE; m <= VF_EUCLIDEAN; m++)
			for (size_t j = 0; j < VF_N(rows); j++) {
				char what[80];
				snprintf(what, sizeof(what),
					 "%s, %s, 1 bit, %u rows", sets[i].set,
					 vf_metric_name((enum vf_metric)m),
					 rows[j]);
				bench_result(
					what,
					ask_set(sets[i].set, (enum vf_metric)m,
						"1",
						(struct vf_search){
							.candidates = rows[j]}),
					"", BENCH_AT_LEAST, sets[i].bar[j]);
			}
}

/* Inner products are found as angles are: by codes, and through the tree. */
static void dot(void)
{
	static const struct {
		const char *set, *leaves;
		struct vf_search s;
		const char *how;
	} lines[] = {
		{"cohere-4096", "1", {.candidates = 20}, "20 rows"},
		{"glove-50", "1", {.candidates = 100}, "100 rows"},
		{"glove-50", NULL, {.candidates = 200}, "the tree, 200 rows"}};

	for (size_t i = 0; i < VF_N(lines); i++) {
		double recall[2];
		char what[80];
		for (int j = 0; j < 2; j++) {
			enum vf_metric m = j ? VF_DOT : VF_COSINE;
			struct vf_view *v = bench_view(
				put_set(lines[i].set, m, "1", lines[i].leaves));
			struct bench_exam e;
			open_exam(lines[i].set, m, &e);
			recall[j] = bench_ask(v, &e, lines[i].s, 1).recall;
			close_exam(&e);
			vf_view_close(v);
		}
		bench_note("%s, %s: cosine %.4f, dot %.4f", lines[i].set,
			   lines[i].how, recall[0], recall[1]);
		snprintf(what, sizeof(what), "%s, dot, %s: below cosine",
			 lines[i].set, lines[i].how);
		bench_result(what, recall[0] - recall[1], "", BENCH_AT_MOST,
			     .01);
	}
}

void bench_sets(const char *dir)
{
	folder = dir;
	one_bit();
	five_bits();
	seven_sets();
	dot();
}
