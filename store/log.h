/*
 * The log of an index: numbered immutable records.  Creating record N+1, only
 * if absent, is the commit.  Pure: encode and parse, no I/O.
 *
 * A record, little-endian:
 *
 *   off  len
 *     0    8  magic "VFRECORD"
 *     8    4  format version, 1
 *    12    4  flags, 0
 *    16    8  length of the whole record
 *    24   16  UUID of the index
 *    40    8  number
 *    48   16  nonce, random
 *    64    8  checksum of the record before it (0 for the first)
 *    72    8  length of the JSON part
 *    80    8  length of the binary part (inline rows, bitmaps of kills)
 *    88    8  reserved, 0
 *    96       JSON: {"writer", "time", "operations": [{"op": ...}, ...]}
 *             binary part
 *   end    8  XXH3-64 of everything before it
 *
 * Operations and their members, unknown members are refused (-ENOTSUP), as
 * are unknown operations: an old program must not guess.
 */
#ifndef VF_STORE_LOG_H
#define VF_STORE_LOG_H

#include "store/util.h"

enum {
	VF_RECORD_HEADER_LEN = 96,
	VF_RECORD_MAX = 16 << 20,	 /* bytes of one record */
	VF_SHARD_NAME_LEN = 20 + 1 + 32, /* <head>-<nonce>: %020u-%032x */
	VF_EMBEDDER_MAX = 64,
	VF_OBJECT_NAME_MAX = 63,
};

enum vf_op_kind { VF_OP_CONFIGURE = 1, VF_OP_ADD_SHARD, VF_OP_SET_TREE };

/* One stored object: its name in its folder, sizes, checksum. */
struct vf_object_ref {
	char name[VF_OBJECT_NAME_MAX + 1]; /* as stored: "records.jsonl.zst" */
	uint64_t stored_len;
	uint64_t len;	   /* decompressed; equals stored_len when plain */
	uint64_t checksum; /* XXH3-64 of the stored bytes */
	bool zstd;	   /* seekable zstd, name ends in ".zst" */
};

/* Fixed for the life of the index; written by its first record. */
struct vf_index_config {
	uint32_t dim;
	enum vf_metric metric;
	enum vf_dtype dtype; /* of vectors.npy: VF_F32 or VF_F16 */
	uint64_t rotation_seed;
	char embedder[VF_EMBEDDER_MAX];	    /* "hash:1024", or "" */
	struct vf_object_ref embedder_data; /* in embed/; name "" when none */
};

struct vf_shard_ref {
	char name[VF_SHARD_NAME_LEN + 1];
	uint64_t n_rows;
	struct vf_object_ref vectors, records, codes;
	uint64_t next_key; /* automatic keys go on from here; 0: untouched */
};

struct vf_tree_ref {
	struct vf_object_ref object; /* in tree/ */
	uint64_t n_leaves;
};

struct vf_op {
	enum vf_op_kind kind;
	union {
		struct vf_index_config configure;
		struct vf_shard_ref add_shard;
		struct vf_tree_ref set_tree;
	};
};

struct vf_record {
	uint8_t uuid[16];
	uint64_t number;
	uint8_t nonce[16];
	uint64_t previous; /* checksum of record number - 1 */
	char writer[64];   /* for people only */
	int64_t time_s;	   /* since 1970, for people only */
	struct vf_op *ops; /* owned after parse */
	size_t n_ops;
};

/* Append the record to @out.  Returns 0; -EFBIG over VF_RECORD_MAX; -ENOMEM. */
int vf_record_encode(const struct vf_record *r, struct vf_buf *out);

/*
 * Parse and check everything, names against their pattern included.
 * Returns 0; -EBADMSG; -ENOTSUP newer format or unknown operation; -ENOMEM;
 * @out_reason is a constant.  Release with vf_record_fini.
 */
int vf_record_parse(const void *p, size_t len, struct vf_record *out,
		    const char **out_reason);
void vf_record_fini(struct vf_record *r);

/* The checksum at the end of an encoded record (len >= header + 8). */
uint64_t vf_record_checksum(const void *p, size_t len);

/* ---- names ------------------------------------------------------------------ */

/* "[a-z0-9][a-z0-9._-]*", at most VF_INDEX_NAME_MAX, not "log" or "_vecfs"... */
bool vf_index_name_ok(const char *name);
bool vf_shard_name_ok(const char *name);
bool vf_object_name_ok(const char *name);

/* ---- the identity object _vecfs/indexes/NAME ---------------------------------- */

/* One JSON line: {"format":1,"uuid":"...","checksum":"..."}. */
int vf_identity_encode(const uint8_t uuid[16], struct vf_buf *out);
/* Returns 0; -EBADMSG; -ENOTSUP a newer format. */
int vf_identity_parse(const void *p, size_t len, uint8_t out_uuid[16]);

#endif
