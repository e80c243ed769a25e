/*
 * The lines of a text file, one after the other, in bounded memory.
 */
#ifndef VF_TOOLS_LINES_H
#define VF_TOOLS_LINES_H

#include "store/vecfs.h"

struct vf_lines;

/* Bytes of the byte order mark that some programs put before UTF-8: 0 or 3. */
size_t vf_lines_mark_len(const void *p, size_t n);

/*
 * @path  as named by the user, copied; "-" is standard input.  Pipes are kept
 *        in a scratch file.
 * @max   bytes of the longest line that is accepted, without its newline
 * Returns 0; -errno, logged.
 */
int vf_lines_open(const char *path, size_t max, struct vf_lines **out);
/* The same over an open file, which is then the reader's; @name for messages. */
int vf_lines_open_fd(int fd, const char *name, size_t max,
		     struct vf_lines **out);
/* Another reader of the same file, from its first line on. */
int vf_lines_again(const struct vf_lines *l, struct vf_lines **out);
void vf_lines_close(struct vf_lines *l); /* accepts NULL */

/*
 * The next line without its newline, or carriage return and newline, valid
 * until the next call; a last line without newline counts.  A byte order mark
 * before the first is passed over.  *out_line is NULL at the end.
 * Returns 0; -EINVAL too long (logged, naming the line); -errno (logged).
 */
int vf_lines_next(struct vf_lines *l, const char **out_line, size_t *out_len);

/* Go on at byte @off, which begins line number @number (from 1). */
void vf_lines_seek(struct vf_lines *l, uint64_t off, uint64_t number);

/* Of the line that next gave last. */
uint64_t vf_lines_number(const struct vf_lines *l);
uint64_t vf_lines_off(const struct vf_lines *l);
const char *vf_lines_name(const struct vf_lines *l);

#endif
