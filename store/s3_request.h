/*
 * One request to S3: address, signature, sending, and what its answer means.
 * Private to the S3 bucket.
 */
#ifndef VF_STORE_S3_REQUEST_H
#define VF_STORE_S3_REQUEST_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/bucket_impl.h"
#include "store/credentials.h"
#include "store/http.h"
#include "store/sigv4.h"

struct s3_bucket {
	struct vf_bucket base;
	struct vf_http *http;
	struct vf_credentials credentials; /* [fixed] */
	char *origin;			   /* [fixed] "https://host:port" */
	char *host;			   /* [fixed] the Host header */
	char *root;   /* [fixed] "/bucket" in path style, else "" */
	char *name;   /* [fixed] of the bucket */
	char *prefix; /* [fixed] "" or "a/b/" */
	char *region; /* [fixed] */
	atomic_uint_fast64_t n_get, n_put, n_head, n_list, n_delete, n_error,
		bytes_in, bytes_out;
};

enum { S3_QUERY_MAX = 8 };

/* Zero, then set what the request needs; strings are borrowed until done. */
struct s3_request {
	struct s3_bucket *s3;
	const char *method;
	const char *key; /* full key, or NULL for the bucket itself */
	struct vf_sigv4_pair query[S3_QUERY_MAX];
	size_t n_query;
	bool has_range;
	uint64_t first, last; /* of the range */
	const char *if_match; /* an ETag without quotes */
	bool if_none_match;   /* any */
	const void *body;
	size_t body_len;
	void *buf; /* where a range goes */
	size_t buf_len;
	struct vf_buf *grow; /* or everything else */
	size_t grow_max;
	bool once;
	unsigned connect_ms;
	/* after vf_s3_send */
	struct vf_http_answer answer; /* text is copied to @text */
	char text[VF_HTTP_TEXT_MAX + 1];
	/* private */
	char payload_hash[VF_SIGV4_HEX + 1];
	void (*done)(struct s3_request *r, const struct vf_http_answer *a);
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool ended;
};

/* prefix + @key: caller's to free(); NULL without memory. */
char *vf_s3_key(const struct s3_bucket *s, const char *key);

/*
 * Start; @done gets the request in the HTTP thread.  The request's memory is
 * the caller's until then.
 */
void vf_s3_start(struct s3_request *r,
		 void (*done)(struct s3_request *r,
			      const struct vf_http_answer *a));

/* Send and wait; the answer is in the request.  Returns answer.err. */
int vf_s3_send(struct s3_request *r);

/*
 * The meaning of an answer that is no success, not logged: -ENOENT 404;
 * -EACCES 401, 403; -ESTALE 412; -ENOSPC 507; -EREMOTEIO; -ECANCELED.
 */
int vf_s3_meaning(const struct vf_http_answer *a);

/* Log what went wrong, with the server's words, and return @err. */
int vf_s3_fail(const struct s3_request *r, const struct vf_http_answer *a,
	       enum vf_level level, int err);

/* s3_upload.c: the streaming members of vf_bucket_ops. */
int vf_s3_upload_open(struct vf_bucket *b, const char *key,
		      struct vf_upload **out);
int vf_s3_upload_write(struct vf_upload *u, const void *data, size_t len);
int vf_s3_upload_commit(struct vf_upload *u, struct vf_object *out);
void vf_s3_upload_abort(struct vf_upload *u);

/* One plain PUT of a full key. */
int vf_s3_put(struct s3_bucket *s, const char *full_key, const void *data,
	      size_t len, unsigned flags, struct vf_object *out);

#endif
