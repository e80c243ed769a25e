/*
 * An s3:// bucket on a server that answers what a test says.
 */
#ifndef VF_TESTS_FAKE_S3_H
#define VF_TESTS_FAKE_S3_H

#include "store/bucket.h"
#include "tests/httpd.h"

struct vf_fake_s3 {
	struct vf_httpd *d;
	struct vf_bucket *b;
	vf_httpd_fn *fn; /* NULL: an empty list for everything */
	void *arg;
	bool is_open; /* what came before is answered with an empty list */
	char targets[64][160]; /* of the requests after open; "GET /x" */
	unsigned n;
	char head[2048]; /* of the last request */
	int n_logged;
	char logged[1024]; /* last line */
};

/* One answer for everything. */
struct vf_canned {
	int status; /* 0: nothing is sent */
	const char *lines, *body;
	enum vf_httpd_after after;
	unsigned n_before; /* so many get 503 first */
};
#define VF_CANNED(s, l, b)                                                     \
	{                                                                      \
		.status = (s), .lines = (l), .body = (b)                       \
	}

/* A vf_httpd_fn; @arg is struct vf_canned. */
enum vf_httpd_after vf_canned_give(void *arg, const struct vf_httpd_request *r,
				   struct vf_buf *reply);

/* The server runs, and the environment and the log point to it. */
void vf_fake_s3_start(struct vf_fake_s3 *s, vf_httpd_fn *fn, void *arg);
/* Also s3://test/p/q is open. */
void vf_fake_s3_open(struct vf_fake_s3 *s, vf_httpd_fn *fn, void *arg);
void vf_fake_s3_close(struct vf_fake_s3 *s);
/* Whether the last request's head holds @text. */
bool vf_fake_s3_sent(const struct vf_fake_s3 *s, const char *text);

#endif
