/*
 * One pass over the text.  Our writers let no blank and no damage through, and
 * lines carry checksums; still nothing here trusts that.
 */
#include "store/metadata.h"

enum {
	DIGITS_EXACT = 15, /* that surely fit a double's 53 bits */
	NUMBER_MAX = 512,  /* bytes of a number that is read as such */
	NESTED_MAX = 64,
};

struct walk {
	const char *at, *end;
	struct vf_buf *text; /* reserved: it never moves */
	vf_metadata_fn *fn;
	void *arg;
	const char *key;
	size_t key_len;
};

int vf_value_compare(const struct vf_value *a, const struct vf_value *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind != VF_VALUE_STRING)
		return (a->number > b->number) - (a->number < b->number);
	int c = memcmp(a->text, b->text, VF_MIN(a->len, b->len));
	return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* ---- strings ----------------------------------------------------------------------- */

/* Four hex digits at w->at; -1. */
static int take_hex(struct walk *w)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	int v = 0;

	if (w->end - w->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = *w->at++;
		const char *p = c ? strchr(digits, c) : NULL;
		if (!p)
			return -1;
		v = v << 4 | ((p - digits) & 15);
	}
	return v;
}

static void put_utf8(struct vf_buf *out, uint32_t c)
{
	uint8_t *to = out->data + out->len;

	if (c < 0x80) {
		*to++ = (uint8_t)c;
	} else if (c < 0x800) {
		*to++ = (uint8_t)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		*to++ = (uint8_t)(0xe0 | c >> 12);
		*to++ = (uint8_t)(0x80 | (c >> 6 & 63));
	} else {
		*to++ = (uint8_t)(0xf0 | c >> 18);
		*to++ = (uint8_t)(0x80 | (c >> 12 & 63));
		*to++ = (uint8_t)(0x80 | (c >> 6 & 63));
	}
	if (c >= 0x80)
		*to++ = (uint8_t)(0x80 | (c & 63));
	out->len = (size_t)(to - out->data);
}

/* What follows "\u": a character, or two halves of one.  RFC 8259, 7. */
static int take_unicode(struct walk *w)
{
	int c = take_hex(w), low;

	if (c < 0 || (c & 0xfc00) == 0xdc00)
		return -EBADMSG;
	if ((c & 0xfc00) == 0xd800) {
		if (w->end - w->at < 2 || memcmp(w->at, "\\u", 2))
			return -EBADMSG;
		w->at += 2;
		low = take_hex(w);
		if (low < 0 || (low & 0xfc00) != 0xdc00)
			return -EBADMSG;
		c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
	}
	put_utf8(w->text, (uint32_t)c);
	return 0;
}

/* What follows a backslash. */
static int take_escape(struct walk *w)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *p;

	if (w->at == w->end)
		return -EBADMSG;
	char c = *w->at++;
	if (c == 'u')
		return take_unicode(w);
	p = c ? strchr(from, c) : NULL;
	if (!p)
		return -EBADMSG;
	w->text->data[w->text->len++] = (uint8_t)to[p - from];
	return 0;
}

/* The string whose quote is at w->at: a view, or decoded into w->text. */
static int take_string(struct walk *w, const char **out, size_t *out_len)
{
	const char *s = ++w->at;
	size_t from = w->text->len;

	while (w->at < w->end && *w->at != '"' && *w->at != '\\')
		w->at++;
	if (w->at < w->end && *w->at == '"') {
		*out = s;
		*out_len = (size_t)(w->at++ - s);
		return 0;
	}
	memcpy(w->text->data + from, s, (size_t)(w->at - s));
	w->text->len += (size_t)(w->at - s);
	while (w->at < w->end && *w->at != '"') {
		char c = *w->at++;
		int err = 0;
		if (c == '\\')
			err = take_escape(w);
		else
			w->text->data[w->text->len++] = (uint8_t)c;
		if (err)
			return err;
	}
	if (w->at++ >= w->end)
		return -EBADMSG;
	*out = (const char *)w->text->data + from;
	*out_len = w->text->len - from;
	return 0;
}

/* ---- numbers ----------------------------------------------------------------------- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * A number of few digits and no exponent: both parts are exact doubles, so the
 * quotient is the nearest one (Clinger, PLDI 1990).  False: it has more.
 */
static bool short_number(const char *s, size_t len, double *out)
{
	static const double tens[] = {1e0,  1e1,  1e2,	1e3, 1e4,  1e5,
				      1e6,  1e7,  1e8,	1e9, 1e10, 1e11,
				      1e12, 1e13, 1e14, 1e15};
	bool minus = *s == '-', dot = false;
	uint64_t n = 0;
	int digits = 0, after = 0;

	for (size_t i = minus; i < len; i++) {
		if (s[i] == '.' && !dot) {
			dot = true;
			continue;
		}
		if (!is_digit(s[i]) || ++digits > DIGITS_EXACT)
			return false;
		n = n * 10 + (uint64_t)(s[i] - '0');
		after += dot;
	}
	double v = (double)n / tens[after];
	*out = minus ? -v : v;
	return true;
}

static int take_number(struct walk *w, double *out)
{
	const char *s = w->at;
	char copy[NUMBER_MAX + 1], *end;

	while (w->at < w->end &&
	       (is_digit(*w->at) || *w->at == '-' || *w->at == '+' ||
		*w->at == '.' || *w->at == 'e' || *w->at == 'E'))
		w->at++;
	size_t len = (size_t)(w->at - s);
	if (!len || !is_digit(s[*s == '-' && len > 1]))
		return -EBADMSG;
	if (!short_number(s, len, out)) {
		/* Of more bytes the first say all that a double holds. */
		VF_AUTO_FREE char *big = NULL;
		char *p = len <= NUMBER_MAX ? copy : (big = malloc(len + 1));
		if (!p)
			return -ENOMEM;
		memcpy(p, s, len);
		p[len] = '\0';
		*out = strtod(p, &end);
		if (*end)
			return -EBADMSG;
	}
	*out += 0.0; /* -0 is 0 */
	return 0;
}

/* ---- values ------------------------------------------------------------------------ */

static bool take_word(struct walk *w, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(w->end - w->at) < n || memcmp(w->at, word, n))
		return false;
	w->at += n;
	return true;
}

static void skip_blanks(struct walk *w)
{
	while (w->at < w->end && (*w->at == ' ' || *w->at == '\t' ||
				  *w->at == '\n' || *w->at == '\r'))
		w->at++;
}

static bool take_char(struct walk *w, char c)
{
	skip_blanks(w);
	if (w->at == w->end || *w->at != c)
		return false;
	w->at++;
	return true;
}

/* Pass over what has no values for us: an object, or a list in a list. */
static int skip_nested(struct walk *w)
{
	size_t from = w->text->len, len;
	const char *s;
	int depth = 0;

	do {
		char c = w->at < w->end ? *w->at : '\0';
		if (c == '"') {
			if (take_string(w, &s, &len))
				return -EBADMSG;
			w->text->len = from;
			continue;
		}
		depth += c == '{' || c == '[';
		depth -= c == '}' || c == ']';
		if (!c || depth > NESTED_MAX)
			return -EBADMSG;
		w->at++;
	} while (depth);
	return 0;
}

/* A scalar, or something that has no values. */
static int take_scalar(struct walk *w, struct vf_value *v)
{
	int err = 0;

	*v = (struct vf_value){0};
	skip_blanks(w);
	if (w->at == w->end)
		return -EBADMSG;
	if (*w->at == '"') {
		v->kind = VF_VALUE_STRING;
		err = take_string(w, &v->text, &v->len);
	} else if (*w->at == '{' || *w->at == '[') {
		err = skip_nested(w);
	} else if (take_word(w, "true")) {
		*v = (struct vf_value){VF_VALUE_BOOL, 1, NULL, 0};
	} else if (take_word(w, "false")) {
		v->kind = VF_VALUE_BOOL;
	} else if (!take_word(w, "null")) {
		v->kind = VF_VALUE_NUMBER;
		err = take_number(w, &v->number);
	}
	return err;
}

static int give_scalar(struct walk *w)
{
	size_t from = w->text->len;
	struct vf_value v;
	int rc = take_scalar(w, &v);

	if (!rc && v.kind != VF_VALUE_HERE)
		rc = w->fn(w->arg, w->key, w->key_len, &v);
	w->text->len = from;
	return rc;
}

static int give_value(struct walk *w)
{
	const struct vf_value here = {0};
	int rc = w->fn(w->arg, w->key, w->key_len, &here);

	if (rc)
		return rc;
	if (!take_char(w, '['))
		return give_scalar(w);
	if (take_char(w, ']'))
		return 0;
	do
		rc = give_scalar(w);
	while (!rc && take_char(w, ','));
	return rc || take_char(w, ']') ? rc : -EBADMSG;
}

static int give_member(struct walk *w)
{
	int rc = -EBADMSG;

	w->text->len = 0;
	skip_blanks(w);
	if (w->at < w->end && *w->at == '"')
		rc = take_string(w, &w->key, &w->key_len);
	if (!rc && !take_char(w, ':'))
		rc = -EBADMSG;
	return rc ? rc : give_value(w);
}

int vf_metadata_walk(const char *json, size_t len, struct vf_buf *scratch,
		     vf_metadata_fn *fn, void *arg)
{
	struct walk w = {.at = json,
			 .end = json + len,
			 .text = scratch,
			 .fn = fn,
			 .arg = arg};
	int rc = 0;

	scratch->len = 0;
	/* No text is longer without its escapes. */
	if (vf_buf_reserve(scratch, len + 1))
		return -ENOMEM;
	if (!take_char(&w, '{'))
		return -EBADMSG;
	if (!take_char(&w, '}')) {
		do
			rc = give_member(&w);
		while (!rc && take_char(&w, ','));
		if (!rc && !take_char(&w, '}'))
			rc = -EBADMSG;
	}
	skip_blanks(&w);
	return rc || w.at == w.end ? rc : -EBADMSG;
}
