/*
 * AWS Signature Version 4 for S3: pure functions, no clock, no I/O.  The
 * client signs with it and the simulator of the tests checks with it.
 *
 * Source: AWS, "Authenticating Requests: Using the Authorization Header".
 */
#ifndef VF_STORE_SIGV4_H
#define VF_STORE_SIGV4_H

#include "store/util.h"

enum { VF_SIGV4_HEX = 64 }; /* digits of a SHA-256 */

/* The SHA-256 of nothing, in hex: the payload of GET, HEAD and DELETE. */
extern const char vf_sigv4_empty[VF_SIGV4_HEX + 1];

struct vf_sigv4_pair {
	const char *name, *value;
};

struct vf_sigv4_request {
	const char *method; /* "GET" */
	const char *path;   /* absolute, NOT percent-encoded: "/bucket/a b" */
	/* query parameters, NOT percent-encoded, any order */
	const struct vf_sigv4_pair *query;
	size_t n_query;
	/* headers to sign, lower-case names, any order; must hold "host" */
	const struct vf_sigv4_pair *headers;
	size_t n_headers;
	const char *payload_hash; /* hex SHA-256, or "UNSIGNED-PAYLOAD" */
};

struct vf_sigv4_scope {
	const char *access_key, *secret_key;
	const char *region, *service; /* "us-east-1", "s3" */
	const char *time;	      /* "20130524T000000Z", as x-amz-date */
};

/* SHA-256 of @len bytes in hex.  Threads: any. */
void vf_sigv4_hash(const void *p, size_t len, char out[VF_SIGV4_HEX + 1]);

/*
 * Append @s percent-encoded: unreserved characters (RFC 3986) stay, '/' stays
 * when @keep_slash.  Returns 0; -ENOMEM.
 */
int vf_sigv4_encode(struct vf_buf *out, const char *s, bool keep_slash);

/* The canonical query string: encoded, sorted, joined. */
int vf_sigv4_query(const struct vf_sigv4_request *r, struct vf_buf *out);

/* The canonical request, for tests and messages. */
int vf_sigv4_canonical(const struct vf_sigv4_request *r, struct vf_buf *out);

/* The signature alone, hex.  Returns 0; -ENOMEM. */
int vf_sigv4_signature(const struct vf_sigv4_request *r,
		       const struct vf_sigv4_scope *scope,
		       char out[VF_SIGV4_HEX + 1]);

/* The value of the Authorization header, appended to @out. */
int vf_sigv4_authorization(const struct vf_sigv4_request *r,
			   const struct vf_sigv4_scope *scope,
			   struct vf_buf *out);

#endif
