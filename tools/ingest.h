/*
 * The write path of put and import: rows of a source become shards of an
 * index, in one record.  Either all of them appear or the index is as before; a
 * new one that could not be written to stays, empty.
 */
#ifndef VF_TOOLS_INGEST_H
#define VF_TOOLS_INGEST_H

#include "store/change.h"
#include "tools/args.h"
#include "tools/source.h"

/* What the user asked for; zero: nothing said. */
struct vf_wish {
	enum vf_metric metric;
	enum vf_dtype dtype;
	bool has_seed;
	uint64_t seed;
	const char *embedder; /* NULL: rows are vectors already */
	/* Keys of metadata that filters may not name. */
	struct vf_arg_list non_filterable;
	uint32_t bits; /* of the codes of this put's shards; 0: 1 */
};

struct vf_tree_keeper;

struct vf_ingest {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *target;	  /* for messages */
	const char *index;
	struct vf_source *source;
	struct vf_wish wish;
	const struct vf_buf *embedder_data; /* to be stored with a new index */
	uint64_t shard_rows;		    /* 0: default */
	struct vf_condition cond;
	const char *cache_dir; /* NULL: default */
	uint64_t ram;	       /* bytes for sample and sorting; 0: default */
	uint32_t n_leaves;     /* of a new tree; 0: by rows; 1: none */
	const char *scratch;   /* folder for sorting; NULL: default */
	struct vf_tree_keeper *keeper; /* NULL: none */
	bool compress, quiet;
	unsigned n_threads;
};

struct vf_ingest_result {
	uint64_t n_rows, head;
	uint64_t n_replaced; /* rows of the same keys */
	size_t n_shards;     /* 0: the rows are in the record */
	uint32_t n_leaves;   /* of the tree it follows; 0: none */
	bool created;	     /* the index is new */
};

/* Rows of a full shard by default: 1 GiB of vectors, or VF_SHARD_ROWS_MAX. */
uint64_t vf_shard_rows_default(uint32_t dim, enum vf_dtype dtype);

/*
 * The state of @index or NULL when there is none.  Returns 0; -errno, logged.
 */
int vf_index_find(struct vf_bucket *b, const char *index,
		  struct vf_state **out);

/* What a new index gets whose rows are of @rows.  Returns 0; -EINVAL, logged. */
int vf_config_new(const struct vf_wish *w, uint32_t dim, enum vf_dtype rows,
		  struct vf_index_config *out);

/*
 * Check @wish and the shape of the rows against what is there, or settle what
 * a new index gets.  @s NULL or not configured: a new one.  Logged.
 */
int vf_config_settle(const char *target, const struct vf_state *s,
		     const struct vf_wish *wish, const struct vf_source *source,
		     struct vf_index_config *out);

/* Returns 0; -EINPROGRESS; -ECANCELED after a signal; -errno.  All logged. */
int vf_ingest_run(const struct vf_ingest *in, struct vf_ingest_result *out);

#endif
