/*
 *   WATCHING -> (a signal) -> GRACE -> STOPPED
 *
 * vf_stopper_end ends it in any of them.
 */
#include "tools/stopper.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "store/thread.h"
#include "store/util.h"
#include "tools/interrupt.h"
#include "tools/verb.h"

/* A commit that is on its way is answered by then, if at all. */
enum { GRACE_MS = 1500 };

struct vf_stopper {
	pthread_t thread;
	int end_fd; /* [fixed] readable: it is over */
	pthread_mutex_t mtx;
	struct vf_bucket *bucket; /* [mtx] NULL: being opened */
};

static void *watch(void *arg)
{
	struct vf_stopper *s = arg;
	struct pollfd end = {.fd = s->end_fd, .events = POLLIN};

	if (vf_interrupt_wait(s->end_fd, -1, -1) != -ECANCELED ||
	    poll(&end, 1, GRACE_MS))
		return NULL;
	pthread_mutex_lock(&s->mtx);
	if (!s->bucket) {
		vf_log(VF_ERROR, "interrupted");
		_exit(VF_EXIT_INTERRUPTED); /* nothing was begun */
	}
	vf_bucket_stop(s->bucket);
	pthread_mutex_unlock(&s->mtx);
	return NULL;
}

struct vf_stopper *vf_stopper_start(void)
{
	struct vf_stopper *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	pthread_mutex_init(&s->mtx, NULL);
	s->end_fd = eventfd(0, EFD_CLOEXEC);
	if (s->end_fd >= 0 && !vf_thread_start(&s->thread, watch, s))
		return s;
	if (s->end_fd >= 0)
		close(s->end_fd);
	free(s);
	return NULL;
}

void vf_stopper_set(struct vf_stopper *s, struct vf_bucket *b)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->mtx);
	s->bucket = b;
	pthread_mutex_unlock(&s->mtx);
}

void vf_stopper_end(struct vf_stopper *s)
{
	if (!s)
		return;
	eventfd_write(s->end_fd, 1);
	pthread_join(s->thread, NULL);
	close(s->end_fd);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}
