/*
 * Control characters of UTF-8, which text of others may hold and no terminal
 * is to get.  Pure.
 */
#ifndef VF_STORE_CONTROL_H
#define VF_STORE_CONTROL_H

#include <stddef.h>

/*
 * Bytes of the control character that [s, end) begins with: 1, or 2 of U+0080
 * to U+009F, which terminals obey too; 0: it begins with another.
 */
static inline size_t vf_control_len(const char *s, const char *end)
{
	const unsigned char *c = (const unsigned char *)s;

	if (end - s > 1 && c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
		return 2;
	return s < end && (c[0] < 0x20 || c[0] == 0x7f);
}

#endif
