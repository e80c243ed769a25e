/*
 * Uploads in parts.  Parts live in memory until they are joined; the object
 * appears then, at once.
 */
#include "tests/s3sim.h"

#include <inttypes.h>
#include <stdio.h>

struct part {
	unsigned number;
	struct sim_blob *blob;
	char etag[SIM_ETAG_MAX];
};

struct sim_upload {
	struct sim_upload *next;
	char id[17], *key;
	struct part *parts; /* any order */
	size_t n_parts, cap;
};

static void free_upload(struct sim_upload *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->n_parts; i++)
		sim_blob_put(u->parts[i].blob);
	free(u->parts);
	free(u->key);
	free(u);
}

void sim_uploads_free(struct sim *s)
{
	while (s->uploads) {
		struct sim_upload *u = s->uploads;
		s->uploads = u->next;
		free_upload(u);
	}
	s->n_uploads = 0;
}

/* Where the pointer to the upload of the request is; refused when absent. */
static struct sim_upload **find_upload(struct sim *s,
				       const struct sim_request *r,
				       struct sim_response *res)
{
	const char *id = sim_request_query(r, "uploadId");

	for (struct sim_upload **at = &s->uploads; *at; at = &(*at)->next)
		if (!strcmp((*at)->id, id) && !strcmp((*at)->key, r->key))
			return at;
	sim_refuse(res, 404, "NoSuchUpload",
		   "The specified upload does not exist.");
	return NULL;
}

static void remove_upload(struct sim *s, struct sim_upload **at)
{
	struct sim_upload *u = *at;

	*at = u->next;
	s->n_uploads--;
	free_upload(u);
}

void sim_upload_create(struct sim *s, const struct sim_request *r,
		       struct sim_response *res)
{
	struct sim_upload *u = calloc(1, sizeof(*u));

	if (!u || s->n_uploads == SIM_UPLOADS_MAX ||
	    !(u->key = strdup(r->key))) {
		free(u);
		sim_refuse(res, 503, "SlowDown", "Too many uploads under way");
		return;
	}
	snprintf(u->id, sizeof(u->id), "%016" PRIx64, sim_rand(s));
	u->next = s->uploads;
	s->uploads = u;
	s->n_uploads++;
	sim_xml_begin(res);
	vf_buf_printf(&res->text,
		      "<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>",
		      s->bucket);
	sim_xml_append(&res->text, r->key);
	vf_buf_printf(&res->text,
		      "</Key><UploadId>%s</UploadId>"
		      "</InitiateMultipartUploadResult>",
		      u->id);
}

void sim_upload_abort(struct sim *s, const struct sim_request *r,
		      struct sim_response *res)
{
	struct sim_upload **at = find_upload(s, r, res);

	if (!at)
		return;
	remove_upload(s, at);
	res->status = 204;
}

/* ---- parts --------------------------------------------------------------------- */

static struct part *find_part(struct sim_upload *u, unsigned number)
{
	for (size_t i = 0; i < u->n_parts; i++)
		if (u->parts[i].number == number)
			return &u->parts[i];
	return NULL;
}

static struct part *add_part(struct sim_upload *u, unsigned number)
{
	struct part *p = find_part(u, number);

	if (p)
		return p;
	if (u->n_parts == u->cap) {
		size_t cap = u->cap ? 2 * u->cap : 16;
		p = reallocarray(u->parts, cap, sizeof(*p));
		if (!p)
			return NULL;
		u->parts = p;
		u->cap = cap;
	}
	p = &u->parts[u->n_parts++];
	*p = (struct part){.number = number};
	return p;
}

void sim_upload_part(struct sim *s, struct sim_request *r,
		     struct sim_response *res)
{
	unsigned long number =
		strtoul(sim_request_query(r, "partNumber"), NULL, 10);
	struct sim_upload **at = find_upload(s, r, res);
	char etag[SIM_ETAG_MAX];

	if (!at)
		return;
	if (number < 1 || number > SIM_PARTS_MAX) {
		sim_refuse(res, 400, "InvalidArgument",
			   "Part number must be between 1 and 10000");
		return;
	}
	sim_etag(r->body.data, r->body.len, etag);
	struct sim_blob *blob = sim_blob_new(&r->body);
	struct part *p = blob ? add_part(*at, (unsigned)number) : NULL;
	if (!p) {
		sim_blob_put(blob);
		sim_refuse(res, 500, "InternalError", "s3sim cannot keep it");
		return;
	}
	sim_blob_put(p->blob);
	p->blob = blob;
	memcpy(p->etag, etag, sizeof(etag));
	vf_buf_printf(&res->head, "ETag: \"%s\"\r\n", etag);
}

/* ---- joining -------------------------------------------------------------------- */

/* The text of <@name> inside [s, end), without quotes. */
static bool copy_element(const char *s, const char *end, const char *name,
			 char *out, size_t cap)
{
	const char *at = strstr(s, name);
	size_t n;

	if (!at || at >= end)
		return false;
	at += strlen(name);
	if (!strncmp(at, "&quot;", 6))
		at += 6;
	else if (!strncmp(at, "&#34;", 5))
		at += 5;
	else if (*at == '"')
		at++;
	n = strcspn(at, "\"&<");
	if (n >= cap)
		return false;
	memcpy(out, at, n);
	out[n] = '\0';
	return true;
}

/* One <Part>; @prev is the one before it.  NULL: refused. */
static const struct part *take_part(struct sim_upload *u, const char *s,
				    const char *end, const struct part *prev,
				    struct sim_response *res)
{
	char number[16], etag[SIM_ETAG_MAX];

	if (!copy_element(s, end, "<PartNumber>", number, sizeof(number)) ||
	    !copy_element(s, end, "<ETag>", etag, sizeof(etag))) {
		sim_refuse(res, 400, "MalformedXML", "A part is not valid");
		return NULL;
	}
	const struct part *p =
		find_part(u, (unsigned)strtoul(number, NULL, 10));
	if (!p || strcmp(p->etag, etag))
		sim_refuse(res, 400, "InvalidPart",
			   "One or more of the specified parts could not be "
			   "found.");
	else if (prev && prev->number >= p->number)
		sim_refuse(res, 400, "InvalidPartOrder",
			   "The list of parts was not in ascending order.");
	else if (prev && prev->blob->len < SIM_PART_MIN)
		sim_refuse(res, 400, "EntityTooSmall",
			   "Your proposed upload is smaller than the minimum "
			   "allowed size");
	else
		return p;
	return NULL;
}

/* Join the parts the request lists.  0; -EPERM, refused; -ENOMEM. */
static int join_parts(struct sim_upload *u, const char *xml,
		      struct sim_response *res, struct vf_buf *out,
		      char out_etag[SIM_ETAG_MAX])
{
	VF_AUTO_BUF struct vf_buf etags = {0};
	const struct part *p = NULL;
	unsigned n = 0;
	int err = 0;

	for (const char *s = xml; !err && (s = strstr(s, "<Part>")); n++) {
		const char *end = strstr(s, "</Part>");
		p = take_part(u, s, end ? end : s, p, res);
		if (!p)
			return -EPERM;
		err = vf_buf_append(out, p->blob->data, p->blob->len);
		if (!err)
			err = vf_buf_printf(&etags, "%s", p->etag);
		s = end;
	}
	if (!n)
		return sim_refuse(res, 400, "MalformedXML", "No part listed");
	sim_etag(etags.data, etags.len, out_etag);
	snprintf(out_etag + 32, SIM_ETAG_MAX - 32, "-%u", n);
	return err;
}

static void print_joined(struct sim *s, const char *key, const char *etag,
			 struct sim_response *res)
{
	sim_xml_begin(res);
	vf_buf_printf(&res->text,
		      "<CompleteMultipartUploadResult><Bucket>%s</Bucket><Key>",
		      s->bucket);
	sim_xml_append(&res->text, key);
	vf_buf_printf(&res->text,
		      "</Key><ETag>&quot;%s&quot;</ETag>"
		      "</CompleteMultipartUploadResult>",
		      etag);
}

void sim_upload_complete(struct sim *s, struct sim_request *r,
			 struct sim_response *res)
{
	VF_AUTO_BUF struct vf_buf all = {0};
	struct sim_upload **at = find_upload(s, r, res);
	char etag[SIM_ETAG_MAX];
	int err;

	if (!at || sim_check_write(s, r, res))
		return;
	err = vf_buf_append(&r->body, "", 1); /* strstr() needs an end */
	if (!err)
		err = join_parts(*at, (char *)r->body.data, res, &all, etag);
	if (err == -EPERM)
		return;
	struct sim_blob *blob = err ? NULL : sim_blob_new(&all);
	if (!blob || sim_store_put(&s->store, r->key, blob, etag)) {
		sim_refuse(res, 500, "InternalError", "s3sim cannot keep it");
	} else {
		print_joined(s, r->key, etag, res);
		remove_upload(s, at);
	}
	sim_blob_put(blob);
}
