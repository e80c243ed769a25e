/*
 * A window of the file that slides forward; it grows to the longest line.
 *
 *   buf[at..end)   read, not given out yet
 *   off            of buf[at] in the file
 */
#include "tools/lines.h"

#include <fcntl.h>

#include "store/util.h"
#include "tools/scratchfile.h"

enum { WINDOW = 256 << 10 };

struct vf_lines {
	char *name;
	int fd;
	size_t max;
	char *buf;
	size_t cap, at, end;
	uint64_t off, line_off, number;
};

size_t vf_lines_mark_len(const void *p, size_t n)
{
	static const uint8_t mark[] = {0xef, 0xbb, 0xbf};

	return n >= sizeof(mark) && !memcmp(p, mark, sizeof(mark))
		       ? sizeof(mark)
		       : 0;
}

int vf_lines_open_fd(int fd, const char *name, size_t max,
		     struct vf_lines **out)
{
	struct vf_lines *l = calloc(1, sizeof(*l));

	if (!l)
		goto fail;
	*l = (struct vf_lines){.fd = fd,
			       .name = strdup(name),
			       .max = max,
			       .cap = WINDOW,
			       .buf = malloc(WINDOW)};
	if (!l->name || !l->buf)
		goto fail;
	*out = l;
	return 0;
fail:
	if (l)
		vf_lines_close(l);
	else
		close(fd);
	return vf_fail(-ENOMEM, "%s: %s", name, strerror(ENOMEM));
}

int vf_lines_open(const char *path, size_t max, struct vf_lines **out)
{
	int fd, err = vf_scratch_input(&path, &fd);

	return err ? err : vf_lines_open_fd(fd, path, max, out);
}

int vf_lines_again(const struct vf_lines *l, struct vf_lines **out)
{
	int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return vf_fail(-errno, "%s: %s", l->name, strerror(errno));
	return vf_lines_open_fd(fd, l->name, l->max, out);
}

void vf_lines_close(struct vf_lines *l)
{
	if (!l)
		return;
	close(l->fd);
	free(l->name);
	free(l->buf);
	free(l);
}

/* Read more behind what is there; *out_n 0 at the end of the file. */
static int fill_window(struct vf_lines *l, size_t *out_n)
{
	if (l->at) {
		memmove(l->buf, l->buf + l->at, l->end - l->at);
		l->end -= l->at;
		l->at = 0;
	}
	if (l->end == l->cap) {
		char *p = realloc(l->buf, l->cap * 2);
		if (!p)
			return vf_fail(-ENOMEM, "%s: %s", l->name,
				       strerror(ENOMEM));
		l->buf = p;
		l->cap *= 2;
	}
	ssize_t n;
	do
		n = pread(l->fd, l->buf + l->end, l->cap - l->end,
			  (off_t)(l->off + l->end)); /* at is 0 */
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return vf_fail(-errno, "%s: %s", l->name, strerror(errno));
	l->end += (size_t)n;
	*out_n = (size_t)n;
	if (!l->off)
		l->at = l->off = vf_lines_mark_len(l->buf, l->end);
	return 0;
}

/* Without the end of a line as Windows writes it. */
static size_t strip_return(const char *line, size_t len)
{
	return len - (len && line[len - 1] == '\r');
}

int vf_lines_next(struct vf_lines *l, const char **out_line, size_t *out_len)
{
	size_t seen = 0, more = 1;
	const char *newline = NULL;

	for (;;) {
		size_t have = l->end - l->at;
		newline = memchr(l->buf + l->at + seen, '\n', have - seen);
		if (newline || !more || have > l->max + 1) /* and a return */
			break;
		seen = have;
		int err = fill_window(l, &more);
		if (err)
			return err;
	}
	const char *line = l->buf + l->at;
	size_t all = newline ? (size_t)(newline - line) : l->end - l->at;
	size_t len = strip_return(line, all);
	*out_line = NULL;
	*out_len = 0;
	if (!newline && !all)
		return 0;
	l->number++;
	if (len > l->max)
		return vf_fail(-EINVAL,
			       "%s: line %llu is longer than %zu bytes",
			       l->name, (unsigned long long)l->number, l->max);
	*out_line = line;
	*out_len = len;
	l->line_off = l->off;
	l->at += all + (newline != NULL);
	l->off += all + (newline != NULL);
	return 0;
}

void vf_lines_seek(struct vf_lines *l, uint64_t off, uint64_t number)
{
	l->at = l->end = 0;
	l->off = off;
	l->number = number - 1;
}

uint64_t vf_lines_number(const struct vf_lines *l)
{
	return l->number;
}

uint64_t vf_lines_off(const struct vf_lines *l)
{
	return l->line_off;
}

const char *vf_lines_name(const struct vf_lines *l)
{
	return l->name;
}
