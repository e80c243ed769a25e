/*
 * ZIP archives as far as .npz needs them: members stored or deflated are read,
 * stored ones are written, sizes over 4 GiB included (zip64).
 * Source: PKWARE's APPNOTE.TXT, 4.3 and 4.5.3.
 */
#ifndef VF_TOOLS_ZIP_H
#define VF_TOOLS_ZIP_H

#include "store/util.h"

enum { VF_ZIP_NAME_MAX = 255 };

struct vf_zip_member {
	char name[VF_ZIP_NAME_MAX + 1];
	uint16_t flags, method;
	uint32_t crc;
	uint64_t stored_len, len, header_off;
};

struct vf_zip {
	struct vf_zip_member *members; /* owned */
	size_t n;
};

/*
 * Read the directory of the archive @fd of @len bytes; members with longer
 * names are left out.
 * Returns 0; -EINVAL with @out_reason, a constant; -ENOMEM; -errno.
 */
int vf_zip_open(int fd, uint64_t len, struct vf_zip *out,
		const char **out_reason);
void vf_zip_close(struct vf_zip *z);
/* NULL: no such member. */
const struct vf_zip_member *vf_zip_find(const struct vf_zip *z,
					const char *name);

/*
 * The bytes of a member as a range of a file: of @fd itself where they are
 * stored, else of a nameless file they are inflated into.  *out_fd is the
 * caller's to close in both cases.  Checks the CRC.
 * Returns 0; -EINVAL damaged, or a method we do not read; -errno; logged.
 */
int vf_zip_extract(int fd, uint64_t len, const char *name,
		   const struct vf_zip_member *m, int *out_fd,
		   uint64_t *out_off);

/* ---- writing ------------------------------------------------------------------- */

enum { VF_ZIP_HEADER_MAX = 30 + VF_ZIP_NAME_MAX + 20 };

/* The header in front of a stored member; returns its length. */
size_t vf_zip_header(const struct vf_zip_member *m,
		     uint8_t out[VF_ZIP_HEADER_MAX]);
/* Append the directory, which follows the last member at @off. */
int vf_zip_directory(const struct vf_zip_member *members, size_t n,
		     uint64_t off, struct vf_buf *out);

/* CRC-32 as ZIP has it, continuing from @crc (0 to begin). */
uint32_t vf_zip_crc(uint32_t crc, const void *p, size_t len);

#endif
