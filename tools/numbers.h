/*
 * JSON lists of numbers, read straight into floats: a general parser spends
 * most of a line's time on a value in memory for each of them.  Pure.
 */
#ifndef VF_TOOLS_NUMBERS_H
#define VF_TOOLS_NUMBERS_H

#include "store/vecfs.h"

/*
 * The list of exactly @n numbers at @s, "[1, -2.5e3]": each as strtof rounds
 * it, to the last bit.
 *
 * @end      of the text, which need not end in NUL
 * @out_end  behind the list
 * Returns 0; -EINVAL it is anything else, or one of them is beyond FLT_MAX.
 * Threads: any.
 */
int vf_numbers_parse(const char *s, const char *end, uint32_t n, float *out,
		     const char **out_end);

/* The first byte at or behind @s that is no blank of JSON, or @end. */
const char *vf_json_blanks(const char *s, const char *end);

#endif
