/*
 * An object as a stream.  The first 64 MiB are kept: an object that ends
 * within them is one PUT; a longer one becomes a multipart upload, whose parts
 * are sent while the next is filled.
 *
 *   part     state
 *   filling  the last of the array, in memory
 *   sent     under way; its memory is freed when it has arrived
 *   done     its ETag is known
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <stdio.h>

enum {
	PART_LEN = 16 << 20,
	PARTS_KEPT = 4,	  /* below them one PUT is enough: 64 MiB */
	PARTS_FLYING = 4, /* sent and not yet answered */
	PARTS_MAX = 10000,
};

struct part {
	struct s3_request r;
	struct s3_upload *upload;
	uint8_t *data; /* owned until it has arrived */
	size_t len;
	char number[8];
	char etag[VF_ETAG_MAX];
};

struct s3_upload {
	struct vf_upload base;
	struct s3_bucket *s;
	char *key;     /* full */
	char id[1024]; /* of the multipart upload, "" while there is none */
	uint64_t len;
	struct part *parts[PARTS_MAX];
	size_t n_parts, n_sent;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	unsigned n_flying; /* [mtx] */
	int err;	   /* [mtx] the first failure */
};

int vf_s3_upload_open(struct vf_bucket *b, const char *key,
		      struct vf_upload **out)
{
	struct s3_upload *u = calloc(1, sizeof(*u));

	*out = NULL;
	if (u)
		u->key = vf_s3_key((struct s3_bucket *)b, key);
	if (!u || !u->key) {
		free(u);
		return -ENOMEM;
	}
	u->base.bucket = b;
	u->s = (struct s3_bucket *)b;
	pthread_mutex_init(&u->mtx, NULL);
	pthread_cond_init(&u->cond, NULL);
	*out = &u->base;
	return 0;
}

static void free_upload(struct s3_upload *u)
{
	for (size_t i = 0; i < u->n_parts; i++) {
		free(u->parts[i]->data);
		free(u->parts[i]);
	}
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->mtx);
	free(u->key);
	free(u);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static int wait_below(struct s3_upload *u, unsigned n)
{
	int err;

	pthread_mutex_lock(&u->mtx);
	while (u->n_flying >= n)
		pthread_cond_wait(&u->cond, &u->mtx);
	err = u->err;
	pthread_mutex_unlock(&u->mtx);
	return err;
}

static void finish_part(struct s3_request *r, const struct vf_http_answer *a)
{
	struct part *p = (struct part *)r;
	struct s3_upload *u = p->upload;
	int err = 0;

	if (a->err || a->status != 200)
		err = vf_s3_fail(r, a, VF_ERROR, vf_s3_meaning(a));
	else if (!a->etag[0])
		err = vf_fail(-EREMOTEIO, "PUT %s: a part without an ETag",
			      u->key);
	memcpy(p->etag, a->etag, sizeof(p->etag));
	free(p->data);
	p->data = NULL;
	pthread_mutex_lock(&u->mtx);
	u->n_flying--;
	if (err && !u->err)
		u->err = err;
	pthread_cond_signal(&u->cond);
	pthread_mutex_unlock(&u->mtx);
}

static int send_part(struct s3_upload *u, struct part *p)
{
	int err = wait_below(u, PARTS_FLYING);

	if (err)
		return err;
	snprintf(p->number, sizeof(p->number), "%zu", u->n_sent + 1);
	p->upload = u;
	p->r = (struct s3_request){.s3 = u->s,
				   .method = "PUT",
				   .key = u->key,
				   .query = {{"partNumber", p->number},
					     {"uploadId", u->id}},
				   .n_query = 2,
				   .body = p->data,
				   .body_len = p->len};
	pthread_mutex_lock(&u->mtx);
	u->n_flying++;
	pthread_mutex_unlock(&u->mtx);
	u->n_sent++;
	atomic_fetch_add(&u->s->n_put, 1);
	vf_s3_start(&p->r, finish_part);
	return 0;
}

static int begin_multipart(struct s3_upload *u)
{
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));
	VF_AUTO_BUF struct vf_buf body = {0};

	if (!r)
		return -ENOMEM;
	r->s3 = u->s;
	r->method = "POST";
	r->key = u->key;
	r->query[0] = (struct vf_sigv4_pair){"uploads", ""};
	r->n_query = 1;
	r->grow = &body;
	r->grow_max = VF_HTTP_TEXT_MAX;
	vf_s3_send(r);
	if (r->answer.err || r->answer.status != 200)
		return vf_s3_fail(r, &r->answer, VF_ERROR,
				  vf_s3_meaning(&r->answer));
	vf_s3_xml_find(body.data, body.len, "UploadId", u->id, sizeof(u->id));
	return u->id[0] ? 0
			: vf_fail(-EREMOTEIO, "POST %s: no UploadId came",
				  u->key);
}

/* All that is full, or with @rest everything. */
static int send_parts(struct s3_upload *u, bool rest)
{
	int err = u->id[0] ? 0 : begin_multipart(u);

	while (!err && u->n_sent < u->n_parts &&
	       (rest || u->parts[u->n_sent]->len == PART_LEN))
		err = send_part(u, u->parts[u->n_sent]);
	return err;
}

static struct part *filling(struct s3_upload *u)
{
	struct part *p = u->n_parts ? u->parts[u->n_parts - 1] : NULL;

	if (p && p->len < PART_LEN)
		return p;
	p = calloc(1, sizeof(*p));
	if (p)
		p->data = malloc(PART_LEN);
	if (!p || !p->data) {
		free(p);
		return NULL;
	}
	u->parts[u->n_parts++] = p;
	return p;
}

int vf_s3_upload_write(struct vf_upload *base, const void *data, size_t len)
{
	struct s3_upload *u = (struct s3_upload *)base;
	const uint8_t *at = data;
	int err = 0;

	while (!err && len) {
		if (u->n_parts == PARTS_MAX &&
		    u->parts[PARTS_MAX - 1]->len == PART_LEN)
			return vf_fail(-EFBIG, "PUT %s: too large", u->key);
		struct part *p = filling(u);
		if (!p)
			return -ENOMEM;
		size_t n = VF_MIN(len, (size_t)PART_LEN - p->len);
		memcpy(p->data + p->len, at, n);
		p->len += n;
		u->len += n;
		at += n;
		len -= n;
		if (u->n_parts > PARTS_KEPT)
			err = send_parts(u, false);
	}
	return err;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static int whole_in_one(struct s3_upload *u, struct vf_object *out)
{
	VF_AUTO_FREE uint8_t *all = NULL;
	size_t at = 0;

	if (u->n_parts == 1)
		return vf_s3_put(u->s, u->key, u->parts[0]->data, u->len, 0,
				 out);
	all = malloc(u->len ? u->len : 1);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < u->n_parts; i++) {
		memcpy(all + at, u->parts[i]->data, u->parts[i]->len);
		at += u->parts[i]->len;
		free(u->parts[i]->data);
		u->parts[i]->data = NULL;
	}
	return vf_s3_put(u->s, u->key, all, u->len, 0, out);
}

static int list_parts(const struct s3_upload *u, struct vf_buf *out)
{
	int err = vf_buf_printf(out, "<CompleteMultipartUpload>");

	for (size_t i = 0; !err && i < u->n_parts; i++)
		err = vf_buf_printf(out,
				    "<Part><PartNumber>%zu</PartNumber><ETag>"
				    "&quot;%s&quot;</ETag></Part>",
				    i + 1, u->parts[i]->etag);
	return err ? err : vf_buf_printf(out, "</CompleteMultipartUpload>");
}

/* A lost answer to the last request: is the object there, as long as it must
 * be?  Nobody else writes this name. */
static int look(struct s3_upload *u, struct vf_object *out)
{
	const char *key = u->key + strlen(u->s->prefix);
	struct vf_object object;
	int err = vf_bucket_head(u->base.bucket, key, &object);

	if (err || object.size != u->len)
		return -EREMOTEIO;
	if (out)
		*out = object;
	return 0;
}

/* A server may answer 200 and then tell of an error in the body. */
static int complete(struct s3_upload *u, struct vf_object *out)
{
	VF_AUTO_FREE struct s3_request *r = calloc(1, sizeof(*r));
	VF_AUTO_BUF struct vf_buf parts = {0};
	VF_AUTO_BUF struct vf_buf body = {0};
	char etag[VF_ETAG_MAX + 2] = "", *e = etag;
	int err = r ? list_parts(u, &parts) : -ENOMEM;

	if (err)
		return err;
	r->s3 = u->s;
	r->method = "POST";
	r->key = u->key;
	r->query[0] = (struct vf_sigv4_pair){"uploadId", u->id};
	r->n_query = 1;
	r->body = parts.data;
	r->body_len = parts.len;
	r->grow = &body;
	r->grow_max = VF_HTTP_TEXT_MAX;
	vf_s3_send(r);
	if (!r->answer.err && r->answer.status == 200)
		vf_s3_xml_find(body.data, body.len, "ETag", etag, sizeof(etag));
	e += *e == '"';
	e[strcspn(e, "\"")] = '\0';
	if (!*e)
		return look(u, out)
			       ? vf_s3_fail(r, &r->answer, VF_ERROR, -EREMOTEIO)
			       : 0;
	if (out) {
		*out = (struct vf_object){.size = u->len};
		snprintf(out->etag, sizeof(out->etag), "%.*s", VF_ETAG_MAX - 1,
			 e);
	}
	return 0;
}

int vf_s3_upload_commit(struct vf_upload *base, struct vf_object *out)
{
	struct s3_upload *u = (struct s3_upload *)base;
	int err;

	if (u->n_parts <= PARTS_KEPT) {
		err = whole_in_one(u, out);
		free_upload(u);
		return err;
	}
	err = send_parts(u, true);
	if (!err)
		err = wait_below(u, 1);
	if (!err)
		err = complete(u, out);
	if (err)
		vf_s3_upload_abort(base);
	else
		free_upload(u);
	return err;
}

void vf_s3_upload_abort(struct vf_upload *base)
{
	struct s3_upload *u = (struct s3_upload *)base;
	struct s3_request *r;

	if (!u)
		return;
	wait_below(u, 1);
	r = u->id[0] ? calloc(1, sizeof(*r)) : NULL;
	if (r) {
		r->s3 = u->s;
		r->method = "DELETE";
		r->key = u->key;
		r->query[0] = (struct vf_sigv4_pair){"uploadId", u->id};
		r->n_query = 1;
		vf_s3_send(r);
		if (r->answer.err ||
		    (r->answer.status / 100 != 2 && r->answer.status != 404))
			vf_s3_fail(r, &r->answer, VF_WARN, 0);
		free(r);
	}
	free_upload(u);
}
