/*
 * What the stages of a query share; private to the folder.
 */
#ifndef VF_QUERY_ENGINE_H
#define VF_QUERY_ENGINE_H

#include "index/lazy.h"
#include "index/tree.h"
#include "query/filtered.h"
#include "query/plan.h"
#include "query/stored_file.h"
#include "store/commit.h"

/* ---- which commit (head.c) --------------------------------------------------- */

/*
 * The state of @index, of the bucket that is open as a directory, that a view
 * opened by @path with these options shows.
 * Returns 0; -ENOENT; -ERANGE no such commit; as vf_state_load; all logged.
 */
int vf_head_load(struct vf_bucket *b, const char *path, const char *index,
		 const struct vf_view_options *opt, struct vf_state **out);

/* ---- the open view (view.c) ------------------------------------------------------ */

struct vf_shard {
	struct vf_index *ix;
	struct vf_file vectors, records;
	/* Open unless codes were read whole: they are read by leaf. */
	struct vf_file codes;
	uint64_t base; /* number of row 0 among all rows of the view */
	uint64_t n_rows;
	bool is_mapped; /* its codes do not fit in memory */
};

struct vf_view {
	struct vf_bucket *bucket;
	struct vf_state *state;
	size_t row_len; /* bytes of a row of vectors.npy */
	size_t n_shards;
	struct vf_shard *shards;
	uint64_t tail_base;   /* number of the first row of the tail */
	struct vf_tree *tree; /* NULL: flat */
	double reach;	      /* vf_stage_reach */
	size_t ram_max;
	struct vf_results *results; /* NULL: none are kept */
	void *embedder_data;
	size_t embedder_len;
	struct vf_filters *filters;
	struct vf_loader *loader; /* NULL: none runs */
};

/* The shard of global row @id, which exists. */
struct vf_shard *vf_view_shard(const struct vf_view *v, uint64_t id);

/*
 * Rows that died in shard @i, or that top->skips names, stay out of @top, until
 * the next call.
 */
void vf_view_skip(const struct vf_view *v, size_t i, struct vf_topk *top);

/*
 * The object @key, not compressed and of at most @max bytes, against the log's
 * checksum; the caller's to free().  Returns 0; -EBADMSG; as vf_file_load.
 */
int vf_view_read_whole(struct vf_view *v, const char *key,
		       const struct vf_object_ref *ref, size_t max, void **out);
/* v->tree, when the index has one.  Returns 0; -EBADMSG; ...; logged. */
int vf_view_open_tree(struct vf_view *v);

/* The record line of global row @id, shard or tail; as vf_shard_line. */
int vf_view_line(const struct vf_view *v, uint64_t id, char **out_line,
		 size_t *out_len);

/* The key and the metadata of global row @id; the caller's to free(). */
int vf_view_record(const struct vf_view *v, uint64_t id, char **out_key,
		   char **out_metadata);

/* One row's bytes, checked against its CRC32C.  Returns as vf_file_read. */
int vf_shard_row(const struct vf_view *v, const struct vf_shard *s,
		 uint64_t row, void *out);
/* One record line, checked; caller's to free(), NUL-terminated. */
int vf_shard_line(const struct vf_shard *s, uint64_t row, char **out_line,
		  size_t *out_len);

/* ---- stages ------------------------------------------------------------------------ */

/* About as long as the longest row of the shards, which are open (scale.c). */
double vf_stage_reach(const struct vf_view *v);
/*
 * By which power of two a query is to be longer: 0 where its length makes no
 * difference.
 */
int vf_stage_scale(const struct vf_view *v, const float *q);

/* What is asked of the source of codes (index/lazy.h). */
struct vf_codes_ask {
	struct vf_cost *cost; /* of fetching; NULL: count, and fetch nothing */
	uint32_t n_away;      /* ranges that only the bucket has */
	/* Into the mount's memory only: pages on their way there together are
	 * there when the last is, and who has a deadline wants the others. */
	bool no_pages;
};

/*
 * Codes of all leaves that @jobs look into, in one round to the bucket; extra
 * bits of rows of one shard, where they are at hand or in any case; hashes of
 * keys; what is known of every row, of one row.
 * @limited  vf_plan_limit has asked for those codes already
 * Returns 0; -EBADMSG; -EREMOTEIO; -ENOMEM; logged.
 */
int vf_stage_codes(struct vf_view *v, const struct vf_scan_job *jobs, size_t n,
		   bool limited, struct vf_cost *cost);
int vf_stage_extra(const struct vf_shard *s, const struct vf_refined *rows,
		   size_t n, bool near);
int vf_stage_hashes(const struct vf_shard *s);
int vf_stage_rows(const struct vf_shard *s);
int vf_stage_row(const struct vf_shard *s, uint64_t row);
/* Open the codes of a shard by leaf; 1: they have to be read whole. */
int vf_shard_open_codes(struct vf_view *v, const struct vf_shard_ref *r,
			struct vf_shard *s);

/* Candidates by plain Hamming distance into @top. */
int vf_stage_scan_hamming(struct vf_view *v, const float *q,
			  const struct vf_plan *plan, struct vf_topk *top);
/* Candidates by estimate for all of @jobs in one pass, on so many threads. */
int vf_stage_scan(struct vf_view *v, struct vf_scan_job *jobs, size_t n,
		  unsigned n_threads);
/*
 * A row that can be among the nearest, for all that is known of it.  The order
 * of an array of them is that of ids, which is that of their files.
 */
struct vf_open_row {
	uint64_t id;
	float dist;	  /* estimate; the distance, once it was read */
	float least;	  /* it is hardly nearer than this */
	float scan_least; /* the same by 1 bit */
	uint32_t where;	  /* enum vf_where */
	bool is_read;
	bool is_left;	   /* a limit says to do without */
	bool is_line_away; /* and its line is not at hand either */
	bool has_line;	   /* which was asked for, or is at hand */
};

/* It is hardly farther than this.  No NaN, since dist is finite. */
static inline float vf_open_most(const struct vf_open_row *r)
{
	return r->dist + (r->dist - r->least);
}

struct vf_open {
	struct vf_open_row *rows; /* [n], the caller's to free() */
	uint32_t n;
	bool was_cut; /* the scan kept too few to be sure of all others */
	bool is_flat; /* it was, and nearly all of them can be answers */
};

/* By id, for qsort and bsearch. */
int vf_open_compare(const void *a, const void *b);

/*
 * The best of @candidates by all bits of their codes; their order is lost.
 * Shards without extra bits take part with their one bit.
 * @near  others that are not at hand do so too
 */
int vf_stage_refine(struct vf_view *v, const float *q,
		    const struct vf_plan *plan, bool near,
		    const struct vf_topk *candidates, struct vf_topk *best);
/* Every candidate stays open. */
int vf_stage_open(const struct vf_topk *candidates, struct vf_open *out);
/*
 * Candidates whose bounds do not exclude them, given that those in @best are
 * there already.  Their order is lost.
 * @out  zero; or of a call before, with fewer candidates, whose finding that
 *       they are flat makes bounds wider
 */
int vf_stage_bound(struct vf_view *v, const float *q,
		   const struct vf_plan *plan, struct vf_topk *candidates,
		   const struct vf_topk *best, struct vf_open *out,
		   struct vf_cost *cost);
/*
 * Wait for the record line of row @id.  False when it has not come by then;
 * with no deadline (UINT64_MAX) reading it is the waiting.
 */
bool vf_line_wait(const struct vf_view *v, uint64_t id, uint64_t deadline_ns);
/* Only the bucket has the record line of row @id. */
bool vf_line_is_away(const struct vf_view *v, uint64_t id);
/* Hint the lines of @hits, none of the tail, in one round. */
int vf_stage_hint_lines(struct vf_view *v, const struct vf_hit *hits, size_t n,
			struct vf_cost *cost);
/*
 * Scoring open rows into @best: begin has scored those at hand, and hinted what
 * is still open, rows and lines together; end scores that.  Between the two,
 * other queries may begin: their rounds are then one.
 */
struct vf_fetch {
	struct vf_view *v;
	const float *q;
	const struct vf_search *s;
	uint64_t deadline_ns; /* as vf_now_ns; UINT64_MAX: none */
	uint32_t gets_spent;  /* of max_gets, before */
	struct vf_open *open;
	struct vf_topk *best;
	struct vf_cost *cost;
	/* Private. */
	void *row, *ranges;
	bool is_away; /* something was hinted that end is to read */
};
int vf_fetch_begin(struct vf_fetch *f);
int vf_fetch_end(struct vf_fetch *f);
/* Due after begin, whatever it returned. */
void vf_fetch_fini(struct vf_fetch *f);
/* Every row, in order. */
int vf_stage_exact(struct vf_view *v, const float *q, struct vf_topk *best,
		   struct vf_cost *cost);
/* Rows in no shard yet: every one that lives, exactly, from memory. */
int vf_stage_tail(const struct vf_view *v, const float *q,
		  struct vf_topk *best);
/* Where global row @id >= tail_base is. */
const struct vf_tail *vf_view_tail(const struct vf_view *v, uint64_t id,
				   uint64_t *out_row);
/* The stored vector of a key of the tail.  Returns 0; -ENOENT; -ENOMEM. */
int vf_tail_vector(const struct vf_view *v, const char *key, float *out);
/* Up to where lines of an answer are waited for, and asked for. */
struct vf_lines_limit {
	uint64_t deadline_ns; /* as vf_now_ns; UINT64_MAX: none */
	uint64_t gets_left; /* for others than @open's; UINT64_MAX: no limit */
};
/*
 * Keys and metadata of @best into the answer, but of hits whose lines are
 * beyond the limit; @open: what was fetched.
 */
int vf_stage_answer(struct vf_view *v, const struct vf_search *s,
		    struct vf_lines_limit limit, const struct vf_open *open,
		    struct vf_topk *best, struct vf_answer *a);

#endif
