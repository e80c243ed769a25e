/*
 * ListObjectsV2, page by page.  Keys and folders of a page arrive in two lists
 * and are visited as one, in byte order; keys lose the URL's prefix.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <stdio.h>

enum {
	PAGE_LEN_MAX = 16 << 20, /* 1000 keys of 1024 bytes, all encoded: 4 M */
	EMPTY_PAGES_MAX = 1000, /* in a row: the server goes round in circles */
};

struct listing {
	struct vf_s3 *s3;
	const char *prefix, *start_after; /* with the URL's prefix; or NULL */
	bool folders;
	const char *max_keys; /* NULL: as many as the server likes */
	unsigned connect_ms;
	vf_list_fn *fn;
	void *arg;
	char *last; /* key visited last; owned */
};

static void add_query(struct vf_s3_request *r, const char *name,
		      const char *value)
{
	assert(r->n_query < VF_S3_QUERY_MAX);
	if (value)
		r->query[r->n_query++] = (struct vf_sigv4_pair){name, value};
}

/* One page from @token on; @out_status is of an answer that was an error. */
static int read_page(const struct listing *l, const char *token,
		     struct vf_s3_page *page, int *out_status)
{
	VF_AUTO_BUF struct vf_buf body = {0};
	struct vf_s3_request r = {.s3 = l->s3,
				  .op = VF_S3_LIST,
				  .grow = &body,
				  .grow_max = PAGE_LEN_MAX,
				  .connect_ms = l->connect_ms};
	int err;

	add_query(&r, "list-type", "2");
	add_query(&r, "encoding-type", "url");
	add_query(&r, "prefix", l->prefix);
	add_query(&r, "delimiter", l->folders ? "/" : NULL);
	add_query(&r, "max-keys", l->max_keys);
	add_query(&r, "start-after", token ? NULL : l->start_after);
	add_query(&r, "continuation-token", token);
	err = vf_s3_call(&r);
	*out_status = r.answer.status;
	if (err)
		return err;
	err = vf_s3_page_parse(body.data ? (void *)body.data : "", body.len,
			       page);
	if (err == -EBADMSG)
		err = vf_s3_fail(&r, -EREMOTEIO,
				 "the answer is no list of keys");
	return err;
}

static int visit_entry(struct listing *l, const struct vf_s3_page_entry *e)
{
	size_t root_len = strlen(l->s3->prefix);
	struct vf_list_entry entry = {.key = e->key + root_len,
				      .folder = e->folder,
				      .object = e->object};
	int order = l->last ? strcmp(l->last, e->key) : -1;

	if (strncmp(e->key, l->prefix, strlen(l->prefix)) || order > 0) {
		const struct vf_s3_request r = {.s3 = l->s3, .op = VF_S3_LIST};
		return vf_s3_fail(&r, -EREMOTEIO,
				  "\"%s\" came, which is out of order", e->key);
	}
	/* A folder may come once more, on the next page or as the start. */
	if (!order || (l->start_after && strcmp(e->key, l->start_after) <= 0))
		return 0;
	free(l->last);
	l->last = strdup(e->key);
	if (!l->last)
		return -ENOMEM;
	return *entry.key ? l->fn(l->arg, &entry) : 0;
}

static int visit_pages(struct listing *l)
{
	VF_AUTO_FREE char *token = NULL;
	unsigned n_empty = 0;
	int rc = 0;

	do {
		VF_CLEANUP(vf_s3_page_fini) struct vf_s3_page page = {0};
		int status;
		rc = read_page(l, token, &page, &status);
		for (size_t i = 0; !rc && i < page.n; i++)
			rc = visit_entry(l, &page.entries[i]);
		free(token);
		token = page.truncated ? VF_STEAL(page.token) : NULL;
		n_empty = page.n ? 0 : n_empty + 1;
	} while (!rc && token && n_empty < EMPTY_PAGES_MAX);
	if (!rc && token) {
		const struct vf_s3_request r = {.s3 = l->s3, .op = VF_S3_LIST};
		rc = vf_s3_fail(&r, -EREMOTEIO,
				"the server sends empty pages without end");
	}
	free(l->last);
	return rc;
}

int vf_s3_list(struct vf_bucket *b, const char *prefix, bool folders,
	       const char *start_after, vf_list_fn *fn, void *arg)
{
	struct vf_s3 *s3 = (struct vf_s3 *)b;
	VF_AUTO_BUF struct vf_buf full = {0};
	VF_AUTO_BUF struct vf_buf after = {0};
	int err = vf_buf_printf(&full, "%s%s", s3->prefix, prefix);

	if (!err && start_after && *start_after)
		err = vf_buf_printf(&after, "%s%s", s3->prefix, start_after);
	if (err)
		return err;
	if (full.len > VF_OBJECT_KEY_MAX)
		return 0; /* no key is so long */
	struct listing l = {.s3 = s3,
			    .prefix = (char *)full.data,
			    .start_after = (char *)after.data,
			    .folders = folders,
			    .fn = fn,
			    .arg = arg};
	return visit_pages(&l);
}

int vf_s3_probe(struct vf_s3 *s3, unsigned connect_ms)
{
	const struct listing l = {.s3 = s3,
				  .prefix = s3->prefix,
				  .max_keys = "1",
				  .connect_ms = connect_ms};
	VF_CLEANUP(vf_s3_page_fini) struct vf_s3_page page = {0};
	int status = 0, err = read_page(&l, NULL, &page, &status);

	return err && status == 404 ? -ENOENT : err;
}
