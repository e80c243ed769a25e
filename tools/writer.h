/*
 * Writes one shard: its three objects as streams, rows in order.
 */
#ifndef VF_TOOLS_WRITER_H
#define VF_TOOLS_WRITER_H

#include "store/commit.h"
#include "tools/source.h"

struct vf_writer_options {
	struct vf_bucket *bucket;	  /* borrowed */
	const char *index;		  /* borrowed */
	const struct vf_encoder *encoder; /* borrowed */
	enum vf_dtype dtype;
	uint32_t dim;
	bool compress; /* vectors too */
};

struct vf_writer;

/*
 * @ref  its name and n_rows are set; finish fills in the rest.  Borrowed
 *       until the writer is freed.
 * Returns 0; -errno, logged.
 */
int vf_writer_open(const struct vf_writer_options *opt,
		   struct vf_shard_ref *ref, struct vf_writer **out);
/* Append the rows of @c.  Threads: one at a time. */
int vf_writer_add(struct vf_writer *w, const struct vf_chunk *c);
/* All rows are in: the objects appear.  Threads: one at a time. */
int vf_writer_finish(struct vf_writer *w);
/* Aborts what is not finished; accepts NULL. */
void vf_writer_free(struct vf_writer *w);

/* Delete what a writer of this shard may have left. */
void vf_writer_remove(struct vf_bucket *b, const char *index,
		      const struct vf_shard_ref *ref);

/*
 * Write @len bytes as the object @key (an upload) and describe it in @ref,
 * whose name is set.  Returns 0; -errno, logged.
 */
int vf_object_write(struct vf_bucket *b, const char *key, const void *data,
		    size_t len, struct vf_object_ref *ref);

#endif
