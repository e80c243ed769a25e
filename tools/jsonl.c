/*
 * jansson decides what is valid; the bytes that go into the bucket are the
 * user's own, so that 0.1 stays 0.1 and big integers stay whole.
 */
#include "tools/jsonl.h"
#include "store/metadata.h"
#include "tools/numbers.h"

#include <jansson.h>
#include <stdio.h>

enum {
	/* Numbers of any size are fine: they are checked, not used. */
	PARSE = JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL |
		JSON_ALLOW_NUL | JSON_DECODE_ANY
};

/* Bytes of the UTF-8 sequence at @s; 0 when it is none.  RFC 3629. */
static size_t utf8_len(const uint8_t *s, size_t len)
{
	size_t n = s[0] < 0x80	 ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;

	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || /* overlong */
	    (s[0] == 0xed && s[1] > 0x9f) || /* surrogates */
	    (s[0] == 0xf0 && s[1] < 0x90) || /* overlong */
	    (s[0] == 0xf4 && s[1] > 0x8f))   /* over U+10FFFF */
		return 0;
	return n;
}

const char *vf_key_check(const char *key, size_t len)
{
	const uint8_t *s = (const uint8_t *)key;

	if (!len)
		return "is empty";
	if (len > VF_KEY_MAX)
		return "is longer than 1024 bytes";
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len(s + i, len - i);
		if (!n)
			return "is not UTF-8";
		if (!s[i])
			return "holds a NUL byte";
		i += n;
	}
	return NULL;
}

/* ---- metadata ------------------------------------------------------------- */

static bool is_scalar(const json_t *v)
{
	return json_is_string(v) || json_is_number(v) || json_is_boolean(v);
}

static const char *check_value(const json_t *v)
{
	if (json_is_null(v))
		return "null";
	if (json_is_object(v))
		return "an object";
	for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++)
		if (!is_scalar(json_array_get(v, i)))
			return "a list of more than strings, numbers and "
			       "booleans";
	return NULL;
}

static int check_flat(json_t *o, char reason[128])
{
	const char *name, *bad;
	json_t *v;

	if (!json_is_object(o)) {
		snprintf(reason, 128, "is not an object");
		return -EINVAL;
	}
	if (json_object_size(o) > VF_METADATA_KEYS_MAX) {
		snprintf(reason, 128, "has %zu keys, more than %d",
			 json_object_size(o), VF_METADATA_KEYS_MAX);
		return -EINVAL;
	}
	json_object_foreach(o, name, v)
	{
		bad = check_value(v);
		if (bad) {
			snprintf(reason, 128, "has %s under \"%.40s\"", bad,
				 name);
			return -EINVAL;
		}
	}
	return 0;
}

/* Valid JSON without the blanks between its tokens; room is reserved. */
static void append_compact(const char *json, size_t len, struct vf_buf *out)
{
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = json[i];
		if (in_string && c == '\\') {
			out->data[out->len++] = (uint8_t)c;
			c = json[++i];
		} else if (c == '"') {
			in_string = !in_string;
		} else if (!in_string &&
			   (c == ' ' || c == '\t' || c == '\n' || c == '\r')) {
			continue;
		}
		out->data[out->len++] = (uint8_t)c;
	}
}

int vf_metadata_append(const char *json, size_t len, struct vf_buf *out,
		       char reason[128])
{
	json_error_t e;
	json_t *o = len ? json_loadb(json, len, PARSE, &e) : NULL;
	size_t before = out->len;
	int err;

	if (!len) {
		strcpy(reason, "is an empty line; {} means none");
		return -EINVAL;
	}
	if (!o) {
		snprintf(reason, 128, "is not JSON: %.90s", e.text);
		return -EINVAL;
	}
	err = check_flat(o, reason);
	json_decref(o);
	if (!err)
		err = vf_buf_reserve(out, len);
	if (err)
		return err;
	append_compact(json, len, out);
	if (out->len - before > VF_METADATA_MAX) {
		snprintf(reason, 128, "takes %zu bytes, more than %d",
			 out->len - before, VF_METADATA_MAX);
		out->len = before;
		return -EINVAL;
	}
	return 0;
}

/* ---- record lines ------------------------------------------------------------ */

static void append_string(const char *s, size_t len, struct vf_buf *out)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t *to = out->data + out->len;

	*to++ = '"';
	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)s[i];
		if (c == '"' || c == '\\') {
			*to++ = '\\';
			*to++ = c;
		} else if (c < 0x20) {
			memcpy(to, "\\u00", 4);
			to[4] = (uint8_t)hex[c >> 4];
			to[5] = (uint8_t)hex[c & 15];
			to += 6;
		} else {
			*to++ = c;
		}
	}
	*to++ = '"';
	out->len = (size_t)(to - out->data);
}

static void append_bytes(const char *s, size_t len, struct vf_buf *out)
{
	memcpy(out->data + out->len, s, len);
	out->len += len;
}

int vf_record_line_append(const char *key, size_t key_len, const char *metadata,
			  size_t metadata_len, struct vf_buf *out)
{
	static const char head[] = "{\"key\":", mid[] = ",\"metadata\":";
	int err = vf_buf_reserve(out, 6 * key_len + metadata_len + 64);

	if (err)
		return err;
	append_bytes(head, sizeof(head) - 1, out);
	append_string(key, key_len, out);
	append_bytes(mid, sizeof(mid) - 1, out);
	if (metadata)
		append_bytes(metadata, metadata_len, out);
	else
		append_bytes("{}", 2, out);
	append_bytes("}\n", 2, out);
	return 0;
}

static int copy_string(const json_t *s, char **out, size_t *out_len)
{
	*out_len = json_string_length(s);
	*out = malloc(*out_len + 1);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, json_string_value(s), *out_len + 1);
	return 0;
}

int vf_record_line_key(const char *line, size_t len, char **out_key,
		       size_t *out_len)
{
	json_t *o = json_loadb(line, len, PARSE, NULL);
	json_t *key = json_object_get(o, "key");
	int err = json_is_string(key) ? copy_string(key, out_key, out_len)
				      : -EBADMSG;

	json_decref(o);
	return err;
}

/* ---- lines of texts ------------------------------------------------------------- */

/* The end of the JSON value at @s, which is known to be valid. */
static const char *skip_value(const char *s, const char *end)
{
	bool in_string = false;
	int depth = 0;

	for (; s < end; s++) {
		if (in_string) {
			if (*s == '\\')
				s++;
			else if (*s == '"')
				in_string = false;
		} else if (*s == '"') {
			in_string = true;
		} else if (*s == '{' || *s == '[') {
			depth++;
		} else if (*s == '}' || *s == ']') {
			if (!depth--)
				return s;
		} else if (*s == ',' && !depth) {
			return s;
		}
	}
	return end;
}

const char *vf_json_member(const char *json, size_t len, const char *name,
			   size_t *out_len)
{
	const char *s = memchr(json, '{', len), *end = json + len;
	size_t n = strlen(name);

	while (s && ++s < end && (s = memchr(s, '"', (size_t)(end - s)))) {
		const char *colon = ++s;
		while (*colon != '"')
			colon += *colon == '\\' ? 2 : 1;
		bool same = (size_t)(colon - s) == n && !memcmp(s, name, n);
		s = (const char *)memchr(colon, ':', (size_t)(end - colon)) + 1;
		const char *value_end = skip_value(s, end);
		if (same) {
			*out_len = (size_t)(value_end - s);
			return s;
		}
		s = value_end;
	}
	return NULL;
}

/* What a line is made of: the members that its kind wants, into @out. */
struct wanted {
	bool text;
	float *x; /* [dim], of the vector; NULL: none is wanted */
	uint32_t dim;
};

/* NULL, or what is wrong, in @reason. */
static const char *read_vector(json_t *v, const struct wanted *w,
			       char reason[128])
{
	if (!json_is_array(v))
		return "has no list \"vector\"";
	if (json_array_size(v) != w->dim) {
		snprintf(reason, 128, "has a vector of %zu numbers, not %u",
			 json_array_size(v), w->dim);
		return reason;
	}
	for (uint32_t i = 0; i < w->dim; i++) {
		json_t *n = json_array_get(v, i);
		if (!json_is_number(n))
			return "has a vector of more than numbers";
		w->x[i] = (float)json_number_value(n);
	}
	return NULL;
}

static int parse_members(json_t *o, const char *line, size_t len,
			 const struct wanted *w, struct vf_text_line *out,
			 char reason[128])
{
	json_t *key = json_object_get(o, "key");
	json_t *text = json_object_get(o, "text");
	const char *bad = NULL;

	if (!json_is_string(key))
		bad = "has no string \"key\"";
	else if (w->text && !json_is_string(text))
		bad = "has no string \"text\"";
	else if (json_object_get(o, "metadata") &&
		 !(out->metadata = vf_json_member(line, len, "metadata",
						  &out->metadata_len)))
		bad = "spells \"metadata\" with escapes";
	else if (w->x)
		bad = read_vector(json_object_get(o, "vector"), w, reason);
	if (bad && bad != reason)
		snprintf(reason, 128, "%s", bad);
	if (bad)
		return -EINVAL;
	int err = copy_string(key, &out->key, &out->key_len);
	return err || !w->text ? err
			       : copy_string(text, &out->text, &out->text_len);
}

static int parse_line(const char *line, size_t len, const struct wanted *w,
		      struct vf_text_line *out, char reason[128])
{
	json_error_t e;
	json_t *o = json_loadb(line, len, PARSE, &e);
	int err = -EINVAL;

	*out = (struct vf_text_line){0};
	if (!o)
		snprintf(reason, 128, "is not JSON: %.90s", e.text);
	else if (!json_is_object(o))
		snprintf(reason, 128, "is not an object");
	else
		err = parse_members(o, line, len, w, out, reason);
	json_decref(o);
	if (err)
		vf_text_line_fini(out);
	return err;
}

int vf_text_line_parse(const char *line, size_t len, struct vf_text_line *out,
		       char reason[128])
{
	return parse_line(line, len, &(struct wanted){.text = true}, out,
			  reason);
}

/* The quote that ends the string beginning at @s; NULL: it has none. */
static const char *string_end(const char *s, const char *end)
{
	for (s++; s < end && *s != '"'; s++)
		s += *s == '\\';
	return s < end ? s : NULL;
}

/*
 * Where the value of the member "vector" begins, if @s is a valid object that
 * spells its name so; of other text NULL or any place in it.
 */
static const char *find_vector(const char *s, const char *end)
{
	static const char name[] = "\"vector\"";

	s = vf_json_blanks(s, end);
	for (char want = '{'; s < end && *s == want; want = ',') {
		const char *from = vf_json_blanks(s + 1, end), *to;
		if (from == end || *from != '"' ||
		    !(to = string_end(from, end)))
			return NULL;
		s = vf_json_blanks(to + 1, end);
		if (s == end || *s != ':')
			return NULL;
		s = vf_json_blanks(s + 1, end);
		if ((size_t)(to + 1 - from) == sizeof(name) - 1 &&
		    !memcmp(from, name, sizeof(name) - 1))
			return s;
		s = skip_value(s, end);
	}
	return NULL;
}

static int refuse_escapes(struct vf_text_line *out, char reason[128])
{
	vf_text_line_fini(out);
	snprintf(reason, 128, "spells \"vector\" with escapes");
	return -EINVAL;
}

int vf_row_line_cut(const char *line, size_t len, uint32_t dim, float *x,
		    struct vf_buf *out, struct vf_row_cut *cut)
{
	const char *from = find_vector(line, line + len), *to;

	cut->found = from;
	if (!from || vf_numbers_parse(from, line + len, dim, x, &to))
		return -EINVAL;
	/* The blank keeps what follows, as in "[1,2]e3", from being its end. */
	cut->at = (size_t)(from - line);
	cut->len = (size_t)(to - from) - 2;
	out->len = 0;
	if (vf_buf_append(out, line, cut->at) || vf_buf_append(out, "0 ", 2) ||
	    vf_buf_append(out, to, (size_t)(line + len - to)))
		return -ENOMEM;
	return 0;
}

/*
 * The vector is read directly; the rest of the line, with a number in its
 * place, shows that this place was a member of a valid object.  What cannot be
 * read so is parsed as it is, for what is wrong with it.
 */
int vf_row_line_parse(const char *line, size_t len, uint32_t dim, float *x,
		      struct vf_text_line *out, char reason[128])
{
	VF_AUTO_BUF struct vf_buf rest = {0};
	struct vf_row_cut cut;
	int err = vf_row_line_cut(line, len, dim, x, &rest, &cut);

	if (err == -EINVAL) {
		err = parse_line(line, len,
				 &(struct wanted){.x = x, .dim = dim}, out,
				 reason);
		return err || cut.found ? err : refuse_escapes(out, reason);
	}
	if (err)
		return err;
	const char *text = (const char *)rest.data;
	err = parse_line(text, rest.len, &(struct wanted){0}, out, reason);
	if (err || !out->metadata)
		return err;
	size_t at = (size_t)(out->metadata - text);
	out->metadata = line + at + (at > cut.at ? cut.len : 0);
	return 0;
}

void vf_text_line_fini(struct vf_text_line *t)
{
	free(t->key);
	free(t->text);
	*t = (struct vf_text_line){0};
}
