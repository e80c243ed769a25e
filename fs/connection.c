/*
 * The kernel's interface, by its names (include/uapi/linux/fuse.h of 6.9; the
 * headers of older systems lack a part):
 *
 *   INIT in   flags, flags2        offered: bits 0 to 31 and 32 to 63
 *   INIT out  flags, flags2        wanted: the same
 *             max_stack_depth      the word after flags2: 1, so that a backing
 *                                  file is on a file system of depth 0
 */
#include "fs/fs.h"

#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

enum { OP_INIT = 26, STACK_DEPTH = 1 };

#define PARALLEL_DIROPS (UINT64_C(1) << 18)
#define INIT_EXT	(UINT64_C(1) << 30) /* there is a flags2 */
#define PASSTHROUGH	(UINT64_C(1) << 37)

struct header_in {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, padding;
};

struct init_in {
	struct header_in header;
	uint32_t major, minor, max_readahead, flags, flags2;
};

struct header_out {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

static_assert(sizeof(struct header_in) == 40, "");
static_assert(offsetof(struct init_in, flags2) == 56, "");
static_assert(sizeof(struct header_out) == 16, "");
static_assert(offsetof(struct init_out, flags2) == 32, "");
static_assert(sizeof(struct init_out) == 64, "");

static uint64_t offered_by(const struct init_in *in, ssize_t len)
{
	if (len < (ssize_t)offsetof(struct init_in, flags2))
		return 0;
	if (len < (ssize_t)sizeof(*in) || !(in->flags & INIT_EXT))
		return in->flags;
	return in->flags | (uint64_t)in->flags2 << 32;
}

/* The loop cancels its threads in here: nothing may be held. */
static ssize_t receive(int fd, void *buf, size_t len, void *userdata)
{
	ssize_t n = read(fd, buf, len);
	const struct init_in *in = buf;
	struct vf_connection *c = &((struct fs *)userdata)->connection;

	if (n >= (ssize_t)sizeof(struct header_in) &&
	    in->header.opcode == OP_INIT) {
		atomic_store(&c->offered, offered_by(in, n));
		atomic_store(&c->init_unique, in->header.unique);
	}
	return n;
}

static ssize_t send_init(struct fs *fs, int fd, struct iovec *iov, int count)
{
	uint64_t offered = atomic_load(&fs->connection.offered);
	struct init_out out;
	struct iovec patched[2] = {iov[0], {&out, sizeof(out)}};
	bool is_known = count == 2 && iov[1].iov_len == sizeof(out);
	const char *why_not = NULL;

	if (!is_known)
		why_not = "libfuse answers INIT in a way that is not known";
	else if (!(offered & PASSTHROUGH))
		why_not = "the kernel does not offer it";
	bool passthrough = vf_passthrough_ask(&fs->passthrough, why_not);
	if (!is_known)
		return writev(fd, iov, count);
	memcpy(&out, iov[1].iov_base, sizeof(out));
	out.flags |= (uint32_t)(offered & PARALLEL_DIROPS);
	if (passthrough) {
		out.flags |= (uint32_t)INIT_EXT;
		out.flags2 |= (uint32_t)(PASSTHROUGH >> 32);
		out.max_stack_depth = STACK_DEPTH;
	}
	ssize_t n = writev(fd, patched, 2);
	if (n >= 0 && passthrough)
		vf_passthrough_begin(&fs->passthrough);
	return n;
}

static ssize_t reply(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;
	const struct header_out *h = iov[0].iov_base;
	uint64_t unique = atomic_load_explicit(&fs->connection.init_unique,
					       memory_order_relaxed);

	if (!unique || h->unique != unique)
		return writev(fd, iov, count);
	atomic_store(&fs->connection.init_unique, 0);
	return h->error ? writev(fd, iov, count)
			: send_init(fs, fd, iov, count);
}

int vf_connection_use(struct fuse_session *se, int fd)
{
	static const struct fuse_custom_io io = {.writev = reply,
						 .read = receive};

	return fuse_session_custom_io(se, &io, fd);
}
