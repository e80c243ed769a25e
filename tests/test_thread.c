/*
 * Symptom: Ctrl-C, or an alarm of the program, was now and then taken by a
 * thread of the library.  Cause: some of them blocked signals, some did not.
 */
#include "store/thread.h"
#include "tests/test.h"

#include <signal.h>

static void *look(void *mask)
{
	pthread_sigmask(SIG_SETMASK, NULL, mask);
	return NULL;
}

static void signals_from_outside_are_not_taken(void)
{
	static const int outside[] = {SIGINT,  SIGTERM, SIGHUP, SIGALRM,
				      SIGUSR1, SIGCHLD, SIGPIPE};
	sigset_t before, after, there;
	pthread_t t;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	CU_ASSERT_EQUAL_FATAL(vf_thread_start(&t, look, &there), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	pthread_join(t, NULL);
	for (size_t i = 0; i < VF_N(outside); i++) {
		CU_ASSERT(sigismember(&there, outside[i]));
		CU_ASSERT_EQUAL(sigismember(&after, outside[i]),
				sigismember(&before, outside[i]));
	}
}

static void its_own_faults_are(void)
{
	static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};
	sigset_t there;
	pthread_t t;

	CU_ASSERT_EQUAL_FATAL(vf_thread_start(&t, look, &there), 0);
	pthread_join(t, NULL);
	for (size_t i = 0; i < VF_N(own); i++)
		CU_ASSERT(!sigismember(&there, own[i]));
}

static CU_TestInfo tests[] = {
	{"signals from outside are not taken",
	 signals_from_outside_are_not_taken},
	{"its own faults are", its_own_faults_are},
	CU_TEST_INFO_NULL,
};

VF_SUITE("store/thread", tests);
