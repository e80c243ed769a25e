/*
 * A stream is believed in after SURE_LEN bytes in sequence; its window then
 * doubles each time the reader has used half of what is ahead of him.
 * Reads of one stream may arrive a little out of order (SLACK): the kernel's
 * own read-ahead is asynchronous.
 */
#include "store/readahead.h"

enum {
	SURE_LEN = 256 << 10,
	WINDOW_FIRST = 1 << 20,
	SLACK = 2 << 20,
};

/* Random reads between those of a stream must not make it forgotten soon. */
static uint64_t age_of(const struct vf_stream *s)
{
	return s->used + (s->window ? 256 : 0);
}

static struct vf_stream *find_stream(struct vf_readahead *r, uint64_t off,
				     size_t len)
{
	struct vf_stream *oldest = &r->streams[0];

	for (size_t i = 0; i < VF_STREAMS; i++) {
		struct vf_stream *s = &r->streams[i];
		uint64_t slack = s->window ? SLACK : len;
		if (s->used && off + slack >= s->next && off <= s->next + slack)
			return s;
		if (age_of(s) < age_of(oldest))
			oldest = s;
	}
	/* Its first read is in sequence with nothing, however large. */
	*oldest = (struct vf_stream){.next = off + len};
	return oldest;
}

bool vf_readahead_note(struct vf_readahead *r, uint64_t off, size_t len,
		       uint64_t size, uint64_t max_window, uint64_t *out_off,
		       uint64_t *out_len)
{
	struct vf_stream *s;
	uint64_t end = off + len, to;

	if (!max_window)
		return false;
	s = find_stream(r, off, len);
	s->used = ++r->time;
	/* What was read before, or beyond a gap, is no progress. */
	if (off <= s->next && end > s->next)
		s->run += end - s->next;
	else if (off > s->next && !s->window)
		s->run = 0;
	s->next = VF_MAX(s->next, end);
	if (s->run < SURE_LEN || s->next >= size)
		return false;
	if (!s->window) {
		s->window = VF_MIN((uint64_t)WINDOW_FIRST, max_window);
		s->ahead = s->next;
	}
	s->ahead = VF_MAX(s->ahead, s->next);
	if (s->ahead - s->next > s->window / 2 || s->ahead >= size)
		return false;
	s->window = VF_MIN(2 * s->window, max_window);
	to = VF_MIN(s->next + s->window, size);
	*out_off = s->ahead;
	*out_len = to - s->ahead;
	s->ahead = to;
	return *out_len > 0;
}
