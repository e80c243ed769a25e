/*
 * Options that create, put and import share: of a new index, and of the shards
 * that rows become.
 */
#ifndef VF_TOOLS_PUT_OPTIONS_H
#define VF_TOOLS_PUT_OPTIONS_H

#include "tools/ingest.h"
#include "tools/target.h"

/* What was given; a process runs one verb. */
struct vf_put_options {
	/* of a new index */
	const char *metric, *dtype;
	uint64_t seed; /* UINT64_MAX: random */
	struct vf_arg_list non_filterable;
	/* of shards */
	uint64_t bits, shard_rows, leaves, ram;
	bool compress;
	const char *scratch, *cache_dir;
};
extern struct vf_put_options vf_put_options;

/* Tables, to be named in a verb's own as VF_ARG_TABLE. */
extern const struct vf_arg vf_index_args[], vf_shard_args[];

/* Returns 0; VF_ERR_USAGE, logged: @verb is given a metric or type that is none. */
int vf_put_wish(const char *verb, struct vf_wish *out);

/* All of it but a source and conditions; @t and @w are borrowed. */
struct vf_ingest vf_put_ingest(const struct vf_args *a,
			       const struct vf_target *t,
			       const struct vf_wish *w);

#endif
