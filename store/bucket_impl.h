/*
 * What a kind of bucket provides.  bucket.c dispatches; nothing else may
 * include this.  Contract of each member: the function of the same name in
 * bucket.h.  The implementation embeds struct vf_bucket first.
 */
#ifndef VF_STORE_BUCKET_IMPL_H
#define VF_STORE_BUCKET_IMPL_H

#include "store/bucket.h"

struct vf_bucket_ops {
	void (*stop)(struct vf_bucket *b); /* NULL: nothing takes long */
	void (*close)(struct vf_bucket *b);
	int (*head)(struct vf_bucket *b, const char *key,
		    struct vf_object *out);
	void (*get_start)(struct vf_bucket *b, const struct vf_get *get);
	int (*open_file)(struct vf_bucket *b, const char *key, const char *etag,
			 int *out_fd); /* NULL: -ENOTSUP */
	int (*put)(struct vf_bucket *b, const char *key, const void *data,
		   size_t len, unsigned flags, struct vf_object *out);
	int (*upload_open)(struct vf_bucket *b, const char *key,
			   struct vf_upload **out);
	int (*upload_write)(struct vf_upload *u, const void *data, size_t len);
	int (*upload_commit)(struct vf_upload *u, struct vf_object *out);
	void (*upload_abort)(struct vf_upload *u);
	int (*delete)(struct vf_bucket *b, const char *key);
	int (*delete_many)(struct vf_bucket *b, const char *const *keys,
			   size_t n); /* NULL: one by one */
	int (*list)(struct vf_bucket *b, const char *prefix, bool folders,
		    const char *start_after, vf_list_fn *fn, void *arg);
	void (*stats)(struct vf_bucket *b, struct vf_bucket_stats *out);
};

struct vf_bucket {
	const struct vf_bucket_ops *ops; /* [fixed] */
	char *url;			 /* [fixed] owned, freed by bucket.c */
	char *dir;	    /* [fixed] file:// only, owned likewise */
	const char *server; /* [fixed] s3:// only, the implementation's */
	char *identity;	    /* [fixed] owned, by bucket.c */
	bool single_writer; /* [fixed] by bucket.c */
};

struct vf_upload {
	struct vf_bucket *bucket; /* [fixed] borrowed */
};

/* Each parses its own URL; @url has no trailing slash. */
int vf_bucket_file_open(const char *url, const struct vf_bucket_options *opt,
			struct vf_bucket **out);
int vf_bucket_s3_open(const char *url, const struct vf_bucket_options *opt,
		      struct vf_bucket **out);

#endif
