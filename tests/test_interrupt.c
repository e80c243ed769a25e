#include "tools/interrupt.h"

#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG_MS = 60000 };

struct ends {
	int empty[2], full[2];
};

static void open_pipes(struct ends *e)
{
	CU_ASSERT_EQUAL_FATAL(pipe2(e->empty, O_CLOEXEC), 0);
	CU_ASSERT_EQUAL_FATAL(pipe2(e->full, O_CLOEXEC), 0);
	CU_ASSERT_EQUAL(write(e->full[1], "x", 1), 1);
}

static void close_pipes(const struct ends *e)
{
	close(e->empty[0]);
	close(e->empty[1]);
	close(e->full[0]);
	close(e->full[1]);
}

static void what_can_be_read_is_told(void)
{
	struct ends e;

	open_pipes(&e);
	CU_ASSERT_EQUAL(vf_interrupt_wait(e.full[0], -1, LONG_MS), 1);
	CU_ASSERT_EQUAL(vf_interrupt_wait(e.empty[0], e.full[0], LONG_MS), 2);
	CU_ASSERT_EQUAL(vf_interrupt_wait(e.empty[0], -1, 0), 0);
	close(e.empty[1]);
	e.empty[1] = -1;
	CU_ASSERT_EQUAL(vf_interrupt_wait(e.empty[0], -1, LONG_MS), 1);
	close_pipes(&e);
}

/* A signal that came before: nothing but what it left behind ends the wait. */
static int wait_after_signal(const struct ends *e)
{
	alarm(LONG_MS / 1000 / 2);
	vf_interrupt_catch();
	if (vf_interrupted())
		return 1;
	raise(SIGINT);
	for (int i = 0; i < 2; i++)
		if (vf_interrupt_wait(e->empty[0], -1, -1) != -ECANCELED)
			return 2;
	if (vf_interrupt_wait(e->full[0], -1, -1) != -ECANCELED)
		return 3;
	return vf_interrupted() ? 0 : 4;
}

static void a_signal_before_the_wait_ends_it(void)
{
	struct ends e;
	int status = -1;

	open_pipes(&e);
	pid_t pid = fork();
	if (!pid)
		_exit(wait_after_signal(&e));
	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	close_pipes(&e);
}

static CU_TestInfo tests[] = {
	{"what can be read is told", what_can_be_read_is_told},
	{"a signal before the wait ends it", a_signal_before_the_wait_ends_it},
	CU_TEST_INFO_NULL};
VF_SUITE("tools/interrupt", tests);
