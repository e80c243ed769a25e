/*
 * A bucket: named immutable objects, opened by URL.
 *
 *   file:///dir            a local directory keeping the same contract
 *   s3://bucket/prefix     any server that speaks S3
 *
 * The contract, the same for both:
 *   - an object appears whole or not at all;
 *   - creating "if absent" succeeds for exactly one of many writers;
 *   - a read names the version it wants (ETag) and gets that one or -ESTALE;
 *   - LIST is in byte order of keys and sees every finished write.
 *
 * Keys are relative to the URL, UTF-8, at most 1024 bytes, without a leading
 * slash.  All errors are already logged, naming the key, except -ENOENT of
 * get and head, -EEXIST and -ESTALE, which callers expect.
 */
#ifndef VF_STORE_BUCKET_H
#define VF_STORE_BUCKET_H

#include "store/vecfs.h"

enum { VF_ETAG_MAX = 80, VF_OBJECT_KEY_MAX = 1024 };

struct vf_bucket; /* owns its connections and threads */
struct vf_upload; /* one object on its way in */

/* Zero means default everywhere. */
struct vf_bucket_options {
	const char *endpoint; /* http(s)://host:port; else AWS_ENDPOINT_URL */
	const char *region;   /* else AWS_REGION, the profile, us-east-1 */
	const char *profile;  /* else AWS_PROFILE, "default" */
	const char *ca_file;  /* PEM; else AWS_CA_BUNDLE, the system's */
	unsigned max_connections; /* 64 */
	unsigned timeout_ms; /* for one operation with its retries: 60 000 */
	unsigned
		virtual_host; /* 1: bucket.host/key instead of host/bucket/key */
	unsigned create;      /* file://: make the directory when absent */
	/*
	 * 1: the server does not create objects only if absent; nobody else
	 * writes, so that looking first is as good.
	 */
	unsigned single_writer;
	void *reserved[4];
};

struct vf_object {
	uint64_t size;		/* bytes */
	int64_t mtime_ns;	/* since 1970; 0 when the server did not say */
	char etag[VF_ETAG_MAX]; /* opaque, without quotes, NUL-terminated */
};

/*
 * Returns 0; -EINVAL not a URL of ours; -ENOENT no such bucket; -EACCES;
 * -EREMOTEIO.  s3:// is asked once, so that wrong names and credentials show
 * here.  Threads: any.  May block.
 */
VF_API int vf_bucket_open(const char *url, const struct vf_bucket_options *opt,
			  struct vf_bucket **out);
/*
 * End what is under way, and whatever comes until close, with -ECANCELED, where
 * it would wait for the network.  Once; not together with close.  Accepts NULL.
 * Threads: others may be in any function but close.
 */
VF_API void vf_bucket_stop(struct vf_bucket *b);
/* Waits for what is under way; accepts NULL. */
VF_API void vf_bucket_close(struct vf_bucket *b);

/* The URL as opened, without a trailing slash; valid until close. */
VF_API const char *vf_bucket_url(const struct vf_bucket *b);
/* The directory of a file:// bucket, NULL for others; until close. */
VF_API const char *vf_bucket_dir(const struct vf_bucket *b);
/* What tells it from every other bucket: its URL, after that of its server if
 * there is one; until close. */
VF_API const char *vf_bucket_identity(const struct vf_bucket *b);

/*
 * Split what a user names, URL or path ("s3://b/p/products",
 * "/mnt/v/products"), into a bucket URL and an index name; both are the
 * caller's to free().  Paths become file:// URLs of the absolute path.
 * Returns 0; -EINVAL (logged) no index name in it or a bad one; -ENOMEM.
 */
VF_API int vf_target_split(const char *target, char **out_url,
			   char **out_index);

/* Returns 0; -ENOENT; -EACCES; -EREMOTEIO.  Threads: any.  Blocks. */
VF_API int vf_bucket_head(struct vf_bucket *b, const char *key,
			  struct vf_object *out);

/* @len bytes arrived in the buffer (fewer only at the object's end). */
typedef void vf_get_fn(void *arg, int err, size_t len,
		       const struct vf_object *object);

struct vf_get {
	const char *key;  /* copied */
	const char *etag; /* copied; NULL or "" takes any version */
	uint64_t off;
	size_t len;
	void *buf; /* len bytes, caller's until done is called */
	vf_get_fn *done;
	void *arg;
};

/*
 * Start one range GET.  @done is called exactly once, from the bucket's
 * thread or before this returns: 0, -ENOENT, -ESTALE (another version is
 * there now), -EACCES, -EREMOTEIO, -ECANCELED.  It must not block nor call
 * a blocking function of the same bucket.
 * Threads: any.  Does not wait for the network.
 */
VF_API void vf_bucket_get_start(struct vf_bucket *b, const struct vf_get *get);

/* The same, waiting.  @out_object may be NULL. */
VF_API int vf_bucket_get(struct vf_bucket *b, const char *key, const char *etag,
			 uint64_t off, size_t len, void *buf, size_t *out_len,
			 struct vf_object *out_object);

/*
 * A whole object of at most @max bytes, caller's to free(); NUL is appended.
 * Returns as get; -EFBIG when larger than @max.
 */
VF_API int vf_bucket_get_all(struct vf_bucket *b, const char *key, size_t max,
			     void **out_data, size_t *out_len);

/*
 * The object as an open local file, read-only, the caller's to close; of the
 * version @etag (NULL or "": any).  It stays that version for as long as nobody
 * writes into the file itself.
 * Returns 0; -ENOTSUP (not logged) the bucket is no local directory; -ENOENT;
 * -ESTALE; -EACCES; -errno.  Threads: any.
 */
VF_API int vf_bucket_open_file(struct vf_bucket *b, const char *key,
			       const char *etag, int *out_fd);

enum { VF_PUT_IF_ABSENT = 1 };

/*
 * Write one object in one request.  Returns 0; -EEXIST (IF_ABSENT only);
 * -EACCES; -ENOSPC; -EREMOTEIO: what happened is then unknown.
 */
VF_API int vf_bucket_put(struct vf_bucket *b, const char *key, const void *data,
			 size_t len, unsigned flags, struct vf_object *out);

/*
 * Prove that the server creates objects only if they are absent: of some at
 * once one creates, and a second one is refused.  Nothing to do for a directory
 * or a single writer.  Returns 0; -ENOTSUP it does not (logged); as put.
 * Threads: any.  Blocks.
 */
VF_API int vf_bucket_prove(struct vf_bucket *b);

/*
 * Write an object as a stream, in order; it appears at commit, not before.
 * S3: one PUT up to 64 MiB, else parts, sent while more is written.
 * Commit and abort both free @u; abort leaves nothing behind.
 * Threads: one at a time per upload.  Blocks.
 */
VF_API int vf_upload_open(struct vf_bucket *b, const char *key,
			  struct vf_upload **out);
VF_API int vf_upload_write(struct vf_upload *u, const void *data, size_t len);
VF_API int vf_upload_commit(struct vf_upload *u, struct vf_object *out);
VF_API void vf_upload_abort(struct vf_upload *u); /* accepts NULL */

/* Absent is success.  Returns 0; -EACCES; -EREMOTEIO. */
VF_API int vf_bucket_delete(struct vf_bucket *b, const char *key);
/*
 * The same for @n of them, in few requests where the server can.  Returns the
 * first error; others may be gone.
 */
VF_API int vf_bucket_delete_many(struct vf_bucket *b, const char *const *keys,
				 size_t n);

struct vf_list_entry {
	const char *key; /* whole key; a folder ends in '/' */
	bool folder;	 /* a common prefix; @object is then zero */
	struct vf_object object;
};

/* Return 0 to go on, anything else to stop: list then returns that. */
typedef int vf_list_fn(void *arg, const struct vf_list_entry *e);

/*
 * Visit keys that begin with @prefix, in byte order, after @start_after (NULL:
 * from the first).  With @folders, keys are grouped at the next '/'.
 * Returns 0, what @fn returned, -EACCES, -EREMOTEIO.
 * Threads: any; @fn runs in the caller's thread.  Blocks.
 */
VF_API int vf_bucket_list(struct vf_bucket *b, const char *prefix, bool folders,
			  const char *start_after, vf_list_fn *fn, void *arg);

struct vf_bucket_stats {
	uint64_t n_get, n_put, n_head, n_list, n_delete; /* requests sent */
	uint64_t n_retry, n_error; /* sent again; failed for good */
	uint64_t bytes_in, bytes_out;
};
VF_API void vf_bucket_stats(struct vf_bucket *b, struct vf_bucket_stats *out);

#endif
