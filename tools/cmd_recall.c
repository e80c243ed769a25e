/*
 * vectool recall: what an index finds of the true nearest rows and what that
 * costs, over its knobs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "index/index.h"
#include "query/query.h"
#include "store/util.h"
#include "tools/interrupt.h"
#include "tools/lines.h"
#include "tools/matrix.h"
#include "tools/plot.h"
#include "tools/progress.h"
#include "tools/verb.h"

static struct {
	const char *npy, *gt, *keys, *svg, *probes, *candidates;
	uint64_t k, queries;
	bool json;
} opt = {.k = 10, .queries = 1000};

static const struct vf_arg options[] = {
	{"npy", 0, VF_ARG_STRING, &opt.npy, 0, 0},
	{"gt", 0, VF_ARG_STRING, &opt.gt, 0, 0},
	{"keys", 0, VF_ARG_STRING, &opt.keys, 0, 0},
	{"top", 'k', VF_ARG_COUNT, &opt.k, 1, 1000},
	{"queries", 0, VF_ARG_COUNT, &opt.queries, 1, 1000000},
	{"probes", 0, VF_ARG_STRING, &opt.probes, 0, 0},
	{"candidates", 0, VF_ARG_STRING, &opt.candidates, 0, 0},
	{"svg", 0, VF_ARG_STRING, &opt.svg, 0, 0},
	{"json", 0, VF_ARG_FLAG, &opt.json, 0, 0},
	{0}};

enum { KEY_MAX = 4096, POINTS_MAX = 32, BY_BOUNDS = 0 };

/* What is asked: queries, and hashes of the keys that are right. */
struct exam {
	struct vf_view *view;
	const char *path;
	struct vf_view_info info;
	struct vf_matrix q;
	uint32_t k;
	uint64_t *right;   /* [q.n][k] */
	uint32_t *n_right; /* [q.n] */
	bool quiet;
};

/* One setting of the knobs, and what came of it. */
struct point {
	uint32_t probes, candidates;
	double recall, scanned, read, p50_ms, p95_ms;
};

/* ---- what is right -------------------------------------------------------------------- */

static void add_right(struct exam *e, size_t i, const char *key, size_t len)
{
	e->right[i * e->k + e->n_right[i]++] = vf_key_hash(key, len);
}

static int search(const struct exam *e, size_t i, struct vf_search s,
		  struct vf_answer **out)
{
	s.k = e->k;
	s.no_metadata = true;
	return vf_view_search(e->view, e->q.x + i * e->q.dim, &s, out);
}

static int find_right(struct exam *e)
{
	struct vf_progress progress;
	struct vf_answer *a;
	int err = 0;

	vf_progress_begin(&progress, "exact answers", e->q.n, 0, e->quiet);
	for (size_t i = 0; !err && i < e->q.n; i++) {
		err = vf_interrupted()
			      ? -ECANCELED
			      : search(e, i, (struct vf_search){.exact = true},
				       &a);
		if (err)
			break;
		for (size_t j = 0; j < a->n_hits; j++)
			add_right(e, i, a->hits[j].key, strlen(a->hits[j].key));
		vf_answer_free(a);
		vf_progress_update(&progress, i + 1);
	}
	vf_progress_end(&progress);
	return err;
}

/* Hashes of the keys of @path, line by line; caller's to free(). */
static int hash_keys(const char *path, struct vf_buf *out)
{
	struct vf_lines *l;
	const char *line;
	size_t len;
	int err = vf_lines_open(path, KEY_MAX, &l);

	if (err)
		return err;
	while (!(err = vf_lines_next(l, &line, &len)) && line) {
		uint64_t h = vf_key_hash(line, len);
		err = vf_buf_append(out, &h, sizeof(h));
		if (err)
			break;
	}
	vf_lines_close(l);
	return err;
}

static int add_id(struct exam *e, size_t i, int64_t id,
		  const struct vf_buf *keys)
{
	char number[24];

	if (id < 0)
		return 0; /* files are padded so where rows are few */
	if (!opt.keys) {
		int n = snprintf(number, sizeof(number), "%" PRId64, id);
		add_right(e, i, number, (size_t)n);
		return 0;
	}
	if ((uint64_t)id >= keys->len / sizeof(uint64_t))
		return vf_fail(-EINVAL,
			       "%s: row %" PRId64 " is beyond the lines of %s",
			       opt.gt, id, opt.keys);
	memcpy(&e->right[i * e->k + e->n_right[i]++],
	       keys->data + (size_t)id * sizeof(uint64_t), sizeof(uint64_t));
	return 0;
}

static int read_right(struct exam *e)
{
	VF_AUTO_BUF struct vf_buf keys = {0};
	struct vf_ids ids;
	int err = vf_ids_read(opt.gt, e->q.n, &ids);

	if (!err && (ids.n < e->q.n || ids.k < e->k))
		err = vf_fail(-EINVAL,
			      "%s: %zu rows of %u, for %zu queries and -k %u",
			      opt.gt, ids.n, ids.k, e->q.n, e->k);
	if (!err && opt.keys)
		err = hash_keys(opt.keys, &keys);
	for (size_t i = 0; !err && i < e->q.n; i++)
		for (uint32_t j = 0; !err && j < e->k; j++)
			err = add_id(e, i, ids.id[i * ids.k + j], &keys);
	free(ids.id);
	return err;
}

/* ---- the sweep ------------------------------------------------------------------------ */

static uint32_t count_right(const struct exam *e, size_t i,
			    const struct vf_answer *a)
{
	uint32_t n = 0;

	for (size_t h = 0; h < a->n_hits; h++) {
		uint64_t key =
			vf_key_hash(a->hits[h].key, strlen(a->hits[h].key));
		for (uint32_t j = 0; j < e->n_right[i]; j++)
			n += e->right[i * e->k + j] == key;
	}
	return n;
}

static int compare_ms(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int run_point(const struct exam *e, struct point *p)
{
	const struct vf_search s = {.probes = p->probes,
				    .candidates = p->candidates};
	VF_AUTO_FREE double *ms = malloc(e->q.n * sizeof(*ms));
	uint64_t found = 0, all = 0, scanned = 0, read = 0;

	if (!ms)
		return vf_fail(-ENOMEM, "recall: %s", strerror(ENOMEM));
	for (size_t i = 0; i < e->q.n; i++) {
		struct vf_answer *a;
		int err = vf_interrupted() ? -ECANCELED : search(e, i, s, &a);
		if (err)
			return err;
		found += count_right(e, i, a);
		all += e->n_right[i];
		scanned += a->cost.scanned;
		read += a->cost.rows_read;
		ms[i] = a->cost.total_ms;
		vf_answer_free(a);
	}
	qsort(ms, e->q.n, sizeof(*ms), compare_ms);
	p->recall = all ? (double)found / (double)all : 0;
	p->scanned = (double)scanned / (double)e->q.n;
	p->read = (double)read / (double)e->q.n;
	p->p50_ms = ms[e->q.n / 2];
	p->p95_ms = ms[e->q.n * 95 / 100];
	return 0;
}

/* "8,64,all" */
static int parse_list(const char *name, const char *list, const char *word,
		      uint32_t meaning, uint32_t *out, size_t *out_n)
{
	size_t len;

	for (*out_n = 0;; list += len + 1) {
		uint64_t v = meaning;
		len = strcspn(list, ",");
		bool is_word = len == strlen(word) && !memcmp(list, word, len);
		char *end = (char *)list + len;
		if (!is_word)
			v = strtoull(list, &end, 10);
		if (!len || end != list + len || v > INT32_MAX ||
		    (!is_word && (!v || *list < '0' || *list > '9')) ||
		    *out_n == POINTS_MAX)
			return vf_fail(VF_ERR_USAGE,
				       "recall: --%s is a list such as "
				       "8,64,%s of at most %d",
				       name, word, POINTS_MAX);
		out[(*out_n)++] = (uint32_t)v;
		if (!list[len])
			return 0;
	}
}

/* Every second power of two up to the leaves, and all of them. */
static size_t default_probes(uint32_t n_leaves, uint32_t *out)
{
	size_t n = 0;

	for (uint32_t p = 4; p < n_leaves && n + 1 < POINTS_MAX; p *= 4)
		out[n++] = p;
	out[n++] = VF_PROBES_ALL;
	return n;
}

struct sweep {
	uint32_t probes[POINTS_MAX], candidates[POINTS_MAX];
	size_t n_probes, n_candidates;
	struct point *points; /* [n_candidates][n_probes] */
};

static int plan_sweep(const struct exam *e, struct sweep *s)
{
	const char *rows = opt.candidates ? opt.candidates : "bounds,20,50,200";
	int err = parse_list("candidates", rows, "bounds", BY_BOUNDS,
			     s->candidates, &s->n_candidates);

	if (!err && opt.probes)
		err = parse_list("probes", opt.probes, "all", VF_PROBES_ALL,
				 s->probes, &s->n_probes);
	else
		s->n_probes = default_probes(e->info.n_leaves, s->probes);
	for (size_t i = 0; !err && i < s->n_candidates; i++)
		if (s->candidates[i] && s->candidates[i] < e->k)
			err = vf_fail(VF_ERR_USAGE,
				      "recall: --candidates %u is below -k %u",
				      s->candidates[i], e->k);
	if (!err && !(s->points = calloc(s->n_probes * s->n_candidates,
					 sizeof(*s->points))))
		err = vf_fail(-ENOMEM, "recall: %s", strerror(ENOMEM));
	return err;
}

static int run_sweep(const struct exam *e, struct sweep *s)
{
	size_t n = s->n_candidates * s->n_probes;
	struct vf_progress progress;
	int err = 0;

	vf_progress_begin(&progress, "queries", n * e->q.n, 0, e->quiet);
	for (size_t i = 0; !err && i < n; i++) {
		struct point *p = &s->points[i];
		p->candidates = s->candidates[i / s->n_probes];
		p->probes = s->probes[i % s->n_probes];
		err = run_point(e, p);
		vf_progress_update(&progress, (i + 1) * e->q.n);
	}
	vf_progress_end(&progress);
	return err;
}

/* ---- what is shown -------------------------------------------------------------------- */

static const char *format_knob(uint32_t v, uint32_t special, const char *word,
			       char out[16])
{
	if (v == special)
		return word;
	snprintf(out, 16, "%u", v);
	return out;
}

static void print_table(const struct exam *e, const struct sweep *s)
{
	char a[16], b[16];

	printf("%" PRIu64 " rows of %u dimensions, %u leaves; %zu queries, "
	       "recall of the nearest %u\n\n"
	       "probes  candidates  recall      scanned     read    p50 ms    "
	       "p95 ms\n",
	       e->info.n_rows, e->info.dim, e->info.n_leaves, e->q.n, e->k);
	for (size_t i = 0; i < s->n_candidates * s->n_probes; i++) {
		const struct point *p = &s->points[i];
		printf("%6s  %10s  %.4f  %11.0f %8.1f  %8.3f  %8.3f\n",
		       format_knob(p->probes, VF_PROBES_ALL, "all", a),
		       format_knob(p->candidates, BY_BOUNDS, "bounds", b),
		       p->recall, p->scanned, p->read, p->p50_ms, p->p95_ms);
	}
}

/* Knobs as the query program takes them; 0 candidates: by bounds. */
static void print_json(const struct sweep *s)
{
	for (size_t i = 0; i < s->n_candidates * s->n_probes; i++) {
		const struct point *p = &s->points[i];
		char probes[16];
		bool all = p->probes == VF_PROBES_ALL;
		printf("{\"probes\":%s,\"candidates\":%u,\"recall\":%.6f,"
		       "\"scanned\":%.1f,\"rows_read\":%.2f,\"p50_ms\":%.4f,"
		       "\"p95_ms\":%.4f}\n",
		       all ? "\"all\""
			   : format_knob(p->probes, VF_PROBES_ALL, "", probes),
		       p->candidates, p->recall, p->scanned, p->read, p->p50_ms,
		       p->p95_ms);
	}
}

/* What a plot has along its x axis. */
struct axis {
	const char *file, *label;
	size_t off; /* of a double in struct point */
};

static const struct axis axes[] = {
	{"scanned.svg", "rows scanned", offsetof(struct point, scanned)},
	{"read.svg", "rows read", offsetof(struct point, read)},
	{"ms.svg", "milliseconds, median", offsetof(struct point, p50_ms)}};

static int draw(const struct sweep *s, const struct axis *axis)
{
	size_t n = s->n_candidates * s->n_probes;
	VF_AUTO_FREE double *xy = malloc(2 * n * sizeof(*xy));
	VF_AUTO_FREE char *path = NULL;
	struct vf_curve curves[POINTS_MAX];
	char names[POINTS_MAX][32], knob[16];

	if (!xy || asprintf(&path, "%s/%s", opt.svg, axis->file) < 0)
		return vf_fail(-ENOMEM, "recall: %s", strerror(ENOMEM));
	for (size_t i = 0; i < n; i++) {
		memcpy(&xy[i], (const char *)&s->points[i] + axis->off,
		       sizeof(*xy));
		xy[n + i] = s->points[i].recall;
	}
	for (size_t i = 0; i < s->n_candidates; i++) {
		size_t at = i * s->n_probes;
		snprintf(names[i], sizeof(names[i]), "candidates: %s",
			 format_knob(s->candidates[i], BY_BOUNDS, "by bounds",
				     knob));
		curves[i] = (struct vf_curve){names[i], xy + at, xy + n + at,
					      s->n_probes};
	}
	struct vf_plot plot = {axis->label, "recall", curves, s->n_candidates};
	return vf_plot_svg(&plot, path);
}

static int draw_all(const struct sweep *s)
{
	int err = 0;

	if (mkdir(opt.svg, 0777) && errno != EEXIST)
		return vf_fail(-errno, "%s: %s", opt.svg, strerror(errno));
	for (size_t i = 0; !err && i < VF_N(axes); i++)
		err = draw(s, &axes[i]);
	return err;
}

/* ---- the whole ------------------------------------------------------------------------ */

static int open_exam(struct exam *e)
{
	int err = vf_guard_install();

	if (!err)
		err = vf_matrix_read(opt.npy, (size_t)opt.queries, &e->q);
	if (!err)
		err = vf_view_open(e->path, NULL, &e->view);
	if (err)
		return err;
	vf_view_info(e->view, &e->info);
	if (e->q.dim != e->info.dim)
		return vf_fail(-EINVAL, "%s: dimension %u, but %s has %u",
			       opt.npy, e->q.dim, e->path, e->info.dim);
	e->right = malloc(e->q.n * e->k * sizeof(*e->right));
	e->n_right = calloc(e->q.n, sizeof(*e->n_right));
	if (!e->right || !e->n_right)
		return vf_fail(-ENOMEM, "recall: %s", strerror(ENOMEM));
	return opt.gt ? read_right(e) : find_right(e);
}

static int run_recall(const struct vf_args *a)
{
	struct exam e = {.path = a->operands[0],
			 .k = (uint32_t)opt.k,
			 .quiet = a->common.quiet};
	struct sweep s = {0};
	int err;

	if (!opt.npy)
		return vf_fail(VF_ERR_USAGE, "recall: --npy QUERIES is needed");
	if (opt.keys && !opt.gt)
		return vf_fail(VF_ERR_USAGE, "recall: --keys is of --gt");
	err = open_exam(&e);
	if (!err)
		err = plan_sweep(&e, &s);
	if (!err)
		err = run_sweep(&e, &s);
	if (!err && opt.json)
		print_json(&s);
	else if (!err)
		print_table(&e, &s);
	if (!err && opt.svg)
		err = draw_all(&s);
	free(s.points);
	free(e.q.x);
	free(e.right);
	free(e.n_right);
	vf_view_close(e.view);
	return err;
}

const struct vf_verb vf_verb_recall = {
	.name = "recall",
	.summary = "what an index finds of the nearest, and at what cost",
	.help = "usage: vectool recall DIR/INDEX --npy QUERIES.npy [OPTIONS]\n\n"
		"Asks the queries with one setting of the knobs of vecquery "
		"after the other, and\n"
		"says which share of the true nearest rows was found, how many "
		"rows were\n"
		"scanned (by their codes) and read (their vectors), and how "
		"long a query took:\n"
		"the table to choose --probes and --candidates by.  The index "
		"is a folder of a\n"
		"mount, of a file:// bucket, or a copy.\n\n"
		"  --gt FILE          numbers of the true nearest rows, nearest "
		"first: .npy of\n"
		"                     <i4, <u4 or <i8, or .ivecs; without it "
		"every row is read\n"
		"                     to find them\n"
		"  --keys FILE        line i is the key of row i of --gt "
		"(default: the number)\n"
		"  -k, --top N        nearest that are wanted (10)\n"
		"  --queries N        only the first N (1000)\n"
		"  --probes LIST      leaves scanned: 8,64,all (default: 4, 16, "
		"64 ... all)\n"
		"  --candidates LIST  rows ranked again: 20,bounds; bounds: "
		"those that the bounds\n"
		"                     of their estimates leave open (default: "
		"bounds,20,50,200)\n"
		"  --svg DIR          also draw recall over rows scanned, rows "
		"read and time into\n"
		"                     scanned.svg, read.svg and ms.svg; needs "
		"gnuplot\n"
		"  --json             a line of JSON for each setting\n\n"
		"Examples:\n"
		"  vectool recall /mnt/v/products --npy queries.npy\n"
		"  vectool recall /mnt/v/products --npy queries.npy --gt gt.npy "
		"--svg plots\n",
	.min_operands = 1,
	.max_operands = 1,
	.options = options,
	.run = run_recall,
};
