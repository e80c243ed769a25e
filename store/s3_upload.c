/*
 * An object written as a stream.
 *
 *   slots  0 1 2 3 4   of 16 MiB each, one mapping, touched as it fills
 *
 * While it fits into slots 0..3 it is sent at commit, in one PUT straight from
 * the mapping.  Once slot 4 is needed it becomes a multipart upload: full slots
 * are parts, and go on being filled and sent in turn, at most four in flight.
 *
 * A slot is FILLING (the one at @at), IN FLIGHT, or free.  Parts have one
 * size, as some servers want it; only the last is shorter.
 */
#include "store/s3_request.h"
#include "store/s3_xml.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

enum {
	SLOT_LEN = 16 << 20,
	N_SLOTS = 5,
	SINGLE_SLOTS = 4, /* what fits into these is one PUT */
	PARTS_MAX = 10000,
	COMPLETE_TRIES = 4,
	ANSWER_LEN_MAX = 64 << 10,
	UPLOAD_ID_MAX = 1024,
};

struct part {
	char etag[VF_ETAG_MAX];
};

struct slot {
	struct vf_s3_request r;
	struct s3_upload *u;
	unsigned number; /* of the part in it, from 1 */
	char number_text[12];
	bool busy; /* [mtx] in flight */
};

struct s3_upload {
	struct vf_upload base;
	struct vf_s3 *s3; /* [fixed] borrowed */
	char *key;	  /* [fixed] owned */
	uint8_t *arena;	  /* [fixed] N_SLOTS * SLOT_LEN */
	struct slot slots[N_SLOTS];
	unsigned at;	 /* slot being filled */
	size_t fill;	 /* bytes in it */
	uint64_t size;	 /* bytes written in all */
	char *upload_id; /* NULL: not in parts yet */
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	struct part *parts; /* [mtx] [n_parts] */
	unsigned n_parts;   /* sent or in flight */
	int err;	    /* [mtx] the first failure */
};

static struct s3_upload *of(struct vf_upload *u)
{
	return (struct s3_upload *)u;
}

/* ---- parts -------------------------------------------------------------------------------- */

static void end_part(struct vf_s3_request *r, int err)
{
	struct slot *s = r->arg;
	struct s3_upload *u = s->u;

	if (!err && !r->answer.etag[0])
		err = vf_s3_fail(r, -EREMOTEIO, "part %u got no ETag",
				 s->number);
	pthread_mutex_lock(&u->mtx);
	if (err && !u->err)
		u->err = err;
	memcpy(u->parts[s->number - 1].etag, r->answer.etag, VF_ETAG_MAX);
	s->busy = false;
	pthread_cond_signal(&u->changed);
	pthread_mutex_unlock(&u->mtx);
}

/* Room for one more part; its number is then n_parts. */
static int add_part(struct s3_upload *u)
{
	struct part *p;

	if (u->n_parts == PARTS_MAX) {
		struct vf_s3_request r = {
			.s3 = u->s3, .op = VF_S3_PUT, .key = u->key};
		return vf_s3_fail(&r, -EFBIG, "more than %d parts of %d MiB",
				  PARTS_MAX, SLOT_LEN >> 20);
	}
	pthread_mutex_lock(&u->mtx);
	p = realloc(u->parts, (u->n_parts + 1) * sizeof(*p));
	if (p) {
		u->parts = p;
		p[u->n_parts++] = (struct part){0};
	}
	pthread_mutex_unlock(&u->mtx);
	return p ? 0 : -ENOMEM;
}

static int send_slot(struct s3_upload *u, unsigned i, size_t len)
{
	struct slot *s = &u->slots[i];
	int err = add_part(u);

	if (err)
		return err;
	s->u = u;
	s->number = u->n_parts;
	snprintf(s->number_text, sizeof(s->number_text), "%u", s->number);
	s->r = (struct vf_s3_request){.s3 = u->s3,
				      .op = VF_S3_PUT,
				      .key = u->key,
				      .query = {{"partNumber", s->number_text},
						{"uploadId", u->upload_id}},
				      .n_query = 2,
				      .body = u->arena + (size_t)i * SLOT_LEN,
				      .body_len = len,
				      .done = end_part,
				      .arg = s};
	pthread_mutex_lock(&u->mtx);
	s->busy = true;
	pthread_mutex_unlock(&u->mtx);
	vf_s3_start(&s->r);
	return 0;
}

static int wait_slot(struct s3_upload *u, unsigned i)
{
	int err;

	pthread_mutex_lock(&u->mtx);
	while (u->slots[i].busy)
		pthread_cond_wait(&u->changed, &u->mtx);
	err = u->err;
	pthread_mutex_unlock(&u->mtx);
	return err;
}

static int wait_all(struct s3_upload *u)
{
	int err = 0;

	for (unsigned i = 0; i < N_SLOTS; i++)
		err = wait_slot(u, i);
	return err;
}

static int begin_parts(struct s3_upload *u)
{
	VF_AUTO_BUF struct vf_buf body = {0};
	struct vf_s3_request r = {.s3 = u->s3,
				  .op = VF_S3_POST,
				  .key = u->key,
				  .query = {{"uploads", ""}},
				  .n_query = 1,
				  .grow = &body,
				  .grow_max = ANSWER_LEN_MAX};
	char id[UPLOAD_ID_MAX + 1];
	int err = vf_s3_call(&r);

	if (err)
		return err;
	vf_s3_xml_find(body.data ? (void *)body.data : "", body.len, "UploadId",
		       id, sizeof(id));
	if (!id[0] || strlen(id) == UPLOAD_ID_MAX)
		return vf_s3_fail(&r, -EREMOTEIO,
				  "the answer to an upload's begin has no id");
	u->upload_id = strdup(id);
	for (unsigned i = 0; !err && u->upload_id && i < SINGLE_SLOTS; i++)
		err = send_slot(u, i, SLOT_LEN);
	return u->upload_id ? err : -ENOMEM;
}

/* The slot at @at is full and more is to come. */
static int turn_slot(struct s3_upload *u)
{
	int err = 0;

	if (u->upload_id)
		err = send_slot(u, u->at, SLOT_LEN);
	else if (u->at == SINGLE_SLOTS - 1)
		err = begin_parts(u);
	u->at = (u->at + 1) % N_SLOTS;
	u->fill = 0;
	return err ? err : wait_slot(u, u->at);
}

/* ---- the end of parts ----------------------------------------------------------------------- */

static int make_list(struct s3_upload *u, struct vf_buf *out)
{
	int err = vf_buf_printf(out, "<CompleteMultipartUpload>");

	for (unsigned i = 0; !err && i < u->n_parts; i++) {
		/* An ETag that is no plain word has no business in XML. */
		if (strpbrk(u->parts[i].etag, "<>&"))
			return -EREMOTEIO;
		err = vf_buf_printf(out,
				    "<Part><PartNumber>%u</PartNumber>"
				    "<ETag>\"%s\"</ETag></Part>",
				    i + 1, u->parts[i].etag);
	}
	return err ? err : vf_buf_printf(out, "</CompleteMultipartUpload>");
}

/*
 * What became of the upload: its answer did not tell, or the answer was lost
 * and the upload is gone when asked again.
 */
static int find_completed(struct s3_upload *u, struct vf_object *out)
{
	struct vf_s3_request r = {.s3 = u->s3,
				  .op = VF_S3_HEAD,
				  .key = u->key,
				  .may_be_absent = true};
	char tail[16];
	size_t n;
	int err = vf_s3_call(&r);

	if (err && err != -ENOENT)
		return err;
	/* Of N parts, the ETag of every known server ends in "-N". */
	n = (size_t)snprintf(tail, sizeof(tail), "-%u", u->n_parts);
	if (err || r.answer.content_length != u->size ||
	    strlen(r.answer.etag) < n ||
	    strcmp(r.answer.etag + strlen(r.answer.etag) - n, tail))
		return vf_s3_fail(&r, -EREMOTEIO,
				  "the upload did not become an object");
	vf_s3_describe(&r.answer, u->size, out);
	return 0;
}

/* One request; -EAGAIN: the server failed inside and may do better. */
static int try_complete(struct s3_upload *u, const struct vf_buf *list,
			bool last, struct vf_object *out)
{
	VF_AUTO_BUF struct vf_buf body = {0};
	struct vf_s3_request r = {.s3 = u->s3,
				  .op = VF_S3_POST,
				  .key = u->key,
				  .query = {{"uploadId", u->upload_id}},
				  .n_query = 1,
				  .may_be_absent = true,
				  .body = list->data,
				  .body_len = list->len,
				  .grow = &body,
				  .grow_max = ANSWER_LEN_MAX};
	int err = vf_s3_call(&r);
	const void *p = body.data ? (void *)body.data : "";
	char text[VF_ETAG_MAX + 2], message[256];

	if (err == -ENOENT)
		return find_completed(u, out);
	if (err)
		return err;
	vf_s3_xml_find(p, body.len, "Code", text, sizeof(text));
	if (text[0]) { /* 200, and yet an error */
		vf_s3_xml_find(p, body.len, "Message", message,
			       sizeof(message));
		bool again = !last && (!strcmp(text, "InternalError") ||
				       !strcmp(text, "SlowDown") ||
				       !strcmp(text, "ServiceUnavailable"));
		return again ? -EAGAIN
			     : vf_s3_fail(&r, -EREMOTEIO, "%s: %s", text,
					  message);
	}
	vf_s3_xml_find(p, body.len, "ETag", text, sizeof(text));
	size_t quoted = text[0] == '"', n = strcspn(text + quoted, "\"");
	if (!n || n >= VF_ETAG_MAX) /* Ceph 16.2 leaves it empty */
		return find_completed(u, out);
	*out = (struct vf_object){.size = u->size};
	memcpy(out->etag, text + quoted, n);
	return 0;
}

static int complete(struct s3_upload *u, struct vf_object *out)
{
	VF_AUTO_BUF struct vf_buf list = {0};
	int err = make_list(u, &list);

	if (err)
		return err;
	for (int tries = 1;; tries++) {
		err = try_complete(u, &list, tries == COMPLETE_TRIES, out);
		if (err != -EAGAIN)
			return err;
		usleep(100000u << tries);
	}
}

/* Nothing more can be done if even this fails; the server's own rules for
 * unfinished uploads remain. */
static void abort_parts(struct s3_upload *u)
{
	struct vf_s3_request r = {.s3 = u->s3,
				  .op = VF_S3_DELETE,
				  .key = u->key,
				  .query = {{"uploadId", u->upload_id}},
				  .n_query = 1,
				  .may_be_absent = true};
	vf_s3_call(&r);
}

/* ---- the stream ------------------------------------------------------------------------------ */

static void free_upload(struct s3_upload *u)
{
	if (u->arena)
		munmap(u->arena, (size_t)N_SLOTS * SLOT_LEN);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->mtx);
	free(u->parts);
	free(u->upload_id);
	free(u->key);
	free(u);
}

int vf_s3_upload_open(struct vf_bucket *b, const char *key,
		      struct vf_upload **out)
{
	struct s3_upload *u = calloc(1, sizeof(*u));
	void *p;

	if (!u)
		return -ENOMEM;
	u->s3 = (struct vf_s3 *)b;
	pthread_mutex_init(&u->mtx, NULL);
	pthread_cond_init(&u->changed, NULL);
	u->key = strdup(key);
	p = mmap(NULL, (size_t)N_SLOTS * SLOT_LEN, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	u->arena = p == MAP_FAILED ? NULL : p;
	if (!u->key || !u->arena) {
		free_upload(u);
		return -ENOMEM;
	}
	*out = &u->base;
	return 0;
}

/* So that a commit after a failed write cannot succeed. */
static int keep_error(struct s3_upload *u, int err)
{
	pthread_mutex_lock(&u->mtx);
	if (!u->err)
		u->err = err;
	pthread_mutex_unlock(&u->mtx);
	return err;
}

int vf_s3_upload_write(struct vf_upload *base, const void *data, size_t len)
{
	struct s3_upload *u = of(base);
	const uint8_t *p = data;

	while (len) {
		int err = u->fill == SLOT_LEN ? turn_slot(u) : 0;
		size_t n = VF_MIN(len, SLOT_LEN - u->fill);
		if (err)
			return keep_error(u, err);
		memcpy(u->arena + (size_t)u->at * SLOT_LEN + u->fill, p, n);
		u->fill += n;
		u->size += n;
		p += n;
		len -= n;
	}
	return 0;
}

int vf_s3_upload_commit(struct vf_upload *base, struct vf_object *out)
{
	struct s3_upload *u = of(base);
	int err, sent = 0;

	if (!u->upload_id && !u->err) {
		struct vf_bucket *b = &u->s3->base;
		err = b->ops->put(b, u->key, u->arena, (size_t)u->size, 0, out);
		free_upload(u);
		return err;
	}
	if (u->upload_id && u->fill)
		sent = send_slot(u, u->at, u->fill);
	err = wait_all(u);
	if (!err)
		err = sent;
	if (!err)
		err = complete(u, out);
	if (err && u->upload_id)
		abort_parts(u);
	free_upload(u);
	return err;
}

void vf_s3_upload_abort(struct vf_upload *base)
{
	struct s3_upload *u = of(base);

	wait_all(u);
	if (u->upload_id)
		abort_parts(u);
	free_upload(u);
}
