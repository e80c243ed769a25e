/*
 * The directory is at the end of an archive; a file is found through it, and
 * its bytes behind a header of its own whose length only that header says.
 */
#include "tools/zip.h"

#include <fcntl.h>
#include <zlib.h>

#include "tools/scratchfile.h"

enum {
	LOCAL_SIG = 0x04034b50,
	ENTRY_SIG = 0x02014b50,
	END_SIG = 0x06054b50,
	END64_SIG = 0x06064b50,
	LOCATOR_SIG = 0x07064b50,
	LOCAL_LEN = 30,
	ENTRY_LEN = 46,
	END_LEN = 22,
	END64_LEN = 56,
	LOCATOR_LEN = 20,
	TAIL_MAX = 65535 + END_LEN + LOCATOR_LEN,
	DIRECTORY_MAX = 16 << 20,
	MEMBERS_MAX = 65536,
	ZIP64_ID = 1,
	STORED = 0,
	DEFLATED = 8,
	ENCRYPTED = 1,
	BUF_LEN = 256 << 10,
};

#define MANY32 UINT32_MAX /* the number is in the zip64 part */

struct directory {
	uint64_t off, len;
};

/* ---- finding the directory --------------------------------------------------------- */

static const char *take_end64(int fd, const uint8_t *locator,
			      struct directory *d)
{
	uint8_t b[END64_LEN];

	if (vf_le32(locator) != LOCATOR_SIG ||
	    vf_pread_all(fd, b, sizeof(b), vf_le64(locator + 8)) ||
	    vf_le32(b) != END64_SIG)
		return "its zip64 directory is damaged";
	d->len = vf_le64(b + 40);
	d->off = vf_le64(b + 48);
	return NULL;
}

static const char *find_directory(int fd, uint64_t len, struct directory *d)
{
	size_t n = (size_t)VF_MIN(len, (uint64_t)TAIL_MAX), at;
	VF_AUTO_FREE uint8_t *tail = malloc(n + 1);

	if (!tail || n < END_LEN || vf_pread_all(fd, tail, n, len - n))
		return "cannot be read";
	for (at = n - END_LEN; at && vf_le32(tail + at) != END_SIG;)
		at--;
	if (vf_le32(tail + at) != END_SIG)
		return "has no directory: cut short";
	d->len = vf_le32(tail + at + 12);
	d->off = vf_le32(tail + at + 16);
	if ((d->len == MANY32 || d->off == MANY32) && at >= LOCATOR_LEN)
		return take_end64(fd, tail + at - LOCATOR_LEN, d);
	return NULL;
}

/* ---- its entries ---------------------------------------------------------------------- */

/* Sizes over 4 GiB, in the order of those that are missing. */
static void take_zip64(const uint8_t *p, size_t n, struct vf_zip_member *m)
{
	uint64_t *const wanted[] = {&m->len, &m->stored_len, &m->header_off};

	while (n >= 4) {
		size_t len = vf_le16(p + 2), at = 4;
		if (len > n - 4)
			return;
		for (size_t i = 0; vf_le16(p) == ZIP64_ID && i < 3; i++)
			if (*wanted[i] == MANY32 && at + 8 <= len + 4) {
				*wanted[i] = vf_le64(p + at);
				at += 8;
			}
		p += 4 + len;
		n -= 4 + len;
	}
}

/* One entry at @p; returns its length, 0 when it is none. */
static size_t take_entry(const uint8_t *p, size_t n, struct vf_zip_member *m)
{
	if (n < ENTRY_LEN || vf_le32(p) != ENTRY_SIG)
		return 0;
	size_t name_len = vf_le16(p + 28), extra_len = vf_le16(p + 30);
	size_t len = ENTRY_LEN + name_len + extra_len + vf_le16(p + 32);
	if (len > n)
		return 0;
	*m = (struct vf_zip_member){.flags = vf_le16(p + 8),
				    .method = vf_le16(p + 10),
				    .crc = vf_le32(p + 16),
				    .stored_len = vf_le32(p + 20),
				    .len = vf_le32(p + 24),
				    .header_off = vf_le32(p + 42)};
	if (name_len <= VF_ZIP_NAME_MAX)
		memcpy(m->name, p + ENTRY_LEN, name_len);
	take_zip64(p + ENTRY_LEN + name_len, extra_len, m);
	return len;
}

static int take_members(const uint8_t *p, size_t n, struct vf_zip *out)
{
	struct vf_zip_member m;

	for (size_t len; n >= 4 && vf_le32(p) == ENTRY_SIG;
	     p += len, n -= len) {
		len = take_entry(p, n, &m);
		if (!len || out->n == MEMBERS_MAX)
			return -EINVAL;
		if (!m.name[0])
			continue;
		void *more = realloc(out->members,
				     (out->n + 1) * sizeof(*out->members));
		if (!more)
			return -ENOMEM;
		out->members = more;
		out->members[out->n++] = m;
	}
	return 0;
}

int vf_zip_open(int fd, uint64_t len, struct vf_zip *out,
		const char **out_reason)
{
	struct directory d = {0};

	*out = (struct vf_zip){0};
	*out_reason = find_directory(fd, len, &d);
	if (!*out_reason &&
	    (d.len > DIRECTORY_MAX || d.off > len || d.len > len - d.off))
		*out_reason = "its directory is damaged";
	if (*out_reason)
		return -EINVAL;
	VF_AUTO_FREE uint8_t *p = malloc(d.len + 1);
	int err = p ? vf_pread_all(fd, p, d.len, d.off) : -ENOMEM;
	if (!err)
		err = take_members(p, d.len, out);
	if (err)
		vf_zip_close(out);
	*out_reason = "its directory is damaged";
	return err;
}

void vf_zip_close(struct vf_zip *z)
{
	free(z->members);
	*z = (struct vf_zip){0};
}

const struct vf_zip_member *vf_zip_find(const struct vf_zip *z,
					const char *name)
{
	for (size_t i = 0; i < z->n; i++)
		if (!strcmp(z->members[i].name, name))
			return &z->members[i];
	return NULL;
}

/* ---- a member's bytes -------------------------------------------------------------------- */

uint32_t vf_zip_crc(uint32_t crc, const void *p, size_t len)
{
	return (uint32_t)crc32_z(crc, p, len);
}

struct extract {
	int fd, to;
	uint64_t off, left, written;
	uint64_t len; /* that the directory promises */
	uint32_t crc;
	uint8_t in[BUF_LEN], out[BUF_LEN];
};

static const char *take_output(struct extract *x, size_t n)
{
	if (n > x->len - x->written)
		return "has a member longer than its directory says";
	x->crc = vf_zip_crc(x->crc, x->out, n);
	if (vf_pwrite_all(x->to, x->out, n, x->written))
		return "cannot be inflated: the scratch folder is full";
	x->written += n;
	return NULL;
}

static const char *inflate_some(struct extract *x, z_stream *z, int *out_rc)
{
	const char *why = NULL;

	do {
		z->next_out = x->out;
		z->avail_out = sizeof(x->out);
		*out_rc = inflate(z, Z_NO_FLUSH);
		if (*out_rc != Z_OK && *out_rc != Z_STREAM_END &&
		    *out_rc != Z_BUF_ERROR)
			return "has a member that cannot be inflated";
		why = take_output(x, sizeof(x->out) - z->avail_out);
	} while (!why && !z->avail_out && *out_rc != Z_STREAM_END);
	return why;
}

static const char *inflate_member(struct extract *x)
{
	z_stream z = {0};
	const char *why = NULL;
	int rc = Z_OK;

	if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
		return strerror(ENOMEM);
	while (!why && x->left && rc != Z_STREAM_END) {
		size_t n = (size_t)VF_MIN(x->left, (uint64_t)sizeof(x->in));
		if (vf_pread_all(x->fd, x->in, n, x->off)) {
			why = "cannot be read";
			break;
		}
		x->off += n;
		x->left -= n;
		z.next_in = x->in;
		z.avail_in = (uInt)n;
		why = inflate_some(x, &z, &rc);
	}
	inflateEnd(&z);
	if (!why && (rc != Z_STREAM_END || x->written != x->len))
		why = "has a member that is cut short";
	return why;
}

static const char *sum_member(struct extract *x)
{
	while (x->left) {
		size_t n = (size_t)VF_MIN(x->left, (uint64_t)sizeof(x->in));
		if (vf_pread_all(x->fd, x->in, n, x->off))
			return "cannot be read";
		x->crc = vf_zip_crc(x->crc, x->in, n);
		x->off += n;
		x->left -= n;
	}
	return NULL;
}

static const char *find_bytes(int fd, uint64_t len,
			      const struct vf_zip_member *m, uint64_t *out_off)
{
	uint8_t b[LOCAL_LEN];

	if (m->flags & ENCRYPTED)
		return "has an encrypted member";
	if (m->method != STORED && m->method != DEFLATED)
		return "has a member compressed by neither nothing nor "
		       "deflate";
	if (m->header_off > len || len - m->header_off < LOCAL_LEN ||
	    vf_pread_all(fd, b, sizeof(b), m->header_off) ||
	    vf_le32(b) != LOCAL_SIG)
		return "has a member without a header";
	*out_off =
		m->header_off + LOCAL_LEN + vf_le16(b + 26) + vf_le16(b + 28);
	if (*out_off > len || m->stored_len > len - *out_off ||
	    (m->method == STORED && m->len != m->stored_len))
		return "has a member that is cut short";
	return NULL;
}

int vf_zip_extract(int fd, uint64_t len, const char *name,
		   const struct vf_zip_member *m, int *out_fd,
		   uint64_t *out_off)
{
	VF_AUTO_FREE struct extract *x = malloc(sizeof(*x));
	VF_AUTO_FD int to = -1;
	uint64_t off = 0;
	const char *why = find_bytes(fd, len, m, &off);
	bool inflates = m->method == DEFLATED;

	if (!x)
		return vf_fail(-ENOMEM, "%s: %s", name, strerror(ENOMEM));
	if (!why) {
		int err = 0;
		if (inflates)
			err = vf_scratch_open(NULL, &to);
		else if ((to = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
			err = vf_fail(-errno, "%s: %s", name, strerror(errno));
		if (err)
			return err;
		x->fd = fd;
		x->to = to;
		x->off = off;
		x->left = m->stored_len;
		x->len = m->len;
		x->written = x->crc = 0;
		why = inflates ? inflate_member(x) : sum_member(x);
	}
	if (!why && x->crc != m->crc)
		why = "has a damaged member";
	if (why)
		return vf_fail(-EINVAL, "%s: %s: %s", name, why, m->name);
	*out_off = inflates ? 0 : off;
	*out_fd = to;
	to = -1;
	return 0;
}

/* ---- writing ------------------------------------------------------------------------------- */

enum { VERSION_64 = 45, DATE_1980 = 0x21 };

/* What a local header and an entry have in common, from "version needed". */
static void put_common(const struct vf_zip_member *m, uint8_t *to,
		       uint16_t extra_len)
{
	memset(to, 0, 26);
	vf_put_le16(to, VERSION_64);
	vf_put_le16(to + 8, DATE_1980);
	vf_put_le32(to + 10, m->crc);
	vf_put_le32(to + 14, MANY32);
	vf_put_le32(to + 18, MANY32);
	vf_put_le16(to + 22, (uint16_t)strlen(m->name));
	vf_put_le16(to + 24, extra_len);
}

size_t vf_zip_header(const struct vf_zip_member *m,
		     uint8_t out[VF_ZIP_HEADER_MAX])
{
	size_t n = strlen(m->name);
	uint8_t *extra = out + LOCAL_LEN + n;

	vf_put_le32(out, LOCAL_SIG);
	put_common(m, out + 4, 20);
	memcpy(out + LOCAL_LEN, m->name, n);
	vf_put_le16(extra, ZIP64_ID);
	vf_put_le16(extra + 2, 16);
	vf_put_le64(extra + 4, m->len);
	vf_put_le64(extra + 12, m->stored_len);
	return LOCAL_LEN + n + 20;
}

static int put_entry(const struct vf_zip_member *m, struct vf_buf *out)
{
	uint8_t b[ENTRY_LEN] = {0}, extra[28];

	vf_put_le32(b, ENTRY_SIG);
	vf_put_le16(b + 4, VERSION_64);
	put_common(m, b + 6, sizeof(extra));
	vf_put_le32(b + 42, MANY32);
	vf_put_le16(extra, ZIP64_ID);
	vf_put_le16(extra + 2, 24);
	vf_put_le64(extra + 4, m->len);
	vf_put_le64(extra + 12, m->stored_len);
	vf_put_le64(extra + 20, m->header_off);
	int err = vf_buf_append(out, b, sizeof(b));
	if (!err)
		err = vf_buf_append(out, m->name, strlen(m->name));
	return err ? err : vf_buf_append(out, extra, sizeof(extra));
}

int vf_zip_directory(const struct vf_zip_member *members, size_t n,
		     uint64_t off, struct vf_buf *out)
{
	uint8_t b[END64_LEN + LOCATOR_LEN + END_LEN] = {0};
	uint8_t *locator = b + END64_LEN, *end = locator + LOCATOR_LEN;
	size_t before = out->len;
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = put_entry(&members[i], out);
	uint64_t len = out->len - before;
	vf_put_le32(b, END64_SIG);
	vf_put_le64(b + 4, END64_LEN - 12);
	vf_put_le16(b + 12, VERSION_64);
	vf_put_le16(b + 14, VERSION_64);
	vf_put_le64(b + 24, n);
	vf_put_le64(b + 32, n);
	vf_put_le64(b + 40, len);
	vf_put_le64(b + 48, off);
	vf_put_le32(locator, LOCATOR_SIG);
	vf_put_le64(locator + 8, off + len);
	vf_put_le32(locator + 16, 1);
	vf_put_le32(end, END_SIG);
	vf_put_le16(end + 8, (uint16_t)n);
	vf_put_le16(end + 10, (uint16_t)n);
	vf_put_le32(end + 12, MANY32);
	vf_put_le32(end + 16, MANY32);
	return err ? err : vf_buf_append(out, b, sizeof(b));
}
