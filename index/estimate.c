/*
 * Distances of the rows of one shard, estimated: by 1 bit leaf by leaf, for one
 * query or for several in one pass, and again by all bits.
 */
#include "index/index_impl.h"
#include "index/kernels.h"
#include "index/refine.h"
#include "index/scratch.h"

#include <math.h>

enum {
	SPARSE = 4,	      /* a leaf of so many times the rows wanted */
	SCAN_BLOCK = 64,      /* rows whose counts are kept between two loops */
	SHARED_ROWS = 256,    /* that stay in cache for all who visit them */
	MAPPED_ROWS = 8,      /* whose codes are copied at once to be refined */
	LEAVES_PER_PART = 16, /* fewer would be too unlike in rows */
};

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
static float leaf_base(const struct vf_index *ix,
		       const struct vf_scan_scratch *s, uint32_t i)
{
	struct vf_fine_leaf at;

	if (!ix->tree)
		return s->code.base;
	vf_tree_measure(ix->tree, &s->fine, leaf_ids(ix)[i], &at);
	return (float)at.base;
}

/* A shard that follows a tree is of no use without. */
static int check_tree(const struct vf_index *ix)
{
	return ix->c.follows_tree && !ix->tree ? -EINVAL : 0;
}

/* Code the query; and by more bits, for who measures leaves. */
static int code_query(const struct vf_index *ix, const float *q,
		      struct vf_scan_scratch *s, bool measures)
{
	struct vf_frame f = frame_of(ix);
	int err = check_tree(ix);

	if (!err)
		err = vf_scan_quantize(s, &f, q);
	if (!err && measures && ix->tree)
		err = vf_scan_refine(s, &f, q);
	return err;
}

/* A block of a mapped shard. */
struct block {
	uint8_t codes[SCAN_BLOCK * VF_DIM_MAX / 8];
	struct vf_factors factors[SCAN_BLOCK];
};

void vf_index_push_near(const struct vf_index *ix,
			const struct vf_code_block *b,
			const struct vf_query_code *qc, struct vf_topk *top)
{
	uint32_t counts[SCAN_BLOCK];
	float d[SCAN_BLOCK];
	uint64_t near;

	vf_kernels()->b1q4(b->codes, b->n, ix->c.padded / 64, qc->planes,
			   counts);
	near = vf_kernels()->estimate(qc, b->factors, counts, b->n,
				      vf_topk_limit(top), d);
	for (; near; near &= near - 1) {
		unsigned j = (unsigned)__builtin_ctzll(near);
		vf_topk_push(top, vf_within_float(d[j]),
			     b->ids ? b->ids[j] : b->first + j);
	}
}

/*
 * Estimate @n rows, at most SCAN_BLOCK.  Returns 0; -EREMOTEIO a mapped shard
 * cannot be read.
 */
static int scan_rows(const struct vf_index *ix, uint64_t row, size_t n,
		     const struct vf_query_code *qc, uint64_t base,
		     struct vf_topk *top)
{
	size_t code_len = ix->c.padded / 8;
	struct block room;
	const uint8_t *codes =
		vf_index_rows(ix, VF_SEC_CODES, row, n, code_len, room.codes);
	const struct vf_factors *f = vf_index_rows(ix, VF_SEC_FACTORS, row, n,
						   sizeof(*f), room.factors);

	if (!codes || !f)
		return -EREMOTEIO;
	const struct vf_code_block b = {codes, f, NULL, base + row, n};
	vf_index_push_near(ix, &b, qc, top);
	return 0;
}

/*
 * Estimate rows of one leaf for one query; adds to @n_wanted how many of them
 * are not skipped.
 */
static int scan_run(const struct vf_index *ix, uint64_t row, uint64_t end,
		    const struct vf_query_code *qc, uint64_t base,
		    struct vf_topk *top, uint64_t *n_wanted)
{
	uint64_t n = vf_topk_count(top, base + row, end - row);
	int err = 0;

	*n_wanted += n;
	if (n * SPARSE <= end - row)
		return n ? vf_index_scan_wanted(ix, row, end, qc, base, top)
			 : 0;
	for (; !err && row < end; row += SCAN_BLOCK)
		err = scan_rows(ix, row,
				VF_MIN((uint64_t)SCAN_BLOCK, end - row), qc,
				base, top);
	return err;
}

/* Estimate the rows of leaf @i. */
static int scan_leaf(const struct vf_index *ix, uint32_t i,
		     const struct vf_query_code *qc, uint64_t base,
		     struct vf_topk *top)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	uint64_t first = leaf[i].first_row, n_wanted = 0;

	return scan_run(ix, first, first + leaf[i].n_rows, qc, base, top,
			&n_wanted);
}

int vf_index_scan(const struct vf_index *ix, const float *q,
		  struct vf_scan_scratch *s, uint64_t base, struct vf_topk *top)
{
	int err = code_query(ix, q, s, true);

	if (err)
		return err;
	struct vf_query_code qc = s->code;

	for (uint32_t i = 0; !err && i < ix->c.n_leaves; i++) {
		qc.base = leaf_base(ix, s, i);
		err = scan_leaf(ix, i, &qc, base, top);
	}
	return err;
}

uint32_t vf_index_tree_leaf(const struct vf_index *ix, uint32_t id)
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
	int err = ix->tree ? code_query(ix, q, s, false) : -EINVAL;

	*out_rows = 0;
	if (err)
		return err;
	struct vf_query_code qc = s->code;
	for (uint32_t i = 0; !err && i < n; i++) {
		uint32_t at = vf_index_tree_leaf(ix, probes[i].leaf);
		if (at == ix->c.n_leaves)
			continue;
		qc.base = probes[i].base;
		err = scan_leaf(ix, at, &qc, base, top);
		*out_rows += leaf[at].n_rows;
	}
	return err;
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

/*
 * A part is some of the leaves, since each costs something whatever it has of
 * rows; of few leaves it is some rows of each.
 */
static bool splits_leaves(const struct vf_index *ix, struct vf_scan_part part)
{
	return ix->c.n_leaves / LEAVES_PER_PART >= part.of;
}

static bool is_leaf_wanted(const struct vf_index *ix, uint64_t base,
			   uint32_t leaf, const struct vf_topk *top)
{
	const struct vf_leaf_disk *l = ix->c.section[VF_SEC_LEAVES];

	return vf_topk_wants(top, base + l[leaf].first_row, l[leaf].n_rows);
}

/* The visits of one job to @out; returns how many. */
static size_t list_visits(const struct vf_index *ix, uint64_t base,
			  struct vf_scan_part part, const struct vf_scan_job *j,
			  uint32_t job, struct visit *out)
{
	uint32_t n = has_probes(ix, j) ? j->n_probes : ix->c.n_leaves;
	size_t n_out = 0;

	if (!splits_leaves(ix, part))
		part = (struct vf_scan_part){0, 1};
	for (uint32_t i = part.number; i < n; i += part.of) {
		struct visit v = {i, job, 0};
		if (has_probes(ix, j)) {
			v.leaf = vf_index_tree_leaf(ix, j->probes[i].leaf);
			v.base = j->probes[i].base;
		} else if (is_leaf_wanted(ix, base, i, j->top)) {
			v.base = leaf_base(ix, j->scratch, i);
		} else {
			continue;
		}
		if (v.leaf < ix->c.n_leaves)
			out[n_out++] = v;
	}
	return n_out;
}

/* Rows of one leaf for all who visit it. */
static int scan_visits(const struct vf_index *ix, uint64_t base,
		       struct vf_scan_part part, struct vf_scan_job *jobs,
		       const struct visit *v, size_t n)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	uint64_t rows = leaf[v->leaf].n_rows, first = leaf[v->leaf].first_row;
	uint64_t row = first + rows * part.number / part.of;
	uint64_t end = first + rows * (part.number + 1) / part.of;
	uint64_t step = n > 1 ? (uint64_t)SHARED_ROWS : end - row;
	int err = 0;

	for (; !err && row < end; row += step)
		for (size_t i = 0; !err && i < n; i++) {
			struct vf_scan_job *j = &jobs[v[i].job];
			struct vf_query_code qc = j->scratch->code;
			qc.base = v[i].base;
			err = scan_run(ix, row, VF_MIN(row + step, end), &qc,
				       base, j->top, &j->n_rows);
		}
	return err;
}

static int quantize_jobs(const struct vf_index *ix, struct vf_scan_job *jobs,
			 size_t n, size_t *out_n_visits)
{
	int err = 0;

	*out_n_visits = 0;
	for (size_t i = 0; !err && i < n; i++) {
		err = code_query(ix, jobs[i].q, jobs[i].scratch,
				 !has_probes(ix, &jobs[i]));
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
		n_visits += list_visits(ix, base, part, &jobs[i], (uint32_t)i,
					v + n_visits);
	if (splits_leaves(ix, part))
		part = (struct vf_scan_part){0, 1};
	/* One query's order, nearest leaf first, fills its heap sooner. */
	if (n > 1)
		qsort(v, n_visits, sizeof(*v), compare_visits);
	for (size_t i = 1; !err && i <= n_visits; i++)
		if (i == n_visits || v[i].leaf != v[first].leaf) {
			err = scan_visits(ix, base, part, jobs, v + first,
					  i - first);
			first = i;
		}
	return err;
}

int vf_index_scan_hamming(const struct vf_index *ix, const float *q,
			  struct vf_scan_scratch *s, uint64_t base,
			  struct vf_topk *top)
{
	const struct vf_codes *c = &ix->c;
	size_t code_len = c->padded / 8;
	struct block room;
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
		const uint8_t *codes = vf_index_rows(ix, VF_SEC_CODES, row, n,
						     code_len, room.codes);
		if (!codes)
			return -EREMOTEIO;
		vf_kernels()->hamming(codes, n, c->padded / 64, s->planes,
				      counts);
		for (size_t i = 0; i < n; i++)
			if ((float)counts[i] <= vf_topk_limit(top))
				vf_topk_push(top, (float)counts[i],
					     base + row + i);
	}
	return 0;
}

/* ---- refining -------------------------------------------------------------------------- */

/* The last that begins at or before it. */
uint32_t vf_index_row_leaf(const struct vf_index *ix, uint64_t row)
{
	const struct vf_leaf_disk *leaf = ix->c.section[VF_SEC_LEAVES];
	uint32_t lo = 0, hi = ix->c.n_leaves;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (leaf[mid].first_row <= row)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* What refine keeps from block to block. */
struct refining {
	const struct vf_scan_scratch *s;
	struct vf_fine_leaf at;
	uint32_t leaf; /* that @at is of; UINT32_MAX: none yet */
};

static void measure_leaf(const struct vf_index *ix,
			 const struct vf_scan_scratch *s, uint32_t leaf,
			 struct vf_fine_leaf *out)
{
	const float *centroids = ix->c.section[VF_SEC_CENTROIDS];

	if (ix->tree)
		vf_tree_measure(ix->tree, &s->fine, leaf_ids(ix)[leaf], out);
	else
		vf_fine_leaf_make(ix->c.metric, s->rotated,
				  centroids + (size_t)leaf * ix->c.padded,
				  ix->c.padded, out);
}

/* What is known of the rows of a block, in its order. */
struct fine_block {
	struct vf_factors scan[SCAN_BLOCK];
	struct vf_extra_factors fine[SCAN_BLOCK];
	int64_t dots[SCAN_BLOCK];
	/* Of a mapped shard, MAPPED_ROWS at a time. */
	uint8_t codes[MAPPED_ROWS * VF_DIM_MAX / 8];
	uint8_t extra[MAPPED_ROWS * (VF_BITS_MAX - 1) * VF_DIM_MAX / 8];
};

static int read_factors(const struct vf_index *ix, uint32_t bits,
			const struct vf_refined *rows, size_t n,
			struct fine_block *b)
{
	const size_t len = sizeof(struct vf_factors),
		     fine_len = sizeof(struct vf_extra_factors);

	for (size_t i = 0; i < n; i++) {
		const void *p = vf_index_rows(ix, VF_SEC_FACTORS, rows[i].row,
					      1, len, &b->scan[i]);
		if (!p)
			return -EREMOTEIO;
		memmove(&b->scan[i], p, len);
		/* 1-bit factors say the same of 1-bit codes. */
		b->fine[i] = (struct vf_extra_factors){
			b->scan[i].add, b->scan[i].mul, b->scan[i].err, 0};
		if (bits == 1)
			continue;
		p = vf_index_rows(ix, VF_SEC_EXTRA_FACTORS, rows[i].row, 1,
				  fine_len, &b->fine[i]);
		if (!p)
			return -EREMOTEIO;
		memmove(&b->fine[i], p, fine_len);
	}
	return 0;
}

/* Rows of a mapped shard, at most MAPPED_ROWS, side by side. */
static int gather_codes(const struct vf_index *ix,
			const struct vf_refined *rows, size_t n,
			struct fine_block *b)
{
	size_t len = ix->c.padded / 8, extra_len = (ix->c.bits - 1) * len;

	for (size_t i = 0; i < n; i++)
		if (!vf_index_rows(ix, VF_SEC_CODES, rows[i].row, 1, len,
				   b->codes + i * len) ||
		    (extra_len &&
		     !vf_index_rows(ix, VF_SEC_EXTRA_CODES, rows[i].row, 1,
				    extra_len, b->extra + i * extra_len)))
			return -EREMOTEIO;
	return 0;
}

/* b->dots of all rows of a block. */
static int multiply_block(const struct vf_index *ix, uint32_t bits,
			  const int16_t *q, const struct vf_refined *rows,
			  size_t n, struct fine_block *b)
{
	size_t step = ix->copy ? MAPPED_ROWS : SCAN_BLOCK;
	const void *codes = ix->c.section[VF_SEC_CODES],
		   *extra = ix->c.section[VF_SEC_EXTRA_CODES];
	uint32_t numbers[SCAN_BLOCK];
	int err = 0;

	for (size_t i = 0; !err && i < n; i += step) {
		size_t m = VF_MIN(step, n - i);
		if (ix->copy)
			err = gather_codes(ix, rows + i, m, b);
		for (size_t j = 0; j < m; j++)
			numbers[j] = ix->copy ? (uint32_t)j : rows[i + j].row;
		const struct vf_bit_rows r = {.codes = ix->copy ? b->codes
								: codes,
					      .extra = ix->copy ? b->extra
						       : extra	? extra
								: codes,
					      .rows = numbers,
					      .n = m,
					      .words = ix->c.padded / 64,
					      .n_extra = bits - 1};
		if (!err)
			vf_kernels()->bits_i16(&r, q, b->dots + i);
	}
	return err;
}

/* Rows of one number of bits. */
static int refine_block(const struct vf_index *ix, struct refining *r,
			struct vf_refined *rows, size_t n)
{
	uint32_t bits = rows->bits;
	struct fine_block b;
	int err = read_factors(ix, bits, rows, n, &b);

	if (!err)
		err = multiply_block(ix, bits, r->s->fine.q, rows, n, &b);
	for (size_t i = 0; !err && i < n; i++) {
		uint32_t leaf = vf_index_row_leaf(ix, rows[i].row);
		if (leaf != r->leaf)
			measure_leaf(ix, r->s, leaf, &r->at);
		r->leaf = leaf;
		rows[i].dist = vf_within_float(vf_fine_estimate(
			&r->s->fine, &r->at, &b.fine[i], bits, b.dots[i]));
		rows[i].err = vf_within_float(
			hypot(b.fine[i].err * r->at.distance, r->at.err));
		rows[i].scan_err =
			vf_within_float(b.scan[i].err * r->at.distance);
	}
	return err;
}

/* Rows of a mapped shard lie apart: read together, they cost one wait. */
static void want_extra(const struct vf_index *ix, const struct vf_refined *rows,
		       size_t n)
{
	size_t len = (ix->c.bits - 1) * (ix->c.padded / 8);

	for (size_t i = 0; ix->want && len && i < n; i++) {
		vf_index_want(ix, VF_SEC_EXTRA_FACTORS, rows[i].row, 1,
			      sizeof(struct vf_extra_factors));
		vf_index_want(ix, VF_SEC_EXTRA_CODES, rows[i].row, 1, len);
	}
}

int vf_index_refine(const struct vf_index *ix, const float *q,
		    struct vf_scan_scratch *s, struct vf_refined *rows,
		    size_t n)
{
	struct refining r = {.s = s, .leaf = UINT32_MAX};
	struct vf_frame f = frame_of(ix);
	int err = check_tree(ix);

	if (!err)
		err = vf_scan_refine(s, &f, q);
	if (err)
		return err;
	want_extra(ix, rows, n);
	for (size_t i = 0; i < n; i++)
		rows[i].bits = vf_lazy_has_extra(
				       ix, vf_index_row_leaf(ix, rows[i].row))
				       ? ix->c.bits
				       : 1;
	for (size_t i = 0, m; !err && i < n; i += m) {
		m = 1;
		while (m < SCAN_BLOCK && i + m < n &&
		       rows[i + m].bits == rows[i].bits)
			m++;
		err = refine_block(ix, &r, rows + i, m);
	}
	return err;
}
