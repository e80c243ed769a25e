/*
 * One attempt at writing rows: upload.c makes shards of them, or what goes into
 * the record; attempt.c commits that.  A put, that of a long-lived writer and a
 * compaction are built of it.
 */
#ifndef VF_TOOLS_ATTEMPT_H
#define VF_TOOLS_ATTEMPT_H

#include <pthread.h>

#include "tools/carried.h"
#include "tools/follow.h"
#include "tools/ingest.h"
#include "tools/progress.h"
#include "tools/sorter.h"
#include "tools/writer.h"

struct vf_catalog;

/* Bytes of rows that go into a record, about. */
enum { VF_INLINE_LEN = 4 << 20 };

struct vf_attempt {
	const struct vf_ingest *in;
	struct vf_state *state;	    /* NULL: no such index */
	struct vf_catalog *catalog; /* NULL until keys are looked for */
	struct vf_buf keys;	    /* of all rows, when they have any */
	struct vf_carried carried;  /* rows that go into the record itself */
	struct vf_index_config config;
	bool configures; /* our record is to say what it is */
	uint64_t first_key, shard_rows, ram;
	/*
	 * The rows are the index's own, to be written anew: keys are not
	 * gathered, @from gets the number in the source of each row written.
	 */
	bool moves;
	bool new_tree;		 /* whatever tree there is */
	uint64_t moved_next_key; /* of each of their shards */
	struct vf_buf from;	 /* uint32_t each */
	struct vf_follow follow; /* the tree, when there is one */
	struct vf_encoder *encoder;
	struct vf_sorter *sorter;    /* of a tree's rows */
	struct vf_shard_ref *shards; /* [n_shards] */
	uint64_t *starts;	     /* [n_shards + 1] rows before each */
	size_t n_shards, n_begun;
	struct vf_writer *writer; /* of shard n_begun - 1 */
	pthread_t finisher;	  /* finishes the shard before */
	bool finishing;
	struct vf_writer *finished;
	int finish_err; /* the finisher's until it is joined */
	struct vf_progress progress;
};

/*
 * Rows into shards: by leaf when there is a tree to follow or to make.
 * Returns 0; -errno, logged.
 */
int vf_attempt_upload(struct vf_attempt *a);

/* Rows into the record, or into a shard when their metadata is too long. */
int vf_attempt_carry(struct vf_attempt *a);

/* It cannot be saved, though the next one may be. */
#define VF_START_OVER (-ERESTART)

/*
 * May a record that follows @s, to which others have added, say what was
 * uploaded?  Of rows that move, but for their tree and where they were.
 */
bool vf_attempt_fits(const struct vf_attempt *a, const struct vf_state *s);

/*
 * The record of what was uploaded or carried, in which the rows replace those of
 * their keys.  State and catalog move on.
 * Returns 0; VF_START_OVER; -EBUSY; -EINPROGRESS; -ECANCELED after a signal;
 * those of vf_changer_resolve and vf_changer_commit; all but the first logged.
 */
int vf_attempt_commit(struct vf_attempt *a, uint64_t *out_replaced);

/* What a user may want of memory; 0: the default. */
uint64_t vf_attempt_ram(uint64_t want);

/* Delete the uploaded objects of an attempt that no record names. */
void vf_attempt_remove(struct vf_attempt *a);
void vf_attempt_fini(struct vf_attempt *a);

bool vf_config_same(const struct vf_index_config *a,
		    const struct vf_index_config *b);

#endif
