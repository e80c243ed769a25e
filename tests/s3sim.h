/*
 * The parts of s3sim, an S3 server for tests (what it does: see s3sim.c).
 *
 *   s3sim.c            options, help, start
 *   s3sim_net.c        epoll loop, connections, latency, resets
 *   s3sim_http.c       request heads in, response heads out
 *   s3sim_auth.c       signatures and body hashes
 *   s3sim_ops.c        which operation a request is, faults; one object
 *   s3sim_list.c       ListObjectsV2      s3sim_delete.c  DeleteObjects
 *   s3sim_multipart.c  uploads in parts
 *   s3sim_store.c      objects in memory or in files
 *   s3sim_control.c    /_sim/stats, /_sim/set, /_sim/reset
 *
 * One thread does everything, so every operation is atomic.
 */
#ifndef VF_TESTS_S3SIM_H
#define VF_TESTS_S3SIM_H

#include "store/sigv4.h"
#include "store/util.h"

enum {
	SIM_PAIRS_MAX = 32,	    /* of a query, of SignedHeaders */
	SIM_HEADERS_MAX = 64,	    /* of a request */
	SIM_HEAD_MAX = 32 << 10,    /* bytes of a request's head */
	SIM_BODY_MAX = 1 << 30,	    /* bytes of a request's body */
	SIM_KEY_MAX = 1024,	    /* bytes of an object's name */
	SIM_MAX_KEYS = 1000,	    /* entries of a LIST page */
	SIM_PART_MIN = 5 << 20,	    /* bytes of a part that is not the last */
	SIM_PARTS_MAX = 10000,	    /* of one upload */
	SIM_ETAG_MAX = 48,	    /* with NUL, without quotes */
	SIM_UPLOADS_MAX = 1000,	    /* under way at once */
	SIM_CONNECTIONS_MAX = 4000, /* more are closed at once */
};

/* ---- objects ---------------------------------------------------------------- */

/* Bytes shared by an object and the responses that still send them. */
struct sim_blob {
	const uint8_t *data; /* malloc()ed, or inside @map */
	size_t len;
	unsigned refs;
	void *map; /* of a file of --data, else NULL */
	size_t map_len;
};

struct sim_object {
	char *key;
	struct sim_blob *blob;
	char etag[SIM_ETAG_MAX];
	int64_t mtime; /* seconds since 1970 */
};

struct sim_store {
	struct sim_object **all; /* by key, in byte order */
	size_t n, cap;
	char *dir; /* NULL: in memory */
};

/* Takes the bytes of @b, leaving it empty.  NULL: no memory. */
struct sim_blob *sim_blob_new(struct vf_buf *b);
struct sim_blob *sim_blob_get(struct sim_blob *b);
void sim_blob_put(struct sim_blob *b); /* accepts NULL */

/* @dir is made when absent, else its objects are read; NULL: in memory. */
int sim_store_open(struct sim_store *s, const char *dir);
void sim_store_close(struct sim_store *s);
/* Place of the first key that is not below @key. */
size_t sim_store_lower(const struct sim_store *s, const char *key);
/* NULL: absent.  Valid until the next put or delete. */
struct sim_object *sim_store_find(const struct sim_store *s, const char *key);
/* Borrows @blob.  Returns 0; -ENOMEM; -errno of a file. */
int sim_store_put(struct sim_store *s, const char *key, struct sim_blob *blob,
		  const char *etag);
void sim_store_delete(struct sim_store *s, const char *key);

/* ---- requests and responses ------------------------------------------------- */

struct sim_request {
	char *text;	    /* what all strings point into; owned */
	const char *method; /* "GET" */
	char *path;	    /* decoded: "/bucket/a b" */
	char *bucket;	    /* decoded; "" */
	const char *key;    /* decoded; "" */
	struct vf_sigv4_pair query[SIM_PAIRS_MAX];     /* decoded */
	struct vf_sigv4_pair headers[SIM_HEADERS_MAX]; /* lower-case names */
	size_t n_query, n_headers;
	size_t length; /* Content-Length */
	bool has_length, close, expects;
	struct vf_buf body; /* operations may take the bytes */
};

struct sim_response {
	int status;
	struct vf_buf head; /* header lines beyond the usual ones */
	struct vf_buf text; /* the body, unless there is a blob */
	struct sim_blob *blob;
	size_t off, len; /* of the blob */
	bool head_only;	 /* the body is described, not sent */
	bool reset;	 /* the connection is reset instead */
	bool cut;	 /* the body stops at @cut_len, then the end: */
	bool cut_reset;	 /* a reset, else a FIN */
	size_t cut_len;
	bool held;   /* latency applies */
	bool silent; /* never sent */
};

/*
 * Parse the head (through its empty line; taken over, freed by fini even on
 * error).  Returns 0; -EINVAL not HTTP/1.x; -E2BIG; -EOPNOTSUPP chunked body.
 */
int sim_request_parse(struct sim_request *r, char *text);
void sim_request_fini(struct sim_request *r);
/* NULL: not given. */
const char *sim_request_header(const struct sim_request *r, const char *name);
const char *sim_request_query(const struct sim_request *r, const char *name);

void sim_response_fini(struct sim_response *res);
size_t sim_response_length(const struct sim_response *res);
const uint8_t *sim_response_body(const struct sim_response *res);
/* Status line and all headers. */
int sim_response_head(const struct sim_response *res, uint64_t id, bool close,
		      struct vf_buf *out);

/* S3's error document.  Returns -EPERM, so that a check can return it. */
int sim_refuse(struct sim_response *res, int status, const char *code,
	       const char *message);
/* Append as XML text. */
int sim_xml_append(struct vf_buf *out, const char *s);
void sim_xml_begin(struct sim_response *res);
/* "Wed, 12 Oct 2009 17:50:00 GMT" */
void sim_time_http(int64_t t, char out[40]);
void sim_time_iso(int64_t t, char out[40]);
/* An ETag of the bytes: 32 hex digits. */
void sim_etag(const void *p, size_t len, char out[SIM_ETAG_MAX]);

/* ---- the server ----------------------------------------------------------------- */

/* Which lie an object's GET tells. */
enum sim_wrong {
	SIM_WRONG_NONE,
	SIM_WRONG_ETAG,	  /* another ETag */
	SIM_WRONG_RANGE,  /* another Content-Range */
	SIM_WRONG_SHORT,  /* fewer bytes than Content-Length, then FIN */
	SIM_WRONG_LONG,	  /* 200 and the whole object for a range */
	SIM_WRONG_LENGTH, /* one byte less than asked for, headers agreeing */
};

/* What becomes of a PUT with If-None-Match. */
enum sim_conditional {
	SIM_CONDITIONAL_ON,
	SIM_CONDITIONAL_IGNORED, /* created, whatever is there */
	SIM_CONDITIONAL_REFUSED, /* 501 */
};

/* What becomes of a POST that deletes many objects. */
enum sim_multi_delete {
	SIM_MULTI_DELETE_ON,
	SIM_MULTI_DELETE_REFUSED, /* 501 */
	SIM_MULTI_DELETE_PARTIAL, /* every other object stays */
};

struct sim_stats {
	uint64_t get, put, head, list, delete, post;
	uint64_t bytes_in, bytes_out;	 /* of bodies */
	uint64_t errors, resets, silent; /* injected */
	uint64_t max_in_flight, waves;
};

struct sim_upload;

struct sim {
	const char *access_key, *secret_key, *region, *bucket;
	/* settable while it runs */
	unsigned latency_ms, max_keys;
	double error_rate, reset_rate;
	enum sim_wrong wrong;
	uint64_t n_wrong; /* how many more lies */
	enum sim_conditional conditional;
	enum sim_multi_delete multi_delete;
	uint64_t n_left; /* requests until all is silent */
	/* */
	struct sim_stats stats;
	uint64_t in_flight; /* object GETs */
	uint64_t n_connections;
	uint64_t rand;	    /* state of splitmix64 */
	uint64_t n_request; /* for request ids */
	struct sim_store store;
	struct sim_upload *uploads;
	unsigned n_uploads;
};

uint64_t sim_rand(struct sim *s);

/* Serve until SIGTERM or SIGINT; @fd listens, non-blocking. */
int sim_serve(struct sim *s, int fd);

/* Fill @res for a complete request.  Never fails: says so in @res. */
void sim_answer(struct sim *s, struct sim_request *r, struct sim_response *res);
bool sim_is_object_get(const struct sim_request *r);

/* Returns 0; -EPERM, refused in @res. */
int sim_auth_check(struct sim *s, const struct sim_request *r,
		   struct sim_response *res);

void sim_delete_many(struct sim *s, const struct sim_request *r,
		     struct sim_response *res);
void sim_list(struct sim *s, const struct sim_request *r,
	      struct sim_response *res);
void sim_control(struct sim *s, const struct sim_request *r,
		 struct sim_response *res);

/* Conditions of a write: If-None-Match: *, If-Match.  0; -EPERM, refused. */
int sim_check_write(struct sim *s, const struct sim_request *r,
		    struct sim_response *res);

void sim_upload_create(struct sim *s, const struct sim_request *r,
		       struct sim_response *res);
void sim_upload_part(struct sim *s, struct sim_request *r,
		     struct sim_response *res);
void sim_upload_complete(struct sim *s, struct sim_request *r,
			 struct sim_response *res);
void sim_upload_abort(struct sim *s, const struct sim_request *r,
		      struct sim_response *res);
void sim_uploads_free(struct sim *s);

#endif
