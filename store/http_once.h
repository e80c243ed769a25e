/*
 * One small HTTP request, waited for: asking a service for credentials.  The
 * requests of buckets go through http.h.
 */
#ifndef VF_STORE_HTTP_ONCE_H
#define VF_STORE_HTTP_ONCE_H

#include "store/util.h"

#include <stdatomic.h>

enum { VF_HTTP_ONCE_BODY_MAX = 64 << 10, VF_HTTP_ONCE_WHY_MAX = 256 };

struct vf_http_once {
	const char *method, *url;
	const char *const *headers; /* "name: value" each */
	size_t n_headers;
	const char *body;    /* NULL: none */
	unsigned attempt_ms; /* one attempt; so long at most to connect */
	unsigned n_attempts; /* at most, when nobody or 429 or 5xx answers */
	bool direct;	     /* through no proxy: the service is local */
	const char *ca_file; /* NULL: the system's */
	const atomic_bool *stop; /* when it becomes true, give up; or NULL */
};

struct vf_http_once_answer {
	int status;
	size_t len;
	char body[VF_HTTP_ONCE_BODY_MAX + 1]; /* of any status; NUL at the end;
						 secret until wiped */
	char why[VF_HTTP_ONCE_WHY_MAX];	      /* no answer came: because */
};

/*
 * Redirects are not followed.  A body of more than VF_HTTP_ONCE_BODY_MAX bytes
 * is no answer.
 * Returns 0 an answer came, of whatever status; -EREMOTEIO none (not logged:
 * @out->why); -ECANCELED; -ENOMEM.  Threads: any.  Blocks.
 */
int vf_http_once(const struct vf_http_once *r, struct vf_http_once_answer *out);

/*
 * The host of @url as a request would understand it, and whether it is https.
 * Returns 0; -EINVAL no such URL, or one with a user name in it.
 */
int vf_http_once_host(const char *url, char *out_host, size_t cap,
		      bool *out_tls);

#endif
