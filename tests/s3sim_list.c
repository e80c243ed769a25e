/*
 * ListObjectsV2.  An entry is a key or a common prefix; entries are in byte
 * order, and a page begins at the first entry above a mark: start-after, or
 * the last entry of the page before, which a continuation token is in hex.
 */
#include "tests/s3sim.h"

#include <stdio.h>

struct list {
	const char *prefix, *delimiter;
	char *mark; /* owned; "" */
	bool url;   /* encoding-type */
	unsigned max, n;
	bool truncated;
	char *last; /* last entry, owned, may be NULL */
};

static int append_name(const struct list *l, struct vf_buf *out, const char *s)
{
	return l->url ? vf_sigv4_encode(out, s, true) : sim_xml_append(out, s);
}

/* The common prefix @key falls under, or NULL; the caller's to free(). */
static char *common_prefix(const struct list *l, const char *key)
{
	const char *rest = key + strlen(l->prefix), *at;

	at = *l->delimiter ? strstr(rest, l->delimiter) : NULL;
	return at ? strndup(key, (size_t)(at - key) + strlen(l->delimiter))
		  : NULL;
}

/* The first place at or after @i whose key does not begin with @p. */
static size_t skip_prefix(const struct sim_store *s, size_t i, const char *p)
{
	size_t lo = i, hi = s->n, n = strlen(p);

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strncmp(s->all[mid]->key, p, n) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void print_key(const struct list *l, const struct sim_object *o,
		      struct vf_buf *out)
{
	char date[40];

	sim_time_iso(o->mtime, date);
	vf_buf_printf(out, "<Contents><Key>");
	append_name(l, out, o->key);
	vf_buf_printf(out,
		      "</Key><LastModified>%s</LastModified>"
		      "<ETag>&quot;%s&quot;</ETag><Size>%zu</Size>"
		      "<StorageClass>STANDARD</StorageClass></Contents>",
		      date, o->etag, o->blob->len);
}

static void print_folder(const struct list *l, const char *name,
			 struct vf_buf *out)
{
	vf_buf_printf(out, "<CommonPrefixes><Prefix>");
	append_name(l, out, name);
	vf_buf_printf(out, "</Prefix></CommonPrefixes>");
}

/* S3 prints all keys of a page before its common prefixes. */
static void walk(struct sim *s, struct list *l, struct vf_buf *keys,
		 struct vf_buf *folders)
{
	const struct sim_store *st = &s->store;
	bool above = strcmp(l->mark, l->prefix) > 0;
	size_t i = sim_store_lower(st, above ? l->mark : l->prefix);

	while (i < st->n && l->max) {
		const struct sim_object *o = st->all[i];
		if (strncmp(o->key, l->prefix, strlen(l->prefix)))
			break;
		VF_AUTO_FREE char *folder = common_prefix(l, o->key);
		const char *entry = folder ? folder : o->key;
		i = folder ? skip_prefix(st, i, folder) : i + 1;
		if (strcmp(entry, l->mark) <= 0)
			continue;
		if (l->n == l->max) {
			l->truncated = true;
			break;
		}
		if (folder)
			print_folder(l, folder, folders);
		else
			print_key(l, o, keys);
		l->n++;
		free(l->last);
		l->last = strdup(entry);
	}
}

/* ---- parameters and answer ------------------------------------------------------------ */

static int take_mark(const struct sim_request *r, struct list *l)
{
	const char *token = sim_request_query(r, "continuation-token");
	const char *after = sim_request_query(r, "start-after");

	if (!token) {
		l->mark = strdup(after ? after : "");
		return l->mark ? 0 : -ENOMEM;
	}
	l->mark = calloc(1, strlen(token) / 2 + 1);
	if (!l->mark)
		return -ENOMEM;
	return *token ? vf_unhex(token, l->mark, strlen(token) / 2) : -EINVAL;
}

static int take_max(const struct sim *s, const struct sim_request *r,
		    struct list *l)
{
	const char *v = sim_request_query(r, "max-keys");
	char *end;

	l->max = s->max_keys;
	if (!v)
		return 0;
	unsigned long n = strtoul(v, &end, 10);
	if (*v < '0' || *v > '9' || *end)
		return -EINVAL;
	l->max = (unsigned)VF_MIN(n, (unsigned long)s->max_keys);
	return 0;
}

static int take_parameters(const struct sim *s, const struct sim_request *r,
			   struct list *l)
{
	const char *prefix = sim_request_query(r, "prefix");
	const char *delimiter = sim_request_query(r, "delimiter");
	const char *encoding = sim_request_query(r, "encoding-type");

	l->prefix = prefix ? prefix : "";
	l->delimiter = delimiter ? delimiter : "";
	l->url = encoding;
	if (encoding && strcmp(encoding, "url"))
		return -EINVAL;
	int err = take_mark(r, l);
	return err ? err : take_max(s, r, l);
}

static void print_named(const struct list *l, struct vf_buf *out,
			const char *element, const char *value)
{
	if (!value)
		return;
	vf_buf_printf(out, "<%s>", element);
	append_name(l, out, value);
	vf_buf_printf(out, "</%s>", element);
}

static void print_page(const struct sim *s, const struct sim_request *r,
		       const struct list *l, struct vf_buf *out)
{
	vf_buf_printf(out,
		      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/"
		      "2006-03-01/\"><Name>%s</Name>",
		      s->bucket);
	print_named(l, out, "Prefix", l->prefix);
	print_named(l, out, "Delimiter", *l->delimiter ? l->delimiter : NULL);
	print_named(l, out, "StartAfter", sim_request_query(r, "start-after"));
	if (l->url)
		vf_buf_printf(out, "<EncodingType>url</EncodingType>");
	vf_buf_printf(out,
		      "<MaxKeys>%u</MaxKeys><KeyCount>%u</KeyCount>"
		      "<IsTruncated>%s</IsTruncated>",
		      l->max, l->n, l->truncated ? "true" : "false");
	if (!l->truncated)
		return;
	vf_buf_printf(out, "<NextContinuationToken>");
	for (const char *c = l->last; *c; c++)
		vf_buf_printf(out, "%02x", (unsigned char)*c);
	vf_buf_printf(out, "</NextContinuationToken>");
}

void sim_list(struct sim *s, const struct sim_request *r,
	      struct sim_response *res)
{
	VF_AUTO_BUF struct vf_buf keys = {0};
	VF_AUTO_BUF struct vf_buf folders = {0};
	struct list l = {0};

	if (take_parameters(s, r, &l)) {
		sim_refuse(res, 400, "InvalidArgument",
			   "A parameter of the listing is not valid");
	} else {
		walk(s, &l, &keys, &folders);
		sim_xml_begin(res);
		print_page(s, r, &l, &res->text);
		vf_buf_append(&res->text, keys.data, keys.len);
		vf_buf_append(&res->text, folders.data, folders.len);
		vf_buf_printf(&res->text, "</ListBucketResult>");
	}
	free(l.mark);
	free(l.last);
}
