/*
 * The words of a text: runs of letters and digits, in lower case.  The same on
 * every machine: no locale.
 */
#ifndef VF_QUERY_WORDS_H
#define VF_QUERY_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VF_WORD_MAX = 48 }; /* letters; a longer run is several words */

struct vf_words { /* where a text is being read */
	const uint8_t *at, *end;
};

struct vf_word {
	size_t n;			   /* letters */
	uint8_t off[VF_WORD_MAX + 3];	   /* of each letter in text; [n + 2]:
					      the end */
	uint8_t text[4 * VF_WORD_MAX + 2]; /* UTF-8, between '<' and '>' */
};

/*
 * The next word of the text; bytes that are no UTF-8 separate words.
 * off[0] is '<', off[1]..off[n] the letters, off[n + 1] is '>'.
 * False at the end.
 */
bool vf_words_next(struct vf_words *w, struct vf_word *out);

#endif
