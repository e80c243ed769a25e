/*
 * One shard's codes in memory: opened from codes.vix, scanned by estimates and
 * refined.
 *
 * index  bytes owned, validated once, then trusted; [fixed] after open
 */
#include "index/index.h"
#include "index/codes.h"
#include "index/kernels.h"
#include "index/refine.h"
#include "index/scratch.h"
#include "index/tree.h"

#include <math.h>

enum { SCAN_BLOCK = 64 }; /* rows whose counts are kept between two loops */

struct vf_index {
	uint8_t *bytes; /* owned */
	size_t len;
	struct vf_codes c; /* views into bytes */
	struct vf_rotation *rotation;
	const struct vf_tree *tree; /* borrowed; NULL: flat */
};

/* ---- opening --------------------------------------------------------------------------- */

int vf_index_open(void *p, size_t len, struct vf_index **out,
		  const char **out_reason)
{
	struct vf_index *ix = calloc(1, sizeof(*ix));
	int err;

	*out = NULL;
	*out_reason = "no memory";
	if (!ix) {
		free(p);
		return -ENOMEM;
	}
	ix->bytes = p;
	ix->len = len;
	err = vf_codes_validate(p, len, &ix->c, out_reason);
	if (!err)
		err = vf_rotation_new(ix->c.dim, ix->c.rotation_seed,
				      &ix->rotation);
	if (err)
		vf_index_close(ix);
	else
		*out = ix;
	return err;
}

int vf_index_attach(struct vf_index *ix, const struct vf_tree *t)
{
	const struct vf_tree_section *own = ix->c.section[VF_SEC_TREE];
	struct vf_tree_info info;

	if (!own)
		return 0;
	if (!t)
		return -EINVAL;
	vf_tree_info(t, &info);
	if (info.dim != ix->c.dim || info.metric != ix->c.metric ||
	    info.rotation_seed != ix->c.rotation_seed ||
	    memcmp(info.id, own->id, sizeof(info.id)) ||
	    own->leaves[ix->c.n_leaves - 1] >= info.n_leaves)
		return -EINVAL;
	ix->tree = t;
	return 0;
}

bool vf_index_has_tree(const struct vf_index *ix)
{
	return ix->c.section[VF_SEC_TREE];
}

void vf_index_close(struct vf_index *ix)
{
	if (!ix)
		return;
	vf_rotation_free(ix->rotation);
	free(ix->bytes);
	free(ix);
}

void vf_index_info(const struct vf_index *ix, struct vf_index_info *out)
{
	*out = (struct vf_index_info){.dim = ix->c.dim,
				      .padded_dim = ix->c.padded,
				      .n_leaves = ix->c.n_leaves,
				      .bits = ix->c.bits,
				      .n_rows = ix->c.n_rows,
				      .rotation_seed = ix->c.rotation_seed,
				      .metric = ix->c.metric,
				      .dtype = ix->c.dtype,
				      .ram_len = ix->len};
}

uint32_t vf_index_row_crc(const struct vf_index *ix, uint64_t row)
{
	return ((const uint32_t *)ix->c.section[VF_SEC_ROW_CRCS])[row];
}

void vf_index_line(const struct vf_index *ix, uint64_t row, uint64_t *out_off,
		   uint32_t *out_len, uint32_t *out_crc)
{
	const uint64_t *off = ix->c.section[VF_SEC_LINE_OFFS];

	*out_off = off[row];
	*out_len = (uint32_t)(off[row + 1] - off[row]);
	*out_crc = ((const uint32_t *)ix->c.section[VF_SEC_LINE_CRCS])[row];
}

const uint64_t *vf_index_key_hashes(const struct vf_index *ix)
{
	return ix->c.section[VF_SEC_KEY_HASHES];
}

int vf_index_find_hash(const struct vf_index *ix, uint64_t hash,
		       int (*fn)(void *arg, uint64_t row), void *arg)
{
	const uint64_t *h = vf_index_key_hashes(ix);
	int rc = 0;

	for (uint64_t i = 0; !rc && i < ix->c.n_rows; i++)
		if (h[i] == hash)
			rc = fn(arg, i);
	return rc;
}

/* ---- scanning -------------------------------------------------------------------------- */

/* The tree's number of each leaf. */
static const uint32_t *leaf_ids(const struct vf_index *ix)
{
	const struct vf_tree_section *t = ix->c.section[VF_SEC_TREE];

	return t->leaves;
}

static struct vf_frame frame_of(const struct vf_index *ix)
{
	return (struct vf_frame){.metric = ix->c.metric,
				 .dim = ix->c.dim,
				 .padded = ix->c.padded,
				 .seed = ix->c.rotation_seed,
				 .rotation = ix->rotation,
				 .origin = ix->c.section[VF_SEC_ORIGIN]};
}

/*
 * What the leaf of a row adds to each estimate: shards of a tree leave it to
 * the query, flat ones have one leaf, at their origin.
 */
static float leaf_base(const struct vf_index *ix, const float *rotated,
		       uint32_t i, const struct vf_query_code *qc)
{
	struct vf_probe p;

	if (!ix->tree)
		return qc->base;
	vf_tree_measure(ix->tree, rotated, leaf_ids(ix)[i], &p);
	return p.base;
}

/* Estimate @n rows, at most SCAN_BLOCK. */
static void scan_block(const struct vf_index *ix, uint64_t row, size_t n,
		       const struct vf_query_code *qc, uint64_t base,
		       struct vf_topk *top)
{
	const struct vf_codes *c = &ix->c;
	const struct vf_factors *f = c->section[VF_SEC_FACTORS];
	const uint8_t *codes = c->section[VF_SEC_CODES];
	float limit = vf_topk_limit(top);
	uint32_t counts[SCAN_BLOCK];

	vf_kernels()->b1q4(codes + row * (c->padded / 8), n, c->padded / 64,
			   qc->planes, counts);
	for (size_t j = 0; j < n; j++) {
		float d = vf_estimate(qc, &f[row + j], counts[j]);
		if (d > limit)
			continue;
		if (isnan(d)) /* a query beyond float's range */
			d = INFINITY;
		vf_topk_push(top, d, base + row + j);
		limit = vf_topk_limit(top);
	}
}

/* Estimate the rows of leaf @i. */
static void scan_leaf(const struct vf_index *ix, uint32_t i,
		      const struct vf_query_code *qc, uint64_t base,
		      struct vf_topk *top)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	uint64_t end = leaf[i].first_row + leaf[i].n_rows;

	for (uint64_t row = leaf[i].first_row; row < end; row += SCAN_BLOCK)
		scan_block(ix, row, VF_MIN((uint64_t)SCAN_BLOCK, end - row), qc,
			   base, top);
}

/* A shard that follows a tree is of no use without. */
static int check_tree(const struct vf_index *ix)
{
	return ix->c.follows_tree && !ix->tree ? -EINVAL : 0;
}

int vf_index_scan(const struct vf_index *ix, const float *q,
		  struct vf_scan_scratch *s, uint64_t base, struct vf_topk *top)
{
	struct vf_frame f = frame_of(ix);
	int err = check_tree(ix);

	if (!err)
		err = vf_scan_quantize(s, &f, q);
	if (err)
		return err;
	struct vf_query_code qc = s->code;

	for (uint32_t i = 0; i < ix->c.n_leaves; i++) {
		qc.base = leaf_base(ix, s->rotated, i, &s->code);
		scan_leaf(ix, i, &qc, base, top);
	}
	return 0;
}

/* The shard's leaf that is @id of the tree; n_leaves when it has none. */
static uint32_t find_tree_leaf(const struct vf_index *ix, uint32_t id)
{
	const uint32_t *ids = leaf_ids(ix);
	uint32_t lo = 0, hi = ix->c.n_leaves;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (ids[mid] < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < ix->c.n_leaves && ids[lo] == id ? lo : ix->c.n_leaves;
}

int vf_index_scan_probes(const struct vf_index *ix, const float *q,
			 struct vf_scan_scratch *s, uint64_t base,
			 const struct vf_probe *probes, uint32_t n,
			 struct vf_topk *top, uint64_t *out_rows)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	struct vf_frame f = frame_of(ix);
	int err = ix->tree ? vf_scan_quantize(s, &f, q) : -EINVAL;

	*out_rows = 0;
	if (err)
		return err;
	struct vf_query_code qc = s->code;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = find_tree_leaf(ix, probes[i].leaf);
		if (at == ix->c.n_leaves)
			continue;
		qc.base = probes[i].base;
		scan_leaf(ix, at, &qc, base, top);
		*out_rows += leaf[at].n_rows;
	}
	return 0;
}

/* ---- scanning for several queries ------------------------------------------------------ */

/* A leaf that a job looks into. */
struct visit {
	uint32_t leaf, job;
	float base;
};

static int compare_visits(const void *a, const void *b)
{
	const struct visit *x = a, *y = b;

	if (x->leaf != y->leaf)
		return x->leaf < y->leaf ? -1 : 1;
	return (x->job > y->job) - (x->job < y->job);
}

static bool has_probes(const struct vf_index *ix, const struct vf_scan_job *j)
{
	return ix->tree && j->probes;
}

/* The visits of one job to @out; returns how many. */
static size_t list_visits(const struct vf_index *ix,
			  const struct vf_scan_job *j, uint32_t job,
			  struct visit *out)
{
	uint32_t n = has_probes(ix, j) ? j->n_probes : ix->c.n_leaves;
	size_t n_out = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct visit v = {i, job, 0};
		if (has_probes(ix, j)) {
			v.leaf = find_tree_leaf(ix, j->probes[i].leaf);
			v.base = j->probes[i].base;
		} else {
			v.base = leaf_base(ix, j->scratch->rotated, i,
					   &j->scratch->code);
		}
		if (v.leaf < ix->c.n_leaves)
			out[n_out++] = v;
	}
	return n_out;
}

/* Rows of one leaf for all who visit it. */
static void scan_visits(const struct vf_index *ix, uint64_t base,
			struct vf_scan_part part, struct vf_scan_job *jobs,
			const struct visit *v, size_t n)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	uint64_t rows = leaf[v->leaf].n_rows, first = leaf[v->leaf].first_row;
	uint64_t row = first + rows * part.number / part.of;
	uint64_t end = first + rows * (part.number + 1) / part.of;

	for (size_t i = 0; i < n; i++)
		jobs[v[i].job].n_rows += end - row;
	for (; row < end; row += SCAN_BLOCK)
		for (size_t i = 0; i < n; i++) {
			struct vf_scan_job *j = &jobs[v[i].job];
			struct vf_query_code qc = j->scratch->code;
			qc.base = v[i].base;
			scan_block(ix, row,
				   VF_MIN((uint64_t)SCAN_BLOCK, end - row), &qc,
				   base, j->top);
		}
}

static int quantize_jobs(const struct vf_index *ix, struct vf_scan_job *jobs,
			 size_t n, size_t *out_n_visits)
{
	struct vf_frame f = frame_of(ix);
	int err = check_tree(ix);

	*out_n_visits = 0;
	for (size_t i = 0; !err && i < n; i++) {
		err = vf_scan_quantize(jobs[i].scratch, &f, jobs[i].q);
		*out_n_visits += has_probes(ix, &jobs[i]) ? jobs[i].n_probes
							  : ix->c.n_leaves;
	}
	return err;
}

int vf_index_scan_jobs(const struct vf_index *ix, uint64_t base,
		       struct vf_scan_part part, struct vf_scan_job *jobs,
		       size_t n)
{
	size_t n_visits, first = 0;
	int err = quantize_jobs(ix, jobs, n, &n_visits);
	VF_AUTO_FREE struct visit *v = malloc((n_visits + 1) * sizeof(*v));

	if (err || !v)
		return err ? err : -ENOMEM;
	n_visits = 0;
	for (size_t i = 0; i < n; i++)
		n_visits +=
			list_visits(ix, &jobs[i], (uint32_t)i, v + n_visits);
	/* One query's order, nearest leaf first, fills its heap sooner. */
	if (n > 1)
		qsort(v, n_visits, sizeof(*v), compare_visits);
	for (size_t i = 1; i <= n_visits; i++)
		if (i == n_visits || v[i].leaf != v[first].leaf) {
			scan_visits(ix, base, part, jobs, v + first, i - first);
			first = i;
		}
	return 0;
}

int vf_index_scan_hamming(const struct vf_index *ix, const float *q,
			  struct vf_scan_scratch *s, uint64_t base,
			  struct vf_topk *top)
{
	const struct vf_codes *c = &ix->c;
	const uint8_t *codes = c->section[VF_SEC_CODES];
	struct vf_frame f = frame_of(ix);
	uint32_t counts[SCAN_BLOCK];
	int err = vf_scan_rotate(s, &f, q);

	if (err)
		return err;
	s->has_code = false; /* its planes are taken */
	vf_sign_query(c->padded, s->rotated, c->section[VF_SEC_ORIGIN],
		      s->planes);
	for (uint64_t row = 0; row < c->n_rows; row += SCAN_BLOCK) {
		size_t n = VF_MIN((uint64_t)SCAN_BLOCK, c->n_rows - row);
		vf_kernels()->hamming(codes + row * (c->padded / 8), n,
				      c->padded / 64, s->planes, counts);
		for (size_t i = 0; i < n; i++)
			if ((float)counts[i] <= vf_topk_limit(top))
				vf_topk_push(top, (float)counts[i],
					     base + row + i);
	}
	return 0;
}

/* ---- refining -------------------------------------------------------------------------- */

/* The leaf of @row: the last that begins at or before it. */
static uint32_t find_leaf(const struct vf_codes *c, uint64_t row)
{
	const struct vf_leaf_disk *leaf = c->section[VF_SEC_LEAVES];
	uint32_t lo = 0, hi = c->n_leaves;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (leaf[mid].first_row <= row)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* 1-bit factors say the same of 1-bit codes. */
static struct vf_extra_factors row_factors(const struct vf_codes *c,
					   uint64_t row)
{
	const struct vf_extra_factors *x = c->section[VF_SEC_EXTRA_FACTORS];
	const struct vf_factors *f = c->section[VF_SEC_FACTORS];

	return x ? x[row]
		 : (struct vf_extra_factors){f[row].add, f[row].mul, f[row].err,
					     0};
}

/* What refine keeps from block to block. */
struct refining {
	struct vf_fine_query q;
	struct vf_fine_leaf at;
	uint32_t leaf; /* that @at is of; UINT32_MAX: none yet */
};

static void measure_leaf(const struct vf_index *ix, const float *rotated,
			 uint32_t leaf, struct vf_fine_leaf *out)
{
	const float *centroids = ix->c.section[VF_SEC_CENTROIDS];
	struct vf_probe p;

	if (!ix->tree) {
		vf_fine_leaf_make(ix->c.metric, rotated,
				  centroids + (size_t)leaf * ix->c.padded,
				  ix->c.padded, out);
		return;
	}
	vf_tree_measure(ix->tree, rotated, leaf_ids(ix)[leaf], &p);
	*out = (struct vf_fine_leaf){p.base, p.distance};
}

static void refine_block(const struct vf_index *ix, const float *rotated,
			 struct refining *r, struct vf_refined *rows, size_t n)
{
	const struct vf_codes *c = &ix->c;
	const struct vf_factors *scan = c->section[VF_SEC_FACTORS];
	uint32_t numbers[SCAN_BLOCK];
	int64_t dots[SCAN_BLOCK];
	const void *codes = c->section[VF_SEC_CODES],
		   *extra = c->section[VF_SEC_EXTRA_CODES];
	const struct vf_bit_rows b = {.codes = codes,
				      .extra = extra ? extra : codes,
				      .rows = numbers,
				      .n = n,
				      .words = c->padded / 64,
				      .n_extra = c->bits - 1};

	for (size_t i = 0; i < n; i++)
		numbers[i] = rows[i].row;
	vf_kernels()->bits_i16(&b, r->q.q, dots);
	for (size_t i = 0; i < n; i++) {
		struct vf_extra_factors f = row_factors(c, rows[i].row);
		uint32_t leaf = find_leaf(c, rows[i].row);
		if (leaf != r->leaf)
			measure_leaf(ix, rotated, leaf, &r->at);
		r->leaf = leaf;
		float d = (float)vf_fine_estimate(&r->q, &r->at, &f, c->bits,
						  dots[i]);
		rows[i].dist = isnan(d) ? INFINITY : d;
		rows[i].err = (float)(f.err * r->at.distance);
		rows[i].scan_err =
			(float)(scan[rows[i].row].err * r->at.distance);
		if (isnan(rows[i].err)) /* a query infinitely far */
			rows[i].err = INFINITY;
	}
}

int vf_index_refine(const struct vf_index *ix, const float *q,
		    struct vf_scan_scratch *s, struct vf_refined *rows,
		    size_t n)
{
	struct refining r = {.q.q = s->fine, .leaf = UINT32_MAX};
	struct vf_frame f = frame_of(ix);
	int err = check_tree(ix);

	if (!err)
		err = vf_scan_rotate(s, &f, q);
	if (err)
		return err;
	vf_fine_query_make(s->rotated, ix->c.section[VF_SEC_ORIGIN],
			   ix->c.padded, &r.q);
	for (size_t i = 0; i < n; i += SCAN_BLOCK)
		refine_block(ix, s->rotated, &r, rows + i,
			     VF_MIN((size_t)SCAN_BLOCK, n - i));
	return 0;
}
