/*
 * The parts of util.h that are no one-liners, and the message hook.
 *
 * log_hook, log_arg, log_name   [fixed] before threads exist
 * log_level                     [atomic] alone: it orders nothing else
 */
#include "store/util.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/uio.h>

static vf_log_fn *log_hook;
static void *log_arg;
static _Atomic enum vf_level log_level = VF_WARN;
static const char *log_name = "vecfs";

void vf_log_set(vf_log_fn *fn, void *arg, enum vf_level level)
{
	log_hook = fn;
	log_arg = arg;
	vf_log_limit(level);
}

void vf_log_limit(enum vf_level level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

enum vf_level vf_log_level(void)
{
	return atomic_load_explicit(&log_level, memory_order_relaxed);
}

static const char *const level_names[] = {[VF_ERROR] = "error",
					  [VF_WARN] = "warn",
					  [VF_INFO] = "info",
					  [VF_DEBUG] = "debug"};

const char *vf_level_name(enum vf_level level)
{
	return level_names[level];
}

int vf_level_parse(const char *name, enum vf_level *out_level)
{
	for (size_t i = 0; i < VF_N(level_names); i++)
		if (!strcmp(name, level_names[i])) {
			*out_level = (enum vf_level)i;
			return 0;
		}
	return -EINVAL;
}

void vf_log_name(const char *name)
{
	log_name = name;
}

/* Names from buckets reach terminals: no control byte passes. */
static void escape_line(const char *in, char *out, size_t cap)
{
	size_t n = 0;
	for (; *in && n + 5 < cap; in++) {
		unsigned char c = (unsigned char)*in;
		if (c >= 0x20 && c != 0x7f)
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, cap - n, "\\x%02x", c);
	}
	out[n] = '\0';
}

static void log_va(enum vf_level level, const char *fmt, va_list ap)
{
	char raw[2048], line[4096];

	if (level > vf_log_level())
		return;
	vsnprintf(raw, sizeof(raw), fmt, ap);
	escape_line(raw, line, sizeof(line));
	if (log_hook)
		log_hook(log_arg, level, line);
	else
		fprintf(stderr, "%s: %s%s\n", log_name,
			level == VF_WARN ? "warning: " : "", line);
}

void vf_log(enum vf_level level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_va(level, fmt, ap);
	va_end(ap);
}

int vf_fail(int err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_va(VF_ERROR, fmt, ap);
	va_end(ap);
	return err;
}

const char *vf_strerror(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return "success";
	case ENOENT:
		return "not found";
	case EEXIST:
		return "already exists";
	case EBADMSG:
		return "damaged bytes";
	case ENOTSUP:
		return "a format or operation this version does not know";
	case ESTALE:
		return "the object changed";
	case EREMOTEIO:
		return "the bucket failed";
	case ECANCELED:
		return "shutting down";
	case EINPROGRESS:
		return "the outcome is unknown";
	default:
		return strerror(err < 0 ? -err : err);
	}
}

/* ---- names of types ------------------------------------------------------ */

static const struct {
	const char *name;
	size_t size;
} dtypes[] = {
	[VF_F32] = {"f32", 4}, [VF_F16] = {"f16", 2}, [VF_U8] = {"u8", 1}};

static const char *const metrics[] = {
	[VF_COSINE] = "cosine", [VF_EUCLIDEAN] = "euclidean", [VF_DOT] = "dot"};

size_t vf_dtype_size(enum vf_dtype t)
{
	return (size_t)t < VF_N(dtypes) ? dtypes[t].size : 0;
}

const char *vf_dtype_name(enum vf_dtype t)
{
	return vf_dtype_size(t) ? dtypes[t].name : "?";
}

const char *vf_metric_name(enum vf_metric m)
{
	return m >= VF_COSINE && m <= VF_DOT ? metrics[m] : "?";
}

int vf_metric_parse(const char *name, enum vf_metric *out_metric)
{
	for (unsigned i = 1; i < VF_N(metrics); i++)
		if (!strcmp(name, metrics[i])) {
			*out_metric = i;
			return 0;
		}
	return -EINVAL;
}

int vf_dtype_parse(const char *name, enum vf_dtype *out_dtype)
{
	for (unsigned i = 1; i < VF_N(dtypes); i++)
		if (!strcmp(name, dtypes[i].name)) {
			*out_dtype = i;
			return 0;
		}
	return -EINVAL;
}

/* ---- buffer -------------------------------------------------------------- */

int vf_buf_reserve(struct vf_buf *b, size_t more)
{
	size_t need, cap;

	if (VF_ADD(b->len, more, &need))
		return -ENOMEM;
	if (need <= b->cap)
		return 0;
	cap = VF_MAX(need, b->cap + b->cap / 2);
	cap = VF_MAX(cap, (size_t)256);
	uint8_t *p = realloc(b->data, cap);
	if (!p)
		return -ENOMEM;
	b->data = p;
	b->cap = cap;
	return 0;
}

int vf_buf_append(struct vf_buf *b, const void *p, size_t len)
{
	int err = vf_buf_reserve(b, len);

	if (err || !len)
		return err;
	if (p)
		memcpy(b->data + b->len, p, len);
	else
		memset(b->data + b->len, 0, len);
	b->len += len;
	return 0;
}

int vf_buf_printf(struct vf_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n, err;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	err = n < 0 ? -EINVAL : vf_buf_reserve(b, (size_t)n + 1);
	if (!err) {
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
	return err;
}

void vf_buf_fini(struct vf_buf *b)
{
	free(b->data);
	*b = (struct vf_buf){0};
}

/* ---- bytes ----------------------------------------------------------------- */

void vf_random(void *p, size_t len)
{
	uint8_t *at = p;

	while (len) {
		ssize_t n = getrandom(at, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		assert(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

void vf_hex(const void *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int vf_unhex(const char *s, void *out, size_t len)
{
	uint8_t *b = out;

	if (strlen(s) != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int hi = hex_digit(s[2 * i]), lo = hex_digit(s[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		b[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

int vf_parse_size(const char *s, uint64_t *out)
{
	static const char units[] = "KMGT";
	uint64_t v = 0;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++)
		if (VF_MUL(v, 10u, &v) || VF_ADD(v, (unsigned)(*s - '0'), &v))
			return -EINVAL;
	const char *unit =
		*s ? strchr(units, toupper((unsigned char)*s)) : NULL;
	if (unit) {
		if (VF_MUL(v, UINT64_C(1) << 10 * (unit - units + 1), &v))
			return -EINVAL;
		s++;
	}
	*out = v;
	return *s ? -EINVAL : 0;
}

int vf_pread_all(int fd, void *buf, size_t len, uint64_t off)
{
	uint8_t *at = buf;

	while (len) {
		ssize_t n = pread(fd, at, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		at += n;
		off += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int vf_preadv_all(int fd, struct iovec *iov, int n, uint64_t off)
{
	for (;;) {
		for (; n && !iov->iov_len; iov++)
			n--;
		if (!n)
			return 0;
		ssize_t got = preadv(fd, iov, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -ENODATA;
		off += (size_t)got;
		for (size_t len = (size_t)got; len; iov += !iov->iov_len) {
			size_t part = VF_MIN(len, iov->iov_len);
			iov->iov_base = (uint8_t *)iov->iov_base + part;
			iov->iov_len -= part;
			n -= !iov->iov_len;
			len -= part;
		}
	}
}

int vf_write_all(int fd, const void *buf, size_t len)
{
	const uint8_t *at = buf;

	while (len) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int vf_pwrite_all(int fd, const void *buf, size_t len, uint64_t off)
{
	const uint8_t *at = buf;

	while (len) {
		ssize_t n = pwrite(fd, at, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		off += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* The other way round: 0 cannot be read, 1 and 2 cannot be written. */
void vf_std_occupy(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null",
			 fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			abort();
}

/* ---- CRC32C ------------------------------------------------------------------ */

static uint32_t crc32c_table(uint32_t crc, const uint8_t *p, size_t len)
{
	static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede,
					    0x30e349b1, 0x417b1dbc, 0x5125dad3,
					    0x61c69362, 0x7198540d, 0x82f63b78,
					    0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
					    0xc38d26c4, 0xd3d3e1ab, 0xe330a81a,
					    0xf36e6f75};

	for (; len; len--, p++) {
		crc ^= *p;
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc32c_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc;

	for (; len >= 8; len -= 8, p += 8)
		c = __builtin_ia32_crc32di(c, vf_le64(p));
	for (; len; len--, p++)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p);
	return (uint32_t)c;
}

/* Four at once: the instruction takes three cycles, but one starts in each. */
__attribute__((target("sse4.2"))) static void
crc32c_four_sse42(const uint8_t *p, size_t len, uint32_t out[4])
{
	uint64_t a = UINT32_MAX, b = a, c = a, d = a;

	for (size_t i = 0; i < len; i += 8) {
		a = __builtin_ia32_crc32di(a, vf_le64(p + i));
		b = __builtin_ia32_crc32di(b, vf_le64(p + len + i));
		c = __builtin_ia32_crc32di(c, vf_le64(p + 2 * len + i));
		d = __builtin_ia32_crc32di(d, vf_le64(p + 3 * len + i));
	}
	out[0] = ~(uint32_t)a;
	out[1] = ~(uint32_t)b;
	out[2] = ~(uint32_t)c;
	out[3] = ~(uint32_t)d;
}
#endif

uint32_t vf_crc32c(uint32_t crc, const void *p, size_t len)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc32c_sse42(~crc, p, len);
#endif
	return ~crc32c_table(~crc, p, len);
}

void vf_crc32c_each(const void *p, size_t len, size_t piece, uint32_t *out)
{
	const uint8_t *at = p;

#if defined(__x86_64__)
	if (piece % 8 == 0 && __builtin_cpu_supports("sse4.2"))
		for (; len >= 4 * piece; len -= 4 * piece, out += 4) {
			crc32c_four_sse42(at, piece, out);
			at += 4 * piece;
		}
#endif
	while (len) {
		size_t n = VF_MIN(len, piece);
		*out++ = vf_crc32c(0, at, n);
		at += n;
		len -= n;
	}
}
