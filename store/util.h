/*
 * Small things every file uses: scope cleanup, checked arithmetic,
 * little-endian loads and stores, a growing buffer, CRC32C, messages.
 */
#ifndef VF_STORE_UTIL_H
#define VF_STORE_UTIL_H

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/vecfs.h"

#define VF_N(a)	     (sizeof(a) / sizeof((a)[0]))
#define VF_MIN(a, b) ((a) < (b) ? (a) : (b))
#define VF_MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- scope cleanup ---------------------------------------------------- */

static inline void vf_free_at_exit_(void *pp)
{
	free(*(void **)pp);
}

static inline void vf_close_at_exit_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define VF_CLEANUP(fn) __attribute__((cleanup(fn)))
#define VF_AUTO_FREE   VF_CLEANUP(vf_free_at_exit_)
#define VF_AUTO_FD     VF_CLEANUP(vf_close_at_exit_)

/* Give up ownership of a scoped pointer. */
#define VF_STEAL(p)                                                            \
	({                                                                     \
		__typeof__(p) stolen_ = (p);                                   \
		(p) = NULL;                                                    \
		stolen_;                                                       \
	})

/* ---- checked arithmetic: true means it overflowed ---------------------- */

#define VF_ADD(a, b, out) __builtin_add_overflow(a, b, out)
#define VF_SUB(a, b, out) __builtin_sub_overflow(a, b, out)
#define VF_MUL(a, b, out) __builtin_mul_overflow(a, b, out)

static inline uint64_t vf_round_up(uint64_t n, uint64_t step)
{
	return (n + step - 1) / step * step;
}

/* The finaliser of splitmix64: every bit of @z moves every bit of the result. */
static inline uint64_t vf_mix64(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014): any seed is good. */
static inline uint64_t vf_splitmix64(uint64_t *state)
{
	return vf_mix64(*state += 0x9e3779b97f4a7c15);
}

/* ---- little-endian, unaligned ------------------------------------------ */

#define VF_DEFINE_LE(bits)                                                     \
	static inline uint##bits##_t vf_le##bits(const void *p)                \
	{                                                                      \
		uint##bits##_t v;                                              \
		memcpy(&v, p, sizeof(v));                                      \
		return le##bits##toh(v);                                       \
	}                                                                      \
	static inline void vf_put_le##bits(void *p, uint##bits##_t v)          \
	{                                                                      \
		v = htole##bits(v);                                            \
		memcpy(p, &v, sizeof(v));                                      \
	}
VF_DEFINE_LE(16)
VF_DEFINE_LE(32)
VF_DEFINE_LE(64)
#undef VF_DEFINE_LE

/* ---- growing buffer ----------------------------------------------------- */

struct vf_buf {
	uint8_t *data; /* owned; NULL while empty */
	size_t len, cap;
};

/* Make room for @more bytes.  Returns 0; -ENOMEM, buffer unchanged. */
int vf_buf_reserve(struct vf_buf *b, size_t more);
/* Returns 0; -ENOMEM. @p NULL appends zeros. */
int vf_buf_append(struct vf_buf *b, const void *p, size_t len);
int vf_buf_printf(struct vf_buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void vf_buf_fini(struct vf_buf *b);
#define VF_AUTO_BUF VF_CLEANUP(vf_buf_fini)

/* ---- checks and time ------------------------------------------------------ */

/*
 * CRC32C (Castagnoli) of @len bytes, continuing from @crc (0 to begin).
 * Threads: any.  Source: RFC 3720, appendix B.4.
 */
uint32_t vf_crc32c(uint32_t crc, const void *p, size_t len);
/* Of each @piece bytes of @p, the last one shorter, into out[]; faster than
 * one after the other. */
void vf_crc32c_each(const void *p, size_t len, size_t piece, uint32_t *out);

static inline uint64_t vf_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Fill with bytes from the kernel's generator; aborts if it has none. */
void vf_random(void *p, size_t len);

/* Write 2 * @len lower-case hex digits and a NUL. */
void vf_hex(const void *p, size_t len, char *out);
/* Returns 0; -EINVAL unless @s is exactly 2 * @len hex digits. */
int vf_unhex(const char *s, void *out, size_t len);

/* "17", "2G" (1024-based: K M G T).  Returns 0; -EINVAL. */
int vf_parse_size(const char *s, uint64_t *out);

/* read(2) all of it.  Returns 0; -ENODATA on an early end; -errno. */
int vf_pread_all(int fd, void *buf, size_t len, uint64_t off);
/* The same into several places, at most IOV_MAX; @iov is spent. */
struct iovec;
int vf_preadv_all(int fd, struct iovec *iov, int n, uint64_t off);
int vf_write_all(int fd, const void *buf, size_t len);
int vf_pwrite_all(int fd, const void *buf, size_t len, uint64_t off);

/*
 * Whichever of descriptors 0 to 2 the caller has closed is taken, so that no
 * file gets its number and then what is printed.  First in every main; using
 * them fails as when closed.
 */
void vf_std_occupy(void);

/* ---- messages --------------------------------------------------------------- */

void vf_log(enum vf_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Log at VF_ERROR and return @err: `return vf_fail(-EINVAL, "...")`. */
int vf_fail(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
