/*
 * Times every kernel variant this CPU has against the scalar reference and
 * against memcpy of the same run, then the two loops that users feel: coding
 * rows and scanning a shard.  Best of several repetitions, one core.
 *
 * Bytes are those of the rows or codes that go in; a memcpy's are those it
 * copies.  Input is larger than the second-level cache, so that a kernel at
 * 1 x memcpy or more waits for memory, not for arithmetic.
 */
#include "index/encoder.h"
#include "index/index.h"
#include "index/kernels.h"

#include <stdio.h>

enum { DIM = 1024, WORDS = DIM / 64, ROWS = 8192, SCAN_ROWS = 1000000 };

struct load {
	float *x; /* [ROWS][DIM] */
	uint16_t *half;
	uint8_t *codes; /* [SCAN_ROWS][DIM / 8] */
	uint64_t planes[4 * WORDS];
	uint32_t *counts; /* [SCAN_ROWS] */
	double dot[ROWS], sq[ROWS];
	float *work; /* [DIM] */
};

typedef void run_fn(const struct vf_kernels *k, struct load *l);

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static void run_b1q4(const struct vf_kernels *k, struct load *l)
{
	k->b1q4(l->codes, SCAN_ROWS, WORDS, l->planes, l->counts);
}

static void run_hamming(const struct vf_kernels *k, struct load *l)
{
	k->hamming(l->codes, SCAN_ROWS, WORDS, l->planes, l->counts);
}

/* 5 bits: the codes of four rows serve as one row's extra bits. */
static void run_bits_i16(const struct vf_kernels *k, struct load *l)
{
	int64_t dots[ROWS];
	uint32_t rows[ROWS];
	int16_t q[DIM];
	const struct vf_bit_rows r = {.codes = l->codes,
				      .extra = l->codes,
				      .rows = rows,
				      .n = ROWS,
				      .words = WORDS,
				      .n_extra = 4};

	for (int i = 0; i < DIM; i++)
		q[i] = (int16_t)(i * 31 - 16000);
	for (uint32_t i = 0; i < ROWS; i++)
		rows[i] = i;
	k->bits_i16(&r, q, dots);
	l->counts[0] = (uint32_t)dots[0];
}

static void run_dot_f32(const struct vf_kernels *k, struct load *l)
{
	k->dot_f32(l->x, l->x, ROWS, DIM, l->dot, l->sq);
}

static void run_dot_f16(const struct vf_kernels *k, struct load *l)
{
	k->dot_f16(l->x, l->half, ROWS, DIM, l->dot, l->sq);
}

static void run_l2sq_f32(const struct vf_kernels *k, struct load *l)
{
	k->l2sq_f32(l->x, l->x, ROWS, DIM, l->dot);
}

static void run_l2sq_f16(const struct vf_kernels *k, struct load *l)
{
	k->l2sq_f16(l->x, l->half, ROWS, DIM, l->dot);
}

static const float *row(const struct load *l, int i)
{
	return l->x + (size_t)i * DIM;
}

static void run_wht(const struct vf_kernels *k, struct load *l)
{
	for (int i = 0; i < ROWS; i++) {
		memcpy(l->work, row(l, i), DIM * sizeof(float));
		k->wht_f32(l->work, DIM);
	}
}

static void run_flip(const struct vf_kernels *k, struct load *l)
{
	for (int i = 0; i < ROWS; i++) {
		memcpy(l->work, row(l, i), DIM * sizeof(float));
		k->flip_f32(l->work, l->x, DIM);
	}
}

static void run_butterfly(const struct vf_kernels *k, struct load *l)
{
	for (int i = 0; i < ROWS; i++) {
		memcpy(l->work, row(l, i), DIM * sizeof(float));
		k->butterfly_f32(l->work, DIM / 2);
	}
}

static void run_code(const struct vf_kernels *k, struct load *l)
{
	struct vf_residual r;

	for (int i = 0; i < ROWS; i++)
		k->code_f32(row(l, i), l->x, WORDS,
			    l->codes + (size_t)i * WORDS * 8, &r);
}

static void run_widen(const struct vf_kernels *k, struct load *l)
{
	for (int i = 0; i < ROWS; i++)
		k->widen_f16(l->half + (size_t)i * DIM, DIM, l->work);
}

static void run_narrow(const struct vf_kernels *k, struct load *l)
{
	for (int i = 0; i < ROWS; i++)
		k->narrow_f32(row(l, i), DIM, l->half + (size_t)i * DIM);
}

/* The yardstick: @k is not used. */
static void run_memcpy(const struct vf_kernels *k, struct load *l)
{
	size_t half = (size_t)SCAN_ROWS * WORDS * 8 / 2;

	memcpy(l->codes, l->codes + half, half);
}

static const struct {
	const char *name;
	run_fn *run;
	double rows, row_len; /* bytes of a row */
} ops[] = {
	{"b1q4", run_b1q4, SCAN_ROWS, DIM / 8},
	{"hamming", run_hamming, SCAN_ROWS, DIM / 8},
	{"bits_i16, 5", run_bits_i16, ROWS, DIM * 5 / 8},
	{"dot_f32", run_dot_f32, ROWS, DIM * 4},
	{"dot_f16", run_dot_f16, ROWS, DIM * 2},
	{"l2sq_f32", run_l2sq_f32, ROWS, DIM * 4},
	{"l2sq_f16", run_l2sq_f16, ROWS, DIM * 2},
	{"wht_f32", run_wht, ROWS, DIM * 4},
	{"flip_f32", run_flip, ROWS, DIM * 4},
	{"butterfly_f32", run_butterfly, ROWS, DIM * 4},
	{"code_f32", run_code, ROWS, DIM * 4},
	{"widen_f16", run_widen, ROWS, DIM * 2},
	{"narrow_f32", run_narrow, ROWS, DIM * 4},
};

static double best_ns(run_fn *run, const struct vf_kernels *k, struct load *l)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		uint64_t t = vf_now_ns();
		run(k, l);
		t = vf_now_ns() - t;
		best = VF_MIN(best, t);
	}
	return (double)best;
}

/* @ref_ns  of the scalar reference; @memcpy_bw  bytes in a nanosecond */
static void print_op(size_t i, const char *variant, double ns, double ref_ns,
		     double memcpy_bw)
{
	double bw = ops[i].rows * ops[i].row_len / ns;

	printf("%-13s %-16s %10.1f %8.1f %8.1f %8.2f\n", ops[i].name, variant,
	       ns / ops[i].rows, bw, ref_ns / ns, bw / memcpy_bw);
}

static void bench_ops(struct load *l)
{
	static const char *const names[] = {"avx2", "avx512", "avx512vpopcntdq",
					    "neon"};
	const struct vf_kernels *scalar = vf_kernels_named("scalar");
	double copied = (double)SCAN_ROWS * WORDS * 8 / 2;
	double memcpy_bw = copied / best_ns(run_memcpy, scalar, l);

	printf("memcpy of %.0f MiB: %.1f GB/s\n\n", copied / (1 << 20),
	       memcpy_bw);
	printf("%-13s %-16s %10s %8s %8s %8s\n", "kernel", "variant",
	       "ns per row", "GB/s", "x scalar", "x memcpy");
	for (size_t i = 0; i < VF_N(ops); i++) {
		double ref = best_ns(ops[i].run, scalar, l);
		print_op(i, "scalar", ref, ref, memcpy_bw);
		for (size_t j = 0; j < VF_N(names); j++) {
			const struct vf_kernels *k = vf_kernels_named(names[j]);
			if (k)
				print_op(i, names[j], best_ns(ops[i].run, k, l),
					 ref, memcpy_bw);
		}
	}
	printf("\n");
}

/* A shard of 262144 rows, as open and scan see it. */
static int bench_shard(const struct vf_encoder *e, const struct load *l,
		       const struct vf_factors *f)
{
	enum { CODE_LEN = DIM / 8, N = VF_SHARD_ROWS_MAX };
	VF_AUTO_BUF struct vf_buf file = {0};
	struct vf_builder_row *rows = calloc(ROWS, sizeof(*rows));
	struct vf_scan_scratch *s = NULL;
	struct vf_builder *b = NULL;
	struct vf_index *ix = NULL;
	struct vf_hit hits[100];
	const char *reason;
	int err = rows ? vf_builder_new(e, VF_F32, &b) : -ENOMEM;

	for (size_t i = 0; !err && i < ROWS; i++)
		rows[i].line_len = 1;
	for (size_t i = 0; !err && i < N; i += ROWS)
		err = vf_builder_add(b, l->codes, f, rows, ROWS);
	if (!err)
		err = vf_builder_finish(b, &file);
	vf_builder_free(b);
	free(rows);
	uint64_t t = vf_now_ns();
	if (!err)
		err = vf_index_open(file.data, file.len, &ix, &reason);
	printf("open one shard of %d rows: %.1f ms\n", N,
	       (double)(vf_now_ns() - t) / 1e6);
	file = (struct vf_buf){0}; /* taken over */
	if (!err)
		err = vf_scan_scratch_new(DIM, &s);
	for (int i = 0; !err && i < 3; i++) {
		struct vf_topk top = {.hits = hits, .k = VF_N(hits)};
		t = vf_now_ns();
		err = vf_index_scan(ix, l->x, s, 0, &top);
		printf("scan it for 100: %.1f ms\n",
		       (double)(vf_now_ns() - t) / 1e6);
	}
	vf_scan_scratch_free(s);
	vf_index_close(ix);
	return err;
}

static int bench_encoder(struct load *l)
{
	static const uint32_t dims[] = {384, 768, 1024, 1536, 4096};
	struct vf_factors *f = malloc(ROWS * sizeof(*f));
	int err = f ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < VF_N(dims); i++) {
		struct vf_code_params p = {dims[i], VF_COSINE, 1, 1};
		size_t n = (size_t)ROWS * DIM / dims[i];
		struct vf_encoder *e;
		uint64_t best = UINT64_MAX;
		err = vf_encoder_new(&p, l->x, &e);
		n = VF_MIN(n, (size_t)ROWS);
		for (int j = 0; !err && j < 3; j++) {
			uint64_t t = vf_now_ns();
			err = vf_encoder_rows(e, l->x, n, l->codes, f);
			t = vf_now_ns() - t;
			best = VF_MIN(best, t);
		}
		printf("code rows of %u: %.2f us per row (%s)\n", dims[i],
		       (double)best / 1e3 / (double)n, vf_kernels()->name);
		if (!err && dims[i] == DIM)
			err = bench_shard(e, l, f);
		vf_encoder_free(e);
	}
	free(f);
	return err;
}

int main(void)
{
	struct load *l = calloc(1, sizeof(*l));
	uint64_t seed = 88172645463325252;

	if (!l)
		return 1;
	l->x = malloc(sizeof(float) * ROWS * DIM);
	l->half = malloc(sizeof(uint16_t) * ROWS * DIM);
	l->codes = malloc((size_t)SCAN_ROWS * DIM / 8);
	l->counts = malloc(SCAN_ROWS * sizeof(uint32_t));
	l->work = malloc(DIM * sizeof(float));
	if (!l->x || !l->half || !l->codes || !l->counts || !l->work)
		return 1;
	for (size_t i = 0; i < (size_t)ROWS * DIM; i++)
		l->x[i] = (float)(next_random(&seed) >> 40) / 8388608.f - 1;
	vf_kernels()->narrow_f32(l->x, (size_t)ROWS * DIM, l->half);
	for (size_t i = 0; i < (size_t)SCAN_ROWS * DIM / 8; i += 8)
		vf_put_le64(l->codes + i, next_random(&seed));
	for (size_t i = 0; i < VF_N(l->planes); i++)
		l->planes[i] = next_random(&seed);
	bench_ops(l);
	int err = bench_encoder(l);
	free(l->x);
	free(l->half);
	free(l->codes);
	free(l->counts);
	free(l->work);
	free(l);
	return err ? 1 : 0;
}
