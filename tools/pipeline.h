/*
 * Threads that turn the rows of a source into coded chunks, and one consumer
 * that gets them in order: the result does not depend on how many threads.
 */
#ifndef VF_TOOLS_PIPELINE_H
#define VF_TOOLS_PIPELINE_H

#include "index/cluster.h"
#include "tools/source.h"

/* Chunks come in row order and never span two shards; 0 to go on. */
typedef int vf_consume_fn(void *arg, const struct vf_chunk *c);

struct vf_pipeline_options {
	struct vf_source *source;	  /* borrowed, rewound */
	const struct vf_encoder *encoder; /* borrowed */
	const struct vf_cluster *cluster; /* borrowed: finds leaves; or NULL */
	enum vf_metric metric;
	enum vf_dtype dtype; /* to be stored */
	uint64_t shard_rows;
	uint64_t first_key;
	struct vf_buf *keys; /* gets them as struct vf_delete; or NULL */
	unsigned n_threads;
	vf_consume_fn *consume; /* runs in the calling thread */
	void *arg;
};

/*
 * Run all rows through.  Returns 0; what consume returned; -EINVAL a bad row,
 * logged; -ECANCELED after a signal; -errno.
 */
int vf_pipeline_run(const struct vf_pipeline_options *opt);

#endif
