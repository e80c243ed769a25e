/*
 * The metadata filter language of Amazon S3 Vectors: parse it, and evaluate it
 * on the metadata of one vector.  Pure.  vecfs-filters(7) is its reference.
 */
#ifndef VF_STORE_FILTER_H
#define VF_STORE_FILTER_H

#include "store/log.h"
#include "store/metadata.h"

enum {
	VF_FILTER_LEN_MAX = 64 << 10, /* bytes of a filter */
	VF_FILTER_DEPTH_MAX = 16,     /* $and and $or inside each other */
	VF_FILTER_VALUES_MAX = 1024,  /* to compare with, in all */
	VF_FILTER_NODES_MAX = 1024,   /* conditions, in all */
	VF_FILTER_WHY_LEN = 200,
};

enum vf_filter_kind {
	VF_FILTER_AND, /* of no children: true */
	VF_FILTER_OR,
	/* Of a key, from here on. */
	VF_FILTER_IN, /* one of its values is among these */
	VF_FILTER_NOT_IN,
	VF_FILTER_GT,
	VF_FILTER_GTE,
	VF_FILTER_LT,
	VF_FILTER_LTE,
	VF_FILTER_STARTS,
	VF_FILTER_EXISTS,
	VF_FILTER_NOT_EXISTS,
};

/* Nodes are in an array; 0 is the root, which is nobody's child or sibling. */
struct vf_filter_node {
	enum vf_filter_kind kind;
	uint32_t child, next; /* the first, the next sibling; 0: none */
	uint32_t first, n;    /* its values, ascending, no two alike */
	const char *key;      /* [key_len]; not of $and and $or */
	size_t key_len;
};

struct vf_filter {
	struct vf_filter_node *nodes; /* [n_nodes] */
	struct vf_value *values;      /* [n_values] */
	uint32_t n_nodes, n_values;
	char *texts; /* what keys and values point into */
};

/*
 * Returns 0; -EINVAL and one line in @why[VF_FILTER_WHY_LEN] that names the
 * place; -ENOMEM.  Not logged.  Threads: any.
 */
VF_API int vf_filter_parse(const char *json, size_t len, struct vf_filter **out,
			   char *why);
/*
 * The same for an index, whose non-filterable keys it may not name.
 * @name  of the index, for messages
 * Returns 0; -EINVAL, logged; -ENOMEM.  Threads: any.
 */
VF_API int vf_filter_open(const char *json, const char *name,
			  const struct vf_index_config *c,
			  struct vf_filter **out);
VF_API void vf_filter_free(struct vf_filter *f); /* accepts NULL */

/* Whether one value of a key fulfils a condition on it, NOT ones reversed. */
bool vf_filter_holds(const struct vf_filter *f, const struct vf_filter_node *n,
		     const struct vf_value *v);

/*
 * Returns 1 the metadata object matches; 0; -EBADMSG it is none; -ENOMEM.
 * @scratch  as of vf_metadata_walk.  Threads: any.
 */
VF_API int vf_filter_match(const struct vf_filter *f, const char *metadata,
			   size_t len, struct vf_buf *scratch);

#endif
