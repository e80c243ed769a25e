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

void vf_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

int vf_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until_ns)
{
	const struct timespec t = {(time_t)(until_ns / 1000000000),
				   (long)(until_ns % 1000000000)};

	return until_ns ? -pthread_cond_timedwait(c, m, &t)
			: -pthread_cond_wait(c, m);
}
