/*
 * Training.
 *
 *   nodes    k-means of part of the sample into about sqrt(leaves)
 *   shares   each node gets leaves in proportion to its rows
 *   leaves   k-means of each node's rows into its share
 *   rounds   over all leaves: rows near a border between nodes find their
 *            leaf, large leaves are split, small ones given up
 *   nodes    made anew above the leaves, or of leaves as they lie, in the order
 *            of index/leaf_order.h
 *
 * Up to VF_EXACT_LEAVES a row is compared with every leaf, by bytes
 * (index/coarse.h), and one round inside the nodes is enough of a beginning.
 * With more, rows look into their nearest nodes only, and a round costs rows x
 * (nodes + near nodes x their leaves).
 *
 * Measured, 81 k generated rows of 1024 dimensions into 1264 leaves, share of
 * the true ten in .4 / .8 / 1.6 / 3.2 / 6.4 / 12.8 % of the rows: flat k-means
 * of ten rounds .642 .718 .786 .900 .918 .938; this .634 .734 .789 .910 .929
 * .943; through 16 nodes, with floats and 2.5 times the time, .627 .728 .766
 * .866 .919 .938.
 */
#include "index/cluster_impl.h"
#include "index/crew.h"
#include "index/kmeans.h"
#include "store/util.h"

#include <math.h>

enum {
	NODE_ROWS = 256, /* of the sample, for each node's centroid */
	NODE_ROUNDS = 8,
	LEAF_ROUNDS = 8,
	GLOBAL_ROUNDS = 2,
	FIRST_ROUNDS = 1, /* of leaves, when rounds over all of them follow */
	EXACT_ROUNDS = 4,
	LARGE = 3, /* times the mean: such leaves are cut in the end */
	FLAT_ROWS = 10000,
};

struct training {
	const struct vf_cluster_options *o;
	unsigned n_threads;
	struct vf_points p;
	struct vf_cluster *c;
	uint32_t *ids; /* [n] node or leaf of each row */
	uint32_t *all; /* [n] 0, 1, 2, ... */
	bool exact;    /* rounds look at all leaves */
};

/* Streams of random numbers, one for each stage. */
enum stage {
	STAGE_SAMPLE,
	STAGE_NODES,
	STAGE_LEAVES,
	STAGE_ABOVE,
	STAGE_SPLIT,
	STAGE_CUT,
};

static uint64_t stage_seed(const struct training *t, enum stage stage,
			   uint64_t number)
{
	uint64_t s = t->o->seed ^ (uint64_t)(stage + 1) << 56 ^ number;

	return vf_splitmix64(&s);
}

uint32_t vf_cluster_n_leaves(uint64_t n_rows)
{
	double n = 4 * sqrt((double)n_rows);

	if (n_rows < FLAT_ROWS)
		return 1;
	return n < 1 << 20 ? (uint32_t)n : 1 << 20;
}

/* ---- leaves ------------------------------------------------------------------------- */

struct share {
	uint32_t first, n; /* leaves */
};

/*
 * Divide @n_leaves by numbers of rows: whole parts down, then one more to each
 * of the first that have rows left, none with more leaves than rows.
 */
static void divide_leaves(const struct vf_groups *g, uint32_t n_leaves,
			  struct share *out)
{
	size_t n = g->starts[g->k];
	uint32_t left = n_leaves, first = 0;

	for (uint32_t j = 0; j < g->k; j++) {
		size_t m = g->starts[j + 1] - g->starts[j];
		out[j].n = (uint32_t)((double)m / (double)n * n_leaves);
		out[j].n = VF_MIN(out[j].n, left);
		left -= out[j].n;
	}
	for (bool more = true; left && more;) {
		more = false;
		for (uint32_t j = 0; left && j < g->k; j++)
			if (out[j].n < g->starts[j + 1] - g->starts[j]) {
				out[j].n++;
				left--;
				more = true;
			}
	}
	for (uint32_t j = 0; j < g->k; j++) {
		out[j].first = first;
		first += out[j].n;
	}
}

struct split_nodes {
	struct training *t;
	const struct vf_groups *g;
	const struct share *shares;
};

static int split_node(void *arg, size_t j)
{
	const struct split_nodes *s = arg;
	struct training *t = s->t;
	struct vf_centroids l = {0}, *to = &t->c->leaves;
	const uint32_t *rows = s->g->order + s->g->starts[j];
	size_t n = s->g->starts[j + 1] - s->g->starts[j];
	VF_AUTO_FREE uint32_t *ids = malloc((n + 1) * sizeof(*ids));
	struct vf_kmeans_options o = {
		.k = s->shares[j].n,
		.n_rounds = t->o->n_rounds ? t->o->n_rounds
			    : t->exact	   ? FIRST_ROUNDS
					   : LEAF_ROUNDS,
		.n_threads = 1,
		.seed = stage_seed(t, STAGE_LEAVES, j),
	};
	int err;

	if (!o.k)
		return 0;
	err = ids ? vf_centroids_init(&l, to->metric, o.k, to->dim) : -ENOMEM;
	if (!err)
		err = vf_kmeans_run(&o, &t->p, rows, n, &l, ids);
	if (!err) {
		memcpy(to->c + (size_t)s->shares[j].first * to->dim, l.c,
		       (size_t)o.k * to->dim * sizeof(float));
		memcpy(to->e + s->shares[j].first, l.e, o.k * sizeof(float));
	}
	vf_centroids_fini(&l);
	return err;
}

/* Leaves from nodes.  t->ids holds each row's node. */
static int make_leaves(struct training *t, uint32_t n_nodes)
{
	VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};
	VF_AUTO_FREE struct share *shares = malloc(n_nodes * sizeof(*shares));
	struct split_nodes s = {t, &g, shares};

	if (!shares)
		return -ENOMEM;
	int err = vf_groups_init(&g, n_nodes, t->all, t->ids, t->p.n);
	if (err)
		return err;
	divide_leaves(&g, t->c->leaves.n, shares);
	return vf_crew_run(t->n_threads, n_nodes, split_node, &s);
}

/* The first nodes, and each row's. */
static int make_nodes(struct training *t, uint32_t n_nodes)
{
	size_t n = VF_MIN(t->p.n, (size_t)n_nodes * NODE_ROWS);
	uint64_t seed = stage_seed(t, STAGE_SAMPLE, 0);
	VF_AUTO_FREE uint32_t *rows = malloc(t->p.n * sizeof(*rows));
	struct vf_centroids l = {0};
	struct vf_kmeans_options o = {
		.k = n_nodes,
		.n_rounds = NODE_ROUNDS,
		.n_threads = t->n_threads,
		.seed = stage_seed(t, STAGE_NODES, 0),
	};
	int err = rows ? vf_centroids_init(&l, t->p.metric, n_nodes, t->p.dim)
		       : -ENOMEM;

	if (!err) {
		memcpy(rows, t->all, t->p.n * sizeof(*rows));
		vf_rows_draw(rows, t->p.n, n, &seed);
		err = vf_kmeans_run(&o, &t->p, rows, n, &l, t->ids);
	}
	if (!err)
		err = vf_kmeans_assign(&l, &t->p, t->all, t->p.n, t->n_threads,
				       t->ids);
	vf_centroids_fini(&l);
	return err;
}

/*
 * Of @n leaves, those with rows, or all; the count returned.  Leaves past the
 * groups are new and have some.
 */
static uint32_t list_live(const struct vf_groups *g, bool with_rows, uint32_t n,
			  uint32_t *out)
{
	uint32_t at = 0;

	for (uint32_t j = 0; j < n; j++)
		if (!with_rows || j >= g->k || g->starts[j] < g->starts[j + 1])
			out[at++] = j;
	return at;
}

/* Pieces that a leaf of @n rows is cut into: 1 unless it is far too large. */
static uint32_t count_pieces(size_t n, size_t mean)
{
	return n > LARGE * mean ? (uint32_t)(n / mean) : 1;
}

/* Append centroid @from of @l to @to as number @at. */
static void place_piece(struct vf_centroids *to, uint32_t at,
			const struct vf_centroids *l, uint32_t from)
{
	memcpy(to->c + (size_t)at * to->dim, l->c + (size_t)from * l->dim,
	       l->dim * sizeof(float));
	to->e[at] = l->e[from];
}

/* Cut one leaf: its first piece stays in its place, others go to the end. */
static int cut_leaf(struct training *t, uint32_t leaf, const uint32_t *rows,
		    size_t n, uint32_t k, struct vf_centroids *to)
{
	VF_CLEANUP(vf_centroids_fini) struct vf_centroids l = {0};
	VF_AUTO_FREE uint32_t *ids = malloc(n * sizeof(*ids));
	VF_AUTO_FREE bool *used = calloc(k, sizeof(*used));
	struct vf_kmeans_options o = {k, LEAF_ROUNDS, t->n_threads,
				      stage_seed(t, STAGE_CUT, leaf)};
	bool first = true;
	int err = ids && used ? vf_centroids_init(&l, to->metric, k, to->dim)
			      : -ENOMEM;

	if (!err)
		err = vf_kmeans_run(&o, &t->p, rows, n, &l, ids);
	for (size_t i = 0; !err && i < n; i++)
		used[ids[i]] = true;
	for (uint32_t j = 0; !err && j < k; j++)
		if (used[j]) {
			place_piece(to, first ? leaf : to->n++, &l, j);
			first = false;
		}
	return err;
}

/*
 * Leaves that are still far too large after the last round: a few, where rows
 * are many or are near to nothing.
 */
static int split_large(struct training *t, const struct vf_groups *g)
{
	struct vf_centroids *l = &t->c->leaves, to;
	size_t mean = t->p.n / g->k + 1;
	uint32_t more = 0;
	int err;

	for (uint32_t j = 0; j < g->k; j++)
		more += count_pieces(g->starts[j + 1] - g->starts[j], mean) - 1;
	if (!more)
		return 0;
	err = vf_centroids_init(&to, l->metric, l->n + more, l->dim);
	to.n = l->n;
	for (uint32_t j = 0; !err && j < g->k; j++)
		place_piece(&to, j, l, j);
	for (uint32_t j = 0; !err && j < g->k; j++) {
		size_t n = g->starts[j + 1] - g->starts[j];
		uint32_t k = count_pieces(n, mean);
		if (k > 1)
			err = cut_leaf(t, j, g->order + g->starts[j], n, k,
				       &to);
	}
	if (!err)
		err = vf_centroids_derive(&to);
	if (err) {
		vf_centroids_fini(&to);
		return err;
	}
	vf_centroids_fini(l);
	*l = to;
	return 0;
}

/*
 * The leaf of each of @rows, by nodes only where leaves are many.  Rows are
 * all of them then.
 */
static int find_leaves(struct training *t, const uint32_t *rows, size_t n)
{
	if (t->exact)
		return vf_kmeans_assign(&t->c->leaves, &t->p, rows, n,
					t->n_threads, t->ids);
	int err = vf_cluster_prepare(t->c, t->p.mid);
	return err ? err
		   : vf_assign_points(t->c, &t->p, t->o->n_near, t->n_threads,
				      t->ids);
}

static int raise_nodes(struct training *t, unsigned round, const uint32_t *live,
		       uint32_t n_live)
{
	return vf_cluster_raise(t->c, live, n_live,
				stage_seed(t, STAGE_ABOVE, round),
				t->n_threads);
}

static int raise_live(struct training *t, unsigned round,
		      const struct vf_groups *g, bool is_last)
{
	uint32_t n = t->c->leaves.n, n_live;
	VF_AUTO_FREE uint32_t *live = malloc(n * sizeof(*live));

	if (!live)
		return -ENOMEM;
	n_live = list_live(g, is_last, n, live);
	/* Nodes that nobody looks into need not be good ones. */
	if (is_last && t->exact)
		return vf_cluster_line_up(t->c, live, n_live, t->n_threads);
	return raise_nodes(t, round + 1, live, n_live);
}

/* Rows to leaves, leaves to their means, and nodes above them anew. */
static int refine(struct training *t, unsigned round, bool is_last,
		  const uint32_t *rows, size_t n)
{
	struct vf_centroids *l = &t->c->leaves;
	VF_CLEANUP(vf_groups_fini) struct vf_groups g = {0};
	int err = find_leaves(t, rows, n);

	if (!err)
		err = vf_groups_init(&g, l->n, rows, t->ids, n);
	if (!err)
		err = vf_kmeans_update(l, &t->p, &g, t->n_threads);
	if (!err && !is_last)
		err = vf_kmeans_balance(l, &t->p, &g,
					stage_seed(t, STAGE_SPLIT, round));
	if (!err && is_last)
		err = split_large(t, &g);
	if (!err && (is_last || !t->exact))
		err = raise_live(t, round, &g, is_last);
	if (!err && !is_last)
		err = vf_centroids_derive(&t->c->leaves);
	return err;
}

/* All leaves are looked at: the first rounds do with every other row. */
static int refine_exactly(struct training *t)
{
	size_t n = t->p.n, half = (n + 1) / 2;
	VF_AUTO_FREE uint32_t *rows = malloc(half * sizeof(*rows));
	int err = rows ? vf_centroids_derive(&t->c->leaves) : -ENOMEM;

	for (size_t i = 0; rows && i < half; i++)
		rows[i] = (uint32_t)(2 * i);
	for (unsigned r = 0; !err && r < EXACT_ROUNDS; r++) {
		bool all = r + 2 >= EXACT_ROUNDS;
		err = refine(t, r, r + 1 == EXACT_ROUNDS, all ? t->all : rows,
			     all ? n : half);
	}
	return err;
}

static int refine_by_nodes(struct training *t)
{
	uint32_t n_leaves = t->c->leaves.n;
	int err = raise_nodes(t, 0, t->all, n_leaves);

	for (unsigned r = 0; !err && r < GLOBAL_ROUNDS; r++)
		err = refine(t, r, r + 1 == GLOBAL_ROUNDS, t->all, t->p.n);
	return err;
}

/* ---- all of it ------------------------------------------------------------------------ */

static int train(struct training *t)
{
	uint32_t n_leaves = t->c->leaves.n,
		 n_nodes = vf_cluster_n_nodes(n_leaves);
	int err = 0;

	if (n_nodes > 1)
		err = make_nodes(t, n_nodes);
	else
		memset(t->ids, 0, t->p.n * sizeof(*t->ids));
	if (!err)
		err = make_leaves(t, n_nodes);
	if (err)
		return err;
	return t->exact ? refine_exactly(t) : refine_by_nodes(t);
}

static int check_options(const struct vf_cluster_options *o, size_t n)
{
	if (o->dim < VF_DIM_MIN || o->dim > VF_DIM_MAX)
		return vf_fail(-EINVAL, "clustering: dimension %u is not %d-%d",
			       o->dim, VF_DIM_MIN, VF_DIM_MAX);
	if (o->metric < VF_COSINE || o->metric > VF_DOT)
		return vf_fail(-EINVAL, "clustering: no metric %d",
			       (int)o->metric);
	if (!n || n >= UINT32_MAX)
		return vf_fail(-EINVAL, "clustering: a sample of %zu rows", n);
	return 0;
}

static int begin(struct training *t, const float *sample, size_t n)
{
	const struct vf_cluster_options *o = t->o;
	uint32_t want = o->n_leaves ? o->n_leaves : vf_cluster_n_leaves(n);

	t->n_threads = o->n_threads ? o->n_threads : 1;
	t->exact = !o->n_near && VF_MIN((size_t)want, n) <= VF_EXACT_LEAVES;
	t->c = calloc(1, sizeof(*t->c));
	t->ids = malloc(n * sizeof(*t->ids));
	t->all = malloc(n * sizeof(*t->all));
	if (!t->c || !t->ids || !t->all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		t->all[i] = (uint32_t)i;
	if (o->metric == VF_DOT)
		t->c->norm_max = vf_rows_norm_max(sample, n, o->dim);
	int err = vf_points_init(&t->p, o->metric, o->dim, t->c->norm_max,
				 sample, n, NULL, t->n_threads);
	return err ? err
		   : vf_centroids_init(&t->c->leaves, o->metric,
				       (uint32_t)VF_MIN((size_t)want, n),
				       o->dim);
}

int vf_cluster_train(const struct vf_cluster_options *o, const float *sample,
		     size_t n, struct vf_cluster **out)
{
	struct training t = {.o = o};
	int err = check_options(o, n);

	*out = NULL;
	if (err)
		return err;
	err = begin(&t, sample, n);
	if (!err)
		err = train(&t);
	if (!err)
		err = vf_cluster_prepare(t.c, NULL);
	vf_points_fini(&t.p);
	free(t.ids);
	free(t.all);
	if (err) {
		vf_cluster_free(t.c);
		return err == -ENOMEM
			       ? vf_fail(err, "clustering: out of memory")
			       : err;
	}
	*out = t.c;
	return 0;
}
