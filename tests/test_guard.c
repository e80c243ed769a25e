/*
 * Copies of mapped bytes that can fault.  The file under test is included to
 * reach whether its handler is installed.
 */
#include "index/crew.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#include "query/guard.c"

enum { PAGES = 4, THREADS = 8, ROUNDS = 500 };

struct mapped {
	const uint8_t *p; /* PAGES pages, of which the first @n_there exist */
	size_t page;
};

static void map_cut_file(struct mapped *m, size_t n_there)
{
	char path[256];
	int fd;

	m->page = (size_t)sysconf(_SC_PAGESIZE);
	snprintf(path, sizeof(path), "%s/cut", vf_test_dir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)(PAGES * m->page)))
		abort();
	m->p = mmap(NULL, PAGES * m->page, PROT_READ, MAP_SHARED, fd, 0);
	if (m->p == MAP_FAILED || pwrite(fd, "vecfs", 5, 0) != 5 ||
	    ftruncate(fd, (off_t)(n_there * m->page)))
		abort();
	close(fd);
}

static void unmap(struct mapped *m)
{
	munmap((void *)m->p, PAGES * m->page);
}

/* As in a program that never asked for the handler. */
static void uninstall(void)
{
	if (!atomic_load(&is_installed))
		return;
	sigaction(SIGBUS, &previous, NULL);
	atomic_store(&is_installed, false);
}

static void without_the_handler_nothing_is_touched(void)
{
	struct mapped m;
	char out[5] = "-----";

	uninstall();
	map_cut_file(&m, 0);
	CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p, 5), -EFAULT);
	CU_ASSERT(!memcmp(out, "-----", 5));
	unmap(&m);
}

static void bytes_that_are_there_are_copied(void)
{
	struct mapped m;
	char out[5];

	CU_ASSERT_EQUAL(vf_guard_install(), 0);
	CU_ASSERT_EQUAL(vf_guard_install(), 0);
	map_cut_file(&m, 1);
	CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p, 5), 0);
	CU_ASSERT(!memcmp(out, "vecfs", 5));
	CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p + m.page, 0), 0);
	unmap(&m);
}

static void a_cut_file_is_an_error_again_and_again(void)
{
	struct mapped m;
	VF_AUTO_FREE uint8_t *out = malloc(PAGES * 65536);

	vf_guard_install();
	map_cut_file(&m, 1);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p + m.page, 1), -EFAULT);
		CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p, 2 * m.page), -EFAULT);
		CU_ASSERT_EQUAL(vf_guarded_copy(out, m.p, m.page), 0);
		CU_ASSERT(!memcmp(out, "vecfs", 5));
	}
	unmap(&m);
}

static void *copy_many(void *arg)
{
	const struct mapped *m = arg;
	uint8_t out[64];
	size_t wrong = 0;

	for (int i = 0; i < ROUNDS; i++) {
		wrong += vf_guarded_copy(out, m->p + m->page, 64) != -EFAULT;
		wrong += vf_guarded_copy(out, m->p, 64) != 0;
	}
	return (void *)wrong;
}

static void each_thread_finds_its_own_way_back(void)
{
	pthread_t threads[THREADS];
	struct mapped m;
	void *wrong;

	vf_guard_install();
	map_cut_file(&m, 1);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, copy_many, &m))
			abort();
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &wrong);
		CU_ASSERT_PTR_NULL(wrong);
	}
	unmap(&m);
}

/*
 * Was: a copy made by a signal's handler in the middle of another copy left no
 * way back for that one, which died at its next fault.
 */
static void a_copy_inside_a_copy_leaves_the_outer_its_way_back(void)
{
	struct mapped m;
	sigjmp_buf back;
	uint8_t byte;

	vf_guard_install();
	map_cut_file(&m, 1);
	if (!sigsetjmp(back, 0)) {
		way_back = &back; /* as in the middle of a copy */
		CU_ASSERT_EQUAL(vf_guarded_copy(&byte, m.p + m.page, 1),
				-EFAULT);
		CU_ASSERT_EQUAL(vf_guarded_copy(&byte, m.p, 1), 0);
		byte = *(const volatile uint8_t *)(m.p + m.page);
		CU_FAIL("the outer copy did not fault");
	}
	way_back = NULL;
	CU_ASSERT_EQUAL(vf_guarded_copy(&byte, m.p, 1), 0);
	unmap(&m);
}

static void a_fault_leaves_the_mask_of_signals_as_it_was(void)
{
	sigset_t before, after;
	struct mapped m;
	uint8_t byte;

	vf_guard_install();
	map_cut_file(&m, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	CU_ASSERT_EQUAL(vf_guarded_copy(&byte, m.p, 1), -EFAULT);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int sig = 1; sig < 32; sig++)
		CU_ASSERT_EQUAL(sigismember(&before, sig),
				sigismember(&after, sig));
	unmap(&m);
}

/* ---- other people's signals ------------------------------------------------------- */

static volatile sig_atomic_t n_foreign;

static void count_signal(int sig)
{
	n_foreign++;
}

static void a_foreign_fault_goes_to_the_handler_before_ours(void)
{
	struct sigaction sa = {.sa_handler = count_signal}, old;

	uninstall();
	sigaction(SIGBUS, &sa, &old);
	vf_guard_install();
	n_foreign = 0;
	raise(SIGBUS);
	CU_ASSERT_EQUAL(n_foreign, 1);
	uninstall();
	sigaction(SIGBUS, &old, NULL);
	vf_guard_install();
}

struct crew_copy {
	pthread_barrier_t all_are_here; /* each item on a thread of its own */
	struct mapped m;
};

static int copy_item(void *arg, size_t item)
{
	struct crew_copy *c = arg;
	char out[5];

	pthread_barrier_wait(&c->all_are_here);
	return vf_guarded_copy(out, c->m.p + item % PAGES * c->m.page, 5);
}

/* Threads that had SIGBUS blocked ended the process: status 135. */
static void a_crew_is_guarded_too(void)
{
	struct crew_copy c;

	CU_ASSERT_EQUAL(vf_guard_install(), 0);
	pthread_barrier_init(&c.all_are_here, NULL, THREADS);
	map_cut_file(&c.m, 0);
	CU_ASSERT_EQUAL(vf_crew_run(THREADS, THREADS, copy_item, &c), -EFAULT);
	CU_ASSERT_EQUAL(vf_crew_run(THREADS, THREADS, copy_item, &c), -EFAULT);
	unmap(&c.m);
	pthread_barrier_destroy(&c.all_are_here);
}

static CU_TestInfo tests[] = {
	{"without the handler nothing is touched",
	 without_the_handler_nothing_is_touched},
	{"bytes that are there are copied", bytes_that_are_there_are_copied},
	{"a cut file is an error again and again",
	 a_cut_file_is_an_error_again_and_again},
	{"each thread finds its own way back",
	 each_thread_finds_its_own_way_back},
	{"a copy inside a copy leaves the outer its way back",
	 a_copy_inside_a_copy_leaves_the_outer_its_way_back},
	{"a fault leaves the mask of signals as it was",
	 a_fault_leaves_the_mask_of_signals_as_it_was},
	{"a foreign fault goes to the handler before ours",
	 a_foreign_fault_goes_to_the_handler_before_ours},
	{"a crew is guarded too", a_crew_is_guarded_too},
	CU_TEST_INFO_NULL};
VF_SUITE("query/guard", tests);
