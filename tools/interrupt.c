/*
 * interrupted   [atomic] set by the signal handler, read by everyone
 * told_fd       [fixed] an eventfd, readable from the first signal on; -1
 */
#include "tools/interrupt.h"
#include "store/util.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

static atomic_bool interrupted;
static int told_fd = -1;

bool vf_interrupted(void)
{
	return atomic_load_explicit(&interrupted, memory_order_relaxed);
}

static void note_signal(int sig)
{
	int saved = errno;

	atomic_store_explicit(&interrupted, true, memory_order_relaxed);
	if (told_fd >= 0)
		eventfd_write(told_fd, 1); /* a write(2): signal-safe */
	errno = saved;
}

void vf_interrupt_catch(void)
{
	struct sigaction sa = {.sa_handler = note_signal,
			       .sa_flags = SA_RESTART | (int)SA_RESETHAND};

	told_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

int vf_interrupt_wait(int fd, int also, int ms)
{
	struct pollfd p[] = {{.fd = told_fd, .events = POLLIN},
			     {.fd = fd, .events = POLLIN},
			     {.fd = also, .events = POLLIN}};
	int n = poll(p, VF_N(p), ms);

	if (vf_interrupted())
		return -ECANCELED;
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return p[2].revents ? 2 : p[1].revents ? 1 : 0;
}
