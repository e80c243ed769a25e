/*
 * A shard whose codes are read leaf by leaf, as queries want them, and stay.
 *
 * Opening reads the beginning of codes.vix: its table, the leaves and their
 * checksums.  Before a scan the leaves of all queries are hinted together, so
 * that the bucket sees one round; then they are read, checked and kept.  Extra
 * bits are read where they are at hand: elsewhere they would cost a round and
 * save none.
 *
 * Functions below do nothing for an index that was opened whole.
 */
#ifndef VF_INDEX_LAZY_H
#define VF_INDEX_LAZY_H

#include "index/index.h"

#include <sys/uio.h>

/* A piece of codes.vix. */
struct vf_extent {
	uint64_t off, len;
};

/* Where the bytes of codes.vix come from.  Threads: any. */
struct vf_codes_source {
	/* Copy [off, off + len); 0 or a negative errno, logged. */
	int (*read)(void *arg, uint64_t off, size_t len, void *out);
	/* The same of as many bytes as @iov holds, which it may change. */
	int (*readv)(void *arg, uint64_t off, struct iovec *iov, int n);
	/*
	 * The same of few bytes, often: from a mapping, where there is one;
	 * NULL: read does.
	 */
	int (*peek)(void *arg, uint64_t off, size_t len, void *out);
	/* Start to fetch all of these; NULL: there is nothing to be gained. */
	void (*hint)(void *arg, const struct vf_extent *e, size_t n,
		     void *cost);
	/* Whether each can be read without a request; NULL: all can. */
	void (*locate)(void *arg, const struct vf_extent *e, size_t n,
		       bool *out_near);
	void *arg; /* borrowed until close */
};

/* Bytes from the beginning that a reader should ask for at once. */
enum { VF_CODES_HEAD_LEN = 256 << 10 };

/*
 * @len  of the file
 * Returns 0; -ENOENT it has no checksums of leaves: open it whole; -EBADMSG;
 * -ENOTSUP; -ENOMEM; what read returns.  @out_reason constant, NULL when read
 * has said it.
 */
VF_API int vf_index_open_lazy(const struct vf_codes_source *src, uint64_t len,
			      struct vf_index **out, const char **out_reason);

/*
 * Hint, and read, what @jobs will look into (of shards that follow a tree: with
 * it attached).  Hint every shard before the first is read.
 * @cost  handed to the source's hint
 * Returns 0; -EBADMSG damaged, logged by nobody: @out_reason; -ENOMEM; what
 * read returns, @out_reason NULL.  Threads: any.
 */
VF_API int vf_index_hint_leaves(const struct vf_index *ix,
				const struct vf_scan_job *jobs, size_t n,
				void *cost);
VF_API int vf_index_load_leaves(const struct vf_index *ix,
				const struct vf_scan_job *jobs, size_t n,
				const char **out_reason);
/*
 * Extra bits of the leaves of these rows.
 * @near  only where they are at hand
 */
VF_API int vf_index_load_extra(const struct vf_index *ix,
			       const struct vf_refined *rows, size_t n,
			       bool near, const char **out_reason);
/* Key hashes; what is known of one row, before it is asked for alone. */
VF_API int vf_index_load_hashes(const struct vf_index *ix,
				const char **out_reason);
VF_API int vf_index_load_row(const struct vf_index *ix, uint64_t row,
			     const char **out_reason);
/* Codes and extra bits of the leaves that rows [row, row + n) are in. */
VF_API int vf_index_load_rows(const struct vf_index *ix, uint64_t row,
			      uint64_t n, const char **out_reason);
/*
 * All codes will be read: they may be in large pages, from which scanning all
 * of them was measured to be a tenth faster.
 */
VF_API void vf_index_expect_all(const struct vf_index *ix);
/* Everything, key hashes and extra bits too. */
VF_API int vf_index_load_all(const struct vf_index *ix,
			     const char **out_reason);

#endif
