/* What is fetched before a reader asks, and bytes given without a copy. */
#include "store/cache_impl.h"
#include "tests/fake_source.h"

enum {
	BLOCK = FAKE_BLOCK,
	PIECE = 64 << 10, /* a read, and the largest fetch */
	N = 2048,	  /* blocks of the object */
	MAX_AHEAD = 2,
};

struct rig {
	struct fake_server *s;
	struct vf_cache *c;
	struct vf_cached *o;
};

static void open_rig(struct rig *r, size_t n_blocks)
{
	struct vf_cache_options opt = {.ram_len = n_blocks * BLOCK,
				       .block_len = BLOCK,
				       .policy = "lru",
				       .fetch_len = PIECE,
				       .ahead_len = 2 << 20,
				       .max_ahead = MAX_AHEAD};

	r->s = fake_server_new(1);
	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &r->c), 0);
	r->o = fake_object(r->c, r->s, 1, (uint64_t)N * BLOCK, NULL);
}

static void close_rig(struct rig *r)
{
	vf_cached_put(r->o);
	vf_cache_stop(r->c);
	fake_server_free(r->s);
	vf_cache_close(r->c);
}

/* ---- held pieces --------------------------------------------------------------- */

static void held_pieces_are_the_bytes(void)
{
	struct vf_hold h;
	struct rig r;
	uint64_t at = 100;

	open_rig(&r, 64);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 8 * BLOCK), 0);
	CU_ASSERT_FATAL(vf_cached_hold(r.o, at, 5 * BLOCK, &h));
	CU_ASSERT_EQUAL(h.n, 6);
	for (int i = 0; i < h.n; i++) {
		CU_ASSERT(fake_is_right(1, at, h.iov[i].iov_base,
					h.iov[i].iov_len));
		at += h.iov[i].iov_len;
	}
	CU_ASSERT_EQUAL(at, 100 + 5 * BLOCK);
	vf_cached_release(&h);
	CU_ASSERT(vf_cached_hold(r.o, 50, 0, &h)); /* nothing is there */
	vf_cached_release(&h);
	close_rig(&r);
}

static void nothing_is_held_when_a_block_is_missing(void)
{
	struct vf_hold h;
	struct rig r;

	open_rig(&r, 64);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 2), 0);
	CU_ASSERT(!vf_cached_hold(r.o, 0, 3 * BLOCK, &h));
	CU_ASSERT_EQUAL(fake_server_started(r.s), 2);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 40 * BLOCK), 0);
	CU_ASSERT(!vf_cached_hold(r.o, 0, (VF_HOLD_MAX + 1) * BLOCK, &h));
	CU_ASSERT(vf_cached_hold(r.o, 0, VF_HOLD_MAX * BLOCK, &h));
	vf_cached_release(&h);
	vf_cached_drop(r.o, 0, 40 * BLOCK); /* no reference was left behind */
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, 0);
	close_rig(&r);
}

static void what_is_held_does_not_leave(void)
{
	struct vf_hold h;
	struct rig r;

	open_rig(&r, 16);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 2 * BLOCK), 0);
	CU_ASSERT_FATAL(vf_cached_hold(r.o, 0, 2 * BLOCK, &h));
	vf_cached_drop(r.o, 0, 2 * BLOCK);
	for (unsigned i = 100; i < 200; i += 3)
		CU_ASSERT_EQUAL(fake_read_block(r.o, i), 0);
	for (int i = 0; i < 2; i++)
		CU_ASSERT(fake_is_right(1, (uint64_t)i * BLOCK,
					h.iov[i].iov_base, BLOCK));
	unsigned before = fake_server_started(r.s);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 2 * BLOCK), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before);
	vf_cached_release(&h);
	vf_cached_drop(r.o, 0, 2 * BLOCK);
	CU_ASSERT_EQUAL(fake_read_block(r.o, 0), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before + 1);
	close_rig(&r);
}

/* ---- wishes --------------------------------------------------------------------------- */

static void a_wish_is_fetched_up_to_its_cap(void)
{
	struct vf_cached_info info;
	struct rig r;

	open_rig(&r, 512);
	fake_server_pause(r.s, true);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, 0, 10 * PIECE, 3), 3);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 3);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, 0, 3 * PIECE, 100), 0);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, 0, 10 * PIECE, 0), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 3);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 3 * PIECE), 0); /* joins them */
	CU_ASSERT_EQUAL(fake_server_started(r.s), 3);
	vf_cached_info(r.o, 0, 10 * PIECE, &info);
	CU_ASSERT(info.n_blocks == 160 && info.n_ram == 48);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, 0, 10 * PIECE, 100), 7);
	CU_ASSERT(fake_server_wait(r.s, 10));
	close_rig(&r);
}

static void a_wish_ends_with_the_object(void)
{
	const uint64_t size = (uint64_t)N * BLOCK;
	struct rig r;

	open_rig(&r, 512);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, size, 100, 9), 0);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, size + 77777, 100, 9), 0);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, size - 1, UINT64_MAX, 9), 1);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, size - 100, 0, 9), 0);
	CU_ASSERT_EQUAL(fake_read_block(r.o, N - 1), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 1);
	close_rig(&r);
}

static void a_wish_that_fails_is_not_kept(void)
{
	struct rig r;

	open_rig(&r, 64);
	fake_server_fail(r.s, 100);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, 0, PIECE, 9), 1);
	while (fake_stats(r.c).used_len)
		usleep(200);
	fake_server_fail(r.s, 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, PIECE), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 2);
	close_rig(&r);
}

/*
 * Symptom: an ioctl over a whole file left every reader without a block.
 * Cause: wishes took all blocks of the cache.
 */
static void wishes_leave_blocks_to_readers(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(4 * BLOCK);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, 16);
	fake_server_pause(r.s, true);
	CU_ASSERT(vf_cached_want(r.o, 0, 100 * BLOCK, 100) > 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, 12 * BLOCK);
	for (unsigned i = 0; i < 4; i++)
		vf_cached_read(r.o, (200 + 2ull * i) * BLOCK, BLOCK,
			       buf + i * BLOCK, fake_done, &w);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_bypass, 0);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 4), 0);
	close_rig(&r);
}

/*
 * Symptom: the same after memory became short.  Cause: a quarter of what the
 * cache had at first was left, which is more than it has now.
 */
static void wishes_leave_blocks_of_a_cache_that_shrank(void)
{
	struct rig r;

	open_rig(&r, 64);
	vf_cache_set_ram(r.c, 16 * BLOCK);
	fake_server_pause(r.s, true);
	CU_ASSERT(vf_cached_want(r.o, 0, 100 * BLOCK, 100) > 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, 12 * BLOCK);
	fake_server_pause(r.s, false);
	close_rig(&r);
}

/*
 * Symptom: memory beyond the RAM tier by as much as was wished for.  Cause:
 * blocks that lie apart are fetched through a buffer of their length.
 */
static void buffers_of_scattered_blocks_are_bounded(void)
{
	enum { LEN = 64 << 10, N_LARGE = 1024, MIB = 1 << 20 };
	struct vf_cache_options opt = {.ram_len = (size_t)N_LARGE * LEN,
				       .policy = "lru",
				       .ahead_len = 1};
	struct rig r = {.s = fake_server_new(1)};

	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &r.c), 0);
	r.o = fake_object(r.c, r.s, 1, (uint64_t)N_LARGE * LEN, NULL);
	for (unsigned i = 0; i < N_LARGE; i++)
		CU_ASSERT_EQUAL(fake_read(r.o, 1, (uint64_t)i * LEN, 1), 0);
	for (unsigned i = N_LARGE; i-- > 0;) /* the last block leaves first */
		CU_ASSERT_EQUAL(fake_read(r.o, 1, (uint64_t)i * LEN, 1), 0);
	vf_cached_put(r.o);
	r.o = fake_object(r.c, r.s, 2, (uint64_t)N_LARGE * LEN, NULL);
	fake_server_pause(r.s, true);
	CU_ASSERT(vf_cached_want(r.o, 0, 48 * MIB, 99) > 0);
	CU_ASSERT(r.c->bounce_len > 0 && r.c->bounce_len <= 32 * MIB);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_read(r.o, 2, 0, 48 * MIB), 0);
	vf_cached_put(r.o);
	fake_server_free(r.s);
	CU_ASSERT_EQUAL(r.c->bounce_len, 0);
	vf_cache_close(r.c);
}

/* ---- read-ahead ------------------------------------------------------------------------- */

/*
 * Reads that make the stream believed in; the last is under way and told to
 * @w, the server paused: the queue is full behind MAX_AHEAD fetches.
 */
static void start_stream(struct rig *r, uint8_t *buf, struct fake_wait *w)
{
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(fake_read(r->o, 1, i * PIECE, PIECE), 0);
	CU_ASSERT_EQUAL(fake_server_started(r->s), 4);
	fake_server_pause(r->s, true);
	vf_cached_read(r->o, 4 * PIECE, PIECE, buf, fake_done, w);
	CU_ASSERT_EQUAL(fake_server_started(r->s), 4 + 1 + MAX_AHEAD);
	CU_ASSERT_EQUAL(fake_stats(r->c).n_ahead, MAX_AHEAD);
}

/* In the queue: far from the reader, within the window. */
enum { QUEUED = 20 * PIECE };

static void read_ahead_keeps_to_its_limit(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(PIECE);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, N);
	start_stream(&r, buf, &w);
	CU_ASSERT_EQUAL(fake_server_off(r.s, 5), 5 * PIECE);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT(fake_is_right(1, 4 * PIECE, buf, PIECE));
	/* all of the first window comes, though nobody asks any more */
	struct vf_cached_info info = {0};
	for (unsigned i = 0; i < 10000 && info.n_ram < 592; i++) {
		usleep(500);
		vf_cached_info(r.o, 0, (uint64_t)N * BLOCK, &info);
	}
	CU_ASSERT_EQUAL(info.n_ram, (5 * PIECE + (2 << 20)) / BLOCK);
	unsigned before = fake_server_started(r.s);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 5 * PIECE, PIECE), 0);
	CU_ASSERT_EQUAL(fake_server_started(r.s), before);
	close_rig(&r);
}

static void all_is_fetched_once_and_right(void)
{
	struct vf_cache_stats s;
	struct rig r;

	open_rig(&r, 4 * N);
	for (unsigned i = 0; i < N * BLOCK / PIECE; i++)
		CU_ASSERT_EQUAL(fake_read(r.o, 1, (uint64_t)i * PIECE, PIECE),
				0);
	s = fake_stats(r.c);
	CU_ASSERT_EQUAL(s.bytes_fetched, (uint64_t)N * BLOCK);
	CU_ASSERT_EQUAL(s.bytes_asked, (uint64_t)N * BLOCK);
	CU_ASSERT(s.n_ahead > 0 && s.n_ahead < s.n_fetch);
	CU_ASSERT_EQUAL(s.n_evict + s.n_bypass, 0);
	close_rig(&r);
}

static void a_reader_makes_a_queued_fetch_go_first(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(2 * PIECE);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, N);
	start_stream(&r, buf, &w);
	vf_cached_read(r.o, QUEUED, BLOCK, buf + PIECE, fake_done, &w);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 4 + 1 + MAX_AHEAD + 1);
	uint64_t off = fake_server_off(r.s, 4 + 1 + MAX_AHEAD);
	CU_ASSERT(off <= QUEUED && off + PIECE > QUEUED);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_ahead, MAX_AHEAD);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 2), 0);
	CU_ASSERT(fake_is_right(1, QUEUED, buf + PIECE, BLOCK));
	close_rig(&r);
}

/*
 * Symptom: ranges told by ioctl waited behind all read-ahead.  Cause: blocks
 * already queued were taken for blocks under way.
 */
static void a_wish_makes_a_queued_fetch_go_first(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(PIECE);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, N);
	start_stream(&r, buf, &w);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, QUEUED, BLOCK, 0), 0);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, QUEUED, BLOCK, 5), 1);
	CU_ASSERT_EQUAL(fake_server_started(r.s), 4 + 1 + MAX_AHEAD + 1);
	CU_ASSERT_EQUAL(vf_cached_want(r.o, QUEUED, BLOCK, 5), 0);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	close_rig(&r);
}

static void stopping_forgets_the_queue(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(PIECE);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, N);
	start_stream(&r, buf, &w);
	vf_cache_stop(r.c);
	CU_ASSERT_EQUAL(fake_stats(r.c).used_len, (4 + 1 + MAX_AHEAD) * PIECE);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, QUEUED, PIECE), 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 5 * PIECE, 40 * PIECE), 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).n_ahead, MAX_AHEAD);
	close_rig(&r);
}

static void read_ahead_that_fails_is_not_kept(void)
{
	VF_AUTO_FREE uint8_t *buf = malloc(PIECE);
	struct fake_wait w = FAKE_WAIT;
	struct rig r;

	open_rig(&r, N);
	start_stream(&r, buf, &w);
	fake_server_fail(r.s, 100);
	fake_server_pause(r.s, false);
	CU_ASSERT_EQUAL(fake_wait_for(&w, 1), -EREMOTEIO);
	while (fake_stats(r.c).used_len > 4 * PIECE)
		usleep(200);
	fake_server_fail(r.s, 0);
	CU_ASSERT_EQUAL(fake_read(r.o, 1, 0, 60 * PIECE), 0);
	close_rig(&r);
}

static void sources_may_answer_at_once(void)
{
	struct rig r;

	open_rig(&r, N);
	fake_server_at_once(r.s, true);
	for (unsigned i = 0; i < N * BLOCK / PIECE; i++)
		CU_ASSERT_EQUAL(fake_read(r.o, 1, (uint64_t)i * PIECE, PIECE),
				0);
	CU_ASSERT(fake_stats(r.c).n_ahead > 0);
	CU_ASSERT_EQUAL(fake_stats(r.c).bytes_fetched, (uint64_t)N * BLOCK);
	close_rig(&r);
}

/* Answers at once but for its fetch number @held. */
struct deep_source {
	struct vf_source source;
	unsigned n_started, held, depth, depth_max;
	vf_fetch_fn *done;
	void *arg;
};

static void start_deep(struct vf_source *source, uint64_t off, size_t len,
		       void *buf, vf_fetch_fn *done, void *arg)
{
	struct deep_source *s = (struct deep_source *)source;

	memset(buf, 0, len);
	if (s->n_started++ == s->held) {
		s->done = done;
		s->arg = arg;
		return;
	}
	s->depth++;
	s->depth_max = VF_MAX(s->depth_max, s->depth);
	done(arg, 0);
	s->depth--;
}

static void keep_deep(struct vf_source *source)
{
}

/*
 * Symptom: the stack grew with every fetch of the queue.  Cause: the end of a
 * fetch starts the next one, which ended before its start returned.
 */
static void a_queue_answered_at_once_needs_little_stack(void)
{
	struct deep_source s = {.source = {start_deep, keep_deep}, .held = 5};
	VF_AUTO_FREE uint8_t *buf = malloc(PIECE);
	struct vf_cached_info info;
	struct vf_cache_options opt = {.ram_len = N * BLOCK,
				       .block_len = BLOCK,
				       .fetch_len = PIECE,
				       .ahead_len = 2 << 20,
				       .max_ahead = 1};
	static const uint8_t id[16] = {7};
	struct fake_wait w = FAKE_WAIT;
	struct vf_cache *c;
	struct vf_cached *o;

	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &c), 0);
	CU_ASSERT_EQUAL_FATAL(
		vf_cached_open(c, id, N * BLOCK, "", 0, &s.source, &o), 0);
	for (unsigned i = 0; i < 5; i++)
		vf_cached_read(o, (uint64_t)i * PIECE, PIECE, buf, fake_done,
			       &w);
	CU_ASSERT_EQUAL(s.n_started, 6);
	s.done(s.arg, 0);
	vf_cached_info(o, 0, N * BLOCK, &info);
	CU_ASSERT_EQUAL(info.n_ram, (5 * PIECE + (2 << 20)) / BLOCK);
	CU_ASSERT(s.depth_max <= 2);
	vf_cached_put(o);
	vf_cache_close(c);
}

static void the_cache_may_close_with_read_ahead_queued(void)
{
	for (unsigned i = 0; i < 200; i++) {
		atomic_uint n_freed = 0;
		struct rig r;
		open_rig(&r, 1024);
		r.s->max_delay_us = 100;
		struct vf_cached *o =
			fake_object(r.c, r.s, 2, (uint64_t)N * BLOCK, &n_freed);
		for (unsigned k = 0; k < 5 + i % 7; k++)
			CU_ASSERT_EQUAL(fake_read(o, 2, k * PIECE, PIECE), 0);
		vf_cached_put(o);
		close_rig(&r);
		CU_ASSERT_EQUAL(n_freed, 1);
	}
}

static void read_ahead_does_not_flush_what_is_in_use(void)
{
	struct vf_cache_options opt = {
		.ram_len = 256 * BLOCK, .block_len = BLOCK, .fetch_len = PIECE};
	struct rig r = {.s = fake_server_new(1)};
	unsigned n_hot = 0;

	CU_ASSERT_EQUAL_FATAL(vf_cache_open(&opt, &r.c), 0);
	r.o = fake_object(r.c, r.s, 1, (uint64_t)N * BLOCK, NULL);
	struct vf_cached *hot = fake_object(r.c, r.s, 2, 1 << 20, NULL);
	for (unsigned k = 0; k < 5; k++)
		for (unsigned i = 0; i < 64; i += 2)
			CU_ASSERT_EQUAL(fake_read(hot, 2, (uint64_t)i * BLOCK,
						  BLOCK),
					0);
	for (unsigned i = 0; i < N * BLOCK / PIECE; i++)
		CU_ASSERT_EQUAL(fake_read(r.o, 1, (uint64_t)i * PIECE, PIECE),
				0);
	for (unsigned i = 0; i < 64; i += 2) {
		struct vf_cached_info info;
		vf_cached_info(hot, (uint64_t)i * BLOCK, BLOCK, &info);
		n_hot += info.n_ram != 0;
	}
	CU_ASSERT(n_hot >= 28);
	vf_cached_put(hot);
	close_rig(&r);
}

static CU_TestInfo tests[] = {
	{"held pieces are the bytes", held_pieces_are_the_bytes},
	{"nothing is held when a block is missing",
	 nothing_is_held_when_a_block_is_missing},
	{"what is held does not leave", what_is_held_does_not_leave},
	{"a wish is fetched up to its cap", a_wish_is_fetched_up_to_its_cap},
	{"a wish ends with the object", a_wish_ends_with_the_object},
	{"a wish that fails is not kept", a_wish_that_fails_is_not_kept},
	{"wishes leave blocks to readers", wishes_leave_blocks_to_readers},
	{"wishes leave blocks of a cache that shrank",
	 wishes_leave_blocks_of_a_cache_that_shrank},
	{"buffers of scattered blocks are bounded",
	 buffers_of_scattered_blocks_are_bounded},
	{"read-ahead keeps to its limit", read_ahead_keeps_to_its_limit},
	{"all is fetched once and right", all_is_fetched_once_and_right},
	{"a reader makes a queued fetch go first",
	 a_reader_makes_a_queued_fetch_go_first},
	{"a wish makes a queued fetch go first",
	 a_wish_makes_a_queued_fetch_go_first},
	{"stopping forgets the queue", stopping_forgets_the_queue},
	{"read-ahead that fails is not kept",
	 read_ahead_that_fails_is_not_kept},
	{"sources may answer at once", sources_may_answer_at_once},
	{"a queue answered at once needs little stack",
	 a_queue_answered_at_once_needs_little_stack},
	{"the cache may close with read-ahead queued",
	 the_cache_may_close_with_read_ahead_queued},
	{"read-ahead does not flush what is in use",
	 read_ahead_does_not_flush_what_is_in_use},
	CU_TEST_INFO_NULL,
};
VF_SUITE("store/cache_ahead", tests);
