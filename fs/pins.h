/*
 * Pins and warming: which parts of the bucket stay in the disk tier, and what
 * is fetched before anybody asks for it.
 *
 * A pin is on a path, a file or a folder, or on a range of a file, and lasts
 * over restarts; what it holds in the disk tier are blocks of the versions of
 * stored objects that the path leads to.  A pinned folder holds what is in it
 * now; of an index, the live shards only.
 */
#ifndef VF_FS_PINS_H
#define VF_FS_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/bucket.h"
#include "store/commit.h"
#include "store/util.h"

struct fs;
struct inode;
struct vf_disk_stats;
struct vf_pins; /* one per mount with a disk tier */
struct vf_warm; /* one per mount */

#define VF_PIN_WHOLE UINT64_MAX /* as the end of a range */

/* ---- stored_list.c: the stored bytes behind a path -------------------------------- */

struct vf_stored {
	char *key; /* owned */
	char etag[VF_ETAG_MAX];
	uint8_t id[16]; /* of the version, in cache and disk tier */
	uint64_t size;
	uint64_t off, end; /* the part that is meant; off < end <= size */
};

struct vf_stored_list {
	struct vf_stored *all; /* owned; keys in byte order */
	size_t n, cap;
	uint64_t bytes; /* sum of the parts */
};

/*
 * What is behind bytes [off, end) of the file @i (@end is cut at its size), or
 * behind all files in the folder @i.
 * Returns 0; -EINVAL a range of a folder, or one beyond the file's end;
 * -EOPNOTSUPP it is made up; -ENOMEM; -E2BIG too many files; others from the
 * bucket.  Blocks on the bucket, but not for a whole file.
 */
int vf_stored_find(struct fs *fs, const struct inode *i, uint64_t off,
		   uint64_t end, struct vf_stored_list *out);
/* The same by path.  -ENOENT: nothing is there. */
int vf_stored_find_path(struct fs *fs, const char *path, uint64_t off,
			uint64_t end, struct vf_stored_list *out);
/* Copy @s, but for its range.  Returns 0; -ENOMEM. */
int vf_stored_add(struct vf_stored_list *l, const struct vf_stored *s,
		  uint64_t off, uint64_t end);
int vf_stored_copy(const struct vf_stored_list *l, struct vf_stored_list *out);
bool vf_stored_equal(const struct vf_stored_list *a,
		     const struct vf_stored_list *b);
void vf_stored_fini(struct vf_stored_list *l);
/* Does @key have the form of a part of a shard?  Then of which. */
bool vf_stored_in_shard(const char *key, char index[VF_INDEX_NAME_MAX + 1],
			char shard[VF_SHARD_NAME_LEN + 1]);
/* The first with a key not below @key, or the list's end. */
const struct vf_stored *vf_stored_search(const struct vf_stored_list *l,
					 const char *key);

/* ---- pins.c -------------------------------------------------------------------- */

/*
 * Read DIR/pins and begin to make true what it says, in the background.
 * Returns 0; -errno, logged.  A damaged line is logged and left out.
 */
int vf_pins_open(struct fs *fs, const char *dir, struct vf_pins **out);
/* Begin no more; what waits for the bucket still does.  Accepts NULL. */
void vf_pins_stop(struct vf_pins *p);
/* Once the bucket is stopped, before it closes.  Accepts NULL. */
void vf_pins_join(struct vf_pins *p);
/* After the disk tier is closed, and so has saved what was unpinned. */
void vf_pins_close(struct vf_pins *p);

/*
 * Pin @i, or its bytes [off, end), and fetch what is missing, in the background.
 * Returns 0; -EOPNOTSUPP no disk tier, or a made-up file; -ENOSPC beyond the
 * limit, nothing is pinned then; -EINVAL; others; all logged.
 */
int vf_pin(struct fs *fs, const struct inode *i, uint64_t off, uint64_t end);
/* Returns 0; -ENODATA no pin of this path has such a byte; -errno. */
int vf_unpin(struct fs *fs, const struct inode *i, uint64_t off, uint64_t end);
/* "1", or ranges: "0-4096,8192-12288".  -ENODATA: not pinned. */
int vf_pins_text(struct fs *fs, const char *path, struct vf_buf *out);
size_t vf_pins_count(struct vf_pins *p); /* NULL: 0 */
/* Bytes of the disk tier that may be pinned. */
uint64_t vf_pins_limit(const struct vf_disk_stats *d);

/* A name led to this version: a pin may have to follow it. */
void vf_pins_seen(struct fs *fs, const char *path, const char *key,
		  const char *etag);
/* An index has a new commit. */
void vf_pins_commit(struct fs *fs, const char *index);
/* A warm-up for the pins of @path did not end well: try again later. */
void vf_pins_retry(struct fs *fs, const char *path);

/* ---- pins_file.c: DIR/pins ---------------------------------------------------- */

struct vf_pin {
	char *bucket, *path; /* owned */
	uint64_t off, end;   /* end VF_PIN_WHOLE: to the file's end */
	/* No pin any more: what may still be marked in the disk tier's index
	 * if this program ends before that is saved. */
	bool released;
	struct vf_stored_list list; /* what it holds */
	/* not in the file */
	bool foreign;	  /* of another bucket: kept, but not followed */
	uint64_t look_ns; /* when to look again what it leads to; 0: not */
	struct vf_pin *next;
};

struct vf_pin *vf_pin_new(const char *bucket, const char *path, uint64_t off,
			  uint64_t end);
void vf_pin_free(struct vf_pin *pin);
/* Replace the file: written aside, synced, renamed.  Returns 0; -errno. */
int vf_pins_save(const char *dir, const struct vf_pin *pins);
/* No file: no pins.  Returns 0; -errno, logged. */
int vf_pins_load(const char *dir, struct vf_pin **out);

/* ---- warm.c ---------------------------------------------------------------------- */

int vf_warm_open(struct fs *fs, struct vf_warm **out);
/* Begin no more requests; before the bucket closes.  Accepts NULL. */
void vf_warm_stop(struct vf_warm *w);
/* After it: what is under way has ended.  Accepts NULL. */
void vf_warm_close(struct vf_warm *w);

enum { VF_WARM_FOR_PIN = 1 };
/*
 * Queue a warm-up of @list, which is taken over in any case.
 * @rate  bytes per second; 0: as fast as it goes
 * Returns 0; -ENOSPC more than the cache can hold (logged); -ENOMEM.
 */
int vf_warm_start(struct fs *fs, const char *path, struct vf_stored_list *list,
		  uint64_t rate, unsigned flags);
/* End the warm-ups of this path; with VF_WARM_FOR_PIN only those for pins. */
void vf_warm_cancel(struct fs *fs, const char *path, unsigned flags);
/*
 * "BYTES of BYTES" of the newest warm-up of this path, and " failed: WHY" when
 * it ended with less.  -ENODATA: none is remembered.
 */
int vf_warm_text(struct fs *fs, const char *path, struct vf_buf *out);

struct vf_warm_stats {
	uint64_t n_jobs, bytes_left;
};
void vf_warm_stats(struct vf_warm *w, struct vf_warm_stats *out);

#endif
