/*
 * SAX handlers over expat.  Text is gathered for the innermost element and
 * taken at its end; what is unknown is skipped.
 */
#include "store/s3_xml.h"

#include <ctype.h>
#include <expat.h>

enum { TEXT_MAX = 8 << 10 };

struct text {
	char data[TEXT_MAX];
	size_t len;
	bool overflow;
};

static void add_text(struct text *t, const char *s, int len)
{
	size_t n = (size_t)len;

	if (n >= TEXT_MAX - t->len) {
		t->overflow = true;
		return;
	}
	memcpy(t->data + t->len, s, n);
	t->len += n;
}

static void clear_text(struct text *t)
{
	t->len = 0;
	t->overflow = false;
}

/* ---- one element ---------------------------------------------------------------------- */

struct search {
	struct text text;
	const char *name;
	char *out;
	size_t cap;
	bool inside, found;
};

static void search_start(void *arg, const char *name, const char **attributes)
{
	struct search *s = arg;

	s->inside = !s->found && !strcmp(name, s->name);
	clear_text(&s->text);
}

static void search_text(void *arg, const char *p, int len)
{
	struct search *s = arg;

	if (s->inside)
		add_text(&s->text, p, len);
}

static void search_end(void *arg, const char *name)
{
	struct search *s = arg;
	size_t n = VF_MIN(s->text.len, s->cap - 1);

	if (s->inside && !s->found) {
		memcpy(s->out, s->text.data, n);
		s->out[n] = '\0';
		s->found = true;
	}
	s->inside = false;
}

void vf_s3_xml_find(const void *p, size_t len, const char *name, char *out,
		    size_t cap)
{
	struct search s = {.name = name, .out = out, .cap = cap};
	XML_Parser x = XML_ParserCreate(NULL);

	out[0] = '\0';
	if (!x)
		return;
	XML_SetUserData(x, &s);
	XML_SetElementHandler(x, search_start, search_end);
	XML_SetCharacterDataHandler(x, search_text);
	XML_Parse(x, p, (int)len, 1);
	XML_ParserFree(x);
}

/* ---- a page of keys ------------------------------------------------------------------- */

enum in { NOWHERE, IN_RESULT, IN_CONTENTS, IN_PREFIXES };

struct parsing {
	struct vf_s3_page *page;
	struct text text;
	XML_Parser x;
	enum in in;
	int depth;
	bool encoded; /* EncodingType is url */
	bool seen;    /* the root is ListBucketResult */
	int err;
};

static void stop(struct parsing *s, int err)
{
	if (!s->err)
		s->err = err;
	XML_StopParser(s->x, XML_FALSE);
}

static struct vf_s3_page_entry *add_entry(struct vf_s3_page *p)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 256;
		void *q = realloc(p->entries, cap * sizeof(*p->entries));
		if (!q)
			return NULL;
		p->entries = q;
		p->cap = cap;
	}
	p->entries[p->n] = (struct vf_s3_page_entry){0};
	return &p->entries[p->n++];
}

static void page_start(void *arg, const char *name, const char **attributes)
{
	struct parsing *s = arg;

	clear_text(&s->text);
	s->depth++;
	if (s->depth == 1) {
		s->seen = !strcmp(name, "ListBucketResult");
		s->in = s->seen ? IN_RESULT : NOWHERE;
	} else if (s->depth == 2 && s->in == IN_RESULT) {
		bool contents = !strcmp(name, "Contents");
		if (!contents && strcmp(name, "CommonPrefixes"))
			return;
		struct vf_s3_page_entry *e = add_entry(s->page);
		if (!e) {
			stop(s, -ENOMEM);
			return;
		}
		e->folder = !contents;
		s->in = contents ? IN_CONTENTS : IN_PREFIXES;
	}
}

static void page_text(void *arg, const char *p, int len)
{
	struct parsing *s = arg;

	add_text(&s->text, p, len);
}

static int copy_text(const struct parsing *s, char **out)
{
	free(*out);
	*out = strndup(s->text.data, s->text.len);
	return *out ? 0 : -ENOMEM;
}

/* Seconds since 1970 of "2009-10-12T17:50:30.000Z"; 0 when it is none. */
static int64_t parse_time_ns(const char *s)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t ns;

	if (!rest || VF_MUL((int64_t)timegm(&tm), (int64_t)1000000000, &ns))
		return 0;
	return VF_MAX(ns, 0);
}

static int take_member(struct parsing *s, const char *name,
		       struct vf_s3_page_entry *e)
{
	char *t = s->text.data;

	t[s->text.len] = '\0';
	if (!strcmp(name, s->in == IN_PREFIXES ? "Prefix" : "Key"))
		return copy_text(s, &e->key);
	if (!strcmp(name, "Size"))
		e->object.size = strtoull(t, NULL, 10);
	else if (!strcmp(name, "LastModified"))
		e->object.mtime_ns = parse_time_ns(t);
	else if (!strcmp(name, "ETag")) {
		t += *t == '"';
		t[strcspn(t, "\"")] = '\0';
		if (strlen(t) < sizeof(e->object.etag))
			strcpy(e->object.etag, t);
	}
	return 0;
}

static int take_top(struct parsing *s, const char *name)
{
	s->text.data[s->text.len] = '\0';
	if (!strcmp(name, "IsTruncated"))
		s->page->truncated = !strcmp(s->text.data, "true");
	else if (!strcmp(name, "NextContinuationToken"))
		return copy_text(s, &s->page->token);
	else if (!strcmp(name, "EncodingType"))
		s->encoded = !strcmp(s->text.data, "url");
	return 0;
}

static void page_end(void *arg, const char *name)
{
	struct parsing *s = arg;
	int err = s->text.overflow ? -EBADMSG : 0;

	if (!err && s->depth == 3 && s->in > IN_RESULT)
		err = take_member(s, name, &s->page->entries[s->page->n - 1]);
	else if (!err && s->depth == 2 && s->in == IN_RESULT)
		err = take_top(s, name);
	else if (s->depth == 2)
		s->in = IN_RESULT;
	clear_text(&s->text);
	s->depth--;
	if (err)
		stop(s, err);
}

/* In place: "%2F" and, as in forms, '+' for a space. */
static int decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		char hex[3] = {0};
		if (*s == '+') {
			*to++ = ' ';
		} else if (*s != '%') {
			*to++ = *s;
		} else {
			if (!isxdigit((unsigned char)s[1]) ||
			    !isxdigit((unsigned char)s[2]))
				return -EBADMSG;
			memcpy(hex, s + 1, 2);
			*to = (char)strtoul(hex, NULL, 16);
			if (!*to++)
				return -EBADMSG;
			s += 2;
		}
	}
	*to = '\0';
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	const struct vf_s3_page_entry *x = a, *y = b;

	return strcmp(x->key, y->key);
}

static int finish_page(struct parsing *s, struct vf_s3_page *p)
{
	if (!s->seen)
		return -EBADMSG;
	for (size_t i = 0; i < p->n; i++)
		if (!p->entries[i].key ||
		    (s->encoded && decode(p->entries[i].key)))
			return -EBADMSG;
	if (p->n)
		qsort(p->entries, p->n, sizeof(*p->entries), compare_entries);
	return p->truncated && !p->token ? -EBADMSG : 0;
}

int vf_s3_page_parse(const void *p, size_t len, struct vf_s3_page *out)
{
	struct parsing s = {.page = out};

	*out = (struct vf_s3_page){0};
	s.x = XML_ParserCreate(NULL);
	if (!s.x)
		return -ENOMEM;
	XML_SetUserData(s.x, &s);
	XML_SetElementHandler(s.x, page_start, page_end);
	XML_SetCharacterDataHandler(s.x, page_text);
	if (len > INT32_MAX || !XML_Parse(s.x, p, (int)len, 1))
		s.err = s.err ? s.err : -EBADMSG;
	XML_ParserFree(s.x);
	return s.err ? s.err : finish_page(&s, out);
}

void vf_s3_page_fini(struct vf_s3_page *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->entries[i].key);
	free(p->entries);
	free(p->token);
	*p = (struct vf_s3_page){0};
}
