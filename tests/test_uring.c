/* The ring and its stand-in: the same behaviour from both. */
#include "store/uring.h"
#include "tests/test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

struct op {
	struct vf_io io;
	struct iovec iov;
	int res;
	atomic_bool done;
	uint64_t done_ns;
};

static void note_done(struct vf_io *io, int res)
{
	struct op *o = (struct op *)io;

	o->res = res;
	o->done_ns = vf_now_ns();
	atomic_store_explicit(&o->done, true, memory_order_release);
}

static int run_op(struct vf_uring *u, struct op *o)
{
	o->io.done = note_done;
	atomic_init(&o->done, false);
	vf_uring_submit(u, &o->io);
	/* pairs with note_done */
	while (!atomic_load_explicit(&o->done, memory_order_acquire))
		usleep(50);
	return o->res;
}

static int transfer(struct vf_uring *u, enum vf_io_op op, int fd, void *p,
		    size_t len, uint64_t off)
{
	struct op o = {.iov = {p, len}};

	o.io.op = op;
	o.io.fd = fd;
	o.io.iov = &o.iov;
	o.io.n_iov = 1;
	o.io.off = off;
	o.io.len = len;
	return run_op(u, &o);
}

static int open_file(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/file", vf_test_dir());
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static void check_ops(struct vf_uring *u)
{
	VF_AUTO_FD int fd = open_file();
	char in[8192], out[8192];
	struct stat st;

	memset(in, 'x', sizeof(in));
	CU_ASSERT_EQUAL(transfer(u, VF_IO_WRITE, fd, in, sizeof(in), 4096),
			sizeof(in));
	CU_ASSERT_EQUAL(transfer(u, VF_IO_SYNC, fd, NULL, 0, 0), 0);
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, fd, out, sizeof(out), 4096),
			sizeof(out));
	CU_ASSERT(!memcmp(in, out, sizeof(in)));
	CU_ASSERT_EQUAL(transfer(u, VF_IO_PUNCH, fd, NULL, 4096, 4096), 0);
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, fd, out, sizeof(out), 4096),
			sizeof(out));
	CU_ASSERT_EQUAL(out[0], 0);
	CU_ASSERT_EQUAL(out[4096], 'x');
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, fd, out, sizeof(out), 8192),
			4096);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, 12288);
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, -1, out, 10, 0), -EBADF);
}

static struct vf_uring *open_pool(void)
{
	struct vf_uring *u = NULL;

	setenv("VF_NO_URING", "1", 1);
	CU_ASSERT_EQUAL_FATAL(vf_uring_open(&u), 0);
	unsetenv("VF_NO_URING");
	CU_ASSERT(!vf_uring_is_ring(u));
	return u;
}

static struct vf_uring *open_ring(void)
{
	struct vf_uring *u = NULL;

	CU_ASSERT_EQUAL_FATAL(vf_uring_open(&u), 0);
	return u;
}

static void does_operations(void)
{
	struct vf_uring *u = open_ring();

	check_ops(u);
	vf_uring_close(u);
}

static void threads_do_the_same(void)
{
	struct vf_uring *u = open_pool();

	check_ops(u);
	vf_uring_close(u);
}

struct plan {
	int err;
	uint32_t delay_ms;
};

static int inject(void *arg, const struct vf_io *io, uint32_t *out_delay_ms)
{
	const struct plan *p = arg;

	*out_delay_ms = p->delay_ms;
	return p->err;
}

static void check_faults(struct vf_uring *u)
{
	struct plan plan = {-EIO, 0};
	VF_AUTO_FD int fd = open_file();
	char page[4096] = "q";
	uint64_t t;

	CU_ASSERT_EQUAL(transfer(u, VF_IO_WRITE, fd, page, 4096, 0), 4096);
	vf_uring_fault(u, inject, &plan);
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, fd, page, 4096, 0), -EIO);
	plan = (struct plan){0, 60};
	t = vf_now_ns();
	CU_ASSERT_EQUAL(transfer(u, VF_IO_READ, fd, page, 4096, 0), 4096);
	CU_ASSERT(vf_now_ns() - t >= 55000000);
	vf_uring_fault(u, NULL, NULL);
	CU_ASSERT_EQUAL(page[0], 'q');
}

static void faults_are_injected(void)
{
	struct vf_uring *u = open_ring();

	check_faults(u);
	vf_uring_close(u);
	u = open_pool();
	check_faults(u);
	vf_uring_close(u);
}

/* ---- many threads -------------------------------------------------------------- */

enum { THREADS = 16, OPS = 400 };

struct many {
	struct vf_uring *u;
	int fd;
	unsigned number;
	atomic_uint *n_wrong;
};

/* Submits and ends: what is under way must not be lost with its thread. */
static void *submit_and_leave(void *arg)
{
	struct many *m = arg;
	uint64_t seed = m->number;

	for (unsigned i = 0; i < OPS; i++) {
		uint64_t at = vf_test_rand(&seed) % 64 * 4096, got[512];
		if (transfer(m->u, VF_IO_READ, m->fd, got, sizeof(got), at) !=
			    sizeof(got) ||
		    got[0] != at || got[511] != at)
			atomic_fetch_add_explicit(m->n_wrong, 1,
						  memory_order_relaxed);
	}
	return NULL;
}

static void check_many(struct vf_uring *u)
{
	VF_AUTO_FD int fd = open_file();
	pthread_t t[THREADS];
	struct many m[THREADS];
	atomic_uint n_wrong = 0;
	uint64_t page[512];

	for (uint64_t at = 0; at < 64 * 4096; at += 4096) {
		for (unsigned i = 0; i < 512; i++)
			page[i] = at;
		transfer(u, VF_IO_WRITE, fd, page, sizeof(page), at);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		m[i] = (struct many){u, fd, i, &n_wrong};
		pthread_create(&t[i], NULL, submit_and_leave, &m[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CU_ASSERT_EQUAL(n_wrong, 0);
}

static void serves_many_threads(void)
{
	struct vf_uring *u = open_ring();

	check_many(u);
	vf_uring_close(u);
	u = open_pool();
	check_many(u);
	vf_uring_close(u);
}

static void queues_more_than_its_depth(void)
{
	enum { N = 2000 };
	struct vf_uring *u = open_ring();
	VF_AUTO_FD int fd = open_file();
	struct op *ops = calloc(N, sizeof(*ops));
	char page[4096] = {0};
	unsigned n_done = 0;

	transfer(u, VF_IO_WRITE, fd, page, sizeof(page), 0);
	for (unsigned i = 0; i < N; i++) {
		struct op *o = &ops[i];
		o->iov = (struct iovec){malloc(4096), 4096};
		o->io = (struct vf_io){.op = VF_IO_READ,
				       .fd = fd,
				       .iov = &o->iov,
				       .n_iov = 1,
				       .done = note_done};
		vf_uring_submit(u, &o->io);
	}
	vf_uring_close(u); /* waits for all */
	for (unsigned i = 0; i < N; i++) {
		n_done += atomic_load(&ops[i].done) && ops[i].res == 4096;
		free(ops[i].iov.iov_base);
	}
	CU_ASSERT_EQUAL(n_done, N);
	free(ops);
}

static CU_TestInfo tests[] = {
	{"reads, writes, syncs and punches", does_operations},
	{"threads do the same where there is no ring", threads_do_the_same},
	{"faults and delays can be injected", faults_are_injected},
	{"sixteen threads get their own bytes", serves_many_threads},
	{"more operations than fit wait their turn; close waits for them",
	 queues_more_than_its_depth},
	CU_TEST_INFO_NULL};

VF_SUITE("store/uring", tests);
