/*
 * Callers append to two queues (reads, the rest) and wake the ring's thread,
 * which alone touches the ring.  One issuer, because requests of a thread that
 * ends are cancelled by the kernel, and because no lock is then held over
 * io_uring_enter(2).
 *
 * asleep   [mtx] the thread waits in the kernel: a write to @wake_fd ends that
 * n_left   [mtx] submitted, done not yet returned
 */
#include "store/uring.h"
#include "store/thread.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

enum {
	DEPTH = 256, /* operations in the ring at once */
	BATCH = 32,  /* completions taken at once */
	POOL_THREADS = 4,
};

struct queue {
	struct vf_io *first, **end;
};

struct vf_uring {
	pthread_mutex_t mtx;
	pthread_cond_t work, idle;
	struct queue reads, rest; /* [mtx] */
	size_t n_left;		  /* [mtx] */
	bool asleep, stop;	  /* [mtx] */
	vf_io_fault_fn *fault;	  /* [mtx] */
	void *fault_arg;	  /* [mtx] */

	bool is_ring;			 /* [fixed] */
	int wake_fd;			 /* [fixed] */
	pthread_t threads[POOL_THREADS]; /* [fixed] */
	unsigned n_threads;		 /* [fixed] */

	/* of the ring's thread alone */
	struct io_uring ring;
	unsigned n_in_ring;
	uint64_t wake_count;
};

/* ---- queues: caller holds mtx --------------------------------------------- */

static void init_queue(struct queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

static void push_io(struct queue *q, struct vf_io *io)
{
	io->next = NULL;
	*q->end = io;
	q->end = &io->next;
}

static struct vf_io *pop_io(struct vf_uring *u)
{
	struct queue *q = u->reads.first ? &u->reads : &u->rest;
	struct vf_io *io = q->first;

	if (!io)
		return NULL;
	q->first = io->next;
	if (!q->first)
		q->end = &q->first;
	return io;
}

/* ---- completion -------------------------------------------------------------- */

static void finish_io(struct vf_uring *u, struct vf_io *io, int res)
{
	io->done(io, res); /* may free io */
	pthread_mutex_lock(&u->mtx);
	if (!--u->n_left)
		pthread_cond_broadcast(&u->idle);
	pthread_mutex_unlock(&u->mtx);
}

/* ---- the ring's thread ------------------------------------------------------- */

static void prepare_wake(struct vf_uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	assert(sqe);
	/* a poll, not a read: what is armed at the end may touch no memory */
	io_uring_prep_poll_add(sqe, u->wake_fd, POLLIN);
	io_uring_sqe_set_data(sqe, NULL);
}

static void prepare_io(struct vf_uring *u, struct vf_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	assert(sqe); /* DEPTH bounds what is in the ring */
	if (io->delay_ms) {
		io->delay.tv_sec = io->delay_ms / 1000;
		io->delay.tv_nsec = io->delay_ms % 1000 * 1000000L;
		io_uring_prep_timeout(sqe, &io->delay, 0, 0);
	} else if (io->fault) {
		io_uring_prep_nop(sqe);
	} else if (io->op == VF_IO_READ) {
		io_uring_prep_readv(sqe, io->fd, io->iov, io->n_iov, io->off);
	} else if (io->op == VF_IO_WRITE) {
		io_uring_prep_writev(sqe, io->fd, io->iov, io->n_iov, io->off);
		/* a copy to the page cache must not delay reads behind it */
		sqe->flags |= IOSQE_ASYNC;
	} else if (io->op == VF_IO_SYNC) {
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
	} else {
		io_uring_prep_fallocate(
			sqe, io->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			io->off, io->len);
	}
	io_uring_sqe_set_data(sqe, io);
	u->n_in_ring++;
}

/* Returns false when there is nothing more to come. */
static bool take_queued(struct vf_uring *u)
{
	struct vf_io *io;
	bool go_on;

	pthread_mutex_lock(&u->mtx);
	while (u->n_in_ring < DEPTH && (io = pop_io(u)))
		prepare_io(u, io);
	u->asleep = true;
	go_on = !u->stop || u->n_left;
	pthread_mutex_unlock(&u->mtx);
	return go_on;
}

static void handle_cqe(struct vf_uring *u, struct vf_io *io, int res)
{
	if (!io) {
		if (read(u->wake_fd, &u->wake_count, 8) < 0 && errno != EAGAIN)
			vf_log(VF_WARN, "eventfd: %s", strerror(errno));
		prepare_wake(u);
		return;
	}
	u->n_in_ring--;
	if (io->delay_ms || res == -EINTR) {
		io->delay_ms = 0;
		prepare_io(u, io);
		return;
	}
	finish_io(u, io, io->fault ? io->fault : res);
}

static void reap(struct vf_uring *u)
{
	struct io_uring_cqe *cqe[BATCH];
	struct {
		struct vf_io *io;
		int res;
	} got[BATCH];
	unsigned n = io_uring_peek_batch_cqe(&u->ring, cqe, BATCH);

	for (unsigned i = 0; i < n; i++) {
		got[i].io = io_uring_cqe_get_data(cqe[i]);
		got[i].res = cqe[i]->res;
	}
	io_uring_cq_advance(&u->ring, n);
	/* pairs with vf_uring_submit: what the kernel hands back was ours */
	pthread_mutex_lock(&u->mtx);
	u->asleep = false;
	pthread_mutex_unlock(&u->mtx);
	for (unsigned i = 0; i < n; i++)
		handle_cqe(u, got[i].io, got[i].res);
}

static void *run_ring(void *arg)
{
	struct vf_uring *u = arg;

	prepare_wake(u);
	while (take_queued(u)) {
		int err = io_uring_submit_and_wait(&u->ring, 1);
		if (err < 0 && err != -EINTR && err != -EBUSY) {
			vf_log(VF_WARN, "io_uring: %s", strerror(-err));
			usleep(1000);
		}
		reap(u);
	}
	return NULL;
}

/* ---- the threads instead of a ring -------------------------------------------- */

static int do_io(const struct vf_io *io)
{
	ssize_t n;

	do {
		switch (io->op) {
		case VF_IO_READ:
			n = preadv(io->fd, io->iov, (int)io->n_iov,
				   (off_t)io->off);
			break;
		case VF_IO_WRITE:
			n = pwritev(io->fd, io->iov, (int)io->n_iov,
				    (off_t)io->off);
			break;
		case VF_IO_SYNC:
			n = fdatasync(io->fd);
			break;
		default:
			n = fallocate(io->fd,
				      FALLOC_FL_PUNCH_HOLE |
					      FALLOC_FL_KEEP_SIZE,
				      (off_t)io->off, (off_t)io->len);
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

static void *run_pool(void *arg)
{
	struct vf_uring *u = arg;
	struct vf_io *io;

	for (;;) {
		pthread_mutex_lock(&u->mtx);
		while (!(io = pop_io(u)) && !u->stop)
			pthread_cond_wait(&u->work, &u->mtx);
		pthread_mutex_unlock(&u->mtx);
		if (!io)
			return NULL;
		if (io->delay_ms)
			usleep(io->delay_ms * 1000);
		finish_io(u, io, io->fault ? io->fault : do_io(io));
	}
}

/* ---- interface ------------------------------------------------------------------ */

static bool wants_ring(void)
{
	const char *no = getenv("VF_NO_URING");

	return !no || strcmp(no, "1") != 0;
}

static int start_threads(struct vf_uring *u)
{
	unsigned n = u->is_ring ? 1 : POOL_THREADS;
	void *(*run)(void *) = u->is_ring ? run_ring : run_pool;

	while (u->n_threads < n) {
		int err = vf_thread_start(&u->threads[u->n_threads], run, u);
		if (err)
			return vf_fail(err, "cannot start a thread: %s",
				       strerror(-err));
		u->n_threads++;
	}
	return 0;
}

static int init_ring(struct vf_uring *u)
{
	/* one entry more: the read of wake_fd */
	int err = io_uring_queue_init(2 * DEPTH, &u->ring, IORING_SETUP_CLAMP);

	if (err) {
		vf_log(VF_INFO, "io_uring: %s; using threads", strerror(-err));
		return 0;
	}
	u->is_ring = true;
	u->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->wake_fd < 0)
		return vf_fail(-errno, "eventfd: %s", strerror(errno));
	return 0;
}

int vf_uring_open(struct vf_uring **out)
{
	struct vf_uring *u = calloc(1, sizeof(*u));
	int err;

	*out = NULL;
	if (!u)
		return -ENOMEM;
	u->wake_fd = -1;
	pthread_mutex_init(&u->mtx, NULL);
	pthread_cond_init(&u->work, NULL);
	pthread_cond_init(&u->idle, NULL);
	init_queue(&u->reads);
	init_queue(&u->rest);
	err = wants_ring() ? init_ring(u) : 0;
	if (!err)
		err = start_threads(u);
	if (err) {
		vf_uring_close(u);
		return err;
	}
	*out = u;
	return 0;
}

static void wake_ring(struct vf_uring *u)
{
	uint64_t one = 1;

	if (write(u->wake_fd, &one, sizeof(one)) < 0)
		vf_log(VF_WARN, "eventfd: %s", strerror(errno));
}

void vf_uring_close(struct vf_uring *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->mtx);
	while (u->n_left)
		pthread_cond_wait(&u->idle, &u->mtx);
	u->stop = true;
	pthread_cond_broadcast(&u->work);
	pthread_mutex_unlock(&u->mtx);
	if (u->is_ring && u->n_threads)
		wake_ring(u);
	for (unsigned i = 0; i < u->n_threads; i++)
		pthread_join(u->threads[i], NULL);
	if (u->is_ring)
		io_uring_queue_exit(&u->ring);
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	pthread_cond_destroy(&u->idle);
	pthread_cond_destroy(&u->work);
	pthread_mutex_destroy(&u->mtx);
	free(u);
}

void vf_uring_submit(struct vf_uring *u, struct vf_io *io)
{
	bool wake;

	pthread_mutex_lock(&u->mtx);
	io->fault = 0;
	io->delay_ms = 0;
	if (u->fault)
		io->fault = u->fault(u->fault_arg, io, &io->delay_ms);
	push_io(io->op == VF_IO_READ ? &u->reads : &u->rest, io);
	u->n_left++;
	wake = u->is_ring && u->asleep;
	if (wake)
		u->asleep = false;
	if (!u->is_ring)
		pthread_cond_signal(&u->work);
	pthread_mutex_unlock(&u->mtx);
	if (wake)
		wake_ring(u);
}

bool vf_uring_is_ring(const struct vf_uring *u)
{
	return u->is_ring;
}

void vf_uring_fault(struct vf_uring *u, vf_io_fault_fn *fn, void *arg)
{
	pthread_mutex_lock(&u->mtx);
	u->fault = fn;
	u->fault_arg = arg;
	pthread_mutex_unlock(&u->mtx);
}
