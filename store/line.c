/*
 * Two fixed texts around a string: no JSON parser is needed, and none could
 * keep the user's own spelling of numbers.
 */
#include "store/line.h"

static const char head[] = "{\"key\":\"", mid[] = "\",\"metadata\":{";

enum { HEAD_LEN = sizeof(head) - 1, MID_LEN = sizeof(mid) - 1 };

static bool has_control(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)s[i] < 0x20)
			return true;
	return false;
}

int vf_line_split(const char *line, size_t len, struct vf_line *out)
{
	const char *s = line + HEAD_LEN, *end = line + len - 2; /* at "}\n" */

	if (len < HEAD_LEN + MID_LEN + 3 || memcmp(line, head, HEAD_LEN) ||
	    memcmp(end, "}\n", 2) || has_control(line, len - 1))
		return -EBADMSG;
	out->key = s;
	for (; s < end && *s != '"'; s++)
		s += *s == '\\';
	if (s >= end || (size_t)(end - s) < MID_LEN + 1 ||
	    memcmp(s, mid, MID_LEN) || end[-1] != '}')
		return -EBADMSG;
	out->key_len = (size_t)(s - out->key);
	out->metadata = s + MID_LEN - 1;
	out->metadata_len = (size_t)(end - out->metadata);
	return 0;
}

/* \uXXXX at @s; our writers use it below 0x20 only.  0 when it is wrong. */
static uint8_t small_escape(const char *s, const char *end)
{
	uint8_t b[2];
	char hex[5] = "";

	if (end - s < 4)
		return 0;
	memcpy(hex, s, 4);
	return vf_unhex(hex, b, 2) || b[0] || b[1] >= 0x20 ? 0 : b[1];
}

int vf_line_key(const struct vf_line *line, struct vf_buf *out)
{
	const char *s = line->key, *end = s + line->key_len;
	size_t from = out->len;

	if (vf_buf_reserve(out, line->key_len + 1))
		return -ENOMEM;
	for (; s < end; s++) {
		uint8_t c = (uint8_t)*s;
		if (c == '\\') {
			if (++s == end)
				return -EBADMSG;
			c = (uint8_t)*s;
			if (c == 'u') {
				c = small_escape(s + 1, end);
				s += 4;
			} else if (c != '"' && c != '\\') {
				c = 0;
			}
		}
		if (!c)
			return -EBADMSG;
		out->data[out->len++] = c;
	}
	return out->len == from || out->len - from > VF_KEY_MAX ? -EBADMSG : 0;
}
