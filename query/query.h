/*
 * k nearest neighbours over all shards of an index, opened by the path of its
 * folder: a mount, a file:// bucket or any plain copy.
 *
 *   plan   the open view: one commit, its codes in RAM
 *   scan   1-bit codes of all shards, candidates by estimate
 *   bound  candidates again by all bits; those that can still be among the
 *          nearest stay open
 *   fetch  open rows: first those at hand, which close others, then what is
 *          left and record lines, hinted all together, checked, scored exactly
 *          under a guard against SIGBUS
 */
#ifndef VF_QUERY_QUERY_H
#define VF_QUERY_QUERY_H

#include "store/vecfs.h"

struct vf_view; /* one commit of one index, open */

enum { VF_FRESH_NOW = -1 };

/* Zero means default. */
struct vf_view_options {
	size_t results_len; /* bytes of answers kept for repeated queries */
	/*
	 * Bytes of codes held; those of shards beyond it are mapped and read
	 * leaf by leaf.  Needs vf_guard_install.  0: no limit.
	 */
	size_t ram_max;
	uint64_t at; /* the commit to show; 0: the newest */
	/*
	 * Folder of the catalog, which filters use and build; NULL: the
	 * default; "": none, each new filter reads all records.
	 */
	const char *cache_dir;
	/*
	 * Called now and then while a filter builds the catalog, in the thread
	 * of that search: @done of @total rows were read; 0, 0: it is over.
	 * NULL: nobody is told.
	 */
	void (*building)(void *arg, uint64_t done, uint64_t total);
	void *building_arg;
	/*
	 * Milliseconds that the view may be old, of a mount, which keeps what
	 * it learned; VF_FRESH_NOW asks the bucket; 0: 1000.
	 */
	int fresh_ms;
	void *reserved[1]; /* must be zero */
};

struct vf_view_info {
	uint64_t version; /* number of the commit */
	uint64_t n_rows;
	size_t n_shards;
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype;
	uint32_t n_leaves;    /* of the tree; 0: there is none */
	size_t ram_len;	      /* bytes of codes held */
	const char *embedder; /* "" when none; valid until close */
};

/*
 * @path  folder of the index ("/mnt/v/products")
 * Returns 0; -ENOENT; -EBADMSG; -ENOTSUP; -EREMOTEIO; -ENOMEM, all logged.
 * Threads: any.  Reads the beginning of every shard's codes; those that have
 * no checksums of leaves, or are beyond ram_max, whole.
 */
VF_API int vf_view_open(const char *path, const struct vf_view_options *opt,
			struct vf_view **out);
VF_API void vf_view_close(struct vf_view *v);
/*
 * Read what queries have not asked for yet: codes that are read by leaf, with
 * their extra bits.  For a process that will search often.
 * Returns 0; -EBADMSG; -EREMOTEIO; -ENOMEM, all logged.  Threads: any.
 */
VF_API int vf_view_load(struct vf_view *v);
/*
 * The same beside queries, a little at a time, by a thread of the lowest
 * priority; codes beyond ram_max stay where they are.  It stops when it is
 * told, at the first error, which is logged, and at close.
 * Returns 0; -EAGAIN no thread can be made; -ENOMEM.  Threads: one at a time.
 */
VF_API int vf_view_load_start(struct vf_view *v);
VF_API void vf_view_load_stop(struct vf_view *v);
VF_API void vf_view_info(const struct vf_view *v, struct vf_view_info *out);

/* How candidates are put in order. */
enum vf_rerank {
	VF_RERANK_EXACT, /* by their distances: their rows are read */
	VF_RERANK_FAST,	 /* by all bits of their codes: no row is read */
	VF_RERANK_NONE, /* by the 1-bit estimates that chose them, or counts of bits */
};

enum { VF_PROBES_ALL = INT32_MAX };

struct vf_search {
	uint32_t k; /* results wanted, 1..10 000 */
	/*
	 * Rows ranked again, always so many; 0: as many as the bounds of their
	 * estimates leave open.  Those of rows without structure leave open so
	 * many that more are scanned for, up to 8 times as many, and in more
	 * leaves; not where probes, max_gets or max_ms says otherwise.
	 */
	uint32_t candidates;
	bool exact; /* read every row, whatever rerank says */
	enum vf_rerank rerank;
	bool hamming; /* candidates by plain Hamming distance: the baseline */
	bool no_metadata; /* keys only: metadata is "{}" */
	uint32_t probes;  /* leaves scanned; 0: default; VF_PROBES_ALL */
	/*
	 * Limits of what is read; half of each is for codes, whose leaves
	 * beyond it are not scanned; rows beyond them keep their estimates,
	 * hits whose lines are beyond them are left out.  Zero: none.
	 */
	uint32_t max_gets; /* requests of a mount to its bucket */
	uint32_t max_ms;   /* from the call on; what has not come is left */
	/* Done when rows at hand give k results no farther than this. */
	const float *good_enough; /* NULL: never */
	bool on_error_partial;	  /* leave out rows and lines not readable */
	uint32_t threads;	  /* that one query may scan on; 0: 1 */
	/*
	 * Only rows whose metadata match, JSON as in vecfs-filters(7); NULL:
	 * all.  There are always min(k, matches) hits, or partial is set.
	 */
	const char *filter;
	void *reserved[3];
};

enum { VF_K_MAX = 10000, VF_CANDIDATES_MAX = 1 << 20, VF_SEARCH_WHY_LEN = 128 };

/*
 * Whether vf_view_search would refuse this.  Filters are not looked at.
 * @why  one line of text, when it would
 * Returns 0; -EINVAL.  Threads: any.
 */
VF_API int vf_view_check(const struct vf_view *v, const float *q,
			 const struct vf_search *s,
			 char why[VF_SEARCH_WHY_LEN]);

struct vf_answer_hit {
	const char *key;      /* NUL-terminated, also may hold any UTF-8 */
	float distance;	      /* exact, or an estimate */
	bool exact;	      /* which of the two */
	const char *metadata; /* JSON object as text, "{}" when none */
	uint32_t shard;	      /* and row: where it is */
	uint64_t row;
};

struct vf_cost {
	uint64_t leaves;     /* scanned; 0: the index has no tree */
	uint64_t scanned;    /* rows estimated, in each scan */
	uint64_t candidates; /* rows whose estimate let them through */
	uint64_t refined;    /* of them, estimated again with all bits */
	uint64_t rows_read;  /* full-precision rows scored */
	uint64_t from_ram, from_disk, from_bucket; /* where those were */
	uint64_t ranges; /* merged ranges of rows and lines hinted */
	uint64_t bytes;	 /* of those ranges */
	uint32_t rounds; /* to the bucket, each waiting for the one before */
	/* Over codes: more than one where leaves or candidates were too few. */
	uint32_t scans;
	uint64_t gets;	 /* requests of the mount to its bucket */
	uint64_t got;	 /* bytes of those */
	uint64_t errors; /* rows and lines that could not be read */
	/*
	 * No row was left out that the bounds of the estimates do not exclude.
	 * A bound holds for most pairs of query and row, not for all.
	 */
	bool bound_met;
	bool is_repeated; /* the answer was kept: all else here is zero */
	double plan_ms, scan_ms, refine_ms, fetch_ms, total_ms;
};

struct vf_answer {
	uint64_t version;
	bool partial; /* fewer than min(k, rows) hits, or reads failed */
	size_t n_hits;
	struct vf_answer_hit *hits; /* ascending by distance, then place */
	struct vf_cost cost;
	void *owner; /* private */
};

/*
 * @q  float[dim]; -EINVAL when not finite, or zero under cosine; also of a
 *     filter that is wrong
 * Returns 0; -EINVAL; -EBADMSG a damaged row or line, named in the log;
 * -EREMOTEIO a read failed; -ENOMEM.  Release with vf_answer_free.
 * Threads: any.  May block on the bucket: one round of reads.
 */
VF_API int vf_view_search(struct vf_view *v, const float *q,
			  const struct vf_search *s, struct vf_answer **out);
VF_API void vf_answer_free(struct vf_answer *a);

struct vf_query {
	const float *q; /* float[dim] */
	struct vf_search search;
	struct vf_answer *answer; /* out, or NULL */
	int err;		  /* out, of this query */
};

/*
 * The same for several queries: they share passes over the codes, and their
 * rounds to the bucket are one.  Returns 0 or the first error of any.
 */
VF_API int vf_view_search_many(struct vf_view *v, struct vf_query *queries,
			       size_t n);

/*
 * The stored vector of @key, widened to float[dim] (caller's).
 * Returns 0; -ENOENT no such key (not logged); -EBADMSG; -EREMOTEIO.
 */
VF_API int vf_view_vector(struct vf_view *v, const char *key, float *out);

/*
 * Catch SIGBUS of mapped reads (a daemon that dies under a query).  For the
 * program to call, once, before other threads exist; without it rows are read
 * with pread instead of through the mapping.  Returns 0; -errno.
 */
VF_API int vf_guard_install(void);

/*
 * The bytes of the embedder's data object, or NULL and 0 when it has none;
 * valid until close.  For vf_embedder_open.
 */
VF_API int vf_view_embedder(struct vf_view *v, const void **out_data,
			    size_t *out_len);

#endif
