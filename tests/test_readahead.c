/* Which reads are sequential, and how far ahead of them to read. */
#include "store/readahead.h"
#include "tests/test.h"

enum { PIECE = 128 << 10 };

static const uint64_t GIB = 1 << 30;

/* What came of many reads: ranges must lie in the file, each begun once. */
struct log {
	struct vf_readahead r;
	uint64_t size, max_window;
	unsigned n;	    /* times something was wanted */
	uint64_t off, len;  /* of the last one */
	uint64_t sum, most; /* of lengths */
};

static bool feed(struct log *l, uint64_t off, size_t len)
{
	uint64_t from = UINT64_MAX, n = 0;

	if (!vf_readahead_note(&l->r, off, len, l->size, l->max_window, &from,
			       &n))
		return false;
	CU_ASSERT(n > 0 && from < l->size && n <= l->size - from);
	CU_ASSERT(n <= l->max_window);
	l->n++;
	l->off = from;
	l->len = n;
	l->sum += n;
	l->most = VF_MAX(l->most, n);
	return true;
}

static void feed_run(struct log *l, uint64_t from, uint64_t to)
{
	for (uint64_t off = from; off < to; off += PIECE)
		feed(l, off, (size_t)VF_MIN(to - off, (uint64_t)PIECE));
}

static void a_sequence_is_read_ahead(void)
{
	struct log l = {.size = GIB, .max_window = 64 << 20};

	feed(&l, 0, PIECE);
	CU_ASSERT_EQUAL(l.n, 0);
	feed_run(&l, PIECE, 1 << 20);
	CU_ASSERT(l.n > 0);
	CU_ASSERT(l.off >= 3 * PIECE);
}

static void every_byte_is_asked_for_once(void)
{
	struct log l = {.size = GIB, .max_window = 16 << 20};
	uint64_t end = 0;

	for (uint64_t off = 0; off < GIB; off += PIECE)
		if (feed(&l, off, PIECE)) {
			CU_ASSERT(!end || l.off == end);
			CU_ASSERT(l.off >= off + PIECE);
			end = l.off + l.len;
		}
	CU_ASSERT_EQUAL(end, GIB);
}

static void the_window_doubles_up_to_its_limit(void)
{
	struct log l = {.size = GIB, .max_window = 8 << 20};
	uint64_t first;

	for (uint64_t off = 0; !l.n; off += PIECE)
		feed(&l, off, PIECE);
	first = l.len;
	CU_ASSERT(first <= 2 << 20);
	feed_run(&l, PIECE * 3, 200 << 20);
	CU_ASSERT(l.most > first);
	CU_ASSERT(l.most <= 8 << 20);
	/* once it is full, a half of it is asked for at a time */
	CU_ASSERT(l.n >= (180 << 20) / (8 << 20));
	CU_ASSERT(l.n <= (200 << 20) / (4 << 20) + 8);
}

static void what_is_ahead_is_never_more_than_the_window(void)
{
	struct log l = {.size = GIB, .max_window = 4 << 20};

	for (uint64_t off = 0; off < 100 << 20; off += PIECE)
		if (feed(&l, off, PIECE))
			CU_ASSERT(l.off + l.len <= off + PIECE + (4 << 20));
}

static void random_reads_give_nothing(void)
{
	static const size_t lens[] = {4096, PIECE, 1 << 20};
	uint64_t seed = 3;

	for (size_t k = 0; k < VF_N(lens); k++) {
		struct log l = {.size = 64 * GIB, .max_window = 64 << 20};
		for (unsigned i = 0; i < 5000; i++)
			feed(&l, vf_test_rand(&seed) % (64 * GIB - lens[k]),
			     lens[k]);
		/* neighbours by chance */
		CU_ASSERT(l.n <= (lens[k] < 1 << 20 ? 0 : 10));
	}
}

static void one_large_read_is_no_sequence(void)
{
	struct log l = {.size = GIB, .max_window = 64 << 20};

	CU_ASSERT(!feed(&l, 0, 4 << 20));
	CU_ASSERT(!feed(&l, 100 << 20, 4 << 20));
	CU_ASSERT(feed(&l, 104 << 20, 4 << 20));
	CU_ASSERT_EQUAL(l.off, 108 << 20);
}

static void reading_backwards_gives_nothing(void)
{
	struct log l = {.size = GIB, .max_window = 64 << 20};

	for (uint64_t off = GIB; off > 0; off -= PIECE)
		feed(&l, off - PIECE, PIECE);
	CU_ASSERT_EQUAL(l.n, 0);
}

static void the_same_place_again_and_again_gives_nothing(void)
{
	struct log l = {.size = GIB, .max_window = 64 << 20};

	for (unsigned i = 0; i < 1000; i++)
		feed(&l, 5 << 20, PIECE);
	CU_ASSERT_EQUAL(l.n, 0);
}

static void regions_are_streams_of_their_own(void)
{
	struct log l = {.size = 16 * GIB, .max_window = 4 << 20};
	unsigned n_region[VF_STREAMS] = {0};

	for (uint64_t off = 0; off < 32 << 20; off += PIECE)
		for (unsigned i = 0; i < VF_STREAMS; i++)
			if (feed(&l, i * GIB + off, PIECE)) {
				CU_ASSERT_EQUAL(l.off / GIB, i);
				n_region[i]++;
			}
	for (unsigned i = 0; i < VF_STREAMS; i++)
		CU_ASSERT(n_region[i] >= 5);
}

static void order_may_be_a_little_wrong(void)
{
	struct log l = {.size = GIB, .max_window = 16 << 20};
	uint64_t end = 0;

	feed_run(&l, 0, 2 << 20);
	CU_ASSERT(l.n > 0);
	end = l.off + l.len;
	for (uint64_t off = 2 << 20; off < 200 << 20; off += 4 * PIECE) {
		static const unsigned order[] = {2, 0, 3, 1};
		for (size_t i = 0; i < VF_N(order); i++)
			if (feed(&l, off + order[i] * PIECE, PIECE)) {
				CU_ASSERT_EQUAL(l.off, end);
				end = l.off + l.len;
			}
	}
	CU_ASSERT(end >= 200 << 20);
}

static void random_reads_between_do_not_end_a_stream(void)
{
	struct log l = {.size = 64 * GIB, .max_window = 8 << 20};
	uint64_t seed = 9, end;

	feed_run(&l, 0, 8 << 20);
	CU_ASSERT(l.n > 0);
	end = l.off + l.len;
	for (uint64_t off = 8 << 20; off < 64 << 20; off += PIECE) {
		for (unsigned i = 0; i < 200; i++)
			CU_ASSERT(!feed(&l,
					GIB + vf_test_rand(&seed) % (60 * GIB),
					4096));
		if (feed(&l, off, PIECE)) {
			CU_ASSERT_EQUAL(l.off, end);
			end = l.off + l.len;
		}
	}
	CU_ASSERT(end >= 64 << 20);
}

static void nothing_beyond_the_end(void)
{
	struct log l = {.size = (3 << 20) + 17, .max_window = 64 << 20};

	feed_run(&l, 0, l.size);
	CU_ASSERT(l.n > 0);
	CU_ASSERT_EQUAL(l.off + l.len, l.size);
	l = (struct log){.size = 1000, .max_window = 64 << 20};
	CU_ASSERT(!feed(&l, 0, 1000));
	CU_ASSERT(!feed(&l, 1000, 0));
	l = (struct log){.size = 0, .max_window = 64 << 20};
	CU_ASSERT(!feed(&l, 0, 0));
}

static void without_a_window_nothing(void)
{
	struct log l = {.size = GIB, .max_window = 0};

	feed_run(&l, 0, 16 << 20);
	CU_ASSERT_EQUAL(l.n, 0);
}

static void a_stream_that_jumps_begins_anew(void)
{
	struct log l = {.size = GIB, .max_window = 64 << 20};

	feed_run(&l, 0, 64 << 20);
	unsigned n = l.n;
	CU_ASSERT(!feed(&l, 512 << 20, PIECE));
	CU_ASSERT_EQUAL(l.n, n);
	feed_run(&l, (512 << 20) + PIECE, (512 << 20) + 8 * PIECE);
	CU_ASSERT(l.n > n);
	CU_ASSERT(l.off > 512 << 20 && l.off < 516 << 20);
}

static CU_TestInfo tests[] = {
	{"a sequence is read ahead", a_sequence_is_read_ahead},
	{"every byte is asked for once", every_byte_is_asked_for_once},
	{"the window doubles up to its limit",
	 the_window_doubles_up_to_its_limit},
	{"what is ahead is never more than the window",
	 what_is_ahead_is_never_more_than_the_window},
	{"random reads give nothing", random_reads_give_nothing},
	{"one large read is no sequence", one_large_read_is_no_sequence},
	{"reading backwards gives nothing", reading_backwards_gives_nothing},
	{"the same place again and again gives nothing",
	 the_same_place_again_and_again_gives_nothing},
	{"regions are streams of their own", regions_are_streams_of_their_own},
	{"order may be a little wrong", order_may_be_a_little_wrong},
	{"random reads between do not end a stream",
	 random_reads_between_do_not_end_a_stream},
	{"nothing beyond the end", nothing_beyond_the_end},
	{"without a window nothing", without_a_window_nothing},
	{"a stream that jumps begins anew", a_stream_that_jumps_begins_anew},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/readahead", tests);
