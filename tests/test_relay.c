#include "tools/relay.h"

#include <stdatomic.h>

#include "tests/test.h"

enum { SLOTS = 3, ITEMS = 1000, STOP = 40 };

struct lab {
	int slots[SLOTS]; /* the item that each holds */
	int seen, fails_at;
	atomic_bool busy;
	bool wrong;
};

static int see_slot(void *arg, size_t slot)
{
	struct lab *l = arg;

	l->wrong |=
		atomic_exchange(&l->busy, true) || l->slots[slot] != l->seen;
	if (++l->seen == l->fails_at)
		return -EIO;
	atomic_store(&l->busy, false);
	return 0;
}

/* Returns what taking came to, or closing; @out_n: items that were given. */
static int relay(struct lab *l, int n, int *out_n)
{
	struct vf_relay *r;
	size_t slot;
	int err = 0;

	CU_ASSERT_EQUAL_FATAL(vf_relay_open(SLOTS, see_slot, l, &r), 0);
	for (*out_n = 0; !err && *out_n < n;) {
		err = vf_relay_take(r, &slot);
		if (err)
			break;
		l->slots[slot] = (*out_n)++;
		vf_relay_give(r);
	}
	int closed = vf_relay_close(r);
	CU_ASSERT(!err || err == closed);
	return closed;
}

static void slots_are_emptied_in_order_one_at_a_time(void)
{
	struct lab l = {0};
	int n;

	CU_ASSERT_EQUAL(relay(&l, ITEMS, &n), 0);
	CU_ASSERT_EQUAL(l.seen, ITEMS);
	CU_ASSERT(!l.wrong);
}

static void a_failure_stops_both(void)
{
	struct lab l = {.fails_at = STOP};
	int n;

	CU_ASSERT_EQUAL(relay(&l, ITEMS, &n), -EIO);
	CU_ASSERT_EQUAL(l.seen, STOP);
	CU_ASSERT(n <= STOP + SLOTS);
	CU_ASSERT(!l.wrong);
}

/* What is given last fails when nobody takes any more. */
static void a_late_failure_is_told_at_the_end(void)
{
	struct lab l = {.fails_at = STOP};
	int n;

	CU_ASSERT_EQUAL(relay(&l, STOP, &n), -EIO);
	CU_ASSERT_EQUAL(vf_relay_close(NULL), 0);
}

static CU_TestInfo tests[] = {{"slots are emptied in order, one at a time",
			       slots_are_emptied_in_order_one_at_a_time},
			      {"a failure stops both", a_failure_stops_both},
			      {"a late failure is told at the end",
			       a_late_failure_is_told_at_the_end},
			      CU_TEST_INFO_NULL};
VF_SUITE("tools/relay", tests);
