/*
 * One process-wide SIGBUS handler; a thread that reads mapped bytes leaves its
 * way back in a thread-local.  A SIGBUS of anybody else goes on to whoever was
 * installed before.
 *
 * is_installed  [atomic]     previous  [fixed] once is_installed is set
 */
#include "query/guard.h"
#include "query/query.h"

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <ucontext.h>

static atomic_bool is_installed;
static struct sigaction previous;
static _Thread_local sigjmp_buf *way_back;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	if (way_back) {
		/* Jumping does not end the handler: its mask would stay. */
		pthread_sigmask(SIG_SETMASK,
				&((ucontext_t *)context)->uc_sigmask, NULL);
		siglongjmp(*way_back, 1);
	}
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(sig, info, context);
	} else if (previous.sa_handler == SIG_DFL ||
		   (previous.sa_handler == SIG_IGN && info->si_code > 0)) {
		signal(SIGBUS, SIG_DFL); /* and the access faults again */
		if (info->si_code <= 0)
			raise(sig); /* sent by a process: nothing repeats it */
	} else if (previous.sa_handler != SIG_IGN) {
		previous.sa_handler(sig);
	}
}

bool vf_guard_is_installed(void)
{
	return atomic_load_explicit(&is_installed, memory_order_acquire);
}

int vf_guard_install(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus,
			       .sa_flags = SA_SIGINFO | SA_NODEFER};

	if (vf_guard_is_installed())
		return 0;
	if (sigaction(SIGBUS, &sa, &previous))
		return -errno;
	/* release: pairs with the acquire of vf_guard_is_installed */
	atomic_store_explicit(&is_installed, true, memory_order_release);
	return 0;
}

int vf_guarded_call(void (*fn)(void *arg), void *arg)
{
	sigjmp_buf back, *outer = way_back; /* set when a signal cut in */

	if (!vf_guard_is_installed())
		return -EFAULT;
	if (sigsetjmp(back, 0)) {
		way_back = outer;
		return -EFAULT;
	}
	way_back = &back;
	atomic_signal_fence(memory_order_seq_cst);
	fn(arg);
	atomic_signal_fence(memory_order_seq_cst);
	way_back = outer;
	return 0;
}

struct copying {
	void *dst;
	const void *src;
	size_t len;
};

static void copy(void *arg)
{
	const struct copying *c = arg;

	memcpy(c->dst, c->src, c->len);
}

int vf_guarded_copy(void *dst, const void *src, size_t len)
{
	return vf_guarded_call(copy, &(struct copying){dst, src, len});
}
