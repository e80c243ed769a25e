/*
 * Asynchronous I/O on local files: one io_uring owned by one thread, or a few
 * threads with plain system calls where the kernel refuses io_uring (or
 * VF_NO_URING=1 is in the environment).
 */
#ifndef VF_STORE_URING_H
#define VF_STORE_URING_H

#include <linux/time_types.h>
#include <sys/uio.h>

#include "store/util.h"

struct vf_uring;

enum vf_io_op { VF_IO_READ, VF_IO_WRITE, VF_IO_SYNC, VF_IO_PUNCH };

/* One operation; the caller's memory, left alone by him until done. */
struct vf_io {
	enum vf_io_op op;
	int fd;			 /* stays open until done */
	const struct iovec *iov; /* READ, WRITE */
	unsigned n_iov;
	uint64_t off, len; /* len: of PUNCH */
	/* @res: bytes done (READ and WRITE may be short), 0, or -errno */
	void (*done)(struct vf_io *io, int res);

	/* private */
	struct vf_io *next;
	int fault;
	uint32_t delay_ms;
	struct __kernel_timespec delay;
};

/* Returns 0; -errno, logged. */
int vf_uring_open(struct vf_uring **out);
/* Waits for what is under way.  Accepts NULL. */
void vf_uring_close(struct vf_uring *u);

/*
 * Reads go before the rest when there is a queue.  @io->done is called from a
 * thread of ours and may submit again.  Threads: any; none waits.
 */
void vf_uring_submit(struct vf_uring *u, struct vf_io *io);

/* false: the threads. */
bool vf_uring_is_ring(const struct vf_uring *u);

/*
 * For tests: asked at each submission, from the submitting thread.  Returns 0,
 * or the -errno the operation shall fail with instead of being done; it
 * happens @out_delay_ms later.
 */
typedef int vf_io_fault_fn(void *arg, const struct vf_io *io,
			   uint32_t *out_delay_ms);
void vf_uring_fault(struct vf_uring *u, vf_io_fault_fn *fn, void *arg);

#endif
