/*
 * Checkpoints: the folded state of a log up to a record, so that a reader need
 * not begin at the first.  Pure.
 *
 * The same state always gives the same bytes, so it does not matter who writes
 * a checkpoint, nor how often.  Rows of small records are carried, large ones
 * are named and read from the log.
 *
 * A checkpoint is framed as a record is (log.h), with these differences:
 *
 *   off  len
 *     0    8  magic "VFCHECKP"
 *     8    4  format version, 1
 *    40    8  number of the record it ends at
 *    48   16  0
 *    64    8  checksum of that record
 *    96       JSON: {"next_key", "oldest", "dropped", "operations": [...]}
 *
 * The operations, folded in their order, make the state: configure, set_tree,
 * each shard (add_shard) followed by its dead rows (kill), and for each record
 * with rows in no shard {"op": "rows", "record", "checksum", "carried"}, then
 * its rows (upsert) if they are carried, and its dead rows.
 */
#ifndef VF_STORE_CHECKPOINT_H
#define VF_STORE_CHECKPOINT_H

#include "store/state.h"

enum {
	VF_CHECKPOINT_EVERY = 64,	 /* records */
	VF_CHECKPOINT_MAX = 256 << 20,	 /* bytes */
	VF_CHECKPOINT_CARRY = 256 << 10, /* bytes of a small record's rows */
	VF_CHECKPOINT_CARRY_ALL = 8 << 20,
};

/* Append.  Returns 0; -EFBIG (logged); -ENOMEM.  @s: head 1 or more. */
int vf_checkpoint_encode(const struct vf_state *s, struct vf_buf *out);
/* The same with the rows of all records: for who has no log to read. */
int vf_checkpoint_encode_whole(const struct vf_state *s, struct vf_buf *out);

/*
 * The records that a checkpoint names, ascending, appended as struct
 * vf_log_number: it is good for nothing without them.  None when the bytes are
 * no checkpoint.  Returns 0; -ENOMEM.
 */
int vf_checkpoint_names(const void *p, size_t len, struct vf_buf *out);

/* The bytes of a record that is named, caller's to free(); else -errno. */
typedef int vf_checkpoint_record_fn(void *arg, uint64_t record,
				    void **out_bytes, size_t *out_len);

/*
 * @name, @uuid  of the index it has to be of; NULL: any of this name
 * @record       NULL: no record is to be had
 *
 * Returns 0 and a state; -EBADMSG; -ENOTSUP; -ENOMEM; those of @record, where
 * -ENOENT becomes -EBADMSG.  @out_reason is a constant.
 */
int vf_checkpoint_parse(const void *p, size_t len, const char *name,
			const uint8_t uuid[16], vf_checkpoint_record_fn *record,
			void *arg, struct vf_state **out,
			const char **out_reason);

#endif
