/*
 * HTTP requests, many in flight, from one thread: keep-alive connections,
 * deadlines, and retries with exponential back-off and jitter.
 *
 * A call goes through attempts until an answer comes that says more than "not
 * now", or its deadline has passed.  It is prepared anew for each attempt,
 * because a signature holds the time.
 */
#ifndef VF_STORE_HTTP_H
#define VF_STORE_HTTP_H

#include "store/util.h"

struct vf_http;

enum { VF_HTTP_ETAG_MAX = 80, VF_HTTP_TEXT_MAX = 16 << 10 };

struct vf_http_answer {
	int err;	 /* 0: an answer came, whatever its status; -EREMOTEIO:
		       none; -ECANCELED */
	int status;	 /* 200, 404, ... */
	size_t body_len; /* bytes in the call's buffer */
	bool has_length; /* Content-Length came */
	uint64_t content_length;
	bool has_range; /* Content-Range came: first-last/total, or
				   "*" for first-last: then last < first */
	uint64_t first, last, total;
	char etag[VF_HTTP_ETAG_MAX]; /* without quotes; "" when none */
	int64_t mtime_s;	     /* Last-Modified since 1970; 0: none */
	char region[32];	     /* x-amz-bucket-region, or "" */
	unsigned retry_after_s;	     /* Retry-After in seconds; 0: none */
	char *text; /* body of a status >= 300, or why no answer came; NUL at
		       the end; valid until done returns */
	size_t text_len;
	unsigned n_attempts;
};

/* Take one header line, "Name: value" with or without its end.  Pure. */
void vf_http_header(struct vf_http_answer *a, const char *p, size_t len);

/*
 * One call: the caller's memory, untouched by him until done was called.
 * Bodies with a status below 300 go to @buf (exactly @buf_len bytes or fewer;
 * more is an error), or, without one, are appended to @grow up to @grow_max.
 */
struct vf_http_call {
	const char *method;
	const void *body; /* borrowed until done */
	size_t body_len;
	void *buf;
	size_t buf_len;
	struct vf_buf *grow;
	size_t grow_max;
	bool once;	     /* never sent twice: its effect could be doubled */
	unsigned connect_ms; /* give up sooner when nobody listens; 0: no */
	/*
	 * Append the URL, and header lines each ended by '\n'.  Called in the
	 * thread, before each attempt.  Returns 0 or -errno, which ends it.
	 */
	int (*prepare)(void *arg, struct vf_buf *url, struct vf_buf *headers);
	/* Exactly once; must not wait for another call.  In the thread, or
	 * in vf_http_start: without memory, or once stopped. */
	void (*done)(void *arg, const struct vf_http_answer *a);
	void *arg;
};

struct vf_http_options {
	unsigned max_connections; /* 0: 64 */
	unsigned timeout_ms;	  /* 0: 60 000; bodies sent get a second more
				     per 256 KiB */
	unsigned stall_s;	  /* no byte for so long: tried again; 0: 15 */
	const char *ca_file;	  /* copied; NULL: the system's */
};

/* Starts the thread.  Returns 0; -ENOMEM; -EREMOTEIO no libcurl (logged). */
int vf_http_open(const struct vf_http_options *opt, struct vf_http **out);
/* Ends what is under way, and what comes after it, with -ECANCELED.  Accepts
 * NULL.  Threads: one; others may be in vf_http_start. */
void vf_http_stop(struct vf_http *h);
/* Stops it before.  Accepts NULL. */
void vf_http_close(struct vf_http *h);

/* Threads: any.  Does not wait. */
void vf_http_start(struct vf_http *h, const struct vf_http_call *call);

struct vf_http_stats {
	uint64_t n_retry;
};
void vf_http_stats(struct vf_http *h, struct vf_http_stats *out);

#endif
