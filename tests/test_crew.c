/*
 * Threads that share items, and what becomes of them afterwards.
 */
#include "index/crew.h"
#include "tests/test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail_some(void *arg, size_t item)
{
	__atomic_add_fetch((size_t *)arg, 1, __ATOMIC_RELAXED);
	return item >= 40 ? -(int)item : 0;
}

static void the_lowest_failure_is_told(void)
{
	size_t n = 0;

	CU_ASSERT_EQUAL(vf_crew_run(1, 40, fail_some, &n), 0);
	CU_ASSERT_EQUAL(n, 40);
	CU_ASSERT_EQUAL(vf_crew_run(4, 40, fail_some, &n), 0);
	CU_ASSERT_EQUAL(n, 80);
	CU_ASSERT_EQUAL(vf_crew_run(4, 300, fail_some, &n), -40);
}

enum { CREW = 4 };

/* Items that all wait for each other: each has a thread of its own. */
struct meeting {
	pthread_barrier_t barrier;
	pid_t threads[CREW];
	int nice[CREW];
};

static int meet(void *arg, size_t item)
{
	struct meeting *m = arg;

	pthread_barrier_wait(&m->barrier);
	m->threads[item] = gettid();
	m->nice[item] = getpriority(PRIO_PROCESS, 0);
	return 0;
}

static struct meeting run_meeting(void)
{
	struct meeting m;

	pthread_barrier_init(&m.barrier, NULL, CREW);
	CU_ASSERT_EQUAL(vf_crew_run(CREW, CREW, meet, &m), 0);
	pthread_barrier_destroy(&m.barrier);
	return m;
}

static bool was_there(const struct meeting *m, pid_t thread)
{
	for (int i = 0; i < CREW; i++)
		if (m->threads[i] == thread)
			return true;
	return false;
}

static void threads_are_kept(void)
{
	struct meeting first = run_meeting();

	for (int round = 0; round < 20; round++) {
		struct meeting again = run_meeting();
		for (int i = 0; i < CREW; i++)
			CU_ASSERT(was_there(&first, again.threads[i]));
	}
}

static void *run_nicely(void *arg)
{
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 3);
	*(struct meeting *)arg = run_meeting();
	return NULL;
}

/* Else work of low priority would hold up queries, or the reverse. */
static void threads_serve_callers_of_their_priority(void)
{
	struct meeting before = run_meeting(), nicely, after;
	int mine = getpriority(PRIO_PROCESS, 0);
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, run_nicely, &nicely), 0);
	pthread_join(thread, NULL);
	after = run_meeting();
	for (int i = 0; i < CREW; i++) {
		CU_ASSERT(!was_there(&before, nicely.threads[i]));
		CU_ASSERT_EQUAL(nicely.nice[i], mine + 3);
		CU_ASSERT(was_there(&before, after.threads[i]));
		CU_ASSERT_EQUAL(after.nice[i], mine);
	}
}

static void *run_many(void *arg)
{
	size_t n = 0;

	for (int i = 0; i < 500; i++)
		vf_crew_run(CREW, 7, fail_some, &n);
	*(size_t *)arg = n;
	return NULL;
}

static int run_inside(void *arg, size_t item)
{
	size_t n = 0;
	int err = vf_crew_run(CREW, 5, fail_some, &n);

	atomic_fetch_add((atomic_size_t *)arg, n);
	return err;
}

static void callers_at_once_share_the_threads(void)
{
	pthread_t threads[CREW];
	size_t n[CREW];
	atomic_size_t inside = 0;

	for (int i = 0; i < CREW; i++)
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, run_many, &n[i]), 0);
	CU_ASSERT_EQUAL(vf_crew_run(CREW, 100, run_inside, &inside), 0);
	CU_ASSERT_EQUAL(inside, 500);
	for (int i = 0; i < CREW; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(n[i], 3500);
	}
}

static void a_forked_child_makes_its_own(void)
{
#ifndef __SANITIZE_THREAD__ /* which allows a forked child no threads */
	int status;
	pid_t child;

	run_meeting();
	child = fork();
	if (!child) {
		alarm(60);
		run_meeting();
		_exit(0);
	}
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	CU_ASSERT_EQUAL(status, 0);
#endif
}

static CU_TestInfo tests[] = {
	{"the lowest failure is told", the_lowest_failure_is_told},
	{"threads are kept", threads_are_kept},
	{"threads serve callers of their priority",
	 threads_serve_callers_of_their_priority},
	{"callers at once share the threads",
	 callers_at_once_share_the_threads},
	{"a forked child makes its own", a_forked_child_makes_its_own},
	CU_TEST_INFO_NULL,
};
VF_SUITE("index/crew", tests);
