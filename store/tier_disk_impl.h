/*
 * What the parts of the disk tier share; private to tier_disk*.c and their
 * tests.
 *
 *   tier_disk.c        the table of files, pins, numbers
 *   tier_disk_open.c   open and close
 *   tier_disk_block.c  groups and blocks: states, what they cost, punching
 *   tier_disk_read.c   reads, and the thread that notices a stalling disk
 *   tier_disk_write.c  the queue of writes, the writer thread
 *   tier_disk_room.c   making room
 *   tier_disk_hold.c   whole files that are handed out
 *   tier_disk_save.c   the index thread: load, save
 *   tier_disk_old.c    the index thread: unload, cold files, leftovers
 *   tier_disk_dir.c    names: the directory, data files, what it can do
 *
 * One mutex guards everything marked [mtx]; it is never held over I/O or a
 * callback.  Threads: the ring's (completions), writer, index, watch.
 *
 * What counts against the size: a block's bytes rounded to pages and
 * BLOCK_EXTRA (extents), a file's FILE_EXTRA (name, extent tree); directories,
 * the index, and @unknown: what may lie in files since a crash.  A block
 * counts from before it is written until after it is punched.
 */
#ifndef VF_STORE_TIER_DISK_IMPL_H
#define VF_STORE_TIER_DISK_IMPL_H

#include <pthread.h>

#include "store/tier_disk_block.h"

enum {
	VF_DISK_PAGE = 4096, /* what one checksum covers */
};

/* A block's bytes on their way to the disk. */
struct vf_disk_item {
	struct vf_disk_file *file;
	uint64_t number;
	uint32_t len, alloc_len; /* of the block; of buf */
	unsigned flags;
	void *buf;
	struct vf_disk_item *next;
	uint32_t crcs[]; /* [n_crc] */
};

struct vf_disk_reading; /* tier_disk_read.c */
struct vf_disk_save;	/* tier_disk_save.c */

struct vf_disk {
	/* [fixed] */
	struct vf_disk_options opt; /* .dir is ours */
	char *dir, *index_path;
	uint32_t n_crc; /* of a whole block */
	uint32_t unit;	/* bytes: the file system allocates these at once */
	bool direct;	/* the file system takes O_DIRECT */
	int dir_fd, data_fd, lock_fd;
	struct vf_uring *ring;
	struct vf_disk_index *index; /* the index thread's alone */
	pthread_t writer, indexer, watcher;
	bool has_writer, has_indexer, has_watcher;
	size_t batch;	     /* groups in one save */
	uint64_t map_len;    /* of the index */
	uint64_t meta_slack; /* what one save may add to the index's file */
	uint64_t unsaved_max;
	uint32_t generation;
	size_t idle_max;
	uint64_t opened_ns;
	uint64_t wait_ns; /* a disk that answers later is stalling */

	pthread_mutex_t mtx;
	/* all of the rest [mtx] */
	struct vf_policy *policy;
	struct vf_disk_file **table;
	size_t mask, n_files;
	struct vf_disk_file *idle_newest, *idle_oldest;
	size_t n_idle;
	struct vf_disk_stats stats; /* counters only */

	uint64_t used;	   /* blocks and files, known or cold */
	uint64_t cold;	   /* of these: in records not loaded */
	uint64_t evicting; /* of these: being punched */
	uint64_t pinned;   /* bytes, cold ones too */
	uint64_t held;	   /* bytes held and not pinned */
	uint64_t dir_bytes, meta_bytes, unknown;
	bool subdir[256]; /* made; the writer alone, not [mtx] */

	/* writes */
	pthread_cond_t wake_writer;
	struct vf_disk_item *queue, **queue_end;
	uint64_t queue_bytes;	/* queued and under way */
	uint64_t n_reserved;	/* blocks WRITING and not yet queued */
	unsigned n_writes;	/* under way */
	uint64_t unsaved;	/* bytes written since the last save began */
	uint64_t saving_bytes;	/* of the save under way */
	uint64_t writing_bytes; /* under way */
	uint64_t next_write_ns; /* of the budget */
	struct vf_disk_file *janitor; /* empty or stuck ones to look at */
	bool cleaning;		      /* the writer is at it */
	struct vf_disk_file *victim;  /* a cold file being emptied */
	size_t victim_at;	      /* groups below were emptied */
	bool crowded;		      /* the index is nearly full */
	bool want_some;		      /* evict some for that */
	bool stop_writer;

	/* resting */
	uint64_t rest_until_ns;
	uint32_t rest_ms;
	bool rest_is_stall;    /* reads rest too */
	const char *rest_what; /* to be said by the writer; NULL: nothing */
	int rest_err;

	/* index */
	pthread_cond_t wake_index;
	struct vf_disk_file *load, *dirty;
	size_t n_changes;
	uint64_t save_at_ns; /* 0: nothing dirty */
	unsigned n_flush;    /* waiting */
	bool want_cold, no_cold;
	bool is_late; /* somebody waited for a load in vain; none ended since */
	bool sweeping;
	bool stop_index;
	bool saving;
	unsigned n_syncs; /* of the save, under way */
	uint64_t n_saves; /* ended */
	int save_err;

	/* reads */
	pthread_cond_t wake_watch;
	struct vf_disk_reading *reads_first, *reads_last; /* oldest first */
	size_t n_reads, n_overdue;
	bool watch_idle, stop_watch;
	void *buffers; /* free ones, linked by their first word */
	size_t n_buffers;

	pthread_cond_t changed; /* loads, room, saves, writes: look again */
};

/* ---- tier_disk.c --------------------------------------------------------------- */

/* Caller holds mtx. */
struct vf_disk_file *vf_disk_find(struct vf_disk *d, const uint8_t id[16]);
/* A file not in the table, in state LOADING; NULL: no memory. */
struct vf_disk_file *vf_disk_file_new(struct vf_disk *d, const uint8_t id[16],
				      uint64_t size, const char *label);
void vf_disk_file_add(struct vf_disk_file *f);	  /* to the table; mtx */
void vf_disk_file_remove(struct vf_disk_file *f); /* from it; mtx */
void vf_disk_file_free(struct vf_disk_file *f);
void vf_disk_idle_add(struct vf_disk_file *f);	  /* mtx */
void vf_disk_idle_remove(struct vf_disk_file *f); /* mtx */
/* Wait for a signal or until @until_ns; @until_ns 0: for ever.  mtx. */
void vf_disk_wait(struct vf_disk *d, pthread_cond_t *c, uint64_t until_ns);
/* Failing: no more writes for a while; @what is a constant; mtx. */
void vf_disk_rest(struct vf_disk *d, bool is_stall, int err, const char *what);
bool vf_disk_is_resting(const struct vf_disk *d); /* mtx */
/* Resting, and reads too; mtx. */
bool vf_disk_is_stalled(const struct vf_disk *d);
/* For tests. */
void vf_disk_fault(struct vf_disk *d, vf_io_fault_fn *fn, void *arg);

/* ---- tier_disk_read.c ------------------------------------------------------------ */

void *vf_disk_watch_run(void *disk);

/* ---- tier_disk_write.c ----------------------------------------------------------- */

void *vf_disk_writer_run(void *disk);

/* ---- tier_disk_room.c: caller holds mtx, let go in between ------------------------- */

/* What counts against the size. */
uint64_t vf_disk_taken(const struct vf_disk *d);
/* Until @need bytes more fit; false: they cannot now. */
bool vf_disk_make_room(struct vf_disk *d, uint64_t need, unsigned flags);
void vf_disk_evict_some(struct vf_disk *d, unsigned n);
void vf_disk_punch_unlocked(struct vf_disk *d, struct vf_disk_punch *punch);

/* ---- tier_disk_save.c, tier_disk_old.c: index thread, without mtx ------------------ */

void *vf_disk_index_run(void *disk);
/* Fill a file in LOADING from its record.  -ENOENT: there is none. */
int vf_disk_load(struct vf_disk_file *f);
void vf_disk_load_cold(struct vf_disk *d);
void vf_disk_unload_some(struct vf_disk *d);

struct vf_disk_sweep;
/* Returns 0; -ENOMEM. */
int vf_disk_sweep_open(struct vf_disk *d, struct vf_disk_sweep **out);
void vf_disk_sweep_close(struct vf_disk_sweep *s);
/* Look at some files; true when it has seen all. */
bool vf_disk_sweep_some(struct vf_disk_sweep *s);

/* ---- tier_disk_dir.c --------------------------------------------------------------- */

/* Directory, lock, subfolders, probe.  Returns 0; -errno, logged. */
int vf_disk_dir_open(struct vf_disk *d);
void vf_disk_dir_close(struct vf_disk *d);
enum vf_disk_open_how {
	VF_DISK_OPEN_OLD,
	VF_DISK_OPEN_NEW,  /* a leftover of that name is removed */
	VF_DISK_OPEN_TAIL, /* old, through the page cache */
	VF_DISK_OPEN_READ, /* the same, and only to be read */
};
/* Returns a descriptor; -errno, not logged. */
int vf_disk_dir_data(struct vf_disk *d, const uint8_t id[16],
		     enum vf_disk_open_how how, uint64_t size);
int vf_disk_dir_unlink(struct vf_disk *d, const uint8_t id[16]);
/* Note at the data file itself that it is handed out.  Returns 0; -errno. */
int vf_disk_dir_lend(int fd);
/*
 * Of a data file that an earlier session left: nobody reads it any more.  The
 * mount of a program that was killed goes on reading what it was handed out.
 */
bool vf_disk_dir_reclaim(int fd);

#endif
