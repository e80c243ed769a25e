/*
 * Stored objects of a view, opened for random reading; private to the folder.
 * Threads: any may read one that is open.
 */
#ifndef VF_QUERY_STORED_FILE_H
#define VF_QUERY_STORED_FILE_H

#include <stdatomic.h>

#include "query/query.h"
#include "store/frames.h"
#include "store/state.h"

struct vf_file {
	char *path;	    /* as opened */
	int fd;		    /* -1: closed */
	uint64_t len;	    /* of the bytes shown: decompressed */
	const uint8_t *map; /* [len], or NULL: zstd, read frame by frame */
	struct vf_frames frames;
	atomic_uint n_uses;   /* of spans all in the page cache */
	atomic_bool no_ioctl; /* a plain file: it was asked once */
	bool is_own;	      /* to others mincore says that all is resident */
};

/*
 * Open @key below @dir.  @ref tells of the stored object; a plain file of its
 * name without ".zst" (a mount, a copy of one) is preferred.
 * Returns 0; -ENOENT; -EBADMSG a wrong size; -errno; logged.
 */
int vf_file_open(const char *dir, const char *key,
		 const struct vf_object_ref *ref, struct vf_file *out);
int vf_file_open_in_shard(const char *dir, const char *index, const char *shard,
			  const struct vf_object_ref *ref, struct vf_file *out);
void vf_file_close(struct vf_file *f);

/* Start reading [off, off + len) of a mapping; does not wait for the bucket. */
void vf_file_hint(const struct vf_file *f, uint64_t off, uint64_t len);

/*
 * The same for many spans, which ascend: a mount is told of all in one call, so
 * that every request is under way before the first page is asked for.
 */
struct vf_span {
	uint64_t off, end;
	uint32_t where; /* enum vf_where, once it was asked */
};
void vf_file_hint_all(const struct vf_file *f, const struct vf_span *s,
		      size_t n, struct vf_cost *cost);
/*
 * The mount alone is told, no page is asked for.  Spans ascend: neighbours that
 * only the bucket has become one request.
 */
void vf_file_fetch_all(const struct vf_file *f, const struct vf_span *s,
		       size_t n, struct vf_cost *cost);

/* Requests that fetching them would take; @s is spent. */
size_t vf_file_count_away(const struct vf_file *f, struct vf_span *s, size_t n);

/*
 * Where each span is.  A file of no mount costs nothing: it is all at hand.
 * @count  each is going to be used
 */
void vf_file_locate(const struct vf_file *f, struct vf_span *s, size_t n,
		    bool count);

/*
 * Copy [off, off + len), which lies inside the file.
 * Returns 0; -EBADMSG; -ESTALE; -EREMOTEIO; -ENOMEM; logged.
 */
int vf_file_read(const struct vf_file *f, uint64_t off, size_t len, void *out);
/* The same not through the mapping: for many bytes in a row. */
int vf_file_load(const struct vf_file *f, uint64_t off, size_t len, void *out);
/* The same into several places; @iov is spent. */
int vf_file_loadv(const struct vf_file *f, uint64_t off, struct iovec *iov,
		  int n);
/* The first @len bytes, asked for at once; the caller's to free(). */
int vf_file_load_first(const struct vf_file *f, uint64_t len, void **out);

#endif
