/*
 * The disk tier: blocks of object versions in sparse files of a directory that
 * is ours alone.  Presence, checksums and pins of known files are in RAM; all
 * I/O is asynchronous; nothing is scanned at start.
 *
 *   DIR/lock             flock: one program at a time
 *   DIR/index/           LMDB, touched by one thread alone, in batches
 *   DIR/data/ab/<hash>   one sparse file per object version, exactly its size,
 *                        data at its natural offset
 *
 *   block  EMPTY -> WRITING -> VALID -> EVICTING -> EMPTY
 *
 * VALID is set after the write is complete and cleared before the hole is
 * punched; a punch waits for the last reader; nothing is written to a block
 * in EVICTING.  Every read is checked: CRC32C per 4 KiB; of a file that is
 * handed out (vf_disk_file_hold) before that, once.
 *
 * What the disk cannot do is no error of a reader: he is told -ENOENT and asks
 * the bucket.  A tier that fails (full, read-only, EIO, stalling) rests and is
 * tried again.
 */
#ifndef VF_STORE_TIER_DISK_H
#define VF_STORE_TIER_DISK_H

#include "store/cache.h"
#include "store/util.h"

struct vf_disk;
struct vf_disk_file; /* one object version in the tier */

struct vf_disk_options {
	const char *dir;    /* made when absent; 0700 and ours, else refused */
	uint64_t size;	    /* allocated bytes, metadata included */
	uint32_t block_len; /* a multiple of 4096 */
	const char *policy; /* see policy.h; NULL: the default */
	uint32_t ttl_s;
	uint32_t write_mbps; /* budget of writes, MB/s; 0: none */
	uint32_t wait_ms; /* a disk that answers later is stalling; 0: 2000 */
};

/*
 * Returns 0; -EACCES the directory is not ours alone; -EBUSY another program
 * uses it; -EINVAL too small, or a policy that is none; -errno; all logged.
 * Starts its threads.
 */
int vf_disk_open(const struct vf_disk_options *opt, struct vf_disk **out);
/*
 * Writes down what is not saved yet.  All files must have been put.  Waits for
 * what is under way, however long the disk takes.  Accepts NULL.
 */
void vf_disk_close(struct vf_disk *d);

/*
 * @id     identity of the version (cache.h)
 * @label  what to call it in messages and lists (the object's key), copied
 * Loads presence and checksums from the index when they are saved there.
 * References are counted.  Returns 0; -ENOMEM, also for an object too large to
 * keep account of; -EINVAL the same identity is there with another size.
 * Threads: any.  May block on the local disk at the first open of a version,
 * at most 2 s, not after, and
 * not when another waited in vain and the index has not answered since.
 */
int vf_disk_file_get(struct vf_disk *d, const uint8_t id[16], uint64_t size,
		     const char *label, struct vf_disk_file **out);
void vf_disk_file_put(struct vf_disk_file *f);

/* Is block @number there now, on a disk that answers?  Only a hint: it may
 * leave.  Threads: any. */
bool vf_disk_has(struct vf_disk_file *f, uint64_t number);

/*
 * Read whole block @number (shorter at the end of the object) into @buf (NULL:
 * only check it).
 * @done once: 0; -ENOENT not there, damaged, or the disk cannot; the caller
 * then asks the bucket.  @n_uses: count it so often for the policy.
 * Threads: any; none waits.
 */
void vf_disk_read(struct vf_disk_file *f, uint64_t number, void *buf,
		  uint32_t n_uses, vf_fetch_fn *done, void *arg);

/*
 * The same for @len bytes at @off of the object, all of one block: only the
 * pages around them are read.
 */
struct vf_disk_part {
	uint64_t off;
	uint32_t len;
	void *buf;
	uint32_t n_uses;
	vf_fetch_fn *done;
	void *arg;
};
void vf_disk_read_part(struct vf_disk_file *f, const struct vf_disk_part *p);
/* Several, each told for itself; neighbours are read together. */
void vf_disk_read_parts(struct vf_disk_file *f, const struct vf_disk_part *p,
			size_t n);

/*
 * Keep a copy of the block.  @buf is copied before the return; the write
 * happens later, batched, or not at all (budget, full, failing).
 * @flags  VF_POLICY_SCAN
 */
void vf_disk_write(struct vf_disk_file *f, uint64_t number, const void *buf,
		   unsigned flags);

/* Count uses of blocks that were served from elsewhere. */
void vf_disk_touch(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks);

/*
 * Pinned blocks never leave by replacement.  Returns 0; -ENOSPC pins would
 * exceed the tier's share for pins, three quarters (logged with the numbers);
 * -EAGAIN the index has not answered yet.  Blocks that are not there can be
 * pinned.  Saved.
 */
int vf_disk_pin(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks);
void vf_disk_unpin(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks);
/* Drop what is neither pinned nor being read. */
void vf_disk_drop(struct vf_disk_file *f, uint64_t first, uint64_t n_blocks);

struct vf_disk_file_info {
	uint64_t n_blocks, n_valid, n_pinned;
};
void vf_disk_file_info(struct vf_disk_file *f, struct vf_disk_file_info *out);

/*
 * Hand out the data file of a version that is whole here, so that others may
 * read and map it: until the last unhold nothing of it leaves, neither by
 * replacement nor by vf_disk_drop, and no hole is made in it.  What was not
 * read since it was written or the tier was opened is read now and checked, so
 * this may block for as long as a stalling disk is waited for, twice; what was
 * checked till then stays checked.
 *
 * Unpinned blocks held are at most half of the tier, with pins seven eighths:
 * uses of what is handed out are not seen by the policy.
 *
 * @out_fd  the caller's to close; read-only, through the page cache
 * Returns 0; not logged: -ENOENT some block is not there, or was found damaged
 * and left; -ENOSPC no room for more; -EAGAIN the check takes longer, ask
 * again later; -errno.
 * A file held when the tier closes is taken to be in use for ever.
 */
int vf_disk_file_hold(struct vf_disk_file *f, int *out_fd);
void vf_disk_file_unhold(struct vf_disk_file *f);

/* Wait until all that was written so far is on disk and saved (tests, bench). */
int vf_disk_flush(struct vf_disk *d);

struct vf_disk_stats {
	uint64_t size, used; /* bytes: allowed, allocated */
	uint64_t pinned;     /* bytes */
	uint64_t held;	     /* bytes, without the pinned */
	uint64_t n_read, n_read_miss, n_damaged, n_write, n_write_dropped,
		n_evict, n_error;
	uint64_t bytes_read, bytes_written;
	bool resting; /* failing: tried again later */
	bool uring;   /* false: a thread pool, the kernel refused io_uring */
};
void vf_disk_stats(struct vf_disk *d, struct vf_disk_stats *out);

#endif
