/*
 * Copies of mapped bytes that can fault.  The file under test is included to
 * reach whether its handler is installed.
 */
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

/* ---- other people's signals ------------------------------------------------------- */

static struct mapped inner;
static volatile sig_atomic_t inner_rc, n_foreign;

/* A copy inside a copy: a signal arrives in between. */
static void copy_in_handler(int sig)
{
	uint8_t byte;

	inner_rc = vf_guarded_copy(&byte, inner.p + inner.page, 1);
	n_foreign++;
}

/* Was: the inner copy left no way back for the outer one, which died. */
static void a_copy_inside_a_copy_leaves_the_outer_its_way_back(void)
{
	struct sigaction sa = {.sa_handler = copy_in_handler}, old;
	sigjmp_buf back;
	uint8_t byte;

	vf_guard_install();
	map_cut_file(&inner, 1);
	sigaction(SIGUSR1, &sa, &old);
	n_foreign = 0;
	if (!sigsetjmp(back, 0)) {
		way_back = &back; /* as in the middle of a copy */
		raise(SIGUSR1);
		byte = *(const volatile uint8_t *)(inner.p + inner.page);
		CU_FAIL("the outer copy did not fault");
		(void)byte;
	}
	way_back = NULL;
	CU_ASSERT_EQUAL(n_foreign, 1);
	CU_ASSERT_EQUAL(inner_rc, -EFAULT);
	CU_ASSERT_EQUAL(vf_guarded_copy(&byte, inner.p, 1), 0);
	sigaction(SIGUSR1, &old, NULL);
	unmap(&inner);
}

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
	{"a foreign fault goes to the handler before ours",
	 a_foreign_fault_goes_to_the_handler_before_ours},
	CU_TEST_INFO_NULL};
VF_SUITE("query/guard", tests);
