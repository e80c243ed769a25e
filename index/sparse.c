/*
 * Where few rows of a leaf are wanted, nothing else is read: their codes are
 * brought together, so that a kernel prepares for the query once and not for
 * every row by itself.
 */
#include "index/index_impl.h"

enum { TOGETHER = 64 };

struct gathered {
	uint8_t codes[TOGETHER * VF_DIM_MAX / 8];
	struct vf_factors factors[TOGETHER];
	uint64_t ids[TOGETHER];
	size_t n;
};

static int gather_row(const struct vf_index *ix, uint64_t row, uint64_t id,
		      struct gathered *g)
{
	size_t len = ix->c.padded / 8;
	uint8_t *code = g->codes + g->n * len;
	struct vf_factors *f = &g->factors[g->n];
	const void *p = vf_index_rows(ix, VF_SEC_CODES, row, 1, len, code),
		   *q = vf_index_rows(ix, VF_SEC_FACTORS, row, 1, sizeof(*f),
				      f);

	if (!p || !q)
		return -EREMOTEIO;
	memmove(code, p, len);
	memmove(f, q, sizeof(*f));
	g->ids[g->n++] = id;
	return 0;
}

static void estimate_gathered(const struct vf_index *ix, struct gathered *g,
			      const struct vf_query_code *qc,
			      struct vf_topk *top)
{
	const struct vf_code_block b = {.codes = g->codes,
					.factors = g->factors,
					.ids = g->ids,
					.n = g->n};

	vf_index_push_near(ix, &b, qc, top);
	g->n = 0;
}

int vf_index_scan_wanted(const struct vf_index *ix, uint64_t row, uint64_t end,
			 const struct vf_query_code *qc, uint64_t base,
			 struct vf_topk *top)
{
	struct gathered g;
	int err = 0;

	g.n = 0;
	for (; row < end; row += 64) {
		uint64_t wanted = vf_topk_wanted(
			top, base + row, VF_MIN((uint64_t)64, end - row));
		for (; !err && wanted; wanted &= wanted - 1) {
			uint64_t at = row + (unsigned)__builtin_ctzll(wanted);
			err = gather_row(ix, at, base + at, &g);
			if (!err && g.n == TOGETHER)
				estimate_gathered(ix, &g, qc, top);
		}
	}
	if (!err && g.n)
		estimate_gathered(ix, &g, qc, top);
	return err;
}
