#include "store/thread.h"
#include "store/util.h"

#include <signal.h>

int vf_thread_start(pthread_t *out, void *(*run)(void *), void *arg)
{
	static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
	sigset_t outside, before;

	sigfillset(&outside);
	for (size_t i = 0; i < VF_N(own); i++)
		sigdelset(&outside, own[i]);
	/* A new thread has the mask of who makes it. */
	pthread_sigmask(SIG_SETMASK, &outside, &before);
	int err = -pthread_create(out, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}
