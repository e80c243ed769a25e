/*
 *   0 magic  4 version  8 state  12 trials  16 len  24 crc of the file
 *   28 crc of these  32 the mark (one byte)
 *
 *   SEALED   at rest; len and crc are those of data.mdb
 *   OPEN     in use, or ended without closing; @trials openings in a row, of
 *            which all but the last ended while LMDB was at work
 */
#include "store/disk_seal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	VERSION = 1,
	SEAL_LEN = 32,
	MARK = SEAL_LEN, /* offset; one byte */
	TRIALS_MAX = 3,
	CHUNK = 1 << 20,
};
enum { SEALED = 1, OPEN = 2 };
#define MAGIC 0x53444656u /* "VFDS" */

struct seal {
	uint32_t state, trials, crc;
	uint64_t len;
	bool at_work; /* the mark; read, not written with the rest */
};

static int open_in(const char *dir, const char *name, int flags)
{
	char path[4096 + 16];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int write_seal(const char *dir, const struct seal *s)
{
	VF_AUTO_FD int fd = open_in(dir, "seal", O_RDWR | O_CREAT);
	uint8_t b[SEAL_LEN];

	vf_put_le32(b, MAGIC);
	vf_put_le32(b + 4, VERSION);
	vf_put_le32(b + 8, s->state);
	vf_put_le32(b + 12, s->trials);
	vf_put_le64(b + 16, s->len);
	vf_put_le32(b + 24, s->crc);
	vf_put_le32(b + 28, vf_crc32c(0, b, 28));
	if (fd < 0 || pwrite(fd, b, sizeof(b), 0) != sizeof(b) || fdatasync(fd))
		return vf_fail(errno ? -errno : -EIO, "%s/seal: %s", dir,
			       strerror(errno));
	return 0;
}

/* Returns 0; -ENOENT; -EBADMSG. */
static int read_seal(const char *dir, struct seal *out)
{
	VF_AUTO_FD int fd = open_in(dir, "seal", O_RDONLY);
	uint8_t b[SEAL_LEN];

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : -EBADMSG;
	if (vf_pread_all(fd, b, sizeof(b), 0) || vf_le32(b) != MAGIC ||
	    vf_le32(b + 4) != VERSION || vf_le32(b + 28) != vf_crc32c(0, b, 28))
		return -EBADMSG;
	out->state = vf_le32(b + 8);
	out->trials = vf_le32(b + 12);
	out->len = vf_le64(b + 16);
	out->crc = vf_le32(b + 24);
	out->at_work = pread(fd, b, 1, MARK) != 1 || b[0];
	return 0;
}

static int write_mark(const char *dir)
{
	VF_AUTO_FD int fd = open_in(dir, "seal", O_RDWR);
	const uint8_t at_work = 1;

	if (fd >= 0 && pwrite(fd, &at_work, 1, MARK) == 1)
		return 0;
	return vf_fail(errno ? -errno : -EIO, "%s/seal: %s", dir,
		       strerror(errno));
}

volatile uint8_t *vf_disk_seal_mark(const char *dir)
{
	VF_AUTO_FD int fd = open_in(dir, "seal", O_RDWR);
	uint8_t *p = fd < 0 ? MAP_FAILED
			    : mmap(NULL, MARK + 1, PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p + MARK;
}

void vf_disk_seal_unmark(volatile uint8_t *mark)
{
	if (mark)
		munmap((uint8_t *)mark - MARK, MARK + 1);
}

static int measure(const char *dir, struct seal *out)
{
	VF_AUTO_FD int fd = open_in(dir, "data.mdb", O_RDONLY);
	VF_AUTO_FREE uint8_t *buf = malloc(CHUNK);
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (!buf)
		return -ENOMEM;
	out->len = 0;
	out->crc = 0;
	while ((n = pread(fd, buf, CHUNK, (off_t)out->len)) > 0) {
		out->crc = vf_crc32c(out->crc, buf, (size_t)n);
		out->len += (size_t)n;
	}
	return n < 0 ? -errno : 0;
}

static int check_seal(const char *dir, const struct seal *s)
{
	struct seal now;

	if (s->state == OPEN)
		return s->at_work && s->trials >= TRIALS_MAX ? -EBADMSG : 0;
	if (s->state != SEALED || measure(dir, &now) || now.len != s->len ||
	    now.crc != s->crc)
		return -EBADMSG;
	return 0;
}

int vf_disk_seal_break(const char *dir)
{
	struct seal s = {0};
	int err = read_seal(dir, &s), written;
	bool is_bad = err == -EBADMSG || (!err && check_seal(dir, &s));

	s.trials = is_bad || s.state != OPEN || !s.at_work ? 1 : s.trials + 1;
	s.state = OPEN;
	s.len = s.crc = 0;
	written = write_seal(dir, &s);
	if (!written)
		written = write_mark(dir);
	return written ? written : is_bad ? -EBADMSG : 0;
}

void vf_disk_seal_prove(const char *dir)
{
	struct seal s = {.state = OPEN};

	write_seal(dir, &s);
}

void vf_disk_seal_set(const char *dir)
{
	struct seal s = {.state = SEALED};

	if (!measure(dir, &s))
		write_seal(dir, &s);
}

void vf_disk_seal_remove(const char *dir)
{
	char path[4096 + 16];

	snprintf(path, sizeof(path), "%s/seal", dir);
	unlink(path);
}
