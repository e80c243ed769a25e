/*
 * What the disk tier remembers over restarts, in LMDB: per file of the tier a
 * header, per group of blocks which are there, which are pinned, and the
 * checksums of their bytes.  A cache of a cache: whatever is damaged or does
 * not fit together is dropped and never trusted.
 *
 * Threads: one at a time per object, and always the same thread between
 * vf_disk_index_begin and commit; the disk tier gives it one thread alone.
 */
#ifndef VF_STORE_DISK_INDEX_H
#define VF_STORE_DISK_INDEX_H

#include "store/util.h"

enum {
	VF_DISK_GROUP = 16,	 /* blocks of a group, on disk: never change */
	VF_DISK_LABEL_MAX = 128, /* bytes of a label kept */
};

struct vf_disk_index;

/* One file of the tier. */
struct vf_disk_record {
	uint8_t id[16];
	uint64_t size;
	uint32_t block_len;
	uint32_t generation; /* of the tier when the file was made */
	uint64_t last_use;   /* larger is later */
	uint64_t bytes;	     /* counted against the tier's size */
	uint64_t pinned;     /* bytes */
	char label[VF_DISK_LABEL_MAX + 1];
};

/* One group; bit i is block number * VF_DISK_GROUP + i. */
struct vf_disk_group_record {
	uint32_t number, generation;
	uint32_t present, pinned;
	uint32_t n_crc;	     /* checksums of each block */
	const uint8_t *crcs; /* le32 [present blocks][n_crc] */
};

/* Of the whole tier. */
struct vf_disk_total {
	uint64_t bytes, pinned; /* sums over all records */
	uint64_t unknown; /* bytes that may lie in files and in no record */
	uint32_t generation;
	bool clean; /* closed in order */
};

/*
 * @path     a directory
 * @map_len  most bytes that the data file may grow to
 * An index that is no LMDB of ours or cannot be opened is emptied.
 * @out_was_lost  it was emptied, or is new: there may be files without records
 * Returns 0; -errno, logged.
 */
int vf_disk_index_open(const char *path, size_t map_len, bool *out_was_lost,
		       struct vf_disk_index **out);
/* Accepts NULL. */
void vf_disk_index_close(struct vf_disk_index *ix);

void vf_disk_index_total(const struct vf_disk_index *ix,
			 struct vf_disk_total *out);
/* Bytes that the data file takes; of these, in pages that hold something. */
uint64_t vf_disk_index_allocated(const struct vf_disk_index *ix);
uint64_t vf_disk_index_live(struct vf_disk_index *ix);

/*
 * Writing.  After a failure of any the caller aborts; all is as before begin.
 * Return 0; -ENOSPC the map is full; -EIO; logged.
 */
int vf_disk_index_begin(struct vf_disk_index *ix);
int vf_disk_index_put_file(struct vf_disk_index *ix,
			   const struct vf_disk_record *r);
int vf_disk_index_put_group(struct vf_disk_index *ix, const uint8_t id[16],
			    uint32_t number, const void *value, size_t len);
int vf_disk_index_drop_file(struct vf_disk_index *ix, const uint8_t id[16]);
int vf_disk_index_drop_use(struct vf_disk_index *ix, const uint8_t id[16],
			   uint64_t last_use);
void vf_disk_index_set(struct vf_disk_index *ix, bool clean, uint64_t unknown,
		       uint32_t generation);
int vf_disk_index_commit(struct vf_disk_index *ix);
void vf_disk_index_abort(struct vf_disk_index *ix);

/* Returns 0; -ENOENT; -EBADMSG damaged; -EIO (the last two logged). */
int vf_disk_index_get_file(struct vf_disk_index *ix, const uint8_t id[16],
			   struct vf_disk_record *out);
/* Ends early when @fn returns other than 0, and returns that; as above. */
typedef int vf_disk_group_fn(void *arg, const struct vf_disk_group_record *g);
int vf_disk_index_groups(struct vf_disk_index *ix,
			 const struct vf_disk_record *r, vf_disk_group_fn *fn,
			 void *arg);
/*
 * The file of the oldest last_use that @skip does not refuse; as get_file.
 * When the record it leads to turns out to be missing, drop_use.
 */
int vf_disk_index_oldest(struct vf_disk_index *ix,
			 bool (*skip)(void *arg, const uint8_t id[16]),
			 void *arg, uint8_t out_id[16], uint64_t *out_last_use);

/* ---- values: pure ----------------------------------------------------------- */

/* Appends the encoded group.  Returns 0; -ENOMEM. */
int vf_disk_group_encode(const uint8_t id[16],
			 const struct vf_disk_group_record *g,
			 struct vf_buf *out);
/* Returns 0; -EBADMSG.  @out->crcs points into @value. */
int vf_disk_group_decode(const uint8_t id[16], const void *value, size_t len,
			 struct vf_disk_group_record *out);
int vf_disk_record_encode(const struct vf_disk_record *r, struct vf_buf *out);
/* Returns 0; -EBADMSG. */
int vf_disk_record_decode(const void *value, size_t len,
			  struct vf_disk_record *out);

#endif
