/*
 * A number is its digits as an integer m (the first 19 of them) and a power of
 * ten.  m and 10^22 or less are doubles with an error of half a unit in the
 * last place at most (10^22 with none), and so is each multiplication or
 * division by them; digits beyond the 19th are worth less than a hundredth of
 * such a unit.  The double is thus within 2 units of the number, and its float
 * is the number's own unless the middle between two floats is as near: then
 * strtof decides.
 */
#include "tools/numbers.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/util.h"

enum {
	DIGITS = 19,	/* of an integer below 2^64 */
	POWER_MAX = 22, /* 5^22 < 2^53: exact */
	EXPONENT_MAX = 99999,
	DROPPED_BITS = 29, /* of a double's fraction in a float's */
	NEAR = 16,	   /* units in the double's last place; 2 would do */
};

static const double power[POWER_MAX + 1] = {1e0,  1e1,	1e2,  1e3,  1e4,  1e5,
					    1e6,  1e7,	1e8,  1e9,  1e10, 1e11,
					    1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
					    1e18, 1e19, 1e20, 1e21, 1e22};

/* Multiplied: a branch would be guessed wrong half the time. */
static const double sign[2] = {1, -1};

struct number {
	bool negative;
	uint64_t m;
	int n_digits; /* in m, leading zeros left out */
	int exponent; /* of ten */
};

static bool is_digit(const char *s, const char *end)
{
	return s < end && *s >= '0' && *s <= '9';
}

/* What eight characters begin with. */
struct eight {
	uint64_t value;
	int n, n_zeros; /* digits; of them zeros in front */
};

/*
 * Digits side by side in one word: a byte that is none has its top bit set in
 * @other.  (A carry out of such a byte changes only what comes behind it.)
 */
static inline struct eight take_eight(const char *s)
{
	uint64_t x = vf_le64(s) ^ UINT64_C(0x3030303030303030);
	uint64_t other = ((x + UINT64_C(0x7676767676767676)) | x) &
			 UINT64_C(0x8080808080808080);
	struct eight e = {.n = other ? __builtin_ctzll(other) / 8 : 8};

	if (!e.n)
		return e;
	x <<= 64 - 8 * e.n; /* the digits at the end, zeros in front */
	e.n_zeros = x ? __builtin_ctzll(x) / 8 - (8 - e.n) : e.n;
	x = (10 * x + (x >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
	x = (100 * x + (x >> 16)) & UINT64_C(0x0000ffff0000ffff);
	e.value = (10000 * x + (x >> 32)) & UINT32_MAX;
	return e;
}

static const uint32_t power_of_ten[] = {
	1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};

/* @step: what a digit that goes into m adds to the exponent, 0 or -1. */
static const char *take_digits(const char *s, const char *end, int step,
			       struct number *x)
{
	while (end - s >= 8 && x->n_digits + 8 <= DIGITS) {
		struct eight e = take_eight(s);
		x->n_digits += x->m ? e.n : e.n - e.n_zeros;
		x->m = power_of_ten[e.n] * x->m + e.value;
		x->exponent += step * e.n;
		s += e.n;
		if (e.n < 8)
			return s;
	}
	for (; is_digit(s, end); s++) {
		if (x->n_digits == DIGITS) {
			x->exponent += step + 1;
			continue;
		}
		x->m = 10 * x->m + (uint64_t)(*s - '0');
		x->n_digits += x->m != 0;
		x->exponent += step;
	}
	return s;
}

/* Behind "e"; NULL: there are no digits. */
static const char *take_exponent(const char *s, const char *end,
				 struct number *x)
{
	bool negative = s < end && *s == '-';
	int e = 0;

	s += s < end && (*s == '-' || *s == '+');
	if (!is_digit(s, end))
		return NULL;
	for (; is_digit(s, end); s++)
		e = VF_MIN(10 * e + (*s - '0'), EXPONENT_MAX);
	x->exponent += negative ? -e : e;
	return s;
}

/* Its end, or NULL when it is no number of JSON (RFC 8259, section 6). */
static const char *take_number(const char *s, const char *end, struct number *x)
{
	*x = (struct number){.negative = s < end && *s == '-'};
	s += x->negative;
	if (!is_digit(s, end) || (*s == '0' && is_digit(s + 1, end))) /* 01 */
		return NULL;
	s = take_digits(s, end, 0, x);
	if (s < end && *s == '.') {
		if (!is_digit(++s, end))
			return NULL;
		s = take_digits(s, end, -1, x);
	}
	if (s < end && (*s == 'e' || *s == 'E'))
		s = take_exponent(s + 1, end, x);
	return s;
}

/*
 * What most vectors consist of: one digit, a point, and up to 16 more.  Its end,
 * or NULL when it is another.
 */
static const char *take_fraction(const char *s, const char *end,
				 struct number *x)
{
	struct eight high, low = {0};

	if (end - s < 1 + 2 + 16 + 1)
		return NULL;
	bool negative = *s == '-';
	s += negative;
	uint64_t first = (uint64_t)(*s - '0');
	if (first > 9 || s[1] != '.')
		return NULL;
	high = take_eight(s + 2);
	if (high.n == 8)
		low = take_eight(s + 10);
	int n = high.n + low.n;
	s += 2 + n;
	if (!n || low.n == 8 || *s == 'e' || *s == 'E')
		return NULL;
	*x = (struct number){.negative = negative,
			     .m = (first * power_of_ten[high.n] + high.value) *
					  power_of_ten[low.n] +
				  low.value,
			     .exponent = -n};
	return s;
}

/* False: too near to the middle of two floats, or out of reach. */
static bool round_number(const struct number *x, float *out)
{
	const uint64_t middle = UINT64_C(1) << (DROPPED_BITS - 1);
	int e = x->exponent;
	double d = (double)x->m;
	uint64_t bits;

	if (!x->m) {
		*out = x->negative ? -0.0f : 0.0f;
		return true;
	}
	if (e > POWER_MAX || e < -2 * POWER_MAX)
		return false;
	if (e < -POWER_MAX) {
		d /= power[POWER_MAX];
		e += POWER_MAX;
	}
	d = e < 0 ? d / power[-e] : d * power[e];
	if (d < 2 * (double)FLT_MIN || d > (double)FLT_MAX / 2)
		return false;
	memcpy(&bits, &d, sizeof(bits));
	bits &= 2 * middle - 1;
	if (bits + NEAR > middle && bits < middle + NEAR)
		return false;
	*out = (float)(d * sign[x->negative]);
	return true;
}

const char *vf_json_blanks(const char *s, const char *end)
{
	while (s < end && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r'))
		s++;
	return s;
}

/* With the blanks behind it; NULL: none, or one too large. */
static const char *read_number(const char *s, const char *end, float *out)
{
	struct number x;
	const char *behind = take_fraction(s, end, &x);

	if (!behind)
		behind = take_number(s, end, &x);
	behind = behind ? vf_json_blanks(behind, end) : NULL;
	/* What follows ends it for strtof too. */
	if (!behind || behind == end || (*behind != ',' && *behind != ']'))
		return NULL;
	if (!round_number(&x, out))
		*out = strtof(s, NULL);
	return isfinite(*out) ? behind : NULL;
}

int vf_numbers_parse(const char *s, const char *end, uint32_t n, float *out,
		     const char **out_end)
{
	if (s == end || *s != '[' || !n)
		return -EINVAL;
	for (uint32_t i = 0; i < n; i++) {
		s = read_number(vf_json_blanks(s + 1, end), end, &out[i]);
		if (!s || *s != (i + 1 < n ? ',' : ']'))
			return -EINVAL;
	}
	*out_end = s + 1;
	return 0;
}
