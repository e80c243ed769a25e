/*
 * Files, groups and blocks of the disk tier: what is in RAM of them, and how
 * they change; private to tier_disk*.c and their tests.  All under the tier's
 * mutex where not said otherwise.
 */
#ifndef VF_STORE_TIER_DISK_BLOCK_H
#define VF_STORE_TIER_DISK_BLOCK_H

#include "store/disk_index.h"
#include "store/policy.h"
#include "store/tier_disk.h"
#include "store/uring.h"

enum vf_disk_block_state {
	VF_BLOCK_EMPTY,
	VF_BLOCK_WRITING, /* in the queue or under way */
	VF_BLOCK_VALID,
	VF_BLOCK_EVICTING, /* no new reader; punched after the last one */
};

struct vf_disk_block {		      /* all [mtx] */
	struct vf_policy_entry entry; /* inserted while VALID and not pinned */
	uint32_t readers;
	uint8_t state;
	uint8_t at; /* [fixed] index in the group */
	bool pinned;
	bool doomed;  /* WRITING: evict once written; held: once let go */
	bool stuck;   /* EVICTING: the punch failed, try again */
	bool checked; /* VALID: its checksums were found right since it was
		       * written or the tier opened */
	bool bad;     /* VALID and held: they were not; evict when let go */
};

struct vf_disk_group {
	struct vf_disk_file *file;	  /* [fixed] */
	uint32_t number;		  /* [fixed] */
	bool dirty;			  /* [mtx] on the file's dirty list */
	struct vf_disk_group *dirty_next; /* [mtx] */
	struct vf_disk_block blocks[VF_DISK_GROUP];
	/* [VF_DISK_GROUP][n_crc]; of a block: fixed from VALID to EMPTY */
	uint32_t crcs[];
};

enum vf_disk_file_state {
	VF_DISK_LOADING, /* the index has not answered yet */
	VF_DISK_READY,
	VF_DISK_DEAD, /* it failed: nothing kept until opened again */
};

struct vf_disk_file {
	struct vf_disk *disk;		   /* [fixed] */
	uint8_t id[16];			   /* [fixed] */
	uint64_t size;			   /* [fixed] */
	uint64_t n_blocks;		   /* [fixed] */
	size_t n_groups;		   /* [fixed] */
	uint32_t generation;		   /* [fixed] once READY */
	char label[VF_DISK_LABEL_MAX + 1]; /* [fixed] */

	/* all [mtx] */
	uint8_t state;
	uint32_t users; /* vf_disk_file_get less put */
	uint32_t io;	/* operations on fd, blocks in the queue, a save */
	int fd;		/* -1: no data file; closed only while io is 0 */
	struct vf_disk_group **groups; /* [n_groups] NULL: all EMPTY */
	uint64_t n_live;	       /* blocks not EMPTY */
	uint64_t n_valid, n_pinned;    /* blocks */
	uint64_t n_checked;	       /* blocks */
	uint32_t n_holds;	       /* > 0: nothing of it leaves */
	uint64_t held;		       /* bytes of blocks held, not pinned */
	uint64_t bytes;		       /* of VALID blocks, as they count */
	uint64_t pinned;	       /* bytes */
	uint64_t last_use;
	bool unsynced;	 /* written since the last fdatasync */
	bool has_record; /* in the index */
	bool dirty;	 /* on d->dirty */
	bool janitor;	 /* on d->janitor */
	bool stuck;	 /* some block is */
	bool leftover;	 /* no data file of ours, but one of that name */
	struct vf_disk_group *dirty_groups;
	struct vf_disk_file *hash_next, *dirty_next, *janitor_next, *load_next;
	struct vf_disk_file *idle_newer, *idle_older; /* users == 0 */
};

uint32_t vf_disk_block_len(const struct vf_disk_file *f, uint64_t number);
uint64_t vf_disk_block_cost(const struct vf_disk_file *f, uint64_t number);
uint64_t vf_disk_file_cost(const struct vf_disk_file *f);
static inline uint64_t vf_disk_number(const struct vf_disk_group *g,
				      const struct vf_disk_block *b)
{
	return (uint64_t)g->number * VF_DISK_GROUP + b->at;
}
struct vf_disk_group *vf_disk_group_of(struct vf_disk_block *b);
struct vf_disk_group *vf_disk_group_new(struct vf_disk_file *f,
					uint32_t number); /* no lock needed */
/* Its group is made when @make; NULL: there is none, or no memory. */
struct vf_disk_block *vf_disk_block_at(struct vf_disk_file *f, uint64_t number,
				       bool make);
/* Free it if nothing is in it and nothing must be saved. */
void vf_disk_group_release(struct vf_disk_group *g);
uint32_t *vf_disk_crcs(struct vf_disk_group *g, const struct vf_disk_block *b);
void vf_disk_mark_file(struct vf_disk_file *f);
void vf_disk_mark_group(struct vf_disk_group *g);
void vf_disk_set_valid(struct vf_disk_group *g, struct vf_disk_block *b,
		       unsigned flags, bool was_written);
void vf_disk_set_pinned(struct vf_disk_group *g, struct vf_disk_block *b,
			bool pinned);
/* VALID, not pinned and not held: the policy may choose it. */
void vf_disk_enter_policy(struct vf_disk_group *g, struct vf_disk_block *b,
			  unsigned flags);
/* A read found its checksums right; or wrong, and it may not leave now. */
void vf_disk_set_checked(struct vf_disk_file *f, struct vf_disk_block *b);
void vf_disk_set_bad(struct vf_disk_file *f, struct vf_disk_block *b);
/* VALID or WRITING to EVICTING. */
void vf_disk_set_evicting(struct vf_disk_group *g, struct vf_disk_block *b);
/* An operation on the file ended. */
void vf_disk_io_end(struct vf_disk_file *f);
/* Look at this file soon: it may be empty, or stuck. */
void vf_disk_call_janitor(struct vf_disk_file *f);

/* Blocks in EVICTING without a reader, to be punched once mtx is released. */
struct vf_disk_punch {
	struct vf_io io;
	struct vf_disk_file *file;
	uint64_t first, n;
	struct vf_disk_punch *next;
};
/* Add block @number (already EVICTING) to the list, merging neighbours. */
void vf_disk_punch_add(struct vf_disk_punch **list, struct vf_disk_file *f,
		       uint64_t number);
void vf_disk_punch_submit(struct vf_disk *d,
			  struct vf_disk_punch *list); /* without mtx */

/* ---- buffers: page-aligned, of a whole block; without mtx ------------------------ */

void *vf_disk_buffer_get(struct vf_disk *d);
void vf_disk_buffer_put(struct vf_disk *d, void *buf);
void vf_disk_buffers_free(struct vf_disk *d); /* the kept ones */

#endif
