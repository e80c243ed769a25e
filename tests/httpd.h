/*
 * An HTTP server inside the test program, whose answers the test makes up:
 * also wrong, late, cut short, or none.  One thread per connection, on a
 * loopback port of its own.
 */
#ifndef VF_TESTS_HTTPD_H
#define VF_TESTS_HTTPD_H

#include "tests/test.h"

struct vf_httpd;

struct vf_httpd_request {
	unsigned n;	     /* how many came before, on all connections */
	unsigned connection; /* how many were opened before this one */
	const char *method, *target; /* "GET", "/bucket/key?x=y" */
	const char *head;	     /* the header lines, as they came */
	const uint8_t *body;
	size_t body_len;
};

enum vf_httpd_after {
	VF_HTTPD_KEEP,	/* wait for the next request */
	VF_HTTPD_CLOSE, /* without having said so */
	VF_HTTPD_RESET, /* at once, instead of the answer */
	VF_HTTPD_HANG,	/* send what there is, and then nothing for ever */
};

/*
 * Append the whole answer to @reply.  Called in a connection's thread, one at
 * a time for the whole server.
 */
typedef enum vf_httpd_after
vf_httpd_fn(void *arg, const struct vf_httpd_request *r, struct vf_buf *reply);

/* Aborts when it cannot: tests need it. */
struct vf_httpd *vf_httpd_open(vf_httpd_fn *fn, void *arg);
void vf_httpd_close(struct vf_httpd *d);
/* "http://127.0.0.1:port"; until close. */
const char *vf_httpd_url(const struct vf_httpd *d);
unsigned vf_httpd_connections(struct vf_httpd *d);

/* What @fn has written until now is visible to the caller after this. */
void vf_httpd_settle(struct vf_httpd *d);

/* Append "HTTP/1.1 STATUS x", @lines (each ended by \r\n), length and body. */
void vf_httpd_reply(struct vf_buf *reply, int status, const char *lines,
		    const void *body, size_t len);
/* The value of a header of @r copied to @out; false when there is none. */
bool vf_httpd_header(const struct vf_httpd_request *r, const char *name,
		     char *out, size_t cap);

#endif
