/*
 * A long-lived writer: groups of rows are committed in the order they come, one
 * record at a time, while more of them are made; the log is folded and small
 * shards are merged (at idle priority) beside it, and committed in between.
 */
#ifndef VF_TOOLS_FEED_H
#define VF_TOOLS_FEED_H

#include "store/commit.h"

/* Rows whose keys come once. */
struct vf_group {
	uint64_t n_rows;
	uint64_t tag;	       /* the caller's, ascending */
	struct vf_buf vectors; /* as stored */
	struct vf_buf lines;   /* of records.jsonl */
	struct vf_buf line_lens,
		hashes; /* uint32_t, vf_key_hash, of each row */
};
void vf_group_fini(struct vf_group *g);

/* What one record brought; may be of several groups. */
struct vf_feed_ack {
	uint64_t tag; /* all groups up to it are there to stay */
	uint64_t n_rows, n_replaced;
	uint64_t head; /* of the commit */
};
/* From the feed's thread; must not call the feed. */
typedef void vf_feed_ack_fn(void *arg, const struct vf_feed_ack *ack);

struct vf_feed_options {
	struct vf_bucket *bucket; /* borrowed, as all below */
	const char *target;	  /* for messages */
	const char *index;
	const char *cache_dir; /* NULL: default */
	const char *scratch;   /* folder; NULL: default */
	uint64_t ram;	       /* bytes, of a fold or a merge; 0: 256 MiB */
	bool if_absent; /* refuse a group when one of its keys is there */
	bool no_folds;	/* nor merges */
	vf_feed_ack_fn *ack;
	void *arg;
};

struct vf_feed;

/*
 * *state, of an index that is there, is the feed's from here on.
 * Returns 0; -ENOMEM, -EAGAIN, logged.
 */
int vf_feed_open(const struct vf_feed_options *opt, struct vf_state **state,
		 struct vf_feed **out);

/*
 * Hand over @g, which is empty then.  Waits while others wait.
 * Returns 0; what made a commit fail, logged.  Threads: one at a time.
 */
int vf_feed_put(struct vf_feed *f, struct vf_group *g);

/* Readable once a commit failed, so that who waits for rows learns of it; -1:
 * there is none. */
int vf_feed_failed_fd(const struct vf_feed *f);

/*
 * What waits is committed and a long tail folded, or all is dropped with
 * @abandon.  Frees the feed; accepts NULL.
 *
 * @out_unknown  tag of the last group of a commit whose outcome is unknown;
 *               may be NULL
 * Returns 0; what made a commit fail: what waited behind it was dropped.
 */
int vf_feed_close(struct vf_feed *f, bool abandon, uint64_t *out_unknown);

#endif
