/*
 * One signed request to an S3 server, and what its answer means.  Shared by
 * the files of the s3:// bucket; nothing else may include this.
 */
#ifndef VF_STORE_S3_REQUEST_H
#define VF_STORE_S3_REQUEST_H

#include "store/bucket_impl.h"
#include "store/credential_source.h"
#include "store/http.h"
#include "store/sigv4.h"

#include <stdatomic.h>

enum vf_s3_op {
	VF_S3_GET,
	VF_S3_PUT,
	VF_S3_HEAD,
	VF_S3_LIST,
	VF_S3_DELETE,
	VF_S3_POST,
	VF_S3_OPS
};

/* An s3:// bucket.  All [fixed] after open, but the atomic ones. */
struct vf_s3 {
	struct vf_bucket base;
	struct vf_http *http;
	struct vf_credential_source *credentials;
	char *name;   /* of the bucket */
	char *prefix; /* before every key: "" or "p/q/" */
	char *origin; /* "https://host:port" */
	char *host;   /* as the Host header has it */
	char *root;   /* path of the bucket: "" or "/bucket" */
	char *region;
	atomic_uint_fast64_t n_sent[VF_S3_OPS], n_error, bytes_in, bytes_out;
	atomic_bool one_by_one; /* the server does not delete many at once */
};

enum { VF_S3_QUERY_MAX = 8, VF_S3_CODE_MAX = 64 };

/*
 * The caller's memory, zeroed and filled, untouched until the answer is here.
 * What it points to is borrowed as long.
 */
struct vf_s3_request {
	struct vf_s3 *s3;
	enum vf_s3_op op;
	const char *key; /* relative to the URL; NULL: the bucket itself */
	struct vf_sigv4_pair query[VF_S3_QUERY_MAX];
	size_t n_query;
	const char *etag;    /* If-Match; NULL or "": none */
	bool if_absent;	     /* If-None-Match: *, never sent twice */
	bool may_be_absent;  /* 404 is an answer, not a failure */
	bool may_be_refused; /* what fails is no more than VF_INFO */
	const char *md5;     /* Content-MD5; NULL or "": none */
	uint64_t off, len;   /* range of a GET; len 0: no range */
	const void *body;
	size_t body_len;
	void *buf; /* for what comes: see struct vf_http_call */
	size_t buf_len;
	struct vf_buf *grow;
	size_t grow_max;
	unsigned connect_ms; /* give up sooner when nobody listens; 0: no */

	/* In a thread of the bucket, exactly once; @err as vf_s3_call's. */
	void (*done)(struct vf_s3_request *r, int err);
	void *arg;

	/* Filled when done is called. */
	struct vf_http_answer answer; /* text is NULL */
	char code[VF_S3_CODE_MAX];    /* the server's, or "" */
	char payload_hash[VF_SIGV4_HEX + 1];

	uint64_t start_ns;
	/* While other credentials are looked for; see s3_request.c. */
	struct vf_credential_wait wait;
	bool renewed;  /* once is enough */
	int refused;   /* what to return if there are no others */
	char *refusal; /* owned: what to say then */
};

/* Threads: any.  Does not wait; done may be called before this returns. */
void vf_s3_start(struct vf_s3_request *r);

/*
 * The same, waiting; done is ours.
 * Returns 0 (any status below 300); -ENOENT 404; -EEXIST or -ESTALE 412;
 * -ERANGE 416; -EACCES the server refuses for good; -ENOTSUP it knows no
 * conditional creation; -ENOSPC; -EREMOTEIO; -ECANCELED.  Logged, except the
 * first four, 404 only with may_be_absent; and that it is unknown whether
 * an if_absent happened is no more than VF_INFO.
 */
int vf_s3_call(struct vf_s3_request *r);

/* Log a failure that shows only in the body or headers; returns @err. */
int vf_s3_fail(const struct vf_s3_request *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* What the headers say of the object; @size is taken as it is. */
void vf_s3_describe(const struct vf_http_answer *a, uint64_t size,
		    struct vf_object *out);

/* Members of struct vf_bucket_ops; in s3_upload.c, s3_delete.c, s3_list.c. */
int vf_s3_upload_open(struct vf_bucket *b, const char *key,
		      struct vf_upload **out);
int vf_s3_upload_write(struct vf_upload *u, const void *data, size_t len);
int vf_s3_upload_commit(struct vf_upload *u, struct vf_object *out);
void vf_s3_upload_abort(struct vf_upload *u);
int vf_s3_delete_many(struct vf_bucket *b, const char *const *keys, size_t n);
int vf_s3_list(struct vf_bucket *b, const char *prefix, bool folders,
	       const char *start_after, vf_list_fn *fn, void *arg);
/*
 * Ask for one key, so that wrong names and credentials show; for @connect_ms
 * when nobody listens.  Returns 0; -ENOENT no such bucket; as vf_s3_call.
 */
int vf_s3_probe(struct vf_s3 *s3, unsigned connect_ms);

#endif
