/*
 * UTF-8, letters and simple lower case for the scripts that have one; a table
 * of all of Unicode would be a library's.
 */
#include "query/words.h"

#include <string.h>

/* One code point; 0 for a byte that begins none (one byte is then used). */
static uint32_t next_code_point(struct vf_words *w)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint8_t c = *w->at;
	size_t n = c < 0x80   ? 1
		   : c < 0xc0 ? 0
		   : c < 0xe0 ? 2
		   : c < 0xf0 ? 3
			      : 4;
	uint32_t v = n == 1 ? c : c & (0x7f >> n);

	if (!n || c > 0xf4 || (size_t)(w->end - w->at) < n)
		goto invalid;
	for (size_t i = 1; i < n; i++) {
		if ((w->at[i] & 0xc0) != 0x80)
			goto invalid;
		v = v << 6 | (w->at[i] & 0x3f);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		goto invalid;
	w->at += n;
	return v;
invalid:
	w->at++;
	return 0;
}

static bool within(uint32_t v, uint32_t lo, uint32_t hi)
{
	return v >= lo && v <= hi;
}

static bool is_letter(uint32_t v)
{
	if (v < 0x80)
		return within(v, '0', '9') || within(v, 'a', 'z') ||
		       within(v, 'A', 'Z');
	return v >= 0xc0
		       ? v != 0xd7 && v != 0xf7 && !within(v, 0x2000, 0x2bff) &&
				 !within(v, 0x2e00, 0x2e7f) &&
				 !within(v, 0x3000, 0x3004) &&
				 !within(v, 0x3008, 0x3020) &&
				 !within(v, 0xe000, 0xf8ff) &&
				 !within(v, 0xfe00, 0xfe6f) &&
				 !within(v, 0xff00, 0xff0f) &&
				 !within(v, 0xff1a, 0xff20) &&
				 !within(v, 0x1f000, 0x1faff)
		       : v == 0xaa || v == 0xb5 || v == 0xba;
}

static uint32_t to_lower(uint32_t v)
{
	if (within(v, 'A', 'Z') || within(v, 0xc0, 0xde) ||
	    within(v, 0x391, 0x3ab) || within(v, 0x410, 0x42f))
		return v + 32;
	if (within(v, 0x400, 0x40f))
		return v + 80;
	if (within(v, 0x139, 0x148) || within(v, 0x179, 0x17e))
		return v + (v & 1); /* pairs that begin at odd numbers */
	if (within(v, 0x100, 0x177) || within(v, 0x460, 0x481) ||
	    within(v, 0x48a, 0x4bf) || within(v, 0x4d0, 0x52f) ||
	    within(v, 0x1e00, 0x1eff))
		return v | 1; /* pairs that begin at even numbers */
	return v;
}

static size_t encode(uint32_t v, uint8_t *out)
{
	if (v < 0x80) {
		out[0] = (uint8_t)v;
		return 1;
	}
	size_t n = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
	for (size_t i = n; i-- > 1; v >>= 6)
		out[i] = (uint8_t)(0x80 | (v & 0x3f));
	out[0] = (uint8_t)(0xf0 << (4 - n) | v);
	return n;
}

bool vf_words_next(struct vf_words *w, struct vf_word *out)
{
	size_t len = 1;

	out->n = 0;
	out->text[0] = '<';
	out->off[0] = 0;
	while (w->at < w->end && out->n < VF_WORD_MAX) {
		uint32_t v = next_code_point(w);
		if (is_letter(v)) {
			out->off[++out->n] = (uint8_t)len;
			len += encode(to_lower(v), out->text + len);
		} else if (out->n) {
			break;
		}
	}
	out->off[out->n + 1] = (uint8_t)len;
	out->text[len] = '>';
	out->off[out->n + 2] = (uint8_t)(len + 1);
	return out->n > 0;
}
