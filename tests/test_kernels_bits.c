/*
 * Kernels of codes of several bits against their definition: all lengths,
 * unaligned, ending at a page that may not be touched.
 */
#include "index/refine.h"
#include "tests/test.h"

#include <stdio.h>
#include <sys/mman.h>

enum { WORDS_MAX = 64, ROWS = 3 };

/* Bytes that end where reading on is a fault. */
static uint8_t *guarded_end(size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, len + page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + len, page, PROT_NONE))
		abort();
	return p + len;
}

static void free_guarded(uint8_t *end, size_t len)
{
	munmap(end - len, len + (size_t)sysconf(_SC_PAGESIZE));
}

enum { CODES = WORDS_MAX * 8 * 8, EXTRA = CODES * 7, QUERY = 8192 * 2 };

static void compare_lengths(const struct vf_kernels *k, const uint8_t *codes,
			    const uint8_t *extra, uint8_t *q_end)
{
	static const uint32_t rows[ROWS] = {2, 0, 1};
	int64_t got[ROWS], want[ROWS];

	for (size_t words = 1; words <= WORDS_MAX; words++)
		for (uint32_t e = 0; e < VF_BITS_MAX; e++) {
			size_t len = ROWS * words * 8;
			struct vf_bit_rows r = {codes - len, extra - len * e,
						rows,	     ROWS,
						words,	     e};
			const int16_t *q = (void *)(q_end - words * 128);
			k->bits_i16(&r, q, got);
			vf_bits_i16_scalar(&r, q, want);
			CU_ASSERT(!memcmp(got, want, sizeof(got)));
		}
}

static void compare_bytes(const struct vf_kernels *k, const uint8_t *end,
			  uint8_t *q_end)
{
	static const uint32_t rows[ROWS] = {2, 0, 1};
	int64_t got[ROWS], want[ROWS];

	for (size_t dim = 64; dim <= WORDS_MAX * 64; dim += 64) {
		const uint8_t *bytes = end - ROWS * dim;
		const int16_t *q = (void *)(q_end - dim * 2);
		k->bytes_i16(bytes, dim, rows, ROWS, q, got);
		vf_bytes_i16_scalar(bytes, dim, rows, ROWS, q, want);
		CU_ASSERT(!memcmp(got, want, sizeof(got)));
	}
}

static void compare_kernel(const struct vf_kernels *k)
{
	uint8_t *codes = guarded_end(CODES), *extra = guarded_end(EXTRA);
	uint8_t *q = guarded_end(QUERY);
	uint64_t seed = 1;

	for (size_t i = 1; i <= CODES; i++)
		codes[-(ptrdiff_t)i] = (uint8_t)vf_test_rand(&seed);
	for (size_t i = 1; i <= EXTRA; i++)
		extra[-(ptrdiff_t)i] = (uint8_t)vf_test_rand(&seed);
	for (int16_t *v = (void *)(q - QUERY); v < (int16_t *)q; v++)
		*v = (int16_t)(vf_test_rand(&seed) % 32767) - 16383;
	compare_lengths(k, codes, extra, q);
	compare_lengths(k, codes - 3, extra - 5, q - 2);
	compare_bytes(k, extra, q);
	compare_bytes(k, extra - 5, q - 2);
	free_guarded(codes, CODES);
	free_guarded(extra, EXTRA);
	free_guarded(q, QUERY);
}

static void variants_sum_alike(void)
{
	static const char *const names[] = {
#if defined(__aarch64__)
		"neon",
#else
		"avx2",
		"avx512",
#endif
	};

	for (size_t i = 0; i < VF_N(names); i++) {
		const struct vf_kernels *k = vf_kernels_named(names[i]);
		if (k)
			compare_kernel(k);
		else
			fprintf(stderr, "skipped: this CPU has no %s\n",
				names[i]);
	}
	compare_kernel(vf_kernels());
}

static void the_largest_sums_do_not_overflow(void)
{
	static uint8_t code[WORDS_MAX * 8], extra[WORDS_MAX * 8 * 7];
	static uint8_t bytes[WORDS_MAX * 64];
	static int16_t q[WORDS_MAX * 64];
	const struct vf_bit_rows r = {code, extra,     &(uint32_t){0},
				      1,    WORDS_MAX, 7};
	int64_t got;

	memset(code, 0xff, sizeof(code));
	memset(extra, 0xff, sizeof(extra));
	memset(bytes, 0xff, sizeof(bytes));
	for (int sign = -1; sign <= 1; sign += 2) {
		for (size_t i = 0; i < VF_N(q); i++)
			q[i] = (int16_t)(sign * 16383);
		vf_kernels()->bits_i16(&r, q, &got);
		CU_ASSERT_EQUAL(got, sign * INT64_C(255) * 16383 * 4096);
		vf_kernels()->bytes_i16(bytes, VF_N(bytes), r.rows, 1, q, &got);
		CU_ASSERT_EQUAL(got, sign * INT64_C(255) * 16383 * 4096);
	}
}

static CU_TestInfo tests[] = {{"variants sum alike", variants_sum_alike},
			      {"the largest sums do not overflow",
			       the_largest_sums_do_not_overflow},
			      CU_TEST_INFO_NULL};
VF_SUITE("index/kernels_bits", tests);
